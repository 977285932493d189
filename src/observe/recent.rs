//! The newest events, for people to read, and filters over them.
//!
//! Bounded: [`EVENTS_MAX`] events, each with texts of at most `TEXT_MAX` characters.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::reason::RejectReason;
use super::tap::Sample;
use crate::event::{Column, Event, Kind};

/// Events that are kept: at 500 a second four seconds, on most sites minutes. 1 KB each: 2 MB.
pub const EVENTS_MAX: usize = 2_000;

/// Characters of a text that are kept.
const TEXT_MAX: usize = 300;

/// One event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recent {
    /// Counts up; who has seen one asks for those after it.
    pub seq: u64,
    /// When it was received, in ms since 1970.
    pub at_ms: u64,
    /// The message type, or `unknown` for what is no event.
    pub kind: &'static str,
    /// `WARN`, `ERROR` and so on; empty for user events.
    pub level: String,
    /// The Sense server, as the event says.
    pub host: String,
    /// The address it came from.
    pub from: IpAddr,
    /// `DIRECTORY\id`.
    pub user: String,
    /// Name of the app where it is known, else its id.
    pub app: String,
    /// Method, command or logger.
    pub what: String,
    /// The message, or what a call cost.
    pub text: String,
    /// Why it was not accepted; `null` when it was.
    pub rejected: Option<&'static str>,
}

impl Recent {
    /// What is shown of an event; `app` is its name or id.
    #[must_use]
    pub fn of_event(sample: &Sample<'_>, event: &Event<'_>, app: &str) -> Self {
        let kind = event.kind();
        let what = match kind {
            Kind::QixPerf => Column::Method,
            Kind::ProxySession | Kind::ProxyConnection => Column::Command,
            _ => Column::Subsystem,
        };
        let user = event.user_full().map(|user| user.to_string()).unwrap_or_default();
        Self {
            level: cut(event.text(Column::Level)),
            host: cut(event.text(Column::Host)),
            user: cut(&user),
            app: cut(app),
            what: cut(event.text(what)),
            text: if kind == Kind::QixPerf { cost(event) } else { message(event) },
            ..Self::of_datagram(sample, kind.name())
        }
    }

    /// What is shown of something that is no event.
    #[must_use]
    pub fn of_unknown(sample: &Sample<'_>) -> Self {
        let text = cut(&String::from_utf8_lossy(sample.payload));
        Self { text, ..Self::of_datagram(sample, "unknown") }
    }

    fn of_datagram(sample: &Sample<'_>, kind: &'static str) -> Self {
        Self {
            seq: 0,
            at_ms: sample.received_ns / 1_000_000,
            kind,
            level: String::new(),
            host: String::new(),
            from: sample.source,
            user: String::new(),
            app: String::new(),
            what: String::new(),
            text: String::new(),
            rejected: sample.rejected.map(RejectReason::name),
        }
    }
}

/// What an engine call was about and cost.
fn cost(event: &Event<'_>) -> String {
    let mut text = String::new();
    let object = event.text(Column::ObjectType);
    if !object.is_empty() {
        let _ = write!(text, "{} · ", cut(object));
    }
    let raw = |column| String::from_utf8_lossy(event.raw(column)).into_owned();
    let (process, work) = (raw(Column::ProcessTime), raw(Column::WorkTime));
    let (lock, ram) = (raw(Column::LockTime), raw(Column::NetRam));
    let _ = write!(
        text,
        "process {} ms, work {} ms, lock {} ms, {} bytes",
        cut(&process),
        cut(&work),
        cut(&lock),
        cut(&ram)
    );
    text
}

fn message(event: &Event<'_>) -> String {
    let (message, exception) = (event.text(Column::Message), event.text(Column::ExceptionMessage));
    if exception.is_empty() { cut(message) } else { cut(&format!("{message} · {exception}")) }
}

/// The first characters of a text, without those that could disturb the page around it.
pub(super) fn cut(text: &str) -> String {
    // Marks that turn the direction of what stands beside them, break lines or are not seen.
    let disturbs = |c| {
        let marks = ['\u{61c}', '\u{feff}'];
        marks.contains(&c)
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let shown = text.chars().map(|c| if c.is_control() || disturbs(c) { '\u{fffd}' } else { c });
    shown.take(TEXT_MAX).collect()
}

/// The newest events.
#[derive(Debug, Default)]
pub struct Newest {
    events: VecDeque<Recent>,
    /// Of the next event, minus one.
    seq: u64,
}

impl Newest {
    /// Adds an event.
    pub fn push(&mut self, mut event: Recent) {
        self.seq += 1;
        event.seq = self.seq;
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The number of the newest event; 0 without any.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.seq
    }

    /// The newest events after `seq` that pass, newest first, at most `limit`.
    #[must_use]
    pub fn matching(&self, filter: &Filter, seq: u64, limit: usize) -> Vec<&Recent> {
        let newer = self.events.iter().rev().take_while(|event| event.seq > seq);
        newer.filter(|event| filter.passes(event)).take(limit).collect()
    }
}

/// Which events somebody wants to see: those for which every part that is not empty holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The message type, whole.
    kind: String,
    /// The level, whole.
    level: String,
    /// In the server's name or the sender's address.
    host: String,
    /// In the user's name.
    user: String,
    /// In the app's name or id.
    app: String,
    /// In the method, command or logger, in the text, or in the reason for rejection.
    text: String,
}

