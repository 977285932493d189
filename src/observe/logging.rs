//! Log lines on stderr, and in daily files where the file asks for them, that nobody on the network can forge.
//!
//! The levels are Butler SOS's six; see [`Level`] for what they mean here. One line per event:
//!
//! ```text
//! 2026-01-31T12:34:56.789012Z info: listening for user events address=0.0.0.0:9997
//! ```
//!
//! Control characters are escaped in whatever is logged, here, so that no caller can forget it. Text
//! from the network goes through [`preview`], which also limits its length.

mod files;

use std::fmt::{self, Write as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub use files::{LogFiles, lost as lost_in_files};

/// How much is logged: Butler SOS's levels, from few lines to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What needs somebody to act (`tracing::error!`).
    Error,
    /// What may need somebody to act (`warn!`).
    Warn,
    /// Start, stop, and changes of state (`info!`).
    Info,
    /// Details of what is set up (`debug!`).
    Verbose,
    /// Details of single batches and datagrams (`trace!`).
    Debug,
    /// The same, and what the libraries underneath say.
    Silly,
}

impl Level {
    /// All levels, from few lines to many.
    pub const ALL: [Self; 6] =
        [Self::Error, Self::Warn, Self::Info, Self::Verbose, Self::Debug, Self::Silly];

    /// Name in the configuration file and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Verbose => "verbose",
            Self::Debug => "debug",
            Self::Silly => "silly",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Verbose => LevelFilter::DEBUG,
            Self::Debug | Self::Silly => LevelFilter::TRACE,
        }
    }
}

/// The name of a line's level; the reverse of [`Level::filter`].
fn name_of(level: tracing::Level) -> &'static str {
    match level {
        tracing::Level::ERROR => Level::Error.name(),
        tracing::Level::WARN => Level::Warn.name(),
        tracing::Level::INFO => Level::Info.name(),
        tracing::Level::DEBUG => Level::Verbose.name(),
        tracing::Level::TRACE => Level::Debug.name(),
    }
}

/// The text is none of the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log level: use error, warn, info, verbose, debug or silly")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let text = text.trim();
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or(UnknownLevel)
    }
}

/// The level in force, as an index into [`Level::ALL`]. A process has one log, so it has one level.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// The level in force.
#[must_use]
pub fn level() -> Level {
    Level::ALL[usize::from(LEVEL.load(Ordering::Relaxed))]
}

/// Changes the level, also while the engine runs.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Starts logging to stderr at `level`, and to daily files in a directory, if one is given. Later
/// calls only change the level.
///
/// Without files a log is still a log: where they cannot be written, a warning says so. What is
/// returned is to be dropped after the last line.
pub fn start(level: Level, directory: Option<&Path>) -> Option<LogFiles> {
    let (writer, files, problem) = match directory.map(files::start) {
        None => (BoxMakeWriter::new(std::io::stderr), None, None),
        Some(Ok((lines, files))) => {
            files.are_the_log();
            (BoxMakeWriter::new(std::io::stderr.and(lines)), Some(files), None)
        }
        Some(Err(error)) => (BoxMakeWriter::new(std::io::stderr), None, Some(error)),
    };
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Line)
        .with_writer(writer)
        // It would print to the stderr that just failed, and panic.
        .log_internal_errors(false)
        .with_filter(CurrentLevel);
    // An error says that a log has been started before.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    set_level(level);
    if let (Some(error), Some(directory)) = (problem, directory) {
        tracing::warn!(
            "no log files: {}: {error}; set Butler-SOS.logDirectory to a directory that this user may \
             write to, or fileLogging to false",
            directory.display()
        );
    }
    files
}

/// Whether nobody can see stderr.
static UNATTENDED: AtomicBool = AtomicBool::new(false);

/// From now on nobody can see stderr: the process is a service of Windows.
pub fn set_unattended() {
    UNATTENDED.store(true, Ordering::Relaxed);
}

/// Whether nobody can see stderr, so that only files are a log.
#[must_use]
pub fn is_unattended() -> bool {
    UNATTENDED.load(Ordering::Relaxed)
}

/// Prints a line to stderr whatever the level in force: what somebody waits for, such as `ready`. A
/// reader that is gone (`ringside run 2>&1 | tee log`, ended with Ctrl-C) is no reason to panic. Where
/// nobody can see it, it is logged.
pub fn say(line: impl fmt::Display) {
    if is_unattended() {
        for line in line.to_string().lines() {
            tracing::info!("{line}");
        }
        return;
    }
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{line}\n"));
}

/// Lets through what the level in force asks for.
struct CurrentLevel;

impl<S> Filter<S> for CurrentLevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        wanted(level(), metadata.target(), *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level().filter())
    }
}

/// Whether a line is logged. Libraries are heard from `warn` up, and wholly at `silly`.
fn wanted(current: Level, target: &str, line: tracing::Level) -> bool {
    let ours = target == "ringside" || target.starts_with("ringside::");
    let limit = if ours || current == Level::Silly {
        current.filter()
    } else {
        current.filter().min(LevelFilter::WARN)
    };
    line <= limit
}

/// The format of a line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        write!(writer, " {}: ", name_of(*event.metadata().level()))?;
        context.field_format().format_fields(Writer::new(&mut Escaping(&mut writer)), event)?;
        writeln!(writer)
    }
}

