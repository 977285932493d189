//! An MQTT broker at the other end of the real publishing, which it may break off at any message.
//!
//! Real are the encoder, the transport with its queue, and what publishes a batch and finds the
//! message that is refused. The MQTT library, and with it the protocol, does not run here, since it
//! opens its sockets itself: [`Broker`] stands in its place, and does to messages what Mosquitto does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{ConnectReturnCode, ConnectionError};

use super::clock::SimulatedClock;
use super::network::Request;
use super::truth::Truth;
use crate::deliver::line::Line;
use crate::deliver::mqtt::connection::{Failure, Message};
use crate::deliver::mqtt::encode::{Encoder, EncoderSettings, LogTopics, UserTopics};
use crate::deliver::mqtt::link::{ANSWER_TIMEOUT, Link, PAUSE};
use crate::deliver::mqtt::{MqttTransport, Qos};
use crate::deliver::{Buffer, Clock, Encode, Outcome, Transport};
use crate::enrich::Enriched;
use crate::event::Event;

/// An event is refused only if the broker closed the connection at it so often: three times, one of
/// which may be a connection that a message before it had ended.
const REFUSED_AFTER: u32 = 2;

/// Messages that wait for their acknowledgement at most; few, since there are few events.
const IN_FLIGHT: usize = 4;

/// Messages that are sent before a ping has to be answered, where they are not acknowledged.
const UNANSWERED_MAX: usize = 12;

/// What the topic begins with that holds the number of an event.
const NUMBER: &str = "number/";

/// The real encoder, and one more topic behind the others: the number of the event.
pub struct Numbering {
    pub encoder: Encoder,
    pub truth: Arc<Mutex<Truth>>,
}

impl Numbering {
    pub fn new(truth: &Arc<Mutex<Truth>>) -> Self {
        let user = UserTopics { everything: Some("users".into()), commands: Vec::new() };
        let log = LogTopics { base: "logs".into(), to_base: true, to_subsystem: true };
        let settings =
            EncoderSettings { user: Some(user), log: Some(log), ..EncoderSettings::default() };
        Self { encoder: Encoder::new(&settings), truth: Arc::clone(truth) }
    }
}

impl Encode for Numbering {
    fn wants(&self, event: &Event<'_>) -> bool {
        self.encoder.wants(event)
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let mut encoded = Buffer::default();
        self.encoder.encode(enriched, &mut encoded);
        let encoded = encoded.strip_suffix(b"\n").expect("a line");
        let number = format!("\t{NUMBER}{}", self.truth.lock().unwrap().assigned());
        Line::append(out, encoded.len() + number.len(), |line| {
            line.bytes(encoded);
            line.bytes(number.as_bytes());
        });
    }
}

/// How the broker is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Healthy,
    Slow,
    Down,
    /// Takes the connection and says nothing more; it may have taken the message.
    Hangs,
    /// Closes the connection now and then, whatever it is sent.
    Closes,
    /// Does so always.
    Ill,
    Misconfigured,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    /// The connection is closed; the acknowledgement before that is heard of or not.
    Closed {
        heard: bool,
    },
    Silence,
}

/// A broker, seen from the one client that it has.
pub struct Broker {
    clock: SimulatedClock,
    truth: Arc<Mutex<Truth>>,
    random: fastrand::Rng,
    /// Nothing goes wrong any more, except that what it never takes still ends the connection.
    calm: bool,
    poison_every: usize,
    /// With which the client publishes.
    qos: Qos,
    mood: Mood,
    until: Duration,
    connected: bool,
    /// It has closed the connection, and the client does not know that yet.
    closed: bool,
    notes: Rc<RefCell<Notes>>,
}

/// What broker and transport tell each other.
#[derive(Default)]
struct Notes {
    /// The events of the batch that the client is about to publish, by line.
    batch: Vec<usize>,
    /// Whether the broker closed a connection since then.
    disturbed: bool,
    /// How often it did so at each event.
    closed_at: HashMap<usize, u32>,
}

