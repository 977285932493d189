//! Ringside's rules, made of the configuration that was recorded with. It is read here anew, not by
//! Ringside's own reader, so that the rules are tested apart from it.

use std::collections::HashMap;

use ringside::event::Kind;
use ringside::rules::categorise::{Action, Categorise, Filter, Level, Rule};
use ringside::rules::monitor::{AllApps, AppFilter, AppSelector, Choice, MonitorFilter};
use ringside::rules::{Category, EnabledKinds, ExcludedUser, Rules, Settings};
use serde_yaml::Value as Yaml;
use uuid::Uuid;

use super::{apps, config};
use crate::butler_sos::Version;

/// What Ringside decides with.
pub struct Judge {
    /// The rules.
    pub rules: Rules,
    /// Names of apps.
    pub names: HashMap<Uuid, String>,
}

impl Judge {
    /// Compiles the recorded configuration of a version.
    pub fn new(version: Version) -> Self {
        let root: Yaml = serde_yaml::from_str(config(version)).expect("YAML");
        let names =
            apps().into_iter().map(|app| (Uuid::try_parse(&app.id).expect("a GUID"), app.name));
        let rules = Rules::compile(&settings(&root["Butler-SOS"])).expect("few texts");
        Self { rules, names: names.collect() }
    }
}

fn settings(root: &Yaml) -> Settings {
    let log_events = &root["logEvents"];
    let categorise = &log_events["categorise"];
    let performance = &log_events["enginePerformanceMonitor"];
    let user = |user: &Yaml| ExcludedUser {
        directory: string(&user["directory"]),
        id: string(&user["userId"]),
    };
    Settings {
        enabled: EnabledKinds([true; Kind::COUNT]),
        excluded_users: list(&root["userEvents"]["excludeUser"], user),
        monitor_filter: Some(monitor_filter(&performance["monitorFilter"])),
        categorise: is_on(categorise).then(|| Categorise {
            rules: list(&categorise["rules"], rule),
            default: list(&categorise["ruleDefault"]["category"], category),
        }),
        app_name_lookup: is_on(&performance["appNameLookup"]),
    }
}

fn monitor_filter(filter: &Yaml) -> MonitorFilter {
    let (all, specific) = (&filter["allApps"], &filter["appSpecific"]);
    let some = |app: &Yaml| AppFilter {
        include: list(&app["include"], selector),
        object_types: choice(&app["objectType"], "ObjectTypes"),
        objects: choice(&app["appObject"], "AppObjects"),
        methods: choice(&app["method"], "Methods"),
    };
    MonitorFilter {
        all_apps: is_on(all).then(|| AllApps {
            exclude: list(&all["appExclude"], selector),
            object_types: choice(&all["objectType"], "ObjectTypes"),
            methods: choice(&all["method"], "Methods"),
        }),
        app_specific: if is_on(specific) { list(&specific["app"], some) } else { Vec::new() },
    }
}

fn selector(app: &Yaml) -> AppSelector {
    AppSelector {
        id: app["appId"].as_str().map(|id| Uuid::try_parse(id).expect("a GUID")),
        name: app["appName"].as_str().map(str::to_owned),
    }
}

fn choice(section: &Yaml, what: &str) -> Choice {
    if section[format!("all{what}").as_str()] == Yaml::Bool(true) {
        Choice::AllBut(list(&section[format!("all{what}Exclude").as_str()], string))
    } else {
        Choice::Only(list(&section[format!("some{what}Include").as_str()], string))
    }
}

fn rule(rule: &Yaml) -> Rule {
    let level = |name: &Yaml| {
        let name = string(name);
        *Level::ALL.iter().find(|level| level.name() == name).expect("a level")
    };
    let filter = |filter: &Yaml| {
        let text = string(&filter["value"]);
        match string(&filter["type"]).as_str() {
            "sw" => Filter::Start(text),
            "ew" => Filter::End(text),
            _ => Filter::Anywhere(text),
        }
    };
    Rule {
        levels: list(&rule["logLevel"], level),
        action: match string(&rule["action"]).as_str() {
            "drop" => Action::Drop,
            _ => Action::Categorise(list(&rule["category"], category)),
        },
        filters: list(&rule["filter"], filter),
    }
}

fn category(category: &Yaml) -> Category {
    Category { name: string(&category["name"]), value: string(&category["value"]) }
}

fn is_on(section: &Yaml) -> bool {
    section["enable"] == Yaml::Bool(true)
}

fn string(yaml: &Yaml) -> String {
    yaml.as_str().unwrap_or_default().to_owned()
}

fn list<T>(yaml: &Yaml, item: impl Fn(&Yaml) -> T) -> Vec<T> {
    yaml.as_sequence().map_or_else(Vec::new, |items| items.iter().map(item).collect())
}
