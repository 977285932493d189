//! From the bytes of one datagram to a borrowed [`Event`].
//!
//! This room is pure: no I/O, no clock, no configuration, and it knows no other room. A datagram is
//! a line of text with fields separated by `;` (the payload reference of Butler SOS). The road
//! through this room:
//!
//! 1. one pass over the bytes finds the separators, and which bytes are plain and which are digits;
//!    the first field names the [`Kind`], which selects a [`Layout`] (a table of columns);
//! 2. the layout decides which pieces belong to which column, should there be more pieces than
//!    columns;
//! 3. the text is made clean: if the datagram is valid UTF-8 without control characters it is used
//!    where it lies, else a cleaned copy is made in the caller's scratch buffer, once;
//! 4. each field is checked: whether it can be written as it came. It becomes a [`Field`] when somebody
//!    asks for its value, which destinations rarely do.
//!
//! Numbers, UUIDs and times are read from the bytes as they came, text from the clean copy: a UUID
//! with a line feed in it is not a UUID, but a name with one is a name. So does Butler SOS.
//!
//! Envelope: a 372-byte performance event with 26 fields in at most 250 ns, without allocation.
//! `benches/event.rs` measures it beside a bare `memchr` loop over the same bytes, and
//! `benches/shard.rs` does so with 4 096 different events, where branches cannot be foreseen.
//! `docs/performance.md` has what was measured.

mod id;
mod layout;
mod number;
mod payload;
mod scan;
mod split;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub use layout::{COLUMNS_MAX, Check, Column, ColumnSpec, Layout, ROW_MAX};
pub use payload::{PADDING, Payload};
pub use scan::is_plain;
pub use time::TimeText;

use std::fmt;
use std::sync::LazyLock;

use id::UUID_LEN;
use memchr::memmem::Finder;
use scan::{Ends, Marks, scan};
use split::Reading;
use uuid::{Uuid, Variant};

/// Which of the two UDP ports a datagram arrived on. Each port accepts its own kinds only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Listener {
    /// User activity: sessions and connections (default port 9997).
    UserEvents,
    /// Warnings, errors and engine performance (default port 9996).
    LogEvents,
}

impl Listener {
    /// Both listeners, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::UserEvents, Self::LogEvents];
    /// Number of listeners.
    pub const COUNT: usize = Self::ALL.len();

    /// Name in metrics, JSON and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserEvents => "user_events",
            Self::LogEvents => "log_events",
        }
    }
}

/// What sent an event: one of the seven message types of the payload reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `/qseow-proxy-session/`: a user's session starts or stops.
    ProxySession,
    /// `/qseow-proxy-connection/`: an app is opened or closed in a browser tab.
    ProxyConnection,
    /// `/qseow-engine/`: warnings and errors of the engine service.
    Engine,
    /// `/qseow-proxy/`: warnings and errors of the proxy service.
    Proxy,
    /// `/qseow-repository/`: warnings and errors of the repository service.
    Repository,
    /// `/qseow-scheduler/`: warnings and errors of the scheduler service.
    Scheduler,
    /// `/qseow-qix-perf/`: performance of engine method calls.
    QixPerf,
}

impl Kind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::ProxySession,
        Self::ProxyConnection,
        Self::Engine,
        Self::Proxy,
        Self::Repository,
        Self::Scheduler,
        Self::QixPerf,
    ];
    /// Number of kinds.
    pub const COUNT: usize = Self::ALL.len();

    /// The message type without slashes, as it stands in tags and JSON: `qseow-engine`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProxySession => "qseow-proxy-session",
            Self::ProxyConnection => "qseow-proxy-connection",
            Self::Engine => "qseow-engine",
            Self::Proxy => "qseow-proxy",
            Self::Repository => "qseow-repository",
            Self::Scheduler => "qseow-scheduler",
            Self::QixPerf => "qseow-qix-perf",
        }
    }

    /// The port that accepts this kind.
    #[must_use]
    pub const fn listener(self) -> Listener {
        match self {
            Self::ProxySession | Self::ProxyConnection => Listener::UserEvents,
            _ => Listener::LogEvents,
        }
    }

    /// The table of this kind's columns.
    #[must_use]
    pub fn layout(self) -> &'static Layout {
        layout::of(self)
    }
}

