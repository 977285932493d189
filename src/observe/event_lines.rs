//! Single events in the log: what an operator looks at to see whether an appender works.
//!
//! | level | a line says |
//! |---|---|
//! | `warn` | that something is no event, who sent it, how it begins; at most once a minute |
//! | `verbose` | what kind of event came from which host, and what became of it |
//! | `debug` | the same with every column |
//! | `silly` | the same with the datagram as it came |
//!
//! Whoever sends events decides how many lines that makes, so there are at most
//! [`LINES_PER_SECOND`]; how many were left out is said when the next one passes. What came over the
//! network is cut and escaped (see [`super::logging`]).

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::logging::{self, Level, RateLimited, preview};
use super::reason::RejectReason;
use crate::event::{Column, Event, Field, Int, Listener, ParseError};

/// Lines a second, over all shards: more than anybody can read, and at 2 KB a line at most 200 KB/s
/// to a log that rotates daily.
pub const LINES_PER_SECOND: u64 = 100;

/// Characters of a text that are shown: a message may have 1 000 and a line should be readable.
const TEXT_MAX: usize = 200;

/// Characters of a datagram that are shown at `silly`: the largest layout with texts of usual length.
const DATAGRAM_MAX: usize = 2_000;

/// Characters of something that is no event, as in Butler SOS.
const UNKNOWN_MAX: usize = 25;

/// Whether single events are logged at all.
#[inline]
#[must_use]
pub fn wanted() -> bool {
    logging::level() >= Level::Verbose
}

static LIMIT: PerSecond = PerSecond::new();

/// Events that were not logged because of [`LINES_PER_SECOND`], since the start.
#[must_use]
pub fn left_out() -> u64 {
    LIMIT.left_out_ever.load(Ordering::Relaxed)
}

/// Logs one event and what became of it. `now` is monotonic.
pub fn event(event: &Event<'_>, payload: &[u8], rejected: Option<RejectReason>, now: Duration) {
    let Some(left_out) = LIMIT.allow(now) else { return };
    if left_out > 0 {
        tracing::debug!(
            "{left_out} events were not logged: at most {LINES_PER_SECOND} lines a second"
        );
    }
    let outcome = rejected.map_or("accepted", RejectReason::name);
    match logging::level() {
        Level::Silly => tracing::trace!(
            "{} {outcome}:{} [{}]",
            event.kind().name(),
            Columns(event),
            preview(payload, DATAGRAM_MAX)
        ),
        Level::Debug => {
            tracing::trace!("{} {outcome}:{}", event.kind().name(), Columns(event));
        }
        _ => tracing::debug!("{} {outcome}: {}", event.kind().name(), Summary(event)),
    }
}

/// Logs that a datagram is no event. `now` is monotonic.
pub fn no_event(
    listener: Listener,
    source: SocketAddr,
    payload: &[u8],
    error: ParseError,
    now: Duration,
) {
    static LIMITS: [RateLimited; Listener::COUNT] = [const { RateLimited::new() }; Listener::COUNT];
    if let Some(suppressed) = LIMITS[listener as usize].allow(now) {
        tracing::warn!(
            suppressed,
            "{source} sent something to the {} listener that is no event: {error}; it begins `{}`; \
             check the pattern and the port in that service's LocalLogConfig.xml",
            listener.name(),
            preview(payload, UNKNOWN_MAX)
        );
    }
}

/// What matters most about an event, in one line.
struct Summary<'a>(&'a Event<'a>);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        write!(formatter, "host={}", Shown(event.text(Column::Host)))?;
        let columns = match event.kind().listener() {
            Listener::UserEvents => [Column::Command, Column::Origin, Column::Context],
            Listener::LogEvents => [Column::Level, Column::Subsystem, Column::Method],
        };
        for column in columns {
            let text = event.text(column);
            if !text.is_empty() {
                write!(formatter, " {}={}", column.name(), Shown(text))?;
            }
        }
        if let Some(user) = event.user_full() {
            write!(formatter, " user={user}")?;
        }
        let message = event.text(Column::Message);
        if !message.is_empty() {
            write!(formatter, " message={}", Shown(message))?;
        }
        Ok(())
    }
}

