//! The contract of the receive room, through its public interface, on real sockets: the same for
//! every backend.

use std::collections::HashMap;
use std::iter;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ringside::event::Listener;
use ringside::observe::health::Beat;
use ringside::observe::ledger::{DropReason, Ledger, ReceiveCounts};
use ringside::receive::{
    BackendChoice, BackendKind, FeatureMask, Handle, Lease, ListenerSettings, ReceiveError,
    Receiver, Settings, ShardInput, Shards, start,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The backends of this host, and io_uring as on a kernel before 6.12.
const BACKENDS: [(BackendChoice, FeatureMask); 3] = [
    (BackendChoice::IoUring, mask(false, false)),
    (BackendChoice::IoUring, mask(false, true)),
    (BackendChoice::Tokio, mask(false, false)),
];

const fn mask(no_io_uring: bool, no_min_wait: bool) -> FeatureMask {
    FeatureMask { no_io_uring, no_min_wait, no_steering: false }
}

fn listener(address: &str) -> ListenerSettings {
    ListenerSettings {
        addresses: vec![address.parse().expect("address")],
        max_message_size: 65_507,
        queue_capacity: 300,
        backpressure_threshold: 80,
        strict: false,
    }
}

fn settings((backend, mask): (BackendChoice, FeatureMask)) -> Settings {
    Settings {
        listeners: [Some(listener("127.0.0.1:0")), Some(listener("127.0.0.1:0"))],
        backend,
        mask,
        slots: 1024,
        socket_buffer: 4 << 20,
        ..Default::default()
    }
}

/// What a test needs to know of a datagram.
#[derive(Debug)]
struct Got {
    payload: Vec<u8>,
    source: IpAddr,
    listener: Listener,
    received_ns: u64,
    receiver: usize,
    shard: usize,
}

/// A running receive room. The test plays all the shards.
struct Room {
    handle: Arc<Handle>,
    ledger: Arc<Ledger>,
    shards: Vec<ShardInput>,
    threads: Vec<JoinHandle<Result<(), ReceiveError>>>,
}

impl Room {
    fn open(settings: Settings) -> Self {
        let ledger = Arc::new(Ledger::new(
            settings.receivers,
            settings.shards.count(settings.receivers),
            &[],
        ));
        let receivers = start(settings, &ledger).expect("start");
        let spawn = |receiver: Receiver| {
            let name = format!("rx-{}", receiver.index());
            thread::Builder::new()
                .name(name)
                .spawn(|| receiver.run(Beat::default()))
                .expect("thread")
        };
        Self {
            handle: receivers.handle,
            ledger,
            shards: receivers.shards,
            threads: receivers.threads.into_iter().map(spawn).collect(),
        }
    }

    fn address(&self, listener: Listener) -> SocketAddr {
        self.handle.addresses(listener)[0]
    }

    fn counts(&self, listener: Listener) -> ReceiveCounts {
        let mut sum = ReceiveCounts::default();
        for receiver in &self.ledger.receivers {
            let counts = receiver[listener as usize].read();
            assert!(counts.balanced(), "{counts:?}");
            sum += counts;
        }
        sum
    }

    /// Takes leases until there were `count`, and returns what the rings held.
    fn take(&mut self, count: usize) -> Vec<Got> {
        let (mut got, begin) = (Vec::new(), Instant::now());
        while got.len() < count && !self.finished() && begin.elapsed() < PATIENCE {
            let before = got.len();
            for (shard, input) in self.shards.iter_mut().enumerate() {
                for (receiver, end) in input.ends.iter_mut().enumerate() {
                    // All of them before the first goes back, which makes room for more.
                    let leases: Vec<Lease> = iter::from_fn(|| end.take()).collect();
                    for lease in leases {
                        got.push(Got {
                            payload: end.payload(&lease).bytes().to_vec(),
                            source: lease.source.ip(),
                            listener: lease.listener,
                            received_ns: lease.received_ns,
                            receiver,
                            shard,
                        });
                        end.give_back(lease);
                    }
                }
            }
            if got.len() == before {
                let ShardInput { ends, sleeper } = &self.shards[0];
                let ready = || ends.iter().any(|end| end.has_leases());
                // With several shards one of the others may have leases.
                let nap = Duration::from_millis(if self.shards.len() > 1 { 1 } else { 200 });
                sleeper.sleep(Some(nap), ready);
            }
        }
        got
    }

    /// Whether the receivers are gone and all leases taken.
    fn finished(&self) -> bool {
        self.shards.iter().flat_map(|shard| &shard.ends).all(|end| end.finished())
    }

    fn wait_for(&self, what: &str, mut ready: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !ready(self) {
            assert!(begin.elapsed() < PATIENCE, "waited for: {what}");
            thread::yield_now();
        }
    }

    /// Stops, takes what was still queued, and checks that every lease is accounted for.
    fn close(mut self) -> Vec<Got> {
        self.handle.stop(Instant::now() + PATIENCE);
        let rest = self.take(usize::MAX);
        assert!(self.finished(), "it ends");
        for thread in self.threads {
            thread.join().expect("no panic").expect("no error");
        }
        rest
    }
}

fn sender(address: &str) -> UdpSocket {
    UdpSocket::bind(address).expect("sender")
}

fn send(sender: &UdpSocket, payload: &[u8], to: SocketAddr) {
    assert_eq!(sender.send_to(payload, to).expect("send"), payload.len());
}

#[test]
fn datagrams_come_whole_in_order_and_are_counted() {
    for backend in BACKENDS {
        let mut room = Room::open(settings(backend));
        let sender = sender("127.0.0.1:0");
        let mut expected = 0_u32;
        let mut last = 0;
        for _ in 0..20 {
            for i in 0..100_u32 {
                let listener = Listener::ALL[i as usize % 2];
                send(&sender, &(expected + i).to_le_bytes(), room.address(listener));
            }
            let mut got = room.take(100);
            assert_eq!(got.len(), 100, "{backend:?}");
            assert!(got.iter().all(|got| got.received_ns > last), "times are unique and rise");
            last = got.iter().map(|got| got.received_ns).max().expect("some");
            // One source: per listener in the order sent; between the listeners there is none.
            for listener in Listener::ALL {
                let of_listener = got.extract_if(.., |got| got.listener == listener);
                let first = expected + listener as u32;
                for (number, got) in (first..).step_by(2).zip(of_listener) {
                    assert_eq!(got.payload, number.to_le_bytes());
                    assert_eq!(got.source, sender.local_addr().expect("address").ip());
                }
            }
            expected += 100;
        }
        for listener in Listener::ALL {
            let counts = room.counts(listener);
            assert_eq!((counts.received, counts.handed, counts.clock_steps), (1000, 1000, 0));
            assert_eq!(room.handle.kernel_drops(listener), 0);
        }
        assert!(room.close().is_empty());
    }
}

#[test]
fn the_longest_datagrams_arrive_over_ipv4_and_ipv6() {
    for backend in BACKENDS {
        for (listen, from) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
            let mut settings = settings(backend);
            settings.listeners = [None, Some(listener(listen))];
            let mut room = Room::open(settings);
            let (sender, to) = (sender(from), room.address(Listener::LogEvents));
            let payload: Vec<u8> = (0..65_507_u32).map(|i| i.to_le_bytes()[0] ^ 0x5A).collect();
            for _ in 0..3 {
                send(&sender, &payload, to);
                let got = room.take(1);
                assert!(got[0].payload == payload, "{backend:?} over {listen}");
            }
            if to.is_ipv6() {
                // IPv6 carries twenty bytes more; that is over the limit and told as such.
                send(&sender, &[0; 65_508], to);
                room.wait_for("the drop", |room| room.counts(Listener::LogEvents).received == 4);
                let dropped = room.counts(Listener::LogEvents).dropped;
                assert_eq!(dropped.get(DropReason::Size), 1);
            }
            room.close();
        }
    }
}