impl Broker {
    /// A broker that never takes one of so many events; 0 for none.
    pub fn new(
        clock: &SimulatedClock,
        truth: &Arc<Mutex<Truth>>,
        poison_every: usize,
        (seed, calm): (u64, bool),
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][random.usize(0..3)];
        Self {
            clock: clock.clone(),
            truth: Arc::clone(truth),
            random,
            calm,
            poison_every,
            qos,
            mood: Mood::Healthy,
            until: Duration::ZERO,
            connected: false,
            closed: false,
            notes: Rc::default(),
        }
    }

    /// The client's real transport, which notes what dispatch is told.
    pub fn noting(&self, transport: MqttTransport) -> Told {
        Told { transport, truth: Arc::clone(&self.truth), notes: Rc::clone(&self.notes) }
    }

    fn acknowledges(&self) -> bool {
        self.qos != Qos::AtMostOnce
    }

    fn mood(&mut self) -> Mood {
        if self.calm {
            return Mood::Healthy;
        }
        if self.clock.now() >= self.until {
            self.until = self.clock.now() + Duration::from_millis(self.random.u64(1..25_000));
            self.mood = match self.random.u32(0..16) {
                0..=5 => Mood::Healthy,
                6 => Mood::Slow,
                7..=9 => Mood::Down,
                10 => Mood::Hangs,
                11..=13 => Mood::Closes,
                14 => Mood::Ill,
                _ => Mood::Misconfigured,
            };
        }
        self.mood
    }

    async fn wait(&mut self, most_ms: u64) {
        let wait = Duration::from_millis(self.random.u64(0..=most_ms));
        self.clock.sleep(wait).await;
    }

    /// Connects if need be, to publish so many messages behind `before` others.
    async fn connect(&mut self, before: usize, messages: usize) -> Result<(), Failure> {
        if std::mem::take(&mut self.closed) {
            self.wait(20).await;
            self.connected = false;
            let sent = before + self.random.usize(0..=messages.min(IN_FLIGHT));
            return Err(self.ended(before, sent));
        }
        if !self.connected {
            self.wait(20).await;
            match self.mood() {
                Mood::Down => return Err(Failure::Connection(error())),
                Mood::Misconfigured => {
                    let refused =
                        ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
                    return Err(Failure::Connection(refused));
                }
                _ => self.connected = true,
            }
        }
        Ok(())
    }

    /// Gets a message.
    async fn get(&mut self, message: &Message) -> Fate {
        let mood = self.mood();
        self.wait(if mood == Mood::Slow { 1_000 } else { 5 }).await;
        let number = message.topic.strip_prefix(NUMBER).map(|number| number.parse().unwrap());
        let is_poison =
            |number| self.poison_every > 0 && number % self.poison_every == self.poison_every - 1;
        if let Some(number) = number.filter(|number| is_poison(*number)) {
            let acknowledges = self.random.bool();
            if acknowledges {
                self.truth.lock().unwrap().throw_away(number);
            }
            return self.close(message, acknowledges);
        }
        let takes = match mood {
            Mood::Healthy | Mood::Slow | Mood::Misconfigured => true,
            Mood::Hangs | Mood::Down => self.random.bool(),
            Mood::Closes => self.random.u32(0..4) > 0,
            Mood::Ill => false,
        };
        // An acknowledgement may be lost on the way.
        let stores = takes || (mood == Mood::Closes && self.random.bool());
        if let Some(number) = number.filter(|_| stores) {
            self.truth.lock().unwrap().store(&[number]);
        }
        match mood {
            Mood::Hangs => Fate::Silence,
            _ if takes => Fate::Taken,
            _ => self.close(message, stores),
        }
    }

    fn close(&mut self, message: &Message, acknowledges: bool) -> Fate {
        let mut notes = self.notes.borrow_mut();
        let event = notes.batch[message.line as usize];
        *notes.closed_at.entry(event).or_default() += 1;
        notes.disturbed = true;
        self.connected = false;
        Fate::Closed { heard: acknowledges && self.random.bool() }
    }

    /// The connection has ended when so many messages had been sent, and a ping behind `before` of them
    /// had been answered.
    fn ended(&self, before: usize, sent: usize) -> Failure {
        let acknowledged = sent.saturating_sub(Self::ALONE_MAX);
        let taken = if self.acknowledges() { acknowledged } else { before };
        match sent {
            0 => Failure::Connection(error()),
            _ => Failure::Closed { taken, sent, error: error() },
        }
    }

    /// Publishes messages behind `before` others.
    async fn publish_behind(&mut self, before: usize, messages: &[Message]) -> Result<(), Failure> {
        self.connect(before, messages.len()).await?;
        for (index, message) in messages.iter().enumerate() {
            match self.get(message).await {
                Fate::Taken => {}
                Fate::Silence => return Err(self.be_silent().await),
                Fate::Closed { heard: true } if index + 1 == messages.len() => {
                    self.closed = true;
                }
                Fate::Closed { heard } => {
                    let heard = heard && self.acknowledges();
                    let most = if self.acknowledges() { IN_FLIGHT } else { UNANSWERED_MAX };
                    let behind = self.random.usize(0..=most - usize::from(!heard));
                    let sent = messages.len().min(index + 1 + behind);
                    return Err(self.ended(before, before + sent));
                }
            }
        }
        Ok(())
    }

    async fn be_silent(&mut self) -> Failure {
        self.clock.sleep(ANSWER_TIMEOUT).await;
        Failure::Silence(ANSWER_TIMEOUT)
    }
}

