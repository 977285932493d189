//! What really becomes of each event of one destination, as nobody inside the engine knows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::deliver::{Buffer, Encode, Outcome};
use crate::enrich::Enriched;
use crate::event::Event;

/// What is in a request cannot be written to disk. After one that took longer than this, an event
/// waits anew.
const LONG: Duration = Duration::from_millis(500);

/// The events of one destination, by number in the order in which they were encoded.
#[derive(Debug, Default)]
pub struct Truth {
    /// The number of the event of a line. Lines are unique, since receive times are.
    numbers: HashMap<Box<[u8]>, usize>,
    /// The shard that encoded each.
    shards: Vec<usize>,
    /// How often each was stored.
    times: Vec<u32>,
    /// In the order in which they were stored first.
    pub first_stored: Vec<usize>,
    /// Those of which the sender was told that they are refused.
    pub refused: BTreeSet<usize>,
    /// Those that were stored by a request whose sender does not know that.
    pub unclear: BTreeSet<usize>,
    /// Every so many events is one that the server never takes; 0 for none.
    poison_every: usize,
    /// Time, as of the last step.
    pub now: Duration,
    /// When each was encoded, or came back from a request that took long.
    waiting_since: Vec<Duration>,
    /// In requests under way, and since when.
    under_way: BTreeMap<usize, Duration>,
    /// When a sender was told of a failure for the first time since it was told of anything else.
    failing_since: Option<Duration>,
    /// Since this life began: encoded, acknowledged and refused as the sender was told.
    pub assigned_now: u64,
    pub acknowledged_now: u64,
    pub refused_now: u64,
}

impl Truth {
    pub fn new(poison_every: usize) -> Self {
        Self { poison_every, ..Self::default() }
    }

    pub fn begin_life(&mut self) {
        (self.assigned_now, self.acknowledged_now, self.refused_now) = (0, 0, 0);
        self.failing_since = None;
    }

    /// Events encoded in all lives.
    pub fn assigned(&self) -> usize {
        self.times.len()
    }

    fn assign(&mut self, line: &[u8], shard: usize) {
        self.waiting_since.push(self.now);
        let line = line.strip_suffix(b"\n").expect("one line per event");
        let before = self.numbers.insert(line.into(), self.times.len());
        assert_eq!(before, None, "lines are unique");
        self.times.push(0);
        self.shards.push(shard);
        self.assigned_now += 1;
    }

    /// The events of a body, every line of which must be exactly what was encoded.
    pub fn events_of(&self, body: &[u8]) -> Vec<usize> {
        let body = body.strip_suffix(b"\n").expect("ends with a line");
        let number = |line| self.numbers.get(line).copied().expect("a line that was encoded");
        body.split(|&byte| byte == b'\n').map(number).collect()
    }

    pub fn is_poison(&self, event: usize) -> bool {
        self.poison_every > 0 && event % self.poison_every == self.poison_every - 1
    }

    pub fn store(&mut self, events: &[usize]) {
        for &event in events {
            if self.is_poison(event) {
                continue;
            }
            if self.times[event] == 0 {
                self.first_stored.push(event);
            }
            self.times[event] += 1;
        }
    }

    /// An event is acknowledged, or will be, and not stored.
    pub fn throw_away(&mut self, event: usize) {
        self.refused.insert(event);
        self.unclear.insert(event);
    }

    /// A request begins, or ends.
    pub fn set_under_way(&mut self, events: &[usize], begins: bool) {
        for event in events {
            if begins {
                self.under_way.insert(*event, self.now);
            } else if let Some(since) = self.under_way.remove(event)
                && self.now > since + LONG
            {
                self.waiting_since[*event] = self.now;
            }
        }
    }

    /// Events that are to be on disk: the destination has not worked for `limit`, and they have
    /// waited as long.
    pub fn to_be_spooled(&self, limit: Duration) -> BTreeSet<usize> {
        if self.failing_since.is_none_or(|since| self.now < since + limit) {
            return BTreeSet::new();
        }
        let mut events = self.missing();
        events.retain(|event| {
            self.now >= self.waiting_since[*event] + limit && !self.under_way.contains_key(event)
        });
        events
    }

    /// The sender of a request that was stored will not know that.
    pub fn unclear(&mut self, events: &[usize]) {
        self.unclear.extend(events);
    }

    /// The sender is told.
    pub fn heard(&mut self, events: &[usize], outcome: &Outcome) {
        if matches!(outcome, Outcome::Unavailable { .. } | Outcome::Misconfigured { .. }) {
            self.failing_since.get_or_insert(self.now);
        } else {
            self.failing_since = None;
        }
        let mut refused: BTreeSet<usize> = match outcome {
            Outcome::Delivered | Outcome::Partial { .. } => {
                events.iter().copied().filter(|&event| self.is_poison(event)).collect()
            }
            Outcome::RefusedLines { lines, .. } => {
                lines.iter().filter_map(|&line| events.get(line as usize).copied()).collect()
            }
            _ => BTreeSet::new(),
        };
        match outcome {
            Outcome::Delivered | Outcome::Partial { .. } => {
                self.acknowledged_now += (events.len() - refused.len()) as u64;
            }
            // What cannot be cut any more is to be dropped.
            Outcome::RefusedLines { .. } | Outcome::RefusedUnnamed { .. } | Outcome::TooLarge
                if events.len() == 1 =>
            {
                refused.insert(events[0]);
            }
            _ => {}
        }
        self.refused_now += refused.len() as u64;
        self.refused.extend(refused);
    }

    /// Events that the destination neither has nor has refused.
    pub fn missing(&self) -> BTreeSet<usize> {
        let missing = |event: &usize| self.times[*event] == 0 && !self.refused.contains(event);
        (0..self.assigned()).filter(missing).collect()
    }

    /// Events that were stored more than once though the sender knew that they are there.
    pub fn needlessly_twice(&self) -> Vec<usize> {
        let twice = |event: &usize| self.times[*event] > 1 && !self.unclear.contains(event);
        (0..self.assigned()).filter(twice).collect()
    }

    /// Whether the events of each shard were stored in the order in which it encoded them. One that was
    /// refused may be sent again after a crash, and be taken then.
    pub fn in_order(&self) -> bool {
        let shards: BTreeSet<usize> = self.shards.iter().copied().collect();
        shards.into_iter().all(|shard| {
            let of_shard =
                |event: &&usize| self.shards[**event] == shard && !self.refused.contains(*event);
            let of_shard = self.first_stored.iter().filter(of_shard);
            of_shard.is_sorted()
        })
    }
}

/// A real encoder, and a note of what it writes.
pub struct Noting {
    pub encoder: Box<dyn Encode>,
    pub truth: Arc<Mutex<Truth>>,
    pub shard: usize,
}

impl Encode for Noting {
    fn wants(&self, event: &Event<'_>) -> bool {
        self.encoder.wants(event)
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let start = out.len();
        self.encoder.encode(enriched, out);
        self.truth.lock().unwrap().assign(&out[start..], self.shard);
    }
}
