//! The browsers and operating systems in the user events that Butler SOS was recorded with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringside::enrich::{UserAgent, UserAgents};
use ringside::event::{self, Column, Event, Listener};
use serde::Deserialize;

/// A datagram and the lines that were written for it.
#[derive(Deserialize)]
struct Recording {
    id: String,
    port: String,
    payload_b64: String,
    influx_v2: Vec<String>,
}

/// The tags of a user agent: names and values.
type Tags = BTreeMap<&'static str, String>;

const TAGS: [&str; 4] = ["uaBrowserName", "uaBrowserMajorVersion", "uaOsName", "uaOsVersion"];

fn recordings() -> Vec<Recording> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/events.jsonl.zst");
    let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = zstd::decode_all(packed.as_slice()).expect("zstd");
    serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("one JSON object a line")
}

/// The tags that were written. None of their values has a character that is escaped, but for spaces.
fn recorded(line: &str) -> Tags {
    let series = line.replace("\\ ", "\u{A0}");
    let series = series.split(' ').next().unwrap_or_default();
    let value = |name: &&'static str| {
        let (_, rest) = series.split_once(&format!(",{name}="))?;
        let value = rest.split(',').next().unwrap_or_default();
        Some((*name, value.replace('\u{A0}', " ")))
    };
    TAGS.iter().filter_map(value).collect()
}

/// The tags of a user agent: what is not known has none.
fn tags(agent: Option<&UserAgent>) -> Tags {
    let Some(agent) = agent else { return Tags::new() };
    let values =
        [&agent.browser_name, &agent.browser_major_version, &agent.os_name, &agent.os_version];
    TAGS.into_iter()
        .zip(values)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.to_string()))
        .collect()
}

/// Difference 24: Butler SOS looks for the user agent in the message as it is kept, which ends after
/// 1000 characters.
fn in_cut_message<'a>(event: &Event<'a>) -> Option<&'a str> {
    event.text(Column::Message).split("UserAgent:").nth(1)
}

/// Calls `check` with each recorded user event for which something was written.
fn each_user_event(mut check: impl FnMut(&str, &Event<'_>, &Tags)) {
    let mut scratch = Vec::new();
    for recording in recordings().iter().filter(|recording| recording.port == "user") {
        let Some(line) = recording.influx_v2.first() else { continue };
        let payload = STANDARD.decode(&recording.payload_b64).expect("base64");
        // Difference 27: some message types that Butler SOS takes are refused.
        let Ok(event) = event::parse(Listener::UserEvents, &payload, &mut scratch) else {
            continue;
        };
        check(&recording.id, &event, &recorded(line));
    }
}

#[test]
fn recorded_user_events_have_the_browsers_that_butler_sos_saw() {
    let mut agents = UserAgents::new();
    let (mut with_browser, mut without, mut cut) = (0, 0, 0);
    each_user_event(|id, event, recorded| {
        let kept = in_cut_message(event);
        assert_eq!(&tags(kept.and_then(|text| agents.get(text))), recorded, "{id}");

        let whole = event.user_agent();
        let got = tags(whole.and_then(|text| agents.get(text)));
        if whole == kept.map(str::trim) {
            assert_eq!(&got, recorded, "{id}");
        } else {
            cut += 1;
            assert!(
                whole.is_some_and(|whole| whole.starts_with(kept.unwrap_or("").trim())),
                "{id}"
            );
            assert_eq!(got["uaBrowserName"], "Chrome", "{id}: the whole text names it");
        }
        *(if recorded.is_empty() { &mut without } else { &mut with_browser }) += 1;
    });
    assert!(with_browser > 40 && without > 0 && cut > 0, "{with_browser} {without} {cut}");
}