#[test]
fn one_dual_stack_socket_gets_both_and_ipv4_sources_are_ipv4() {
    for backend in BACKENDS {
        let mut settings = settings(backend);
        settings.listeners = [Some(listener("[::]:0")), None];
        let mut room = Room::open(settings);
        let port = room.address(Listener::UserEvents).port();
        send(&sender("127.0.0.1:0"), b"4", SocketAddr::from(([127, 0, 0, 1], port)));
        let got = room.take(1);
        assert_eq!(got[0].source, IpAddr::from([127, 0, 0, 1]));
        send(&sender("[::1]:0"), b"6", SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)));
        let got = room.take(1);
        assert_eq!(got[0].source, IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
        room.close();
    }
}

#[test]
fn what_the_kernel_drops_is_counted_exactly() {
    const SENT: u64 = 500;
    for backend in BACKENDS {
        let mut settings = settings(backend);
        settings.socket_buffer = 16 * 1024;
        let ledger = Arc::new(Ledger::new(1, 1, &[]));
        let mut receivers = start(settings, &ledger).expect("start");
        let handle = Arc::clone(&receivers.handle);
        let to = handle.addresses(Listener::LogEvents)[0];
        let sender = sender("127.0.0.1:0");
        // Nobody receives yet, so the buffer must overflow.
        for _ in 0..SENT {
            send(&sender, &[0; 372], to);
        }
        let dropped = handle.kernel_drops(Listener::LogEvents);
        assert!(dropped > 0 && dropped < SENT, "{dropped}");
        assert_eq!(handle.kernel_drops(Listener::UserEvents), 0);
        handle.stop(Instant::now() + PATIENCE);
        let thread = receivers.threads.remove(0);
        let thread = thread::spawn(|| thread.run(Beat::default()));
        let end = &mut receivers.shards[0].ends[0];
        while !end.finished() {
            match end.take() {
                Some(lease) => end.give_back(lease),
                None => thread::yield_now(),
            }
        }
        thread.join().expect("no panic").expect("no error");
        let received = ledger.receivers[0][Listener::LogEvents as usize].read().received;
        assert_eq!(received + dropped, SENT, "{backend:?}");
        assert_eq!(handle.kernel_drops(Listener::LogEvents), dropped);
    }
}

