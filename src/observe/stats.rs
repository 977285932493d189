//! What the endpoints show, collected once per request: the ledger, the kernel's drops, health.
//!
//! [`Stats`] is the JSON of `/api/stats`, and the metrics are rendered from the same value, so the
//! two cannot disagree.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::event_lines;
use super::health::{Health, Report};
use super::histogram::{Distribution, Latency};
use super::ledger::{DestinationSnapshot, Ledger, ListenerSnapshot, Losses};
use super::logging;
use super::series::{Series, SeriesStats};
use super::tap;
use crate::enrich::AppNames;
use crate::event::{Kind, Listener};

/// What only the receive side can say about its sockets.
pub trait Sockets: fmt::Debug + Send + Sync {
    /// Datagrams that the kernel dropped on the listener's sockets since the start; never falls.
    fn kernel_dropped(&self, listener: Listener) -> u64;

    /// Size of the listener's receive buffers as the kernel granted it, over all its sockets.
    fn buffer_bytes(&self, listener: Listener) -> u64;

    /// Whether the listener's queue is above its `backpressureThreshold`.
    fn backpressure(&self, listener: Listener) -> bool;

    /// Datagrams counted in the listener's current window of the rate limit; 0 without one.
    fn rate_limit_current(&self, _listener: Listener) -> u64 {
        0
    }

    /// What the receivers did, by name: calls, requests made anew, pauses, completions lost, errors.
    fn receive_events(&self) -> Vec<(&'static str, u64)>;
}

/// Everything that the endpoints read. Shared by the engine and the console.
#[derive(Debug)]
pub struct State {
    /// Receive backend in use: `io_uring` or `tokio`.
    pub backend: &'static str,
    /// Where the events are.
    pub ledger: Arc<Ledger>,
    /// Whether the engine works.
    pub health: Health,
    /// How long events take.
    pub latency: Arc<Latency>,
    /// The kernel's side of the listeners.
    pub sockets: Box<dyn Sockets>,
    /// When the engine started.
    pub started: SystemTime,
    /// Samples of single events, for whoever takes them first.
    pub taps: tap::Readers,
    /// Names of apps.
    pub app_names: Arc<ArcSwap<AppNames>>,
    /// The series that InfluxDB gets; empty without it.
    pub series: Arc<Series>,
}

/// A JSON object with its members in a fixed order.
#[derive(Clone, Debug)]
pub struct Named<K, V>(pub Vec<(K, V)>);

impl<K: AsRef<str>, V: Serialize> Serialize for Named<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name.as_ref(), value)?;
        }
        map.end()
    }
}

/// The state of every part at one moment; serialises to `/api/stats` (see `docs/http.md`).
#[derive(Clone, Debug, serde::Serialize)]
pub struct Stats {
    /// Version of Ringside.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_s: f64,
    /// Receive backend in use.
    pub backend: &'static str,
    /// What `/health` says.
    pub healthy: bool,
    /// What the receivers did, all together.
    pub receive: Named<&'static str, u64>,
    /// Both listeners, whether in use or not.
    pub listeners: Named<&'static str, ListenerStats>,
    /// The enabled destinations.
    pub destinations: Named<String, DestinationStats>,
    /// Ringside's own points, per destination that gets them; no events among them.
    pub own_points: Named<String, DestinationStats>,
    /// The series that InfluxDB gets of each measurement of events, estimated since the start.
    pub series: Named<&'static str, SeriesStats>,
    /// Latencies per stage.
    pub latency: Named<&'static str, LatencyStats>,
    /// The engine's threads.
    pub threads: Named<String, ThreadStats>,
    /// Log lines that are missing, by reason: events over the limit of a second, and lines that are in
    /// no file.
    pub log_lines_lost: Named<&'static str, u64>,
    /// Seconds from 1970 to the start.
    #[serde(skip)]
    pub started_s: f64,
}

/// One listener.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ListenerStats {
    /// The ledger's part.
    #[serde(flatten)]
    pub counts: ListenerSnapshot,
    /// Datagrams that the kernel dropped before Ringside saw them.
    pub kernel_dropped: u64,
    /// Events that never reached a shard, estimated from gaps in row numbers; see [`crate::upstream`].
    pub upstream_lost_estimate: u64,
    /// Accepted events per message type.
    pub accepted_by_source: Named<&'static str, u64>,
    /// Whether the queue is above its `backpressureThreshold`.
    pub backpressure: bool,
    /// Granted receive buffer.
    pub socket_buffer_bytes: u64,
    /// Where it is bound; `null` when it is not.
    pub address: Option<SocketAddr>,
}

