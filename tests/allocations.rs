//! The steady state allocates nothing per event, from the receive to the encoded batch.
//!
//! The real engine runs in this process under a counting allocator, with a destination that encodes
//! for InfluxDB and gives each batch back at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringside::deliver::influxdb::encode::{Encoder, EncoderSettings, InfluxVersion};
use ringside::deliver::{Destination, Encode, Served};
use ringside::engine::{Engine, Settings};
use ringside::event::{Kind, Listener};
use ringside::observe::ledger::DeliverCounts;
use ringside::receive::{self, BackendChoice, ListenerSettings};
use ringside::rules::EnabledKinds;
use ringside::shard;
use ringside::synthetic::{Cluster, Mix};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Encodes for InfluxDB 1 and delivers to nowhere.
#[derive(Debug)]
struct Nowhere {
    batches: Arc<AtomicU64>,
}

impl Destination for Nowhere {
    fn name(&self) -> String {
        "nowhere".into()
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(Encoder::new(&EncoderSettings {
            version: InfluxVersion::V1,
            user_tags: Vec::new(),
            log_tags: vec![("qs_env".into(), "dev".into())],
            log_row_tag: false,
            kinds: [true; Kind::COUNT],
        }))
    }

    fn serve(self: Box<Self>, mut served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let mut counts = DeliverCounts::default();
            while let Some(batch) = served.batches.recv().await {
                counts.taken += u64::from(batch.events);
                counts.delivered += u64::from(batch.events);
                served.ledger.delivered.publish(&counts);
                self.batches.fetch_add(1, Ordering::Relaxed);
                served.batches.recycle(batch.shard, batch.bytes);
            }
        })
    }
}

fn settings(backend: BackendChoice, batches: &Arc<AtomicU64>) -> Settings {
    let listener = ListenerSettings {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        max_message_size: 65_507,
        queue_capacity: 210,
        backpressure_threshold: 80,
        strict: false,
    };
    Settings {
        receive: receive::Settings {
            listeners: [None, Some(listener)],
            backend,
            ..receive::Settings::default()
        },
        shard: shard::Settings {
            flush_interval: Duration::from_millis(100),
            batch_bytes: 256 * 1024,
            batch_events: 1000,
            turn_leases: shard::TURN_LEASES,
        },
        enabled: EnabledKinds([true; Kind::COUNT]),
        destinations: vec![Box::new(Nowhere { batches: Arc::clone(batches) })],
        in_flight: 1,
    }
}

/// Sends `events` and waits until they are delivered; the sending allocates nothing itself.
fn pass(engine: &Engine, socket: &UdpSocket, events: &[Vec<u8>], before: u64) {
    for chunk in events.chunks(500) {
        for event in chunk {
            socket.send(event).expect("send on loopback");
        }
        thread::yield_now();
    }
    let start = Instant::now();
    let delivered = || engine.state().ledger.destinations[0].delivered.read().delivered;
    while delivered() < before + events.len() as u64 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} delivered", delivered());
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn allocates_nothing_per_event(backend: BackendChoice) {
    let events: Vec<Vec<u8>> = Cluster::new(7, Mix::BENCHMARK, 1)
        .take(20_000)
        .into_iter()
        .map(|(_, payload)| payload)
        .collect();
    let batches = Arc::new(AtomicU64::new(0));
    let engine = Engine::start(settings(backend, &batches)).expect("the engine starts");
    let target = engine.receivers().addresses(Listener::LogEvents)[0];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(target).expect("connect");

    // The first rounds fill pools and grow buffers to their size.
    let mut sent = 0;
    for _ in 0..3 {
        pass(&engine, &socket, &events, sent);
        sent += events.len() as u64;
    }
    let (allocations, batches_before) =
        (ALLOCATIONS.load(Ordering::SeqCst), batches.load(Ordering::SeqCst));
    for _ in 0..3 {
        pass(&engine, &socket, &events, sent);
        sent += events.len() as u64;
    }
    let allocations = ALLOCATIONS.load(Ordering::SeqCst) - allocations;
    let batches = batches.load(Ordering::SeqCst) - batches_before;
    // A batch may cost a few (the queue's blocks, a shared buffer's header), an event none.
    assert!(allocations <= 4 * batches, "{allocations} allocations for {batches} batches");
    assert!(batches < 60_000 / 50, "{batches} batches would hide allocations per event");

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let drained = runtime.block_on(engine.drain(Duration::from_secs(10)));
    assert!(drained.clean && drained.ledger.balanced());
}

/// One test, so that nothing else in the process allocates meanwhile.
#[test]
fn from_receive_to_batch() {
    allocates_nothing_per_event(BackendChoice::IoUring);
    allocates_nothing_per_event(BackendChoice::Tokio);
}
