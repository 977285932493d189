//! Events and counters of events as points of InfluxDB.

use std::time::Duration;

use crate::support::sink::Sink;
use crate::support::{Ringside, send_all, wait_for};
use crate::{ALL_SOURCES, file, log_event, performance_event, settled, user_event};

/// Shorter than the default frequency, so that a frequency that is ignored fails the test.
const SOON: Duration = Duration::from_secs(15);

fn influxdb(sink: &Sink) -> String {
    let port = sink.address().port();
    format!(
        "  influxdbConfig:
    enable: true
    host: 127.0.0.1
    port: {port}
    version: 2
    v2Config: {{ org: o, bucket: b, token: t, description: d, retentionDuration: 1d }}
"
    )
}

/// The events and points that arrived, up to their fields, with the tags in order.
fn series(sink: &Sink) -> Vec<String> {
    let series = |line: &str| {
        let line = line.replace("\\ ", "_");
        let mut parts: Vec<&str> = line.split(' ').next().unwrap_or_default().split(',').collect();
        parts[1..].sort_unstable();
        parts.join(",")
    };
    let requests = sink.requests();
    let writes = requests.iter().filter(|request| request.path.contains("/write"));
    writes.flat_map(|request| request.text().lines().map(series)).collect()
}

#[test]
fn each_kind_of_events_has_a_switch_and_tags() {
    for (users, logs) in [(true, false), (false, true)] {
        let sink = Sink::recording();
        let user = format!(
            "    tags: [{{ name: of_users, value: north }}]\n    sendToInfluxdb: {{ enable: {users} }}"
        );
        let log = format!(
            "{ALL_SOURCES}    tags: [{{ name: of_logs, value: south }}]\n    \
             sendToInfluxdb: {{ enable: {logs} }}"
        );
        let ringside = Ringside::start_with(&file(&user, &log, &influxdb(&sink)), &[]);
        send_all(ringside.user_events, [user_event("Start session", "anna")]);
        send_all(ringside.log_events, [log_event("proxy", "WARN", "m")]);
        settled(&ringside, 1, 1);
        let series = series(&sink);
        let [line] = series.as_slice() else { panic!("{series:#?}") };
        let (measurement, tag) = if users {
            ("user_events,", ",of_users=north")
        } else {
            ("log_event,", ",of_logs=south")
        };
        assert!(line.starts_with(measurement) && line.contains(tag), "{line}");
        assert_eq!(line.matches(",of_").count(), 1, "{line}");
    }
}

#[test]
fn rejected_performance_events_are_counted() {
    let log = format!(
        "{ALL_SOURCES}    enginePerformanceMonitor:
      enable: true
      monitorFilter: {{ allApps: {{ enable: true, method: {{ allMethodsExclude: [Get] }} }} }}
      trackRejectedEvents:
        enable: true
        tags: [{{ name: site, value: north }}]"
    );
    let counters = "  qlikSenseEvents:
    influxdb: { enable: true, writeFrequency: 50 }
    rejectedEventCount:
      enable: true
      influxdb: { measurementName: my_rejected }
";
    let rejected = |log: &str, counters: &str| {
        let sink = Sink::recording();
        let text = file("", log, &(influxdb(&sink) + counters));
        let mut ringside = Ringside::start_with(&text, &[]);
        let events = ["Get", "Open"].map(|method| performance_event("", method, "o", "t"));
        send_all(ringside.log_events, &events);
        settled(&ringside, 0, 2);
        if counters.contains("enable: false") || log.contains("enable: false") {
            assert!(ringside.stop().success(), "all that is counted is written at the end");
            return series(&sink);
        }
        wait_for("the point", SOON, || Some(series(&sink)).filter(|series| !series.is_empty()))
    };
    let series = rejected(&log, counters);
    let [line] = series.as_slice() else { panic!("{series:#?}") };
    assert!(line.starts_with("my_rejected,") && line.ends_with(",source=qseow-qix-perf"), "{line}");
    assert!(line.contains(",method=Get,") && line.contains(",site=north,"), "{line}");

    let off =
        |text: &str| text.replacen("enable: true\n        tags", "enable: false\n        tags", 1);
    assert_ne!(off(&log), log);
    assert_eq!(rejected(&off(&log), counters), [""; 0]);
    let off = counters.replace("enable: true\n", "enable: false\n");
    assert_ne!(off, counters);
    assert_eq!(rejected(&log, &off), [""; 0]);
}
