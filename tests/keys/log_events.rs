//! Which log events are wanted, and their categories.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Ringside;
use crate::{ALL_SOURCES, TO_FILE, events_of, file, log_event, performance_event, sorted};

const PERFORMANCE_OF_ALL: &str = "    enginePerformanceMonitor:
      enable: true
      monitorFilter: { allApps: { enable: true } }
";

#[test]
fn each_source_has_a_switch() {
    let services = ["engine", "proxy", "repository", "scheduler"];
    let mut events: Vec<String> =
        services.iter().map(|service| log_event(service, "WARN", "message")).collect();
    events.push(performance_event("", "m", "o", "t"));
    for wanted in ["engine", "proxy", "repository", "scheduler", "qix-perf"] {
        let key = if wanted == "qix-perf" { "qixPerf" } else { wanted };
        // All but one are on, and then only the one: a switch that is ignored fails one of them.
        let all_but_one = ALL_SOURCES
            .replace(&format!("{key}: {{ enable: true }}"), &format!("{key}: {{ enable: false }}"));
        let only_one = format!("    source: {{ {key}: {{ enable: true }} }}\n");
        for (sources, one) in [(all_but_one, false), (only_one, true)] {
            let log = sources + PERFORMANCE_OF_ALL;
            let mut ringside = Ringside::start_with(&file("", &log, TO_FILE), &[]);
            let delivered = events_of(&mut ringside, &[], &events);
            let wanted = format!("qseow-{wanted}");
            let mut expected = vec![
                "qseow-engine",
                "qseow-proxy",
                "qseow-qix-perf",
                "qseow-repository",
                "qseow-scheduler",
            ];
            expected.retain(|source| (*source == wanted) == one);
            assert_eq!(sorted(&delivered, "source"), expected, "{log}");
        }
    }
}

#[test]
fn performance_events_are_delivered_only_when_the_monitor_is_on() {
    for (enable, expected) in [(true, 1), (false, 0)] {
        let monitor = PERFORMANCE_OF_ALL.replacen("enable: true", &format!("enable: {enable}"), 1);
        let log = format!("{ALL_SOURCES}{monitor}");
        let mut ringside = Ringside::start_with(&file("", &log, TO_FILE), &[]);
        let events = [performance_event("", "m", "o", "t")];
        assert_eq!(events_of(&mut ringside, &[], &events).len(), expected, "{enable}");
    }
}

const CATEGORIES: &str = "    categorise:
      enable: true
      rules:
        - description: What the nightly jobs say
          logLevel: [WARN, error]
          action: categorise
          category:
            - { name: topic, value: reload }
            - { name: team, value: bi }
          filter:
            - { type: sw, value: Reload }
            - { type: ew, value: failed }
        - logLevel: [info]
          action: drop
          filter:
            - { type: so, value: noise }
      ruleDefault:
        enable: true
        category:
          - { name: topic, value: other }
";

/// The categories of each message that is delivered.
fn categories(log: &str) -> BTreeMap<String, String> {
    let log = format!("{ALL_SOURCES}{log}");
    let mut ringside = Ringside::start_with(&file("", &log, TO_FILE), &[]);
    let events = [
        log_event("engine", "WARN", "Reload of one"),
        log_event("engine", "ERROR", "two has failed"),
        log_event("engine", "INFO", "Reload of three"),
        log_event("engine", "WARN", "four: Reload"),
        log_event("engine", "WARN", "failed: five"),
        log_event("engine", "INFO", "six noise six"),
        log_event("engine", "WARN", "seven noise seven"),
    ];
    let pair = |category: &Value| {
        format!("{}={}", category["name"].as_str().unwrap(), category["value"].as_str().unwrap())
    };
    let list = |event: &Value| {
        let categories = event["categories"].as_array().expect("categories are on");
        categories.iter().map(pair).collect::<Vec<_>>().join(" ")
    };
    let delivered = events_of(&mut ringside, &[], &events);
    delivered
        .iter()
        .map(|event| (event["message"].as_str().expect("text").to_owned(), list(event)))
        .collect()
}

#[test]
fn rules_categorise_and_drop_by_level_and_text() {
    for (text, other) in [
        (CATEGORIES.to_owned(), "topic=other"),
        (
            CATEGORIES.replace(
                "ruleDefault:\n        enable: true",
                "ruleDefault:\n        enable: false",
            ),
            "",
        ),
    ] {
        let expected = [
            ("Reload of one", "topic=reload team=bi"),
            ("two has failed", "topic=reload team=bi"),
            ("Reload of three", other),
            ("four: Reload", other),
            ("failed: five", other),
            ("seven noise seven", other),
        ];
        let expected = expected.map(|(message, list)| (message.to_owned(), list.to_owned()));
        assert_eq!(categories(&text), BTreeMap::from(expected), "{text}");
    }
}

/// It is for whoever reads the settings in effect.
#[test]
fn descriptions_of_rules_are_shown_with_the_settings() {
    let log = format!("{ALL_SOURCES}{CATEGORIES}");
    let shown = "  configVisualisation: { enable: true, host: 127.0.0.1, port: 0 }";
    let ringside = Ringside::start_with(&file("", &log, shown), &[]);
    let (status, text) = ringside.get("/api/config");
    assert_eq!(status, 200);
    assert!(text.contains("description: What the nightly jobs say"), "{text}");
}
