//! What it costs to judge and enrich an event, for which there is a budget of 60 ns.
//!
//! `mix` is the benchmark mix under more rules than most operators have, in the order in which a shard
//! does it. `parsed and judged` less `parsed` is what judging and enriching cost there; `judged` is the
//! same alone, and the floor is what nobody gets below: of each event, the look-ups that its kind asks
//! for, with the keys at hand, or the search for one text.
//!
//! Run with `cargo bench --bench rules`.

#[path = "workload/busy_rules.rs"]
mod busy_rules;

use std::hint::black_box;

use busy_rules::{METHODS, OBJECT_TYPES, judge, lookups};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use ringside::enrich::UserAgents;
use ringside::event::{self, Column, Event, Kind, Listener};
use ringside::synthetic::{Cluster, Mix};
use uuid::Uuid;

/// Events of the mix: enough for its proportions, few enough to stay in the cache like the one event
/// that a shard has in hand.
const EVENTS: usize = 100;

/// What the least of all implementations does.
struct Floor {
    names: HashMap<Uuid, u32, RandomState>,
    texts: HashSet<Box<str>, RandomState>,
    text: memchr::memmem::Finder<'static>,
}

impl Floor {
    fn judge(&self, event: &Event<'_>) -> bool {
        if event.kind() != Kind::QixPerf {
            return self.text.find(event.text(Column::Message).as_bytes()).is_some();
        }
        let name = event.uuid(Column::AppId).and_then(|app| self.names.get(&app));
        name.is_some()
            && !self.texts.contains(event.text(Column::Method))
            && !self.texts.contains(event.text(Column::ObjectType))
    }
}

/// Whether an event is wanted, asked of lists as they stand in a configuration, one entry after the
/// other.
fn one_by_one(texts: &[String], event: &Event<'_>) -> bool {
    if event.kind() != Kind::QixPerf {
        let message = event.text(Column::Message);
        return texts.iter().any(|text| message.contains(text.as_str()));
    }
    !METHODS.contains(&event.text(Column::Method))
        && !OBJECT_TYPES.contains(&event.text(Column::ObjectType))
}

fn mix(criterion: &mut Criterion) {
    let payloads = Cluster::new(1, Mix::BENCHMARK, 4).take(EVENTS);
    let mut scratches = vec![Vec::new(); EVENTS];
    let events: Vec<Event<'_>> = payloads
        .iter()
        .zip(&mut scratches)
        .map(|((listener, payload), scratch)| {
            event::parse(*listener, payload, scratch).expect("an event")
        })
        .collect();
    let (rules, names) = lookups(&events);
    let mut agents = UserAgents::new();
    let floor = Floor {
        names: events.iter().filter_map(|event| Some((event.uuid(Column::AppId)?, 1))).collect(),
        texts: METHODS.into_iter().chain(OBJECT_TYPES).map(Into::into).collect(),
        text: memchr::memmem::Finder::new("Connection lost "),
    };
    let mut scratch = Vec::new();
    let mut group = criterion.benchmark_group("mix");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("floor", |bencher| {
        bencher.iter(|| events.iter().filter(|event| floor.judge(black_box(event))).count());
    });
    let texts: Vec<String> = (0..60).map(|number| format!("Connection lost {number}")).collect();
    group.bench_function("one by one", |bencher| {
        bencher.iter(|| events.iter().filter(|e| one_by_one(&texts, black_box(e))).count());
    });
    group.bench_function("judged", |bencher| {
        bencher.iter(|| {
            let wanted = |event: &&Event<'_>| judge(&rules, &names, &mut agents, black_box(event));
            events.iter().filter(wanted).count()
        });
    });
    for (name, judged) in [("parsed", false), ("parsed and judged", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut wanted = 0;
                for (listener, payload) in &payloads {
                    let event = event::parse(*listener, payload, &mut scratch);
                    if let Ok(event) = black_box(&event) {
                        wanted += u32::from(!judged || judge(&rules, &names, &mut agents, event));
                    }
                }
                wanted
            });
        });
    }
    group.finish();
}

const APP: &str = "e7af59a0-c243-480d-9571-08727551a66f";

/// What each kind of event costs by itself.
fn kinds(criterion: &mut Criterion) {
    let engine = |message: &str| {
        format!("/qseow-engine/;14;;;WARN;pro2-win1;System.Engine.Engine;LAB\\service;{message}")
    };
    let perf = |object_type: &str| {
        format!(
            "/qseow-qix-perf/;14;;;INFO;pro2-win1;Qix;LAB\\service;{APP};LAB;goran;;{APP};{APP};7;\
             GenericObject::GetLayout;12.5;11;0.25;1;0;3;rwPjBk;123456;234567;{object_type}"
        )
    };
    let session = format!(
        "/qseow-proxy-session/;host;Start session;LAB;goran;AppAccess;/app/{APP};UserAgent: \
         'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/124.0.0.0 Safari/537.36'"
    );
    let events = [
        ("user event", Listener::UserEvents, session),
        ("performance event", Listener::LogEvents, perf("barchart")),
        ("performance event, not as it came", Listener::LogEvents, perf("(null)")),
        (
            "log event with a category",
            Listener::LogEvents,
            engine("The server said: Connection lost 1 to the data source"),
        ),
        (
            "log event with the default category",
            Listener::LogEvents,
            engine("Access was denied for the user to the resource that was asked for, at once"),
        ),
    ];
    let mut agents = UserAgents::new();
    let mut group = criterion.benchmark_group("judged");
    for (name, listener, payload) in &events {
        let mut scratch = Vec::new();
        let event = event::parse(*listener, payload.as_bytes(), &mut scratch).expect("an event");
        let (rules, names) = lookups(std::slice::from_ref(&event));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| judge(&rules, &names, &mut agents, black_box(&event)));
        });
    }
    group.finish();
}

criterion_group!(benches, mix, kinds);
criterion_main!(benches);