/// One destination.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DestinationStats {
    /// Events encoded for it.
    pub assigned: u64,
    /// Events acknowledged.
    pub delivered: u64,
    /// Events on their way in memory.
    pub in_flight: u64,
    /// Events on disk.
    pub spooled: u64,
    /// Events that will not be delivered.
    pub dropped: Losses,
    /// Batches acknowledged.
    pub batches: u64,
    /// Sends tried again.
    pub retries: u64,
    /// Bytes sent, after compression.
    pub sent_bytes: u64,
    /// Bytes on disk.
    pub spool_bytes: u64,
    /// Age of the oldest event that waits, in memory or on disk; 0 when none does.
    pub oldest_s: f64,
    /// Why it does not work at the moment; `null` when it does.
    pub last_error: Option<String>,
}

/// One stage of [`Latency`].
#[derive(Clone, Debug, serde::Serialize)]
pub struct LatencyStats {
    /// Half of the events took at most this long.
    pub p50_s: Option<f64>,
    /// 99 of 100 events took at most this long.
    pub p99_s: Option<f64>,
    /// All buckets.
    #[serde(skip)]
    pub distribution: Distribution,
}

/// One thread.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ThreadStats {
    /// Seconds since its last beat.
    pub beat_age_s: f64,
    /// Whether that is short enough.
    pub alive: bool,
}

impl Stats {
    /// The state now.
    #[must_use]
    pub fn read(state: &State) -> Self {
        let uptime = state.health.now();
        let started = since_epoch(state.started);
        // The uptime is monotonic, the wall clock may be set: only ages of events need the latter.
        Self::read_at(state, uptime, started, since_epoch(SystemTime::now()))
    }

    fn read_at(state: &State, uptime: Duration, started: Duration, wall: Duration) -> Self {
        let snapshot = state.ledger.snapshot();
        let report = state.health.report(uptime);
        let listeners =
            Listener::ALL.into_iter().zip(snapshot.listeners).map(|(listener, counts)| {
                (listener.name(), ListenerStats::new(state, &report, listener, counts))
            });
        let destinations = |snapshots: Vec<DestinationSnapshot>| {
            let rows = snapshots.into_iter().map(|destination| {
                (destination.name.clone(), DestinationStats::new(destination, wall))
            });
            Named(rows.collect())
        };
        let latency = state
            .latency
            .stages()
            .map(|(stage, distribution)| (stage, LatencyStats::new(distribution)));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: seconds(uptime),
            backend: state.backend,
            healthy: report.healthy(),
            receive: Named(state.sockets.receive_events()),
            listeners: Named(listeners.collect()),
            destinations: destinations(snapshot.destinations),
            own_points: destinations(snapshot.own_points),
            series: state.series.stats(),
            latency: Named(latency.into()),
            threads: ThreadStats::of(&report),
            log_lines_lost: Named(vec![
                ("event_limit", event_lines::left_out()),
                ("files", logging::lost_in_files()),
            ]),
            started_s: seconds(started),
        }
    }
}

impl ListenerStats {
    fn new(state: &State, report: &Report, listener: Listener, counts: ListenerSnapshot) -> Self {
        let by_source = Kind::ALL
            .into_iter()
            .filter(|kind| kind.listener() == listener)
            .map(|kind| (kind.name(), counts.accepted_by_kind[kind as usize]))
            .collect();
        let address = report.listeners.iter().find(|(l, _)| *l == listener).and_then(|(_, a)| *a);
        Self {
            kernel_dropped: state.sockets.kernel_dropped(listener),
            upstream_lost_estimate: counts.upstream_lost,
            counts,
            accepted_by_source: Named(by_source),
            backpressure: state.sockets.backpressure(listener),
            socket_buffer_bytes: state.sockets.buffer_bytes(listener),
            address,
        }
    }
}

