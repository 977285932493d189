//! What it costs to read one datagram of each kind, and the floor below which nobody gets: finding
//! the separators of the performance event and putting the 26 pieces in an array.
//!
//! Run with `cargo bench --bench event`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringside::event::{self, Kind, Listener};

const ID: &str = "e7af59a0-c243-480d-9571-08727551a66f";

/// A typical event; the performance event has 372 bytes, as in the budget.
fn typical(kind: Kind) -> String {
    let name = kind.name();
    let head = format!(
        "/{name}/;1437;20211109T153726.028+0200;2021-11-09 15:37:26,028;WARN;pro2-win1;\
         System.{}.Service;LAB\\qlikservice",
        &name["qseow-".len()..],
    );
    match kind {
        Kind::ProxySession | Kind::ProxyConnection => format!(
            "/{name}/;pro2-win1;Open connection;LAB;goran;AppAccess;/app/{ID};connection Opened \
             for session 'b37523a5-3b4a-4ee2-a463-513755ac0ecd'; path '/app/{ID}'; UserAgent: \
             'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/124.0.0.0 Safari/537.36'"
        ),
        Kind::Engine => format!(
            "{head};Connection to the data source was lost;{ID};LAB;goran;20211109T153726.028+0200;\
             {ID};12.1477.4;20211101T080000.000+0200;System;{ID};{ID}"
        ),
        Kind::Proxy | Kind::Repository => format!(
            "{head};Access was denied for the user;The certificate chain is not trusted;LAB;goran;\
             Open connection;403;AppAccess;/app/{ID}"
        ),
        Kind::Scheduler => format!(
            "{head};Reload failed in Engine. Check engine or script logs.;;LAB;goran;;Manually \
             triggered reload of Sales;Sales;{ID};{ID};{ID}"
        ),
        Kind::QixPerf => {
            let start = format!(
                "/{name}/;1437;20211109T153726.028+0200;2021-11-09 15:37:26,028;INFO;pro2-win1;\
                 QixPerformance.Engine.Engine;LAB\\qlikservice;{ID};LAB;goran;\
                 20211109T153726.028+0200;{ID};{ID};7;GenericObject::GetLayout;12.5;11;0.25;1;0;3;\
                 rwPjBk;123456;234567;"
            );
            let object_type = "x".repeat(372 - start.len());
            start + &object_type
        }
    }
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let mut scratch = Vec::new();
    for kind in Kind::ALL {
        let text = typical(kind);
        let payload = text.as_bytes();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(kind.name(), |bencher| {
            bencher.iter(|| {
                black_box(&event::parse(kind.listener(), black_box(payload), &mut scratch)).is_ok()
            });
        });
    }
    let dirty = typical(Kind::QixPerf).replace("pro2", "pro\x01");
    group.bench_function("qseow-qix-perf, with a control character", |bencher| {
        bencher.iter(|| {
            let payload = black_box(dirty.as_bytes());
            black_box(&event::parse(Listener::LogEvents, payload, &mut scratch)).is_ok()
        });
    });
    group.finish();
}

fn floor(criterion: &mut Criterion) {
    let payload = typical(Kind::QixPerf).into_bytes();
    let mut group = criterion.benchmark_group("floor");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("memchr into 26 pieces", |bencher| {
        bencher.iter(|| {
            let line = black_box(&payload[..]);
            let mut pieces: [&[u8]; 26] = [&[]; 26];
            let mut start = 0;
            for (piece, end) in pieces.iter_mut().zip(memchr::memchr_iter(b';', line)) {
                *piece = &line[start..end];
                start = end + 1;
            }
            pieces[25] = &line[start..];
            black_box(&pieces).len()
        });
    });
    group.finish();
}

criterion_group!(benches, parse, floor);
criterion_main!(benches);
