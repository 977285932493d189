//! Paces events onto sockets, exactly.
//!
//! The loop sends what the schedule of the [`Pace`] says is due, sleeps, and looks again.
//!
//! Each server of the [`Cluster`] has sockets of its own, so that row numbers count up without gaps
//! per sending socket, as those of real appenders do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::recorded::Recorded;
use super::schedule::{Pace, Schedule};
use super::wire::{BATCH, Lane};
use super::{Cluster, MONDAY_MORNING_MS, Mix, Mood, SERVERS_MAX};
use crate::event::{Kind, Listener};

/// How often the caller hears about progress.
const PROGRESS: Duration = Duration::from_millis(100);
/// Events sent before the clock is read again; 16 full batches.
const ROUND: u64 = 16 * BATCH as u64;
/// Events per second of a seeded cluster's own time, whatever the pace: only then does the seed
/// alone decide the bytes.
const SEEDED_RATE: u64 = 1000;

/// What to send, where to, and how fast.
#[derive(Debug)]
pub struct Load {
    /// Where log events go.
    pub log: Option<SocketAddr>,
    /// Where user events go.
    pub user: Option<SocketAddr>,
    /// What is sent.
    pub events: Events,
    /// How fast.
    pub pace: Pace,
    /// Stop after so many events; goes before `duration`.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Senders: each has sockets of its own and, towards a loopback IPv4 target, if there are
    /// several, an address of its own: 127.0.0.1, 127.0.0.2, and so on. At most [`SERVERS_MAX`].
    pub sources: u8,
}

/// What is sent.
#[derive(Debug)]
pub enum Events {
    /// The events of a [`Cluster`] with one server per source.
    Cluster {
        /// Kinds without a target are left out.
        mix: Mix,
        /// With a seed, times begin at [`MONDAY_MORNING_MS`] and runs can be repeated byte by byte;
        /// without one, events carry the present time.
        seed: Option<u64>,
    },
    /// The same with the present time and these apps and people. With [`Pace::WorkingDay`] the
    /// cluster goes through the day's moods, and while an engine fails one log event in
    /// [`LOST_ONE_IN`](super::LOST_ONE_IN) is lost on its way.
    Live {
        /// Kinds without a target are left out.
        mix: Mix,
        /// Decides which apps and people there are.
        seed: u64,
    },
    /// These datagrams in their order, again from the start if [`Load::count`] asks for more.
    Recorded(Vec<Recorded>),
}

/// What was sent: what the kernel accepted, which is not what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events by [`Listener`].
    pub by_listener: [u64; Listener::COUNT],
    /// Events by [`Kind`], of those whose kind is known.
    pub by_kind: [u64; Kind::COUNT],
    /// Bytes of payload.
    pub bytes: u64,
    /// Events that an incident kept from being sent; no part of the others.
    pub lost: u64,
    /// Times that the target's host answered that nobody listens on the port; at least as many
    /// events are lost.
    pub refused: u64,
    /// Times that the kernel had no room for a datagram and sending was held up.
    pub waits: u64,
    /// From the first event to the last.
    pub elapsed: Duration,
}

impl Report {
    /// All events.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.by_listener.iter().sum()
    }

    /// Events per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn rate(&self) -> f64 {
        self.sent() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// As JSON the report has `sent`, `bytes`, `seconds`, `user`, `log` and `refused`.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("Report", 6)?;
        report.serialize_field("sent", &self.sent())?;
        report.serialize_field("bytes", &self.bytes)?;
        report.serialize_field("seconds", &self.elapsed.as_secs_f64())?;
        report.serialize_field("user", &self.by_listener[Listener::UserEvents as usize])?;
        report.serialize_field("log", &self.by_listener[Listener::LogEvents as usize])?;
        report.serialize_field("refused", &self.refused)?;
        report.end()
    }
}

