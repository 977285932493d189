//! The file `ledger`: which of its records the next life finds, and what they can be wrong by.

use std::time::Duration;

use super::world::Place;
use crate::event::Listener;
use crate::observe::checkpoint::{INTERVAL, LastRun};
use crate::observe::ledger::{LossReason, Snapshot};

/// What the system has not written to the disk after this long is seldom.
const WRITTEN_BACK: Duration = Duration::from_secs(30);

/// Writing a record takes no longer than this.
const WRITES: Duration = Duration::from_millis(5);

/// A record, and what had happened when it was made.
#[derive(Clone)]
struct Record {
    at: Duration,
    bytes: Vec<u8>,
    known: Known,
    /// It was synced.
    stopped: bool,
    /// Of which life it is.
    life: u32,
}

/// What had happened until some moment.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Per place, in all lives: encoded, and delivered or refused or lost in this life.
    pub places: Vec<(u64, u64)>,
    /// Per listener, in this life: received, and read or dropped.
    pub listeners: [(u64, u64); Listener::COUNT],
}

impl Known {
    pub fn new(snapshot: &Snapshot, places: &[Place]) -> Self {
        let places = snapshot.destinations.iter().zip(places).map(|(counted, place)| {
            let assigned = place.assigned_before + counted.assigned - counted.counts.found;
            (assigned, counted.counts.delivered + counted.dropped.sum())
        });
        let listeners =
            snapshot.listeners.each_ref().map(|it| (it.received, it.received - it.queued));
        Self { places: places.collect(), listeners }
    }
}

/// The file.
#[derive(Default)]
pub struct Checkpoints {
    records: Vec<Record>,
    next_at: Duration,
    life: u32,
}

impl Checkpoints {
    /// A life begins; returns what the one before has left.
    pub fn begin_life(&mut self, now: Duration) -> Option<LastRun> {
        self.next_at = now;
        self.life += 1;
        self.records.last().map(|record| LastRun::parse(&record.bytes).unwrap())
    }

    /// Time has passed; `before` is the ledger as it was meanwhile.
    pub fn look(&mut self, now: Duration, before: &Snapshot, places: &[Place]) {
        if now >= self.next_at {
            let passed = now.saturating_sub(self.next_at).as_nanos() / INTERVAL.as_nanos();
            let at = self.next_at + INTERVAL * u32::try_from(passed).unwrap();
            self.next_at = at + INTERVAL;
            self.write(at, before, places, false);
        }
    }

    /// A life has ended well.
    pub fn stop(&mut self, now: Duration, snapshot: &Snapshot, places: &[Place]) {
        self.write(now, snapshot, places, true);
    }

    fn write(&mut self, at: Duration, snapshot: &Snapshot, places: &[Place], stopped: bool) {
        let bytes = LastRun::new(snapshot, stopped).to_bytes();
        let known = Known::new(snapshot, places);
        if stopped {
            self.records.clear();
        }
        self.records.retain(|record| record.stopped || record.at + WRITTEN_BACK >= at);
        self.records.push(Record { at, bytes, known, stopped, life: self.life });
    }

    /// The process is killed: it may have been writing its newest record.
    pub fn kill(&mut self, now: Duration, random: &mut fastrand::Rng) {
        // The first is written before anything runs.
        if let [.., before, newest] = self.records.as_slice()
            && before.life == self.life
            && now < newest.at + WRITES
            && random.bool()
        {
            self.records.pop();
        }
    }

    /// The power fails: one of the last records is on the disk.
    pub fn power_off(&mut self, random: &mut fastrand::Rng) {
        if !self.records.is_empty() {
            self.records.truncate(random.usize(1..=self.records.len()));
        }
    }

    /// What had happened when the record was made that the next life finds.
    pub fn known(&self) -> Known {
        self.records.last().map(|record| record.known.clone()).unwrap_or_default()
    }
}

/// What a kill really has left in memory, and by how much its count may be wrong.
#[derive(Debug, Default)]
pub struct Left {
    /// Per place, until it has been counted.
    places: Vec<Option<Bounds>>,
    /// Per listener: queued, and how many came or went since the checkpoint.
    queued: Option<[(u64, u64); Listener::COUNT]>,
}

#[derive(Debug)]
struct Bounds {
    in_memory: u64,
    /// How far the spool was as far as the ledger knew.
    next: u64,
    /// Encoded, and delivered or refused or lost since the checkpoint.
    came: u64,
    went: u64,
    /// Events that were on disk as far as the ledger knew, if the power has failed since then.
    unsure: u64,
}

impl Left {
    pub fn new(snapshot: &Snapshot, power_failed: &[bool], now: &Known, then: &Known) -> Self {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let left = snapshot.destinations.iter().enumerate().map(|(index, counted)| {
            let then = then.places.get(index).copied().unwrap_or_default();
            let before = counted.left.map(|left| (left.in_memory, left.spool));
            let (left, spool) = before.unwrap_or((0, Some(counted.counts.spool)));
            // In a life before this one, which ended before it had opened the spool.
            let unsure = counted.left.filter(|_| power_failed[index]);
            Some(Bounds {
                in_memory: counted.in_flight + left,
                next: spool.map_or(0, |spool| spool.next),
                came: since(now.places[index].0, then.0),
                went: since(now.places[index].1, then.1),
                unsure: unsure.map_or(0, |left| left.on_disk),
            })
        });
        let listeners = snapshot.listeners.iter().zip(now.listeners).zip(then.listeners);
        let queued = listeners.map(|((counted, now), then)| {
            (counted.queued, since(now.0, then.0).max(since(now.1, then.1)))
        });
        let queued: Vec<_> = queued.collect();
        Self { places: left.collect(), queued: queued.try_into().ok() }
    }

    pub fn check_queued(&self, counted: [u64; Listener::COUNT]) {
        for (counted, (queued, change)) in counted.into_iter().zip(self.queued.iter().flatten()) {
            assert!(counted.abs_diff(*queued) <= *change, "{counted} of {queued} to {change}");
        }
    }

    /// More than the kill is to blame at this place.
    pub fn forget(&mut self, place: usize) {
        if let Some(place) = self.places.get_mut(place) {
            *place = None;
        }
    }

    /// Checks what the next run counts when it has opened its spools.
    pub fn check_settled(&mut self, snapshot: &Snapshot) {
        for (bounds, counted) in self.places.iter_mut().zip(&snapshot.destinations) {
            if let Some(left) = bounds.take_if(|_| counted.counts.settled > 0) {
                // What was being written at the end may be on disk.
                let in_memory =
                    |next: u64| left.in_memory.saturating_sub(next.saturating_sub(left.next));
                let next = counted.counts.spool.next;
                // What power took is missing at the end, or damaged anywhere.
                let missing = left.next.saturating_sub(next).min(left.unsure);
                let least = in_memory(next) + missing;
                // Since it was opened, some of what this life has taken may have been written.
                let most = in_memory(next.saturating_sub(counted.counts.taken)) + left.unsure;
                let crash = counted.counts.lost.get(LossReason::Crash);
                assert!(
                    crash <= most + left.went && crash + left.came >= least,
                    "{crash} counted, {least} to {most} lost: {left:?}"
                );
            }
        }
    }
}
