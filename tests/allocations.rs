//! The steady state allocates nothing per event, from the receive to the encoded batch.
//!
//! The real engine runs in this process under a counting allocator, with a destination for each
//! format, which gives each batch back at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ringside::deliver::influxdb::encode::{Encoder, EncoderSettings, InfluxVersion};
use ringside::deliver::{Destination, Encode, Served, ndjson};
use ringside::engine::{Engine, Settings};
use ringside::event::{Kind, Listener};
use ringside::observe::ledger::DeliverCounts;
use ringside::receive::{self, BackendChoice, ListenerSettings};
use ringside::rules::{EnabledKinds, Rules};
use ringside::shard;
use ringside::synthetic::{Cluster, Mix};

/// Allocations of the receivers and the shards: what delivers, and this test, say that they do not
/// count.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static UNCOUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn count() {
        if !UNCOUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a destination is given.
#[derive(Clone, Copy, Debug)]
enum Format {
    Influx(InfluxVersion),
    Ndjson,
}

const FORMATS: [Format; 4] = [
    Format::Influx(InfluxVersion::V1),
    Format::Influx(InfluxVersion::V2),
    Format::Influx(InfluxVersion::V3),
    Format::Ndjson,
];

/// Encodes in one format and delivers to nowhere.
#[derive(Debug)]
struct Nowhere {
    format: Format,
    batches: Arc<AtomicU64>,
}

impl Destination for Nowhere {
    fn name(&self) -> String {
        format!("{:?}", self.format)
    }

    fn identity(&self) -> Option<String> {
        None
    }

    fn encoder(&self) -> Box<dyn Encode> {
        let kinds = [true; Kind::COUNT];
        let Format::Influx(version) = self.format else {
            return Box::new(ndjson::encode::Encoder::new(kinds));
        };
        Box::new(Encoder::new(&EncoderSettings {
            version,
            user_tags: vec![("qs_env".into(), "dev".into())],
            log_tags: vec![("qs_env".into(), "dev".into())],
            tags_as_fields: Vec::new(),
            log_row_tag: false,
            kinds,
        }))
    }

    fn serve(self: Box<Self>, mut served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            UNCOUNTED.set(true);
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
            listeners: [Some(listener.clone()), Some(listener)],
            backend,
            ..receive::Settings::default()
        },
        shard: shard::Settings {
            // Large batches, so that what a batch costs does not hide what an event costs.
            flush_interval: Duration::from_secs(1),
            batch_bytes: 1024 * 1024,
            batch_events: 5000,
            turn_leases: shard::TURN_LEASES,
        },
        rules: Arc::new(ArcSwap::from_pointee(Rules::accepting(EnabledKinds([true; Kind::COUNT])))),
        app_names: Arc::default(),
        destinations: FORMATS
            .map(|format| Box::new(Nowhere { format, batches: Arc::clone(batches) }) as Box<_>)
            .into(),
        counters: ringside::counters::Settings::default(),
        in_flight: 1,
        spool: None,
    }
}

/// Sends `events` and waits until they are delivered; the sending allocates nothing itself.
fn pass(
    engine: &Engine,
    sockets: &[UdpSocket; Listener::COUNT],
    events: &[(Listener, Vec<u8>)],
    before: u64,
) {
    // Paced by the shard, which is slow without optimization: nothing is to be lost.
    let taken = || engine.state().ledger.shards[0].iter().map(|b| b.read().taken).sum::<u64>();
    let start = Instant::now();
    let mut sent = before;
    for chunk in events.chunks(500) {
        for (listener, event) in chunk {
            sockets[*listener as usize].send(event).expect("send on loopback");
        }
        sent += chunk.len() as u64;
        while taken() < sent {
            assert!(start.elapsed() < Duration::from_secs(30), "{} of {sent} taken", taken());
            thread::yield_now();
        }
    }
    let destinations = &engine.state().ledger.destinations;
    let delivered =
        || destinations.iter().map(|d| d.delivered.read().delivered).min().unwrap_or_default();
    while delivered() < before + events.len() as u64 {
        assert!(start.elapsed() < Duration::from_secs(30), "{} delivered", delivered());
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn allocates_nothing_per_event(backend: BackendChoice) {
    // Events of all seven kinds.
    let events = Cluster::new(7, Mix::CLUSTER, 1).take(20_000);
    let batches = Arc::new(AtomicU64::new(0));
    let engine = Engine::start(settings(backend, &batches)).expect("the engine starts");
    let sockets = Listener::ALL.map(|listener| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(engine.receivers().addresses(listener)[0]).expect("connect");
        socket
    });

    // The first rounds fill pools and grow buffers to their size.
    let mut sent = 0;
    for _ in 0..3 {
        pass(&engine, &sockets, &events, sent);
        sent += events.len() as u64;
    }
    let (allocations, batches_before) =
        (ALLOCATIONS.load(Ordering::SeqCst), batches.load(Ordering::SeqCst));
    for _ in 0..3 {
        pass(&engine, &sockets, &events, sent);
        sent += events.len() as u64;
    }
    let allocations = ALLOCATIONS.load(Ordering::SeqCst) - allocations;
    let batches = batches.load(Ordering::SeqCst) - batches_before;
    let encoded = 3 * (events.len() * FORMATS.len()) as u64;
    eprintln!("{allocations} allocations, {batches} batches, {encoded} events encoded");
    // A batch may cost a few (the queue's blocks, a shared buffer's header), an event none.
    assert!(allocations <= 4 * batches, "{allocations} allocations for {batches} batches");
    assert!(batches * 100 <= encoded, "{batches} batches would hide what {encoded} events cost");

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let drained = runtime.block_on(engine.drain(Duration::from_secs(10)));
    assert!(drained.clean && drained.ledger.balanced());
}

/// One test, so that nothing else in the process allocates meanwhile.
#[test]
fn from_receive_to_batch() {
    UNCOUNTED.set(true);
    allocates_nothing_per_event(BackendChoice::IoUring);
    allocates_nothing_per_event(BackendChoice::Tokio);
}