#[test]
fn draining_hands_over_what_is_queued_even_if_the_pool_is_small() {
    for backend in BACKENDS {
        let mut settings = settings(backend);
        settings.slots = 64;
        let ledger = Arc::new(Ledger::new(1, 1, &[]));
        let receivers = start(settings, &ledger).expect("start");
        let to = receivers.handle.addresses(Listener::UserEvents)[0];
        let sender = sender("127.0.0.1:0");
        for i in 0..300_u32 {
            send(&sender, &i.to_le_bytes(), to);
        }
        receivers.handle.stop(Instant::now() + PATIENCE);
        for _ in 0..10 {
            send(&sender, b"too late", to);
        }
        assert_eq!(receivers.handle.kernel_drops(Listener::UserEvents), 10);
        let threads = receivers
            .threads
            .into_iter()
            .map(|receiver| thread::spawn(|| receiver.run(Beat::default())));
        let mut room = Room {
            threads: threads.collect(),
            handle: receivers.handle,
            shards: receivers.shards,
            ledger,
        };
        let got = room.take(usize::MAX);
        let expected = (0..300_u32).map(u32::to_le_bytes);
        assert!(got.iter().map(|got| &got.payload[..]).eq(expected.clone()), "{}", got.len());
        assert_eq!(room.counts(Listener::UserEvents).handed, 300, "{backend:?}");
        room.close();
    }
}

#[test]
fn past_the_deadline_the_rest_is_dropped_as_shutdown() {
    for backend in BACKENDS {
        let ledger = Arc::new(Ledger::new(1, 1, &[]));
        let mut receivers = start(settings(backend), &ledger).expect("start");
        let to = receivers.handle.addresses(Listener::LogEvents)[0];
        let sender = sender("127.0.0.1:0");
        for _ in 0..300 {
            send(&sender, b"late", to);
        }
        receivers.handle.stop(Instant::now());
        receivers.threads.remove(0).run(Beat::default()).expect("no error");
        let counts = ledger.receivers[0][Listener::LogEvents as usize].read();
        assert_eq!(counts.received, 300);
        assert_eq!(counts.handed + counts.dropped.get(DropReason::Shutdown), 300);
        assert!(counts.dropped.get(DropReason::Shutdown) > 0);
        let end = &mut receivers.shards[0].ends[0];
        let mut taken = 0;
        while let Some(lease) = end.take() {
            end.give_back(lease);
            taken += 1;
        }
        assert_eq!(taken, counts.handed, "the ring holds what was handed over");
        assert!(end.finished());
    }
}

