//! The values of one event as text, made once however often they are written.
//!
//! An app id stands in a tag, in a field and in `raw_event`; so do others. Numbers and UUIDs are
//! turned into text once, and each text is looked at once for bytes that are special anywhere: most
//! have none and are then copied wherever they go.

use uuid::Uuid;

use super::escape::Anywhere;
use super::plan::{ACTIVITY_SOURCE, APP_NAME, CONTEXT_APP_ID, SLOTS, Slot, USER_AGENT, USER_FULL};
use super::tables::UserAgentPart;
use crate::deliver::json::{self, NUMBER_ROOM};
use crate::deliver::line::{Escape, HEAD, Wide, is_clean};
use crate::enrich::{Enriched, UserAgent};
use crate::event::{COLUMNS_MAX, Column, Event, Field, Int, Listener, Piece};

/// Length of a UUID as text.
const UUID_LENGTH: usize = 36;

/// How often a value is written at most: in a tag, a field and `raw_event`.
const USES: usize = 3;

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) text: Wide<'a>,
    /// Nothing in it is special anywhere.
    pub(super) plain: bool,
    /// A number that a field of InfluxDB can hold.
    pub(super) storable: bool,
}

const EMPTY: Value<'_> = Value { text: Wide::EMPTY, plain: true, storable: false };

/// The values of one event.
#[derive(Debug)]
pub(super) struct Values<'a> {
    slots: [Value<'a>; SLOTS],
    /// The most that all of them can take in a line.
    pub(super) bound: usize,
}

/// Where texts are made that do not stand in the datagram as they are written; kept between events.
#[derive(Debug)]
pub(super) struct Scratch {
    cells: [Cell; SLOTS],
    user_full: String,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { cells: [[0; HEAD]; SLOTS], user_full: String::new() }
    }
}

/// Room for the beginning of a text, or for all of a number or UUID.
type Cell = [u8; HEAD];

const _: () = assert!(NUMBER_ROOM <= HEAD && UUID_LENGTH <= HEAD, "numbers and UUIDs fit a cell");

impl<'a> Values<'a> {
    /// No values.
    pub(super) fn empty() -> Self {
        Self { slots: [EMPTY; SLOTS], bound: 0 }
    }

    /// Reads the values of an event.
    ///
    /// They are filled in where they lie: moving them, in parts of another size than they were
    /// written in, was measured to cost more than all the rest.
    pub(super) fn read(&mut self, enriched: &Enriched<'a>, scratch: &'a mut Scratch) {
        let event = enriched.event;
        let Scratch { cells, user_full } = scratch;
        user_full.clear();
        for part in user_full_parts(event) {
            user_full.push_str(part);
        }
        let (columns, others) = self.slots.split_at_mut(COLUMNS_MAX);
        let (cells, other_cells) = cells.split_at_mut(COLUMNS_MAX);
        for (index, ((value, field), cell)) in
            columns.iter_mut().zip(event.fields()).zip(cells).enumerate()
        {
            match event.as_came(index) {
                Some(piece) => value.set_piece(&piece, field, cell),
                None => value.set(field, cell),
            }
            self.bound += value.bound();
        }
        for ((slot, value), cell) in (COLUMNS_MAX..).zip(others).zip(other_cells) {
            if slot == CONTEXT_APP_ID {
                if let Some(app) = event.context_app_id() {
                    value.set_uuid(&app, cell);
                }
            } else if let Some(text) = beyond_columns(slot, enriched, user_full) {
                value.set_text(text, cell);
            }
            self.bound += value.bound();
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &Value<'a> {
        &self.slots[slot]
    }
}

impl<'a> Value<'a> {
    /// The most that it can take in a line.
    #[inline]
    fn bound(&self) -> usize {
        self.text.bytes().len() * if self.plain { USES } else { Anywhere::EXPANSION }
    }

    #[inline]
    fn set(&mut self, field: &Field<'a>, cell: &'a mut Cell) {
        match field {
            Field::Text(text) => self.set_text(text, cell),
            Field::Uuid(None) => {}
            Field::Uuid(Some(uuid)) => self.set_uuid(uuid, cell),
            Field::Int(number) => {
                self.text = Wide::copied(json::int(*number, &mut [0; NUMBER_ROOM]), cell);
                self.storable = matches!(number, Int::Value(_));
            }
            Field::Float(number) => {
                self.text = Wide::copied(json::float(*number, &mut [0; NUMBER_ROOM]), cell);
                self.storable = number.is_finite();
            }
        }
    }

    #[inline]
    fn set_piece(&mut self, piece: &Piece<'a>, field: &Field<'a>, cell: &'a mut Cell) {
        // Near the end of a datagram there may be nothing behind it.
        self.text = Wide::new(piece.from, piece.len)
            .unwrap_or_else(|| Wide::with_room(&piece.from[..piece.len], cell));
        self.plain = piece.plain;
        self.storable = matches!(field, Field::Int(_) | Field::Float(_));
    }

    #[inline]
    fn set_text(&mut self, text: &'a str, cell: &'a mut Cell) {
        self.text = Wide::with_room(text.as_bytes(), cell);
        self.plain = is_clean::<Anywhere>(text.as_bytes());
    }

    #[inline]
    fn set_uuid(&mut self, uuid: &Uuid, cell: &'a mut Cell) {
        let mut text = [0; UUID_LENGTH];
        self.text = Wide::copied(uuid.hyphenated().encode_lower(&mut text).as_bytes(), cell);
    }
}

/// The text of a slot that is no column, if it has one.
fn beyond_columns<'a>(slot: Slot, enriched: &Enriched<'a>, user_full: &'a str) -> Option<&'a str> {
    match slot {
        USER_FULL => Some(user_full),
        ACTIVITY_SOURCE => {
            Some(if enriched.event.activity_is_user() { "user" } else { "non-user" })
        }
        APP_NAME => enriched.app_name,
        USER_AGENT.. => {
            let part = *UserAgentPart::ALL.get(slot - USER_AGENT)?;
            enriched.user_agent.map(|agent| text_of(agent, part))
        }
        _ => None,
    }
}

fn text_of(agent: &UserAgent, part: UserAgentPart) -> &str {
    match part {
        UserAgentPart::BrowserName => &agent.browser_name,
        UserAgentPart::BrowserMajorVersion => &agent.browser_major_version,
        UserAgentPart::OsName => &agent.os_name,
        UserAgentPart::OsVersion => &agent.os_version,
    }
}

/// The user's full name. For user events Butler SOS joins directory and id even where one of them is
/// empty, though it then does not write the event (difference 8).
fn user_full_parts<'a>(event: &Event<'a>) -> [&'a str; 3] {
    match event.kind().listener() {
        Listener::UserEvents => {
            [event.text(Column::UserDirectory), "\\", event.text(Column::UserId)]
        }
        Listener::LogEvents => event.user_full().map_or([""; 3], |name| name.parts()),
    }
}
