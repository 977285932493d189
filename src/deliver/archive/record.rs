//! One event as a compact line, for the staging file.
//!
//! ```text
//! version | kind | receive time | ( 0x1f | item | text )* | \n
//! ```
//!
//! The version is `VERSION`; the kind is a letter, `a` for the first of [`Kind::ALL`]; the receive
//! time is a decimal number of ns since 1970. What follows is what the event has of its [`Schema`]: the
//! number of the [`Item`], as one byte from `FIRST` on, and its text. What an event does not have
//! takes no room, and a version that does not know an item passes over it.
//!
//! Texts have no control characters: those of the datagram were cleaned, and what comes from elsewhere
//! is cleaned here, so that nothing needs an escape.
//!
//! Missing is what is empty, is no UUID, is the fall-back of a whole number, or is not finite.

use super::schema::{Extra, Item, Schema};
use crate::deliver::Encode;
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, JsonText, NUMBER_ROOM, UUID_LENGTH};
use crate::deliver::line::{Escape as _, Line};
use crate::enrich::Enriched;
use crate::event::{Check, Column, Event, Field, Int, Kind};
use crate::rules::Category;

/// Only a line whose meaning is another gets another version: items may be added without.
const VERSION: u8 = b'1';

/// The letter of the first kind.
const FIRST_KIND: u8 = b'a';

/// Stands before an item.
const SEPARATOR: u8 = 0x1f;

/// The byte of item 0. The last is 0x7f: neither line feed nor separator is among them.
const FIRST: u8 = 0x20;

const _: () = assert!(FIRST as usize + Item::END <= 0x80);

/// The most that an item takes without its text.
const ITEM: usize = 2 + if NUMBER_ROOM > UUID_LENGTH { NUMBER_ROOM } else { UUID_LENGTH };

/// The most that a category takes without its texts.
const CATEGORY: usize = r#"{"name":"","value":""},"#.len();

/// Writes events as compact lines.
#[derive(Debug)]
pub struct Encoder;

impl Encode for Encoder {
    fn wants(&self, _: &Event<'_>) -> bool {
        true
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let Enriched { event, received_ns, .. } = *enriched;
        Line::append(out, bound(enriched), |line| {
            line.byte(VERSION);
            line.byte(FIRST_KIND + event.kind() as u8);
            line.bytes(json::unsigned(received_ns, &mut [0; NUMBER_ROOM]));
            for (spec, field) in event.kind().layout().columns().iter().zip(event.fields()) {
                column(spec.column, spec.check, &field, line);
            }
            user_full(event, line);
            if event.kind() == Kind::QixPerf {
                let source = if event.activity_is_user() { "user" } else { "non-user" };
                text(Item::Extra(Extra::ActivitySource), source, line);
            }
            known(enriched, line);
        });
    }
}

/// The longest line that can come out.
fn bound(enriched: &Enriched<'_>) -> usize {
    let event = enriched.event;
    let user_full = event.user_full().map_or(0, |name| name.parts().map(str::len).iter().sum());
    let app_name = enriched.app_name.map_or(0, str::len);
    let agent = enriched.user_agent.map_or(0, |agent| {
        agent.browser_name.len()
            + agent.browser_version.len()
            + agent.browser_major_version.len()
            + agent.os_name.len()
            + agent.os_version.len()
    });
    let categories = enriched.categories.unwrap_or_default();
    let category = |category: &&Category| {
        CATEGORY + JsonText::EXPANSION * (category.name.len() + category.value.len())
    };
    let categorised = categories.iter().map(category).sum::<usize>();
    ITEM * (event.fields().len() + Extra::ALL.len() + 4)
        + NUMBER_ROOM
        + event.texts_bound()
        + user_full
        + app_name
        + agent
        + categorised
}

#[inline]
fn item(item: Item, line: &mut Line<'_>) {
    line.byte(SEPARATOR);
    line.byte(FIRST + item.number());
}

/// Text that is clean.
#[inline]
fn text(what: Item, text: &str, line: &mut Line<'_>) {
    if !text.is_empty() {
        item(what, line);
        line.bytes(text.as_bytes());
    }
}

/// Text that may not be clean.
fn cleaned(what: Item, text: &str, line: &mut Line<'_>) {
    if !text.is_empty() {
        item(what, line);
        text.bytes().filter(|byte| !byte.is_ascii_control()).for_each(|byte| line.byte(byte));
    }
}

fn column(column: Column, check: Check, field: &Field<'_>, line: &mut Line<'_>) {
    let what = Item::Column(column);
    match (column, field) {
        // The kind says it, and the full name is written for all kinds.
        (Column::Source | Column::UserFull, _) => {}
        (_, Field::Text(value)) => text(what, value, line),
        (_, Field::Uuid(Some(id))) => {
            item(what, line);
            let mut room = [0; UUID_LENGTH];
            line.bytes(id.hyphenated().encode_lower(&mut room).as_bytes());
        }
        (_, Field::Int(Int::Value(value))) => {
            if !matches!(check, Check::Int { fallback, .. } if fallback == *value) {
                item(what, line);
                line.bytes(lexical_core::write(*value, &mut [0; NUMBER_ROOM]));
            }
        }
        (_, Field::Float(value)) if value.is_finite() => {
            item(what, line);
            line.bytes(json::float(*value, &mut [0; NUMBER_ROOM]));
        }
        (_, Field::Uuid(None) | Field::Int(Int::Huge(_)) | Field::Float(_)) => {}
    }
}

