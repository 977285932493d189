//! What it costs to take one datagram of the benchmark mix through a shard: read, judge, encode for
//! InfluxDB 1, hand over in batches. Nothing is received and nothing is sent.
//!
//! The 4 096 events differ in everything that real ones differ in, so that branches are as hard to
//! foresee as they are in production: reading one event again and again takes half the time.
//!
//! Run with `cargo bench --bench shard`. Beside it stands the floor: the separators of the same
//! datagrams are found and the pieces put in an array.

#[path = "workload/events.rs"]
mod events;

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use events::InSlot;
use ringside::deliver::clock::SystemClock;
use ringside::deliver::influxdb::encode::{Encoder, EncoderSettings, InfluxVersion};
use ringside::deliver::{Clock as _, batch};
use ringside::event::{self, COLUMNS_MAX, Kind, Listener};
use ringside::observe::histogram::Latency;
use ringside::observe::ledger::Ledger;
use ringside::rules::{EnabledKinds, Rules};
use ringside::shard::{Lookups, Output, Settings, Shard, TURN_LEASES};
use ringside::synthetic::{Cluster, MONDAY_MORNING_MS, Mix};

/// As many as fit no first-level cache and any third-level one.
const EVENTS: usize = 4096;

fn mix() -> Vec<(Listener, InSlot)> {
    let mut cluster = Cluster::new(1, Mix::BENCHMARK, 4);
    cluster.set_time(MONDAY_MORNING_MS);
    let events = cluster.take(EVENTS).into_iter();
    events.map(|(listener, datagram)| (listener, InSlot::new(&datagram))).collect()
}

fn shard_of_one_destination() -> (Shard, batch::BatchReceiver) {
    let ledger = Arc::new(Ledger::new(1, 1, &["influxdb".into()]));
    let (mut senders, batches) = batch::queue(1);
    let encoder = Encoder::new(&EncoderSettings {
        version: InfluxVersion::V1,
        user_tags: Vec::new(),
        log_tags: Vec::new(),
        tags_as_fields: Vec::new(),
        log_row_tag: false,
        kinds: [true; Kind::COUNT],
    });
    let series = Arc::new(encoder.series());
    let output = Output {
        encoder: Box::new(encoder.counting(series)),
        sender: senders.remove(0),
        ledger: Arc::clone(&ledger.destinations[0]),
    };
    let settings = Settings {
        flush_interval: std::time::Duration::from_secs(1),
        batch_bytes: 256 * 1024,
        batch_events: 1000,
        turn_leases: TURN_LEASES,
    };
    let latency = Arc::new(Latency::default());
    let rules = Rules::accepting(EnabledKinds([true; Kind::COUNT]));
    let lookups =
        Lookups { rules: Arc::new(ArcSwap::from_pointee(rules)), app_names: Arc::default() };
    (Shard::new(0, settings, lookups, ledger, vec![output], latency), batches)
}

/// A shard and where its batches go, which is back to it.
struct Feed {
    shard: Shard,
    batches: batch::BatchReceiver,
    clock: SystemClock,
    received_ns: u64,
}

impl Feed {
    fn new() -> Self {
        let (shard, batches) = shard_of_one_destination();
        let clock = SystemClock::new();
        Self { shard, batches, received_ns: clock.wall_ns(), clock }
    }

    /// Takes these datagrams, in turns.
    fn take(&mut self, events: &[(Listener, InSlot)]) {
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for turn in events.chunks(TURN_LEASES) {
            let now = self.clock.now();
            self.shard.begin_turn();
            for (listener, slot) in turn {
                self.received_ns += 1;
                self.shard.take(*listener, slot.payload(), source, self.received_ns, now);
            }
            self.shard.end_turn(&self.clock);
            while let Some(batch) = self.batches.try_recv() {
                self.batches.recycle(batch.shard, batch.bytes);
            }
        }
    }
}

fn shard(criterion: &mut Criterion) {
    let events = mix();
    let mut group = criterion.benchmark_group("shard");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(30);
    group.bench_function("memchr", |bencher| {
        bencher.iter(|| {
            for (_, slot) in &events {
                let payload = slot.payload().bytes();
                let mut pieces: [&[u8]; COLUMNS_MAX] = [&[]; COLUMNS_MAX];
                let mut start = 0;
                let ends = memchr::memchr_iter(b';', payload).chain([payload.len()]);
                for (piece, end) in pieces.iter_mut().zip(ends) {
                    *piece = &payload[start..end];
                    start = end + 1;
                }
                black_box(&pieces);
            }
        });
    });
    group.bench_function("parse", |bencher| {
        let mut scratch = Vec::new();
        bencher.iter(|| {
            for (listener, slot) in &events {
                let _ = black_box(&event::parse(*listener, slot.payload(), &mut scratch));
            }
        });
    });
    group.bench_function("whole", |bencher| {
        let mut feed = Feed::new();
        bencher.iter(|| feed.take(&events));
    });
    // Two shards at once, each with all the events: how much of a second core is a second shard's?
    group.throughput(Throughput::Elements(2 * EVENTS as u64));
    group.bench_function("two at once", |bencher| {
        let mut feeds = [Feed::new(), Feed::new()];
        bencher.iter(|| {
            thread::scope(|scope| {
                for feed in &mut feeds {
                    scope.spawn(|| feed.take(&events));
                }
            });
        });
    });
    group.finish();
}

criterion_group!(benches, shard);
criterion_main!(benches);
