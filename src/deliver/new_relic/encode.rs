//! From a borrowed event to a custom event of New Relic.
//!
//! One event is one line with one JSON object, whose attributes are those of Butler SOS, in its
//! order. What is fixed (names, static attributes) is prepared once per kind. Of two attributes with
//! one name the later one is sent, whether it comes from the event, from the tags or from the static
//! attributes: no name stands twice in an object.
//!
//! Envelope: as for the other encoders, plus three hashes where users are scrambled.

#[cfg(test)]
mod tests;

use super::scramble::{SCRAMBLED, scramble};
use crate::deliver::Encode;
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, JsonText, NUMBER_ROOM};
use crate::deliver::line::{Escape as _, Line, Literal};
use crate::enrich::Enriched;
use crate::event::{Column, Event, Field, Kind, Listener};

const NS_PER_MS: u64 = 1_000_000;

/// Length of a UUID as text.
const UUID_LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;

/// Quotes and the comma, and a number, a UUID or a hash where the value is no text of the event.
const VALUE: usize = 3 + if NUMBER_ROOM > UUID_LENGTH { NUMBER_ROOM } else { UUID_LENGTH };

/// What an [`Encoder`] has to know.
#[derive(Clone, Debug, Default)]
pub struct EncoderSettings {
    /// Whether user events are sent.
    pub user_events: bool,
    /// Attributes of every user event, as name and value (`userEvents.tags`).
    pub user_attributes: Vec<(String, String)>,
    /// Whether the users of user events are scrambled.
    pub scramble_user_events: bool,
    /// Which log events are sent, in the order of [`Kind::ALL`]. Performance events never are.
    pub levels: [Levels; Kind::COUNT],
    /// Attributes of every log event, as name and value (`logEvents.tags`, then the static
    /// attributes, then the version).
    pub log_attributes: Vec<(String, String)>,
    /// Whether the users of log events are scrambled (difference 29).
    pub scramble_log_events: bool,
}

/// The levels at which the log events of a service are sent; all others are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// FATAL (difference 16).
    pub fatal: bool,
    /// ERROR.
    pub error: bool,
    /// WARN.
    pub warn: bool,
}

impl Levels {
    fn contain(self, level: &str) -> bool {
        self.fatal && level.eq_ignore_ascii_case("fatal")
            || self.error && level.eq_ignore_ascii_case("error")
            || self.warn && level.eq_ignore_ascii_case("warn")
    }
}

/// Where the value of an attribute comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Receive time in milliseconds since 1970.
    Time,
    Column(Column),
    UserFull,
    UserDirectory,
    UserId,
    /// The app that a user event's context names.
    App,
    AppName,
    BrowserName,
    BrowserMajorVersion,
    OsName,
    OsVersion,
}

/// The attributes of user events. From `qs_appId` on they are left out when there is nothing to say.
const USER: &[(&str, Source)] = &[
    ("timestamp", Source::Time),
    ("qs_host", Source::Column(Column::Host)),
    ("qs_event_action", Source::Column(Column::Command)),
    ("qs_userFull", Source::UserFull),
    ("qs_userDirectory", Source::UserDirectory),
    ("qs_userId", Source::UserId),
    ("qs_origin", Source::Column(Column::Origin)),
    ("qs_appId", Source::App),
    ("qs_appName", Source::AppName),
    ("qs_uaBrowserName", Source::BrowserName),
    ("qs_uaBrowserMajorVersion", Source::BrowserMajorVersion),
    ("qs_uaOsName", Source::OsName),
    ("qs_uaOsVersion", Source::OsVersion),
];

