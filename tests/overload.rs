//! More than it can do: what is lost is counted, memory and latency stay bounded, and it recovers.
//!
//! One test binary of its own, and its tests take turns, so that they do not measure each other.
//! `RINGSIDE_FLOOD_SECONDS` makes the flood longer than the 10 s of the suite.
#![cfg(target_os = "linux")]

mod support;

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg};
use ringside::synthetic::{Cluster, Mix};
use serde_json::Value;
use support::numbered::event;
use support::sink::{Options, Sink};
use support::{Config, DEADLINE, Ringside, assert_balanced, number, send_all, wait_for};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Datagrams handed to the kernel in one call.
const CALL: usize = 64;

/// The sustainable rate is measured for so long.
const MEASURED_FOR: Duration = Duration::from_secs(2);

/// How long it may take until the queue is empty, once the flood is over.
const RECOVERY: Duration = Duration::from_secs(1);

/// Memory that a flood may cost: a page for each of 8192 slots, and what the destination may hold, in
/// buffers that are half empty at worst.
const GROWTH_MAX: u64 = (32 + 2 * 64) << 20;

/// Datagrams that may wait between socket and encoder, as configured by default.
const SLOTS: f64 = 8192.0;

/// How long 99 of 100 events take at most until they are in a batch: the slots' worth of events before
/// them, where the engine has the processors that it was measured with. Other programs may take most of
/// them for a while, so four times that and a second; a queue that grows would be at ten by the end.
fn p99_max(sustainable: f64) -> f64 {
    1.0 + 4.0 * SLOTS / sustainable
}

/// Ready-made datagrams: making them would take longer than sending them.
fn events() -> Vec<Vec<u8>> {
    let events = Cluster::new(7, Mix::BENCHMARK, 1).take(4096);
    events.into_iter().map(|(_, payload)| payload).collect()
}