/// A whole number as JavaScript's `parseInt` would read it, because that is what the series at the
/// destinations hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Int {
    /// Fits a signed 64-bit integer. Values above 2^53 are rounded to the nearest double, as
    /// Butler SOS does.
    Value(i64),
    /// 2^63 or more in magnitude: no destination can store it as an integer.
    Huge(f64),
}

/// The checked value of one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// Text without control characters, cut to the column's limit. Empty when the field is missing
    /// or did not pass its check.
    Text(&'a str),
    /// A UUID; `None` when the field is missing or is not a UUID.
    Uuid(Option<Uuid>),
    /// A whole number; the column's fall-back when the field is missing or is not a number.
    Int(Int),
    /// A number as JavaScript's `parseFloat` would read it; `NaN` when it is not a number, and
    /// infinite when it is too large.
    Float(f64),
}

/// Things worth counting about an event that is kept all the same.
// Four notes that are independent of each other: any combination can occur.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Fields are missing.
    pub short: bool,
    /// More fields than the layout has.
    pub surplus: bool,
    /// Surplus fields, and more than one way to read them passed all checks.
    pub ambiguous: bool,
    /// Invalid UTF-8 was replaced by U+FFFD.
    pub invalid_utf8: bool,
}

/// Why a datagram is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No bytes at all.
    #[error("the datagram is empty")]
    Empty,
    /// The first field is none of the message types of this port.
    #[error("the message type is not one of this port's")]
    UnknownType,
    /// Not text in UTF-8: the type field holds NUL bytes, as UTF-16 does.
    #[error("the datagram is not UTF-8 text; set the appender's `encoding` to utf-8")]
    Malformed,
}

/// One event, borrowed from the datagram (or from the scratch buffer, where text had to be changed).
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    kind: Kind,
    /// What was noticed while reading it.
    pub flags: Flags,
    /// Columns that are not written as they came, one bit each.
    altered: u32,
    payload: Payload<'a>,
    ends: Ends,
    plain: Marks,
    /// The payload as clean text.
    text: &'a str,
    /// Where its fields end, if not where those of the payload do.
    text_ends: Option<Ends>,
    /// Directory, id and whole name of the user, where they are not what their columns hold.
    user: Option<[&'a str; 3]>,
}

const _: () = assert!(COLUMNS_MAX <= u32::BITS as usize, "one bit for each column");

impl<'a> Event<'a> {
    /// What sent it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The values, in the order of the datagram, as [`Layout::columns`] describes them.
    ///
    /// What is said of [`Column::UserFull`] at [`Event::columns`] holds here too.
    #[must_use]
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field<'a>> + '_ {
        self.kind.layout().columns().iter().enumerate().map(|(index, spec)| self.value(index, spec))
    }

