//! A simulated clock and destination, and the loop that drives a future against them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::deliver::{Clock, Outcome, Transport};

/// Time that passes only when everybody waits for it.
#[derive(Clone, Default)]
pub struct SimulatedClock(Rc<Time>);

#[derive(Default)]
struct Time {
    now: Cell<Duration>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    next_timer: Cell<u64>,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        self.0.now.get()
    }

    fn wall_ns(&self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let id = self.0.next_timer.get();
        self.0.next_timer.set(id + 1);
        Sleep { time: Rc::clone(&self.0), key: (self.now() + duration, id) }
    }
}

struct Sleep {
    time: Rc<Time>,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.time.now.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.time.timers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.time.timers.borrow_mut().remove(&self.key);
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future to its end; whenever it waits, the clock jumps to the next timer.
pub fn drive<F: Future>(clock: &SimulatedClock, future: F) -> F::Output {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = pin!(future);
    loop {
        while flag.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
        let timer = clock.0.timers.borrow_mut().pop_first();
        let ((at, _), waker) = timer.expect("nothing will ever happen again");
        clock.0.now.set(clock.0.now.get().max(at));
        waker.wake();
    }
}

/// One attempt as the simulated destination saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the attempt began.
    pub at: Duration,
    /// The lines.
    pub body: String,
}

/// A destination that answers as its script says.
pub struct Scripted<S> {
    pub clock: SimulatedClock,
    pub unordered: bool,
    /// From the number of the attempt and its lines to the answer and how long it takes; `None`
    /// never answers.
    pub script: S,
    pub seen: Rc<RefCell<Vec<Seen>>>,
    /// Lines that the destination has.
    pub stored: Rc<RefCell<Vec<String>>>,
    /// Attempts now under way, and the most that ever were.
    pub under_way: Rc<Cell<(usize, usize)>>,
}

/// What a script says about one attempt.
pub type Answer = (Duration, Option<Outcome>);

impl<S: Fn(usize, &[&str]) -> Answer> Scripted<S> {
    pub fn new(clock: &SimulatedClock, script: S) -> Self {
        Self {
            clock: clock.clone(),
            unordered: true,
            script,
            seen: Rc::default(),
            stored: Rc::default(),
            under_way: Rc::default(),
        }
    }
}

impl<S: Fn(usize, &[&str]) -> Answer> Transport for Scripted<S> {
    async fn send(&self, body: Bytes, events: u32) -> Outcome {
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.ends_with('\n'));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), events as usize);
        let number = self.seen.borrow().len();
        self.seen.borrow_mut().push(Seen { at: self.clock.now(), body: text.to_owned() });
        let (now, most) = self.under_way.get();
        self.under_way.set((now + 1, most.max(now + 1)));
        let (delay, outcome) = (self.script)(number, &lines);
        self.clock.sleep(delay).await;
        let Some(outcome) = outcome else { std::future::pending().await };
        let (now, most) = self.under_way.get();
        self.under_way.set((now - 1, most));
        if outcome == Outcome::Delivered {
            self.stored.borrow_mut().extend(lines.iter().map(|&line| line.to_owned()));
        }
        outcome
    }

    fn unordered(&self) -> bool {
        self.unordered
    }

    fn sent_bytes(&self) -> u64 {
        self.seen.borrow().iter().map(|seen| seen.body.len() as u64).sum()
    }
}
