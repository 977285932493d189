//! When batches leave, where events are counted, how much a turn takes.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Instant;

use super::*;
use crate::deliver::batch::{self, BatchReceiver, QUEUE_BATCHES};
use crate::deliver::line::Line;
use crate::event::Kind;
use crate::observe::ledger::AssignCounts;
use crate::receive::{self, BackendChoice, ListenerSettings, Receivers};
use crate::rules::EnabledKinds;

const LOG: Listener = Listener::LogEvents;
const ENGINE: &[u8] = b"/qseow-engine/;1;2;3;WARN;host;System;LAB\\service;text";
const PROXY: &[u8] = b"/qseow-proxy/;1;2;3;WARN;host;System;LAB\\service;text";
const FLUSH: Duration = Duration::from_millis(100);

/// Time that passes when the test says so.
#[derive(Default)]
struct Hand(Cell<Duration>);

impl Hand {
    fn advance(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }
}

impl Clock for Hand {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn wall_ns(&self) -> u64 {
        0
    }

    async fn sleep(&self, _: Duration) {}
}

/// Writes lines of one length for engine events, and wants no others.
struct Lines(usize);

impl Encode for Lines {
    fn wants(&self, event: &Event<'_>) -> bool {
        event.kind() == Kind::Engine
    }

    fn encode(&mut self, _: &Enriched<'_>, out: &mut Buffer) {
        let text = vec![b'x'; self.0 - 1];
        Line::append(out, self.0, |line| line.bytes(&text));
    }
}

/// A shard with one destination, driven by hand.
struct Bench {
    clock: Hand,
    ledger: Arc<Ledger>,
    shard: Shard,
    batches: BatchReceiver,
}

impl Bench {
    fn new(line: usize, settings: Settings) -> Self {
        let ledger = Arc::new(Ledger::new(1, 1, &["lines".into()]));
        let (mut senders, batches) = batch::queue(1);
        let output = Output {
            encoder: Box::new(Lines(line)),
            sender: senders.remove(0),
            ledger: Arc::clone(&ledger.destinations[0]),
        };
        let mut enabled = EnabledKinds([true; Kind::COUNT]);
        enabled.0[Kind::Scheduler as usize] = false;
        let lookups = Lookups {
            rules: Arc::new(ArcSwap::from_pointee(Rules::accepting(enabled))),
            app_names: Arc::default(),
        };
        let latency = Arc::new(Latency::default());
        let shard = Shard::new(0, settings, lookups, Arc::clone(&ledger), vec![output], latency);
        Self { clock: Hand::default(), ledger, shard, batches }
    }

    fn take(&mut self, payload: &[u8]) {
        let source = SocketAddr::from(([127, 0, 0, 1], 1));
        self.shard.take(LOG, payload, source, 1, self.clock.now());
    }

    /// Ends a turn after `events` engine events; publishing asserts the ledger's equations.
    fn turn(&mut self, events: u32) {
        for _ in 0..events {
            self.take(ENGINE);
        }
        self.shard.end_turn(&self.clock);
    }

    fn assigned(&self) -> AssignCounts {
        self.ledger.destinations[0].assigned[0].read()
    }

    fn counted(&self) -> ShardCounts {
        self.ledger.shards[0][LOG as usize].read()
    }

    /// Events in each batch that waits.
    fn waiting(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.batches.try_recv()).map(|batch| batch.events).collect()
    }
}

fn settings() -> Settings {
    Settings {
        flush_interval: FLUSH,
        batch_bytes: 1000,
        batch_events: 20,
        turn_leases: TURN_LEASES,
    }
}

#[test]
fn a_batch_leaves_when_it_holds_its_bytes() {
    let mut bench = Bench::new(100, settings());
    bench.turn(9);
    assert!(bench.waiting().is_empty());
    assert_eq!(bench.assigned().open, 9);
    bench.turn(1);
    assert_eq!(bench.waiting(), [10]);
    assert_eq!(bench.assigned(), AssignCounts { assigned: 10, sent: 10, ..Default::default() });
}

#[test]
fn a_batch_leaves_when_it_holds_its_events() {
    let mut bench = Bench::new(1, settings());
    bench.turn(19);
    assert!(bench.waiting().is_empty());
    bench.turn(1);
    assert_eq!(bench.waiting(), [20]);
}

#[test]
fn a_batch_leaves_when_its_first_event_is_old_enough() {
    let mut bench = Bench::new(1, settings());
    assert_eq!(bench.shard.deadline(), None);
    bench.turn(1);
    bench.clock.advance(FLUSH / 2);
    bench.turn(1);
    assert_eq!(bench.shard.deadline(), Some(FLUSH), "of the first event, not of the last");
    bench.clock.advance(Duration::from_millis(49));
    bench.turn(0);
    assert!(bench.waiting().is_empty());
    bench.clock.advance(Duration::from_millis(1));
    bench.turn(0);
    assert_eq!(bench.waiting(), [2]);
    assert_eq!(bench.shard.deadline(), None);
}