    /// The value at this index, as [`Event::fields`] has it.
    ///
    /// # Panics
    /// If this kind has no so many columns.
    #[must_use]
    pub fn at(&self, index: usize) -> Field<'a> {
        self.value(index, &self.kind.layout().columns()[index])
    }

    /// The most bytes that the texts of all columns can have together.
    #[must_use]
    pub fn texts_bound(&self) -> usize {
        // What was split is there twice.
        self.text.len() + self.user.map_or(0, |[directory, id, _]| directory.len() + id.len())
    }

    /// The columns and their values, in the order of the datagram.
    ///
    /// The value of [`Column::UserFull`] is not what destinations get: write [`Event::user_full`] in
    /// its place.
    pub fn columns(&self) -> impl Iterator<Item = (Column, Field<'a>)> + '_ {
        let columns = self.kind.layout().columns().iter();
        columns.map(|spec| spec.column).zip(self.fields())
    }

    /// The text of a column; empty when this kind has no such column or it is not text.
    #[must_use]
    pub fn text(&self, column: Column) -> &'a str {
        let layout = self.kind.layout();
        layout.position(column).map_or("", |index| self.text_at(index, &layout.columns()[index]))
    }

    /// The UUID of a column, if it has a valid one.
    #[must_use]
    pub fn uuid(&self, column: Column) -> Option<Uuid> {
        match self.field(column) {
            Some(Field::Uuid(uuid)) => uuid,
            _ => None,
        }
    }

    /// The value of a column, if this kind has it.
    #[must_use]
    pub fn field(&self, column: Column) -> Option<Field<'a>> {
        self.kind.layout().position(column).map(|index| self.at(index))
    }

    /// What stands in the datagram for a column: neither checked nor cleaned nor cut. Empty when the
    /// field is missing, and when this kind has no such column.
    #[must_use]
    pub fn raw(&self, column: Column) -> &'a [u8] {
        let position = self.kind.layout().position(column);
        position.map_or(&[], |index| self.ends.bytes(self.payload.bytes(), index))
    }

    /// The field at this index as it came, if that is also what is to be written for it: text that
    /// passed whole, a UUID in lower case, a number in the notation of JSON. Else its value has to be
    /// written anew.
    #[must_use]
    #[inline]
    pub fn as_came(&self, index: usize) -> Option<Piece<'a>> {
        let range = self.ends.of(index).filter(|_| self.altered & (1 << index) == 0)?;
        Some(Piece {
            plain: self.plain.cover(range.start, range.len()),
            from: self.payload.onwards(range.start),
            len: range.len(),
        })
    }

    /// `DIRECTORY\id` when both are known, for every kind of event; else, for scheduler events, the
    /// name that the service itself put together, if it has a `\`. `None` is written as empty text.
    #[must_use]
    pub fn user_full(&self) -> Option<UserFull<'a>> {
        let whole = self.text(Column::UserFull);
        if !whole.is_empty() {
            return Some(UserFull { parts: [whole, "", ""] });
        }
        let (directory, id) = (self.text(Column::UserDirectory), self.text(Column::UserId));
        let known = !directory.is_empty() && !id.is_empty();
        known.then_some(UserFull { parts: [directory, "\\", id] })
    }

    /// Whether a user is behind the event: false only for performance events whose
    /// `proxy_session_id` is exactly `0` (a scheduled reload, for instance).
    #[must_use]
    pub fn activity_is_user(&self) -> bool {
        self.kind != Kind::QixPerf || self.raw(Column::ProxySessionId) != b"0"
    }

    /// The app that a user event's context names: the GUID right after `/app/` or `app/` at its
    /// start, whatever follows (difference 28).
    ///
    /// The GUID has a version of 1 to 8 and the variant of RFC 9562, or is nil or max, as Butler SOS
    /// asks of user events (not of log events); upper case is accepted and becomes lower case
    /// (difference 4).
    #[must_use]
    pub fn context_app_id(&self) -> Option<Uuid> {
        if self.kind.listener() != Listener::UserEvents {
            return None;
        }
        let context = self.text(Column::Context).as_bytes();
        let segment = context.strip_prefix(b"/").unwrap_or(context).strip_prefix(b"app/")?;
        let app = id::parse(segment.get(..UUID_LEN)?)?;
        let versioned = matches!(app.get_version_num(), 1..=8);
        let standard = versioned && app.get_variant() == Variant::RFC4122;
        (standard || app.is_nil() || app.is_max()).then_some(app)
    }

    /// The user agent that a user event's message names: what stands after the first `UserAgent:`,
    /// up to the next, without white space at either end. There may be `'` around it and in it.
    ///
    /// From the whole message, before it is cut (difference 24).
    #[must_use]
    pub fn user_agent(&self) -> Option<&'a str> {
        if self.kind.listener() != Listener::UserEvents {
            return None;
        }
        let message = self.whole(self.kind.layout().columns().len() - 1);
        let (_, agent) = split_at(message, &USER_AGENT)?;
        Some(split_at(agent, &USER_AGENT).map_or(agent, |(agent, _)| agent).trim())
    }

    fn unread(payload: Payload<'a>) -> Self {
        Self {
            kind: Kind::QixPerf,
            flags: Flags::default(),
            altered: u32::MAX,
            payload,
            ends: Ends::NONE,
            plain: Marks::NONE,
            text: "",
            text_ends: None,
            user: None,
        }
    }

    #[inline]
    fn read(&mut self, listener: Listener, scratch: &'a mut Vec<u8>) -> Result<(), ParseError> {
        let line = self.payload.bytes();
        if line.is_empty() {
            return Err(ParseError::Empty);
        }
        let mut digits = Marks::NONE;
        let controls = scan(self.payload, &mut self.ends, [&mut self.plain, &mut digits]);
        self.kind = kind_of(listener, self.ends.bytes(line, 0))?;
        let layout = self.kind.layout();
        let reading = Reading::choose(layout, line, &self.ends);
        reading.apply(layout, line, &mut self.ends);
        self.flags.short = reading.short;
        self.flags.surplus = reading.surplus;
        self.flags.ambiguous = reading.ambiguous;
        if let Some(text) = text::as_is(line, controls) {
            self.text = text;
            self.altered = self.check(layout, &digits);
        } else {
            (self.text, self.flags.invalid_utf8) = text::clean(line, scratch);
            let clean = self.text.as_bytes();
            // Nothing that was removed or replaced is a separator, so the same reading fits.
            let ends = self.text_ends.insert(Ends::NONE);
            scan(clean.into(), ends, [Marks::NONE; 2].each_mut());
            reading.apply(layout, clean, ends);
        }
        if self.kind == Kind::Scheduler {
            self.settle_user();
        }
        Ok(())
    }

    /// Which columns are not written as they came. Only for events that are clean as they came.
    fn check(&self, layout: &Layout, digits: &Marks) -> u32 {
        let checks = &layout.checks;
        let line = self.payload.bytes();
        let unless = |index: usize, same: bool| u32::from(!same) << index;
        let mut altered = 1;
        for index in ones(self.ends.unusual(&checks.limits) & checks.texts) {
            let whole = self.whole(index);
            let text = text::field(whole, layout.columns()[index].limit);
            altered |= unless(index, text.len() == whole.len());
        }
        for index in ones(checks.uuids) {
            let raw = self.ends.bytes(line, index);
            altered |= unless(index, raw.is_empty() || id::is_lower(raw));
        }
        for index in ones(checks.wholes) {
            altered |= unless(index, number::is_whole(line, digits, self.ends.of(index)));
        }
        for index in ones(checks.positive) {
            altered |= unless(index, self.ends.bytes(line, index) != b"0");
        }
        for index in ones(checks.decimals) {
            altered |= unless(index, number::is_decimal(line, digits, self.ends.of(index)));
        }
        for index in ones(checks.times) {
            let text = self.ends.bytes(line, index);
            let start = self.ends.of(index).map_or(line.len(), |field| field.start);
            let is_time = time::is_usual(text, digits.from(start)) || time::is_valid(text);
            altered |= unless(index, is_time);
        }
        altered
    }

    fn value(&self, index: usize, spec: &ColumnSpec) -> Field<'a> {
        let raw = || self.ends.bytes(self.payload.bytes(), index);
        match spec.check {
            Check::Source | Check::Text | Check::Time => Field::Text(self.text_at(index, spec)),
            Check::Uuid if self.altered & (1 << index) == 0 => Field::Uuid(id::of_lower(raw())),
            Check::Uuid => Field::Uuid(id::parse(raw())),
            Check::Int { min, fallback } => Field::Int(int_of(raw(), min, fallback)),
            Check::Float => Field::Float(number::float(raw())),
        }
    }

    /// The text of a column; empty if it is not text.
    #[inline]
    fn text_at(&self, index: usize, spec: &ColumnSpec) -> &'a str {
        let altered = self.altered & (1 << index) != 0;
        if !altered && matches!(spec.check, Check::Text | Check::Time) {
            return self.ends.text(self.text, index); // Nothing was removed before it.
        }
        self.settled_text(index, spec)
    }

    /// The same of a text that is not written as it came.
    fn settled_text(&self, index: usize, spec: &ColumnSpec) -> &'a str {
        match (spec.check, spec.column, self.user) {
            (Check::Source, ..) => self.kind.name(),
            (Check::Text, Column::UserDirectory, Some([directory, ..])) => directory,
            (Check::Text, Column::UserId, Some([_, id, _])) => id,
            (Check::Text, Column::UserFull, Some([.., whole])) => whole,
            (Check::Text, ..) => text::field(self.whole(index), spec.limit),
            (Check::Time, ..) if self.is_time(index) => self.whole(index),
            _ => "",
        }
    }

    fn is_time(&self, index: usize) -> bool {
        time::is_valid(self.ends.bytes(self.payload.bytes(), index))
    }

    /// The clean text of a column, before it is checked or cut.
    fn whole(&self, index: usize) -> &'a str {
        self.text_ends.as_ref().unwrap_or(&self.ends).text(self.text, index)
    }

    /// Some scheduler events have directory and id in two columns, others in one; as in Butler SOS,
    /// the one is split where the two are empty. It is kept only where it is the one that counts.
    fn settle_user(&mut self) {
        let [directory, id, whole] = USER.map(|column| self.text(column));
        if whole.is_empty() {
            return;
        }
        let mut parts = whole.split('\\');
        let (user, altered) = match (directory.len() + id.len(), parts.next(), parts.next()) {
            (0, Some(directory), Some(id)) => ([directory, id, whole], &USER[..2]),
            _ => ([directory, id, ""], &USER[2..]),
        };
        self.user = Some(user);
        let positions = altered.iter().filter_map(|&column| self.kind.layout().position(column));
        self.altered |= positions.fold(0, |bits, index| bits | 1 << index);
    }
}

