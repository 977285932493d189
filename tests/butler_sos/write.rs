//! From the event object to a point, and from a point to a line.

use std::fmt::Write;

use ringside::event::Kind;

use super::numbers::{js_number, json_number};
use super::text::{json_string, narrow, wide};
use super::{Event, Text, Value, Version};

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// Text.
    Text(Text),
    /// A float, which may be no number at all.
    Float(f64),
    /// An integer, however large.
    Int(f64),
}

/// A point on its way to InfluxDB.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name.
    pub measurement: &'static str,
    /// Tags, in the order in which they were set.
    pub tags: Vec<(String, Text)>,
    /// Fields, sorted by name.
    pub fields: Vec<(String, Field)>,
}

/// Why a point, though made, does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Not an event.
    UnknownType,
    /// A user event lacks a column that is asked for.
    MissingColumn,
    /// The client refuses a number that is none.
    NotANumber,
    /// The client refuses a number that is too large.
    TooLarge,
    /// The user is excluded.
    ExcludedUser,
    /// No monitor filter accepts the event.
    Filtered,
    /// A category rule looked for a message.
    NoMessage,
    /// A category rule drops the event. Butler SOS never does.
    Dropped,
}

/// What a point holds besides the datagram's own columns.
#[derive(Clone, Debug)]
pub struct Extras {
    /// Tags of the configuration.
    pub static_tags: Vec<(String, String)>,
    /// Categories of a log event, if it has been categorised.
    pub categories: Option<Vec<(String, String)>>,
    /// Name of the app of a user event or a performance event.
    pub app_name: Text,
    /// Tags of the user agent.
    pub user_agent: Vec<(String, String)>,
    /// Whether the MQTT publisher has left its tags in the event object.
    pub mqtt: bool,
}

/// The point that Butler SOS makes of an event, and why it is lost, if it is.
pub fn write(event: &Event, extras: &Extras, version: Version) -> (Point, Vec<Loss>) {
    let writer = Writer { event, extras, version };
    let mut point = match event.kind {
        Kind::ProxySession | Kind::ProxyConnection => writer.user_event(),
        _ => writer.log_event(),
    };
    let mut losses = Vec::new();
    if point.measurement == "user_events"
        && ["host", "command", "user_directory", "user_id", "origin"]
            .iter()
            .any(|name| event.text(name).is_empty())
    {
        losses.push(Loss::MissingColumn);
    }
    if version == Version::V1 {
        point.add_backslashes();
    } else {
        point.tags.retain(|(_, value)| !value.is_empty());
        point.tags.sort();
        losses.extend(point.refusals(version));
    }
    if version == Version::V3 {
        point.fields.retain(|(_, field)| !matches!(field, Field::Float(n) if n.is_nan()));
    }
    point.fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    (point, losses)
}

/// The payload of the event's MQTT messages.
pub fn payload(event: &Event, extras: &Extras) -> String {
    let extras = &Extras { mqtt: true, ..extras.clone() };
    let writer = Writer { event, extras, version: Version::V1 };
    match event.kind {
        Kind::ProxySession | Kind::ProxyConnection => writer.user_message(),
        _ => narrow(&writer.raw_event()),
    }
}

/// One event being written.
struct Writer<'a> {
    event: &'a Event,
    extras: &'a Extras,
    version: Version,
}

