//! The future that makes points of counts and states, and sends them to `InfluxDB`.
//!
//! Points go through a batch queue and a dispatch like events, but of their own. While that queue is
//! full, which takes an outage of many intervals, counts are kept and written later, and states of the
//! moment are left out.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::errors::Errors;
use super::queue::{self, QueueState};
use super::tally::{Collector, Counts};
use super::uptime::Memory;
use super::{CountSettings, Settings, Tally, host_name};
use crate::deliver::batch::{self, Batch, BatchSender, Buffer};
use crate::deliver::influxdb::Version;
use crate::deliver::influxdb::point::{Point, Value};
use crate::deliver::{Clock, Served, clock::SystemClock};
use crate::event::{Kind, Listener};
use crate::observe::histogram::Latency;
use crate::observe::ledger::{AssignCounts, DestinationLedger, Ledger};
use crate::observe::stats::Sockets;

/// Name of the row in the ledger.
pub const DESTINATION: &str = "influxdb";

/// The writer looks this often at what is due and at whether the shards have ended; shorter only
/// where a frequency is. Counts that shards hand over at about the same time become one point.
const POLL: Duration = Duration::from_millis(200);

/// No frequency makes the writer look more often than this.
const POLL_MIN: Duration = Duration::from_millis(1);

/// Bytes of an empty batch: some hundred points.
const BATCH_BYTES: usize = 64 * 1024;

/// A batch leaves when it has this many points, the number that Butler SOS sends at once
/// (`maxBatchSize`).
const BATCH_POINTS: u32 = 1000;

/// What the writer reads.
#[derive(Debug)]
pub struct Sources {
    /// Listeners, and the row of the own points.
    pub ledger: Arc<Ledger>,
    /// Receive to encoded, per listener.
    pub latency: Arc<Latency>,
    /// Backpressure and rate limit.
    pub sockets: Box<dyn Sockets>,
}