/// The columns that [`Event::settle_user`] settles.
const USER: [Column; 3] = [Column::UserDirectory, Column::UserId, Column::UserFull];

/// Indices of the bits that are set.
fn ones(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = (bits != 0).then_some(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(index)
    })
}

/// What the proxy writes before a user agent.
static USER_AGENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("UserAgent:"));

/// What comes before and after the first mark, if there is one.
fn split_at<'a>(text: &'a str, mark: &Finder<'_>) -> Option<(&'a str, &'a str)> {
    let start = mark.find(text.as_bytes())?;
    Some((&text[..start], &text[start + mark.needle().len()..]))
}

/// A field as it came.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What stands in the datagram from the field on, and perhaps in the memory behind it; no shorter
    /// than `len`.
    pub from: &'a [u8],
    /// Length of the field in bytes.
    pub len: usize,
    /// Whether every byte is known to be [plain](is_plain).
    pub plain: bool,
}

/// A user's full name, in parts that are to be written one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserFull<'a> {
    parts: [&'a str; 3],
}

impl<'a> UserFull<'a> {
    /// The parts in their order; some may be empty.
    #[must_use]
    pub fn parts(&self) -> [&'a str; 3] {
        self.parts
    }
}

impl fmt::Display for UserFull<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| formatter.write_str(part))
    }
}

