//! A thread that panics takes the engine with it, in order: the failure is named, the drain ends
//! within its time, and the ledger still says where every event is.
//!
//! The real engine runs in this process, between two destinations of which one fails.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ringside::deliver::batch::Buffer;
use ringside::deliver::line::Line;
use ringside::deliver::{Destination, Encode, Served};
use ringside::engine::{Drained, Engine, Settings};
use ringside::enrich::Enriched;
use ringside::event::{Event, Kind, Listener};
use ringside::observe::ledger::{DeliverCounts, DestinationSnapshot};
use ringside::receive::{self, BackendChoice, ListenerSettings, Shards};
use ringside::rules::{EnabledKinds, Rules};
use ringside::shard;

const USER: &str = "/qseow-proxy-session/;pro2-win1;Start session;LAB;goran;AppAccess;/hub/;text";
const LOG: &str = "/qseow-proxy/;14;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;\
    pro2-win1;Audit.Proxy;LAB\\qlikservice;text;none;LAB;goran;Open connection;403;AppAccess;/app/x";

/// User events sent before the failure.
const BEFORE: u64 = 10;
/// How long the drain may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Far beyond what anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// What goes wrong with a log event; user events are fine everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    None,
    Encoding,
    Delivering,
}

/// One byte and a line end for each event.
struct Byte(Failure);

impl Encode for Byte {
    fn wants(&self, _: &Event<'_>) -> bool {
        true
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let event = enriched.event;
        let log = event.kind().listener() == Listener::LogEvents;
        assert!(!(log && self.0 == Failure::Encoding), "an encoder that fails, for the test");
        Line::append(out, 2, |line| line.byte(if log { b'l' } else { b'u' }));
    }
}

/// Delivers to nowhere, unless it fails.
#[derive(Debug)]
struct Nowhere(Failure);

impl Destination for Nowhere {
    fn name(&self) -> String {
        format!("{:?}", self.0)
    }

    fn identity(&self) -> Option<String> {
        None
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Byte(self.0))
    }

    fn serve(self: Box<Self>, mut served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let mut counts = DeliverCounts::default();
            while let Some(batch) = served.batches.recv().await {
                let log = batch.bytes.contains(&b'l');
                assert!(
                    !(log && self.0 == Failure::Delivering),
                    "a destination that fails, for the test"
                );
                counts.taken += u64::from(batch.events);
                counts.delivered += u64::from(batch.events);
                served.ledger.delivered.publish(&counts);
            }
        })
    }
}

fn settings(backend: BackendChoice, shards: Shards, failure: Failure) -> Settings {
    let listener = ListenerSettings {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        max_message_size: 65_507,
        queue_capacity: 210,
        backpressure_threshold: 80,
        strict: false,
    };
    Settings {
        receive: receive::Settings {
            listeners: [Some(listener.clone()), Some(listener)],
            backend,
            shards,
            ..receive::Settings::default()
        },
        shard: shard::Settings {
            flush_interval: Duration::from_millis(10),
            batch_bytes: 256 * 1024,
            batch_events: 1000,
            turn_leases: shard::TURN_LEASES,
        },
        rules: Arc::new(ArcSwap::from_pointee(Rules::accepting(EnabledKinds([true; Kind::COUNT])))),
        app_names: Arc::default(),
        destinations: vec![Box::new(Nowhere(Failure::None)), Box::new(Nowhere(failure))],
        counters: ringside::counters::Settings::default(),
        in_flight: 1,
        spool: None,
        last_run: None,
        sampled: false,
    }
}

fn send(engine: &Engine, listener: Listener, event: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(event.as_bytes(), engine.receivers().addresses(listener)[0]).expect("send");
}

