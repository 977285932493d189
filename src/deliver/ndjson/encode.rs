//! One event as one JSON object on a line of its own.
//!
//! Members, in this order:
//!
//! | member | value |
//! |---|---|
//! | `received` | when Ringside received it, RFC 3339 in UTC with nanoseconds; unique within a run |
//! | the columns of the event, in the order of the datagram | text, or a number; `null` where a number is not finite; `""` for what is missing or failed its check |
//! | `event_activity_source` | performance events only: `user` or `non-user` |
//! | `user_full` | `DIRECTORY\id`; empty when one of them is |
//! | `app_id` | user events only, and only when their context names an app |
//! | `app_name` | user and performance events, when their app is known by name; `<unknown app name>` in user events about an app that is not known; scheduler events have it among their columns |
//! | `user_agent` | user events only, and only when their message names one: an object of `browser_name`, `browser_version`, `browser_major_version`, `os_name` and `os_version`, each `""` where unknown |
//! | `categories` | log events only, and only when categories are on: an array of objects of `name` and `value`, in the order of the rules |
//!
//! Columns have the names of the payload reference. The first is `message_type` in user events and
//! `source` in log events; its value is the type without slashes. Scheduler events have `user_full`
//! among their columns.
//!
//! ```json
//! {"received":"2024-05-01T10:00:00.000000001Z","message_type":"qseow-proxy-session",
//!  "host":"server1","command":"Start session","user_directory":"LAB","user_id":"anna",
//!  "origin":"AppAccess","context":"/hub/","message":"…","user_full":"LAB\\anna"}
//! ```

use crate::calendar::write_date_time;
use crate::deliver::Encode;
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, JsonText, UUID_LENGTH, string};
use crate::deliver::line::{Escape, Line};
use crate::enrich::{Enriched, UserAgent};
use crate::event::{Column, Event, Kind, Listener};
use crate::rules::Category;

/// The most that a member takes without its text: `,"event_activity_source":""` is the longest, with
/// a number or a UUID.
const MEMBER: usize = 32 + UUID_LENGTH;

/// Members that are not columns, and the braces: `received`, `event_activity_source`, `user_full`,
/// `app_id`, `app_name`, `user_agent` and its five, `categories`.
const DERIVED: usize = 13;

/// The most that a category takes without its texts.
const CATEGORY: usize = r#"{"name":"","value":""},"#.len();

/// Writes events as JSON lines.
#[derive(Debug)]
pub struct Encoder {
    kinds: [bool; Kind::COUNT],
    clock: Clock,
}

impl Encoder {
    /// An encoder for the kinds that are wanted, in the order of [`Kind::ALL`].
    #[must_use]
    pub fn new(kinds: [bool; Kind::COUNT]) -> Self {
        Self { kinds, clock: Clock::default() }
    }
}

impl Encode for Encoder {
    fn wants(&self, event: &Event<'_>) -> bool {
        self.kinds[event.kind() as usize]
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let Enriched { event, received_ns, .. } = *enriched;
        Line::append(out, bound(enriched), |line| {
            line.bytes(b"{\"received\":\"");
            self.clock.write(received_ns, line);
            line.byte(b'"');
            for (index, spec) in event.kind().layout().columns().iter().enumerate() {
                key(name(event, spec.column), line);
                match spec.column {
                    Column::UserFull => json::user_full(event, line),
                    _ => json::column(event, index, spec.check, line),
                }
            }
            derived(event, line);
            known(enriched, line);
            line.bytes(b"}");
        });
    }
}

/// The longest line that can come out.
fn bound(enriched: &Enriched<'_>) -> usize {
    let event = enriched.event;
    let user_full = event.user_full().map_or(0, |name| name.parts().map(str::len).iter().sum());
    let app_name = enriched.app_name.map_or(0, str::len);
    let agent = enriched
        .user_agent
        .map_or(0, |agent| parts(agent).iter().map(|(_, text)| text.len()).sum());
    let categories = enriched.categories.unwrap_or_default();
    let category = |category: &&Category| category.name.len() + category.value.len();
    let categorised = categories.iter().map(category).sum::<usize>();
    JsonText::EXPANSION * (event.texts_bound() + user_full + app_name + agent + categorised)
        + MEMBER * (event.fields().len() + DERIVED)
        + CATEGORY * categories.len()
}

