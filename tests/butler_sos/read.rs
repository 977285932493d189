//! From a datagram to the event object.

use ringside::event::{Kind, Listener};

use super::numbers::{parse_float, parse_int};
use super::text::{narrow, sanitise, wide};
use super::{Datagram, Text, Value};

/// How a column's text becomes a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Take {
    /// The message type, without slashes.
    Source,
    /// Text, cut to so many UTF-16 units.
    Text(usize),
    /// A time; the forms are named. What has none of them becomes empty.
    Time(&'static [TimeForm]),
    /// A UUID in lower case; anything else becomes empty.
    Uuid,
    /// A whole number; below the minimum, or not a number, it becomes the fall-back.
    Int(f64, f64),
    /// A number.
    Float,
}

/// The forms of a time; only their shape is looked at, and only positive offsets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// `20211109T153726.028+0200`
    Compact,
    /// `2021-11-09T15:37:26.028+0200`
    Hyphenated,
    /// `2021-11-09 15:37:26,028`
    Local,
}

impl TimeForm {
    fn shape(self) -> &'static str {
        match self {
            Self::Compact => "00000000T000000.000+0000",
            Self::Hyphenated => "0000-00-00T00:00:00.000+0000",
            Self::Local => "0000-00-00 00:00:00,000",
        }
    }

    fn fits(self, text: &str) -> bool {
        let shape = self.shape();
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, pattern)| match pattern {
                b'0' => byte.is_ascii_digit(),
                _ => byte == pattern,
            })
    }
}

use Take::{Float, Int, Source, Time, Uuid};
use TimeForm::{Compact, Hyphenated, Local};

const ANY: f64 = f64::NEG_INFINITY;
const HYPHENATED: Take = Time(&[Hyphenated]);

type Columns = &'static [(&'static str, Take)];

const USER: Columns = &[
    ("source", Source),
    ("host", Take::Text(100)),
    ("command", Take::Text(100)),
    ("user_directory", Take::Text(100)),
    ("user_id", Take::Text(100)),
    ("origin", Take::Text(200)),
    ("context", Take::Text(500)),
    ("message", Take::Text(1000)),
];

const ENGINE: Columns = &[
    ("source", Source),
    ("log_row", Int(1.0, -1.0)),
    ("ts_iso", HYPHENATED),
    ("ts_local", HYPHENATED),
    ("level", Take::Text(20)),
    ("host", Take::Text(100)),
    ("subsystem", Take::Text(200)),
    ("windows_user", Take::Text(100)),
    ("message", Take::Text(1000)),
    ("proxy_session_id", Uuid),
    ("user_directory", Take::Text(100)),
    ("user_id", Take::Text(100)),
    ("engine_ts", Take::Text(50)),
    ("process_id", Uuid),
    ("engine_exe_version", Take::Text(50)),
    ("server_started", Take::Text(50)),
    ("entry_type", Take::Text(50)),
    ("session_id", Uuid),
    ("app_id", Uuid),
];

const PROXY: Columns = &[
    ("source", Source),
    ("log_row", Int(ANY, -1.0)),
    ("ts_iso", Time(&[Hyphenated, Compact])),
    ("ts_local", Time(&[Hyphenated, Local])),
    ("level", Take::Text(20)),
    ("host", Take::Text(100)),
    ("subsystem", Take::Text(200)),
    ("windows_user", Take::Text(100)),
    ("message", Take::Text(1000)),
    ("exception_message", Take::Text(1000)),
    ("user_directory", Take::Text(100)),
    ("user_id", Take::Text(100)),
    ("command", Take::Text(200)),
    ("result_code", Take::Text(50)),
    ("origin", Take::Text(200)),
    ("context", Take::Text(200)),
];

const SCHEDULER: Columns = &[
    ("source", Source),
    ("log_row", Int(ANY, -1.0)),
    ("ts_iso", HYPHENATED),
    ("ts_local", HYPHENATED),
    ("level", Take::Text(20)),
    ("host", Take::Text(100)),
    ("subsystem", Take::Text(200)),
    ("windows_user", Take::Text(100)),
    ("message", Take::Text(1000)),
    ("exception_message", Take::Text(1000)),
    ("user_directory", Take::Text(100)),
    ("user_id", Take::Text(100)),
    ("user_full", Take::Text(200)),
    ("task_name", Take::Text(200)),
    ("app_name", Take::Text(200)),
    ("task_id", Uuid),
    ("app_id", Uuid),
    ("execution_id", Uuid),
];

const QIX_PERF: Columns = &[
    ("source", Source),
    ("log_row", Int(ANY, -1.0)),
    ("ts_iso", Take::Text(50)),
    ("ts_local", Take::Text(50)),
    ("level", Take::Text(20)),
    ("host", Take::Text(100)),
    ("subsystem", Take::Text(200)),
    ("windows_user", Take::Text(100)),
    ("proxy_session_id", Uuid),
    ("user_directory", Take::Text(100)),
    ("user_id", Take::Text(100)),
    ("engine_ts", Take::Text(50)),
    ("session_id", Uuid),
    ("app_id", Uuid),
    ("request_id", Int(0.0, -99.0)),
    ("method", Take::Text(100)),
    ("process_time", Float),
    ("work_time", Float),
    ("lock_time", Float),
    ("validate_time", Float),
    ("traverse_time", Float),
    ("handle", Int(ANY, -99.0)),
    ("object_id", Take::Text(100)),
    ("net_ram", Int(0.0, -1.0)),
    ("peak_ram", Int(0.0, -1.0)),
    ("object_type", Take::Text(100)),
];