/// Delivers some user events, then sends the log event that makes `thread` panic, and drains.
fn fail(backend: BackendChoice, shards: Shards, failure: Failure, thread: &str) -> Drained {
    let mut engine = Engine::start(settings(backend, shards, failure)).expect("the engine starts");
    for _ in 0..BEFORE {
        send(&engine, Listener::UserEvents, USER);
    }
    let start = Instant::now();
    let delivered = |engine: &Engine| {
        let destinations = &engine.state().ledger.destinations;
        destinations.iter().all(|d| d.delivered.read().delivered == BEFORE)
    };
    while !delivered(&engine) {
        assert!(start.elapsed() < DEADLINE, "{:?}", engine.state().ledger.snapshot());
        std::thread::yield_now();
    }
    send(&engine, Listener::LogEvents, LOG);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let failed = tokio::time::timeout(DEADLINE, engine.failed()).await;
        assert_eq!(failed.expect("a failure is noticed"), thread);
        let start = Instant::now();
        let drained = engine.drain(TIMEOUT).await;
        assert!(start.elapsed() < TIMEOUT, "nothing is left to wait for");
        drained
    })
}

/// What holds whichever thread is gone; returns the destination that did not fail, and the other.
fn check(drained: &Drained) -> [&DestinationSnapshot; 2] {
    let ledger = &drained.ledger;
    assert!(!drained.clean, "{ledger:?}");
    assert!(ledger.balanced(), "{ledger:?}");
    let user = &ledger.listeners[Listener::UserEvents as usize];
    assert_eq!((user.received, user.accepted, user.queued), (BEFORE, BEFORE, 0), "{ledger:?}");
    let log = &ledger.listeners[Listener::LogEvents as usize];
    assert_eq!(log.received, 1, "{ledger:?}");
    let [sound, failing] = ledger.destinations.as_slice() else { panic!("{ledger:?}") };
    assert_eq!(failing.counts.delivered, BEFORE, "{ledger:?}");
    [sound, failing]
}

fn an_encoder_panics(backend: BackendChoice, shards: Shards, thread: &str) {
    let drained = fail(backend, shards, Failure::Encoding, thread);
    let [sound, failing] = check(&drained);
    for destination in [sound, failing] {
        assert_eq!(destination.assigned, BEFORE, "{destination:?}");
        assert_eq!(destination.counts.delivered, BEFORE, "{destination:?}");
        assert_eq!(destination.in_flight, 0, "{destination:?}");
    }
    // The shard counted the log event as taken and never said so: it is still on its way.
    assert_eq!(drained.ledger.listeners[Listener::LogEvents as usize].queued, 1);
}

fn a_destination_panics(backend: BackendChoice) {
    let drained = fail(backend, Shards::Threads(1), Failure::Delivering, "deliver");
    let [sound, failing] = check(&drained);
    for destination in [sound, failing] {
        assert_eq!(destination.assigned, BEFORE + 1, "{destination:?}");
    }
    // The sound one had its turn before or not; the other's batch is in nobody's hands.
    assert_eq!(sound.counts.delivered + sound.in_flight + sound.dropped.sum(), BEFORE + 1);
    assert_eq!(failing.in_flight + failing.dropped.sum(), 1, "{failing:?}");
    assert_eq!(drained.ledger.listeners[Listener::LogEvents as usize].accepted, 1);
}

#[test]
fn an_encoder_panics_with_io_uring() {
    an_encoder_panics(BackendChoice::IoUring, Shards::Threads(1), "shard-0");
}

#[test]
fn an_encoder_panics_with_tokio() {
    an_encoder_panics(BackendChoice::Tokio, Shards::Threads(1), "shard-0");
}

#[test]
fn a_destination_panics_with_io_uring() {
    a_destination_panics(BackendChoice::IoUring);
}

#[test]
fn a_destination_panics_with_tokio() {
    a_destination_panics(BackendChoice::Tokio);
}

#[test]
fn an_encoder_panics_on_its_receivers_thread() {
    for backend in [BackendChoice::IoUring, BackendChoice::Tokio] {
        an_encoder_panics(backend, Shards::Inline, "rx-0");
    }
}