impl Sources {
    /// The state of a listener's queue. What is the most since the last time begins anew.
    fn queue(&self, listener: Listener, collectors: &[Collector]) -> QueueState {
        let latency = &self.latency.batch[listener as usize];
        let [user, log] = self.ledger.snapshot().listeners;
        QueueState {
            counts: match listener {
                Listener::UserEvents => user,
                Listener::LogEvents => log,
            },
            latency: latency.snapshot(),
            latency_max_ns: latency.take_max_ns(),
            running: collectors.iter().map(|it| it.take_most_leases(listener)).sum(),
            rate_limit_current: self.sockets.rate_limit_current(listener),
            backpressure: self.sockets.backpressure(listener),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Writer {
    settings: Settings,
    collectors: Vec<Collector>,
    sources: Sources,
    /// What the first points begin with. Events may come before the deliver thread has begun.
    queues: [QueueState; Listener::COUNT],
}

impl Writer {
    /// A writer, and the tally of each shard.
    #[must_use]
    pub fn new(settings: Settings, shards: usize, sources: Sources) -> (Self, Vec<Tally>) {
        let (tallies, collectors) = settings.tallies(shards);
        (Self::of(settings, collectors, sources), tallies)
    }

    fn of(settings: Settings, collectors: Vec<Collector>, sources: Sources) -> Self {
        let queues = Listener::ALL.map(|listener| sources.queue(listener, &collectors));
        Self { settings, collectors, sources, queues }
    }

    /// Writes points until all shards have ended and every point has an outcome. Runs on the deliver
    /// thread.
    pub async fn run(mut self, given_up: watch::Receiver<bool>, uring: bool) {
        let clock = SystemClock::new();
        let row = self.sources.ledger.own_points.first().cloned();
        let (Some(sink), Some(row)) = (self.settings.influxdb.take(), row) else {
            return Points::new(self, None).write_all(&clock).await;
        };
        let (mut senders, batches) = batch::queue(1);
        let served = Served {
            batches,
            ledger: Arc::clone(&row),
            given_up,
            // How long events take is measured elsewhere.
            latency: Arc::default(),
            uring,
            in_flight: 1,
            // Counts of the past are worth little; events are what is kept.
            spool: None,
        };
        let outlet = senders.pop().map(|sender| Outlet {
            version: sink.version,
            sender,
            row,
            bytes: Buffer::with_capacity(BATCH_BYTES),
            points: 0,
            counts: AssignCounts::default(),
            last_ns: 0,
        });
        let points = Points::new(self, outlet);
        tokio::join!(points.write_all(&clock), served.run(sink.transport));
    }
}

/// What has been collected and written so far.
struct Points {
    settings: Settings,
    collectors: Vec<Collector>,
    sources: Sources,
    outlet: Option<Outlet>,
    host: String,
    counts: Counts,
    /// When `counts` leave; `None` while they are empty.
    counts_due: Option<Duration>,
    queues: [QueueState; Listener::COUNT],
    queues_due: [Duration; Listener::COUNT],
    uptime_due: Duration,
    errors: Option<Errors>,
}

impl Points {
    fn new(writer: Writer, outlet: Option<Outlet>) -> Self {
        let Writer { mut settings, collectors, sources, queues } = writer;
        Self {
            queues_due: [0, 1]
                .map(|i| settings.queues[i].as_ref().map_or(Duration::MAX, |q| q.every)),
            uptime_due: settings
                .uptime
                .as_ref()
                .map_or(Duration::MAX, |uptime| uptime.schedule.until_next(SystemTime::now())),
            errors: settings.errors.take().map(|errors| Errors::new(errors, &sources.ledger)),
            settings,
            collectors,
            sources,
            outlet,
            host: host_name(),
            counts: Counts::default(),
            counts_due: None,
            queues,
        }
    }

    async fn write_all(mut self, clock: &SystemClock) {
        let poll = self.poll();
        loop {
            // Asked before the rings are read: what a shard handed over before it ended is there.
            let ended = self.collectors.iter().all(Collector::ended);
            self.turn(clock.now(), clock.wall_ns(), ended);
            if ended && self.is_empty() {
                return;
            }
            clock.sleep(poll).await;
        }
    }

    /// Whether all that was collected has been handed over.
    fn is_empty(&self) -> bool {
        self.outlet.as_ref().is_none_or(Outlet::is_empty)
            && self.counts.is_empty()
            && self.errors.as_ref().is_none_or(Errors::is_empty)
    }

    /// Time between two turns.
    fn poll(&self) -> Duration {
        let queues = self.settings.queues.iter().flatten().map(|queue| queue.every);
        let counts = self.settings.counts.iter().map(|counts| counts.every);
        queues.chain(counts).fold(POLL, Duration::min).max(POLL_MIN)
    }

    /// Collects, and writes what is due; at the end everything.
    fn turn(&mut self, now: Duration, wall_ns: u64, ended: bool) {
        let poll = self.poll();
        for collector in &mut self.collectors {
            if collector.collect(&mut self.counts) && self.counts_due.is_none() {
                self.counts_due = Some(now + poll);
            }
        }
        if self.uptime_due <= now {
            self.write_uptime(now, wall_ns);
        }
        for listener in Listener::ALL {
            let due = &mut self.queues_due[listener as usize];
            if *due <= now || (ended && *due < Duration::MAX) {
                let every = self.settings.queues[listener as usize].as_ref().map(|q| q.every);
                *due = if ended { Duration::MAX } else { every.map_or(Duration::MAX, |e| now + e) };
                self.write_queue(listener, wall_ns);
            }
        }
        if self.counts_due.is_some_and(|due| due <= now || ended) {
            self.write_counts(wall_ns);
        }
        self.write_errors(now, wall_ns, ended);
        if let Some(outlet) = &mut self.outlet {
            outlet.hand_over(wall_ns);
        }
    }

    fn write_counts(&mut self, wall_ns: u64) {
        let (Some(outlet), Some(settings)) = (&mut self.outlet, &self.settings.counts) else {
            return;
        };
        if outlet.write_counts(&self.counts, settings, wall_ns) {
            self.counts.reset();
            self.counts_due = None;
        }
    }

    /// Without room the point is left out, and the next one covers its time too.
    fn write_queue(&mut self, listener: Listener, wall_ns: u64) {
        if self.outlet.as_ref().is_none_or(|outlet| !outlet.sender.has_room()) {
            return;
        }
        let now = self.sources.queue(listener, &self.collectors);
        let before = mem::replace(&mut self.queues[listener as usize], now.clone());
        let settings = &self.settings.queues[listener as usize];
        if let (Some(outlet), Some(settings)) = (&mut self.outlet, settings) {
            let fields = queue::fields(settings, &before, &now);
            outlet.write(&queue::point(settings, listener, &self.host, fields), wall_ns);
        }
    }

    fn write_uptime(&mut self, now: Duration, wall_ns: u64) {
        let Some(settings) = &self.settings.uptime else { return };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_nanos(wall_ns);
        self.uptime_due = now + settings.schedule.until_next(wall);
        let memory = Memory::read();
        memory.log(settings.level, now);
        if let (Some(outlet), Some(instance)) = (&mut self.outlet, &settings.instance)
            && outlet.sender.has_room()
        {
            outlet.write(&memory.point(instance), wall_ns);
        }
    }

    fn write_errors(&mut self, now: Duration, wall_ns: u64, ended: bool) {
        let Some(errors) = &mut self.errors else { return };
        errors.collect(&self.sources.ledger, ended);
        if let Some(summary) = errors.summary(now, wall_ns, ended) {
            tracing::info!("{summary}");
        }
        if errors.is_due(now, ended) && self.outlet.as_ref().is_none_or(|it| it.sender.has_room()) {
            if let Some(outlet) = &mut self.outlet {
                for point in errors.points() {
                    let time_ns = outlet.unused_ns(wall_ns);
                    outlet.write(&point, time_ns);
                }
            }
            errors.written(now);
        }
    }
}

/// The way to `InfluxDB`.
struct Outlet {
    version: Version,
    sender: BatchSender,
    row: Arc<DestinationLedger>,
    bytes: Buffer,
    points: u32,
    counts: AssignCounts,
    /// See [`Self::unused_ns`].
    last_ns: u64,
}

impl Outlet {
    fn is_empty(&self) -> bool {
        self.points == 0
    }

    fn write(&mut self, point: &Point<'_>, time_ns: u64) {
        let points = point.write(self.version, time_ns, &mut self.bytes);
        self.points += points;
        self.counts.assigned += u64::from(points);
        self.counts.open += u64::from(points);
        if self.points >= BATCH_POINTS {
            self.hand_over(time_ns);
        }
    }

    /// The time, moved on where it is taken: of points of one series with one time, only the last
    /// would stay.
    fn unused_ns(&mut self, wall_ns: u64) -> u64 {
        self.last_ns = wall_ns.max(self.last_ns + 1);
        self.last_ns
    }

    /// Writes all series; false when there is no room for more at the moment.
    fn write_counts(&mut self, counts: &Counts, settings: &CountSettings, wall_ns: u64) -> bool {
        if !self.sender.has_room() {
            return false;
        }
        let time_ns = self.unused_ns(wall_ns);
        if let Some(settings) = &settings.received {
            for series in counts.received.counted() {
                let [event_type, source, host, subsystem] = series.texts.each_ref();
                let point = Point::new(&settings.measurement)
                    .tag("event_type", event_type)
                    .tag("source", source)
                    .tag("host", host)
                    .tag("subsystem", subsystem)
                    .tags(&settings.tags)
                    .field("counter", Value::Count(series.count));
                self.write(&point, time_ns);
            }
        }
        if let Some(settings) = &settings.rejected {
            for series in counts.rejected.counted() {
                let [app_id, app_name, method, object_type] = series.texts.each_ref();
                let point = Point::new(&settings.measurement)
                    .tag("source", Kind::QixPerf.name())
                    .tag("app_id", app_id)
                    .tag("method", method)
                    .tag("object_type", object_type)
                    .tag("app_name", app_name)
                    .tag("app_name_set", if app_name.is_empty() { "false" } else { "true" })
                    .tags(&settings.tags)
                    .field("counter", Value::Count(series.count))
                    .field("process_time", Value::Number(series.process_time));
                self.write(&point, time_ns);
            }
        }
        true
    }

    /// Hands the open batch to the dispatch, if there is room; else it stays open and grows by no more
    /// than one round of [`Self::write_counts`].
    fn hand_over(&mut self, oldest_ns: u64) {
        if self.points > 0 && self.sender.has_room() {
            let bytes = std::mem::replace(&mut self.bytes, self.sender.buffer(BATCH_BYTES));
            let events = std::mem::take(&mut self.points);
            self.counts.open = 0;
            self.counts.sent += u64::from(events);
            // Published before the batch can be taken, so that no reader sees it taken before sent.
            self.row.assigned[0].publish(&self.counts);
            let batch = Batch { bytes: bytes.freeze(), events, oldest_ns, shard: 0 };
            if self.sender.try_send(batch).is_err() {
                // The dispatch has given up because the time to shut down is over.
                self.counts.sent -= u64::from(events);
                self.counts.shutdown += u64::from(events);
            }
        }
        self.row.assigned[0].publish(&self.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::SeriesSettings;
    use crate::counters::queue::QueueSettings;
    use crate::counters::tally::{TallySettings, pair};
    use crate::deliver::batch::BatchReceiver;
    use crate::observe::ledger::ReceiveCounts;

    #[derive(Debug)]
    struct NoSockets;

    impl Sockets for NoSockets {
        fn kernel_dropped(&self, _: Listener) -> u64 {
            0
        }
        fn buffer_bytes(&self, _: Listener) -> u64 {
            0
        }
        fn backpressure(&self, _: Listener) -> bool {
            false
        }
        fn receive_events(&self) -> Vec<(&'static str, u64)> {
            Vec::new()
        }
    }

    const EVERY: Duration = Duration::from_secs(20);

    fn series(measurement: &str) -> SeriesSettings {
        let tags = vec![("qs_env".into(), "dev".into())];
        SeriesSettings { measurement: measurement.into(), tags }
    }

    fn settings() -> Settings {
        Settings {
            counts: Some(CountSettings {
                every: EVERY,
                received: Some(series("event_count")),
                rejected: Some(series("rejected_event_count")),
            }),
            queues: [
                None,
                Some(QueueSettings {
                    every: EVERY,
                    series: series("log_queue"),
                    max_size: 200,
                    capacity: 210,
                }),
            ],
            ..Settings::default()
        }
    }

    /// Points of two shards into a queue that nobody sends from.
    fn bench(version: Version) -> (Points, Vec<Tally>, BatchReceiver) {
        bench_after(version, |_| {})
    }

    /// The same, with something that happens before the writer begins.
    fn bench_after(
        version: Version,
        before: impl FnOnce(&Ledger),
    ) -> (Points, Vec<Tally>, BatchReceiver) {
        let ledger = Arc::new(Ledger::new(1, 2, &[]).with_own_points(DESTINATION));
        let (mut senders, batches) = batch::queue(1);
        let outlet = Outlet {
            version,
            sender: senders.remove(0),
            row: Arc::clone(&ledger.own_points[0]),
            bytes: Buffer::default(),
            points: 0,
            counts: AssignCounts::default(),
            last_ns: 0,
        };
        let sources = Sources { ledger, latency: Arc::default(), sockets: Box::new(NoSockets) };
        let tally = TallySettings { received: true, rejected: true, every: EVERY };
        let (tallies, collectors) = (0..2).map(|_| pair(tally)).unzip();
        let writer = Writer::of(settings(), collectors, sources);
        before(&writer.sources.ledger);
        (Points::new(writer, Some(outlet)), tallies, batches)
    }

    fn lines(batches: &mut BatchReceiver) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(batch) = batches.try_recv() {
            let text = String::from_utf8(batch.bytes.to_vec()).unwrap();
            assert_eq!(text.lines().count(), batch.events as usize);
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    }

    #[test]
    fn shards_that_hand_over_together_make_one_point() {
        for (version, whole) in [(Version::V1, ""), (Version::V2, "i"), (Version::V3, "i")] {
            let (mut points, mut tallies, mut batches) = bench(version);
            for tally in &mut tallies {
                tally.unknown(Listener::UserEvents, b"x");
                tally.end_turn(EVERY, [1, 0]);
            }
            points.turn(Duration::from_secs(1), 1, false);
            assert!(lines(&mut batches).is_empty(), "waits for the others");
            points.turn(Duration::from_secs(2), 7, false);
            assert_eq!(
                lines(&mut batches),
                [format!(
                    "event_count,event_type=user,source=Unknown,host=Unknown,subsystem=Unknown,\
                     qs_env=dev counter=2{whole} 7"
                )]
            );
            points.turn(Duration::from_secs(9), 9, false);
            assert!(lines(&mut batches).is_empty(), "counts are written once");
        }
    }

    #[test]
    fn what_comes_before_the_writer_begins_is_in_its_first_point() {
        let (mut points, _tallies, mut batches) = bench_after(Version::V1, |ledger| {
            let receive = ReceiveCounts { received: 7, handed: 7, ..Default::default() };
            ledger.receivers[0][Listener::LogEvents as usize].publish(&receive);
        });
        points.turn(EVERY, 1, false);
        let lines = lines(&mut batches);
        assert!(lines.iter().any(|line| line.contains("messages_received=7,")), "{lines:?}");
    }

    #[test]
    fn the_end_writes_what_there_is() {
        let (mut points, mut tallies, mut batches) = bench(Version::V2);
        tallies[1].unknown(Listener::UserEvents, b"x");
        assert!(tallies[1].flush());
        drop(tallies);
        points.turn(Duration::from_secs(1), 1, true);
        let lines = lines(&mut batches);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("log_queue,queue_type=log_events,host="), "{lines:?}");
        assert!(lines[1].ends_with("counter=1i 1"), "{lines:?}");
    }

    #[test]
    fn a_full_queue_keeps_counts_for_later() {
        let (mut points, mut tallies, mut batches) = bench(Version::V2);
        for second in 0..40 {
            tallies[0].unknown(Listener::UserEvents, b"x");
            assert!(tallies[0].flush());
            points.turn(Duration::from_secs(second), second, false);
        }
        let mut counted = 0;
        for second in 40..50 {
            for line in lines(&mut batches).iter().filter(|line| line.starts_with("event_count")) {
                let count = line.split("counter=").nth(1).unwrap().split('i').next().unwrap();
                counted += count.parse::<u64>().unwrap();
            }
            points.turn(Duration::from_secs(second), second, false);
        }
        assert_eq!(counted, 40);
        let row = &points.sources.ledger.snapshot().own_points[0];
        assert_eq!(row.assigned, row.in_flight, "nobody acknowledged any");
    }
}
