//! A destination that takes everything and answers nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::all_delivered;
use crate::support::numbered::{Stream, arrived, long_event, numbers};
use crate::support::sink::{Reply, Request, Sink};
use crate::support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, wait_for};

/// Events go to disk at most this long after the first failure.
const ON_DISK_WITHIN: Duration = Duration::from_secs(3);

/// What a look at the statistics and a busy machine add to that.
const LOOK: Duration = Duration::from_secs(2);

/// Sends what is meant to fill memory.
const EVENTS: u64 = 40_000;

/// Memory that a silent destination may cost: half of what it was sent, which is 2 KB for each of
/// [`EVENTS`]. It is made of the slots (two pages of each of 1024), the buffers on their way between the
/// shard and two destinations, and a record for the spool; on a busy machine more of them are in use.
const GROWTH_MAX: u64 = 40 << 20;

/// A sink that does not answer while it is told not to.
struct Silent {
    sink: Sink,
    quiet: Arc<AtomicBool>,
}

impl Silent {
    fn start() -> Self {
        let quiet = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&quiet);
        let sink = Sink::answering(move |_: &Request| {
            let start = Instant::now();
            while flag.load(Ordering::Acquire) && start.elapsed() < DEADLINE {
                thread::park_timeout(Duration::from_millis(5));
            }
            Reply::status(204)
        });
        Self { sink, quiet }
    }

    fn answer(&self) {
        self.quiet.store(false, Ordering::Release);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // The sink waits for its threads.
        self.answer();
    }
}

#[test]
fn a_sink_that_never_answers_disturbs_nobody_else() {
    let server = Silent::start();
    // Of each slot that was in use once, a page stays: few slots, so that this is not what is measured.
    let receive = "      slots: 1024\n".into();
    let config = Config { receive, ..Config::influxdb(1, server.sink.address()) }
        .ringside("flushInterval: 20ms")
        .ringside("influxdb: { timeout: 1s }")
        .ringside("ndjson: { enable: true, path: events.ndjson }");
    let mut ringside = Ringside::start(&config);
    let file = ringside.directory.path().join("events.ndjson");
    let written = || std::fs::read_to_string(&file).unwrap_or_default();

    send_all(ringside.log_events, [long_event(0)]);
    ringside.wait_stats("the first failure", |stats| {
        !stats["destinations"]["influxdb"]["last_error"].is_null()
    });
    let (failed, resident) = (Instant::now(), ringside.resident());
    let stream = Stream::start(ringside.log_events, 1, Duration::from_micros(20), long_event);
    ringside
        .wait_stats("events on disk", |stats| number(stats, "/destinations/influxdb/spooled") > 0);
    assert!(failed.elapsed() < ON_DISK_WITHIN + LOOK, "after {:?}", failed.elapsed());
    let mut most = 0;
    wait_for("the load", DEADLINE, || {
        most = most.max(ringside.resident());
        (stream.next() >= EVENTS).then_some(())
    });
    let (sent, _) = stream.finish();
    // The other destination has this one at once, though it is the last of so many.
    send_all(ringside.log_events, [proxy_event(&format!("number <{sent}>"))]);
    let sent = sent + 1;
    wait_for("the last event in the file", LOOK, || {
        let text = written();
        (text.lines().count() as u64 == sent).then_some(())
    });
    assert!(numbers(&written()).eq(0..sent), "in the order in which they came");
    let stats = ringside.stats();
    assert_eq!(number(&stats, "/destinations/influxdb/delivered"), 0, "{stats:#}");
    assert_eq!(number(&stats, "/listeners/log_events/kernel_dropped"), 0, "{stats:#}");
    let growth = most.max(ringside.resident()).saturating_sub(resident);
    println!("{sent} events, {} MiB more memory", growth >> 20);
    assert!(growth < GROWTH_MAX, "{} MiB more memory", growth >> 20);

    server.answer();
    all_delivered(&ringside, "influxdb", sent);
    assert_eq!(arrived(&server.sink).into_iter().collect::<BTreeSet<_>>(), (0..sent).collect());
    assert!(ringside.stop().success());
}