#[test]
fn without_room_a_batch_grows_to_its_limit_and_is_then_counted_as_overflow() {
    let line = BATCH_BYTES_MAX / 4;
    let mut bench = Bench::new(line, settings());
    for _ in 0..QUEUE_BATCHES {
        bench.turn(1);
    }
    assert_eq!(bench.assigned().sent, QUEUE_BATCHES as u64);
    for open in 1..=3 {
        bench.turn(1);
        assert_eq!(bench.assigned().open, open, "no room, and below the limit");
        assert_eq!(bench.shard.deadline(), Some(bench.clock.now() + ROOM_RETRY));
    }
    bench.turn(1);
    let counts = bench.assigned();
    assert_eq!((counts.open, counts.overflow), (0, 4), "the limit is reached");
    bench.turn(2);
    assert_eq!(bench.assigned().open, 2);
    assert_eq!(bench.waiting(), [1; QUEUE_BATCHES]);
    bench.turn(0);
    assert_eq!(bench.waiting(), [2], "as soon as there is room");
}

#[test]
fn a_flush_waits_for_room_unless_it_is_given_up() {
    let mut bench = Bench::new(1000, settings());
    bench.turn(1);
    for _ in 1..=QUEUE_BATCHES {
        bench.turn(1);
    }
    assert!(!bench.shard.flush(bench.clock.now(), false));
    assert_eq!(bench.assigned().open, 1);
    assert!(bench.shard.flush(bench.clock.now(), true));
    let AssignCounts { open, overflow, shutdown, .. } = bench.assigned();
    assert_eq!((open, overflow, shutdown), (0, 0, 1));
}

#[test]
fn every_datagram_is_counted_in_one_place() {
    let mut bench = Bench::new(1, settings());
    for payload in [ENGINE, PROXY, b"/qseow-scheduler/;1;2;3;WARN;host", b"", b"/hello/;a"] {
        bench.take(payload);
    }
    bench.shard.abandon(LOG);
    bench.turn(0);
    let counts = bench.counted();
    assert_eq!((counts.taken, counts.abandoned), (6, 1));
    assert_eq!((counts.routed, counts.unrouted), (1, 1), "nobody wants the proxy event");
    assert_eq!(counts.accepted[Kind::Proxy as usize], 1);
    assert_eq!(counts.accepted[Kind::Scheduler as usize], 0);
    for reason in [RejectReason::SourceDisabled, RejectReason::Empty, RejectReason::UnknownType] {
        assert_eq!(counts.rejected.get(reason), 1, "{reason:?}");
    }
    assert_eq!(counts.notes.get(Note::Short), 2);
    assert_eq!(bench.assigned().assigned, 1);
}

/// A receiver on loopback that holds `count` datagrams for one shard.
fn leases(count: u64, ledger: &Arc<Ledger>) -> (Receivers, thread::JoinHandle<()>) {
    let listener = ListenerSettings {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        max_message_size: 65_507,
        queue_capacity: 210,
        backpressure_threshold: 80,
        strict: true,
    };
    let settings = receive::Settings {
        listeners: [None, Some(listener)],
        backend: BackendChoice::Auto,
        ..receive::Settings::default()
    };
    let mut receivers = receive::start(settings, ledger).unwrap();
    let receiver = receivers.threads.remove(0);
    let beat = crate::observe::health::Health::default().add_thread("rx-0");
    let thread = thread::spawn(move || receiver.run(beat).unwrap());
    let target = receivers.handle.addresses(LOG)[0];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        socket.send_to(ENGINE, target).unwrap();
    }
    let start = Instant::now();
    while ledger.receivers[0][LOG as usize].read().handed < count {
        assert!(start.elapsed() < Duration::from_secs(30), "{count} datagrams on loopback");
        thread::yield_now();
    }
    (receivers, thread)
}

#[test]
fn a_turn_takes_no_more_than_its_leases() {
    let mut bench = Bench::new(1, Settings { turn_leases: 3, ..settings() });
    let (mut receivers, thread) = leases(20, &bench.ledger);
    let ends = &mut receivers.shards[0].ends;
    let mut turn = |abandon: bool| {
        let taken = turn(&mut bench.shard, ends, &bench.clock, &AtomicBool::new(abandon));
        assert!(taken <= 3, "{taken} in one turn");
        taken
    };
    let mut taken = 0;
    while taken < 10 {
        taken += turn(false);
    }
    let read = taken as u64;
    while taken < 20 {
        taken += turn(true);
    }
    assert_eq!(bench.counted().routed, read);
    assert_eq!(bench.counted().abandoned, 20 - read, "returned unread");
    receivers.handle.stop(Instant::now() + Duration::from_secs(5));
    thread.join().unwrap();
}
