//! The program against a real Mosquitto: what arrives, and what becomes of an outage.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use rumqttc::QoS;
use serde_json::Value;

use support::mosquitto::{Mosquitto, PASSWORD, Subscriber, USER, tls_listener};
use support::{DEADLINE, Ringside, number, proxy_event, send_all, user_event, wait_for};

/// Where the messages of [`proxy_event`] go.
const SUBSYSTEM: &str = "logs/audit/proxy/proxy";

/// A file that publishes everything; `mqtt` holds lines under `ringside.mqtt`, indented by six.
fn file(host: &str, port: u16, mqtt: &str) -> String {
    format!(
        "Butler-SOS:
  userEvents:
    enable: true
    udpServerConfig:
      serverHost: 127.0.0.1
      portUserActivityEvents: 0
    tags:
      - name: env
        value: test
    sendToMQTT:
      enable: true
      postTo:
        everythingTopic:
          enable: true
          topic: users
        sessionStartTopic:
          enable: true
          topic: users/start
  logEvents:
    udpServerConfig:
      serverHost: 127.0.0.1
      portLogEvents: 0
    source:
      proxy:
        enable: true
    sendToMQTT:
      enable: true
      baseTopic: logs
  mqttConfig:
    enable: true
    brokerHost: {host}
    brokerPort: {port}
  ringside:
    flushInterval: 10ms
    console:
      port: 0
    mqtt:
      username: {USER}
{mqtt}"
    )
}

fn settings(broker: &Mosquitto, more: &str) -> String {
    file("127.0.0.1", broker.port(), &format!("      password: {PASSWORD}\n{more}"))
}

fn delivered(ringside: &Ringside, events: u64) -> Value {
    ringside.wait_stats("everything is delivered", |stats| {
        number(stats, "/destinations/mqtt/delivered") == events
            && number(stats, "/destinations/mqtt/assigned") == events
    })
}

fn wait_until_there(subscriber: &Subscriber, topic: &str, messages: u64) {
    wait_for(topic, DEADLINE, || {
        (subscriber.payloads(topic).len() as u64 >= messages).then_some(())
    });
}

#[test]
fn messages_arrive_with_their_topics_and_quality_and_are_retained() {
    let broker = Mosquitto::start("");
    let subscriber = Subscriber::to(&broker, "early");
    let more = "      qos: 1\n      retain: true\n      clientId: the-ringside\n";
    let mut ringside = Ringside::start_with(&settings(&broker, more), &[]);
    send_all(ringside.user_events, [user_event("anna")]);
    send_all(ringside.log_events, [proxy_event("it \"happened\"")]);
    delivered(&ringside, 2);
    for topic in ["users", "users/start", "logs", SUBSYSTEM] {
        wait_until_there(&subscriber, topic, 1);
        let message = subscriber.payloads(topic).pop_first().unwrap();
        let json: Value = serde_json::from_str(&message).expect("JSON");
        if topic.starts_with("users") {
            assert_eq!((&json["userId"], &json["tags"]["env"]), (&"anna".into(), &"test".into()));
        } else {
            assert_eq!(json["message"], "it \"happened\"");
        }
    }
    assert!(broker.log().contains(" as the-ringside ("), "client id: {}", broker.log());
    let messages = subscriber.messages();
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert!(messages.iter().all(|message| message.qos == QoS::AtLeastOnce), "{messages:?}");
    assert!(ringside.stop().success());

    let late = Subscriber::to(&broker, "late");
    wait_until_there(&late, SUBSYSTEM, 1);
    assert!(late.messages().iter().all(|message| message.retain), "kept for those who come later");
}

#[test]
fn every_quality_of_service_delivers_many_events_in_order() {
    const EVENTS: u64 = 700;
    let broker = Mosquitto::start("");
    for qos in 0..=2 {
        let subscriber = Subscriber::to(&broker, &format!("subscriber-{qos}"));
        let more = format!("      qos: {qos}\n");
        let mut ringside = Ringside::start_with(&settings(&broker, &more), &[]);
        let message = |n| proxy_event(&format!("qos {qos} event {n:04}"));
        send_all(ringside.log_events, (0..EVENTS).map(message));
        delivered(&ringside, EVENTS);
        wait_until_there(&subscriber, "logs", EVENTS);
        let texts: Vec<_> = subscriber
            .messages()
            .iter()
            .filter(|message| message.topic == "logs")
            .map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap())
            .map(|json| json["message"].as_str().unwrap().to_owned())
            .collect();
        assert!(texts.is_sorted(), "qos {qos}");
        assert!(ringside.stop().success());
    }
}

/// Events in memory and on disk.
fn undecided(stats: &Value) -> u64 {
    let count = |key| number(stats, &format!("/destinations/mqtt/{key}"));
    count("in_flight") + count("spooled")
}

