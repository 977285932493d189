//! Judges a file: what of it arrives, and what arrives wrong.

mod arrival;
mod sample;
mod target;
mod wiring;

use std::borrow::Cow;

use roxmltree::{Document, TextPos};

use super::conversion::message_type;
use super::document::{self, Appender, Configuration, Text, decode, is_class, param};
use super::finding::{Finding, Severity};
use super::pattern::{self, Part, PatternField};
use super::{FILE_BYTES_MAX, Host, Sender};
use crate::event::{self, Kind, Listener};

/// What the operator knows about the way to Ringside.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Where Ringside runs; `None` if nobody said.
    pub host: Option<Host>,
    /// Ports of the user-event and the log-event listener, in the order of [`Listener`].
    pub ports: [u16; Listener::COUNT],
    /// Whether each of these ports is known, not only usual: then another one is an error.
    pub ports_known: [bool; Listener::COUNT],
    /// Name of the folder that the file lies in.
    pub folder: Option<String>,
}

/// One kind of event that a file sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The kind.
    pub kind: Kind,
    /// Name of the appender.
    pub appender: String,
    /// Host and port as the file has them.
    pub to: String,
    /// Loggers whose events are sent.
    pub loggers: Vec<String>,
}

/// What is to be said about a file.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// In the order of the file.
    pub findings: Vec<Finding>,
    /// What it sends, in the order of the file.
    pub sent: Vec<Sent>,
}

impl Checked {
    /// Whether nothing arrives wrong or is missing.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// Judges the bytes of a file.
#[must_use]
pub fn check(bytes: &[u8], expected: &Expected) -> Checked {
    let text = match size_and_text(bytes) {
        Ok(text) => text,
        Err(finding) => return Checked { findings: vec![finding], ..Checked::default() },
    };
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(error) => {
            let what = format!("this is not XML: {error}; Sense reads nothing of the file");
            let finding = Finding::error(error.pos(), what, "correct it here, or write a new file");
            return Checked { findings: vec![finding], ..Checked::default() };
        }
    };
    let configuration = Configuration::read(&document);
    let mut findings = configuration.findings.clone();
    let subjects = subjects(&configuration, expected, &mut findings);
    for subject in &subjects {
        findings.extend(arrival::check(subject, &configuration));
        findings.extend(target::check(subject, &configuration, expected));
    }
    findings.extend(target::check_hosts(&subjects, &configuration, expected));
    findings.extend(wiring::check(&subjects, &configuration, expected));
    if subjects.is_empty() && findings.is_empty() {
        let at = TextPos::new(1, 1);
        let what =
            "no appender of this file sends a message type of Ringside: nothing would arrive";
        findings.push(Finding::error(
            at,
            what,
            "write a file with `ringside appenders --host HOST`",
        ));
    }
    findings.sort_by_key(|finding| (finding.line, finding.column, finding.severity));
    findings.dedup();
    let sent = subjects.iter().map(|subject| sent(subject, &configuration)).collect();
    Checked { findings, sent }
}

fn size_and_text(bytes: &[u8]) -> Result<Cow<'_, str>, Finding> {
    if bytes.len() > FILE_BYTES_MAX {
        let what = "the file is larger than 1 MiB; Sense does not read it";
        return Err(Finding::error(TextPos::new(1, 1), what, "take out what is not needed"));
    }
    decode(bytes)
}

/// An appender that sends one of the seven message types.
#[derive(Debug)]
struct Subject<'a> {
    appender: &'a Appender<'a>,
    kind: Kind,
    pattern: Text<'a>,
    fields: Vec<PatternField<'a>>,
    /// Names of the converters that its layout declares.
    declared: Vec<&'a str>,
}

impl Subject<'_> {
    fn sender(&self) -> &'static Sender {
        Sender::of(self.kind)
    }

    /// The beginning of what is said about it.
    fn named(&self) -> String {
        format!("appender `{}`", self.appender.name.value)
    }

    fn param(&self, name: &str) -> Option<Text<'_>> {
        param(&self.appender.params, name)
    }
}