fn name(event: &Event<'_>, column: Column) -> &'static str {
    match (column, event.kind().listener()) {
        (Column::Source, Listener::UserEvents) => "message_type",
        _ => column.name(),
    }
}

/// What does not stand in the datagram itself.
fn derived(event: &Event<'_>, line: &mut Line<'_>) {
    if event.kind() == Kind::QixPerf {
        key("event_activity_source", line);
        json::string(if event.activity_is_user() { "user" } else { "non-user" }, line);
    }
    if event.field(Column::UserFull).is_none() {
        key(Column::UserFull.name(), line);
        json::user_full(event, line);
    }
    if let Some(app) = event.context_app_id() {
        key(Column::AppId.name(), line);
        json::uuid(Some(&app), line);
    }
}

/// What is known beyond the datagram.
fn known(enriched: &Enriched<'_>, line: &mut Line<'_>) {
    let has_column = enriched.event.field(Column::AppName).is_some();
    if let Some(name) = enriched.app_name.filter(|_| !has_column) {
        key(Column::AppName.name(), line);
        string(name, line);
    }
    if let Some(agent) = enriched.user_agent {
        key("user_agent", line);
        for (index, (name, text)) in parts(agent).into_iter().enumerate() {
            line.bytes(if index == 0 { b"{\"" } else { b",\"" });
            line.bytes(name.as_bytes());
            line.bytes(b"\":");
            string(text, line);
        }
        line.byte(b'}');
    }
    if let Some(categories) = enriched.categories {
        key("categories", line);
        line.byte(b'[');
        for (index, category) in categories.iter().enumerate() {
            line.bytes(if index == 0 { b"{\"name\":" } else { b",{\"name\":" });
            string(&category.name, line);
            line.bytes(b",\"value\":");
            string(&category.value, line);
            line.byte(b'}');
        }
        line.byte(b']');
    }
}

fn parts(agent: &UserAgent) -> [(&'static str, &str); 5] {
    [
        ("browser_name", &agent.browser_name),
        ("browser_version", &agent.browser_version),
        ("browser_major_version", &agent.browser_major_version),
        ("os_name", &agent.os_name),
        ("os_version", &agent.os_version),
    ]
}

#[inline]
fn key(name: &str, line: &mut Line<'_>) {
    line.bytes(b",\"");
    line.bytes(name.as_bytes());
    line.bytes(b"\":");
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Times as text. The calendar part is kept, because it changes once a second and not once an event.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    /// `2024-05-01T10:00:00.`; empty before the first event.
    text: String,
}

impl Clock {
    fn write(&mut self, ns: u64, line: &mut Line<'_>) {
        let second = ns / NS_PER_SECOND;
        if self.text.is_empty() || second != self.second {
            self.second = second;
            self.set_text();
        }
        line.bytes(self.text.as_bytes());
        let mut digits = *b"000000000Z";
        let mut rest = ns % NS_PER_SECOND;
        for digit in digits[..9].iter_mut().rev() {
            // A remainder of 10 fits.
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        line.bytes(&digits);
    }

    fn set_text(&mut self) {
        self.text.clear();
        // Writing to a `String` does not fail; its capacity is kept.
        let _ = write_date_time(&mut self.text, self.second);
        self.text.push('.');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, parse};
    use proptest::prelude::*;
    use serde_json::Value as Json;

    const KINDS: [bool; Kind::COUNT] = [true; Kind::COUNT];

    fn encode(listener: Listener, payload: &str, ns: u64) -> String {
        let mut scratch = Vec::new();
        let event = parse(listener, payload.as_bytes(), &mut scratch).unwrap();
        let mut out = Buffer::default();
        Encoder::new(KINDS).encode(&Enriched::plain(&event, ns), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_user_event() {
        let payload = "/qseow-proxy-session/;h;Start session;LAB;anna;AppAccess;\
            /app/E7AF59A0-c243-480d-9571-08727551a66f;a \"b\"";
        assert_eq!(
            encode(Listener::UserEvents, payload, 1_709_164_799_000_000_042),
            concat!(
                r#"{"received":"2024-02-28T23:59:59.000000042Z","#,
                r#""message_type":"qseow-proxy-session","host":"h","command":"Start session","#,
                r#""user_directory":"LAB","user_id":"anna","origin":"AppAccess","#,
                r#""context":"/app/E7AF59A0-c243-480d-9571-08727551a66f","#,
                r#""message":"a \"b\"","user_full":"LAB\\anna","#,
                r#""app_id":"e7af59a0-c243-480d-9571-08727551a66f"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_performance_event_without_numbers() {
        let line = encode(Listener::LogEvents, "/qseow-qix-perf/;4;;;INFO;h", 0);
        let json: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(json["received"], "1970-01-01T00:00:00.000000000Z");
        assert_eq!(json["source"], "qseow-qix-perf");
        assert_eq!(json["log_row"], 4);
        assert_eq!(json["process_time"], Json::Null);
        assert_eq!(json["handle"], -99);
        assert_eq!(json["event_activity_source"], "user");
        assert_eq!(json["user_full"], "");
        assert_eq!(json.get("app_id"), Some(&Json::from("")));
    }

    #[test]
    fn what_is_known_beyond_the_datagram_follows_it() {
        let payload = "/qseow-qix-perf/;4;;;INFO;h";
        let mut scratch = Vec::new();
        let event = parse(Listener::LogEvents, payload.as_bytes(), &mut scratch).unwrap();
        let agent = UserAgent {
            browser_name: "Chrome".into(),
            os_version: "\"\n".repeat(50).into(),
            ..UserAgent::default()
        };
        let category = Category { name: "\"a\"".repeat(40), value: "\u{1}".repeat(90) };
        let mut out = Buffer::default();
        let enriched = Enriched {
            app_name: Some("a \"b\""),
            user_agent: Some(&agent),
            categories: Some(&[&category, &category]),
            ..Enriched::plain(&event, 0)
        };
        Encoder::new(KINDS).encode(&enriched, &mut out);
        let line = std::str::from_utf8(&out).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let json: Json = serde_json::from_str(line).unwrap();
        assert_eq!(json["app_name"], "a \"b\"");
        let parts = json["user_agent"].as_object().unwrap();
        assert_eq!(parts.len(), 5);
        assert_eq!((&parts["browser_name"], &parts["os_name"]), (&"Chrome".into(), &"".into()));
        assert_eq!(parts["os_version"].as_str(), Some(&*agent.os_version));
        let category = serde_json::json!({ "name": category.name, "value": category.value });
        assert_eq!(json["categories"], serde_json::json!([category, category]));

        out.clear();
        let none = Enriched { categories: Some(&[]), ..Enriched::plain(&event, 0) };
        Encoder::new(KINDS).encode(&none, &mut out);
        let json: Json = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["categories"], serde_json::json!([]));
        assert!(json.get("app_name").is_none() && json.get("user_agent").is_none());
    }

    #[test]
    fn a_column_with_the_app_name_is_not_repeated() {
        let mut scratch = Vec::new();
        let payload = "/qseow-scheduler/;4;;;WARN;h;s;w;m;;;;;t;Sales";
        let event = parse(Listener::LogEvents, payload.as_bytes(), &mut scratch).unwrap();
        let mut out = Buffer::default();
        let enriched = Enriched { app_name: Some("other"), ..Enriched::plain(&event, 0) };
        Encoder::new(KINDS).encode(&enriched, &mut out);
        let line = std::str::from_utf8(&out).unwrap();
        assert_eq!(line.matches("app_name").count(), 1, "{line}");
        assert!(line.contains(r#""app_name":"Sales""#), "{line}");
    }

    #[test]
    fn the_full_name_of_a_scheduler_event_stands_once_in_its_column() {
        let payload = "/qseow-scheduler/;4;;;WARN;h;s;w;m;;;;LAB\\anna";
        let line = encode(Listener::LogEvents, payload, 0);
        assert_eq!(line.matches("user_full").count(), 1);
        assert!(line.contains(r#""user_id":"anna","user_full":"LAB\\anna","task_name":"""#));
    }

    #[test]
    fn the_clock_follows_jumps_in_both_directions() {
        let mut clock = Clock::default();
        let mut out = Buffer::default();
        Line::append(&mut out, 200, |line| {
            for second in [951_868_800, 4_107_542_399, 1_709_164_800] {
                clock.write(second * NS_PER_SECOND + 999_999_999, line);
                line.byte(b' ');
            }
        });
        let wanted: &[u8] = b"2000-03-01T00:00:00.999999999Z 2100-02-28T23:59:59.999999999Z \
            2024-02-29T00:00:00.999999999Z \n";
        assert_eq!(&out[..], wanted);
    }

    proptest! {
        #[test]
        fn hostile_events_are_one_object_on_one_line(
            kind in prop::sample::select(Kind::ALL.to_vec()),
            columns in prop::collection::vec("[a\\\\\"{},:é\u{1}\n\r\t]{0,90}", 0..30),
        ) {
            let payload = format!("/{}/;{}", kind.name(), columns.join(";"));
            let line = encode(kind.listener(), &payload, u64::MAX);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let json: Json = serde_json::from_str(&line).unwrap();
            let mut scratch = Vec::new();
            let event = parse(kind.listener(), payload.as_bytes(), &mut scratch).unwrap();
            for (column, field) in event.columns() {
                if let (Field::Text(text), false) = (field, column == Column::UserFull) {
                    prop_assert_eq!(&json[name(&event, column)], text);
                }
            }
        }
    }
}
