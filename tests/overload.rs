//! More than it can do: what is lost is counted, memory and latency stay bounded, and it recovers.
//!
//! One test binary of its own, and its tests take turns, so that they do not measure each other.
//! `RINGSIDE_FLOOD_SECONDS` makes the flood shorter or longer than a minute.
#![cfg(target_os = "linux")]

mod support;

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
const SLOTS: u64 = 8192;

/// How long 99 of 100 events take at most until they are in a batch, in seconds: the slots' worth of
/// events before them. Other programs may take the processors for a while, so four times that and a
/// second; a queue that grows would be at ten by the end.
#[allow(clippy::cast_precision_loss)] // Counts are far below 2^53.
fn p99_max(taken_per_second: u64) -> f64 {
    1.0 + 4.0 * SLOTS as f64 / taken_per_second as f64
}

/// Ready-made datagrams: making them would take longer than sending them.
fn events() -> Vec<Vec<u8>> {
    let events = Cluster::new(7, Mix::BENCHMARK, 1).take(4096);
    events.into_iter().map(|(_, payload)| payload).collect()
}

/// Events per second for a flood that others may change; 0 is as fast as the kernel takes them.
type Rate = AtomicU64;

/// Sends log events until `over`; how many.
fn flood(to: SocketAddr, events: &[Vec<u8>], rate: &Rate, over: &AtomicBool) -> u64 {
    let slices: Vec<[IoSlice<'_>; 1]> = events.iter().map(|e| [IoSlice::new(e)]).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(to).expect("connect");
    let mut headers = MultiHeaders::<()>::preallocate(CALL, None);
    let control: [ControlMessage<'_>; 0] = [];
    let mut sent = 0_u64;
    // Since when this rate has been kept, and how many had been sent then.
    let mut pace = (0, Instant::now(), 0_u64);
    while !over.load(Ordering::Acquire) {
        let now = rate.load(Ordering::Relaxed);
        if now != pace.0 {
            pace = (now, Instant::now(), sent);
        }
        let due = ((sent - pace.2) * 1_000_000).checked_div(now).map(Duration::from_micros);
        if let Some(early) = due.and_then(|due| due.checked_sub(pace.1.elapsed())) {
            thread::sleep(early.min(Duration::from_millis(1)));
            continue;
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
fn flooding<T>(to: SocketAddr, rate: &Rate, story: impl FnOnce() -> T) -> (u64, T) {
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

/// Datagrams that were dropped unread, by the kernel or under a reason.
fn dropped(stats: &Value) -> u64 {
    let reasons = stats["listeners"]["log_events"]["dropped"].as_object().expect("reasons");
    let counted: u64 = reasons.values().map(|count| count.as_u64().expect("a count")).sum();
    counted + log(stats, "kernel_dropped")
}

/// Those, and events that the destination was too slow for: where receiving keeps up with whatever the
/// kernel can send to itself, sending is what is overloaded.
fn lost(stats: &Value) -> u64 {
    let reasons = stats["destinations"]["influxdb"]["dropped"].as_object().expect("reasons");
    dropped(stats) + reasons.values().map(|count| count.as_u64().expect("a count")).sum::<u64>()
}

fn p99(stats: &Value) -> f64 {
    stats["latency"]["batch"]["p99_s"].as_f64().expect("a latency")
}

/// Waits until everything that was sent is accounted for, exactly.
fn accounted_for(ringside: &Ringside, sent: u64) -> Value {
    ringside.wait_stats("everything is accounted for", |stats| {
        log(stats, "queued") == 0 && dropped(stats) + log(stats, "parsed") == sent
    })
}

/// What the engine takes while it gets all that the kernel takes: events per second; and how many were
/// sent for that.
fn sustainable_rate(ringside: &Ringside) -> (u64, u64) {
    flooding(ringside.log_events, &Rate::new(0), || {
        let before = log(&ringside.wait_stats("too much", |stats| lost(stats) > 0), "parsed");
        let start = Instant::now();
        wait_for("the time", DEADLINE, || (start.elapsed() >= MEASURED_FOR).then_some(()));
        per_second(log(&ringside.stats(), "parsed") - before, start.elapsed())
    })
}

fn per_second(events: u64, time: Duration) -> u64 {
    let rate = u128::from(events) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).expect("a rate")
}

/// The worst of what was seen during a flood.
#[derive(Default)]
struct Worst {
    resident: u64,
    p99: f64,
    /// Seconds in which no event was read.
    stalls: u32,
}

/// Looks at the engine until the time is over. The rate that was measured depends on what else the
/// machine does; where it turns out to be no overload, more is sent.
fn watch(ringside: &Ringside, rate: &Rate, time: Duration) -> Worst {
    let (start, mut worst) = (Instant::now(), Worst::default());
    let (mut last, mut looked) = (ringside.stats(), Instant::now());
    wait_for("the end of the flood", time + DEADLINE, || {
        let stats = ringside.stats();
        assert_balanced(&stats);
        assert_eq!(stats["healthy"], true, "{stats:#}");
        worst.p99 = worst.p99.max(p99(&stats));
        worst.resident = worst.resident.max(ringside.resident());
        if looked.elapsed() >= Duration::from_secs(1) {
            worst.stalls += u32::from(log(&stats, "parsed") == log(&last, "parsed"));
            if lost(&stats) == lost(&last) {
                rate.fetch_add(rate.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
            (last, looked) = (stats, Instant::now());
        }
        (start.elapsed() >= time).then_some(())
    });
    worst
}

#[test]
fn a_flood_is_survived_and_counted() {
    let seconds = std::env::var("RINGSIDE_FLOOD_SECONDS");
    let time = seconds.map_or(60, |seconds| seconds.parse().expect("seconds"));
    let time = Duration::from_secs(time);
    let _turn = turn();
    let sink = Sink::start(Options::default());
    // Compressed, so that an event costs more to take than to send.
    let config = Config::influxdb(1, sink.address()).ringside("influxdb: { gzip: true }");
    let mut ringside = Ringside::start(&config);
    let (warm_up, sustainable) = sustainable_rate(&ringside);
    let before = accounted_for(&ringside, warm_up);
    let resident = ringside.resident();

    let rate = Rate::new(2 * sustainable);
    let (sent, worst) = flooding(ringside.log_events, &rate, || watch(&ringside, &rate, time));
    let over = Instant::now();
    let stats = accounted_for(&ringside, warm_up + sent);
    let recovery = over.elapsed();
    send_all(ringside.log_events, [event(0)]);
    ringside.wait_stats("a single event", |now| log(now, "parsed") == log(&stats, "parsed") + 1);
    let answered = over.elapsed();

    let lost = lost(&stats) - lost(&before);
    let taken = per_second(log(&stats, "parsed") - log(&before, "parsed"), time);
    let growth = worst.resident.saturating_sub(resident);
    println!(
        "{sustainable}/s measured, {}/s sent, {taken}/s taken, {lost} lost; {} MiB more memory, p99 \
         {} s, empty after {recovery:?}, one event after {answered:?}",
        per_second(sent, time),
        growth >> 20,
        worst.p99
    );
    assert!(lost > 0, "too easy: {stats:#}");
    assert_eq!(worst.stalls, 0, "it stood still");
    assert!(growth < GROWTH_MAX, "{} MiB", growth >> 20);
    let stats = ringside.wait_stats("every event has an outcome", |stats| {
        let destination = &stats["destinations"]["influxdb"];
        destination["in_flight"] == 0 && destination["spooled"] == 0
    });
    assert!(sink.lines() >= number(&stats, "/destinations/influxdb/delivered"), "{stats:#}");
    assert!(ringside.stop().success());
    if std::env::var_os("RINGSIDE_BINARY").is_none() {
        eprintln!("NOT TESTED: times under a flood, which only the optimised program keeps.");
        return;
    }
    assert!(worst.p99 <= p99_max(taken), "p99 {} s", worst.p99);
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
    assert_eq!(dropped(&stats), 0, "{stats:#}");
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
