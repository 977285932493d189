//! From the configuration file to the rules: sources, users, monitor filters, categories.

use uuid::Uuid;

use crate::config::{self, Config, EventLevel, FilterType, RuleAction};
use crate::event::Kind;
use crate::rules::categorise::{self, Action, Categorise, Filter};
use crate::rules::monitor::{AllApps, AppFilter, AppSelector, Choice, MonitorFilter};
use crate::rules::{Category, EnabledKinds, ExcludedUser, Settings};

/// What is to be decided about events.
pub(super) fn of(config: &Config) -> Settings {
    let perf = &config.log_events.engine_performance_monitor;
    let user = |user: &config::ExcludedUser| ExcludedUser {
        directory: user.directory.clone(),
        id: user.user_id.clone(),
    };
    Settings {
        enabled: enabled(config),
        excluded_users: config.user_events.exclude_user.iter().map(user).collect(),
        monitor_filter: Some(monitor_filter(&perf.monitor_filter)),
        categorise: config
            .log_events
            .categorise
            .enable
            .then(|| categorise(&config.log_events.categorise)),
        app_name_lookup: perf.app_name_lookup.enable,
    }
}

fn monitor_filter(filter: &config::MonitorFilter) -> MonitorFilter {
    let (all, specific) = (&filter.all_apps, &filter.app_specific);
    let some = |app: &config::AppFilter| AppFilter {
        include: apps(&app.include),
        object_types: object_types(&app.object_type),
        objects: objects(&app.app_object),
        methods: methods(&app.method),
    };
    MonitorFilter {
        all_apps: all.enable.then(|| AllApps {
            exclude: apps(&all.app_exclude),
            object_types: object_types(&all.object_type),
            methods: methods(&all.method),
        }),
        app_specific: if specific.enable {
            specific.app.iter().map(some).collect()
        } else {
            Vec::new()
        },
    }
}

fn apps(selectors: &[config::AppSelector]) -> Vec<AppSelector> {
    let app = |selector: &config::AppSelector| AppSelector {
        // The file's checks have made sure that it is a GUID.
        id: selector.app_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()),
        name: selector.app_name.clone(),
    };
    selectors.iter().map(app).collect()
}

fn object_types(section: &config::ObjectTypes) -> Choice {
    if section.all_object_types {
        Choice::AllBut(section.all_object_types_exclude.clone())
    } else {
        Choice::Only(section.some_object_types_include.clone())
    }
}

fn objects(section: &config::AppObjects) -> Choice {
    let ids = |ids: &[config::ObjectId]| ids.iter().map(|id| id.0.clone()).collect();
    if section.all_app_objects {
        Choice::AllBut(ids(&section.all_app_objects_exclude))
    } else {
        Choice::Only(ids(&section.some_app_objects_include))
    }
}

fn methods(section: &config::Methods) -> Choice {
    if section.all_methods {
        Choice::AllBut(section.all_methods_exclude.clone())
    } else {
        Choice::Only(section.some_methods_include.clone())
    }
}

fn categorise(section: &config::Categorise) -> Categorise {
    let rule = |rule: &config::CategoryRule| categorise::Rule {
        levels: rule.log_level.iter().copied().map(event_level).collect(),
        action: match rule.action {
            RuleAction::Categorise => Action::Categorise(categories(&rule.category)),
            RuleAction::Drop => Action::Drop,
        },
        filters: rule.filter.iter().map(message_filter).collect(),
    };
    let default = &section.rule_default;
    Categorise {
        rules: section.rules.iter().map(rule).collect(),
        default: if default.enable { categories(&default.category) } else { Vec::new() },
    }
}

fn categories(categories: &[config::Category]) -> Vec<Category> {
    let category = |c: &config::Category| Category { name: c.name.clone(), value: c.value.clone() };
    categories.iter().map(category).collect()
}

fn event_level(level: EventLevel) -> categorise::Level {
    match level {
        EventLevel::Fatal => categorise::Level::Fatal,
        EventLevel::Error => categorise::Level::Error,
        EventLevel::Warn => categorise::Level::Warn,
        EventLevel::Info => categorise::Level::Info,
        EventLevel::Verbose => categorise::Level::Verbose,
        EventLevel::Debug => categorise::Level::Debug,
        EventLevel::Silly => categorise::Level::Silly,
    }
}

fn message_filter(filter: &config::MessageFilter) -> Filter {
    let text = filter.value.clone();
    match filter.kind {
        FilterType::StartsWith => Filter::Start(text),
        FilterType::EndsWith => Filter::End(text),
        FilterType::SubstringOf => Filter::Anywhere(text),
    }
}

