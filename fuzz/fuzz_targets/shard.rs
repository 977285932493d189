//! Any bytes on either port, through the whole shard to the batches: each batch has one line per
//! event, and InfluxDB's parser and a JSON parser read every line. The first byte chooses the port and
//! the settings; datagrams end at the byte 0xff, which no text has.

#![no_main]

// Most of it is for the tests.
#[allow(dead_code, unused_imports)]
#[path = "../../tests/butler_sos/mod.rs"]
mod butler_sos;
#[allow(dead_code, unused_imports)]
#[path = "../../tests/line_protocol/mod.rs"]
mod line_protocol;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use libfuzzer_sys::fuzz_target;
use ringside::deliver::batch::{self, BatchReceiver};
use ringside::deliver::influxdb::encode::{self as influxdb, InfluxVersion};
use ringside::deliver::new_relic::encode::{self as new_relic, Levels};
use ringside::deliver::{Clock, Encode, ndjson};
use ringside::event::{Kind, Listener};
use ringside::observe::histogram::Latency;
use ringside::observe::ledger::{Ledger, ReceiveCounts};
use ringside::rules::{EnabledKinds, Rules};
use ringside::shard::{Lookups, Output, Settings, Shard};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// Longest datagram of UDP over IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// Who reads what an encoder wrote.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Line(butler_sos::Version),
    Json,
}

const NAMES: [&str; 5] = ["v1", "v2", "v3", "ndjson", "new_relic"];

fn reader(name: &str) -> Reader {
    match name {
        "v1" => Reader::Line(butler_sos::Version::V1),
        "v2" => Reader::Line(butler_sos::Version::V2),
        "v3" => Reader::Line(butler_sos::Version::V3),
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
    let listener =
        if choice & 1 == 0 { Listener::UserEvents } else { Listener::LogEvents };
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
    let settings = Settings {
        flush_interval: Duration::ZERO,
        batch_bytes: 4096,
        batch_events: 1000,
        turn_leases: 256,
    };
    let lookups = Lookups {
        rules: Arc::new(ArcSwap::from_pointee(Rules::accepting(EnabledKinds([true; Kind::COUNT])))),
        app_names: Arc::default(),
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
        Reader::Line(version) => line_protocol::Line::read_all(text, version).len(),
        Reader::Json => text
            .lines()
            .map(|line| {
                let read: Result<Strict, _> = serde_json::from_str(line);
                read.unwrap_or_else(|error| panic!("{error}\n{line}"));
            })
            .count(),
    };
    assert_eq!(lines, events as usize, "one line per event\n{text}");
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
