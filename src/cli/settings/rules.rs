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
