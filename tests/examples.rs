//! The files in `config/examples/`, run as they are but for addresses: they do what they say.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use support::mosquitto::{Mosquitto, PASSWORD, Subscriber, USER};
use support::sink::{Reply, Sink};
use support::{DEADLINE, Ringside, number, proxy_event, send_all, user_event, wait_for};

const USER_EVENTS: &str = include_str!("../config/examples/user-events.yaml");
const UDP_PAYLOAD: &str = include_str!("../config/examples/udp-payload.yaml");

/// The user events that the payload reference shows.
const DOCUMENTED: [&str; 2] = [
    "/qseow-proxy-session/;server1.domain.com;Start session;LAB;goran;https://sense.domain.com;\
     app/e7af59a0-c243-480d-9571-08727551a66f;UserAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) \
     AppleWebKit/537.36'",
    "/qseow-proxy-connection/;server2.domain.com;Open connection;LAB;jdoe;https://sense.domain.com;\
     hub;Connection established",
];

/// Each command and the topic that the example has for it.
const TOPICS: [(&str, &str); 4] = [
    ("Start session", "qliksense/userevent/session/start"),
    ("Stop session", "qliksense/userevent/session/stop"),
    ("Open connection", "qliksense/userevent/connection/open"),
    ("Close connection", "qliksense/userevent/connection/close"),
];

/// An example with other addresses, on free ports, and with settings of Ringside's own.
fn file(example: &str, addresses: &[(&str, String)], ringside: &str) -> String {
    let mut text = example.to_owned();
    for (there, here) in addresses {
        assert_eq!(text.matches(there).count(), 1, "{there}");
        text = text.replace(there, here);
    }
    text + "  ringside:\n    flushInterval: 10ms\n    console:\n      port: 0\n" + ringside
}

/// The example of the user events, with these servers.
fn user_events_file(influxdb: SocketAddr, broker: &Mosquitto, new_relic: &str) -> String {
    let addresses = [
        ("portUserActivityEvents: 9997", "portUserActivityEvents: 0".to_owned()),
        ("port: 8086", format!("port: {}", influxdb.port())),
        ("brokerPort: 1883", format!("brokerPort: {}", broker.port())),
        ("https://insights-collector.eu01.nr-data.net", new_relic.to_owned()),
    ];
    let credentials =
        format!("    mqtt:\n      qos: 1\n      username: {USER}\n      password: {PASSWORD}\n");
    file(USER_EVENTS, &addresses, &credentials)
}

/// The example of the payload reference.
fn udp_payload_file(example: &str) -> String {
    let addresses = [
        ("portUserActivityEvents: 9997", "portUserActivityEvents: 0".to_owned()),
        ("portLogEvents: 9996", "portLogEvents: 0".to_owned()),
    ];
    file(example, &addresses, "")
}