impl DestinationStats {
    fn new(snapshot: DestinationSnapshot, wall: Duration) -> Self {
        let counts = snapshot.counts;
        let oldest = match counts.oldest_ns {
            0 => Duration::ZERO,
            received_ns => wall.saturating_sub(Duration::from_nanos(received_ns)),
        };
        Self {
            assigned: snapshot.assigned,
            delivered: counts.delivered,
            in_flight: snapshot.in_flight,
            spooled: counts.spooled,
            dropped: snapshot.dropped,
            batches: counts.batches,
            retries: counts.retries,
            sent_bytes: counts.bytes,
            spool_bytes: counts.spool_bytes,
            oldest_s: seconds(oldest),
            last_error: snapshot.last_error,
        }
    }
}

impl LatencyStats {
    fn new(distribution: Distribution) -> Self {
        Self {
            p50_s: distribution.quantile(0.5).map(|latency| latency.as_secs_f64()),
            p99_s: distribution.quantile(0.99).map(|latency| latency.as_secs_f64()),
            distribution,
        }
    }
}

impl ThreadStats {
    /// The threads of a report.
    #[must_use]
    pub fn of(report: &Report) -> Named<String, Self> {
        let threads = report.threads.iter().map(|thread| {
            let stats = Self { beat_age_s: seconds(thread.age), alive: thread.alive };
            (thread.name.clone(), stats)
        });
        Named(threads.collect())
    }
}

/// Seconds, to the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