/// The appenders that are for Ringside. Others are none of its business, unless they send to it.
fn subjects<'a>(
    configuration: &'a Configuration<'a>,
    expected: &Expected,
    findings: &mut Vec<Finding>,
) -> Vec<Subject<'a>> {
    let mut subjects = Vec::new();
    for appender in &configuration.appenders {
        let Some(layout) = &appender.layout else { continue };
        let Some(pattern) = param(&layout.params, "conversionPattern") else { continue };
        let declared: Vec<&str> = layout.converters.iter().map(|(name, _)| name.value).collect();
        let fields = pattern::fields(pattern.value, &declared);
        let begin = &pattern.value[fields[0].range.clone()];
        if let Some(kind) = kind_of(&fields[0]) {
            subjects.push(Subject { appender, kind, pattern, fields, declared });
        } else if let Some(finding) = stranger(appender, begin, configuration, expected) {
            let place = configuration.place_in(pattern, 0);
            findings.push(Finding { line: place.row, column: place.col, ..finding });
        }
    }
    subjects
}

/// The kind that a first field names, as the parser of datagrams sees it.
fn kind_of(field: &PatternField<'_>) -> Option<Kind> {
    let [Part::Text(text)] = field.parts[..] else { return None };
    let read =
        |listener| event::parse(listener, text.as_bytes(), &mut Vec::new()).ok().map(|e| e.kind());
    Listener::ALL.into_iter().find_map(read)
}

/// An appender with another message type: wrong if it was meant to be one of Ringside's, or if it
/// sends to a port of Ringside's.
fn stranger(
    appender: &Appender<'_>,
    begin: &str,
    configuration: &Configuration<'_>,
    expected: &Expected,
) -> Option<Finding> {
    let far = |kind: &Kind| strsim::osa_distance(begin, &message_type(*kind));
    let distance = Kind::ALL.iter().map(far).min()?;
    let place = configuration.place(appender.name.start);
    let name = appender.name.value;
    let refused = format!(
        "appender `{name}`: the message type is `{begin}`, which is none of Ringside's: \
         every datagram would be rejected as `unknown_type`"
    );
    // `/qseow-proxy/` and its like are at least nine letters from any other tool's type.
    if distance <= 3 || begin.contains("qseow") {
        // What its loggers log is a better clue than how the type is spelled.
        let name = appender.name.value;
        let loggers = configuration.loggers.iter().filter(|logger| logger.has_ref(name));
        let kinds = loggers.flat_map(|logger| {
            Kind::ALL.into_iter().filter(|kind| Sender::of(*kind).has_logger(logger.name.value))
        });
        let near = kinds.min_by_key(far).or_else(|| Kind::ALL.into_iter().min_by_key(far))?;
        let hint = format!("begin the pattern with `{};`", message_type(near));
        return Some(Finding::error(place, refused, hint));
    }
    let port = param(&appender.params, "remotePort").map(|port| port.value.trim());
    let ours = port.is_some_and(|port| expected.ports.iter().any(|own| own.to_string() == port));
    let udp = is_class(appender.class.value, target::UDP_APPENDER);
    (ours && udp).then(|| {
        let hint = "send it to the port of the tool that it is meant for (Butler's is 9998)";
        Finding::error(place, refused, hint)
    })
}

fn sent(subject: &Subject<'_>, configuration: &Configuration<'_>) -> Sent {
    let text = |name| subject.param(name).map_or("?", |text| text.value);
    let name = subject.appender.name.value;
    let refs = configuration.loggers.iter().filter(|logger| logger.has_ref(name));
    Sent {
        kind: subject.kind,
        appender: name.to_owned(),
        to: format!("{} port {}", text("remoteAddress"), text("remotePort")),
        loggers: refs.map(|logger| logger.name.value.to_owned()).collect(),
    }
}

impl document::Logger<'_> {
    fn has_ref(&self, appender: &str) -> bool {
        self.refs.iter().any(|text| text.value == appender)
    }
}
