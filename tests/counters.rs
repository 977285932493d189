//! Ringside's own points, as they arrive at InfluxDB from the real program.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::sink::Sink;
use support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, user_event, wait_for};

const USER_EVENTS: u64 = 30;
const PROXY_EVENTS: u64 = 40;
const UNKNOWN_EVENTS: u64 = 5;

/// Shorter than any default frequency, so that a frequency that is ignored fails the test.
const SOON: Duration = Duration::from_secs(15);

/// The sections of the counters; names and tags differ from the defaults.
const COUNTERS: &str = "  qlikSenseEvents:
    influxdb:
      enable: true
      writeFrequency: 50
    eventCount:
      enable: true
      influxdb:
        measurementName: my_counts
        tags:
          - name: qs_env
            value: dev 1
";

const QUEUE_METRICS: &str = "      queueMetrics:
        influxdb:
          enable: true
          writeFrequency: 50
          measurementName: my_queue
          tags:
            - name: site
              value: north
";

fn config(version: u8, sink: &Sink, counters: &str, queue: &str) -> String {
    let config = Config { udp: queue.to_owned(), ..Config::influxdb(version, sink.address()) };
    config.text() + counters
}

/// Sends a known number of events.
fn load(ringside: &Ringside) {
    send_all(ringside.user_events, (0..USER_EVENTS).map(|_| user_event("goran")));
    send_all(ringside.log_events, (0..PROXY_EVENTS).map(|_| proxy_event("x")));
    send_all(ringside.log_events, (0..UNKNOWN_EVENTS).map(|_| "/qseow-foo/;1;t;t;WARN;ho\nst;Sub"));
}

/// All lines of measurements that begin with `prefix`.
fn lines(sink: &Sink, prefix: &str) -> Vec<String> {
    let bodies = sink.bodies();
    let texts = bodies.iter().map(|body| String::from_utf8_lossy(body));
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.starts_with(prefix))
        .collect()
}

/// The part before the fields, with its tags in order, and a field's value.
fn point<'l>(line: &'l str, field: &str) -> (String, &'l str) {
    // No space is unescaped but those around the fields.
    let marked = line.match_indices(' ').find(|(at, _)| !line[..*at].ends_with('\\'));
    let (series, rest) = line.split_at(marked.expect("fields").0);
    let mut parts: Vec<&str> = series.split(',').collect();
    parts[1..].sort_unstable();
    let fields = rest.trim_start().split(' ').next().expect("fields");
    let value = fields.split(',').find_map(|it| it.strip_prefix(field)?.strip_prefix('='));
    (parts.join(","), value.unwrap_or_else(|| panic!("{field} in {line}")))
}

/// A whole number in the notation of a version of InfluxDB.
fn whole(version: u8, value: &str) -> u64 {
    let digits = if version == 1 { Some(value) } else { value.strip_suffix('i') };
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("v{version}: {value}"))
}

/// The counts added up per series.
fn counted(sink: &Sink, version: u8, prefix: &str, field: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines(sink, prefix) {
        let (series, value) = point(&line, field);
        *counts.entry(series).or_default() += whole(version, value);
    }
    counts
}

#[test]
fn events_are_counted_exactly_in_the_types_of_each_version() {
    for version in [1, 2, 3] {
        let sink = Sink::recording();
        let mut ringside = Ringside::start_with(&config(version, &sink, COUNTERS, ""), &[]);
        load(&ringside);
        let wanted = BTreeMap::from([
            ("my_counts,event_type=log,host=host,qs_env=dev\\ 1,source=qseow-foo,subsystem=Sub".into(), UNKNOWN_EVENTS),
            ("my_counts,event_type=log,host=pro2-win1,qs_env=dev\\ 1,source=qseow-proxy,subsystem=Audit.Proxy.Proxy".into(), PROXY_EVENTS),
            ("my_counts,event_type=user,host=pro2-win1,qs_env=dev\\ 1,source=qseow-proxy-session,subsystem=AppAccess".into(), USER_EVENTS),
        ]);
        wait_for("all events counted", SOON, || {
            (counted(&sink, version, "my_counts", "counter") == wanted).then_some(())
        });
        let stats = ringside.wait_stats("all points acknowledged", |stats| {
            number(stats, "/own_points/influxdb/assigned") > 0
                && number(stats, "/own_points/influxdb/in_flight") == 0
        });
        let events = USER_EVENTS + PROXY_EVENTS;
        assert_eq!(
            number(&stats, "/destinations/influxdb/assigned"),
            events,
            "no points among them"
        );
        assert!(ringside.stop().success());
        assert_eq!(counted(&sink, version, "my_counts", "counter"), wanted, "nothing twice");
        assert!(ringside.log().contains("ledger: own points to influxdb assigned="));
    }
}

