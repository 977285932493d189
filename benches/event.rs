//! What it costs to read one datagram of each kind, beside the parser written plainly, and beside the
//! floor below which nobody gets: finding the separators of the performance event and putting the 26
//! pieces in an array.
//!
//! ```text
//! cargo bench --bench event               all of it
//! cargo bench --bench event -- ratio      only: parsing against the floor, taken in turns
//! ```

#[path = "workload/events.rs"]
mod events;
#[path = "workload/floor.rs"]
mod floor;
#[path = "../tests/naive/mod.rs"]
#[allow(dead_code, clippy::pedantic, reason = "of the tests' parser only `parse` is used")]
mod naive;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group};
use events::{InSlot, typical};
use ringside::event::{self, Kind, Listener};

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let mut scratch = Vec::new();
    for kind in Kind::ALL {
        let slot = InSlot::typical(kind);
        group.throughput(Throughput::Bytes(slot.payload().bytes().len() as u64));
        group.bench_function(kind.name(), |bencher| {
            bencher.iter(|| {
                black_box(&event::parse(kind.listener(), slot.payload(), &mut scratch)).is_ok()
            });
        });
    }
    let dirty = InSlot::new(typical(Kind::QixPerf).replace("pro2", "pro\x01").as_bytes());
    group.bench_function("qseow-qix-perf, with a control character", |bencher| {
        bencher.iter(|| {
            black_box(&event::parse(Listener::LogEvents, dirty.payload(), &mut scratch)).is_ok()
        });
    });
    group.finish();
}

fn split(criterion: &mut Criterion) {
    let payload = typical(Kind::QixPerf).into_bytes();
    let text = typical(Kind::QixPerf);
    let mut scratch = Vec::new();
    let mut group = criterion.benchmark_group("split");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("floor: memchr into 26 pieces", |bencher| {
        bencher.iter(|| black_box(floor::pieces(black_box(&payload))).len());
    });
    // A datagram of unknown type is split, and no more.
    let unknown = InSlot::new(text.replace("perf", "pert").as_bytes());
    group.bench_function("as the parser does", |bencher| {
        bencher
            .iter(|| event::parse(Listener::LogEvents, unknown.payload(), &mut scratch).is_err());
    });
    group.bench_function("str::split into a Vec", |bencher| {
        bencher.iter(|| black_box(text.as_str()).split(';').collect::<Vec<&str>>().len());
    });
    let mut copy = vec![0; payload.len()];
    group.bench_function("floor of floors: memcpy", |bencher| {
        bencher.iter(|| {
            copy.copy_from_slice(black_box(&payload));
            black_box(&mut copy).len()
        });
    });
    group.finish();
}

fn plain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse plainly");
    for kind in Kind::ALL {
        let payload = typical(kind).into_bytes();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(kind.name(), |bencher| {
            bencher.iter(|| naive::parse(kind.listener(), black_box(&payload)).is_ok());
        });
    }
    group.finish();
}

/// Time of some calls.
fn timed(mut call: impl FnMut()) -> Duration {
    const CALLS: u32 = 5_000;
    let start = Instant::now();
    (0..CALLS).for_each(|_| call());
    start.elapsed() / CALLS
}

/// Parses a performance event and runs the floor in turns, so that both meet the same neighbours;
/// prints the medians.
fn ratio() {
    const ROUNDS: usize = 201;
    let payload = typical(Kind::QixPerf).into_bytes();
    let slot = InSlot::typical(Kind::QixPerf);
    let mut scratch = Vec::new();
    let mut rounds: Vec<(Duration, Duration)> = (0..ROUNDS)
        .map(|_| {
            let floor = timed(|| _ = black_box(floor::pieces(black_box(&payload))));
            let parse = timed(|| {
                let event = event::parse(Listener::LogEvents, slot.payload(), &mut scratch);
                let _ = black_box(&event);
            });
            (parse, floor)
        })
        .collect();
    let of = |(parse, floor): &(Duration, Duration)| parse.as_secs_f64() / floor.as_secs_f64();
    rounds.sort_by(|one, other| of(one).total_cmp(&of(other)));
    let median = rounds[ROUNDS / 2];
    println!(
        "parse and validate / memchr into 26 pieces: {:?} / {:?} = {:.2} (median of {ROUNDS}; half \
         of them between {:.2} and {:.2})",
        median.0,
        median.1,
        of(&median),
        of(&rounds[ROUNDS / 4]),
        of(&rounds[3 * ROUNDS / 4]),
    );
}

criterion_group!(benches, parse, plain, split);

fn main() {
    let asked = |argument: &str| std::env::args().any(|given| given == argument);
    if !asked("ratio") {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
    // `cargo test` does not say it, and has no use for times.
    if asked("--bench") {
        ratio();
    }
}
