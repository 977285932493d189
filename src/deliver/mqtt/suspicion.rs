//! Finds the message at which the broker closes the connection.
//!
//! MQTT 3.1.1 has no way to refuse a message. A broker that will not take one, because it is too long
//! or its topic is not allowed, closes the connection without a word; sent again and again, that
//! message would stand in the way of all others. So the messages that were under way when the
//! connection was closed are suspects, which are published one at a time until each has been taken,
//! and the one at which the connection is closed again and again is refused. If they are many, groups
//! of them are published first, until the connection is closed at one of those.
//!
//! A broker that is ill closes connections too, whatever it is sent. Refusing events on its account
//! would lose them, so a broker that has taken nothing since the last refusal is sent the next event
//! first, and if it does not take that one either, it has to be far more stubborn.
//!
//! # How long it takes
//!
//! Everything happens in one attempt to send the batch, so it does not depend on how long the waits
//! between attempts have become. Where messages are acknowledged, at most 21 are suspects: 20 that are
//! not acknowledged, and the last one that is. Where they are not, at most 441 = 21 × 21, since the
//! broker has to answer a ping before more are sent: at most 21 groups, and 21 messages of one group.
//! Each takes a round trip to be taken, two at quality of service 2, and one alone, if it is
//! acknowledged, another one.
//!
//! | quality of service | pauses of a quarter of a second, each with a new connection | round trips |
//! |---|---|---|
//! | 0 | [`REFUSED_AFTER`] + 1 | 42 |
//! | 1 | [`REFUSED_AFTER`] | 42 |
//! | 2 | [`REFUSED_AFTER`] | 63 |
//!
//! So from the first close to the refusal it is about a second, and the round trips on top: 30 ms each
//! add one or two seconds. Only where the broker takes no other message it takes
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
    /// How many of them are published together.
    group: usize,
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

    /// How many of these messages, from the first on, may be published together: one that is suspect
    /// is alone, or with others of its group, and not with what is above suspicion.
    pub(super) fn together(&self, messages: &[Message]) -> usize {
        let is_suspect = |message: &Message| self.is_suspect(message);
        let (most, suspects) = match messages.first() {
            Some(first) if is_suspect(first) => (self.group, true),
            _ => (usize::MAX, false),
        };
        messages.iter().take(most).take_while(|message| is_suspect(message) == suspects).count()
    }

    /// The connection was closed while these messages were under way, of which at most `alone_max` are
    /// to be published one at a time.
    pub(super) fn closed(&mut self, under_way: &[Message], alone_max: usize) {
        let known = std::mem::take(&mut self.suspects);
        let closed = |suspect| (suspect, known.get(&suspect).copied().unwrap_or_default());
        self.suspects = under_way.iter().map(hash).map(closed).collect();
        self.group = under_way.len().div_ceil(alone_max);
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

    /// The broker has taken these messages.
    pub(super) fn taken(&mut self, messages: &[Message]) {
        if !self.suspects.is_empty() {
            for message in messages {
                self.suspects.remove(&hash(message));
            }
        }
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
    use std::slice;

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
        suspicion.closed(&[message("one"), message("other")], 2);
        assert!(suspicion.is_suspect(&one) && suspicion.is_suspect(&other));
        assert!(!suspicion.is_suspect(&later));
        suspicion.taken(slice::from_ref(&one));
        assert!(!suspicion.is_suspect(&one) && suspicion.is_suspect(&other));
        suspicion.delivered();
        assert!(!suspicion.is_suspect(&other));
    }

    /// What is taken of 441 messages, with one among them that never is.
    #[test]
    fn one_of_many_is_found_in_two_steps() {
        const ALONE_MAX: usize = 21;
        let messages: Vec<Message> = (0..ALONE_MAX * ALONE_MAX)
            .map(|n| Message { line: 0, topic: "t".to_owned(), payload: n.to_string().into() })
            .collect();
        for bad in [0, 17, 220, 440] {
            let mut suspicion = Suspicion::default();
            let (mut rest, mut published, mut closed) = (&messages[..], 0, 0);
            while let Some(length) = Some(suspicion.together(rest)).filter(|length| *length > 0) {
                published += 1;
                let begin = messages.len() - rest.len();
                if !(begin..begin + length).contains(&bad) {
                    suspicion.taken(&rest[..length]);
                    rest = &rest[length..];
                } else if length > 1 {
                    closed += 1;
                    suspicion.closed(&rest[..length], ALONE_MAX);
                } else {
                    break;
                }
            }
            assert_eq!((messages.len() - rest.len(), closed), (bad, 2));
            assert!(published <= 1 + 2 * ALONE_MAX, "{published} for {bad}");
        }
    }

    #[test]
    fn a_broker_that_takes_other_messages_refuses_soon() {
        let soon = [Verdict::Again, Verdict::Again, Verdict::Refused];
        let mut suspicion = Suspicion::default();
        suspicion.taken(&[]);
        assert_eq!(verdicts(&mut suspicion, "long"), soon);
        suspicion.taken(&[message("short")]);
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
        suspicion.taken(&[message("short")]);
        assert_eq!(suspicion.closed_at(&message("long")), Verdict::Refused);
    }

    /// As when a broker crashes at a message: attempts in between meet no broker at all.
    #[test]
    fn closes_are_counted_across_attempts() {
        let mut suspicion = Suspicion::default();
        suspicion.taken(&[]);
        for _ in 1..REFUSED_AFTER {
            assert_eq!(suspicion.closed_at(&message("long")), Verdict::Again);
            suspicion.closed(&[message("short"), message("long")], 2);
            suspicion.taken(&[message("short")]);
        }
        assert_eq!(suspicion.closed_at(&message("long")), Verdict::Refused);
    }
}