/// The columns of a kind, in the order of the datagram.
pub fn columns_of(kind: Kind) -> Columns {
    match kind {
        Kind::ProxySession | Kind::ProxyConnection => USER,
        Kind::Engine => ENGINE,
        Kind::Proxy | Kind::Repository => PROXY,
        Kind::Scheduler => SCHEDULER,
        Kind::QixPerf => QIX_PERF,
    }
}

/// One column of an event.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// How its text is taken.
    pub take: Take,
    /// The text that stands in the datagram; `None` when it is missing.
    pub raw: Option<String>,
    /// What was made of it.
    pub value: Value,
}

/// An event, as read.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its kind.
    pub kind: Kind,
    /// The columns, in the order of the datagram.
    pub columns: Vec<Column>,
    /// The app that the context of a user event names.
    pub app: Text,
}

impl Event {
    /// Reads the columns of `kind` from `pieces`, one piece a column.
    pub fn of(kind: Kind, pieces: &[String]) -> Self {
        let columns = columns_of(kind)
            .iter()
            .enumerate()
            .map(|(index, (name, take))| {
                let raw = pieces.get(index).cloned();
                let value = value(kind, *take, raw.as_deref());
                Column { name, take: *take, raw, value }
            })
            .collect();
        let mut event = Self { kind, columns, app: Text::new() };
        if kind.listener() == Listener::UserEvents {
            event.app = app_of_context(&event.text("context"));
        }
        event
    }

    /// A column, if the kind has it.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The text of a column; empty when the kind does not have it.
    pub fn text(&self, name: &str) -> Text {
        match self.column(name).map(|column| &column.value) {
            Some(Value::Text(text)) => text.clone(),
            _ => Text::new(),
        }
    }

    /// The number in a column.
    pub fn number(&self, name: &str) -> f64 {
        match self.column(name).map(|column| &column.value) {
            Some(Value::Number(number)) => *number,
            _ => f64::NAN,
        }
    }

    /// The text in the datagram; empty when missing.
    pub fn raw(&self, name: &str) -> &str {
        self.column(name).and_then(|column| column.raw.as_deref()).unwrap_or_default()
    }
}

/// The value of a column. A missing piece is JavaScript's `undefined`, which becomes text.
fn value(kind: Kind, take: Take, raw: Option<&str>) -> Value {
    match take {
        Take::Source => Value::Text(wide(kind.name())),
        Take::Text(limit) => take_text(raw.unwrap_or("undefined"), limit),
        Take::Time(forms) => {
            let text = raw.unwrap_or_default();
            Value::Text(if forms.iter().any(|form| form.fits(text)) {
                wide(text)
            } else {
                wide("")
            })
        }
        Take::Uuid => {
            let text = raw.unwrap_or_default();
            Value::Text(if is_lower_uuid(text) { wide(text) } else { wide("") })
        }
        Take::Int(minimum, fallback) => {
            let number = parse_int(raw.unwrap_or_default());
            Value::Number(if number >= minimum { number } else { fallback })
        }
        Take::Float => Value::Number(parse_float(raw.unwrap_or_default())),
    }
}

/// Text without control characters, cut.
pub fn take_text(raw: &str, limit: usize) -> Value {
    Value::Text(sanitise(&wide(raw), limit))
}

pub fn is_lower_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// What Butler SOS reads from a datagram; `None` if it takes it for no event.
pub fn read(datagram: &Datagram) -> Option<Event> {
    let text = String::from_utf8_lossy(&datagram.payload);
    match datagram.listener {
        Listener::UserEvents => read_user_event(&text),
        Listener::LogEvents => read_log_event(&text),
    }
}

fn read_user_event(text: &str) -> Option<Event> {
    let mut pieces: Vec<String> = text.splitn(8, ';').map(str::to_owned).collect();
    if pieces.len() < 8 {
        // The rest after the seventh separator is appended even when there is none.
        pieces.push(String::new());
    }
    // Removes the first two slashes, wherever they are.
    let kind = match pieces[0].to_lowercase().replacen('/', "", 2).as_str() {
        "qseow-proxy-session" => Kind::ProxySession,
        "qseow-proxy-connection" => Kind::ProxyConnection,
        _ => return None,
    };
    Some(Event::of(kind, &pieces))
}

fn read_log_event(text: &str) -> Option<Event> {
    let pieces: Vec<String> = text.split(';').map(str::to_owned).collect();
    let kind = match pieces[0].to_lowercase().as_str() {
        "/qseow-engine/" => Kind::Engine,
        "/qseow-proxy/" => Kind::Proxy,
        "/qseow-repository/" => Kind::Repository,
        "/qseow-scheduler/" => Kind::Scheduler,
        "/qseow-qix-perf/" => Kind::QixPerf,
        _ => return None,
    };
    let pieces = &pieces[..pieces.len().min(columns_of(kind).len())];
    Some(Event::of(kind, pieces))
}

/// The app of a user event: what stands between `/app/` at the start of the context and the next
/// `?` or `/app/`, if that is a UUID.
fn app_of_context(context: &[u16]) -> Text {
    let context = narrow(context);
    let id = context
        .strip_prefix("/app/")
        .and_then(|rest| rest.split("/app/").next())
        .and_then(|rest| rest.split('?').next())
        .unwrap_or_default();
    if is_registered_uuid(id) { wide(id) } else { Text::new() }
}

/// A UUID of version 1 to 8 with the usual variant, in any case; or the nil or max UUID.
pub fn is_registered_uuid(id: &str) -> bool {
    let lower = id.to_ascii_lowercase();
    let digits = lower.replace('-', "");
    is_lower_uuid(&lower)
        && (digits.bytes().all(|b| b == b'0')
            || digits.bytes().all(|b| b == b'f')
            || (matches!(lower.as_bytes()[14], b'1'..=b'8')
                && matches!(lower.as_bytes()[19], b'8' | b'9' | b'a' | b'b')))
}
