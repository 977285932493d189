//! Any sequence of operations, faults, crashes and restarts, against what must hold.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::faults::{FaultyDisk, at_once};
use super::tests::{lines, open};
use super::{Record, Spool, SpoolError, segment};

#[derive(Clone, Debug)]
enum Step {
    Push {
        events: u32,
        length: usize,
    },
    Read,
    /// Of those that are handed out, the one at this place.
    Acknowledge(usize),
    Unread(usize),
    Tend,
    Stop,
    Crash,
    /// The process is killed.
    Kill,
    /// The operation after so many fails.
    Fail(u32),
    Lie(bool),
    /// A bit of a complete segment.
    Flip(usize),
    /// So many more bytes fit on the disk.
    Room(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1_u32..6, 0_usize..400).prop_map(|(events, length)| Step::Push { events, length }),
        6 => Just(Step::Read),
        4 => (0_usize..8).prop_map(Step::Acknowledge),
        2 => (0_usize..8).prop_map(Step::Unread),
        3 => Just(Step::Tend),
        1 => Just(Step::Stop),
        1 => Just(Step::Crash),
        1 => Just(Step::Kill),
        1 => (0_u32..8).prop_map(Step::Fail),
        1 => any::<bool>().prop_map(Step::Lie),
        1 => (0_usize..1 << 20).prop_map(Step::Flip),
        1 => (0_usize..20_000).prop_map(Step::Room),
    ]
}

/// A batch as the model knows it.
#[derive(Debug)]
struct Known {
    events: u32,
    length: usize,
    /// Crashes before it was pushed.
    life: u32,
    /// Writing it failed. All of it may have reached the disk nevertheless, so the next life may
    /// find it; this one must not.
    refused: bool,
    /// A sync has said that it is on the disk, and has not lied.
    synced: bool,
    acknowledged: bool,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
    PowerOff,
}

struct Model {
    disk: FaultyDisk,
    spool: Spool<FaultyDisk>,
    max_bytes: u64,
    batches: BTreeMap<u64, Known>,
    /// Records handed out.
    out: Vec<Record>,
    /// Events found at the start and pushed since, acknowledged since, lost since.
    taken: u64,
    acknowledged: u64,
    lost: u64,
    /// Events that were lost in all lives.
    ever_lost: u64,
    lying: bool,
    crashes: u32,
    /// Whether a bit was flipped, a sync lied or a write failed before the power did: complete
    /// segments may be damaged then.
    damaged: bool,
}

/// The number in a batch's first line.
fn id(record: &Record) -> u64 {
    let text = std::str::from_utf8(&record.lines).unwrap();
    text.split_once('-').unwrap().0.parse().unwrap()
}

impl Model {
    fn new(max_bytes: u64, seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        Self {
            spool: open(&disk, max_bytes).0,
            disk,
            max_bytes,
            batches: BTreeMap::new(),
            out: Vec::new(),
            taken: 0,
            acknowledged: 0,
            lost: 0,
            ever_lost: 0,
            lying: false,
            crashes: 0,
            damaged: false,
        }
    }

    fn step(&mut self, number: u64, step: &Step) {
        match *step {
            Step::Push { events, length } => {
                let text = lines(number, events, length);
                let pushed = at_once(self.spool.push(text.as_bytes(), events, 1, 1));
                // What fails before it is written leaves nothing behind.
                let refused = match pushed {
                    Ok(_) => Some(false),
                    Err(SpoolError::Io { action: "write to", .. }) => Some(true),
                    Err(_) => None,
                };
                if let Some(refused) = refused {
                    self.taken += if refused { 0 } else { events.into() };
                    let life = self.crashes;
                    let (synced, acknowledged) = (false, false);
                    let known = Known { events, length, life, refused, synced, acknowledged };
                    self.batches.insert(number, known);
                }
            }
            Step::Read => {
                if let Ok(Some(record)) = at_once(self.spool.next(1)) {
                    self.check(&record);
                    self.out.push(record);
                }
            }
            Step::Acknowledge(place) if place < self.out.len() => {
                let record = self.out.swap_remove(place);
                self.spool.acknowledge(record.sequence);
                self.acknowledged += u64::from(record.events);
                self.batches.get_mut(&id(&record)).unwrap().acknowledged = true;
            }
            Step::Unread(place) if place < self.out.len() => {
                let record = self.out.swap_remove(place);
                self.spool.unread(record.sequence);
            }
            Step::Acknowledge(_) | Step::Unread(_) => {}
            Step::Tend => {
                let dirty = self.spool.is_dirty();
                if at_once(self.spool.tend(1)).is_ok() && dirty && !self.lying {
                    let life = self.crashes;
                    let of_this_life = self.batches.values_mut().filter(|known| known.life == life);
                    of_this_life.for_each(|known| known.synced = true);
                }
            }
            Step::Stop => self.restart(End::Stop),
            Step::Crash => self.restart(End::PowerOff),
            Step::Kill => self.restart(End::Kill),
            Step::Fail(after) => self.disk.fail_in(Some(after)),
            Step::Lie(lying) => {
                self.lying = lying;
                self.damaged |= lying;
                self.disk.set_lying(lying);
            }
            Step::Flip(bit) => self.flip(bit),
            Step::Room(bytes) => {
                self.disk.set_capacity(usize::try_from(self.max_bytes).unwrap() * 10 + bytes);
            }
        }
        let lost = self.spool.take_lost();
        // A segment is complete only when all of it is on the disk, whoever wrote it, or a sync failed.
        assert!(lost.damaged == 0 || self.is_damaged(), "damaged without damage");
        let lost = lost.sum();
        self.lost += lost;
        self.ever_lost += lost;
        assert_eq!(self.taken, self.acknowledged + self.lost + self.spool.events());
    }