fn user_full(event: &Event<'_>, line: &mut Line<'_>) {
    if let Some(name) = event.user_full() {
        item(Item::Column(Column::UserFull), line);
        for part in name.parts() {
            line.bytes(part.as_bytes());
        }
    }
}

/// What is known beyond the datagram.
fn known(enriched: &Enriched<'_>, line: &mut Line<'_>) {
    let event = enriched.event;
    if let Some(app) = event.context_app_id() {
        item(Item::Column(Column::AppId), line);
        line.bytes(app.hyphenated().encode_lower(&mut [0; UUID_LENGTH]).as_bytes());
    }
    if event.field(Column::AppName).is_none() {
        cleaned(Item::Column(Column::AppName), enriched.app_name.unwrap_or_default(), line);
    }
    if let Some(agent) = enriched.user_agent {
        for (extra, value) in [
            (Extra::BrowserName, &agent.browser_name),
            (Extra::BrowserVersion, &agent.browser_version),
            (Extra::BrowserMajorVersion, &agent.browser_major_version),
            (Extra::OsName, &agent.os_name),
            (Extra::OsVersion, &agent.os_version),
        ] {
            cleaned(Item::Extra(extra), value, line);
        }
    }
    let categories = enriched.categories.unwrap_or_default();
    for (index, category) in categories.iter().enumerate() {
        if index == 0 {
            item(Item::Extra(Extra::Categories), line);
        }
        line.bytes(if index == 0 { b"[{\"name\":" } else { b",{\"name\":" });
        json::string(&category.name, line);
        line.bytes(b",\"value\":");
        json::string(&category.value, line);
        line.bytes(b"}");
    }
    if !categories.is_empty() {
        line.byte(b']');
    }
}

/// A line read back.
#[derive(Debug)]
pub struct Row<'a> {
    /// What sent the event.
    pub kind: Kind,
    /// When it was received, in ns since 1970.
    pub received_ns: u64,
    texts: [Option<&'a str>; Item::END],
}

