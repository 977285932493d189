//! What Butler SOS counted for each recorded datagram, and what the shards count after the
//! differences.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::table::Table;
use super::tally::{Counts, TallySettings, UNKNOWN, pair};
use crate::event::{Kind, Listener, parse};

#[derive(Deserialize)]
struct Recording {
    id: String,
    port: String,
    payload_b64: String,
    event_count_v2: Vec<String>,
}

/// The tags of a line by name, unescaped.
fn tag(line: &str, name: &str) -> String {
    // What follows a value is the same in all recordings, so a `\` at its end is no puzzle.
    let line = line.replace(",qs_env=dev", "\u{10FFFF}").replace(" counter=", "\u{10FFFF}");
    let Some((_, rest)) = line.split_once(&format!(",{name}=")) else { return String::new() };
    let mut value = String::new();
    let mut characters = rest.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(&next @ (',' | '=' | ' '))) => {
                value.push(next);
                characters.next();
            }
            // A control character: they are taken out before anything is counted (difference 23).
            ('\\', Some('n' | 'r' | 't')) => {
                characters.next();
            }
            (',' | ' ' | '\u{10FFFF}', _) => break,
            _ => value.push(character),
        }
    }
    value.chars().filter(|character| !character.is_ascii_control()).collect()
}

/// What Butler SOS counted, changed by the differences that touch counts.
fn expected(listener: Listener, payload: &[u8], line: Option<&String>) -> [String; 4] {
    let text: String =
        String::from_utf8_lossy(payload).chars().filter(|it| !it.is_ascii_control()).collect();
    let columns: Vec<&str> = text.split(';').collect();
    let column = |index: usize| columns.get(index).copied().unwrap_or_default().to_owned();
    let raw = |index: usize| payload.split(|&byte| byte == b';').nth(index).unwrap_or_default();
    let claimed = column(0).to_lowercase();
    let whole = raw(0).to_ascii_lowercase();
    let bare = whole.strip_prefix(b"/").unwrap_or(&whole);
    let bare = bare.strip_suffix(b"/").unwrap_or(bare);
    let known = Kind::ALL.into_iter().any(|kind| {
        let slashes = kind.listener() == Listener::UserEvents || whole.len() == bare.len() + 2;
        kind.listener() == listener && bare == kind.name().as_bytes() && slashes
    });
    let (of, host, subsystem) = match listener {
        Listener::UserEvents => ("user", 1, 5),
        Listener::LogEvents => ("log", 5, 6),
    };
    let mut wanted = match line {
        Some(line) => ["event_type", "source", "host", "subsystem"].map(|name| tag(line, name)),
        // Difference 11: a point that the client refuses takes its count with it.
        None => [of.into(), claimed.replacen('/', "", 2), column(host), column(subsystem)],
    };
    if !known {
        match listener {
            // Difference 27: a type is matched whole.
            Listener::UserEvents => wanted[1..].fill(UNKNOWN.into()),
            // Difference 10: host and subsystem of all log events stand in the same columns.
            Listener::LogEvents => (wanted[2], wanted[3]) = (column(host), column(subsystem)),
        }
    }
    for (place, index, limit) in [(2, host, 100), (3, subsystem, 200)] {
        // Difference 19: text is cut in characters, after control characters are taken out.
        if known && raw(index).len() > limit {
            wanted[place] = column(index).chars().take(limit).collect();
        }
    }
    for text in &mut wanted {
        // Difference 2: missing columns are empty. Difference 18: so is `(null)`.
        if text.is_empty() || text == "undefined" || (known && text == "(null)") {
            *text = UNKNOWN.into();
        }
        if !known {
            *text = text.chars().take(100).collect();
        }
    }
    wanted
}

fn series(table: &Table) -> Vec<[String; 4]> {
    table.counted().map(|series| series.texts.each_ref().map(ToString::to_string)).collect()
}

#[test]
fn each_recorded_datagram_counts_as_at_butler_sos_after_the_differences() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/events.jsonl.zst");
    let text = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let recordings = serde_json::Deserializer::from_slice(&text).into_iter::<Recording>();
    let mut wrong = Vec::new();
    for recording in recordings.map(Result::unwrap) {
        let payload = STANDARD.decode(&recording.payload_b64).unwrap();
        let listener = match recording.port.as_str() {
            "user" => Listener::UserEvents,
            _ => Listener::LogEvents,
        };
        let settings = TallySettings { received: true, rejected: true, ..Default::default() };
        let (mut tally, mut collector) = pair(settings);
        let line = recording.event_count_v2.first();
        let rejected = line.filter(|line| line.starts_with("rejected"));
        let mut scratch = Vec::new();
        let wanted = match (parse(listener, &payload, &mut scratch), rejected) {
            (Ok(event), Some(line)) => {
                let name = tag(line, "app_name");
                tally.filtered(&event, (!name.is_empty()).then_some(&name));
                ["app_id", "app_name", "method", "object_type"].map(|name| tag(line, name))
            }
            (Ok(event), None) => {
                tally.received(&event);
                expected(listener, &payload, line)
            }
            (Err(_), _) => {
                tally.unknown(listener, &payload);
                expected(listener, &payload, line)
            }
        };
        tally.flush();
        let mut counts = Counts::default();
        collector.collect(&mut counts);
        let got = series(if rejected.is_some() { &counts.rejected } else { &counts.received });
        if got != [wanted.clone()] {
            wrong.push(format!("{}: {got:?}, wanted {wanted:?}", recording.id));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
