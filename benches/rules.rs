//! What it costs to judge an event: a performance event by its filters, a log event by its message.
//! The budget for this and for looking up names is 60 ns.
//!
//! Run with `cargo bench --bench rules`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringside::event::{self, Kind, Listener};
use ringside::rules::categorise::{Action, Categorise, Filter, Level, Rule};
use ringside::rules::monitor::{AllApps, AppFilter, AppSelector, Choice, MonitorFilter};
use ringside::rules::{Category, EnabledKinds, ExcludedUser, Rules, Settings};
use uuid::Uuid;

const APP: &str = "e7af59a0-c243-480d-9571-08727551a66f";

/// Twenty of everything: longer lists than most operators have.
const LISTED: u128 = 20;

fn texts(name: &str) -> Vec<String> {
    (0..LISTED).map(|n| format!("{name}{n}")).collect()
}

fn settings() -> Settings {
    let some = |id| AppSelector { id: Some(Uuid::from_u128(id)), name: None };
    let apps: Vec<AppSelector> = (0..LISTED).map(some).collect();
    let user = |id| ExcludedUser { directory: "LAB".into(), id };
    let rule = |text: String| Rule {
        levels: vec![Level::Warn, Level::Error],
        action: Action::Categorise(vec![Category { name: "c".into(), value: text.clone() }]),
        filters: vec![
            Filter::Start(format!("{text} at the start")),
            Filter::End(format!("{text} at the end")),
            Filter::Anywhere(text),
        ],
    };
    Settings {
        excluded_users: texts("user").into_iter().map(user).collect(),
        monitor_filter: Some(MonitorFilter {
            all_apps: Some(AllApps {
                exclude: apps.clone(),
                object_types: Choice::AllBut(texts("type")),
                methods: Choice::Only(texts("Method::")),
            }),
            app_specific: vec![AppFilter {
                include: vec![AppSelector { id: Uuid::try_parse(APP).ok(), name: None }],
                object_types: Choice::AllBut(texts("type")),
                objects: Choice::AllBut(texts("object")),
                methods: Choice::AllBut(texts("Method::")),
            }],
        }),
        categorise: Some(Categorise {
            rules: texts("Connection lost ").into_iter().map(rule).collect(),
            default: vec![Category { name: "c".into(), value: "unknown".into() }],
        }),
        ..Settings::accepting(EnabledKinds([true; Kind::COUNT]))
    }
}

fn judge(criterion: &mut Criterion) {
    let rules = Rules::compile(&settings()).expect("few texts");
    let engine = |message: &str| {
        format!("/qseow-engine/;14;;;WARN;pro2-win1;System.Engine.Engine;LAB\\service;{message}")
    };
    let perf = |object_type: &str| {
        format!(
            "/qseow-qix-perf/;14;;;INFO;pro2-win1;Qix;LAB\\service;{APP};LAB;goran;;{APP};{APP};7;\
             GenericObject::GetLayout;12.5;11;0.25;1;0;3;rwPjBk;123456;234567;{object_type}"
        )
    };
    let session = "/qseow-proxy-session/;host;Start session;LAB;goran;AppAccess;/hub/;message";
    let events = [
        ("user event", Listener::UserEvents, session.to_owned()),
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
    let mut group = criterion.benchmark_group("judge");
    for (name, listener, payload) in &events {
        let mut scratch = Vec::new();
        let event = event::parse(*listener, payload.as_bytes(), &mut scratch).expect("an event");
        group.bench_function(*name, |bencher| {
            bencher.iter(|| black_box(rules.judge(black_box(&event), Some("Sales"))).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