impl Filter {
    /// A filter, and whatever else a query of a URL says: pairs of name and value that are no part of
    /// a filter go to `other`.
    pub fn from_query(query: &str, mut other: impl FnMut(&str, &str)) -> Self {
        let mut filter = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let spaced = value.replace('+', " ");
            let value = percent_decode_str(&spaced).decode_utf8_lossy();
            let part = match name {
                "kind" => &mut filter.kind,
                "level" => &mut filter.level,
                "host" => &mut filter.host,
                "user" => &mut filter.user,
                "app" => &mut filter.app,
                "text" => &mut filter.text,
                _ => {
                    other(name, &value);
                    continue;
                }
            };
            *part = value.to_lowercase();
        }
        filter
    }

    fn passes(&self, event: &Recent) -> bool {
        let whole = |part: &str, text: &str| part.is_empty() || text.eq_ignore_ascii_case(part);
        let within = |part: &str, texts: &[&str]| {
            part.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(part))
        };
        whole(&self.kind, event.kind)
            && whole(&self.level, &event.level)
            && (self.host.is_empty() || within(&self.host, &[&event.host, &event.from.to_string()]))
            && within(&self.user, &[&event.user])
            && within(&self.app, &[&event.app])
            && within(&self.text, &[&event.what, &event.text, event.rejected.unwrap_or_default()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Listener, parse};

    fn sample(listener: Listener, payload: &[u8]) -> Sample<'_> {
        Sample {
            listener,
            payload,
            source: [10, 0, 0, 7].into(),
            received_ns: 1_700_000_000_123_456_789,
            rejected: None,
            stands_for: 1,
        }
    }

    fn user_event() -> Recent {
        let payload =
            b"/qseow-proxy-session/;pro1;Start session;LAB;Anna;AppAccess;/hub;hel\xe2\x80\xaelo";
        let mut scratch = Vec::new();
        let event = parse(Listener::UserEvents, payload, &mut scratch).expect("an event");
        Recent::of_event(&sample(Listener::UserEvents, payload), &event, "Sales Dashboard")
    }

    #[test]
    fn an_event_shows_who_did_what_where() {
        let shown = user_event();
        assert_eq!((shown.kind, shown.host.as_str()), ("qseow-proxy-session", "pro1"));
        assert_eq!((shown.user.as_str(), shown.what.as_str()), ("LAB\\Anna", "Start session"));
        assert_eq!(shown.text, "hel\u{fffd}lo", "nothing turns the page around");
        assert_eq!(shown.at_ms, 1_700_000_000_123);
        let unknown = Recent::of_unknown(&sample(Listener::LogEvents, b"\xff\x00junk"));
        assert_eq!((unknown.kind, unknown.text.as_str()), ("unknown", "\u{fffd}\u{fffd}junk"));
    }

    #[test]
    fn a_call_shows_its_cost_and_a_complaint_its_exception() {
        let mut cluster = crate::synthetic::Cluster::new(1, crate::synthetic::Mix::CLUSTER, 2);
        let mut seen = [0; 2];
        for (listener, payload) in cluster.take(2_000) {
            let mut scratch = Vec::new();
            let event = parse(listener, &payload, &mut scratch).expect("an event");
            let shown = Recent::of_event(&sample(listener, &payload), &event, "");
            match event.kind() {
                Kind::QixPerf => {
                    seen[0] += 1;
                    assert!(shown.text.contains("process "), "{}", shown.text);
                    assert!(!shown.text.contains(" ms, work  ms"), "{}", shown.text);
                }
                _ if !event.text(Column::ExceptionMessage).is_empty() => {
                    seen[1] += 1;
                    assert!(shown.text.contains(" · "), "{}", shown.text);
                }
                _ => {}
            }
        }
        assert!(seen.iter().all(|seen| *seen > 50), "{seen:?}");
    }

    #[test]
    fn the_newest_are_kept_and_asked_for_by_number() {
        let mut newest = Newest::default();
        for _ in 0..EVENTS_MAX + 5 {
            newest.push(user_event());
        }
        let all = Filter::default();
        assert_eq!(newest.matching(&all, 0, usize::MAX).len(), EVENTS_MAX);
        let last = newest.last();
        let numbers = |seq, limit| -> Vec<u64> {
            newest.matching(&all, seq, limit).iter().map(|event| event.seq).collect()
        };
        assert_eq!(numbers(last - 2, 9), [last, last - 1]);
        assert_eq!(numbers(0, 1), [last]);
        assert!(numbers(last, 9).is_empty());
    }

    #[test]
    fn every_part_of_a_filter_has_to_hold() {
        let event = user_event();
        let passes = |query: &str| Filter::from_query(query, |_, _| {}).passes(&event);
        for query in [
            "",
            "kind=qseow-proxy-session",
            "user=lab%5Canna&host=PRO",
            "app=sales+dash&text=start%20sess",
            "host=10.0.0.7",
        ] {
            assert!(passes(query), "{query}");
        }
        for query in ["kind=qseow-proxy", "level=ERROR", "user=bertil", "app=x", "text=stop"] {
            assert!(!passes(query), "{query}");
            assert!(!passes(&format!("kind=qseow-proxy-session&{query}")), "{query}");
        }
        let mut others = Vec::new();
        let filter = Filter::from_query("after=7&user=x&live", |name, value| {
            others.push((name.to_owned(), value.to_owned()));
        });
        assert_eq!(filter, Filter { user: "x".into(), ..Filter::default() });
        assert_eq!(others, [("after".into(), "7".into()), ("live".into(), String::new())]);
    }
}
