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
use crate::deliver::line::{Escape, is_clean};
use crate::enrich::{Enriched, UserAgent};
use crate::event::{COLUMNS_MAX, Column, Event, Field, Int, Listener};

/// Length of a UUID as text.
const UUID_LENGTH: usize = 36;

/// How often a value is written at most: in a tag, a field and `raw_event`.
const USES: usize = 3;

/// `user` or `non-user`, in a tag and in `raw_event`.
const ACTIVITY_LENGTH: usize = 2 * "non-user".len();

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
        let cells = scratch.cells.iter_mut();
        for ((slot, field), cell) in self.slots.iter_mut().zip(event.fields()).zip(cells) {
            slot.set(field, cell);
            self.bound += slot.bound();
        }
        scratch.user_full.clear();
        for part in user_full_parts(event) {
            scratch.user_full.push_str(part);
        }
        self.set_text(USER_FULL, &scratch.user_full);
        let activity = if event.activity_is_user() { "user" } else { "non-user" };
        self.slots[ACTIVITY_SOURCE].text = activity.as_bytes();
        if let Some(app) = event.context_app_id() {
            self.slots[CONTEXT_APP_ID].set_uuid(&app, &mut scratch.app_id);
        }
        self.bound += ACTIVITY_LENGTH + USES * UUID_LENGTH;
        if let Some(name) = enriched.app_name {
            self.set_text(APP_NAME, name);
        }
        if let Some(agent) = enriched.user_agent {
            for (slot, part) in (USER_AGENT..).zip(UserAgentPart::ALL) {
                self.set_text(slot, text_of(agent, part));
            }
        }
    }

    #[inline]
    fn set_text(&mut self, slot: Slot, text: &'a str) {
        let value = &mut self.slots[slot];
        value.set_text(text);
        self.bound += value.bound();
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
        self.text.len() * if self.plain { USES } else { Anywhere::EXPANSION }
    }

    #[inline]
    fn set(&mut self, field: &Field<'a>, cell: &'a mut Cell) {
        match field {
            Field::Text(text) => self.set_text(text),
            Field::Uuid(None) => {}
            Field::Uuid(Some(uuid)) => self.set_uuid(uuid, cell),
            Field::Int(number) => {
                self.text = json::int(*number, &mut cell.number);
                self.storable = matches!(number, Int::Value(_));
            }
            Field::Float(number) => {
                self.text = json::float(*number, &mut cell.number);
                self.storable = number.is_finite();
            }
        }
    }

    #[inline]
    fn set_text(&mut self, text: &'a str) {
        self.text = text.as_bytes();
        self.plain = is_clean::<Anywhere>(text.as_bytes());
    }

    #[inline]
    fn set_uuid(&mut self, uuid: &Uuid, cell: &'a mut Cell) {
        self.text = uuid.hyphenated().encode_lower(&mut cell.uuid).as_bytes();
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