/// The attributes of log events. A kind has those of its columns.
const LOG: &[(&str, Source)] = &[
    ("timestamp", Source::Time),
    ("qs_ts_iso", Source::Column(Column::TsIso)),
    ("qs_ts_local", Source::Column(Column::TsLocal)),
    ("qs_log_source", Source::Column(Column::Source)),
    ("qs_log_level", Source::Column(Column::Level)),
    ("qs_host", Source::Column(Column::Host)),
    ("qs_subsystem", Source::Column(Column::Subsystem)),
    ("qs_windows_user", Source::Column(Column::WindowsUser)),
    ("qs_message", Source::Column(Column::Message)),
    ("qs_exception_message", Source::Column(Column::ExceptionMessage)),
    ("qs_user_full", Source::UserFull),
    ("qs_user_directory", Source::UserDirectory),
    ("qs_user_id", Source::UserId),
    ("qs_command", Source::Column(Column::Command)),
    ("qs_result_code", Source::Column(Column::ResultCode)),
    ("qs_origin", Source::Column(Column::Origin)),
    ("qs_context", Source::Column(Column::Context)),
    ("qs_task_name", Source::Column(Column::TaskName)),
    ("qs_app_name", Source::Column(Column::AppName)),
    ("qs_task_id", Source::Column(Column::TaskId)),
    ("qs_app_id", Source::Column(Column::AppId)),
    ("qs_execution_id", Source::Column(Column::ExecutionId)),
    ("qs_proxy_session_id", Source::Column(Column::ProxySessionId)),
    ("qs_engine_ts", Source::Column(Column::EngineTs)),
    ("qs_process_id", Source::Column(Column::ProcessId)),
    ("qs_engine_exe_version", Source::Column(Column::EngineExeVersion)),
    ("qs_server_started", Source::Column(Column::ServerStarted)),
    ("qs_entry_type", Source::Column(Column::EntryType)),
    ("qs_session_id", Source::Column(Column::SessionId)),
];

/// Names the kind of event at New Relic. Comes last, so nothing takes its place.
const EVENT_TYPE: &str = "eventType";

/// An attribute of an event, ready to be written.
#[derive(Debug)]
struct Attribute {
    /// `"name":`
    key: Literal,
    source: Source,
}

/// How the events of one kind are written.
#[derive(Debug)]
struct Plan {
    attributes: Vec<Attribute>,
    /// The fixed attributes and the closing brace.
    end: Literal,
    scramble: bool,
    /// Bytes of a line without the texts of the event.
    bound: usize,
}

impl Plan {
    fn new(kind: Kind, settings: &EncoderSettings) -> Self {
        let (table, fixed, scramble, event_type) = match kind.listener() {
            Listener::UserEvents => {
                (USER, &settings.user_attributes, settings.scramble_user_events, "qs_userEvent")
            }
            Listener::LogEvents => {
                (LOG, &settings.log_attributes, settings.scramble_log_events, "qs_logEvent")
            }
        };
        let end = end(fixed, event_type);
        let attributes: Vec<Attribute> = table
            .iter()
            .filter(|(_, source)| match source {
                Source::Column(column) => kind.layout().position(*column).is_some(),
                _ => true,
            })
            .filter(|(name, _)| fixed.iter().all(|(fixed, _)| fixed != name))
            .map(|(name, source)| Attribute {
                key: Literal::new(format!("\"{name}\":").as_bytes()),
                source: *source,
            })
            .collect();
        let keys: usize = attributes.iter().map(|attribute| attribute.key.len() + VALUE).sum();
        let bound = 1 + keys + end.len();
        Self { attributes, end, scramble, bound }
    }
}

/// The fixed attributes as the end of an object; the later of two with one name.
fn end(fixed: &[(String, String)], event_type: &str) -> Literal {
    let mut members: Vec<(&str, &str)> = Vec::with_capacity(fixed.len() + 1);
    let event_type = (EVENT_TYPE, event_type);
    for (name, value) in fixed.iter().map(|(name, value)| (&**name, &**value)).chain([event_type]) {
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => members.push((name, value)),
        }
    }
    let string = |text: &str| serde_json::Value::from(text).to_string();
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{}", string(name), string(value))).collect();
    Literal::new(format!("{}}}", members.join(",")).as_bytes())
}

/// Writes events as JSON lines.
#[derive(Debug)]
pub struct Encoder {
    user_events: bool,
    levels: [Levels; Kind::COUNT],
    /// In the order of [`Kind::ALL`].
    plans: Vec<Plan>,
}

impl Encoder {
    /// Prepares an encoder.
    #[must_use]
    pub fn new(settings: &EncoderSettings) -> Self {
        Self {
            user_events: settings.user_events,
            levels: settings.levels,
            plans: Kind::ALL.into_iter().map(|kind| Plan::new(kind, settings)).collect(),
        }
    }
}

impl Encode for Encoder {
    fn wants(&self, event: &Event<'_>) -> bool {
        match event.kind() {
            Kind::ProxySession | Kind::ProxyConnection => self.user_events,
            Kind::QixPerf => false,
            kind => self.levels[kind as usize].contain(event.text(Column::Level)),
        }
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let event = enriched.event;
        let plan = &self.plans[event.kind() as usize];
        let user = User::of(event, plan.scramble);
        Line::append(out, plan.bound + JsonText::EXPANSION * texts(enriched), |line| {
            line.byte(b'{');
            for Attribute { key, source } in &plan.attributes {
                let before = line.mark();
                line.literal(key);
                if value(*source, enriched, &user, line) {
                    line.byte(b',');
                } else {
                    line.rewind(before);
                }
            }
            line.literal(&plan.end);
        });
    }
}