/// A performance event; fractions of its times are exact in binary.
fn performance_event(app: &str, method: &str, process_time: f64) -> String {
    format!(
        "/qseow-qix-perf/;14;20211109T153726.028+0200;2021-11-09 15:37:26,028;INFO;pro2-win1;\
         QixPerformance.Engine.Engine;LAB\\qlikservice;3b3b3b3b-1111-4a3b-8b3b-000000000001;LAB;goran;\
         20211109T153726.028+0200;3b3b3b3b-3333-4a3b-8b3b-000000000003;{app};7;{method};\
         {process_time};11;0.25;1;0;3;rwPjBk;123456;234567;barchart"
    )
}

#[test]
fn rejected_performance_events_are_counted_with_their_time() {
    const APP: &str = "e7af59a0-c243-480d-9571-08727551a66f";
    let counters = COUNTERS
        .replace(
            "    eventCount:\n      enable: true",
            "    rejectedEventCount:\n      enable: true",
        )
        .replace("        tags:\n          - name: qs_env\n            value: dev 1\n", "");
    for version in [1, 2, 3] {
        let sink = Sink::recording();
        let text = config(version, &sink, &counters, "").replacen(
            "      monitorFilter:\n        allApps:\n          enable: true\n",
            "      trackRejectedEvents:\n        enable: true\n        tags:\n          - name: site\n            \
             value: north\n      monitorFilter:\n        allApps:\n          enable: false\n",
            1,
        );
        let mut ringside = Ringside::start_with(&text, &[]);
        let layouts = (0..3).map(|_| performance_event(APP, "GenericObject::GetLayout", 12.5));
        let opens = (0..2).map(|_| performance_event("", "Global::OpenApp", 1.25));
        send_all(ringside.log_events, layouts.chain(opens));
        let tags = "object_type=barchart,site=north,source=qseow-qix-perf";
        let of_app = format!(
            "my_counts,app_id={APP},app_name_set=false,method=GenericObject::GetLayout,{tags}"
        );
        let of_none = format!("my_counts,app_name_set=false,method=Global::OpenApp,{tags}");
        let wanted = BTreeMap::from([(of_app.clone(), 3), (of_none.clone(), 2)]);
        wait_for("all rejected events counted", SOON, || {
            (counted(&sink, version, "my_counts", "counter") == wanted).then_some(())
        });
        assert!(ringside.stop().success());
        assert_eq!(counted(&sink, version, "my_counts", "counter"), wanted, "nothing twice");
        let mut times = BTreeMap::new();
        for line in lines(&sink, "my_counts") {
            // Without an `i` in all versions.
            let (series, time) = point(&line, "process_time");
            *times.entry(series).or_default() += time.parse::<f64>().expect("a number");
        }
        assert_eq!(times, BTreeMap::from([(of_app, 37.5), (of_none, 2.5)]));
    }
}

#[test]
fn what_is_counted_when_the_time_comes_to_stop_is_written() {
    let sink = Sink::recording();
    let rarely = COUNTERS.replace("writeFrequency: 50", "writeFrequency: 3600000");
    let mut ringside = Ringside::start_with(&config(2, &sink, &rarely, ""), &[]);
    load(&ringside);
    ringside.wait_stats("all events read", |stats| {
        number(stats, "/listeners/log_events/parsed") == PROXY_EVENTS + UNKNOWN_EVENTS
            && number(stats, "/listeners/user_events/parsed") == USER_EVENTS
    });
    assert!(lines(&sink, "my_counts").is_empty(), "an hour has not passed");
    assert!(ringside.stop().success());
    let counts = counted(&sink, 2, "my_counts", "counter");
    assert_eq!(counts.values().sum::<u64>(), USER_EVENTS + PROXY_EVENTS + UNKNOWN_EVENTS);
}

#[test]
fn counters_that_are_switched_off_are_not_written() {
    for section in ["    influxdb:\n      enable: ", "    eventCount:\n      enable: "] {
        let off = COUNTERS.replace(&format!("{section}true"), &format!("{section}false"));
        assert_ne!(off, COUNTERS);
        let sink = Sink::recording();
        let mut ringside = Ringside::start_with(&config(2, &sink, &off, QUEUE_METRICS), &[]);
        load(&ringside);
        wait_for("points of the queue", DEADLINE, || {
            let counts = counted(&sink, 2, "my_queue", "messages_processed");
            let parsed = USER_EVENTS + PROXY_EVENTS + UNKNOWN_EVENTS;
            (counts.values().sum::<u64>() == parsed).then_some(())
        });
        assert!(ringside.stop().success());
        assert!(lines(&sink, "my_counts").is_empty(), "{section}");
    }
}

