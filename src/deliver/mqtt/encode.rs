//! From an event to its topics and its payload, both those of Butler SOS.
//!
//! One event is one line: the payload, then a tab and a topic for each message. Neither can hold a
//! tab or a line feed: JSON escapes control characters, and topics are cleaned of them.
//!
//! A topic may not hold `+` and `#`, which are wildcards; brokers drop a client that publishes to
//! one. A subsystem comes over the network and may hold anything, so they become `_` there, as do
//! levels without a name and what else brokers refuse (difference 15). The payload keeps the
//! original.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::deliver::Encode;
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, JsonText, UUID_LENGTH};
use crate::deliver::line::{Escape as _, Line};
use crate::enrich::{Enriched, UserAgent};
use crate::event::{Column, Event, Kind, Listener};

/// The longest topic, in bytes (MQTT 3.1.1, section 1.5.3).
const TOPIC_MAX: usize = 65_535;

/// The longest topic that levels are added to: a subsystem is cut at 200 characters, each of which
/// is at most 4 bytes here.
const BASE_MAX: usize = TOPIC_MAX - 1024;

/// The most that a value takes besides text: the longest key, or a number, or a UUID, and what
/// stands around them.
const MEMBER: usize = 32 + UUID_LENGTH;

/// Members that are not columns, at most: activity source, full name, app id, app name, four of the
/// user agent, categories, tags.
const DERIVED: usize = 10;

/// What an [`Encoder`] has to know.
#[derive(Clone, Debug, Default)]
pub struct EncoderSettings {
    /// Topics of user events; `None` where they are not wanted.
    pub user: Option<UserTopics>,
    /// Topics of log events; `None` where they are not wanted.
    pub log: Option<LogTopics>,
    /// Tags of every user event, as name and value (`userEvents.tags`).
    pub user_tags: Vec<(String, String)>,
    /// Tags of every log event (`logEvents.tags`).
    pub log_tags: Vec<(String, String)>,
}

/// Topics of user events.
#[derive(Clone, Debug, Default)]
pub struct UserTopics {
    /// Gets every event.
    pub everything: Option<String>,
    /// Get the events with a command: the command as it is written, and the topic.
    pub commands: Vec<(&'static str, String)>,
}

/// Topics of log events.
#[derive(Clone, Debug)]
pub struct LogTopics {
    /// The topic that others begin with.
    pub base: String,
    /// Publishes to it.
    pub to_base: bool,
    /// Publishes to it with the levels of the subsystem behind it.
    pub to_subsystem: bool,
}

/// Writes events as MQTT messages.
#[derive(Debug)]
pub struct Encoder {
    user: UserTopics,
    log: LogTopics,
    /// The member `tags` as JSON, per listener.
    tags: [Box<str>; Listener::COUNT],
}

impl Encoder {
    /// Prepares an encoder.
    #[must_use]
    pub fn new(settings: &EncoderSettings) -> Self {
        let mut user = settings.user.clone().unwrap_or_default();
        let commands = user.commands.iter_mut().map(|(_, topic)| topic);
        for topic in user.everything.iter_mut().chain(commands) {
            *topic = clean(topic, TOPIC_MAX);
        }
        let none = LogTopics { base: String::new(), to_base: false, to_subsystem: false };
        let log = settings.log.clone().unwrap_or(none);
        let log = LogTopics { base: clean(&log.base, BASE_MAX), ..log };
        Self { user, log, tags: [members(&settings.user_tags), members(&settings.log_tags)] }
    }

