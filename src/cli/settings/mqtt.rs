//! From the configuration file to MQTT: which topics get what, and the broker.

use std::path::PathBuf;

use super::tags;
use crate::config::{self, Config};
use crate::deliver::mqtt::encode::{EncoderSettings, LogTopics, UserTopics};
use crate::deliver::mqtt::{LastWill, MqttSettings, Qos, Tls};

pub(super) fn messages(config: &Config) -> EncoderSettings {
    let (user, log) = (&config.user_events.send_to_mqtt, &config.log_events.send_to_mqtt);
    EncoderSettings {
        user: user.enable.then(|| user_topics(&user.post_to)),
        log: log.enable.then(|| LogTopics {
            base: log.base_topic.clone(),
            to_base: log.post_to.base_topic,
            to_subsystem: log.post_to.subsystem_topics,
        }),
        user_tags: tags(&config.user_events.tags),
        log_tags: tags(&config.log_events.tags),
    }
}

fn user_topics(topics: &config::UserTopics) -> UserTopics {
    let config::UserTopics {
        everything_topic: everything,
        session_start_topic: start,
        session_stop_topic: stop,
        connection_open_topic: open,
        connection_close_topic: close,
    } = topics;
    let commands = [
        ("Start session", start.enable, &start.topic),
        ("Stop session", stop.enable, &stop.topic),
        ("Open connection", open.enable, &open.topic),
        ("Close connection", close.enable, &close.topic),
    ];
    UserTopics {
        everything: everything.enable.then(|| everything.topic.clone()),
        commands: commands
            .into_iter()
            .filter(|(_, enable, _)| *enable)
            .map(|(command, _, topic)| (command, topic.clone()))
            .collect(),
    }
}

pub(super) fn broker(config: &Config) -> MqttSettings {
    let extra = &config.ringside.mqtt;
    let path = |path: &Option<String>| path.as_ref().map(PathBuf::from);
    MqttSettings {
        // The file's checks have made sure that there is one.
        host: config.mqtt_config.broker_host.clone().unwrap_or_default(),
        port: config.mqtt_config.broker_port,
        qos: match extra.qos {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        retain: extra.retain,
        credentials: extra
            .username
            .clone()
            .map(|user| (user, extra.password.clone().unwrap_or_default())),
        tls: extra.tls.then(|| Tls {
            ca: path(&extra.ca),
            client: path(&extra.client_cert).zip(path(&extra.client_key)),
        }),
        client_id: extra.client_id.clone(),
        last_will: extra
            .last_will
            .clone()
            .map(|will| LastWill { topic: will.topic, payload: will.payload }),
    }
}