/// Sends log events at a rate, or as fast as the kernel takes them, until `over`; how many.
fn flood(to: SocketAddr, events: &[Vec<u8>], rate: Option<f64>, over: &AtomicBool) -> u64 {
    let slices: Vec<[IoSlice<'_>; 1]> = events.iter().map(|e| [IoSlice::new(e)]).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(to).expect("connect");
    let mut headers = MultiHeaders::<()>::preallocate(CALL, None);
    let control: [ControlMessage<'_>; 0] = [];
    let (start, mut sent) = (Instant::now(), 0);
    while !over.load(Ordering::Acquire) {
        if let Some(rate) = rate {
            #[allow(clippy::cast_precision_loss)] // Counts are far below 2^53.
            let due = Duration::from_secs_f64(sent as f64 / rate);
            if let Some(early) = due.checked_sub(start.elapsed()) {
                thread::sleep(early.min(Duration::from_millis(1)));
                continue;
            }
        }
        let first = usize::try_from(sent).expect("a count") % slices.len();
        let call = &slices[first..(first + CALL).min(slices.len())];
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let taken = sendmmsg(fd, &mut headers, call.iter(), [None; CALL], control, flags);
        sent += taken.expect("send on loopback").count() as u64;
    }
    sent
}

/// Floods while `story` runs.
fn flooding<T>(to: SocketAddr, rate: Option<f64>, story: impl FnOnce() -> T) -> (u64, T) {
    let (events, over) = (events(), AtomicBool::new(false));
    thread::scope(|scope| {
        let sender = scope.spawn(|| flood(to, &events, rate, &over));
        let _over = OnDrop(&over);
        let told = story();
        over.store(true, Ordering::Release);
        (sender.join().expect("the sender"), told)
    })
}

/// Sets a flag when dropped, so that whatever fails, the flood ends.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn log(stats: &Value, key: &str) -> u64 {
    number(stats, &format!("/listeners/log_events/{key}"))
}

/// Datagrams that were dropped and counted under a reason.
fn dropped(stats: &Value) -> u64 {
    let reasons = stats["listeners"]["log_events"]["dropped"].as_object().expect("reasons");
    reasons.values().map(|count| count.as_u64().expect("a count")).sum()
}

fn p99(stats: &Value) -> f64 {
    stats["latency"]["batch"]["p99_s"].as_f64().expect("a latency")
}

/// Waits until everything that was sent is accounted for, exactly.
fn accounted_for(ringside: &Ringside, sent: u64) -> Value {
    ringside.wait_stats("everything is accounted for", |stats| {
        log(stats, "queued") == 0
            && log(stats, "kernel_dropped") + dropped(stats) + log(stats, "parsed") == sent
    })
}

/// What floods the engine twice over: events per second.
fn twice_the_sustainable_rate(ringside: &Ringside) -> (u64, f64) {
    let (sent, taken) = flooding(ringside.log_events, None, || {
        let begun = |stats: &Value| log(stats, "kernel_dropped") > 0;
        let before = log(&ringside.wait_stats("too much", begun), "parsed");
        let start = Instant::now();
        wait_for("the time", DEADLINE, || (start.elapsed() >= MEASURED_FOR).then_some(()));
        #[allow(clippy::cast_precision_loss)] // Counts are far below 2^53.
        let taken = (log(&ringside.stats(), "parsed") - before) as f64;
        taken / start.elapsed().as_secs_f64()
    });
    (sent, 2.0 * taken)
}

#[test]
fn a_flood_is_survived_and_counted() {
    let seconds = std::env::var("RINGSIDE_FLOOD_SECONDS");
    let seconds = seconds.map_or(10, |seconds| seconds.parse().expect("seconds"));
    let _turn = turn();
    let sink = Sink::start(Options::default());
    // Compressed, so that an event costs more to take than to send.
    let config = Config::influxdb(1, sink.address()).ringside("influxdb: { gzip: true }");
    let mut ringside = Ringside::start(&config);
    let (warm_up, rate) = twice_the_sustainable_rate(&ringside);
    let before = accounted_for(&ringside, warm_up);
    let resident = ringside.resident();

    let (sent, (most, worst, middle, over)) = flooding(ringside.log_events, Some(rate), || {
        let start = Instant::now();
        let (mut most, mut worst, mut middle) = (0, 0.0_f64, 0);
        wait_for("the flood", DEADLINE * 4, || {
            let stats = ringside.stats();
            assert_balanced(&stats);
            assert_eq!(stats["healthy"], true, "{stats:#}");
            worst = worst.max(p99(&stats));
            most = most.max(ringside.resident());
            if start.elapsed().as_secs() < seconds / 2 {
                middle = log(&stats, "parsed");
            }
            let over = start.elapsed().as_secs() >= seconds;
            over.then(|| (most, worst, middle, Instant::now()))
        })
    });
    let stats = accounted_for(&ringside, warm_up + sent);
    let recovery = over.elapsed();
    send_all(ringside.log_events, [event(0)]);
    ringside.wait_stats("a single event", |now| log(now, "parsed") == log(&stats, "parsed") + 1);
    let answered = over.elapsed();

    let counted = dropped(&stats) + log(&stats, "kernel_dropped");
    let counted = counted - dropped(&before) - log(&before, "kernel_dropped");
    println!(
        "{rate:.0}/s asked for, {sent} sent in {seconds} s, {counted} of them dropped; {} MiB more \
         memory, p99 {worst} s, empty after {recovery:?}, one event after {answered:?}",
        most.saturating_sub(resident) >> 20
    );
    assert!(counted > 0, "too easy: {stats:#}");
    let stats = ringside.wait_stats("every event has an outcome", |stats| {
        ["in_flight", "spooled"]
            .iter()
            .all(|n| number(stats, &format!("/destinations/influxdb/{n}")) == 0)
    });
    assert!(sink.lines() >= number(&stats, "/destinations/influxdb/delivered"), "{stats:#}");
    assert!(log(&stats, "parsed") > middle && middle > log(&before, "parsed"), "it went on");
    assert!(most < resident + GROWTH_MAX, "{} MiB", most >> 20);
    assert!(ringside.stop().success());
    if std::env::var_os("RINGSIDE_BINARY").is_none() {
        eprintln!("NOT TESTED: times under a flood, which only the optimised program keeps.");
        return;
    }
    assert!(worst <= p99_max(rate / 2.0), "p99 {worst} s");
    assert!(recovery <= RECOVERY && answered <= 2 * RECOVERY, "{recovery:?}, {answered:?}");
}

#[test]
fn a_slow_destination_slows_no_other() {
    const EVENTS: u64 = 20_000;
    let _turn = turn();
    let slow = Options { delay: Duration::from_millis(700), ..Options::default() };
    let sink = Sink::start(slow);
    let config = Config::influxdb(1, sink.address())
        .ringside("flushInterval: 50ms")
        .ringside("batchBytes: 16KiB")
        .ringside("deliver: { inFlight: 1 }")
        .ringside("ndjson: { enable: true, path: events.ndjson }");
    let mut ringside = Ringside::start(&config);
    let delivered =
        |stats: &Value, to: &str| number(stats, &format!("/destinations/{to}/delivered"));
    send_all(ringside.log_events, (0..EVENTS).map(event));
    let stats = ringside.wait_stats("the quick one", |stats| delivered(stats, "ndjson") == EVENTS);
    assert!(delivered(&stats, "influxdb") < EVENTS, "too easy: {stats:#}");
    assert_eq!(log(&stats, "kernel_dropped") + dropped(&stats), 0, "{stats:#}");
    // A single one is quick as well while the other has its backlog.
    let start = Instant::now();
    send_all(ringside.log_events, [event(EVENTS)]);
    let stats = ringside.wait_stats("one more", |stats| delivered(stats, "ndjson") == EVENTS + 1);
    let took = start.elapsed();
    assert!(took < RECOVERY, "{took:?}");
    assert!(delivered(&stats, "influxdb") <= EVENTS, "too easy: {stats:#}");
    ringside.wait_stats("the slow one", |stats| delivered(stats, "influxdb") == EVENTS + 1);
    assert_eq!(sink.lines(), EVENTS + 1);
    assert!(ringside.stop().success());
}
