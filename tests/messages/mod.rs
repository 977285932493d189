//! The MQTT messages of the recorded datagrams.
//!
//! As for InfluxDB: the model publishes what Butler SOS published; with the differences applied, that
//! is what the encoder writes of an event and of what is known about it.

use ringside::deliver::mqtt::encode::{Encoder, EncoderSettings, LogTopics, UserTopics};
use ringside::deliver::{Buffer, Encode};
use ringside::enrich::{Enriched, UserAgent};
use ringside::event::{Listener, parse};
use ringside::rules::Category;

use crate::butler_sos::{Version, narrow, payload};
use crate::differences::Expected;
use crate::recordings::{Message, Recording, modelled, rules};

const COMMANDS: [(&str, &str); 4] = [
    ("Start session", "qliksense/userevent/session/start"),
    ("Stop session", "qliksense/userevent/session/stop"),
    ("Open connection", "qliksense/userevent/connection/open"),
    ("Close connection", "qliksense/userevent/connection/close"),
];

/// The messages of an event under the topics of the recordings' configuration.
fn messages(expected: &Expected<'_>) -> Vec<Message> {
    if !expected.judged.is_empty() {
        return Vec::new();
    }
    let text = |name| narrow(&expected.event.text(name));
    let topics = match expected.datagram.listener {
        Listener::UserEvents => {
            let special = COMMANDS.iter().find(|(command, _)| *command == text("command"));
            let special = special.map(|(_, topic)| (*topic).to_owned());
            [Some("qliksense/userevent".to_owned()), special].into_iter().flatten().collect()
        }
        Listener::LogEvents => {
            let levels = text("subsystem").to_lowercase().replace('.', "/");
            vec!["qliksense/logevent".to_owned(), format!("qliksense/logevent/{levels}")]
        }
    };
    let payload = payload(&expected.event, &expected.extras);
    topics.into_iter().map(|topic: String| Message { topic, payload: payload.clone() }).collect()
}

/// What the model says of a recording; the user agent is the one thing that it does not make itself.
fn of<'a>(recording: &'a Recording, rules: &'a crate::butler_sos::Rules) -> Option<Expected<'a>> {
    let json = recording.mqtt.first().map(|message| {
        serde_json::from_str::<serde_json::Value>(&message.payload).unwrap_or_default()
    });
    let names = ["uaBrowserName", "uaBrowserMajorVersion", "uaOsName", "uaOsVersion"];
    let agent = names.iter().filter_map(|name| {
        let value = json.as_ref()?.get(name)?.as_str()?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    modelled(&recording.datagram, rules, Version::V1, agent.collect(), true)
}

/// A message to a topic with a wildcard breaks the connection.
fn breaks(message: &Message) -> bool {
    message.topic.contains(['+', '#'])
}

#[test]
fn the_model_publishes_what_butler_sos_published() {
    let rules = rules(Version::V1);
    for recording in Recording::all() {
        let modelled = of(&recording, &rules).as_ref().map(messages).unwrap_or_default();
        if modelled.iter().any(breaks) {
            // How much leaves before the connection breaks is up to chance.
            assert!(recording.mqtt.iter().all(|message| modelled.contains(message)));
            assert!(!recording.mqtt.iter().any(breaks), "{}", recording.id);
        } else {
            assert_eq!(modelled, recording.mqtt, "{}", recording.id);
        }
    }
}

/// Butler SOS has subsystems in topics as they are. Here wildcards and empty levels become `_`.
fn difference_15_levels(message: &mut Message) {
    let levels = message.topic.split('/').map(|level| match level {
        "" => "_".to_owned(),
        level => level.replace(['+', '#'], "_"),
    });
    message.topic = levels.collect::<Vec<_>>().join("/");
}

/// The messages of a recording after the differences.
pub fn expected(recording: &Recording, rules: &crate::butler_sos::Rules) -> Vec<Message> {
    let after = of(recording, rules).map(Expected::with_differences);
    let mut messages = after.as_ref().map(messages).unwrap_or_default();
    messages.iter_mut().for_each(difference_15_levels);
    messages
}

#[test]
fn the_encoder_publishes_what_butler_sos_published_after_the_differences() {
    let rules = rules(Version::V1);
    let commands = COMMANDS.map(|(command, topic)| (command, topic.to_owned()));
    let mut encoder = Encoder::new(&EncoderSettings {
        user: Some(UserTopics {
            everything: Some("qliksense/userevent".into()),
            commands: commands.into(),
        }),
        log: Some(LogTopics {
            base: "qliksense/logevent".into(),
            to_base: true,
            to_subsystem: true,
        }),
        user_tags: rules.static_tags(Listener::UserEvents),
        log_tags: rules.static_tags(Listener::LogEvents),
    });
    let mut compared = 0;
    for recording in Recording::all() {
        let Some(modelled) = of(&recording, &rules) else { continue };
        let wanted = expected(&recording, &rules);
        if wanted.is_empty() {
            continue; // Dropped before it gets to an encoder.
        }
        let got = encoded(&mut encoder, &modelled.with_differences());
        assert_eq!(got, wanted, "{}", recording.id);
        compared += 1;
    }
    assert!(compared > 0);
}

fn encoded(encoder: &mut Encoder, expected: &Expected<'_>) -> Vec<Message> {
    let extras = &expected.extras;
    let app_name = narrow(&extras.app_name);
    let part = |name: &str| {
        let found = extras.user_agent.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value).into()
    };
    let agent = UserAgent {
        browser_name: part("uaBrowserName"),
        browser_major_version: part("uaBrowserMajorVersion"),
        os_name: part("uaOsName"),
        os_version: part("uaOsVersion"),
        ..UserAgent::default()
    };
    let categories: Option<Vec<Category>> = extras.categories.as_ref().map(|categories| {
        categories.iter().map(|(n, v)| Category { name: n.clone(), value: v.clone() }).collect()
    });
    let borrowed: Option<Vec<&Category>> = categories.as_ref().map(|c| c.iter().collect());
    let mut scratch = Vec::new();
    let datagram = expected.datagram;
    let event = parse(datagram.listener, &datagram.payload, &mut scratch).expect("an event");
    let mut enriched = Enriched::plain(&event, 1);
    enriched.app_name = Some(&app_name);
    enriched.user_agent = Some(&agent);
    enriched.categories = borrowed.as_deref();
    let mut out = Buffer::default();
    encoder.encode(&enriched, &mut out);
    let line = std::str::from_utf8(&out).expect("UTF-8").strip_suffix('\n').expect("a line");
    let mut parts = line.split('\t');
    let payload = parts.next().unwrap_or_default();
    parts.map(|topic| Message { topic: topic.into(), payload: payload.into() }).collect()
}
