//! Any bytes on either port, through the whole shard to the batches: each batch has one line per
//! event, InfluxDB's parser and a JSON parser read every line, and brokers take all topics of a line
//! for MQTT, which are as many as the event is to have. The first byte chooses the port and the
//! settings; datagrams end at the byte 0xff, which no text has.

#![no_main]

#[path = "../../tests/line_protocol/parsed.rs"]
mod parsed;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use libfuzzer_sys::fuzz_target;
use ringside::deliver::batch::{self, BatchReceiver};
use ringside::deliver::influxdb::encode::{self as influxdb, InfluxVersion};
use ringside::deliver::mqtt::encode as mqtt;
use ringside::deliver::new_relic::encode::{self as new_relic, Levels};
use ringside::deliver::{Clock, Encode, ndjson};
use ringside::enrich::AppNames;
use ringside::event::{Kind, Listener};
use ringside::observe::histogram::Latency;
use ringside::observe::ledger::{Ledger, ReceiveCounts};
use ringside::rules::categorise::{Action, Categorise, Filter, Level, Rule};
use ringside::rules::{Category, EnabledKinds, ExcludedUser, Rules, Settings};
use ringside::shard::{self, Lookups, Output, Shard};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// Longest datagram of UDP over IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// Who reads what an encoder wrote.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Line {
        literal_backslashes: bool,
    },
    Json,
    /// JSON, and topics behind it.
    Messages,
}

const NAMES: [&str; 6] = ["v1", "v2", "v3", "ndjson", "new_relic", "mqtt"];

/// A topic for all user events.
const USERS: &str = "users";
/// Commands with a topic of their own.
const COMMANDS: [(&str, &str); 2] =
    [("Start session", "users/start"), ("Stop session", "users/stop")];
/// What topics of log events begin with.
const LOGS: &str = "logs/qs";

fn reader(name: &str) -> Reader {
    match name {
        "v1" | "v2" => Reader::Line { literal_backslashes: true },
        "v3" => Reader::Line { literal_backslashes: false },
        "mqtt" => Reader::Messages,
        _ => Reader::Json,
    }
}

fn encoder(name: &str, choice: u8) -> Box<dyn Encode> {
    let tags = vec![("qs env\\".to_owned(), "a \"b\", c=\\".to_owned())];
    let kinds = [true; Kind::COUNT];
    let version = match name {
        "v1" => InfluxVersion::V1,
        "v2" => InfluxVersion::V2,
        "v3" => InfluxVersion::V3,
        "ndjson" => return Box::new(ndjson::encode::Encoder::new(kinds)),
        "mqtt" => {
            let commands = COMMANDS.map(|(command, topic)| (command, topic.to_owned()));
            return Box::new(mqtt::Encoder::new(&mqtt::EncoderSettings {
                user: Some(mqtt::UserTopics {
                    everything: Some(USERS.to_owned()),
                    commands: commands.into(),
                }),
                log: Some(mqtt::LogTopics {
                    base: LOGS.to_owned(),
                    to_base: true,
                    to_subsystem: true,
                }),
                user_tags: tags.clone(),
                log_tags: tags,
            }));
        }
        _ => {
            return Box::new(new_relic::Encoder::new(&new_relic::EncoderSettings {
                user_events: true,
                user_attributes: tags.clone(),
                scramble_user_events: choice & 2 != 0,
                levels: [Levels { fatal: true, error: true, warn: true }; Kind::COUNT],
                log_attributes: tags,
                scramble_log_events: choice & 4 != 0,
            }));
        }
    };
    Box::new(influxdb::Encoder::new(&influxdb::EncoderSettings {
        version,
        user_tags: tags.clone(),
        log_tags: tags,
        tags_as_fields: if choice & 8 == 0 { Vec::new() } else { vec!["user_full".into()] },
        log_row_tag: choice & 16 != 0,
        kinds,
    }))
}

/// An app that events of the seeds name, whose name has whatever must be escaped.
const APPS: &str =
    r#"[{ "id": "e7af59a0-c243-480d-9571-08727551a66f", "name": "a \"b\", c=\\ \u0007ö" }]"#;

/// With categories that have the names of tags and of each other, or without any.
fn rules(choice: u8) -> Rules {
    let enabled = EnabledKinds([true; Kind::COUNT]);
    if choice & 32 == 0 {
        return Rules::accepting(enabled);
    }
    let category = |name: &str| Category { name: name.into(), value: "a b,c=\\".into() };
    let rule = |filter, names: [&str; 2]| Rule {
        levels: Level::ALL.to_vec(),
        action: Action::Categorise(names.map(category).into()),
        filters: vec![filter],
    };
    let settings = Settings {
        categorise: Some(Categorise {
            rules: vec![
                rule(Filter::Anywhere("e".into()), ["qs env\\", "level"]),
                rule(Filter::Start("S".into()), ["level", "a=\", b"]),
                rule(Filter::End(".".into()), ["host", "user_full"]),
            ],
            default: vec![category("unknown")],
        }),
        excluded_users: vec![ExcludedUser { directory: "LAB".into(), id: "goran".into() }],
        ..Settings::accepting(enabled)
    };
    Rules::compile(&settings).expect("few texts")
}

