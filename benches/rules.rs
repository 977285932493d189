//! What it costs to judge and enrich an event, for which there is a budget of 60 ns.
//!
//! `mix` is the benchmark mix under more rules than most operators have, in the order in which a shard
//! does it. `parsed and judged` less `parsed` is what judging and enriching cost there; `judged` is the
//! same alone, and the floor is what nobody gets below: of each event, the look-ups that its kind asks
//! for, with the keys at hand, or the search for one text.
//!
//! Run with `cargo bench --bench rules`.

use std::collections::BTreeSet;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use ringside::enrich::{AppNames, Enriched, UserAgents};
use ringside::event::{self, Column, Event, Kind, Listener};
use ringside::rules::categorise::{Action, Categorise, Filter, Level, Rule};
use ringside::rules::monitor::{AllApps, AppFilter, AppSelector, Choice, MonitorFilter};
use ringside::rules::{Categories, Category, EnabledKinds, ExcludedUser, Rules, Settings};
use ringside::synthetic::{Cluster, Mix};
use uuid::Uuid;

/// Events of the mix: enough for its proportions, few enough to stay in the cache like the one event
/// that a shard has in hand.
const EVENTS: usize = 100;

/// Apps whose names are known.
const APPS: u128 = 1000;

/// Methods of the engine that operators leave out: none that is in the traffic.
const METHODS: [&str; 20] = [
    "Global::EngineVersion",
    "Global::OSName",
    "Global::GetUniqueID",
    "Global::GetAuthenticatedUser",
    "Global::IsDesktopMode",
    "Global::GetProgress",
    "Global::AllowCreateApp",
    "Global::GetStreamList",
    "Global::QvVersion",
    "Global::ConfigureReload",
    "Doc::GetAppProperties",
    "Doc::GetScript",
    "Doc::GetConnections",
    "Doc::GetMediaList",
    "Doc::GetVariables",
    "Doc::SearchSuggest",
    "Doc::GetTablesAndKeys",
    "Doc::CheckScriptSyntax",
    "GenericObject::GetProperties",
    "GenericBookmark::Apply",
];

/// Types of objects, likewise.
const OBJECT_TYPES: [&str; 20] = [
    "AppPropsList",
    "LoadModel",
    "SheetList",
    "appprops",
    "odagapplinklist",
    "measurelist",
    "dimensionlist",
    "bookmarklist",
    "storylist",
    "masterobjectlist",
    "embeddedsnapshot",
    "slide",
    "slideitem",
    "story",
    "snapshotlist",
    "BookmarkList",
    "DimensionList",
    "MeasureList",
    "VariableList",
    "MediaList",
];

/// Ids of objects, likewise.
const OBJECTS: [&str; 20] = [
    "JzJMza", "rPAq", "PWVuLT", "mmTcj", "kZyGpj", "vMUPCLb", "hRZaKk", "GpfxPt", "xAgvJdR",
    "nYpj", "QVkNwM", "LfNcqu", "pyzmvw", "uRJEg", "CqGqjm", "jWmqtK", "bJpGVt", "TzPdBqa",
    "yFbPp", "EJjKcL",
];

fn texts(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n}")).collect()
}

fn with_id(id: Uuid) -> AppSelector {
    AppSelector { id: Some(id), name: None }
}

/// 20 rules, 10 users, and filters with 50 apps and 20 of everything else. `seen` are apps of the
/// traffic, which are listed too.
fn settings(seen: &[Uuid]) -> Settings {
    let apps = |first: u128| (first..first + 50).map(|id| with_id(Uuid::from_u128(id)));
    let rule = |text: String| Rule {
        levels: vec![Level::Warn, Level::Error, Level::Fatal],
        action: Action::Categorise(vec![Category { name: "c".into(), value: text.clone() }]),
        filters: vec![
            Filter::Start(format!("{text} at the start")),
            Filter::End(format!("{text} at the end")),
            Filter::Anywhere(text),
        ],
    };
    let mut rules: Vec<Rule> = texts("Connection lost ", 17).into_iter().map(rule).collect();
    rules.extend(["certificate", "session", "failed"].map(|text| rule(text.to_owned())));
    let user = |id| ExcludedUser { directory: "LAB".into(), id };
    Settings {
        excluded_users: texts("user", 10).into_iter().map(user).collect(),
        monitor_filter: Some(MonitorFilter {
            all_apps: Some(AllApps {
                exclude: apps(0).chain(seen.iter().take(2).copied().map(with_id)).collect(),
                object_types: Choice::AllBut(OBJECT_TYPES.map(Into::into).into()),
                methods: Choice::AllBut(METHODS.map(Into::into).into()),
            }),
            app_specific: vec![AppFilter {
                include: apps(50).chain(seen.iter().copied().map(with_id)).collect(),
                object_types: Choice::AllBut(OBJECT_TYPES.map(Into::into).into()),
                objects: Choice::AllBut(OBJECTS.map(Into::into).into()),
                methods: Choice::AllBut(METHODS.map(Into::into).into()),
            }],
        }),
        categorise: Some(Categorise {
            rules,
            default: vec![Category { name: "c".into(), value: "unknown".into() }],
        }),
        ..Settings::accepting(EnabledKinds([true; Kind::COUNT]))
    }
}

/// Rules and names for some events.
fn lookups(events: &[Event<'_>]) -> (Rules, AppNames) {
    let seen: BTreeSet<Uuid> =
        events.iter().filter_map(|event| event.uuid(Column::AppId)).collect();
    let seen: Vec<Uuid> = seen.into_iter().collect();
    let names = (0..APPS).map(Uuid::from_u128).chain(seen.iter().copied());
    let names = names.map(|id| (id, format!("App {id}"))).collect();
    (Rules::compile(&settings(&seen)).expect("few texts"), names)
}

/// Judges and enriches as a shard does; whether the event is wanted.
fn judge(rules: &Rules, names: &AppNames, agents: &mut UserAgents, event: &Event<'_>) -> bool {
    let app_name = names.of_event(event);
    let mut room = Categories::new();
    let Ok(categories) = rules.judge(event, app_name, &mut room) else { return false };
    black_box(&Enriched {
        event,
        received_ns: 0,
        app_name: rules.written_app_name(event, app_name),
        user_agent: agents.of_event(event),
        categories,
    });
    true
}

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