#[test]
fn a_flood_on_one_listener_leaves_room_for_the_other() {
    for backend in BACKENDS {
        let mut settings = settings(backend);
        (settings.slots, settings.socket_buffer) = (64, 64 * 1024);
        let mut room = Room::open(settings);
        let sender = sender("127.0.0.1:0");
        // A flood waits in its socket until that fills up.
        room.wait_for("a full socket", |room| {
            send(&sender, b"flood", room.address(Listener::LogEvents));
            room.counts(Listener::LogEvents).dropped.get(DropReason::QueueFull) > 0
        });
        for _ in 0..12 {
            send(&sender, b"session", room.address(Listener::UserEvents));
        }
        room.wait_for("the rest", |room| room.counts(Listener::UserEvents).received == 12);
        // Three quarters of three quarters of 64, then what is left of three quarters.
        let log = room.counts(Listener::LogEvents);
        assert_eq!(log.handed, 36, "{backend:?}");
        assert_eq!(log.received, log.handed + log.dropped.get(DropReason::QueueFull));
        assert_eq!(room.counts(Listener::UserEvents).handed, 12);
        assert_eq!(room.take(48).len(), 48, "handed and not taken is what the rings hold");
        room.close();
    }
}

#[test]
fn a_strict_queue_is_full_at_its_capacity_and_backpressure_is_told() {
    for backend in BACKENDS {
        let mut settings = settings(backend);
        if let Some(listener) = &mut settings.listeners[Listener::LogEvents as usize] {
            (listener.strict, listener.queue_capacity) = (true, 20);
        }
        let mut room = Room::open(settings);
        let (listener, sender) = (Listener::LogEvents, sender("127.0.0.1:0"));
        for _ in 0..16 {
            send(&sender, b"x", room.address(listener));
        }
        room.wait_for("sixteen", |room| room.handle.queued(listener) == 16);
        assert!(!room.handle.backpressure(listener), "at 80 percent, not above");
        for _ in 0..14 {
            send(&sender, b"x", room.address(listener));
        }
        room.wait_for("thirty", |room| room.counts(listener).received == 30);
        assert_eq!(room.counts(listener).dropped.get(DropReason::QueueFull), 10, "{backend:?}");
        room.wait_for("backpressure", |room| room.handle.backpressure(listener));
        assert_eq!(room.take(20).len(), 20);
        room.wait_for("relief", |room| !room.handle.backpressure(listener));
        assert_eq!(room.handle.queued(listener), 0);
        room.close();
    }
}

#[test]
fn several_receivers_keep_a_source_together() {
    for (backend, listen) in BACKENDS.into_iter().flat_map(|b| [(b, "127.0.0.1:0"), (b, "[::]:0")])
    {
        let mut settings = settings(backend);
        settings.listeners = [None, Some(listener(listen))];
        (settings.receivers, settings.shards) = (2, Shards::Threads(3));
        let mut room = Room::open(settings);
        assert_eq!(room.handle.receivers(), 2);
        let port = room.address(Listener::LogEvents).port();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        for host in 1..=20 {
            // Each appender has a port of its own.
            for _ in 0..5 {
                send(&sender(&format!("127.0.0.{host}:0")), &[host], to);
            }
        }
        let got = room.take(100);
        assert_eq!(got.len(), 100);
        let mut places = HashMap::new();
        for got in &got {
            let place = (got.receiver, got.shard);
            assert_eq!(*places.entry(got.source).or_insert(place), place, "{}", got.source);
            assert_eq!(got.received_ns % 2, got.receiver as u64);
        }
        for receiver in 0..2 {
            assert!(
                places.values().any(|place| place.0 == receiver),
                "receiver {receiver} is idle"
            );
        }
        if listen.starts_with('[') {
            for _ in 0..5 {
                let to = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
                send(&sender("[::1]:0"), b"6", to);
            }
            let got = room.take(5);
            assert!(got.iter().all(|g| (g.receiver, g.shard) == (got[0].receiver, got[0].shard)));
        }
        room.close();
    }
}

