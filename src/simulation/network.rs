//! Destinations that refuse, hang, answer slowly or too late, and close in the middle of an answer.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::clock::SimulatedClock;
use super::truth::Truth;
use crate::deliver::{Clock, Outcome, Transport};

/// A transport gives up on an answer after this long, as the real ones do.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a destination is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Healthy,
    Slow,
    Down,
    /// Never answers; it may have stored.
    Hangs,
    /// Stores and closes the connection before its answer is complete.
    Closes,
    /// Stores, and answers when nobody listens any more.
    Late,
    Misconfigured,
    /// Takes no more than so many bytes at once.
    Narrow(usize),
    /// Refuses every request and does not say why.
    Refuses,
    /// Each time something else.
    Flaky,
}

/// One destination's server.
pub struct Server {
    pub clock: SimulatedClock,
    pub truth: Arc<Mutex<Truth>>,
    pub unordered: bool,
    /// Nothing goes wrong any more, except that what it never takes is still refused.
    pub calm: bool,
    state: RefCell<State>,
}

struct State {
    random: fastrand::Rng,
    mood: Mood,
    until: Duration,
    sent_bytes: u64,
}

/// What is going to happen to a request.
struct Answer {
    /// Until the request is there.
    before: Duration,
    /// Which of its events are stored then.
    stores: bool,
    /// Until the sender hears of it.
    after: Duration,
    outcome: Outcome,
}

/// A request under way. When it is dropped, nobody knows how it ended.
pub struct Request {
    truth: Arc<Mutex<Truth>>,
    pub events: Vec<usize>,
    /// Whether events were stored without the sender knowing.
    pub stored: bool,
}

impl Request {
    pub fn begin(truth: &Arc<Mutex<Truth>>, events: Vec<usize>) -> Self {
        truth.lock().unwrap().set_under_way(&events, true);
        Self { truth: Arc::clone(truth), events, stored: false }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // While a test fails, its lock may be poisoned.
        if let Ok(mut truth) = self.truth.lock() {
            truth.set_under_way(&self.events, false);
            if self.stored {
                truth.unclear(&self.events);
            }
        }
    }
}

impl Server {
    pub fn new(clock: &SimulatedClock, truth: &Arc<Mutex<Truth>>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let state = State { random, mood: Mood::Healthy, until: Duration::ZERO, sent_bytes: 0 };
        Self {
            clock: clock.clone(),
            truth: Arc::clone(truth),
            unordered: true,
            calm: false,
            state: RefCell::new(state),
        }
    }

    fn answer(&self, poison: &[u32], events: u32, length: usize) -> Answer {
        let state = &mut *self.state.borrow_mut();
        let mood = if self.calm { Mood::Healthy } else { state.mood(self.clock.now()) };
        let random = &mut state.random;
        let mut up_to = |ms: u64| Duration::from_millis(random.u64(0..=ms));
        let before = up_to(20);
        let unavailable =
            |reason: &str, after| Outcome::Unavailable { reason: reason.to_owned(), after };
        let (stores, after, outcome) = match mood {
            Mood::Down => {
                let asked = up_to(20_000);
                (false, up_to(20), unavailable("busy", (asked > TIMEOUT).then_some(asked)))
            }
            Mood::Hangs => (up_to(1) > Duration::ZERO, TIMEOUT, unavailable("timed out", None)),
            Mood::Closes => (true, up_to(50), unavailable("connection closed", None)),
            Mood::Late => (true, TIMEOUT, unavailable("timed out", None)),
            Mood::Misconfigured => {
                (false, up_to(20), Outcome::Misconfigured { reason: "no such database".into() })
            }
            Mood::Narrow(most) if length > most => (false, up_to(20), Outcome::TooLarge),
            Mood::Refuses => {
                (false, up_to(20), Outcome::RefusedUnnamed { reason: "bad request".into() })
            }
            Mood::Slow => (true, up_to(4_000), judge(poison, events, random)),
            Mood::Healthy | Mood::Narrow(_) | Mood::Flaky => {
                (true, up_to(30), judge(poison, events, random))
            }
        };
        Answer { before, stores, after, outcome }
    }
}

impl State {
    fn mood(&mut self, now: Duration) -> Mood {
        if now >= self.until {
            self.mood = self.draw();
            self.until = now + Duration::from_millis(self.random.u64(1..25_000));
        }
        if self.mood == Mood::Flaky { self.draw() } else { self.mood }
    }

    fn draw(&mut self) -> Mood {
        match self.random.u32(0..20) {
            0..=5 => Mood::Healthy,
            6 => Mood::Slow,
            7..=11 => Mood::Down,
            12 => Mood::Hangs,
            13 => Mood::Closes,
            14 => Mood::Late,
            15 => Mood::Misconfigured,
            16 => Mood::Narrow(self.random.usize(300..6000)),
            17 => Mood::Refuses,
            _ => Mood::Flaky,
        }
    }
}

/// What a server that works says to a request with events that it never takes.
fn judge(poison: &[u32], events: u32, random: &mut fastrand::Rng) -> Outcome {
    let reason = "field type conflict".to_owned();
    if poison.is_empty() {
        return Outcome::Delivered;
    }
    match random.u32(0..8) {
        0..=2 => Outcome::RefusedLines { lines: poison.to_vec(), reason },
        3..=4 => Outcome::RefusedUnnamed { reason },
        // A line that is not there.
        5 => Outcome::RefusedLines { lines: vec![events + 3], reason },
        _ => Outcome::Partial { refused: poison.len().try_into().unwrap(), reason },
    }
}

impl Transport for Server {
    async fn send(&self, body: Bytes, events: u32) -> Outcome {
        self.state.borrow_mut().sent_bytes += body.len() as u64;
        let numbers = self.truth.lock().unwrap().events_of(&body);
        assert_eq!(numbers.len(), events as usize, "as many lines as events");
        let poison: Vec<u32> = (0..events)
            .filter(|&line| self.truth.lock().unwrap().is_poison(numbers[line as usize]))
            .collect();
        let answer = self.answer(&poison, events, body.len());
        let mut request = Request::begin(&self.truth, numbers);
        self.clock.sleep(answer.before).await;
        let takes = !matches!(
            answer.outcome,
            Outcome::RefusedLines { .. } | Outcome::RefusedUnnamed { .. } | Outcome::TooLarge
        );
        if answer.stores && takes {
            self.truth.lock().unwrap().store(&request.events);
            request.stored = true;
        }
        self.clock.sleep(answer.after).await;
        self.truth.lock().unwrap().heard(&request.events, &answer.outcome);
        if matches!(answer.outcome, Outcome::Delivered | Outcome::Partial { .. }) {
            request.stored = false;
        }
        answer.outcome
    }

    fn unordered(&self) -> bool {
        self.unordered
    }

    fn sent_bytes(&self) -> u64 {
        self.state.borrow().sent_bytes
    }
}
