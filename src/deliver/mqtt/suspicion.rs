//! Finds the message at which the broker closes the connection.
//!
//! MQTT 3.1.1 has no way to refuse a message. A broker that will not take one, because it is too long
//! or its topic is not allowed, closes the connection without a word; sent again and again, that
//! message would stand in the way of all others. So the messages that were under way when the
//! connection was closed are suspects, which are published one at a time until each has been taken,
//! and the one at which the connection is closed again and again is refused.
//!
//! A broker that is ill closes connections too, whatever it is sent. Refusing events on its account
//! would lose them, so a broker that has taken nothing since the last refusal is sent the next event
//! first, and if it does not take that one either, it has to be far more stubborn.
//!
//! # How long it takes
//!
//! Everything happens in one attempt to send the batch, so it does not depend on how long the waits
//! between attempts have become. From the first close to the refusal there are
//! [`REFUSED_AFTER`] pauses of a quarter of a second, as many new connections, and two round trips for
//! each suspect before the message, of which there are at most 20 where messages are acknowledged:
//! about a second. Only where the broker takes no other message it takes
//! [`REFUSED_UNPROVEN_AFTER`] connections in ten attempts, with the waits between them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::connection::Message;

/// Connections closed in a row at one message that was under way alone, after which it is refused.
const REFUSED_AFTER: u32 = 3;

/// The same when nothing shows that the broker takes any message at all. From the third on there is
/// one an attempt, and the waits between attempts have reached their longest by then: such a broker
/// costs about an event a minute.
const REFUSED_UNPROVEN_AFTER: u32 = 12;

/// What is known about connections that were closed.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Messages that were under way when the connection was closed, all of one batch, and how often it
    /// was closed when there was only this one.
    suspects: HashMap<u64, u32>,
    /// Whether the broker has taken anything since it last refused a message.
    proven: bool,
}

/// What to do with a message at which the connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Publish it again.
    Again,
    /// It is refused.
    Refused,
    /// It would be refused if it were known that the broker takes others.
    Unproven,
}

impl Suspicion {
    /// Whether this message is to be published alone.
    pub(super) fn is_suspect(&self, message: &Message) -> bool {
        !self.suspects.is_empty() && self.suspects.contains_key(&hash(message))
    }

    /// The connection was closed while these messages were under way.
    pub(super) fn closed(&mut self, under_way: &[Message]) {
        let known = std::mem::take(&mut self.suspects);
        let closed = |suspect| (suspect, known.get(&suspect).copied().unwrap_or_default());
        self.suspects = under_way.iter().map(hash).map(closed).collect();
    }

    /// The connection was closed while this message was under way, and no other.
    pub(super) fn closed_at(&mut self, message: &Message) -> Verdict {
        let times = self.suspects.entry(hash(message)).or_default();
        *times += 1;
        if *times < REFUSED_AFTER {
            return Verdict::Again;
        }
        if !self.proven && *times < REFUSED_UNPROVEN_AFTER {
            return Verdict::Unproven;
        }
        self.refuse(message)
    }

    /// A message is refused, and forgotten here.
    pub(super) fn refuse(&mut self, message: &Message) -> Verdict {
        self.suspects.remove(&hash(message));
        self.proven = false;
        Verdict::Refused
    }

    /// The broker has taken a message that was under way alone.
    pub(super) fn taken(&mut self, message: &Message) {
        self.suspects.remove(&hash(message));
        self.proven = true;
    }

    /// The broker takes messages.
    pub(super) fn prove(&mut self) {
        self.proven = true;
    }

    /// The broker has taken a whole batch.
    pub(super) fn delivered(&mut self) {
        self.suspects.clear();
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

    /// The verdicts until it is refused.
    fn verdicts(suspicion: &mut Suspicion, payload: &'static str) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while verdicts.last() != Some(&Verdict::Refused) {
            verdicts.push(suspicion.closed_at(&message(payload)));
            assert!(verdicts.len() < 100, "never refused");
        }
        verdicts
    }

    #[test]
    fn what_was_under_way_is_suspect_until_it_is_taken() {
        let mut suspicion = Suspicion::default();
        let [one, other, later] = ["one", "other", "later"].map(message);
        suspicion.closed(&[message("one"), message("other")]);
        assert!(suspicion.is_suspect(&one) && suspicion.is_suspect(&other));
        assert!(!suspicion.is_suspect(&later));
        suspicion.taken(&one);
        assert!(!suspicion.is_suspect(&one) && suspicion.is_suspect(&other));
        suspicion.delivered();
        assert!(!suspicion.is_suspect(&other));
    }

    #[test]
    fn a_broker_that_takes_other_messages_refuses_soon() {
        let soon = [Verdict::Again, Verdict::Again, Verdict::Refused];
        let mut suspicion = Suspicion::default();
        suspicion.prove();
        assert_eq!(verdicts(&mut suspicion, "long"), soon);
        suspicion.taken(&message("short"));
        assert_eq!(verdicts(&mut suspicion, "longer"), soon);
    }

    #[test]
    fn a_broker_that_takes_nothing_refuses_late() {
        let mut suspicion = Suspicion::default();
        for payload in ["first", "second"] {
            let verdicts = verdicts(&mut suspicion, payload);
            assert_eq!(verdicts.len(), REFUSED_UNPROVEN_AFTER as usize);
            let unproven = verdicts.iter().filter(|it| **it == Verdict::Unproven).count();
            assert_eq!(unproven, (REFUSED_UNPROVEN_AFTER - REFUSED_AFTER) as usize);
        }
    }

    /// A broker that takes others since refuses at once what it was known to close at.
    #[test]
    fn a_proof_may_come_later() {
        let mut suspicion = Suspicion::default();
        for _ in 1..REFUSED_AFTER {
            assert_eq!(suspicion.closed_at(&message("long")), Verdict::Again);
        }
        assert_eq!(suspicion.closed_at(&message("long")), Verdict::Unproven);
        suspicion.taken(&message("short"));
        assert_eq!(suspicion.closed_at(&message("long")), Verdict::Refused);
    }

    /// As when a broker crashes at a message: attempts in between meet no broker at all.
    #[test]
    fn closes_are_counted_across_attempts() {
        let mut suspicion = Suspicion::default();
        suspicion.prove();
        for _ in 1..REFUSED_AFTER {
            assert_eq!(suspicion.closed_at(&message("long")), Verdict::Again);
            suspicion.closed(&[message("short"), message("long")]);
            suspicion.taken(&message("short"));
        }
        assert_eq!(suspicion.closed_at(&message("long")), Verdict::Refused);
    }
}