/// Whether a character could change what a terminal or a line-based tool shows: control characters,
/// line and paragraph separators, and what reverses the direction of text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Escapes unsafe characters on their way to the writer within.
struct Escaping<W>(W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, character)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", character.escape_default())?;
            rest = &rest[at + character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// Bytes from the network as they may stand in a log line: see [`preview`].
#[derive(Clone, Copy, Debug)]
pub struct Preview<'a> {
    bytes: &'a [u8],
    characters_max: usize,
}

/// Shows at most `characters_max` characters of `bytes`, with unsafe characters and backslashes
/// escaped and invalid UTF-8 replaced; what was cut is said.
#[must_use]
pub fn preview(bytes: &[u8], characters_max: usize) -> Preview<'_> {
    Preview { bytes, characters_max }
}

impl fmt::Display for Preview<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.characters_max;
        for chunk in self.bytes.utf8_chunks() {
            let replacement = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            for character in chunk.valid().chars().chain(replacement) {
                if left == 0 {
                    return write!(formatter, "… ({} bytes)", self.bytes.len());
                }
                left -= 1;
                if character == '\\' || is_unsafe(character) {
                    write!(formatter, "{}", character.escape_default())?;
                } else {
                    formatter.write_char(character)?;
                }
            }
        }
        Ok(())
    }
}

/// Lets the first of many equal messages through at once and the others at most once a minute.
///
/// One per call site, as a `static`:
///
/// ```
/// # use std::time::Duration;
/// # use ringside::observe::logging::RateLimited;
/// static LIMIT: RateLimited = RateLimited::new();
/// # let now = Duration::from_secs(7);
/// if let Some(suppressed) = LIMIT.allow(now) {
///     tracing::warn!(suppressed, "something happens again and again");
/// }
/// ```
#[derive(Debug)]
pub struct RateLimited {
    /// When a message passed last, in ms, plus one; 0 when none has.
    last_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl RateLimited {
    /// Time between two messages.
    pub const INTERVAL: Duration = Duration::from_mins(1);

    /// Nothing has passed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { last_ms: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether a message may pass at `now` (monotonic, counted from any fixed moment); if so, how
    /// many were held back since the last one.
    pub fn allow(&self, now: Duration) -> Option<u64> {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        let due = last_ms == 0
            || u128::from(now_ms.saturating_sub(last_ms)) >= Self::INTERVAL.as_millis();
        // Of several threads whose message is due at the same moment, one wins.
        let won = due
            && self
                .last_ms
                .compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if won {
            Some(self.suppressed.swap(0, Ordering::Relaxed))
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

impl Default for RateLimited {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// Collects lines in memory.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer =
            tracing_subscriber::fmt::layer().event_format(Line).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let hostile = "a\r\n2026-01-01T00:00:00Z error: forged \u{1b}[31m\u{202e}x";
            tracing::info!(source = %hostile, "got {hostile}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{202e}']), "{text}");
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-01-31T12:34:56.789012Z".len());
        assert!(rest.starts_with("info: got a\\r\\n2026-"), "{text}");
        assert!(rest.contains(r"source=a\r\n"), "{text}");
    }

    #[test]
    fn previews_are_cut_and_escaped() {
        assert_eq!(preview(b"plain", 5).to_string(), "plain");
        assert_eq!(preview("ärger".as_bytes(), 2).to_string(), "är… (6 bytes)");
        assert_eq!(preview(b"a\nb\\n\x00\xff", 20).to_string(), "a\\nb\\\\n\\u{0}\u{fffd}");
        assert_eq!(preview(b"", 0).to_string(), "");
    }

    #[test]
    fn levels_mean_what_butler_sos_means() {
        assert_eq!(" verbose ".parse(), Ok(Level::Verbose));
        assert_eq!("INFO".parse::<Level>(), Err(UnknownLevel));
        let ours = "ringside::deliver";
        assert!(wanted(Level::Info, ours, tracing::Level::INFO));
        assert!(!wanted(Level::Info, ours, tracing::Level::DEBUG));
        assert!(wanted(Level::Verbose, ours, tracing::Level::DEBUG));
        assert!(!wanted(Level::Verbose, ours, tracing::Level::TRACE));
        assert!(wanted(Level::Debug, ours, tracing::Level::TRACE));
        assert!(!wanted(Level::Debug, "hyper::proto", tracing::Level::DEBUG));
        assert!(wanted(Level::Info, "hyper::proto", tracing::Level::WARN));
        assert!(!wanted(Level::Error, "hyper::proto", tracing::Level::WARN));
        assert!(wanted(Level::Silly, "hyper::proto", tracing::Level::TRACE));
    }

    #[test]
    fn repeated_messages_pass_once_a_minute() {
        let limit = RateLimited::new();
        let at = Duration::from_secs;
        assert_eq!(limit.allow(at(0)), Some(0));
        assert_eq!(limit.allow(at(0)), None);
        assert_eq!(limit.allow(at(59)), None);
        assert_eq!(limit.allow(at(60)), Some(2));
        assert_eq!(limit.allow(at(61)), None);
        assert_eq!(limit.allow(at(1_000)), Some(1));
    }
}