/// Why a load cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No source address.
    #[error(
        "cannot send from {address}: {error}; on systems that know 127.0.0.1 only, add the address \
         to the loopback interface or use one source"
    )]
    Bind {
        /// The address.
        address: IpAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// The system refuses to send.
    #[error("cannot send to {target}: {error}")]
    Send {
        /// Where to.
        target: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// Nothing to send.
    #[error("there is nothing to send: {0}")]
    Nothing(&'static str),
    /// A file of recorded events cannot be read.
    #[error("{}, line {line}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 when the file cannot be read at all.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Load {
    /// Sends until the limits are reached or `stop` is set. `progress` is called about ten times a
    /// second.
    pub fn run(
        &self,
        stop: &AtomicBool,
        mut progress: impl FnMut(&Report),
    ) -> Result<Report, LoadError> {
        let mut feed = self.feed()?;
        let mut lanes = Lanes::connect(self)?;
        let mut report = Report::default();
        let limit = self.limit();
        let mut schedule = Schedule::new(self.pace);
        let start = Instant::now();
        let mut told = start;
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let elapsed = now - start;
            if now - told >= PROGRESS {
                progress(&report);
                told = now;
            }
            let sent = report.sent();
            let timed_out = limit == u64::MAX && self.duration.is_some_and(|end| elapsed >= end);
            if sent >= limit || timed_out {
                break;
            }
            let due = schedule.due(elapsed).min(limit).saturating_sub(sent);
            if due == 0 {
                thread::sleep(schedule.sleep(sent, elapsed));
                continue;
            }
            feed.begin_round();
            if let Pace::WorkingDay(day) = self.pace {
                feed.feel(day.mood(elapsed));
            }
            for _ in 0..due.min(ROUND) {
                feed.push_next(&mut lanes, &mut report)?;
            }
            lanes.flush(&mut report)?;
            report.elapsed = start.elapsed();
        }
        progress(&report);
        Ok(report)
    }

    /// The number of events after which to stop; a duration at a steady pace is a number too.
    #[must_use]
    pub fn limit(&self) -> u64 {
        match (self.count, self.duration, self.pace, &self.events) {
            (Some(count), ..) => count,
            (None, Some(duration), Pace::Steady(rate), _) => Schedule::steady(rate, duration),
            (None, None, _, Events::Recorded(events)) => events.len() as u64,
            _ => u64::MAX,
        }
    }

    fn feed(&self) -> Result<Feed<'_>, LoadError> {
        match &self.events {
            Events::Recorded(events) if events.is_empty() => {
                Err(LoadError::Nothing("the file has no events"))
            }
            Events::Recorded(events) => Ok(Feed::Recorded { events, next: 0, lane: 0 }),
            Events::Cluster { mix, seed } => {
                let cluster = self.cluster(mix, seed.unwrap_or_else(now_ms))?;
                Ok(Feed::Cluster(Box::new(cluster), seed.map(|_| 0)))
            }
            Events::Live { mix, seed } => {
                Ok(Feed::Cluster(Box::new(self.cluster(mix, *seed)?), None))
            }
        }
    }

    fn cluster(&self, mix: &Mix, seed: u64) -> Result<Cluster, LoadError> {
        let mix = match (self.user, self.log) {
            (Some(_), Some(_)) => *mix,
            (Some(_), None) => mix.only(Listener::UserEvents),
            (None, _) => mix.only(Listener::LogEvents),
        };
        if Listener::ALL.iter().all(|&listener| !mix.has(listener)) {
            return Err(LoadError::Nothing("the mix has no events for this target"));
        }
        Ok(Cluster::new(seed, mix, self.sources))
    }
}

/// Where the next datagram comes from.
enum Feed<'a> {
    /// With a seed: the number of events so far, from which their time follows.
    Cluster(Box<Cluster>, Option<u64>),
    Recorded {
        events: &'a [Recorded],
        next: usize,
        /// The lane that was used last.
        lane: usize,
    },
}

impl Feed<'_> {
    /// Without a seed, the events up to the next call carry the present time.
    fn begin_round(&mut self) {
        if let Self::Cluster(cluster, None) = self {
            cluster.set_time(now_ms());
        }
    }

    /// Sets what the cluster goes through.
    fn feel(&mut self, mood: Mood) {
        if let Self::Cluster(cluster, _) = self {
            cluster.set_mood(mood);
        }
    }

    fn push_next(&mut self, lanes: &mut Lanes, report: &mut Report) -> Result<(), LoadError> {
        match self {
            Self::Cluster(cluster, seeded) => {
                if let Some(written) = seeded {
                    cluster.set_time(MONDAY_MORNING_MS + *written * 1000 / SEEDED_RATE);
                    *written += 1;
                }
                let mut origin = cluster.advance();
                while cluster.loses(origin) {
                    report.lost += 1;
                    origin = cluster.advance();
                }
                let lane = lanes.index(origin.server, origin.kind.listener());
                lanes.room(lane, report)?.push(Some(origin.kind), |out| cluster.write(origin, out));
            }
            Self::Recorded { events, next, lane } => {
                let event = &events[*next % events.len()];
                *next += 1;
                let previous = std::mem::replace(lane, lanes.index(0, event.listener));
                if previous != *lane {
                    // Recorded events keep their order across ports.
                    lanes.all[previous].flush(report)?;
                }
                let kind = event.kind();
                lanes.room(*lane, report)?.push(kind, |out| out.extend_from_slice(&event.payload));
            }
        }
        Ok(())
    }
}

/// One lane per source and target.
struct Lanes {
    all: Vec<Lane>,
    /// Lanes of each source.
    per_source: usize,
    /// Which of a source's lanes a listener's events take.
    route: [usize; Listener::COUNT],
}

impl Lanes {
    fn connect(load: &Load) -> Result<Self, LoadError> {
        let targets: Vec<_> = [(Listener::UserEvents, load.user), (Listener::LogEvents, load.log)]
            .into_iter()
            .filter_map(|(listener, target)| Some((listener, target?)))
            .collect();
        if targets.is_empty() {
            return Err(LoadError::Nothing("no target is given"));
        }
        let sources = load.sources.clamp(1, SERVERS_MAX);
        let mut all = Vec::with_capacity(usize::from(sources) * targets.len());
        for source in 1..=sources {
            for &(listener, target) in &targets {
                let own_address = sources > 1 && target.ip().is_loopback();
                all.push(Lane::connect(target, listener, own_address.then_some(source))?);
            }
        }
        // With one target, all lanes of a source are the first.
        let route = [0, targets.len() - 1];
        Ok(Self { all, per_source: targets.len(), route })
    }

    fn index(&self, source: usize, listener: Listener) -> usize {
        source * self.per_source + self.route[listener as usize]
    }

    /// A lane that has room for one more datagram.
    fn room(&mut self, lane: usize, report: &mut Report) -> Result<&mut Lane, LoadError> {
        let lane = &mut self.all[lane];
        if lane.is_full() {
            lane.flush(report)?;
        }
        Ok(lane)
    }

    fn flush(&mut self, report: &mut Report) -> Result<(), LoadError> {
        self.all.iter_mut().try_for_each(|lane| lane.flush(report))
    }
}

/// The present time in ms since 1970; a clock before that counts as 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
