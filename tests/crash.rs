//! Killed again and again under load: what the spool had is delivered, and the rest is accounted for.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use ringside::deliver::spool::record;
use ringside::deliver::spool::segment::{self, PREFIX, Walk};
use support::numbered::{Stream, long_event, numbers};
use support::sink::{Options, Reply, Request, Sink};
use support::{Config, Ringside, number};

/// Rounds, unless `RINGSIDE_ROUNDS` says otherwise.
const ROUNDS: u64 = 10;

/// Events of a round; those of a round without a destination are several records.
const EVENTS: u64 = 1_500;

/// The number of lost events is promised to within 100 ms of traffic; other tests keep the processors
/// busy.
const PRECISION: Duration = Duration::from_millis(500);

/// What was accepted, and when.
type Accepted = Arc<Mutex<Vec<(Instant, u64)>>>;

/// A sink that can refuse.
struct Moody {
    sink: Sink,
    accepts: Arc<AtomicBool>,
    accepted: Accepted,
}

impl Moody {
    fn start() -> Self {
        let (accepts, accepted) = (Arc::new(AtomicBool::new(true)), Accepted::default());
        let (flag, book) = (Arc::clone(&accepts), Arc::clone(&accepted));
        let answer = move |request: &Request| {
            if request.path.contains("/write") {
                // Under the lock, so that nothing is accepted once `accept(false)` has returned.
                let mut book = book.lock().unwrap();
                if !flag.load(Ordering::Acquire) {
                    return Reply::status(503);
                }
                book.extend(numbers(request.text()).map(|number| (request.at, number)));
            }
            Reply::status(204)
        };
        let options = Options { answer: Some(Arc::new(answer)), ..Options::default() };
        Self { sink: Sink::start(options), accepts, accepted }
    }

    fn accept(&self, accept: bool) {
        let _book = self.accepted.lock().unwrap();
        self.accepts.store(accept, Ordering::Release);
    }

    fn accepted(&self) -> Vec<(Instant, u64)> {
        self.accepted.lock().unwrap().clone()
    }
}

/// What segments hold on disk at the moment.
#[derive(Default)]
struct OnDisk {
    /// The numbers in whole records.
    events: BTreeSet<u64>,
    /// Of these, the events of records in segments that were written to within [`PRECISION`].
    fresh: u64,
}

/// Reads the spool of a process that has ended. Records are whole but for the last one of a segment
/// that was being written.
fn on_disk(spool: &Path, killed: SystemTime) -> OnDisk {
    let mut all = OnDisk::default();
    let folders = std::fs::read_dir(spool).expect("the spool").map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((first, end)) = segment::parse_name(name) else { continue };
            let bytes = std::fs::read(&path).expect("a segment");
            let written = path.metadata().and_then(|about| about.modified()).expect("its time");
            let mut next = first;
            let mut walk = Walk::new(&bytes, PREFIX, first..end.unwrap_or(u64::MAX));
            for found in walk.by_ref() {
                assert_eq!(found.header.sequence, next, "a gap in {}", path.display());
                next = found.header.end();
                let body = record::decode(&bytes[found.payload], found.header.events);
                let lines = body.expect("a whole record").lines;
                all.events.extend(numbers(std::str::from_utf8(&lines).expect("UTF-8")));
                if killed.duration_since(written).unwrap_or_default() < PRECISION {
                    all.fresh += u64::from(found.header.events);
                }
            }
            match end {
                Some(end) => assert_eq!(next, end, "a complete segment is whole"),
                None => assert!(bytes.len() < walk.at() + (1 << 20), "a torn record at most"),
            }
        }
    }
    all
}

/// The sum of what a run says that the run before it has lost.
fn crashed(ringside: &Ringside) -> u64 {
    let stats = ringside.stats();
    ["/destinations/influxdb", "/listeners/log_events"]
        .iter()
        .map(|place| number(&stats, &format!("{place}/dropped/crash")))
        .sum()
}

#[test]
fn killed_in_every_round() {
    let rounds = std::env::var("RINGSIDE_ROUNDS").map_or(ROUNDS, |n| n.parse().expect("a number"));
    let server = Moody::start();
    let folder = tempfile::tempdir().expect("a folder");
    let spool = folder.path().join("spool");
    let config = Config::influxdb(1, server.sink.address())
        .ringside("flushInterval: 10ms")
        .ringside(&format!("spool: {{ dir: '{}', syncInterval: 50ms }}", spool.display()));

    let mut acknowledged_on_disk = BTreeSet::new();
    let (mut sent, mut counted, mut slack, mut seen) = (0, 0, 0, 0);
    let mut rounds_with_spool = 0;
    for round in 0..rounds {
        server.accept(round % 2 == 1);
        let mut ringside = Ringside::start(&config);
        counted += crashed(&ringside);
        let stream =
            Stream::start(ringside.log_events, sent, Duration::from_micros(150), long_event);
        stream.wait_for(EVENTS);
        ringside.signal(Signal::SIGKILL);
        ringside.wait();
        let (killed, killed_at) = (Instant::now(), SystemTime::now());
        let (next, times) = stream.finish();
        let accepted = server.accepted();
        let late = |at: &Instant| killed.saturating_duration_since(*at) < PRECISION;
        slack += accepted[seen..].iter().filter(|(at, _)| late(at)).count() as u64;
        slack += times.iter().filter(|at| late(at)).count() as u64;
        seen = accepted.len();
        let mut disk = on_disk(&spool, killed_at);
        rounds_with_spool += u64::from(!disk.events.is_empty());
        slack += disk.fresh;
        acknowledged_on_disk.append(&mut disk.events);
        sent = next;
    }

    server.accept(true);
    let mut last = Ringside::start(&config);
    counted += crashed(&last);
    last.wait_stats("the spool is empty", |stats| {
        number(stats, "/destinations/influxdb/spooled") == 0
            && number(stats, "/destinations/influxdb/in_flight") == 0
    });
    assert!(last.stop().success(), "{}", last.log());
    let accepted: BTreeSet<u64> = server.accepted().into_iter().map(|(_, number)| number).collect();
    assert!(rounds_with_spool >= rounds / 2, "{rounds_with_spool} rounds had something on disk");
    let missing: Vec<u64> = acknowledged_on_disk.difference(&accepted).copied().collect();
    assert!(missing.is_empty(), "on disk and never delivered: {missing:?}");
    assert!(on_disk(&spool, SystemTime::now()).events.is_empty(), "nothing is left");

    let lost = sent - accepted.len() as u64;
    println!(
        "{rounds} rounds: {sent} sent, {} were on disk, {lost} lost, {counted} counted as crash, \
         {slack} within the stated precision",
        acknowledged_on_disk.len()
    );
    assert!(lost.abs_diff(counted) <= slack, "{lost} lost, {counted} counted, {slack} uncertain");
}
