//! The values of one event as text, made once however often they are written.
//!
//! An app id stands in a tag, in a field and in `raw_event`; so do others. Numbers and UUIDs are
//! turned into text once, and each text is looked at once for bytes that are special anywhere: most
//! have none and are then copied wherever they go.

use super::escape::Anywhere;
use super::plan::{ACTIVITY_SOURCE, CONTEXT_APP_ID, SLOTS, Slot, USER_FULL};
use crate::deliver::json::{self, NUMBER_ROOM};
use crate::deliver::line::{Escape, is_clean};
use crate::event::{COLUMNS_MAX, Column, Event, Field, Int, Listener};

/// Length of a UUID as text.
const UUID_LENGTH: usize = 36;

/// How often a value is written at most: in a tag, a field and `raw_event`.
const USES: usize = 3;

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) text: &'a [u8],
    /// Nothing in it is special anywhere.
    pub(super) plain: bool,
    /// A number that a field of InfluxDB can hold.
    pub(super) storable: bool,
}

const EMPTY: Value<'_> = Value { text: b"", plain: true, storable: false };

/// The values of one event.
#[derive(Debug)]
pub(super) struct Values<'a> {
    slots: [Value<'a>; SLOTS],
    /// The most that all of them can take in a line.
    pub(super) bound: usize,
}

/// Where the texts of numbers, UUIDs and the full name are made; kept between events.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    cells: [Cell; COLUMNS_MAX],
    app_id: Cell,
    user_full: String,
}

#[derive(Debug)]
struct Cell {
    number: [u8; NUMBER_ROOM],
    uuid: [u8; UUID_LENGTH],
}

impl Default for Cell {
    fn default() -> Self {
        Self { number: [0; NUMBER_ROOM], uuid: [0; UUID_LENGTH] }
    }
}

impl<'a> Values<'a> {
    /// Reads the values of an event.
    pub(super) fn new(event: &'a Event<'a>, scratch: &'a mut Scratch) -> Self {
        let mut values = Self { slots: [EMPTY; SLOTS], bound: 0 };
        let cells = scratch.cells.iter_mut();
        for ((slot, (_, field)), cell) in values.slots.iter_mut().zip(event.columns()).zip(cells) {
            *slot = value(field, cell);
            values.bound += slot.bound();
        }
        let user_full = &mut scratch.user_full;
        user_full.clear();
        for part in user_full_parts(event) {
            user_full.push_str(part);
        }
        values.set(USER_FULL, Value::of_text(user_full));
        let activity = if event.activity_is_user() { "user" } else { "non-user" };
        values.set(ACTIVITY_SOURCE, Value { text: activity.as_bytes(), ..EMPTY });
        values.set(CONTEXT_APP_ID, value(Field::Uuid(event.context_app_id()), &mut scratch.app_id));
        values
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Value<'a> {
        self.slots[slot]
    }

    fn set(&mut self, slot: Slot, value: Value<'a>) {
        self.slots[slot] = value;
        self.bound += value.bound();
    }
}

impl<'a> Value<'a> {
    #[inline]
    fn of_text(text: &'a str) -> Self {
        let text = text.as_bytes();
        Self { text, plain: is_clean::<Anywhere>(text), storable: false }
    }

    /// The most that it can take in a line.
    fn bound(&self) -> usize {
        self.text.len() * if self.plain { USES } else { Anywhere::EXPANSION }
    }
}

#[inline]
fn value<'a>(field: Field<'a>, cell: &'a mut Cell) -> Value<'a> {
    match field {
        Field::Text(text) => Value::of_text(text),
        Field::Uuid(None) => EMPTY,
        Field::Uuid(Some(uuid)) => {
            let text = uuid.hyphenated().encode_lower(&mut cell.uuid).as_bytes();
            Value { text, plain: true, storable: false }
        }
        Field::Int(number) => Value {
            text: json::int(number, &mut cell.number),
            plain: true,
            storable: matches!(number, Int::Value(_)),
        },
        Field::Float(number) => Value {
            text: json::float(number, &mut cell.number),
            plain: true,
            storable: number.is_finite(),
        },
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