#[test]
fn at_quality_1_a_restart_of_the_broker_loses_nothing() {
    const PART: u64 = 300;
    let mut broker = Mosquitto::start("");
    let subscriber = Subscriber::to(&broker, "subscriber");
    let mut ringside = Ringside::start_with(&settings(&broker, "      qos: 1\n"), &[]);
    let send = |part: u64| {
        let message = |n| proxy_event(&format!("part {part} event {n}"));
        send_all(ringside.log_events, (0..PART).map(message));
    };
    send(0);
    ringside
        .wait_stats("the first is there", |stats| number(stats, "/destinations/mqtt/assigned") > 0);
    broker.stop();
    send(1);
    ringside.wait_stats("the outage is seen", |stats| undecided(stats) >= PART);
    broker.start_again();
    send(2);
    delivered(&ringside, 3 * PART);
    wait_until_there(&subscriber, "logs", 3 * PART);
    wait_until_there(&subscriber, SUBSYSTEM, 3 * PART);
    assert!(ringside.stop().success());
}

/// At quality of service 0 a message may arrive more than once, and what the broker had for others when
/// it stopped is its own affair; but each event has exactly one outcome.
#[test]
fn at_quality_0_a_restart_of_the_broker_is_in_the_ledger() {
    const PART: u64 = 300;
    let mut broker = Mosquitto::start("");
    let subscriber = Subscriber::to(&broker, "subscriber");
    let mut ringside = Ringside::start_with(&settings(&broker, "      qos: 0\n"), &[]);
    let send = |part: &str, events| {
        let message = |n| proxy_event(&format!("part {part} event {n}"));
        send_all(ringside.log_events, (0..events).map(message))
    };
    let mut sent = send("before", PART);
    let is_assigned = |stats: &Value| number(stats, "/destinations/mqtt/assigned");
    ringside.wait_stats("the first is there", |stats| is_assigned(stats) > 0);
    broker.stop();
    sent += send("during", PART);
    ringside.wait_stats("the outage has events of its own", |stats| is_assigned(stats) == sent);
    broker.start_again();
    // What was sent on the old connection may be gone: until one arrives, the new one is not in use.
    wait_for("a message after the outage", DEADLINE, || {
        sent += send("again", 1);
        let arrived = subscriber.payloads("logs");
        arrived.iter().any(|payload| payload.contains("part again")).then_some(())
    });
    sent += send("after", PART);
    // `wait_stats` asserts that assigned = delivered + in_flight + dropped at every look.
    let stats = delivered(&ringside, sent);
    wait_for("all that was sent on the new connection", DEADLINE, || {
        let arrived = subscriber.payloads("logs");
        let after = arrived.iter().filter(|payload| payload.contains("part after")).count();
        (after as u64 == PART).then_some(())
    });
    let arrived = subscriber.payloads(SUBSYSTEM).len() as u64;
    let delivered = number(&stats, "/destinations/mqtt/delivered");
    assert!((PART..=delivered).contains(&arrived), "{arrived} of {delivered}");
    assert!(ringside.stop().success());
}

/// An event whose payload has more than 3000 bytes: a message is cut after 1000 characters.
fn long_event(number: u64) -> String {
    proxy_event(&format!("event {number} {}", "\u{1f4ca}".repeat(900)))
}

/// Mosquitto acknowledges what is over its `message_size_limit`, and throws it away; nobody can know.
/// Only with an unlimited queue, as in the other tests, it closes the connection.
#[test]
fn what_the_broker_acknowledges_is_delivered_even_if_it_throws_it_away() {
    let broker = Mosquitto::start("message_size_limit 3000\nmax_queued_messages 1000");
    let subscriber = Subscriber::to(&broker, "subscriber");
    let mut ringside = Ringside::start_with(&settings(&broker, "      qos: 1\n"), &[]);
    send_all(ringside.log_events, [long_event(0), proxy_event("short")]);
    delivered(&ringside, 2);
    wait_until_there(&subscriber, SUBSYSTEM, 1);
    assert!(subscriber.payloads(SUBSYSTEM).pop_first().unwrap().contains("short"));
    assert!(ringside.stop().success());
}

/// From the first close of the connection to the refusal it is about a second, since round trips cost
/// nothing here; what is more is for a machine that is busy with other tests.
const REFUSED_WITHIN: Duration = Duration::from_secs(10);

/// One of many events is too long for the broker's `limit`.
fn one_is_refused(qos: u8, limit: &str, long: u64) {
    let broker = Mosquitto::start(&format!("{limit} 3000"));
    one_of_many_is_refused(&broker, qos, long, 60);
}