#[test]
fn the_example_of_the_user_events_does_what_it_says() {
    let influxdb = Sink::recording();
    let new_relic = Sink::answering(|_| Reply::json(202, r#"{"success":true}"#));
    let broker = Mosquitto::start("");
    let subscriber = Subscriber::to(&broker, "example");
    let text = user_events_file(influxdb.address(), &broker, &new_relic.url());
    let mut ringside = Ringside::start_with(&text, &[]);

    let commands =
        TOPICS.map(|(command, _)| user_event("anna").replacen("Start session", command, 1));
    let excluded = ["testuser1", "testuser2"].map(user_event);
    // The same id in another directory is another user.
    let elsewhere = user_event("testuser1").replacen("LAB", "OTHER", 1);
    let sent: Vec<String> = DOCUMENTED[..1]
        .iter()
        .map(|text| (*text).to_owned())
        .chain(commands)
        .chain([elsewhere])
        .chain(excluded)
        .collect();
    send_all(ringside.user_events, &sent);
    let wanted = sent.len() as u64 - 2;
    let stats = ringside.wait_stats("everything is delivered", |stats| {
        let to = stats["destinations"].as_object().expect("destinations");
        to.values().all(|to| to["delivered"] == wanted)
    });
    assert_eq!(number(&stats, "/listeners/user_events/rejected/excluded_user"), 2);
    assert_eq!(stats["destinations"].as_object().unwrap().len(), 4, "{stats:#}");
    wait_for("all messages", DEADLINE, || {
        (subscriber.messages().len() as u64 == 2 * wanted).then_some(())
    });
    assert!(ringside.stop().success(), "{}", ringside.log());

    let lines: Vec<String> = influxdb
        .requests()
        .iter()
        .filter(|request| request.path.contains("/write"))
        .flat_map(|request| request.text().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(lines.len() as u64, wanted);
    for line in &lines {
        assert!(line.starts_with("user_events,"), "{line}");
        assert!(line.contains(",env=DEV") && line.contains(",foo=bar"), "{line}");
    }
    assert_messages(&subscriber);
    for account in ["1111111", "2222222"] {
        assert_custom_events(&new_relic, account, wanted);
    }
}

/// Every event is on the topic for all, and on that of its command.
fn assert_messages(subscriber: &Subscriber) {
    let mut by_topic: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in subscriber.messages() {
        let json: Value = serde_json::from_slice(&message.payload).expect("JSON");
        assert_eq!(json["tags"], serde_json::json!({"env": "DEV", "foo": "bar"}));
        by_topic.entry(message.topic).or_default().push(json);
    }
    let all = by_topic.remove("qliksense/userevent").expect("the topic for all");
    for (command, topic) in TOPICS {
        let of_command = by_topic.remove(topic).unwrap_or_else(|| panic!("nothing on {topic}"));
        let wanted: Vec<&Value> = all.iter().filter(|json| json["command"] == command).collect();
        assert_eq!(of_command.iter().collect::<Vec<_>>(), wanted, "{topic}");
    }
    assert!(by_topic.is_empty(), "other topics: {by_topic:?}");
}

/// The attributes that the page lists, with scrambled users.
fn assert_custom_events(sink: &Sink, account: &str, wanted: u64) {
    let path = format!("/v1/accounts/{account}/events");
    let requests = sink.requests();
    let events: Vec<Value> = requests
        .iter()
        .filter(|request| request.path == path)
        .flat_map(|request| serde_json::from_str::<Vec<Value>>(request.text()).expect("an array"))
        .collect();
    assert_eq!(events.len() as u64, wanted);
    for event in &events {
        for user in ["qs_userFull", "qs_userDirectory", "qs_userId"] {
            let hash = event[user].as_str().expect("text");
            let is_hash = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_hash, "{user}: {event}");
        }
        assert_eq!((&event["env"], &event["foo"]), (&"DEV".into(), &"bar".into()), "{event}");
    }
    let documented = events
        .iter()
        .find(|event| event["qs_host"] == "server1.domain.com")
        .expect("the event that the reference shows");
    for (attribute, value) in [
        ("qs_event_action", "Start session"),
        ("qs_origin", "https://sense.domain.com"),
        ("qs_appId", "e7af59a0-c243-480d-9571-08727551a66f"),
        ("qs_appName", "<unknown app name>"),
        ("qs_uaOsName", "Windows"),
    ] {
        assert_eq!(documented[attribute], value, "{attribute}: {documented}");
    }
}

/// Empty lists under `monitorFilter` let no performance event through; nothing asks for the others.
#[test]
fn the_example_of_the_payload_reference_does_what_it_says() {
    let mut ringside = Ringside::start_with(&udp_payload_file(UDP_PAYLOAD), &[]);
    send_all(ringside.user_events, DOCUMENTED);
    let of = |source: &str| proxy_event("m").replacen("qseow-proxy", source, 1);
    let sources = ["qseow-engine", "qseow-proxy", "qseow-repository", "qseow-scheduler"];
    let events = sources.into_iter().chain(["qseow-qix-perf"; 3]).map(of);
    send_all(ringside.log_events, events);
    let stats = ringside.wait_stats("all are parsed", |stats| {
        number(stats, "/listeners/user_events/parsed") == 2
            && number(stats, "/listeners/log_events/parsed") == 7
    });
    assert_eq!(number(&stats, "/listeners/user_events/unrouted"), 2);
    assert_eq!(number(&stats, "/listeners/log_events/unrouted"), 4);
    assert_eq!(number(&stats, "/listeners/log_events/rejected/filter"), 3);
    assert!(ringside.stop().success(), "{}", ringside.log());
}

#[test]
fn events_for_an_influxdb_that_is_not_configured_are_unrouted_and_that_is_said() {
    let example = UDP_PAYLOAD.replacen(
        "    enginePerformanceMonitor:\n",
        "    sendToInfluxdb:\n      enable: true\n    enginePerformanceMonitor:\n",
        1,
    );
    let mut ringside = Ringside::start_with(&udp_payload_file(&example), &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    ringside.wait_stats("the event is unrouted", |stats| {
        number(stats, "/listeners/log_events/unrouted") == 1
    });
    assert!(ringside.stop().success());
    let log = ringside.log();
    let warning = log.lines().find(|line| line.contains("logEvents.sendToInfluxdb"));
    let warning = warning.unwrap_or_else(|| panic!("no warning:\n{log}"));
    assert!(warning.contains(" warn: ") && warning.contains("influxdbConfig"), "{warning}");
}
