//! What it costs to bring a datagram from a receiver to a shard, and to keep the book of the pool.
//!
//! Run with `cargo bench --bench handoff`.

#[path = "workload/events.rs"]
mod events;
#[path = "workload/receive.rs"]
mod receive;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use receive::{BATCH, Book, Channel, Copies, Inline, Leases};
// `workload/receive.rs` compiles sources that expect `event` here.
use ringside::event::{self, Kind};

fn hand_off(criterion: &mut Criterion) {
    let payload = events::typical(Kind::QixPerf).into_bytes();
    let mut group = criterion.benchmark_group("hand-off");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut leases = Leases::new(&payload);
    group.bench_function("leases through rings", |bencher| {
        bencher.iter(|| leases.turn(|payload| _ = black_box(payload)));
    });
    let mut copies = Copies::new(&payload);
    group.bench_function("copies into chunks", |bencher| {
        bencher.iter(|| copies.turn(|payload| _ = black_box(payload)));
    });
    let mut inline = Inline::new(&payload);
    group.bench_function("none: the receiver reads", |bencher| {
        bencher.iter(|| inline.turn(|payload| _ = black_box(payload)));
    });
    let mut channel = Channel::new(&payload);
    group.bench_function("vectors through std::sync::mpsc", |bencher| {
        bencher.iter(|| channel.turn(|payload| _ = black_box(payload)));
    });
    let mut copy = vec![0; payload.len()];
    group.bench_function("floor of a copy: memcpy", |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCH {
                copy.copy_from_slice(black_box(&payload));
                black_box(&mut copy);
            }
        });
    });
    group.finish();
}

fn pool(criterion: &mut Criterion) {
    let payload = events::typical(Kind::QixPerf).into_bytes();
    let mut group = criterion.benchmark_group("pool");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut book = Book::new(&payload);
    group.bench_function("take, lease, give back", |bencher| bencher.iter(|| book.turn()));
    let mut buffers = Vec::with_capacity(BATCH);
    group.bench_function("the allocator in its place", |bencher| {
        bencher.iter(|| {
            buffers.extend((0..BATCH).map(|_| Vec::<u8>::with_capacity(black_box(2048))));
            black_box(&mut buffers).clear();
        });
    });
    group.finish();
}

criterion_group!(benches, hand_off, pool);
criterion_main!(benches);