fn enabled(config: &Config) -> EnabledKinds {
    let source = &config.log_events.source;
    EnabledKinds(Kind::ALL.map(|kind| match kind {
        Kind::ProxySession | Kind::ProxyConnection => config.user_events.enable,
        Kind::Engine => source.engine.enable,
        Kind::Proxy => source.proxy.enable,
        Kind::Repository => source.repository.enable,
        Kind::Scheduler => source.scheduler.enable,
        Kind::QixPerf => {
            source.qix_perf.enable && config.log_events.engine_performance_monitor.enable
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "5b817efe-472d-43ce-8a31-6cce34af7de9";

    /// Every key that has a say, each with a value that is not its default.
    const FILE: &str = "
Butler-SOS:
  userEvents:
    enable: true
    excludeUser: [{directory: LAB, userId: goran}]
    udpServerConfig: {serverHost: 127.0.0.1}
  logEvents:
    udpServerConfig: {serverHost: 127.0.0.1}
    source:
      engine: {enable: true}
      qixPerf: {enable: true}
    categorise:
      enable: true
      rules:
        - logLevel: [WARN, fatal]
          action: categorise
          category: [{name: a, value: b}]
          filter: [{type: sw, value: s}, {type: ew, value: e}, {type: so, value: o}]
        - logLevel: [error, info, verbose, debug, silly]
          action: drop
          filter: [{type: so, value: noise}]
      ruleDefault: {enable: true, category: [{name: c, value: d}]}
    enginePerformanceMonitor:
      enable: true
      appNameLookup: {enable: true}
      monitorFilter:
        allApps:
          enable: true
          appExclude: [{appId: 5b817efe-472d-43ce-8a31-6cce34af7de9, appName: Sales}]
          objectType: {allObjectTypes: true, allObjectTypesExclude: [t]}
          method: {allMethods: false, someMethodsInclude: [m]}
        appSpecific:
          enable: true
          app:
            - include: [{appName: Budget}]
              objectType: {allObjectTypes: false, someObjectTypesInclude: [u]}
              appObject: {allAppObjects: false, someAppObjectsInclude: [{objectId: o}]}
              method: {allMethods: true, allMethodsExclude: [n]}
            - include: [{}]
              appObject: {allAppObjects: true, allAppObjectsExclude: [p]}
";

    fn settings(text: &str) -> Settings {
        of(&config::parse(text, "f.yaml").unwrap_or_else(|error| panic!("{error}")).config)
    }

    fn category(name: &str, value: &str) -> Category {
        Category { name: name.into(), value: value.into() }
    }

    fn all_but(text: &str) -> Choice {
        Choice::AllBut(vec![text.into()])
    }

    fn only(text: &str) -> Choice {
        Choice::Only(vec![text.into()])
    }

    #[test]
    fn every_key_has_its_say() {
        use categorise::Level::{Debug, Error, Fatal, Info, Silly, Verbose, Warn};
        let mut enabled = EnabledKinds([false; Kind::COUNT]);
        for kind in [Kind::ProxySession, Kind::ProxyConnection, Kind::Engine, Kind::QixPerf] {
            enabled.0[kind as usize] = true;
        }
        let sales =
            AppSelector { id: Some(Uuid::try_parse(APP).unwrap()), name: Some("Sales".into()) };
        let budget = AppSelector { id: None, name: Some("Budget".into()) };
        let filters =
            vec![Filter::Start("s".into()), Filter::End("e".into()), Filter::Anywhere("o".into())];
        let all = || Choice::AllBut(Vec::new());
        let wanted = Settings {
            enabled,
            excluded_users: vec![ExcludedUser { directory: "LAB".into(), id: "goran".into() }],
            monitor_filter: Some(MonitorFilter {
                all_apps: Some(AllApps {
                    exclude: vec![sales],
                    object_types: all_but("t"),
                    methods: only("m"),
                }),
                app_specific: vec![
                    AppFilter {
                        include: vec![budget],
                        object_types: only("u"),
                        objects: only("o"),
                        methods: all_but("n"),
                    },
                    AppFilter {
                        include: vec![AppSelector::default()],
                        object_types: all(),
                        objects: all_but("p"),
                        methods: all(),
                    },
                ],
            }),
            categorise: Some(Categorise {
                rules: vec![
                    categorise::Rule {
                        levels: vec![Warn, Fatal],
                        action: Action::Categorise(vec![category("a", "b")]),
                        filters,
                    },
                    categorise::Rule {
                        levels: vec![Error, Info, Verbose, Debug, Silly],
                        action: Action::Drop,
                        filters: vec![Filter::Anywhere("noise".into())],
                    },
                ],
                default: vec![category("c", "d")],
            }),
            app_name_lookup: true,
        };
        assert_eq!(settings(FILE), wanted);
    }

    #[test]
    fn switches_switch_off() {
        let off = |on: &str, off: &str| {
            assert_eq!(FILE.matches(on).count(), 1, "{on}");
            settings(&FILE.replace(on, off))
        };
        assert_eq!(off("categorise:\n      enable: true", "categorise:").categorise, None);
        let default = off("ruleDefault: {enable: true", "ruleDefault: {enable: false");
        assert_eq!(default.categorise.unwrap().default, []);
        assert!(!off("appNameLookup: {enable: true}", "appNameLookup:").app_name_lookup);
        let filter = |settings: Settings| settings.monitor_filter.unwrap();
        let all = "allApps:\n          enable: true";
        assert_eq!(filter(off(all, "allApps:\n          enable: false")).all_apps, None);
        let some = "appSpecific:\n          enable: true";
        assert_eq!(filter(off(some, "appSpecific:\n          enable: false")).app_specific, []);
        let perf = "enginePerformanceMonitor:\n      enable: true";
        let enabled = off(perf, "enginePerformanceMonitor:\n      enable: false").enabled;
        assert!(!enabled.contains(Kind::QixPerf));
    }

    #[test]
    fn empty_lists_of_filters_reject_every_performance_event() {
        let start = FILE.find("        allApps:").unwrap();
        let text = format!("{}        allApps: []\n        appSpecific: []\n", &FILE[..start]);
        assert_eq!(settings(&text).monitor_filter, Some(MonitorFilter::default()));
    }
}