/// Time since 1970; 0 before it.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::ledger::{
        AssignCounts, DeliverCounts, DropReason, LossReason, Note, ReceiveCounts, RejectReason,
        ShardCounts,
    };
    use crate::observe::series::{Measurement, Sketch};

    #[derive(Debug)]
    struct FixedSockets;

    impl Sockets for FixedSockets {
        fn kernel_dropped(&self, listener: Listener) -> u64 {
            31 + listener as u64
        }
        fn buffer_bytes(&self, _: Listener) -> u64 {
            67_108_864
        }
        fn backpressure(&self, listener: Listener) -> bool {
            listener == Listener::LogEvents
        }
        fn receive_events(&self) -> Vec<(&'static str, u64)> {
            vec![("calls", 7)]
        }
    }

    /// The wall clock of the tests.
    const WALL: Duration = Duration::from_secs(1_700_000_000);
    /// A minute before.
    const STARTED: Duration = Duration::from_secs(1_699_999_940);
    /// One and a half seconds before, in ns.
    const OLDEST_NS: u64 = 1_699_999_998_500_000_000;

    /// An engine with a number in every place, healthy, with one user-event listener and one thread.
    pub fn sample_state() -> State {
        let names = ["influxdb".into(), "new_relic:First \"A\"".into()];
        let ledger = Ledger::new(1, 1, &names).with_own_points("influxdb");
        let mut receive = ReceiveCounts { received: 100, handed: 90, ..Default::default() };
        receive.dropped.add(DropReason::RateLimit, 10);
        receive.clock_steps = 1;
        ledger.receivers[0][Listener::UserEvents as usize].publish(&receive);
        let mut shard = ShardCounts {
            taken: 80,
            routed: 60,
            unrouted: 5,
            upstream_lost: 4,
            ..Default::default()
        };
        shard.accepted[Kind::ProxySession as usize] = 65;
        shard.rejected.add(RejectReason::ExcludedUser, 15);
        shard.notes.add(Note::Short, 2);
        ledger.shards[0][Listener::UserEvents as usize].publish(&shard);
        let destination = &ledger.destinations[0];
        destination.assigned[0].publish(&AssignCounts {
            assigned: 60,
            sent: 50,
            shutdown: 0,
            overflow: 7,
            open: 3,
        });
        let mut deliver = DeliverCounts { taken: 45, delivered: 40, held: 4, ..Default::default() };
        deliver.lost.add(LossReason::Refused, 1);
        (deliver.batches, deliver.retries, deliver.bytes) = (6, 2, 4_096);
        deliver.oldest_ns = OLDEST_NS;
        destination.delivered.publish(&deliver);
        destination.last_error.set(Some("no route to <b>host</b>".into()));

        let points = &ledger.own_points[0];
        points.assigned[0].publish(&AssignCounts { assigned: 9, sent: 9, ..Default::default() });
        let mut deliver = DeliverCounts { taken: 9, delivered: 4, held: 3, ..Default::default() };
        deliver.lost.add(LossReason::Refused, 2);
        deliver.oldest_ns = OLDEST_NS;
        points.delivered.publish(&deliver);

        let mut health = Health::default();
        health.add_listener(Listener::UserEvents).set("127.0.0.1:9997".parse().unwrap());
        health.add_thread("rx-0").touch();
        let latency = Latency::default();
        latency.batch[Listener::UserEvents as usize].record(400_000, 60);
        latency.delivered.record(1_200_000_000, 40);
        State {
            backend: "io_uring",
            ledger: Arc::new(ledger),
            health,
            latency: Arc::new(latency),
            sockets: Box::new(FixedSockets),
            started: SystemTime::UNIX_EPOCH + STARTED,
            taps: tap::Readers::default(),
            app_names: Arc::default(),
            series: Arc::new(sample_series()),
        }
    }

    /// Two series, which one tag makes.
    fn sample_series() -> Series {
        let tags = vec![("host".into(), Sketch::default())];
        let measurement = Measurement { name: "log_event", sets: Sketch::default(), tags };
        for hash in [1 << 60, 1 << 61] {
            measurement.sets.add(hash);
            measurement.tags[0].1.add(hash);
        }
        Series(vec![measurement])
    }

    /// What `sample_state` shows a minute after its start.
    pub fn sample_stats() -> Stats {
        Stats::read_at(&sample_state(), Duration::from_mins(1), STARTED, WALL)
    }

    fn without(mut value: Value, members: &[&str]) -> Value {
        for member in members {
            assert!(value.as_object_mut().unwrap().remove(*member).is_some(), "{member}");
        }
        value
    }

    #[test]
    fn the_json_has_its_promised_shape() {
        let value = serde_json::to_value(sample_stats()).unwrap();
        assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(value["uptime_s"], 60.0);
        assert_eq!(value["backend"], "io_uring");
        let beside = ["accepted_by_source", "backpressure", "socket_buffer_bytes", "address"];
        let user = &value["listeners"]["user_events"];
        assert_eq!(
            without(user.clone(), &beside),
            json!({
                "received": 100, "queued": 10, "parsed": 80, "accepted": 65,
                "routed": 60, "unrouted": 5, "kernel_dropped": 31, "upstream_lost_estimate": 4,
                "dropped": {
                    "source_denied": 0, "size": 0, "rate_limit": 10, "queue_full": 0,
                    "shutdown": 0, "crash": 0
                },
                "rejected": {
                    "empty": 0, "unknown_type": 0, "source_disabled": 0, "excluded_user": 15,
                    "filter": 0, "category_drop": 0, "malformed": 0
                },
                "notes": {
                    "short": 2, "surplus": 0, "ambiguous": 0, "invalid_utf8": 0, "clock_steps": 1
                },
            })
        );
        assert_eq!(
            user["accepted_by_source"],
            json!({ "qseow-proxy-session": 65, "qseow-proxy-connection": 0 })
        );
        assert_eq!(user["address"], "127.0.0.1:9997");
        assert_eq!(value["listeners"]["log_events"]["kernel_dropped"], 32);
        assert_eq!(value["listeners"]["log_events"]["address"], Value::Null);
        assert_eq!(
            without(value["destinations"]["influxdb"].clone(), &["sent_bytes", "spool_bytes"]),
            json!({
                "assigned": 60, "delivered": 40, "in_flight": 12, "spooled": 0,
                "dropped": {
                    "refused": 1, "expired": 0, "overflow": 7, "spool_full": 0, "shutdown": 0,
                    "crash": 0
                },
                "batches": 6, "retries": 2, "oldest_s": 1.5,
                "last_error": "no route to <b>host</b>"
            })
        );
        let series = json!({ "log_event": { "series": 2, "tags": { "host": 2 } } });
        assert_eq!(value["series"], series);
        let idle = &value["destinations"]["new_relic:First \"A\""];
        assert_eq!((&idle["oldest_s"], &idle["last_error"]), (&json!(0.0), &Value::Null));
    }

    #[test]
    fn a_stalled_thread_shows() {
        let stats = sample_stats();
        assert!(!stats.healthy, "a minute without a beat");
        assert!(!stats.threads.0[0].1.alive);
        assert!(Stats::read(&sample_state()).healthy);
    }
}
