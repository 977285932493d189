//! What it costs to write one event into a batch.
//!
//! The design aims at 350 ns for the performance event, as line protocol with `raw_event`. About 700
//! were measured: the aim is not met.
//!
//! What is known beyond the event is measured beside it: a user event with app name and user agent, a
//! log event with two categories.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringside::deliver::{Buffer, Encode, influxdb, ndjson};
use ringside::enrich::{Enriched, UserAgent};
use ringside::event::{Event, Kind, Listener, parse};
use ringside::rules::Category;

/// A performance event of 372 bytes, the average in the recorded traffic.
const PERFORMANCE: &str = "/qseow-qix-perf/;4711;20250106T080000.028+0100;\
    2025-01-06 08:00:00,028;INFO;pro2-win1;QixPerformance.Engine.Engine;LAB\\qlikservice;\
    3b3b3b3b-1111-4a3b-8b3b-000000000001;LAB;anna.andersson;20250106T080000.028+0100;\
    3b3b3b3b-3333-4a3b-8b3b-000000000003;e7af59a0-c243-480d-9571-08727551a66f;1207;\
    GenericObject::GetLayout;12.503;11.25;0.25;1;0;3;rwPjBkaaa;123456;234567;barchart";

const USER: &str = "/qseow-proxy-connection/;pro2-win1;Open connection;LAB;anna;AppAccess;\
    /app/e7af59a0-c243-480d-9571-08727551a66f;Connection opened";

const PROXY: &str = "/qseow-proxy/;14;20250106T080000.028+0100;2025-01-06 08:00:00,028;WARN;\
    pro2-win1;Proxy.Sessions;LAB\\qlikservice;Certificate of the engine expires soon;;LAB;\
    anna.andersson;Open connection;403;AppAccess;/app/e7af59a0-c243-480d-9571-08727551a66f";

/// Events in a batch before it is emptied, so that the buffer stays in the cache as it would.
const BATCH: usize = 64;

fn measure(
    criterion: &mut Criterion,
    name: &str,
    enriched: Enriched<'_>,
    encoder: &mut impl Encode,
) {
    let mut batch = Buffer::with_capacity(256 * 1024);
    encoder.encode(&enriched, &mut batch);
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Bytes(batch.len() as u64));
    let mut events = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            events += 1;
            if events % BATCH == 0 {
                batch.clear();
            }
            encoder.encode(black_box(&enriched), &mut batch);
        });
    });
    group.finish();
}

fn event<'a>(listener: Listener, payload: &'a str, scratch: &'a mut Vec<u8>) -> Event<'a> {
    parse(listener, payload.as_bytes(), scratch).expect("the event is valid")
}

fn encoders(criterion: &mut Criterion) {
    assert_eq!(PERFORMANCE.len(), 372);
    let mut scratches = [const { Vec::new() }; 3];
    let [one, two, three] = &mut scratches;
    let performance = event(Listener::LogEvents, PERFORMANCE, one);
    let user = event(Listener::UserEvents, USER, two);
    let proxy = event(Listener::LogEvents, PROXY, three);
    let agent = UserAgent {
        browser_name: "Chrome".into(),
        browser_version: "120.0.0.0".into(),
        browser_major_version: "120".into(),
        os_name: "Windows".into(),
        os_version: "NT 10.0".into(),
    };
    let category = |name: &str, value: &str| Category { name: name.into(), value: value.into() };
    let known = [category("qs_log_category", "certificate"), category("severity", "low")];
    let categories: Vec<&Category> = known.iter().collect();
    let plain = |event| Enriched::plain(event, 1_736_150_400_000_000_000);
    let events = [
        ("performance", plain(&performance)),
        ("user", plain(&user)),
        (
            "enriched_user",
            Enriched { app_name: Some("Sales forecast"), user_agent: Some(&agent), ..plain(&user) },
        ),
        ("proxy", plain(&proxy)),
        ("categorised_proxy", Enriched { categories: Some(&categories), ..plain(&proxy) }),
    ];
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
            tags_as_fields: Vec::new(),
            log_row_tag: false,
            kinds,
        });
        for (event, enriched) in events {
            measure(criterion, &format!("{name}/{event}"), enriched, &mut encoder);
        }
    }
    let mut encoder = ndjson::encode::Encoder::new(kinds);
    for (event, enriched) in events {
        measure(criterion, &format!("ndjson/{event}"), enriched, &mut encoder);
    }
}

criterion_group!(benches, encoders);
criterion_main!(benches);