/// Bytes of all texts that may be written; the user's, which may be written twice, twice.
fn texts(enriched: &Enriched<'_>) -> usize {
    let Enriched { event, app_name, user_agent, .. } = *enriched;
    let user = event.text(Column::UserDirectory).len() + 1 + event.text(Column::UserId).len();
    let agent = user_agent.map_or(0, |agent| {
        agent.browser_name.len()
            + agent.browser_major_version.len()
            + agent.os_name.len()
            + agent.os_version.len()
    });
    event.texts_bound() + user + app_name.map_or(0, str::len) + agent
}

/// Who is behind an event, as it is sent.
enum User<'a> {
    Plain { directory: &'a str, id: &'a str },
    Scrambled { full: [u8; SCRAMBLED], directory: [u8; SCRAMBLED], id: [u8; SCRAMBLED] },
}

impl<'a> User<'a> {
    fn of(event: &Event<'a>, scrambled: bool) -> Self {
        let (directory, id) = (event.text(Column::UserDirectory), event.text(Column::UserId));
        if scrambled {
            Self::Scrambled {
                full: scramble(&[directory, "\\", id]),
                directory: scramble(&[directory]),
                id: scramble(&[id]),
            }
        } else {
            Self::Plain { directory, id }
        }
    }
}

/// Writes a value; false, and nothing of use, when the attribute is to be left out.
#[inline]
fn value(source: Source, enriched: &Enriched<'_>, user: &User<'_>, line: &mut Line<'_>) -> bool {
    let agent = enriched.user_agent;
    match source {
        Source::Time => {
            let ms = enriched.received_ns / NS_PER_MS;
            line.bytes(json::unsigned(ms, &mut [0; NUMBER_ROOM]));
            true
        }
        Source::Column(column) => {
            match enriched.event.field(column) {
                Some(Field::Text(text)) => string(&[text], line),
                Some(Field::Uuid(id)) => uuid(id, line),
                // The tables name no numbers.
                _ => return false,
            }
            true
        }
        Source::UserFull | Source::UserDirectory | Source::UserId => {
            name(source, user, line);
            true
        }
        Source::App => {
            let app = enriched.event.context_app_id();
            uuid(app, line);
            app.is_some()
        }
        Source::AppName => optional(enriched.app_name, line),
        Source::BrowserName => optional(agent.map(|agent| &*agent.browser_name), line),
        Source::BrowserMajorVersion => {
            optional(agent.map(|agent| &*agent.browser_major_version), line)
        }
        Source::OsName => optional(agent.map(|agent| &*agent.os_name), line),
        Source::OsVersion => optional(agent.map(|agent| &*agent.os_version), line),
    }
}

fn name(source: Source, user: &User<'_>, line: &mut Line<'_>) {
    match (user, source) {
        (User::Plain { directory, .. }, Source::UserDirectory) => string(&[directory], line),
        (User::Plain { id, .. }, Source::UserId) => string(&[id], line),
        // Both parts and what is between them, even where one is empty, as Butler SOS does.
        (User::Plain { directory, id }, _) => string(&[directory, "\\", id], line),
        (User::Scrambled { directory, .. }, Source::UserDirectory) => hash(directory, line),
        (User::Scrambled { id, .. }, Source::UserId) => hash(id, line),
        (User::Scrambled { full, .. }, _) => hash(full, line),
    }
}

fn optional(text: Option<&str>, line: &mut Line<'_>) -> bool {
    let text = text.unwrap_or_default();
    string(&[text], line);
    !text.is_empty()
}

#[inline]
fn string(parts: &[&str], line: &mut Line<'_>) {
    line.byte(b'"');
    for part in parts {
        line.text::<JsonText>(part.as_bytes());
    }
    line.byte(b'"');
}

fn hash(text: &[u8; SCRAMBLED], line: &mut Line<'_>) {
    line.byte(b'"');
    line.bytes(text);
    line.byte(b'"');
}

fn uuid(id: Option<uuid::Uuid>, line: &mut Line<'_>) {
    line.byte(b'"');
    if let Some(id) = id {
        let mut text = [0; UUID_LENGTH];
        line.bytes(id.hyphenated().encode_lower(&mut text).as_bytes());
    }
    line.byte(b'"');
}