impl<'a> Row<'a> {
    /// Reads a line, with or without its line feed. `None` for what this program did not write, or only
    /// a newer one can read.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let line = simdutf8::basic::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)).ok()?;
        let mut pieces = line.split(char::from(SEPARATOR));
        let (&[version, letter], time) = pieces.next()?.as_bytes().split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        let kind = *Kind::ALL.get(usize::from(letter.checked_sub(FIRST_KIND)?))?;
        let received_ns = lexical_core::parse(time).ok()?;
        let mut texts = [None; Item::END];
        for piece in pieces {
            let number = piece.bytes().next()?.checked_sub(FIRST)?;
            // A number of two bytes in UTF-8 is not written.
            let text = piece.get(1..)?;
            if let Some(place) = texts.get_mut(usize::from(number)) {
                *place = Some(text);
            }
        }
        texts[usize::from(Item::Column(Column::Source).number())] = Some(kind.name());
        Some(Self { kind, received_ns, texts })
    }

    /// The text of an item, if the event has it.
    #[must_use]
    pub fn text(&self, item: Item) -> Option<&'a str> {
        self.texts[usize::from(item.number())]
    }

    /// What sent it says which items it can have.
    #[must_use]
    pub fn schema(&self) -> &'static Schema {
        Schema::of(self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::UserAgent;
    use crate::event::{Listener, parse};
    use proptest::prelude::*;

    fn encode(
        listener: Listener,
        payload: &[u8],
        known: impl FnOnce(&mut Enriched<'_>),
    ) -> Vec<u8> {
        let mut scratch = Vec::new();
        let event = parse(listener, payload, &mut scratch).unwrap();
        let mut enriched = Enriched::plain(&event, 1_636_465_046_028_000_001);
        known(&mut enriched);
        let mut out = Buffer::default();
        Encoder.encode(&enriched, &mut out);
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
        out.to_vec()
    }

    /// What a line holds, as `name=text`.
    fn shown(line: &[u8]) -> Vec<String> {
        let row = Row::read(line).unwrap();
        assert_eq!(row.received_ns, 1_636_465_046_028_000_001);
        let items = row.schema().items.iter();
        let texts =
            items.filter_map(|(item, _)| Some(format!("{}={}", item.name(), row.text(*item)?)));
        texts.collect()
    }

    #[test]
    fn a_user_event() {
        let payload = b"/qseow-proxy-session/;h;Start session;LAB;anna;AppAccess;\
            /app/E7AF59A0-c243-480d-9571-08727551a66f;a \"b\"";
        let agent = UserAgent {
            browser_name: "Chro\nme".into(),
            os_version: "10".into(),
            ..UserAgent::default()
        };
        let line = encode(Listener::UserEvents, payload, |enriched| {
            enriched.app_name = Some("Sales \u{1f}\n");
        });
        assert_eq!(
            shown(&line)[8..],
            [
                "user_full=LAB\\anna",
                "app_id=e7af59a0-c243-480d-9571-08727551a66f",
                "app_name=Sales ",
            ]
        );
        let mut scratch = Vec::new();
        let event = parse(Listener::UserEvents, &payload[..], &mut scratch).unwrap();
        let enriched = Enriched {
            user_agent: Some(&agent),
            ..Enriched::plain(&event, 1_636_465_046_028_000_001)
        };
        let mut out = Buffer::default();
        Encoder.encode(&enriched, &mut out);
        assert_eq!(shown(&out)[10..], ["browser_name=Chrome", "os_version=10"]);
        assert_eq!(
            shown(&line)[..8],
            [
                "source=qseow-proxy-session",
                "host=h",
                "command=Start session",
                "user_directory=LAB",
                "user_id=anna",
                "origin=AppAccess",
                "context=/app/E7AF59A0-c243-480d-9571-08727551a66f",
                "message=a \"b\"",
            ]
        );
    }

    #[test]
    fn what_is_missing_takes_no_room() {
        let line = encode(Listener::LogEvents, b"/qseow-qix-perf/;x;;;INFO;h", |_| ());
        let wanted =
            ["source=qseow-qix-perf", "level=INFO", "host=h", "event_activity_source=user"];
        assert_eq!(shown(&line), wanted);
        assert_eq!(line, b"1g1636465046028000001\x1f\x24INFO\x1f\x25h\x1f\x60user\n");
    }

    #[test]
    fn numbers_and_categories() {
        let payload = b"/qseow-qix-perf/;7;t;t;INFO;h;;;;;;;;;3;Open;1.5;1e400;-0;0;x;-1;;-5;99999999999999999999";
        let category = Category { name: "\"a\"\n".into(), value: "b".into() };
        let categories: [&Category; 2] = [&category, &category];
        let mut scratch = Vec::new();
        let event = parse(Listener::LogEvents, &payload[..], &mut scratch).unwrap();
        let enriched = Enriched {
            categories: Some(&categories),
            ..Enriched::plain(&event, 1_636_465_046_028_000_001)
        };
        let mut out = Buffer::default();
        Encoder.encode(&enriched, &mut out);
        let shown = shown(&out);
        for wanted in ["log_row=7", "request_id=3", "process_time=1.5", "lock_time=0", "handle=-1"]
        {
            assert!(shown.iter().any(|item| item == wanted), "{wanted}: {shown:?}");
        }
        for missing in ["work_time", "traverse_time", "net_ram", "peak_ram"] {
            assert!(!shown.iter().any(|item| item.starts_with(missing)), "{missing}: {shown:?}");
        }
        let json = shown.last().unwrap().strip_prefix("categories=").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let one = serde_json::json!({ "name": "\"a\"\n", "value": "b" });
        assert_eq!(json, serde_json::json!([one, one]));
    }

    #[test]
    fn lines_of_others() {
        assert!(Row::read(b"1a5\x1f\x25h\n").is_some());
        assert!(Row::read(b"1a5\x1f\x7fa newer item\n").is_some());
        for line in ["", "\n", "2a5", "1z5", "1a", "1ax", "1a5\u{1f}", "1a5\u{1f}\u{e9}x"] {
            assert!(Row::read(line.as_bytes()).is_none(), "{line:?}");
        }
        assert!(Row::read(b"1a5\x1f\x25\xff").is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Row::read(&bytes);
        }

        /// Whatever a datagram holds, its line is one line and has every text of the event.
        #[test]
        fn there_and_back(kind in 0..Kind::COUNT, rest in proptest::collection::vec("[^;]{0,40}", 0..30)) {
            let kind = Kind::ALL[kind];
            let payload = format!("/{}/;{}", kind.name(), rest.join(";"));
            let mut scratch = Vec::new();
            let event = parse(kind.listener(), payload.as_bytes(), &mut scratch).unwrap();
            let mut out = Buffer::default();
            Encoder.encode(&Enriched::plain(&event, 5), &mut out);
            prop_assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
            let row = Row::read(&out).unwrap();
            for (column, field) in event.columns().filter(|(column, _)| *column != Column::UserFull) {
                let read = row.text(Item::Column(column));
                match field {
                    Field::Text(text) => prop_assert_eq!(read.unwrap_or_default(), text),
                    Field::Uuid(id) => prop_assert_eq!(read.map(str::to_owned), id.map(|id| id.to_string())),
                    Field::Float(value) => prop_assert_eq!(read.is_some(), value.is_finite()),
                    Field::Int(_) => {}
                }
            }
        }
    }
}
