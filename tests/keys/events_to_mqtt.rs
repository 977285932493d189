//! Which events become messages of which topics, at a real broker.

use serde_json::Value;

use crate::support::mosquitto::{Mosquitto, PASSWORD, Subscriber, USER};
use crate::support::{DEADLINE, Ringside, send_all, wait_for};
use crate::{ALL_SOURCES, file, log_event, settled, user_event};

const COMMANDS: [&str; 4] =
    ["Start session", "Stop session", "Open connection", "Close connection"];

/// Runs the program with these lines of `sendToMQTT`, indented by six, sends it one user event per
/// command and one log event, and waits until the broker has acknowledged what is published of them.
fn run(broker: &Mosquitto, user: &str, log: &str) {
    let user = format!("    sendToMQTT:\n{user}");
    let log = format!("{ALL_SOURCES}    sendToMQTT:\n{log}");
    let rest = format!(
        "    mqtt: {{ username: {USER}, password: {PASSWORD}, qos: 1 }}
  mqttConfig: {{ enable: true, brokerHost: 127.0.0.1, brokerPort: {} }}",
        broker.port()
    );
    let mut ringside = Ringside::start_with(&file(&user, &log, &rest), &[]);
    send_all(ringside.user_events, COMMANDS.map(|command| user_event(command, "anna")));
    send_all(ringside.log_events, [log_event("proxy", "WARN", "m")]);
    settled(&ringside, 4, 1);
    assert!(ringside.stop().success(), "{}", ringside.log());
}

/// Lines for topics of which every second is on, the first one if `odd`.
fn every_second_topic(prefix: &str, odd: bool) -> String {
    let even = !odd;
    format!(
        "      enable: true
      postTo:
        everythingTopic: {{ enable: {odd}, topic: {prefix}/all }}
        sessionStartTopic: {{ enable: {even}, topic: {prefix}/start }}
        sessionStopTopic: {{ enable: {odd}, topic: {prefix}/stop }}
        connectionOpenTopic: {{ enable: {even}, topic: {prefix}/open }}
        connectionCloseTopic: {{ enable: {odd}, topic: {prefix}/close }}"
    )
}

#[test]
fn each_topic_has_a_switch_and_a_name() {
    const OFF: &str = "      enable: false";
    let broker = Mosquitto::start("");
    let subscriber = Subscriber::to(&broker, "subscriber");
    let topics = |prefix: &str, base: bool| {
        let subsystem = !base;
        format!(
            "      enable: true
      baseTopic: {prefix}/logs
      postTo: {{ baseTopic: {base}, subsystemTopics: {subsystem} }}"
        )
    };
    run(&broker, &every_second_topic("one", true), &topics("one", true));
    run(&broker, &every_second_topic("two", false), &topics("two", false));
    run(&broker, &every_second_topic("three", true), OFF);
    run(&broker, OFF, &topics("four", true));
    // The broker passes on what it has acknowledged in that order: when this is there, all is.
    run(&broker, OFF, &topics("end", true));
    wait_for("the last message", DEADLINE, || {
        (!subscriber.payloads("end/logs").is_empty()).then_some(())
    });

    let mut published: Vec<String> = Vec::new();
    for message in subscriber.messages() {
        let json: Value = serde_json::from_slice(&message.payload).expect("JSON");
        // Log events have none.
        let command = json["command"].as_str().unwrap_or_default();
        published.push(format!("{} {command}", message.topic).trim_end().to_owned());
    }
    published.sort();
    let mut expected = vec![
        "one/stop Stop session".to_owned(),
        "one/close Close connection".to_owned(),
        "one/logs".to_owned(),
        "two/start Start session".to_owned(),
        "two/open Open connection".to_owned(),
        "two/logs/system".to_owned(),
        "three/stop Stop session".to_owned(),
        "three/close Close connection".to_owned(),
        "four/logs".to_owned(),
        "end/logs".to_owned(),
    ];
    for prefix in ["one", "three"] {
        expected.extend(COMMANDS.map(|command| format!("{prefix}/all {command}")));
    }
    expected.sort();
    assert_eq!(published, expected);
}
