//! More rules than most operators have, and an event judged and enriched under them as a shard does it.

use std::collections::BTreeSet;
use std::hint::black_box;

use ringside::enrich::{AppNames, Enriched, UserAgents};
use ringside::event::{Column, Event, Kind};
use ringside::rules::categorise::{Action, Categorise, Filter, Level, Rule};
use ringside::rules::monitor::{AllApps, AppFilter, AppSelector, Choice, MonitorFilter};
use ringside::rules::{Categories, Category, EnabledKinds, ExcludedUser, Rules, Settings};
use uuid::Uuid;

/// Apps whose names are known.
const APPS: u128 = 1000;

/// Methods of the engine that operators leave out: none that is in the traffic.
pub const METHODS: [&str; 20] = [
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
pub const OBJECT_TYPES: [&str; 20] = [
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
pub fn lookups(events: &[Event<'_>]) -> (Rules, AppNames) {
    let seen: BTreeSet<Uuid> =
        events.iter().filter_map(|event| event.uuid(Column::AppId)).collect();
    let seen: Vec<Uuid> = seen.into_iter().collect();
    let names = (0..APPS).map(Uuid::from_u128).chain(seen.iter().copied());
    let names = names.map(|id| (id, format!("App {id}"))).collect();
    (Rules::compile(&settings(&seen)).expect("few texts"), names)
}

/// Judges and enriches as a shard does; whether the event is wanted.
pub fn judge(rules: &Rules, names: &AppNames, agents: &mut UserAgents, event: &Event<'_>) -> bool {
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