/// Reads one datagram.
///
/// `scratch` is used when text has to be changed (control characters removed, invalid UTF-8
/// replaced); its capacity is kept between calls, so the steady state does not allocate.
pub fn parse<'a>(
    listener: Listener,
    payload: impl Into<Payload<'a>>,
    scratch: &'a mut Vec<u8>,
) -> Result<Event<'a>, ParseError> {
    // Filled in where it lies: moving its hundreds of bytes would cost more than finding the fields.
    let mut result = Ok(Event::unread(payload.into()));
    if let Ok(event) = &mut result
        && let Err(error) = event.read(listener, scratch)
    {
        result = Err(error);
    }
    result
}

/// The kind that the first field names on this port.
///
/// Log events are named exactly, `/qseow-engine/`; user events with or without the slashes at either
/// end (difference 27); both in upper or lower case.
fn kind_of(listener: Listener, source: &[u8]) -> Result<Kind, ParseError> {
    let name = match listener {
        Listener::LogEvents => source.strip_prefix(b"/").and_then(|rest| rest.strip_suffix(b"/")),
        Listener::UserEvents => {
            let name = source.strip_prefix(b"/").unwrap_or(source);
            Some(name.strip_suffix(b"/").unwrap_or(name))
        }
    };
    let is_named = |kind: &Kind| {
        kind.listener() == listener
            && name.is_some_and(|name| name.eq_ignore_ascii_case(kind.name().as_bytes()))
    };
    Kind::ALL.into_iter().find(is_named).ok_or_else(|| {
        if source.contains(&0) { ParseError::Malformed } else { ParseError::UnknownType }
    })
}

fn int_of(raw: &[u8], min: i64, fallback: i64) -> Int {
    match number::int(raw) {
        Some(Int::Value(value)) if value >= min => Int::Value(value),
        // Below any minimum, unless there is none.
        Some(Int::Huge(value)) if value > 0.0 || min == i64::MIN => Int::Huge(value),
        _ => Int::Value(fallback),
    }
}