impl Writer<'_> {
    fn user_event(&self) -> Point {
        let (directory, id) = (self.text("user_directory"), self.text("user_id"));
        let full = joined(&directory, &id);
        let mut point = Point::new("user_events");
        point.set_tag("host", self.clean(self.text("host")));
        point.set_tag("event_action", self.clean(self.text("command")));
        point.set_tag("userFull", full.clone());
        point.set_tag("userDirectory", self.clean(directory));
        point.set_tag("userId", self.clean(id.clone()));
        point.set_tag("origin", self.clean(self.text("origin")));
        point.set_tag_unless_empty("appId", self.clean(self.event.app.clone()));
        point.set_tag_unless_empty("appName", self.clean(self.extras.app_name.clone()));
        for (name, value) in &self.extras.user_agent {
            point.set_tag(name, wide(value));
        }
        self.static_tags(&mut point);

        let (v2, v3) = match self.version {
            Version::V1 => ("", ""),
            Version::V2 => ("_field", ""),
            Version::V3 => ("_field", "_field"),
        };
        point.set_field(&format!("userFull{v3}"), Field::Text(full));
        point.set_field(&format!("userId{v3}"), Field::Text(id));
        if !self.event.app.is_empty() {
            point.set_field(&format!("appId{v2}"), Field::Text(self.event.app.clone()));
        }
        if !self.extras.app_name.is_empty() {
            point.set_field(&format!("appName{v2}"), Field::Text(self.extras.app_name.clone()));
        }
        point
    }

    fn log_event(&self) -> Point {
        let mut point = Point::new("log_event");
        self.common_tags(&mut point);
        if self.event.kind == Kind::QixPerf {
            self.perf_tags(&mut point);
            self.perf_fields(&mut point);
        } else {
            self.service_tags(&mut point);
            self.service_fields(&mut point);
        }
        for (name, value) in self.extras.categories.iter().flatten() {
            point.set_tag(name, self.clean(wide(value)));
        }
        self.static_tags(&mut point);
        point.set_field("raw_event", Field::Text(self.raw_event()));
        point
    }

    fn common_tags(&self, point: &mut Point) {
        let perf = self.event.kind == Kind::QixPerf;
        let row = self.event.number("log_row");
        let row = match (self.version, perf) {
            // Asks for the length of a number.
            (Version::V1, true) => "-1".to_owned(),
            (Version::V3, true) if row == 0.0 => "-1".to_owned(),
            (Version::V2 | Version::V3, _) if row == 0.0 => String::new(),
            _ => js_number(row),
        };
        let default = match (self.version, perf) {
            (Version::V1, true) => "<Unknown>",
            (Version::V3, true) => "Unknown",
            _ => "",
        };
        let subsystem = if self.version == Version::V3 && !perf { "n/a" } else { default };
        let clean = |text: Text| if perf { self.clean(text) } else { text };
        point.set_tag("host", or(clean(self.text("host")), default));
        point.set_tag("level", or(clean(self.text("level")), default));
        point.set_tag("source", self.text("source"));
        point.set_tag("log_row", wide(&row));
        point.set_tag("subsystem", or(clean(self.text("subsystem")), subsystem));
    }

    fn service_tags(&self, point: &mut Point) {
        point.set_tag_unless_empty("user_full", self.user_full());
        let (directory, id) = self.user();
        point.set_tag_unless_empty("user_directory", self.clean(directory));
        point.set_tag_unless_empty("user_id", self.clean(id));
        let names: &[&str] = match self.event.kind {
            Kind::Engine => &["windows_user", "app_id", "engine_exe_version"],
            Kind::Scheduler => &["task_id", "task_name"],
            _ => &["result_code"],
        };
        for name in names {
            point.set_tag_unless_empty(name, self.clean(self.text(name)));
        }
    }

    fn service_fields(&self, point: &mut Point) {
        let v1 = self.version == Version::V1;
        let result_code = if v1 { "result_code" } else { "result_code_field" };
        let (app_id, app_name) = match self.version {
            Version::V3 => ("app_id_field", "app_name_field"),
            _ => ("app_id", "app_name"),
        };
        let mut set = |field: &str, column: &str| {
            point.set_field(field, Field::Text(self.text(column)));
        };
        set("message", "message");
        match self.event.kind {
            Kind::Engine if v1 => set("session_id", "session_id"),
            Kind::Engine => {
                set("session_id", "session_id");
                // Columns that the engine does not send.
                for name in ["command", "context", "exception_message", "origin"] {
                    set(name, name);
                }
                set(result_code, "result_code");
            }
            Kind::Scheduler => {
                set("exception_message", "exception_message");
                set("execution_id", "execution_id");
                set(app_id, "app_id");
                set(app_name, "app_name");
            }
            _ => {
                for name in ["command", "context", "exception_message", "origin"] {
                    set(name, name);
                }
                set(result_code, "result_code");
            }
        }
    }

    fn perf_tags(&self, point: &mut Point) {
        let (unknown, none) = match self.version {
            Version::V1 => ("<Unknown>", "-1"),
            Version::V2 => ("", ""),
            Version::V3 => ("Unknown", "-1"),
        };
        point.set_tag("method", or(self.clean(self.text("method")), unknown));
        point.set_tag("object_type", or(self.clean(self.text("object_type")), unknown));
        point.set_tag("proxy_session_id", or(self.text("proxy_session_id"), none));
        point.set_tag("session_id", or(self.text("session_id"), none));
        point.set_tag("event_activity_source", self.activity());
        point.set_tag_unless_empty("user_full", self.user_full());
        for name in ["user_directory", "user_id", "app_id"] {
            point.set_tag_unless_empty(name, self.clean(self.text(name)));
        }
        point.set_tag_unless_empty("app_name", self.clean(self.extras.app_name.clone()));
        point.set_tag_unless_empty("object_id", self.clean(self.text("object_id")));
    }

    fn perf_fields(&self, point: &mut Point) {
        let app_id = if self.version == Version::V3 { "app_id_field" } else { "app_id" };
        point.set_field(app_id, Field::Text(self.text("app_id")));
        for name in ["process_time", "work_time", "lock_time", "validate_time", "traverse_time"] {
            point.set_field(name, Field::Float(self.event.number(name)));
        }
        let handle = self.event.number("handle");
        let handle = match self.version {
            Version::V2 if handle == 0.0 => Field::Text(Text::new()),
            Version::V2 => Field::Text(wide(&js_number(handle))),
            _ => Field::Int(handle),
        };
        point.set_field("handle", handle);
        point.set_field("net_ram", Field::Int(self.event.number("net_ram")));
        point.set_field("peak_ram", Field::Int(self.event.number("peak_ram")));
    }

    fn static_tags(&self, point: &mut Point) {
        for (name, value) in &self.extras.static_tags {
            point.set_tag(name, self.clean(wide(value)));
        }
    }

    /// The event object as JSON.
    fn raw_event(&self) -> Text {
        let mut members: Vec<(&str, String)> = Vec::new();
        let (directory, id) = self.user();
        for column in &self.event.columns {
            let value = match (column.name, &column.value) {
                ("user_directory", _) => json_string(&directory),
                ("user_id", _) => json_string(&id),
                ("user_full", _) => json_string(&self.user_full()),
                (_, Value::Text(text)) => json_string(text),
                (_, Value::Number(number)) => json_number(*number),
            };
            members.push((column.name, value));
            if self.event.kind == Kind::QixPerf && column.name == "app_id" {
                members.push(("app_name", json_string(&self.extras.app_name)));
            }
        }
        if self.event.kind == Kind::QixPerf {
            members.push(("event_activity_source", json_string(&self.activity())));
        }
        if self.event.kind != Kind::Scheduler {
            members.push(("user_full", json_string(&self.user_full())));
        }
        let string = |text: &str| json_string(&wide(text));
        if let Some(categories) = &self.extras.categories {
            let list: Vec<_> = categories
                .iter()
                .map(|(n, v)| format!("{{\"name\":{},\"value\":{}}}", string(n), string(v)))
                .collect();
            members.push(("category", format!("[{}]", list.join(","))));
        }
        if self.extras.mqtt {
            let list: Vec<_> = self
                .extras
                .static_tags
                .iter()
                .map(|(n, v)| format!("{}:{}", string(n), string(v)))
                .collect();
            members.push(("tags", format!("{{{}}}", list.join(","))));
        }
        let members: Vec<_> = members.iter().map(|(n, v)| format!("{}:{v}", string(n))).collect();
        wide(&format!("{{{}}}", members.join(",")))
    }

    fn user_message(&self) -> String {
        let names = [
            ("messageType", "source"),
            ("host", "host"),
            ("command", "command"),
            ("userDir", "user_directory"),
            ("userId", "user_id"),
            ("origin", "origin"),
            ("context", "context"),
            ("message", "message"),
        ];
        let string = |text: &str| json_string(&wide(text));
        let mut members: Vec<String> = names
            .iter()
            .map(|(name, column)| format!("\"{name}\":{}", json_string(&self.text(column))))
            .collect();
        let tags = self.extras.static_tags.iter();
        let tags: Vec<_> = tags.map(|(n, v)| format!("{}:{}", string(n), string(v))).collect();
        members.push(format!("\"tags\":{{{}}}", tags.join(",")));
        for (name, text) in [("appId", &self.event.app), ("appName", &self.extras.app_name)] {
            if !text.is_empty() {
                members.push(format!("\"{name}\":{}", json_string(text)));
            }
        }
        let agent = self.extras.user_agent.iter();
        members.extend(agent.map(|(name, value)| format!("\"{name}\":{}", string(value))));
        format!("{{{}}}", members.join(","))
    }

    fn text(&self, name: &str) -> Text {
        self.event.text(name)
    }

    fn user(&self) -> (Text, Text) {
        user_of(self.event)
    }

    fn user_full(&self) -> Text {
        let (directory, id) = (self.text("user_directory"), self.text("user_id"));
        let full = self.text("user_full");
        if !directory.is_empty() && !id.is_empty() {
            joined(&directory, &id)
        } else if directory.is_empty() && id.is_empty() && full.contains(&u16::from(b'\\')) {
            full
        } else {
            Text::new()
        }
    }

    fn activity(&self) -> Text {
        wide(if self.event.raw("proxy_session_id") == "0" { "non-user" } else { "user" })
    }

    /// Version 3 has some characters removed from most tags.
    fn clean(&self, mut text: Text) -> Text {
        if self.version == Version::V3 {
            text.retain(|unit| !"<>\\\r\n".chars().any(|c| u32::from(c) == u32::from(*unit)));
        }
        text
    }
}

