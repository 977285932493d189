//! One seed: a few destinations, and lives of the engine one after the other until all is told.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::broker::{Broker, Numbering};
use super::checkpoint::{Checkpoints, Known, Left};
use super::clock::SimulatedClock;
use super::disk::{SimulatedDisk, Weather};
use super::life::{self, Life};
use super::truth::Truth;
use crate::deliver::dispatch;
use crate::deliver::influxdb::encode::{EncoderSettings, InfluxVersion};
use crate::deliver::{Clock as _, Encode, Spooling, influxdb, ndjson, spool};
use crate::event::Kind;
use crate::observe::ledger::{LossReason, Snapshot};
use crate::shard;
use crate::synthetic::{Cluster, Mix};

/// Events that a destination which fails has not taken are on disk within three seconds of their
/// dispatch; here of their encoding, so that the longest wait in an open batch comes on top.
const SPOOLED_WITHIN: Duration = Duration::from_millis(4_200);

/// A spool of so few bytes may have no room.
const SMALL_SPOOL: u64 = 1 << 20;

/// How a life of the engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is told to stop, and everything goes well from then on or not.
    Stop,
    /// The process is killed.
    Kill,
    /// The power fails.
    PowerOff,
    /// Faults are over: everything on disk is delivered, then it is told to stop.
    Peace,
}

/// A destination, which outlives the engine.
pub struct Place {
    pub name: String,
    pub truth: Arc<Mutex<Truth>>,
    pub disk: SimulatedDisk,
    pub settings: dispatch::Settings,
    pub spooling: Option<Spooling<SimulatedDisk>>,
    pub unordered: bool,
    version: Option<InfluxVersion>,
    /// It is an MQTT broker, which never takes one of so many events.
    mqtt: Option<usize>,
    /// Events that were in memory, or not certainly on disk, in some crash.
    excused: BTreeSet<usize>,
    /// Counted as lost in all lives, refused ones not among them; in crashes, and otherwise.
    crashed: u64,
    dropped: u64,
    /// Encoded in lives before this one.
    pub assigned_before: u64,
    /// Encoded after the checkpoint that was found after a crash, in all crashes: they may be lost
    /// without a count. And those that had an outcome then: they may be counted and not lost.
    came: u64,
    went: u64,
    /// Whether its disk has faults, besides forgetting what is not synced.
    faulty: bool,
    /// Whether it has had none so far.
    fine: bool,
}

/// Everything that follows from one seed.
pub struct World {
    pub random: fastrand::Rng,
    pub clock: SimulatedClock,
    pub places: Vec<Place>,
    pub cluster: Cluster,
    pub shards: usize,
    pub shard: shard::Settings,
    pub checkpoints: Checkpoints,
    /// What the last life had in memory, if it was killed.
    pub left: Left,
    /// The receive time of the last datagram; none has the same.
    pub last_ns: u64,
    /// Per place, whether the power has failed since its spool was opened last.
    power_failed: Vec<bool>,
    /// Per place, whether a bit of it was flipped since its spool was opened last.
    flipped: Vec<bool>,
    /// Polls in all lives.
    pub steps: u64,
    /// Whether the last life came to the step at which it was to crash.
    pub reached: bool,
    /// The steps of the last life at which somebody began to wait for a disk, and for what.
    pub waits: Vec<(u64, &'static str)>,
}

/// When a world is to crash, besides the lives before, which crash when their time is over.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// Counted from 0.
    pub life: usize,
    pub end: End,
    /// Polls in that life.
    pub step: u64,
}

