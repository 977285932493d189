//! What it costs to write one event into a batch, for each destination and version, beside the
//! standard library's ways to write the same amount of text, and beside the floor: a copy of as many
//! bytes.
//!
//! The design aims at 350 ns for the performance event, as line protocol with `raw_event`; the aim is
//! not met (`docs/performance.md`).
//!
//! What is known beyond the event is measured beside it: a user event with app name and user agent, a
//! log event with two categories.
//!
//! Run with `cargo bench --bench encode`.

#[path = "workload/encoders.rs"]
mod encoders;
#[path = "workload/events.rs"]
mod events;

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use events::InSlot;
use ringside::deliver::{Buffer, Encode};
use ringside::enrich::{Enriched, UserAgent};
use ringside::event::{Event, Field, Int, Kind, parse};
use ringside::rules::Category;

/// Events in a batch before it is emptied, so that the buffer stays in the cache as it would.
const BATCH: usize = 64;

fn measure(
    criterion: &mut Criterion,
    name: &str,
    enriched: Enriched<'_>,
    encoder: &mut dyn Encode,
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

fn event<'a>(kind: Kind, slot: &'a InSlot, scratch: &'a mut Vec<u8>) -> Event<'a> {
    parse(kind.listener(), slot.payload(), scratch).expect("the event is valid")
}

fn encoders(criterion: &mut Criterion) {
    let kinds = [Kind::QixPerf, Kind::ProxySession, Kind::Proxy];
    let payloads = kinds.map(InSlot::typical);
    let mut scratches = [const { Vec::new() }; 3];
    let [one, two, three] = &mut scratches;
    let performance = event(kinds[0], &payloads[0], one);
    let user = event(kinds[1], &payloads[1], two);
    let proxy = event(kinds[2], &payloads[2], three);
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
    for (name, mut encoder) in encoders::all() {
        for (event, enriched) in events {
            if encoder.wants(enriched.event) {
                measure(criterion, &format!("{name}/{event}"), enriched, &mut *encoder);
            }
        }
    }
    for (name, event) in [("performance", &performance), ("user", &user), ("proxy", &proxy)] {
        standard(criterion, name, event);
    }
}

/// An event as JSON and as line protocol, as one would write it first.
fn standard(criterion: &mut Criterion, name: &str, event: &Event<'_>) {
    let mut group = criterion.benchmark_group(format!("encode by the standard/{name}"));
    let mut json = Vec::new();
    group.bench_function("serde_json::Value", |bencher| {
        bencher.iter(|| {
            json.clear();
            let columns = black_box(event).columns();
            let columns = columns.map(|(column, field)| (column.name().to_owned(), value(field)));
            let object: serde_json::Map<_, _> = columns.collect();
            serde_json::to_writer(&mut json, &object).expect("memory");
            json.len()
        });
    });
    let mut line = String::new();
    group.bench_function("write! of line protocol", |bencher| {
        bencher.iter(|| {
            line.clear();
            line.push_str("event,source=");
            line.push_str(event.kind().name());
            line.push(' ');
            for (column, field) in black_box(event).columns() {
                let name = column.name();
                let written = match field {
                    Field::Text(text) => {
                        write!(line, "{name}=\"{}\",", text.replace('"', "\\\""))
                    }
                    Field::Uuid(uuid) => write!(line, "{name}=\"{}\",", uuid.unwrap_or_default()),
                    Field::Int(Int::Value(value)) => write!(line, "{name}={value}i,"),
                    Field::Int(Int::Huge(value)) | Field::Float(value) => {
                        write!(line, "{name}={value},")
                    }
                };
                written.expect("memory");
            }
            line.len()
        });
    });
    let mut encoded = Buffer::with_capacity(16 * 1024);
    let (_, mut influxdb) = encoders::all().swap_remove(0);
    influxdb.encode(&Enriched::plain(event, 1_736_150_400_000_000_000), &mut encoded);
    let mut copy = vec![0; encoded.len()];
    group.throughput(Throughput::Bytes(copy.len() as u64));
    group.bench_function("floor: memcpy of what influxdb-v1 writes", |bencher| {
        bencher.iter(|| {
            copy.copy_from_slice(black_box(&encoded));
            black_box(&mut copy).len()
        });
    });
    group.finish();
}

fn value(field: Field<'_>) -> serde_json::Value {
    match field {
        Field::Text(text) => text.into(),
        Field::Uuid(uuid) => uuid.map(|uuid| uuid.to_string()).into(),
        Field::Int(Int::Value(value)) => value.into(),
        Field::Int(Int::Huge(value)) | Field::Float(value) => value.into(),
    }
}

criterion_group!(benches, encoders);
criterion_main!(benches);