/// Directory and id. The scheduler may send both in one column only.
pub(super) fn user_of(event: &Event) -> (Text, Text) {
    let (directory, id) = (event.text("user_directory"), event.text("user_id"));
    let full = event.text("user_full");
    let backslash = u16::from(b'\\');
    let mut parts = full.split(|unit| *unit == backslash);
    match (parts.next(), parts.next()) {
        (Some(left), Some(right)) if directory.is_empty() && id.is_empty() => {
            (left.to_vec(), right.to_vec())
        }
        _ => (directory, id),
    }
}

pub(super) fn joined(directory: &[u16], id: &[u16]) -> Text {
    [directory, &wide("\\"), id].concat()
}

fn or(text: Text, default: &str) -> Text {
    if text.is_empty() { wide(default) } else { text }
}

impl Point {
    fn new(measurement: &'static str) -> Self {
        Self { measurement, tags: Vec::new(), fields: Vec::new() }
    }

    /// The value of a tag.
    pub fn tag(&self, name: &str) -> Option<&[u16]> {
        self.tags.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// Sets a tag; one of that name keeps its place and takes the new value.
    fn set_tag(&mut self, name: &str, value: Text) {
        match self.tags.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.tags.push((name.to_owned(), value)),
        }
    }

    fn set_tag_unless_empty(&mut self, name: &str, value: Text) {
        if !value.is_empty() {
            self.set_tag(name, value);
        }
    }

