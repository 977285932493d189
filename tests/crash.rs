//! Killed again and again under load: what the spool had is delivered, and the rest is accounted for.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringside::deliver::spool::segment::{self, PREFIX, Walk};
use ringside::deliver::spool::{inspect, record};
use support::numbered::{Stream, long_event, numbers};
use support::sink::{Options, Reply, Request, Sink};
use support::{Config, Ringside, number};

/// Rounds, unless `RINGSIDE_ROUNDS` says otherwise.
const ROUNDS: u64 = 10;

/// Between two events.
const PAUSE: Duration = Duration::from_micros(500);

/// The number of lost events is promised to within 100 ms of traffic; other tests keep the processors
/// busy.
const PRECISION: Duration = Duration::from_millis(200);

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

/// The numbers in the spool of a process that has ended. Records are whole but for the last one of a
/// segment that was being written.
fn on_disk(spool: &Path) -> BTreeSet<u64> {
    let mut all = BTreeSet::new();
    let folders = std::fs::read_dir(spool).expect("the spool").map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        let content = inspect::verify(&folder).expect("a readable folder");
        assert_eq!((content.damaged_records, content.damaged), (0, 0), "{content:?}");
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((first, end)) = segment::parse_name(name) else { continue };
            let bytes = std::fs::read(&path).expect("a segment");
            let mut next = first;
            let mut walk = Walk::new(&bytes, PREFIX, first..end.unwrap_or(u64::MAX));
            for found in walk.by_ref() {
                assert_eq!(found.header.sequence, next, "a gap in {}", path.display());
                next = found.header.end();
                let body = record::decode(&bytes[found.payload], found.header.events);
                let lines = body.expect("a whole record").lines;
                all.extend(numbers(std::str::from_utf8(&lines).expect("UTF-8")));
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

/// What became of a round.
struct Story {
    sent: Range<u64>,
    /// Events that are, rightly, counted or not.
    uncertain: u64,
    /// What the next start said that was lost.
    counted: u64,
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

    let mut once_on_disk = BTreeSet::new();
    let (mut stories, mut sent, mut seen, mut left) = (Vec::<Story>::new(), 0, 0, 0);
    for round in 0..rounds {
        server.accept(round % 2 == 1);
        let mut ringside = Ringside::start(&config);
        let stream = Stream::start(ringside.log_events, sent, PAUSE, long_event);
        // Each round ends somewhere else between two writes.
        stream.wait_for(700 + round * 131 % 600);
        if let Some(last) = stories.last_mut() {
            last.counted = crashed(&ringside);
        }
        let killed = Instant::now();
        ringside.signal(Signal::SIGKILL);
        ringside.wait();
        let (next, times) = stream.finish();
        let accepted = server.accepted();
        let mut disk = on_disk(&spool);
        // What was sent after the end was sent to nobody.
        let round_sent = times.partition_point(|at| *at < killed);
        // What was sent or delivered in the last moment.
        let late = |at: &Instant| *at + PRECISION > killed;
        let uncertain = times[..round_sent].iter().filter(|at| late(at)).count()
            + accepted[seen..].iter().filter(|(at, _)| late(at)).count();
        let uncertain = uncertain as u64;
        stories.push(Story { sent: sent..sent + round_sent as u64, uncertain, counted: 0 });
        seen = accepted.len();
        left = disk.len() as u64;
        once_on_disk.append(&mut disk);
        sent = next;
    }

    server.accept(true);
    let mut last = Ringside::start(&config);
    last.wait_stats("the spool is empty", |stats| {
        number(stats, "/destinations/influxdb/assigned") >= left
            && number(stats, "/destinations/influxdb/spooled") == 0
            && number(stats, "/destinations/influxdb/in_flight") == 0
    });
    stories.last_mut().expect("a round").counted = crashed(&last);
    assert!(last.stop().success(), "{}", last.log());
    assert!(on_disk(&spool).is_empty(), "nothing is left");
    let accepted: BTreeSet<u64> = server.accepted().into_iter().map(|(_, number)| number).collect();
    let missing: Vec<u64> = once_on_disk.difference(&accepted).copied().collect();
    assert!(missing.is_empty(), "on disk and never delivered: {missing:?}");
    println!("{sent} sent, {} delivered, {} were on disk", accepted.len(), once_on_disk.len());
    assert!(once_on_disk.len() as u64 > 100 * rounds, "the spool was hardly used");
    for (round, Story { sent, uncertain, counted }) in stories.into_iter().enumerate() {
        let lost = sent.end - sent.start - accepted.range(sent).count() as u64;
        println!("round {round}: {lost} lost, {counted} counted, to within {uncertain}");
        assert!(
            lost.abs_diff(counted) <= uncertain,
            "round {round}: {lost} lost, {counted} counted"
        );
    }
}
