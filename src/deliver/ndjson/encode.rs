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

use bytes::BytesMut;
use uuid::Uuid;

use crate::deliver::Encode;
use crate::deliver::json::{self, JsonText, NUMBER_ROOM};
use crate::deliver::line::{Escape, Line};
use crate::event::{Column, Event, Field, Kind, Listener};

/// Length of a UUID as text.
const UUID_LENGTH: usize = 36;

/// The most that a member takes without its text: `,"event_activity_source":""` is the longest, with
/// a number or a UUID.
const MEMBER: usize = 32 + UUID_LENGTH;

/// Members that are not columns, and the braces: `received`, `event_activity_source`, `user_full`,
/// `app_id`.
const DERIVED: usize = 5;

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

    fn encode(&mut self, event: &Event<'_>, received_ns: u64, out: &mut BytesMut) {
        Line::append(out, bound(event), |line| {
            line.bytes(b"{\"received\":\"");
            self.clock.write(received_ns, line);
            line.byte(b'"');
            for (column, field) in event.columns() {
                key(name(event, column), line);
                value(event, column, field, line);
            }
            derived(event, line);
            line.bytes(b"}");
        });
    }
}

/// The longest line that can come out.
fn bound(event: &Event<'_>) -> usize {
    let text = |column| JsonText::EXPANSION * event.text(column).len();
    let columns = event.columns().map(|(column, _)| MEMBER + text(column));
    // The full name may repeat directory and id.
    let user_full = text(Column::UserDirectory) + text(Column::UserId) + text(Column::UserFull);
    columns.sum::<usize>() + user_full + DERIVED * MEMBER
}

fn value(event: &Event<'_>, column: Column, field: Field<'_>, line: &mut Line<'_>) {
    let mut room = [0; NUMBER_ROOM];
    match field {
        _ if column == Column::UserFull => user_full(event, line),
        Field::Text(text) => string(text, line),
        Field::Uuid(id) => uuid(id, line),
        Field::Int(number) => line.bytes(json::int(number, &mut room)),
        Field::Float(number) => line.bytes(json::float(number, &mut room)),
    }
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
        string(if event.activity_is_user() { "user" } else { "non-user" }, line);
    }
    if event.field(Column::UserFull).is_none() {
        key(Column::UserFull.name(), line);
        user_full(event, line);
    }
    if let Some(app) = event.context_app_id() {
        key(Column::AppId.name(), line);
        uuid(Some(app), line);
    }
}

#[inline]
fn key(name: &str, line: &mut Line<'_>) {
    line.bytes(b",\"");
    line.bytes(name.as_bytes());
    line.bytes(b"\":");
}

#[inline]
fn string(text: &str, line: &mut Line<'_>) {
    line.byte(b'"');
    line.text::<JsonText>(text.as_bytes());
    line.byte(b'"');
}

fn uuid(id: Option<Uuid>, line: &mut Line<'_>) {
    line.byte(b'"');
    if let Some(id) = id {
        let mut text = [0; UUID_LENGTH];
        line.bytes(id.hyphenated().encode_lower(&mut text).as_bytes());
    }
    line.byte(b'"');
}

fn user_full(event: &Event<'_>, line: &mut Line<'_>) {
    line.byte(b'"');
    for part in event.user_full().map_or([""; 3], |name| name.parts()) {
        line.text::<JsonText>(part.as_bytes());
    }
    line.byte(b'"');
}

const NS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

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
        use std::fmt::Write as _;
        let (year, month, day) = civil_from_days(self.second / SECONDS_PER_DAY);
        let time = self.second % SECONDS_PER_DAY;
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        self.text.clear();
        // Writing to a `String` does not fail; its capacity is kept.
        let _ =
            write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.");
    }
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    const MARCH_0000_TO_1970: u64 = 719_468;
    let days = days + MARCH_0000_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
