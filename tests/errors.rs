//! Error tracking: what fails becomes points and log lines, in bounded numbers (difference 22).

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;

use support::sink::{Reply, Request, Sink};
use support::{Config, DEADLINE, Ringside, number, proxy_event, send_all, wait_for};

const TRACKING: &str = "  errorTracking:
    enable: true
    logSummary:
      enable: true
    influxdb:
      enable: true
      measurementName: my_errors
";

/// The different lines of error points that arrived.
fn points(requests: &[Request]) -> BTreeSet<String> {
    let lines = requests.iter().flat_map(|request| request.text().lines());
    lines.filter(|line| line.starts_with("my_errors,")).map(str::to_owned).collect()
}

/// A line without its time.
fn timeless(line: &str) -> &str {
    line.rsplit_once(' ').expect("a time").0
}

fn config(sink: &Sink) -> String {
    Config::influxdb(2, sink.address()).ringside("flushInterval: 10ms").text()
}

/// In Butler SOS each refused error point is an error again, without end.
#[test]
fn a_refused_error_point_is_no_error() {
    let sink = Sink::answering(|_| Reply::json(400, r#"{"message":"refused"}"#));
    let mut ringside = Ringside::start_with(&(config(&sink) + TRACKING), &[]);
    send_all(ringside.log_events, [proxy_event("one")]);
    ringside.wait_stats("the error point is refused", |stats| {
        number(stats, "/own_points/influxdb/dropped/refused") == 1
    });
    assert!(ringside.stop().success(), "{}", ringside.log());
    let points = points(&sink.requests());
    let [point] = points.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        panic!("{points:#?}")
    };
    let tags = format!("my_errors,error_type=INFLUXDB_V2_WRITE,destination_host={}", sink.url());
    let fields = "error_category=\"http_4xx\",error_count=1i,http_status=400i";
    assert_eq!(timeless(point), format!("{tags} {fields}"));
    let said = "errors today (UTC): 1 in all; INFLUXDB_V2_WRITE http_4xx 1";
    assert_eq!(ringside.log().matches(said).count(), 1, "{}", ringside.log());
}

/// Many failures of one kind are one point at once, one each ten seconds, and one at the end.
#[test]
fn many_errors_are_few_points_that_count_them_all() {
    let sink = Sink::answering(|request| match request.text().contains("my_errors,") {
        true => Reply::status(204),
        false => Reply::json(400, r#"{"message":"refused"}"#),
    });
    let mut ringside = Ringside::start_with(&(config(&sink) + TRACKING), &[]);
    let started = std::time::Instant::now();
    let mut sent = 0;
    for round in 0..20 {
        sent += send_all(ringside.log_events, (0..10).map(|_| proxy_event("x")));
        ringside.wait_stats("all are refused", |stats| {
            number(stats, "/destinations/influxdb/dropped/refused") == sent
        });
        if round == 0 {
            wait_for("the first point", DEADLINE, || {
                (!points(&sink.requests()).is_empty()).then_some(())
            });
        }
    }
    assert!(ringside.stop().success(), "{}", ringside.log());
    let points = points(&sink.requests());
    let intervals = started.elapsed().as_secs() / 10;
    assert!(points.len() as u64 <= 2 + intervals, "{points:#?}");
    let count = |line: &String| {
        let (_, rest) = line.split_once("error_count=").expect("a count");
        rest.split('i').next().and_then(|digits| digits.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(points.iter().map(count).sum::<u64>(), sent);
}

#[test]
fn everything_that_can_fail_has_its_type() {
    let sink = Sink::recording();
    // Bound and closed again: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let more = format!(
        "  mqttConfig:\n    enable: true\n    brokerHost: 127.0.0.1\n    brokerPort: {}\n  \
         heartbeat:\n    enable: true\n    remoteURL: http://{closed}/secret\n    frequency: every 1 day\n",
        closed.port()
    );
    let text = config(&sink).replacen(
        "  logEvents:\n",
        "  logEvents:\n    sendToMQTT:\n      enable: true\n      baseTopic: log\n      postTo:\n        \
         baseTopic: true\n        subsystemTopics: false\n",
        1,
    );
    let ringside = Ringside::start_with(&(text + TRACKING + &more), &[]);
    let utf16 = proxy_event("two").encode_utf16().flat_map(u16::to_le_bytes).collect();
    send_all(ringside.log_events, [proxy_event("one").into_bytes(), utf16]);
    let wanted = [
        "my_errors,error_type=HEARTBEAT error_category=\"connection_refused\",\
         error_code=\"ECONNREFUSED\",error_count=",
        "my_errors,error_type=MQTT_PUBLISH,host=127.0.0.1 error_category=\"connection_refused\",\
         error_code=\"ECONNREFUSED\",error_count=",
        "my_errors,error_type=UDP_LOG_EVENT,module=UDP_LOG_EVENTS error_category=\"unknown\",\
         error_count=1i",
    ];
    wait_for("a point of each type", DEADLINE, || {
        let points = points(&sink.requests());
        let is_there = |start: &str| points.iter().any(|point| point.starts_with(start));
        wanted.iter().all(|start| is_there(start)).then_some(())
    });
    assert!(!points(&sink.requests()).iter().any(|point| point.contains("secret")));
}

#[test]
fn each_switch_switches_its_part_off() {
    for (from, to, points_wanted, summary_wanted) in [
        ("    influxdb:\n      enable: true", "    influxdb:\n      enable: false", false, true),
        (
            "    logSummary:\n      enable: true",
            "    logSummary:\n      enable: false",
            true,
            false,
        ),
        ("errorTracking:\n    enable: true", "errorTracking:\n    enable: false", false, false),
    ] {
        let off = TRACKING.replacen(from, to, 1);
        assert_ne!(off, TRACKING);
        let sink = Sink::answering(|request| match request.text().contains("my_errors,") {
            true => Reply::status(204),
            false => Reply::json(400, r#"{"message":"refused"}"#),
        });
        let mut ringside = Ringside::start_with(&(config(&sink) + &off), &[]);
        send_all(ringside.log_events, [proxy_event("one")]);
        ringside.wait_stats("the event is refused", |stats| {
            number(stats, "/destinations/influxdb/dropped/refused") == 1
        });
        // What was counted is written and said at the end.
        assert!(ringside.stop().success(), "{}", ringside.log());
        assert_eq!(!points(&sink.requests()).is_empty(), points_wanted, "{to}");
        assert_eq!(ringside.log().contains("errors today"), summary_wanted, "{to}");
    }
}
