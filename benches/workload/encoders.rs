//! An encoder for each destination and version, set up as an operator would.

use std::sync::Arc;

use ringside::deliver::influxdb::Version;
use ringside::deliver::mqtt::encode::{LogTopics, UserTopics};
use ringside::deliver::new_relic::encode::Levels;
use ringside::deliver::{Encode, influxdb, mqtt, ndjson, new_relic};
use ringside::event::Kind;

fn tags() -> Vec<(String, String)> {
    vec![("qs_env".to_owned(), "production".to_owned())]
}

fn influxdb(version: Version) -> Box<dyn Encode> {
    let encoder = influxdb::encode::Encoder::new(&influxdb::encode::EncoderSettings {
        version,
        user_tags: tags(),
        log_tags: tags(),
        tags_as_fields: Vec::new(),
        log_row_tag: false,
        kinds: [true; Kind::COUNT],
    });
    let series = Arc::new(encoder.series());
    Box::new(encoder.counting(series))
}

/// All of them, by name.
pub fn all() -> Vec<(&'static str, Box<dyn Encode>)> {
    let mqtt = mqtt::encode::EncoderSettings {
        user: Some(UserTopics {
            everything: Some("sense/users".into()),
            commands: vec![("Open connection", "sense/opened".into())],
        }),
        log: Some(LogTopics { base: "sense/log".into(), to_base: true, to_subsystem: false }),
        user_tags: tags(),
        log_tags: tags(),
    };
    let new_relic = new_relic::EncoderSettings {
        user_events: true,
        user_attributes: tags(),
        scramble_user_events: false,
        levels: [Levels { fatal: true, error: true, warn: true }; Kind::COUNT],
        log_attributes: tags(),
        scramble_log_events: false,
    };
    vec![
        ("influxdb-v1", influxdb(Version::V1)),
        ("influxdb-v2", influxdb(Version::V2)),
        ("influxdb-v3", influxdb(Version::V3)),
        ("mqtt", Box::new(mqtt::encode::Encoder::new(&mqtt))),
        ("new-relic", Box::new(new_relic::encode::Encoder::new(&new_relic))),
        ("ndjson", Box::new(ndjson::encode::Encoder::new([true; Kind::COUNT]))),
    ]
}
