//! What Butler SOS really wrote, datagram by datagram.

pub mod judging;
pub mod unrecorded;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringside::event::Listener;
use serde::Deserialize;

use crate::butler_sos::{App, Datagram, Event, Extras, Rules, Text, Version, read};
use crate::differences::Expected;

/// One datagram and what Butler SOS wrote for it.
#[derive(Debug, Deserialize)]
#[serde(from = "Row")]
pub struct Recording {
    /// A name for people.
    pub id: String,
    /// The datagram.
    pub datagram: Datagram,
    influx_v1: Vec<String>,
    influx_v1_nomqtt: Vec<String>,
    influx_v2: Vec<String>,
    influx_v3: Vec<String>,
    /// The MQTT messages, in the order in which they were published.
    pub mqtt: Vec<Message>,
    newrelic: Vec<Post>,
    newrelic_scrambled: Vec<Post>,
}

/// An MQTT message.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// JSON.
    pub payload: String,
}

/// One request to New Relic.
#[derive(Debug, Deserialize)]
pub struct Post {
    /// The path, with the account's id.
    pub path: String,
    /// The body; its time is 0.
    pub body: String,
}

/// One line of the file.
#[derive(Deserialize)]
struct Row {
    id: String,
    port: String,
    payload_b64: String,
    influx_v1: Vec<String>,
    influx_v1_nomqtt: Vec<String>,
    influx_v2: Vec<String>,
    influx_v3: Vec<String>,
    mqtt: Vec<Message>,
    newrelic: Vec<Post>,
    newrelic_scrambled: Vec<Post>,
}

impl From<Row> for Recording {
    fn from(row: Row) -> Self {
        let listener = match row.port.as_str() {
            "user" => Listener::UserEvents,
            "log" => Listener::LogEvents,
            other => panic!("{}: no such port: {other}", row.id),
        };
        let payload = STANDARD.decode(&row.payload_b64).expect("base64");
        Self {
            id: row.id,
            datagram: Datagram { listener, payload },
            influx_v1: row.influx_v1,
            influx_v1_nomqtt: row.influx_v1_nomqtt,
            influx_v2: row.influx_v2,
            influx_v3: row.influx_v3,
            mqtt: row.mqtt,
            newrelic: row.newrelic,
            newrelic_scrambled: row.newrelic_scrambled,
        }
    }
}

impl Recording {
    /// All recordings, in the order in which they were made.
    ///
    /// # Panics
    ///
    /// If the file is not there: without it nothing would be compared.
    pub fn all() -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/events.jsonl.zst");
        let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = zstd::decode_all(packed.as_slice()).expect("zstd");
        let all: Vec<Self> = serde_json::Deserializer::from_slice(&lines)
            .into_iter()
            .collect::<Result<_, _>>()
            .expect("one JSON object a line");
        assert!(!all.is_empty(), "{} is empty", path.display());
        all
    }

    /// The lines that were written, without their times.
    pub fn lines(&self, version: Version, mqtt: bool) -> &[String] {
        match (version, mqtt) {
            (Version::V1, true) => &self.influx_v1,
            (Version::V1, false) => &self.influx_v1_nomqtt,
            (Version::V2, _) => &self.influx_v2,
            (Version::V3, _) => &self.influx_v3,
        }
    }

    /// What was sent to New Relic, account by account.
    pub fn posts(&self, scrambled: bool) -> &[Post] {
        if scrambled { &self.newrelic_scrambled } else { &self.newrelic }
    }

    /// What the model says, with the user agent that New Relic was sent: InfluxDB does not get all
    /// user events.
    pub fn modelled_for_new_relic<'a>(&'a self, rules: &'a Rules) -> Option<Expected<'a>> {
        // Not read as JSON: half a character elsewhere in the body would not pass.
        let body = self.newrelic.first().map_or("", |post| &post.body);
        let user_agent = USER_AGENT
            .iter()
            .filter_map(|name| {
                let (_, rest) = body.split_once(&format!("\"qs_{name}\":\""))?;
                let (value, _) = rest.split_once('"')?;
                Some(((*name).to_owned(), value.to_owned()))
            })
            .collect();
        modelled(&self.datagram, rules, Version::V1, user_agent, true)
    }

    /// What the model says was written; `None` when the datagram is no event.
    pub fn modelled<'a>(
        &'a self,
        rules: &'a Rules,
        version: Version,
        mqtt: bool,
    ) -> Option<Expected<'a>> {
        let user_agent = self.lines(version, mqtt).first().map_or(Vec::new(), |l| user_agent(l));
        modelled(&self.datagram, rules, version, user_agent, mqtt)
    }
}

/// What the model says that Butler SOS writes for a datagram.
pub fn modelled<'a>(
    datagram: &'a Datagram,
    rules: &'a Rules,
    version: Version,
    user_agent: Vec<(String, String)>,
    mqtt: bool,
) -> Option<Expected<'a>> {
    let event: Event = read(datagram)?;
    let extras = Extras {
        static_tags: Vec::new(),
        categories: None,
        app_name: Text::new(),
        user_agent,
        mqtt,
    };
    Some(Expected::of_butler_sos(datagram, event, rules, version, extras))
}

/// The configuration that was recorded with, and the apps that were known.
pub fn rules(version: Version) -> Rules {
    Rules::new(config(version), apps())
}

/// The apps that were known.
pub fn apps() -> Vec<App> {
    serde_json::from_str(include_str!("../oracle/apps.json")).expect("JSON")
}

/// The configuration file of a version.
pub fn config(version: Version) -> &'static str {
    match version {
        Version::V1 => include_str!("../oracle/config-v1.yaml"),
        Version::V2 => include_str!("../oracle/config-v2.yaml"),
        Version::V3 => include_str!("../oracle/config-v3.yaml"),
    }
}

/// What is known of a user agent.
const USER_AGENT: [&str; 4] = ["uaBrowserName", "uaBrowserMajorVersion", "uaOsName", "uaOsVersion"];

/// The tags of the user agent in a line. They are the one thing that the model does not make itself.
fn user_agent(line: &str) -> Vec<(String, String)> {
    USER_AGENT
        .iter()
        .filter_map(|name| {
            let start = line.find(&format!(",{name}="))? + name.len() + 2;
            let mut value = String::new();
            let mut rest = line[start..].chars();
            while let Some(c) = rest.next() {
                match c {
                    ',' | ' ' => break,
                    '\\' => value.extend(rest.next()),
                    _ => value.push(c),
                }
            }
            Some(((*name).to_owned(), value))
        })
        .collect()
}