/// Time stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn wall_ns(&self) -> u64 {
        1_700_000_000_000_000_000
    }
    async fn sleep(&self, _: Duration) {}
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, datagrams)) = input.split_first() else { return };
    let listener = if choice & 1 == 0 { Listener::UserEvents } else { Listener::LogEvents };
    let ledger = Arc::new(Ledger::new(1, 1, &NAMES.map(str::to_owned)));
    let (outputs, batches): (Vec<Output>, Vec<BatchReceiver>) = NAMES
        .iter()
        .zip(&ledger.destinations)
        .map(|(name, ledger)| {
            let (mut senders, batches) = batch::queue(1);
            let (encoder, ledger) = (encoder(name, choice), Arc::clone(ledger));
            (Output { encoder, sender: senders.remove(0), ledger }, batches)
        })
        .unzip();
    let settings = shard::Settings {
        flush_interval: Duration::ZERO,
        batch_bytes: 4096,
        batch_events: 1000,
        turn_leases: 256,
    };
    let names = AppNames::from_json(APPS.as_bytes()).expect("a list");
    let lookups = Lookups {
        rules: Arc::new(ArcSwap::from_pointee(rules(choice))),
        app_names: Arc::new(ArcSwap::from_pointee(names)),
    };
    let latency = Arc::new(Latency::default());
    let mut shard = Shard::new(0, settings, lookups, Arc::clone(&ledger), outputs, latency);
    let source = SocketAddr::from(([127, 0, 0, 1], 1));
    // As the receiver counts what it hands over.
    let handed = datagrams.split(|byte| *byte == 0xff).count() as u64;
    let received = ReceiveCounts { received: handed, handed, ..ReceiveCounts::default() };
    ledger.receivers[0][listener as usize].publish(&received);
    shard.begin_turn();
    for (time, datagram) in datagrams.split(|byte| *byte == 0xff).enumerate() {
        let datagram = &datagram[..datagram.len().min(DATAGRAM_MAX)];
        shard.take(listener, datagram, source, time as u64 + 1, Duration::ZERO);
    }
    shard.end_turn(&Still);
    shard.flush(Duration::ZERO, true);
    shard.end_turn(&Still);
    let snapshot = ledger.snapshot();
    assert!(snapshot.balanced());
    assert_eq!(snapshot.listeners[listener as usize].queued, 0);
    for (name, mut batches) in NAMES.iter().zip(batches) {
        while let Some(batch) = batches.try_recv() {
            check(reader(name), &batch.bytes, batch.events);
        }
    }
});

fn check(reader: Reader, bytes: &[u8], events: u32) {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    assert!(text.ends_with('\n'));
    let lines = match reader {
        Reader::Line { literal_backslashes } => {
            parsed::Line::parse_all(text, literal_backslashes).len()
        }
        Reader::Json => text.lines().map(check_json).count(),
        Reader::Messages => text.lines().map(check_messages).count(),
    };
    assert_eq!(lines, events as usize, "one line per event\n{text}");
}

fn check_json(line: &str) {
    let read: Result<Strict, _> = serde_json::from_str(line);
    read.unwrap_or_else(|error| panic!("{error}\n{line}"));
}

/// A payload and the topics that its event is to have, none of which a broker refuses.
fn check_messages(line: &str) {
    let mut parts = line.split('\t');
    let payload = parts.next().unwrap_or_default();
    check_json(payload);
    let event: serde_json::Value = serde_json::from_str(payload).expect("read just now");
    let topics: Vec<&str> = parts.collect();
    for topic in &topics {
        assert!(topic.split('/').all(|level| !level.is_empty()), "an empty level\n{line}");
        assert!(!topic.contains(['+', '#']) && !topic.contains(char::is_control), "{line}");
        assert!(topic.len() <= usize::from(u16::MAX), "{line}");
    }
    // Only user events have it.
    if event.get("messageType").is_some() {
        let special = COMMANDS.iter().filter(|(name, _)| event["command"] == **name);
        let wanted: Vec<&str> =
            [USERS].into_iter().chain(special.map(|(_, topic)| *topic)).collect();
        assert_eq!(topics, wanted, "{line}");
    } else {
        let [base, of_subsystem] = topics[..] else { panic!("two topics\n{line}") };
        assert_eq!(base, LOGS, "{line}");
        let levels = of_subsystem.strip_prefix(LOGS).and_then(|rest| rest.strip_prefix('/'));
        let levels = levels.unwrap_or_else(|| panic!("not below {LOGS}\n{line}"));
        let subsystem = event["subsystem"].as_str().unwrap_or_default();
        let wanted = subsystem.split(['.', '/']).count();
        assert_eq!(levels.split('/').count(), wanted, "{line}");
    }
}

/// JSON in which no object has a member twice.
struct Strict;

impl<'de> de::Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<Self>()?;
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format!("the member {name} is there twice")));
            }
        }
        Ok(self)
    }
}
