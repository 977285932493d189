//! Finds the message at which the broker closes the connection.
//!
//! MQTT 3.1.1 has no way to refuse a message. A broker that will not take one, because it is too long
//! or its topic is not allowed, closes the connection without a word; sent again and again, that
//! message would stand in the way of all others. So when the connection is closed repeatedly, messages
//! are published one at a time, and the one at which it is closed again and again is refused.
//!
//! A broker that is ill closes connections too, whatever it is sent. Refusing events on its account
//! would lose them, so a broker that has acknowledged nothing since the last refusal has to be far
//! more stubborn.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::connection::Message;

/// Connections closed in a row after which messages are published one at a time. The first may be a
/// restart of the broker, after which the usual speed is worth more.
const CAREFUL_AFTER: u32 = 2;

/// Connections closed at one message after which it is refused: with the waits between attempts, that
/// is about a second.
const REFUSED_AFTER: u32 = 3;

/// The same when nothing shows that the broker takes any message at all. The waits between attempts
/// have reached their longest by then, so such a broker costs at most about an event a minute.
const REFUSED_UNPROVEN_AFTER: u32 = 10;

/// What is known about connections that were closed.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Connections closed since a batch was delivered.
    closed: u32,
    /// A message that was under way alone when the connection was closed, and how often in a row.
    suspect: Option<(u64, u32)>,
    /// Whether the broker has acknowledged anything since it last refused a message.
    proven: bool,
}

impl Suspicion {
    /// Whether messages are to be published one at a time.
    pub(super) fn is_careful(&self) -> bool {
        self.closed >= CAREFUL_AFTER
    }

    /// The broker has taken one message.
    pub(super) fn acknowledged(&mut self) {
        self.proven = true;
    }

    /// The broker has taken a whole batch.
    pub(super) fn delivered(&mut self) {
        *self = Self { proven: true, ..Self::default() };
    }

    /// The connection was closed while several messages were under way.
    pub(super) fn closed(&mut self) {
        self.closed = self.closed.saturating_add(1);
    }

    /// The connection was closed while only this message was under way. Tells whether it is to be
    /// refused, and forgets it then.
    pub(super) fn closed_at(&mut self, message: &Message) -> bool {
        self.closed();
        let message = hash(message);
        let before = self.suspect.filter(|(suspect, _)| *suspect == message);
        let times = before.map_or(1, |(_, times)| times + 1);
        let enough = if self.proven { REFUSED_AFTER } else { REFUSED_UNPROVEN_AFTER };
        let refused = times >= enough;
        self.suspect = (!refused).then_some((message, times));
        self.proven &= !refused;
        refused
    }
}

/// Batches are cut and copied between attempts, so a message is known by what it says.
fn hash(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&message.topic, &message.payload).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &'static str) -> Message {
        Message { line: 0, topic: "t".to_owned(), payload: payload.into() }
    }

    fn times_until_refused(suspicion: &mut Suspicion, payload: &'static str) -> u32 {
        let times = (1..100).find(|_| suspicion.closed_at(&message(payload)));
        times.expect("never refused")
    }

    #[test]
    fn care_begins_with_the_second_close_and_ends_with_a_delivered_batch() {
        let mut suspicion = Suspicion::default();
        suspicion.closed();
        assert!(!suspicion.is_careful(), "a restart of the broker");
        suspicion.closed();
        assert!(suspicion.is_careful());
        suspicion.acknowledged();
        assert!(suspicion.is_careful(), "the rest of the batch may hold another one");
        suspicion.delivered();
        assert!(!suspicion.is_careful());
    }

    #[test]
    fn a_broker_that_takes_other_messages_refuses_soon() {
        let mut suspicion = Suspicion::default();
        suspicion.delivered();
        assert_eq!(times_until_refused(&mut suspicion, "long"), REFUSED_AFTER);
        suspicion.acknowledged();
        assert_eq!(times_until_refused(&mut suspicion, "longer"), REFUSED_AFTER);
    }

    #[test]
    fn a_broker_that_takes_nothing_refuses_late() {
        let mut suspicion = Suspicion::default();
        for payload in ["first", "second"] {
            assert_eq!(times_until_refused(&mut suspicion, payload), REFUSED_UNPROVEN_AFTER);
        }
    }

    #[test]
    fn another_message_begins_anew() {
        let mut suspicion = Suspicion::default();
        suspicion.delivered();
        for _ in 0..REFUSED_AFTER {
            assert!(!suspicion.closed_at(&message("one")));
            assert!(!suspicion.closed_at(&message("other")));
        }
    }
}
