//! What it costs to write one event into a batch.
//!
//! Budget: 350 ns for the performance event, as line protocol with `raw_event`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringside::deliver::{Buffer, Encode, influxdb, ndjson};
use ringside::enrich::Enriched;
use ringside::event::{Event, Kind, Listener, parse};

/// A performance event of 372 bytes, the average in the recorded traffic.
const PERFORMANCE: &str = "/qseow-qix-perf/;4711;20250106T080000.028+0100;\
    2025-01-06 08:00:00,028;INFO;pro2-win1;QixPerformance.Engine.Engine;LAB\\qlikservice;\
    3b3b3b3b-1111-4a3b-8b3b-000000000001;LAB;anna.andersson;20250106T080000.028+0100;\
    3b3b3b3b-3333-4a3b-8b3b-000000000003;e7af59a0-c243-480d-9571-08727551a66f;1207;\
    GenericObject::GetLayout;12.503;11.25;0.25;1;0;3;rwPjBkaaa;123456;234567;barchart";

const USER: &str = "/qseow-proxy-connection/;pro2-win1;Open connection;LAB;anna;AppAccess;\
    /app/e7af59a0-c243-480d-9571-08727551a66f;Connection opened";

/// Events in a batch before it is emptied, so that the buffer stays in the cache as it would.
const BATCH: usize = 64;

fn measure(criterion: &mut Criterion, name: &str, event: &Event<'_>, encoder: &mut impl Encode) {
    let mut batch = Buffer::with_capacity(256 * 1024);
    encoder.encode(&Enriched::plain(event, 1), &mut batch);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(batch.len() as u64));
    let mut events = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            events += 1;
            if events % BATCH == 0 {
                batch.clear();
            }
            let enriched = Enriched::plain(black_box(event), 1_736_150_400_000_000_000);
            encoder.encode(&enriched, &mut batch);
        });
    });
    group.finish();
}

fn encoders(criterion: &mut Criterion) {
    assert_eq!(PERFORMANCE.len(), 372);
    let (mut scratch, mut user_scratch) = (Vec::new(), Vec::new());
    let performance = parse(Listener::LogEvents, PERFORMANCE.as_bytes(), &mut scratch)
        .expect("the event is valid");
    let user = parse(Listener::UserEvents, USER.as_bytes(), &mut user_scratch)
        .expect("the event is valid");
    let kinds = [true; Kind::COUNT];
    for (version, name) in [
        (influxdb::encode::InfluxVersion::V1, "influxdb_v1"),
        (influxdb::encode::InfluxVersion::V2, "influxdb_v2"),
        (influxdb::encode::InfluxVersion::V3, "influxdb_v3"),
    ] {
        let tags = vec![("qs_env".to_owned(), "production".to_owned())];
        let mut encoder = influxdb::encode::Encoder::new(&influxdb::encode::EncoderSettings {
            version,
            user_tags: tags.clone(),
            log_tags: tags,
            log_row_tag: false,
            kinds,
        });
        measure(criterion, &format!("{name}/performance"), &performance, &mut encoder);
        measure(criterion, &format!("{name}/user"), &user, &mut encoder);
    }
    let mut encoder = ndjson::encode::Encoder::new(kinds);
    measure(criterion, "ndjson/performance", &performance, &mut encoder);
    measure(criterion, "ndjson/user", &user, &mut encoder);
}

criterion_group!(benches, encoders);
criterion_main!(benches);