    fn check(&self, record: &Record) {
        let id = id(record);
        let known = &self.batches[&id];
        assert_eq!(record.lines, lines(id, known.events, known.length));
        assert_eq!(record.events, known.events);
        assert!(!known.refused || self.crashes > known.life, "refused and sent");
        assert!(!known.acknowledged || self.crashes > 0, "sent twice without a crash");
        assert!(self.out.iter().all(|out| out.sequence != record.sequence), "handed out twice");
    }

    fn is_damaged(&self) -> bool {
        self.damaged || self.disk.was_forgetful()
    }

    fn flip(&mut self, bit: usize) {
        let complete = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            // A disk that lied may have left nothing of it.
            matches!(segment::parse_name(name), Some((_, Some(_)))) && self.disk.length(path) > 0
        };
        if let Some(path) = self.disk.paths().into_iter().find(complete) {
            self.disk.flip(&path, bit % (self.disk.length(&path) * 8));
            self.damaged = true;
        }
    }

    fn restart(&mut self, end: End) {
        let crash = end != End::Stop;
        self.disk.fail_in(None);
        let before = self.spool.events();
        let other = FaultyDisk::new(0);
        let mut spool = std::mem::replace(&mut self.spool, open(&other, self.max_bytes).0);
        if crash {
            drop(spool);
            if end == End::PowerOff {
                // What was written over a failed write's remains may have reached the disk in part,
                // behind what has not.
                let here = |known: &Known| known.refused && known.life == self.crashes;
                self.damaged |= self.batches.values().any(here);
                self.disk.crash();
            } else {
                self.disk.kill();
            }
            self.crashes += 1;
        } else {
            at_once(spool.close()).unwrap();
            drop(spool);
        }
        self.out.clear();
        let (spool, found) = open(&self.disk, self.max_bytes);
        self.spool = spool;
        if crash {
            self.ever_lost += found.torn;
        } else {
            assert_eq!((found.events, found.torn), (before, 0), "a clean stop");
        }
        (self.taken, self.acknowledged, self.lost) = (found.events, 0, 0);
    }

    /// Reads everything that is left.
    fn end(mut self) {
        self.disk.fail_in(None);
        for record in std::mem::take(&mut self.out) {
            self.spool.unread(record.sequence);
        }
        let mut read = Vec::new();
        while let Some(record) = at_once(self.spool.next(1)).unwrap() {
            self.check(&record);
            read.push(id(&record));
            self.out.push(record);
        }
        assert!(read.is_sorted_by(|a, b| a < b), "in order: {read:?}");
        let lost = self.spool.take_lost();
        assert!(lost.damaged == 0 || self.is_damaged(), "damaged without damage");
        self.ever_lost += lost.sum();
        let waiting = |known: &Known| {
            !known.refused && !known.acknowledged && (known.synced || self.crashes == 0)
        };
        let missing =
            self.batches.iter().filter(|(id, known)| waiting(known) && !read.contains(id));
        let missing: u64 = missing.map(|(_, known)| u64::from(known.events)).sum();
        if self.crashes > 0 {
            // What was lost may also have been sent before, or not synced.
            assert!(missing <= self.ever_lost, "{missing} missing, {} counted", self.ever_lost);
        } else {
            assert_eq!(missing, self.ever_lost);
        }
        let events: u64 = self.out.iter().map(|record| u64::from(record.events)).sum();
        assert_eq!(events, self.spool.events());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_read_back_or_counted(
        steps in proptest::collection::vec(step(), 0..120),
        max_bytes in 2_000_u64..60_000,
        seed: u64,
    ) {
        let mut model = Model::new(max_bytes, seed);
        for (number, step) in steps.iter().enumerate() {
            model.step(number as u64, step);
        }
        model.end();
    }
}