/// Difference 10.
#[test]
fn events_of_disabled_sources_are_counted_under_their_own_host_and_subsystem() {
    let sink = Sink::recording();
    let config = Config { sources: vec!["proxy"], ..Config::influxdb(2, sink.address()) };
    let mut ringside = Ringside::start_with(&(config.text() + COUNTERS), &[]);
    let engine = proxy_event("x").replacen("qseow-proxy", "qseow-engine", 1);
    send_all(ringside.log_events, [engine]);
    ringside.wait_stats("the event is rejected", |stats| {
        number(stats, "/listeners/log_events/rejected/source_disabled") == 1
    });
    assert!(ringside.stop().success());
    let series = "my_counts,event_type=log,host=pro2-win1,qs_env=dev\\ 1,source=qseow-engine,\
                  subsystem=Audit.Proxy.Proxy";
    assert_eq!(counted(&sink, 2, "my_counts", "counter"), BTreeMap::from([(series.into(), 1)]));
}

/// With received events uncounted: each switch works alone (difference 11).
#[test]
fn rejected_performance_events_are_counted_with_their_process_time() {
    let sink = Sink::recording();
    let config = Config::influxdb(2, sink.address()).text().replacen(
        "monitorFilter:\n        allApps:\n          enable: true",
        "trackRejectedEvents:\n        enable: true\n        tags:\n          - name: qs_env\n            \
         value: dev\n      monitorFilter:\n        allApps:\n          enable: false",
        1,
    );
    let counters = "  qlikSenseEvents:\n    influxdb:\n      enable: true\n      writeFrequency: 50\n    \
                    rejectedEventCount:\n      enable: true\n      influxdb:\n        \
                    measurementName: my_rejects\n";
    let mut ringside = Ringside::start_with(&(config + counters), &[]);
    let event = "/qseow-qix-perf/;14;;;INFO;h;S;svc;0;LAB;u;;;e7af59a0-c243-480d-9571-08727551a66f;7;\
                 Global::OpenApp;12.5;1;1;1;1;3;obj;4;5;barchart";
    send_all(ringside.log_events, [event; 2]);
    ringside.wait_stats("the events are rejected", |stats| {
        number(stats, "/listeners/log_events/rejected/filter") == 2
    });
    assert!(ringside.stop().success());
    let series = "my_rejects,app_id=e7af59a0-c243-480d-9571-08727551a66f,app_name_set=false,\
                  method=Global::OpenApp,object_type=barchart,qs_env=dev,source=qseow-qix-perf";
    assert_eq!(counted(&sink, 2, "my_rejects", "counter"), BTreeMap::from([(series.into(), 2)]));
    let lines = lines(&sink, "my_rejects");
    let times = lines.iter().map(|line| point(line, "process_time").1.parse::<f64>().unwrap());
    assert!((times.sum::<f64>() - 25.0).abs() < 1e-9, "{lines:?}");
}

#[test]
fn queue_metrics_add_up_in_the_types_of_each_version() {
    for version in [1, 2, 3] {
        let sink = Sink::recording();
        let mut ringside = Ringside::start_with(&config(version, &sink, "", QUEUE_METRICS), &[]);
        load(&ringside);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
        let series = |queue| format!("my_queue,host={},queue_type={queue},site=north", host.trim());
        let wanted = BTreeMap::from([
            (series("log_events"), PROXY_EVENTS + UNKNOWN_EVENTS),
            (series("user_events"), USER_EVENTS),
        ]);
        for field in ["messages_received", "messages_queued", "messages_processed"] {
            wait_for(field, SOON, || {
                (counted(&sink, version, "my_queue", field) == wanted).then_some(())
            });
        }
        assert!(ringside.stop().success());
        let largest = |field: &str| {
            let lines = lines(&sink, "my_queue");
            let values = lines.iter().map(|line| point(line, field).1.parse::<f64>().expect(field));
            values.fold(0.0, f64::max)
        };
        // Without an `i` in all versions.
        for field in ["processing_time_avg_ms", "processing_time_p95_ms", "processing_time_max_ms"]
        {
            assert!(largest(field) > 0.0, "{field}");
        }
        assert!(largest("queue_utilization_pct") >= 0.0);
        let running = counted(&sink, version, "my_queue", "queue_running");
        assert!(running.values().all(|leases| *leases > 0), "{running:?}");
        let max_size = lines(&sink, "my_queue");
        assert_eq!(whole(version, point(&max_size[0], "queue_max_size").1), 200);
    }
}