fn error() -> ConnectionError {
    ConnectionError::NetworkTimeout
}

impl Link for Broker {
    const ALONE_MAX: usize = IN_FLIGHT + 1;

    async fn publish(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let together = if self.acknowledges() { usize::MAX } else { UNANSWERED_MAX };
        let mut before = 0;
        for messages in messages.chunks(together) {
            self.publish_behind(before, messages).await?;
            before += messages.len();
        }
        Ok(())
    }

    async fn publish_alone(&mut self, message: &Message) -> Result<(), Failure> {
        self.connect(0, 1).await?;
        match self.get(message).await {
            Fate::Taken => Ok(()),
            Fate::Silence => Err(self.be_silent().await),
            Fate::Closed { .. } => Err(self.ended(0, 1)),
        }
    }

    async fn stay_connected(&mut self) {
        std::future::pending::<()>().await;
    }

    fn drop_connection(&mut self) {
        (self.connected, self.closed) = (false, false);
    }

    async fn pause(&self) {
        self.clock.sleep(PAUSE).await;
    }

    async fn say_farewell(&mut self) {}

    fn address(&self) -> (String, u16) {
        ("broker".into(), 1883)
    }
}

/// The real transport, and a note of what comes out of it.
pub struct Told {
    transport: MqttTransport,
    truth: Arc<Mutex<Truth>>,
    notes: Rc<RefCell<Notes>>,
}

impl Transport for Told {
    async fn send(&self, body: Bytes, events: u32) -> Outcome {
        let numbers = self.truth.lock().unwrap().events_of(&body);
        assert_eq!(numbers.len(), events as usize, "as many lines as events");
        let mut request = Request::begin(&self.truth, numbers);
        // Some are taken before it is known what becomes of all.
        request.stored = true;
        {
            let mut notes = self.notes.borrow_mut();
            (notes.batch, notes.disturbed) = (request.events.clone(), false);
        }
        let outcome = self.transport.send(body, events).await;
        let notes = self.notes.borrow();
        if let Outcome::RefusedLines { lines, .. } = &outcome {
            let closed = |line: &u32| notes.closed_at.get(&request.events[*line as usize]).copied();
            let proven = |line| closed(line).is_some_and(|times| times >= REFUSED_AFTER);
            assert!(lines.iter().all(proven), "blamed without a cause: {outcome:?}");
        }
        self.truth.lock().unwrap().heard(&request.events, &outcome);
        request.stored = outcome != Outcome::Delivered || notes.disturbed;
        outcome
    }

    fn unordered(&self) -> bool {
        self.transport.unordered()
    }

    fn sent_bytes(&self) -> u64 {
        self.transport.sent_bytes()
    }
}