/// What a seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub events: u64,
    pub steps: u64,
    pub crashes: u64,
    pub spooled: u64,
    pub lost: u64,
    pub refused: u64,
    pub twice: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.spooled += other.spooled;
        self.lost += other.lost;
        self.refused += other.refused;
        self.twice += other.twice;
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let clock = SimulatedClock::default();
        let places: Vec<Place> =
            (0..random.usize(1..=2)).map(|index| Place::new(index, &clock, &mut random)).collect();
        let shard = shard::Settings {
            flush_interval: Duration::from_millis([1, 100, 1000][random.usize(0..3)]),
            batch_bytes: 16 * 1024,
            batch_events: random.u32(1..8),
            turn_leases: shard::TURN_LEASES,
        };
        let shards = random.usize(1..=2);
        let cluster = Cluster::new(random.u64(..), Mix::CLUSTER, 2);
        Self {
            random,
            clock,
            power_failed: vec![false; places.len()],
            flipped: vec![false; places.len()],
            places,
            cluster,
            shards,
            shard,
            checkpoints: Checkpoints::default(),
            left: Left::default(),
            last_ns: 0,
            steps: 0,
            reached: false,
            waits: Vec::new(),
        }
    }

    /// Lives until the end.
    pub fn run(mut self) -> Summary {
        let ends: Vec<End> = (0..self.random.usize(0..6))
            .map(|_| [End::Stop, End::Kill, End::PowerOff][self.random.usize(0..3)])
            .collect();
        let mut summary = Summary::default();
        for end in ends {
            // As often early as late.
            let crashes = matches!(end, End::Kill | End::PowerOff);
            let most = if crashes { 1 << self.random.u32(1..12) } else { u64::MAX };
            self.live(end, most, &mut summary);
        }
        self.end(summary)
    }

    /// Lives until a crash; what is left then is to be looked at before [`World::end`].
    pub fn run_to(&mut self, crash: Crash) -> Summary {
        // As many as are drawn otherwise, so that a seed is the same world.
        let _ = self.random.usize(0..6);
        let mut summary = Summary::default();
        for life in 0..=crash.life {
            let most = if life == crash.life { crash.step } else { u64::MAX };
            self.live(crash.end, most, &mut summary);
        }
        summary
    }

    fn live(&mut self, end: End, most: u64, summary: &mut Summary) {
        summary.crashes += u64::from(matches!(end, End::Kill | End::PowerOff));
        self.begin_life(end);
        let snapshot = life::run(self, &Life::draw(end, most));
        self.end_life(end, &snapshot);
        summary.spooled += snapshot.destinations.iter().map(|it| it.counts.found).sum::<u64>();
    }

    /// A last life in which everything works, and the judgement of all.
    pub fn end(mut self, mut summary: Summary) -> Summary {
        self.live(End::Peace, u64::MAX, &mut summary);
        for place in &self.places {
            place.judge(summary.crashes > 0);
            let truth = place.truth.lock().unwrap();
            summary.events += truth.assigned() as u64;
            summary.refused += truth.refused.len() as u64;
            summary.twice += truth.unclear.len() as u64;
            summary.lost += place.dropped + place.crashed;
        }
        summary.steps = self.steps;
        summary
    }

    fn begin_life(&mut self, end: End) {
        let random = &mut self.random;
        for (index, place) in self.places.iter_mut().enumerate() {
            let mut truth = place.truth.lock().unwrap();
            truth.begin_life();
            place.assigned_before = truth.assigned() as u64;
            drop(truth);
            let mut weather = Weather::default();
            if end != End::Peace && place.faulty {
                weather = Weather {
                    failures: [0, 0, 20, 200][random.usize(0..4)],
                    stalls: [0, 0, 0, 20][random.usize(0..4)],
                    capacity: [None, None, Some(random.usize(0..400_000))][random.usize(0..3)],
                    lie: Duration::from_millis([0, 0, 900][random.usize(0..3)]),
                };
            }
            place.fine &= weather.is_fine();
            place.disk.begin_life(weather);
            if place.faulty && random.u32(0..6) == 0 && place.disk.flip() {
                place.fine = false;
                self.flipped[index] = true;
            }
            if self.flipped[index] {
                // What is damaged is counted as `crash` too.
                self.left.forget(index);
            }
        }
    }

    /// Notes what the ledger says, and what may be gone without it saying so.
    fn end_life(&mut self, end: End, snapshot: &Snapshot) {
        let (now, random) = (self.clock.now(), &mut self.random);
        match end {
            End::Stop | End::Peace => self.checkpoints.stop(now, snapshot, &self.places),
            End::Kill => self.checkpoints.kill(now, random),
            End::PowerOff => self.checkpoints.power_off(random),
        }
        let (known, then) = (Known::new(snapshot, &self.places), self.checkpoints.known());
        for (index, counted) in snapshot.destinations.iter().enumerate() {
            self.power_failed[index] &= counted.counts.settled == 0;
            self.flipped[index] &= counted.counts.settled == 0;
        }
        self.left = Left::default();
        if end == End::Kill {
            self.left = Left::new(snapshot, &self.power_failed, &known, &then);
        }
        if end == End::PowerOff {
            self.power_failed.fill(true);
        }
        for (index, place) in self.places.iter_mut().enumerate() {
            let then = then.places.get(index).copied().unwrap_or_default();
            place.came += known.places[index].0 - then.0;
            place.went += known.places[index].1.saturating_sub(then.1);
        }
        for (place, counted) in self.places.iter_mut().zip(&snapshot.destinations) {
            let dropped = counted.dropped.sum() - counted.dropped.get(LossReason::Refused);
            // Lost by the life before this one, or damaged.
            let crashed = counted.dropped.get(LossReason::Crash);
            place.crashed += crashed;
            place.dropped += dropped - crashed;
            match end {
                End::Stop | End::Peace => assert_eq!(counted.in_flight, 0, "{snapshot:?}"),
                End::Kill | End::PowerOff => {
                    place.excuse(end == End::PowerOff);
                    if end == End::Kill {
                        place.disk.kill();
                    } else {
                        place.disk.power_off();
                    }
                }
            }
        }
    }
}