    /// The topics of a user event.
    fn user_topics(&self, event: &Event<'_>) -> impl Iterator<Item = &str> {
        let command = event.text(Column::Command);
        let special = self.user.commands.iter().filter(move |(name, _)| *name == command);
        self.user.everything.iter().chain(special.map(|(_, topic)| topic)).map(String::as_str)
    }
}

impl Encode for Encoder {
    fn wants(&self, event: &Event<'_>) -> bool {
        match event.kind().listener() {
            Listener::UserEvents => self.user_topics(event).next().is_some(),
            Listener::LogEvents => self.log.to_base || self.log.to_subsystem,
        }
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let event = enriched.event;
        let listener = event.kind().listener();
        let tags = &self.tags[listener as usize];
        let bound = bound(enriched) + tags.len();
        match listener {
            Listener::UserEvents => {
                let topics: usize = self.user_topics(event).map(|topic| 1 + topic.len()).sum();
                Line::append(out, bound + topics, |line| {
                    user_event(enriched, tags, line);
                    for topic in self.user_topics(event) {
                        line.byte(b'\t');
                        line.bytes(topic.as_bytes());
                    }
                });
            }
            Listener::LogEvents => {
                let subsystem = event.text(Column::Subsystem);
                // A character of a subsystem takes at most twice its bytes, in lower case or as an
                // empty level.
                let topics = 2 * (2 + self.log.base.len()) + 2 * (1 + subsystem.len());
                Line::append(out, bound + topics, |line| {
                    log_event(enriched, tags, line);
                    self.log.write(subsystem, line);
                });
            }
        }
    }
}

impl LogTopics {
    /// Writes the topics of one event, each with a tab before it.
    fn write(&self, subsystem: &str, line: &mut Line<'_>) {
        if self.to_base {
            line.byte(b'\t');
            line.bytes(self.base.as_bytes());
        }
        if self.to_subsystem {
            line.byte(b'\t');
            line.bytes(self.base.as_bytes());
            line.byte(b'/');
            levels(subsystem, line);
        }
    }
}

/// Writes the parts of a subsystem, in lower case, as levels of a topic.
fn levels(subsystem: &str, line: &mut Line<'_>) {
    let mut start = line.mark();
    for c in subsystem.chars() {
        if matches!(c, '.' | '/') {
            if line.mark() == start {
                line.byte(b'_');
            }
            line.byte(b'/');
            start = line.mark();
        } else {
            for c in c.to_lowercase() {
                let c = if is_allowed(c) { c } else { '_' };
                line.bytes(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
    if line.mark() == start {
        line.byte(b'_');
    }
}

/// A topic of the configuration without what brokers refuse, at most so many bytes long.
fn clean(topic: &str, most: usize) -> String {
    let topic = &topic[..topic.floor_char_boundary(most)];
    topic.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect()
}

/// Whether a broker takes a topic with this character: no wildcards, and nothing that MQTT 3.1.1 says
/// (section 1.5.3) may make it close the connection: control characters and non-characters.
fn is_allowed(c: char) -> bool {
    let code = u32::from(c);
    let is_character = code & 0xFFFE != 0xFFFE && !(0xFDD0..=0xFDEF).contains(&code);
    !matches!(c, '+' | '#') && !c.is_control() && is_character
}

/// `{"name":"value",…}`. Of two tags with one name the later wins, in the place of the first.
fn members(tags: &[(String, String)]) -> Box<str> {
    let mut distinct: Vec<(&str, &str)> = Vec::new();
    for (name, value) in tags {
        match distinct.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => distinct.push((name, value)),
        }
    }
    let mut text = String::from("{");
    for (index, (name, value)) in distinct.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a `String` does not fail.
        let _ = write!(text, "{comma}{}:{}", Json::from(name), Json::from(value));
    }
    text.push('}');
    text.into()
}

/// The longest payload that can come out, without tags.
fn bound(enriched: &Enriched<'_>) -> usize {
    let event = enriched.event;
    let user_full = event.user_full().map_or(0, |name| name.parts().map(str::len).iter().sum());
    let agent = enriched
        .user_agent
        .map_or(0, |agent| agent_members(agent).iter().map(|(_, value)| value.len()).sum());
    let categories = enriched.categories.unwrap_or_default();
    let categories_text = categories.iter().map(|c| c.name.len() + c.value.len()).sum::<usize>();
    let texts = event.texts_bound()
        + user_full
        + agent
        + enriched.app_name.map_or(0, str::len)
        + categories_text;
    JsonText::EXPANSION * texts + MEMBER * (event.fields().len() + DERIVED + categories.len())
}

fn user_event(enriched: &Enriched<'_>, tags: &str, line: &mut Line<'_>) {
    let event = enriched.event;
    line.bytes(b"{\"messageType\":");
    json::string(event.kind().name(), line);
    for (name, column) in [
        ("host", Column::Host),
        ("command", Column::Command),
        ("userDir", Column::UserDirectory),
        ("userId", Column::UserId),
        ("origin", Column::Origin),
        ("context", Column::Context),
        ("message", Column::Message),
    ] {
        key(name, line);
        json::string(event.text(column), line);
    }
    key("tags", line);
    line.bytes(tags.as_bytes());
    if let Some(app) = event.context_app_id() {
        key("appId", line);
        json::uuid(Some(&app), line);
    }
    optional("appName", enriched.app_name.unwrap_or_default(), line);
    if let Some(agent) = enriched.user_agent {
        for (name, value) in agent_members(agent) {
            optional(name, value, line);
        }
    }
    line.byte(b'}');
}

fn agent_members(agent: &UserAgent) -> [(&'static str, &str); 4] {
    [
        ("uaBrowserName", &agent.browser_name),
        ("uaBrowserMajorVersion", &agent.browser_major_version),
        ("uaOsName", &agent.os_name),
        ("uaOsVersion", &agent.os_version),
    ]
}

/// The whole event in the order of its columns, as in `raw_event` of InfluxDB, with the tags.
fn log_event(enriched: &Enriched<'_>, tags: &str, line: &mut Line<'_>) {
    let event = enriched.event;
    let is_performance = event.kind() == Kind::QixPerf;
    line.bytes(b"{\"source\":");
    json::string(event.kind().name(), line);
    let columns = event.kind().layout().columns().iter().enumerate();
    for (index, spec) in columns.filter(|(_, spec)| spec.column != Column::Source) {
        key(spec.column.name(), line);
        match spec.column {
            Column::UserFull => json::user_full(event, line),
            _ => json::column(event, index, spec.check, line),
        }
        if is_performance && spec.column == Column::AppId {
            key(Column::AppName.name(), line);
            json::string(enriched.app_name.unwrap_or_default(), line);
        }
    }
    if is_performance {
        key("event_activity_source", line);
        json::string(if event.activity_is_user() { "user" } else { "non-user" }, line);
    }
    if event.field(Column::UserFull).is_none() {
        key(Column::UserFull.name(), line);
        json::user_full(event, line);
    }
    categories(enriched, line);
    key("tags", line);
    line.bytes(tags.as_bytes());
    line.byte(b'}');
}

fn categories(enriched: &Enriched<'_>, line: &mut Line<'_>) {
    let Some(categories) = enriched.categories else { return };
    key("category", line);
    for (index, category) in categories.iter().enumerate() {
        line.bytes(if index == 0 { b"[{\"name\":" } else { b",{\"name\":" });
        json::string(&category.name, line);
        key("value", line);
        json::string(&category.value, line);
        line.byte(b'}');
    }
    line.bytes(if categories.is_empty() { b"[]" } else { b"]" });
}

#[inline]
fn key(name: &str, line: &mut Line<'_>) {
    line.bytes(b",\"");
    line.bytes(name.as_bytes());
    line.bytes(b"\":");
}

fn optional(name: &str, value: &str, line: &mut Line<'_>) {
    if !value.is_empty() {
        key(name, line);
        json::string(value, line);
    }
}

#[cfg(test)]
mod tests;
