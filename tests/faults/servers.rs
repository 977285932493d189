//! A database and a broker that come and go.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::all_delivered;
use crate::support::influxd::Influxd;
use crate::support::mosquitto::{Mosquitto, PASSWORD, Subscriber, USER};
use crate::support::numbered::{Stream, event, numbers};
use crate::support::{Config, DEADLINE, Ringside, number, wait_for};

/// Between two events: some thousand a second, which an unoptimised engine has time for.
const PAUSE: Duration = Duration::from_micros(200);

const SPOOLED: &str = "/destinations/influxdb/spooled";

fn start(server: &Influxd) -> Ringside {
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    Ringside::start(&Config::influxdb(1, address).ringside("flushInterval: 20ms"))
}

/// Asserts that the database has each of the first `sent` events once.
fn has_all(server: &Influxd, sent: u64) {
    assert_eq!(server.count("senseops", "log_event", "message"), sent);
    let rows = server.rows("SELECT \"message\" FROM senseops..log_event");
    let text: Vec<_> = rows.iter().map(|row| row[1].as_str().expect("a message")).collect();
    let there: BTreeSet<u64> = numbers(&text.join("\n")).collect();
    assert_eq!(there, (0..sent).collect());
}

#[test]
fn influxdb_has_every_event_after_it_was_stopped_and_started() {
    let mut server = Influxd::start("");
    let mut ringside = start(&server);
    let stream = Stream::start(ringside.log_events, 0, PAUSE, event);
    stream.wait_for(500);
    server.shut_down();
    ringside.wait_stats("events on disk", |stats| number(stats, SPOOLED) > 0);
    stream.wait_for(500);
    server.start_again();
    stream.wait_for(500);
    let (sent, _) = stream.finish();
    all_delivered(&ringside, "influxdb", sent);
    assert!(ringside.log().contains("is not available"), "{}", ringside.log());
    has_all(&server, sent);
    assert!(ringside.stop().success());
}

#[test]
fn influxdb_has_every_event_after_it_was_killed_while_it_wrote() {
    let mut server = Influxd::start("");
    let mut ringside = start(&server);
    let stream = Stream::start(ringside.log_events, 0, PAUSE, event);
    for _ in 0..3 {
        let before = number(&ringside.stats(), "/destinations/influxdb/delivered");
        ringside.wait_stats("a write under way", |stats| {
            number(stats, "/destinations/influxdb/delivered") > before
                && number(stats, "/destinations/influxdb/in_flight") > 0
        });
        server.stop();
        stream.wait_for(500);
        server.start_again();
    }
    let (sent, _) = stream.finish();
    all_delivered(&ringside, "influxdb", sent);
    assert!(ringside.log().contains("is not available"), "{}", ringside.log());
    has_all(&server, sent);
    assert!(ringside.stop().success());
}

/// Log events go to the broker, at quality of service 1.
fn to_broker(broker: &Mosquitto) -> String {
    let config = Config::default()
        .ringside("flushInterval: 20ms")
        .ringside(&format!("mqtt: {{ qos: 1, username: '{USER}', password: '{PASSWORD}' }}"));
    let text = config.text().replace(
        "  logEvents:\n",
        "  logEvents:\n    sendToMQTT:\n      enable: true\n      baseTopic: logs\n",
    );
    let port = broker.port();
    let mqtt =
        format!("mqttConfig:\n    enable: true\n    brokerHost: 127.0.0.1\n    brokerPort: {port}");
    text.replace("  ringside:\n", &format!("  {mqtt}\n  ringside:\n"))
}

/// The numbers that came on a topic, in order, each where it came first.
fn first_occurrences(subscriber: &Subscriber, topic: &str) -> Vec<u64> {
    let messages = subscriber.messages();
    let here = messages.iter().filter(|message| message.topic == topic);
    let mut seen = BTreeSet::new();
    here.flat_map(|message| {
        let json: Value = serde_json::from_slice(&message.payload).expect("JSON");
        numbers(json["message"].as_str().expect("a message")).collect::<Vec<_>>()
    })
    .filter(|number| seen.insert(*number))
    .collect()
}

#[test]
fn a_broker_that_restarts_gets_everything_in_order() {
    const TOPICS: [&str; 2] = ["logs", "logs/audit/proxy/proxy"];
    let mut broker = Mosquitto::start("");
    let subscriber = Subscriber::to(&broker, "subscriber");
    let mut ringside = Ringside::start_with(&to_broker(&broker), &[]);
    let stream = Stream::start(ringside.log_events, 0, PAUSE * 2, event);
    for _ in 0..2 {
        stream.wait_for(300);
        broker.stop();
        ringside
            .wait_stats("events on disk", |stats| number(stats, "/destinations/mqtt/spooled") > 0);
        stream.wait_for(300);
        broker.start_again();
        let next = stream.next();
        ringside.wait_stats("the backlog is gone", |stats| {
            number(stats, "/destinations/mqtt/delivered") >= next
        });
    }
    let (sent, _) = stream.finish();
    all_delivered(&ringside, "mqtt", sent);
    for topic in TOPICS {
        let all = wait_for(topic, DEADLINE, || {
            let all = first_occurrences(&subscriber, topic);
            (all.len() as u64 >= sent).then_some(all)
        });
        assert_eq!(all, (0..sent).collect::<Vec<_>>(), "{topic}");
    }
    assert!(ringside.stop().success());
}