impl Place {
    fn new(index: usize, clock: &SimulatedClock, random: &mut fastrand::Rng) -> Self {
        let name = format!("place{index}");
        let poison_every = [0, 0, 5, 23][random.usize(0..4)];
        let disk = SimulatedDisk::new(clock, random.u64(..));
        let unordered = random.bool();
        let settings = dispatch::Settings {
            in_flight: random.usize(1..5),
            held_bytes_max: [dispatch::HELD_BYTES_MAX, random.usize(5_000..60_000)]
                [usize::from(random.u32(0..4) == 0)],
            request_bytes_max: [0, 20_000, dispatch::REQUEST_BYTES_MAX][random.usize(0..3)],
            age_max: Duration::from_secs([86_400, 8][usize::from(random.u32(0..5) == 0)]),
            backoff_max: Duration::from_secs([1, 30][random.usize(0..2)]),
            seed: random.u64(..),
        };
        let spooling = (random.u32(0..6) > 0).then(|| Spooling {
            disk: disk.clone(),
            settings: spool::Settings {
                folder: format!("/spool/{name}").into(),
                destination: name.clone(),
                max_bytes: [8 << 30, random.u64(3_000..50_000)][usize::from(random.u32(0..4) == 0)],
                max_age: Duration::from_secs([604_800, 10][usize::from(random.u32(0..5) == 0)]),
            },
            sync_interval: Duration::from_secs(1),
            strict: random.u32(0..4) == 0,
            always: random.u32(0..4) == 0,
        });
        // Not drawn, so that the other places of a seed stay as they are.
        let mqtt = settings.seed.is_multiple_of(4).then_some(poison_every);
        let unordered = unordered && mqtt.is_none();
        // A broker does not know of events, and chokes on messages itself.
        let poison_every = if mqtt.is_some() { 0 } else { poison_every };
        let truth = Arc::new(Mutex::new(Truth::new(poison_every)));
        let version =
            [None, Some(InfluxVersion::V1), Some(InfluxVersion::V2), Some(InfluxVersion::V3)]
                [random.usize(0..4)];
        Self {
            name,
            truth,
            disk,
            settings,
            spooling,
            unordered,
            version,
            mqtt,
            excused: BTreeSet::new(),
            crashed: 0,
            dropped: 0,
            assigned_before: 0,
            came: 0,
            went: 0,
            faulty: random.bool(),
            fine: true,
        }
    }