/// Every column of an event that holds something.
struct Columns<'a>(&'a Event<'a>);

impl fmt::Display for Columns<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (column, field) in self.0.columns().skip(1) {
            let name = column.name();
            match field {
                Field::Text("") | Field::Uuid(None) => {}
                Field::Text(text) => write!(formatter, " {name}={}", Shown(text))?,
                Field::Uuid(Some(uuid)) => write!(formatter, " {name}={uuid}")?,
                Field::Int(Int::Value(number)) => write!(formatter, " {name}={number}")?,
                Field::Int(Int::Huge(number)) | Field::Float(number) => {
                    write!(formatter, " {name}={number}")?;
                }
            }
        }
        Ok(())
    }
}

/// Text of an event, cut and escaped.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", preview(self.0.as_bytes(), TEXT_MAX))
    }
}

/// Lets [`LINES_PER_SECOND`] pass in each second, over all threads.
#[derive(Debug)]
struct PerSecond {
    /// The second, plus one; 0 before the first.
    second: AtomicU64,
    passed: AtomicU64,
    /// Since the last line that passed.
    left_out: AtomicU64,
    left_out_ever: AtomicU64,
}

impl PerSecond {
    const fn new() -> Self {
        Self {
            second: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            left_out_ever: AtomicU64::new(0),
        }
    }

    /// Whether a line may pass; if so, how many were left out since the last one that did.
    fn allow(&self, now: Duration) -> Option<u64> {
        let second = now.as_secs() + 1;
        // Who notices first that a second has begun starts its count; a line of another thread that
        // comes in between counts for either.
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.passed.store(0, Ordering::Relaxed);
        }
        if self.passed.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.left_out_ever.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse;

    #[test]
    fn a_second_has_so_many_lines_and_the_rest_is_counted() {
        let limit = PerSecond::new();
        let second = Duration::from_secs(7);
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(limit.allow(second), Some(0));
        }
        for _ in 0..42 {
            assert_eq!(limit.allow(second), None);
        }
        assert_eq!(limit.allow(Duration::from_secs(8)), Some(42));
        assert_eq!(limit.allow(Duration::from_secs(8)), Some(0));
        assert_eq!(limit.left_out_ever.load(Ordering::Relaxed), 42);
    }

    #[test]
    fn a_user_event_shows_who_did_what_where() {
        let payload = b"/qseow-proxy-session/;pro1;Start session;LAB;anna;AppAccess;/hub;hello";
        let mut scratch = Vec::new();
        let event = parse(Listener::UserEvents, payload, &mut scratch).expect("an event");
        assert_eq!(
            Summary(&event).to_string(),
            "host=\"pro1\" command=\"Start session\" origin=\"AppAccess\" context=\"/hub\" \
             user=LAB\\anna message=\"hello\""
        );
    }

    #[test]
    fn all_columns_show_what_they_hold_and_hostile_text_is_escaped() {
        let payload =
            "/qseow-engine/;7;;;WARN;h\u{202e}ost;System.Engine;LAB\\svc;it broke;;LAB;anna";
        let mut scratch = Vec::new();
        let event = parse(Listener::LogEvents, payload.as_bytes(), &mut scratch).expect("an event");
        let shown = Columns(&event).to_string();
        assert!(shown.starts_with(" log_row=7 level=\"WARN\" host=\"h\\u{202e}ost\""), "{shown}");
        assert!(shown.contains(" windows_user=\"LAB\\\\svc\" message=\"it broke\""), "{shown}");
        assert!(!shown.contains("app_id"), "empty columns are left out: {shown}");
    }
}
