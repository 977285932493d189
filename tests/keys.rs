//! Keys of the configuration file that no other test is about. The real program runs with values that
//! are not the defaults; what arrives can only come about when each of them is respected.
//! `tests/config/tests-of-keys.txt` says which test is for which key.

mod support;

/// One module per part of the file.
mod keys {
    mod events_to_influxdb;
    mod events_to_mqtt;
    mod events_to_new_relic;
    mod listeners;
    mod log_events;
    mod monitor_filter;
    mod user_events;
}

use std::fs;

use serde_json::Value;
use support::{Ringside, number};

/// A file with both listeners on free ports. `user` and `log` are lines of their sections, indented by
/// four; `rest` goes on below `ringside`, indented by four, and may go on with other sections.
fn file(user: &str, log: &str, rest: &str) -> String {
    format!(
        "Butler-SOS:
  userEvents:
    enable: true
    udpServerConfig: {{ serverHost: 127.0.0.1, portUserActivityEvents: 0 }}
{user}
  logEvents:
    udpServerConfig: {{ serverHost: 127.0.0.1, portLogEvents: 0 }}
{log}
  ringside:
    console: {{ port: 0 }}
    flushInterval: 10ms
{rest}
"
    )
}

/// Lines of `logEvents` that accept everything.
const ALL_SOURCES: &str = "    source:
      engine: { enable: true }
      proxy: { enable: true }
      repository: { enable: true }
      scheduler: { enable: true }
      qixPerf: { enable: true }
";

/// The line of `ringside` for [`events_of`].
const TO_FILE: &str = "    ndjson: { enable: true, path: events.ndjson }";

/// A user event of `LAB\user`.
fn user_event(command: &str, user: &str) -> String {
    format!("/qseow-proxy-session/;host;{command};LAB;{user};AppAccess;/hub/;message")
}

/// A log event of a service: `engine`, `proxy`, `repository` or `scheduler`.
fn log_event(service: &str, level: &str, message: &str) -> String {
    format!("/qseow-{service}/;1;;;{level};host;System;LAB\\service;{message}")
}

/// A performance event.
fn performance_event(app: &str, method: &str, object: &str, object_type: &str) -> String {
    format!(
        "/qseow-qix-perf/;1;;;INFO;host;Qix;LAB\\service;;LAB;goran;;;{app};7;{method};1;1;1;1;1;3;\
         {object};1;1;{object_type}"
    )
}

/// Waits until so many user and log events have been received, and all that is wanted is delivered.
fn settled(ringside: &Ringside, user: u64, log: u64) -> Value {
    ringside.wait_stats("all events delivered", |stats| {
        let listener = |name: &str, key: &str| number(stats, &format!("/listeners/{name}/{key}"));
        let destinations = stats["destinations"].as_object().expect("destinations");
        listener("user_events", "parsed") == user
            && listener("log_events", "parsed") == log
            && destinations.values().all(|it| it["assigned"] == it["delivered"])
    })
}

/// Sends user and log events, and returns what is delivered of them to a file; see [`TO_FILE`].
fn events_of(ringside: &mut Ringside, user: &[String], log: &[String]) -> Vec<Value> {
    let sent = [(ringside.user_events, user), (ringside.log_events, log)]
        .map(|(to, events)| if events.is_empty() { 0 } else { support::send_all(to, events) });
    settled(ringside, sent[0], sent[1]);
    assert!(ringside.stop().success(), "{}", ringside.log());
    let path = ringside.directory.path().join("events.ndjson");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A member of each event, in order.
fn sorted(events: &[Value], member: &str) -> Vec<String> {
    let text = |event: &Value| event[member].as_str().expect("text").to_owned();
    let mut texts: Vec<String> = events.iter().map(text).collect();
    texts.sort();
    texts
}