#[test]
fn without_steering_there_is_one_receiver() {
    let mut settings = settings(BACKENDS[0]);
    settings.receivers = 4;
    settings.mask.no_steering = true;
    let receivers = start(settings, &Arc::new(Ledger::new(4, 1, &[]))).expect("start");
    assert_eq!((receivers.threads.len(), receivers.handle.receivers()), (1, 1));
}

#[test]
fn where_io_uring_is_refused_auto_falls_back_and_the_rest_is_told() {
    let refused = mask(true, false);
    let ledger = Arc::new(Ledger::new(1, 1, &[]));
    let receivers = start(settings((BackendChoice::Auto, refused)), &ledger).expect("start");
    assert_eq!(receivers.handle.backend(), BackendKind::Tokio);
    let receivers = start(settings((BackendChoice::Auto, mask(false, false))), &ledger);
    assert_eq!(receivers.expect("start").handle.backend(), BackendKind::IoUring);
    let error = start(settings((BackendChoice::IoUring, refused)), &ledger).expect_err("refused");
    assert!(error.to_string().contains("receive.backend"), "{error}");
}

#[test]
fn a_port_in_use_is_an_error_also_with_several_receivers() {
    let taken = sender("127.0.0.1:0");
    let address = taken.local_addr().expect("address");
    for receivers in [1, 2] {
        let mut settings = settings(BACKENDS[0]);
        settings.receivers = receivers;
        settings.listeners[0] = Some(listener(&address.to_string()));
        let error = start(settings, &Arc::new(Ledger::new(2, 1, &[]))).expect_err("in use");
        assert!(matches!(error, ReceiveError::PortInUse { .. }), "{error}");
        assert!(error.to_string().contains(&address.port().to_string()), "{error}");
    }
}

#[test]
fn other_settings_that_cannot_work_are_errors() {
    let ledger = Arc::new(Ledger::new(1, 1, &[]));
    let failure = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(BACKENDS[0]);
        change(&mut settings);
        start(settings, &ledger).expect_err("refused")
    };
    let error = failure(&|s| s.listeners = [None, None]);
    assert!(matches!(error, ReceiveError::NoListener), "{error}");
    // An address for documentation (RFC 5737), which no host has.
    let error = failure(&|s| s.listeners[0] = Some(listener("192.0.2.1:0")));
    assert!(matches!(error, ReceiveError::NotOurAddress { .. }), "{error}");
    let error = failure(&|s| s.slots = 5);
    assert!(matches!(error, ReceiveError::Slots { slots: 5 }), "{error}");
    let error = failure(&|s| {
        if let Some(listener) = &mut s.listeners[0] {
            listener.addresses.clear();
        }
    });
    assert!(matches!(error, ReceiveError::NoAddress { .. }), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_receiver_sleeps() {
    for backend in BACKENDS {
        let mut receivers =
            start(settings(backend), &Arc::new(Ledger::new(1, 1, &[]))).expect("start");
        let receiver = receivers.threads.remove(0);
        let thread = thread::Builder::new().name("rx-idle".into());
        let thread = thread.spawn(|| receiver.run(Beat::default())).expect("thread");
        let switches = || -> Option<u64> {
            let task = std::fs::read_dir("/proc/self/task").ok()?.flatten().find(|task| {
                std::fs::read_to_string(task.path().join("comm"))
                    .is_ok_and(|name| name == "rx-idle\n")
            })?;
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let count = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
            count.trim().parse().ok()
        };
        // A measurement over one second, after the thread has come to rest.
        thread::sleep(Duration::from_millis(200));
        let before = switches().expect("the thread runs");
        thread::sleep(Duration::from_secs(1));
        let switched = switches().expect("the thread runs") - before;
        assert!(switched < 20, "{switched} context switches in a second, {backend:?}");
        receivers.handle.stop(Instant::now() + PATIENCE);
        thread.join().expect("no panic").expect("no error");
    }
}