/// One of so many events is too long for the broker.
fn one_of_many_is_refused(broker: &Mosquitto, qos: u8, long: u64, events: u64) {
    let subscriber = Subscriber::to(broker, "subscriber");
    let text = settings(broker, &format!("      qos: {qos}\n"))
        .replace("flushInterval: 10ms", "flushInterval: 200ms\n    batchBytes: 4MiB");
    let mut ringside = Ringside::start_with(&text, &[]);
    let message = |n| if n == long { long_event(n) } else { proxy_event(&format!("event {n}")) };
    send_all(ringside.log_events, (0..events).map(message));
    let stats = wait_for("all have an outcome", REFUSED_WITHIN, || {
        let stats = ringside.stats();
        let assigned = number(&stats, "/destinations/mqtt/assigned");
        (assigned == events && undecided(&stats) == 0).then_some(stats)
    });
    assert_eq!(number(&stats, "/destinations/mqtt/dropped/refused"), 1, "{stats:#}");
    assert_eq!(number(&stats, "/destinations/mqtt/delivered"), events - 1);
    wait_until_there(&subscriber, SUBSYSTEM, events - 1);
    // Once, however often it was.
    let line = ringside.wait_for_line("the connection ended with");
    assert!(line.contains(&format!("mqtt 127.0.0.1:{}: ", broker.port())), "{line}");
    assert_eq!(ringside.log().matches("the connection ended with").count(), 1);
    let line = ringside.wait_for_line("counted as `refused`");
    assert!(
        line.contains("whenever it gets a message of") && line.contains(&format!("event {long}")),
        "{line}"
    );
    assert!(ringside.stop().success());
}

/// Mosquitto closes the connection of whoever sends more than `max_packet_size`, and without a limit
/// on its queue also of whoever sends more than `message_size_limit`, after an acknowledgement that
/// sometimes gets through and sometimes does not.
#[test]
fn a_message_that_the_broker_never_takes_is_refused_and_the_rest_goes_on() {
    for (qos, limit) in [(1, "message_size_limit"), (2, "max_packet_size")] {
        one_is_refused(qos, limit, 17);
    }
}

/// Nothing shows that the broker takes any message, until another one is tried.
#[test]
fn so_is_one_that_comes_first() {
    for (qos, limit) in [(1, "message_size_limit"), (2, "max_packet_size")] {
        one_is_refused(qos, limit, 0);
    }
}

/// Nothing is acknowledged, and thousands of messages are in one batch: pings tell where to look.
#[test]
fn so_is_one_of_thousands_without_acknowledgements() {
    let broker = Mosquitto::start("max_packet_size 3000\nlog_type all");
    one_of_many_is_refused(&broker, 0, 1_700, 2_000);
    let pings = broker.log().matches("Received PINGREQ from ringside-").count();
    // 10 for 2000 events with two messages each, 21 for groups, 21 for messages; 20 for the rest of a
    // batch that is sent again, and for what the machine cuts into more batches.
    assert!((2..72).contains(&pings), "{pings} pings");
}

#[test]
fn a_wrong_password_is_reported_and_nothing_is_dropped() {
    let broker = Mosquitto::start("");
    let text = file("127.0.0.1", broker.port(), "      password: wrong\n");
    let mut ringside = Ringside::start_with(&text, &[]);
    send_all(ringside.log_events, [proxy_event("m")]);
    let line = ringside.wait_for_line(&format!("mqtt 127.0.0.1:{}", broker.port()));
    assert!(line.contains("NotAuthorized") || line.contains("BadUserNamePassword"), "{line}");
    assert!(!ringside.log().contains("wrong"), "secrets stay secret");
    let stats = ringside.stats();
    assert_eq!(undecided(&stats), 1, "{stats:#}");
}

#[test]
fn the_last_will_is_published_after_a_crash_and_not_after_a_stop() {
    let broker = Mosquitto::start("");
    let will = |payload| {
        let more = format!(
            "      qos: 1\n      lastWill:\n        topic: ringside/state\n        payload: {payload}\n"
        );
        let ringside = Ringside::start_with(&settings(&broker, &more), &[]);
        // Only what is connected can be missed.
        send_all(ringside.log_events, [proxy_event("m")]);
        delivered(&ringside, 1);
        ringside
    };
    let subscriber = Subscriber::to(&broker, "subscriber");
    assert!(will("stopped").stop().success());
    let mut crashed = will("crashed");
    crashed.signal(Signal::SIGKILL);
    assert!(!crashed.wait().success());
    wait_until_there(&subscriber, "ringside/state", 1);
    let wills = subscriber.payloads("ringside/state");
    assert_eq!(wills.into_iter().collect::<Vec<_>>(), ["crashed"]);
}

#[test]
fn certificates_are_checked_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, port) = tls_listener(folder.path());
    let broker = Mosquitto::start(&listener);
    let path = folder.path().display();
    let tls = |ca: &str| {
        let text = format!(
            "      password: {PASSWORD}\n      qos: 1\n      tls: true\n      ca: {path}/{ca}\n      \
             clientCert: {path}/client.pem\n      clientKey: {path}/client.key\n"
        );
        Ringside::start_with(&file("localhost", port, &text), &[])
    };
    let subscriber = Subscriber::to(&broker, "subscriber");
    let mut ringside = tls("server.pem");
    send_all(ringside.log_events, [proxy_event("m")]);
    delivered(&ringside, 1);
    wait_until_there(&subscriber, "logs", 1);
    assert!(ringside.stop().success());

    let mut distrustful = tls("client.pem");
    send_all(distrustful.log_events, [proxy_event("m")]);
    let line = distrustful.wait_for_line("mqtt localhost:");
    assert!(line.contains("certificate"), "{line}");
    assert_eq!(number(&distrustful.stats(), "/destinations/mqtt/delivered"), 0);
}