    /// A real encoder of one of the formats.
    pub fn encoder(&self) -> Box<dyn Encode> {
        if self.mqtt.is_some() {
            return Box::new(Numbering::new(&self.truth));
        }
        let kinds = [true; Kind::COUNT];
        match self.version {
            None => Box::new(ndjson::encode::Encoder::new(kinds)),
            Some(version) => Box::new(influxdb::encode::Encoder::new(&EncoderSettings {
                version,
                user_tags: Vec::new(),
                log_tags: Vec::new(),
                tags_as_fields: Vec::new(),
                log_row_tag: false,
                kinds,
            })),
        }
    }

    /// What stands in place of the broker, if it is one; with a seed, and whether nothing goes wrong.
    pub fn broker(&self, clock: &SimulatedClock, seed: (u64, bool)) -> Option<Broker> {
        self.mqtt.map(|poison_every| Broker::new(clock, &self.truth, poison_every, seed))
    }

    /// A crash may cost what was in memory; when the power fails, what was not synced too.
    fn excuse(&mut self, power_off: bool) {
        let truth = self.truth.lock().unwrap();
        let events = |lines: Vec<bytes::Bytes>| -> BTreeSet<usize> {
            lines.iter().flat_map(|lines| truth.events_of(lines)).collect()
        };
        let kept = events(self.disk.kept(power_off));
        self.assert_spooled(&truth, &events(self.disk.kept(false)));
        let lost = (0..truth.assigned()).filter(|event| !kept.contains(event));
        let lost: Vec<usize> = lost.collect();
        drop(truth);
        self.excused.extend(lost);
    }

    /// What a destination that does not work has not taken is on disk in time.
    fn assert_spooled(&self, truth: &Truth, on_disk: &BTreeSet<usize>) {
        let Some(spooling) = self.spooling.as_ref().filter(|_| self.fine) else { return };
        let has_room = spooling.settings.max_bytes > SMALL_SPOOL
            && self.settings.held_bytes_max == dispatch::HELD_BYTES_MAX;
        if has_room && self.dropped + self.crashed == 0 {
            let late = truth.to_be_spooled(SPOOLED_WITHIN);
            let late = late.difference(on_disk).filter(|event| !self.excused.contains(event));
            let late: Vec<_> = late.collect();
            assert!(late.is_empty(), "in memory only: {late:?} at {:?}", truth.now);
        }
    }

    /// At the end of all lives.
    fn judge(&self, crashes: bool) {
        let truth = self.truth.lock().unwrap();
        let missing = truth.missing();
        let told = self.dropped + self.crashed;
        let about = || {
            format!(
                "{} events, missing {missing:?}; counted {} and {} in crashes, to within {} and {}, \
                 spooling {:?}, {:?}",
                truth.assigned(),
                self.dropped,
                self.crashed,
                self.came,
                self.went,
                self.spooling.as_ref().map(|it| &it.settings),
                self.settings,
            )
        };
        assert!(missing.len() as u64 <= told + self.came, "lost without a count: {}", about());
        let inexcusable = missing.difference(&self.excused).count() as u64;
        // What was found damaged was not in memory either.
        let damaged = if self.fine { 0 } else { self.crashed };
        assert!(inexcusable <= self.dropped + damaged, "not in memory: {}", about());
        // A disk that fails may keep what it should forget; then it is sent again, or counted again.
        if self.fine && !crashes && !self.disk.was_cut() {
            if truth.unclear.is_empty() {
                assert_eq!(missing.len() as u64, told, "counted and not lost: {}", about());
            }
            let twice = truth.needlessly_twice();
            assert!(twice.is_empty(), "stored twice: {twice:?}, {}", about());
        }
        let strict = self.spooling.as_ref().is_some_and(|it| it.strict);
        // What was given up may come back after a crash, behind what is younger.
        let comes_back = crashes && told > 0;
        if self.fine && !comes_back && (!self.unordered || strict) {
            assert!(truth.in_order(), "stored {:?}, {}", truth.first_stored, about());
        }
    }
}