    fn set_field(&mut self, name: &str, value: Field) {
        self.fields.push((name.to_owned(), value));
    }

    /// The client for version 1 puts a backslash before the first `\'` of every string.
    fn add_backslashes(&mut self) {
        let texts = self.fields.iter_mut().filter_map(|(_, field)| match field {
            Field::Text(text) => Some(text),
            _ => None,
        });
        for text in self.tags.iter_mut().map(|(_, value)| value).chain(texts) {
            if let Some(at) = text.windows(2).position(|pair| pair == wide("\\'")) {
                text.insert(at, u16::from(b'\\'));
            }
        }
    }

    /// What the clients for versions 2 and 3 refuse.
    fn refusals(&self, version: Version) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (_, field) in &self.fields {
            match field {
                Field::Float(n) if n.is_nan() && version == Version::V2 => {
                    losses.push(Loss::NotANumber);
                }
                Field::Float(n) if n.is_infinite() => losses.push(Loss::TooLarge),
                Field::Int(n) if n.abs() >= 2_f64.powi(63) => losses.push(Loss::TooLarge),
                _ => {}
            }
        }
        losses
    }

    /// The line, without a time.
    pub fn line(&self, version: Version) -> String {
        let escape = |text: &str| {
            let mut out = String::new();
            for c in text.chars() {
                match c {
                    ',' | '=' | ' ' => out.extend(['\\', c]),
                    '\n' if version != Version::V1 => out.push_str("\\n"),
                    '\r' if version != Version::V1 => out.push_str("\\r"),
                    '\t' if version != Version::V1 => out.push_str("\\t"),
                    _ => out.push(c),
                }
            }
            out
        };
        let mut line = self.measurement.to_owned();
        for (name, value) in &self.tags {
            let _ = write!(line, ",{}={}", escape(name), escape(&narrow(value)));
        }
        for (index, (name, field)) in self.fields.iter().enumerate() {
            let separator = if index == 0 { ' ' } else { ',' };
            let value = match field {
                Field::Text(text) => {
                    let text = narrow(text).replace('\\', "\\\\").replace('"', "\\\"");
                    format!("\"{text}\"")
                }
                Field::Float(number) => js_number(*number),
                Field::Int(number) => format!("{}i", js_number(*number)),
            };
            let _ = write!(line, "{separator}{}={value}", escape(name));
        }
        line
    }
}
