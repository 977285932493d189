//! The values of one event as text, made once however often they are written.
//!
//! An app id stands in a tag, in a field and in `raw_event`; so do others. What passed as it came is
//! written from where it lies in the datagram. Numbers and UUIDs in another notation than ours are
//! turned into text once, and each text is looked at once for bytes that are special anywhere: most
//! have none and are then copied wherever they go.

use uuid::Uuid;

use super::escape::Anywhere;
use super::plan::{
    ACTIVITY_SOURCE, APP_NAME, CONTEXT_APP_ID, SLOTS, Slot, USER_AGENT, USER_FULL, USER_FULL_FIELD,
    USER_FULL_MEMBER,
};
use super::tables::UserAgentPart;
use crate::deliver::json::{self, NUMBER_ROOM, UUID_LENGTH};
use crate::deliver::line::{Escape, HEAD, SHORT, head_of, is_clean};
use crate::enrich::{Enriched, UserAgent};
use crate::event::{COLUMNS_MAX, Check, Column, Event, Field, Int, Listener, Piece};

/// How often a value is written at most: in a tag, a field and `raw_event`.
const USES: usize = 3;

/// What is known of a value, one bit for each fact.
pub(super) type Facts = u8;
/// Nothing in it is special anywhere.
pub(super) const PLAIN: Facts = 1;
/// It is plain and no longer than its head.
pub(super) const SHORT_PLAIN: Facts = 2;
/// It is not empty.
pub(super) const FILLED: Facts = 4;
/// A number that a field of InfluxDB can hold.
pub(super) const STORABLE: Facts = 8;
/// True of none.
pub(super) const NEVER: Facts = 16;

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) bytes: &'a [u8],
    /// It begins with as much of the value as it can hold.
    pub(super) head: &'a [u8; HEAD],
    pub(super) facts: Facts,
}

const EMPTY: Value<'_> = Value { bytes: &[], head: &[0; HEAD], facts: PLAIN | SHORT_PLAIN };

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
    columns: [Cell; COLUMNS_MAX],
    app_name: Cell,
    app_id: Cell,
    user_agent: [Cell; UserAgentPart::COUNT],
    user_full: NameRoom,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            columns: [[0; SHORT]; COLUMNS_MAX],
            app_name: [0; SHORT],
            app_id: [0; SHORT],
            user_agent: [[0; SHORT]; UserAgentPart::COUNT],
            user_full: NameRoom::default(),
        }
    }
}

/// Room for the beginning of a text, or for all of a number or UUID.
type Cell = [u8; SHORT];

const _: () = assert!(NUMBER_ROOM <= HEAD && UUID_LENGTH <= HEAD, "numbers and UUIDs fit a cell");

/// Room for the user's full name.
#[derive(Debug)]
struct NameRoom {
    joined: [Joined; SEPARATORS.len()],
    /// A name that does not fit there, or has more to escape than what separates its parts.
    text: String,
    head: Cell,
}

impl Default for NameRoom {
    fn default() -> Self {
        Self {
            joined: <[Joined; SEPARATORS.len()]>::default(),
            text: String::new(),
            head: [0; SHORT],
        }
    }
}

/// Room for two heads with a separator between.
#[derive(Debug)]
struct Joined([u8; 2 * HEAD + SEPARATOR]);

impl Default for Joined {
    fn default() -> Self {
        Self([0; 2 * HEAD + SEPARATOR])
    }
}

/// What stands between directory and id of a user: `\`, in the places where names are written.
const SEPARATORS: [(Slot, &[u8; SEPARATOR], usize); 3] = [
    // InfluxDB takes it literally, unless a delimiter comes next.
    (USER_FULL, br"\   ", 1),
    (USER_FULL_FIELD, br"\\  ", 2),
    // Escaped for JSON, and that for the field.
    (USER_FULL_MEMBER, br"\\\\", 4),
];

/// Length of the longest.
const SEPARATOR: usize = 4;

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
        let Scratch { columns, app_name, app_id, user_agent, user_full } = scratch;
        // The first column is the source, which stands in the plan.
        let ([_, values @ ..], [_, cells @ ..]) = (&mut self.slots, columns);
        let specs = event.kind().layout().columns().split_first().map_or(&[][..], |split| split.1);
        let mut bound = 0;
        for (index, ((spec, value), cell)) in specs.iter().zip(values).zip(cells).enumerate() {
            match event.as_came(index + 1) {
                Some(piece) => value.set_piece(&piece, spec.check, cell),
                None => value.set_anew(&event.at(index + 1), cell),
            }
            bound += value.bound();
        }
        self.bound = bound;
        self.read_user_full(event, user_full);
        self.slots[ACTIVITY_SOURCE] = if event.activity_is_user() { USER } else { NON_USER };
        if let Some(name) = enriched.app_name {
            self.slots[APP_NAME].set_text(name, app_name);
        }
        if let Some(app) = event.context_app_id() {
            self.slots[CONTEXT_APP_ID].set_uuid(&app, app_id);
        }
        if let Some(agent) = enriched.user_agent {
            let values = self.slots[USER_AGENT..].iter_mut().zip(user_agent);
            for ((value, cell), part) in values.zip(UserAgentPart::ALL) {
                value.set_text(text_of(agent, part), cell);
            }
        }
        for value in &self.slots[COLUMNS_MAX..] {
            self.bound += value.bound();
        }
    }

    /// The name, escaped for each place where it is written; or, if there is more to escape than its
    /// `\`, left to be escaped there.
    fn read_user_full(&mut self, event: &Event<'a>, scratch: &'a mut NameRoom) {
        let NameRoom { joined, text, head } = scratch;
        let column = |column| event.kind().layout().position(column);
        if event.text(Column::UserFull).is_empty()
            && let Some(directory) = column(Column::UserDirectory).map(|index| self.slots[index])
            && let Some(id) = column(Column::UserId).map(|index| self.slots[index])
            && directory.facts & id.facts & (SHORT_PLAIN | FILLED) == SHORT_PLAIN | FILLED
            && directory.bytes.len() + SEPARATOR + id.bytes.len() <= HEAD
        {
            for ((slot, separator, length), room) in SEPARATORS.into_iter().zip(joined) {
                self.slots[slot].set_joined(&directory, (separator, length), &id, room);
            }
            return;
        }
        text.clear();
        for part in user_full_parts(event) {
            text.push_str(part);
        }
        let mut name = EMPTY;
        name.set_text(text, head);
        for (slot, ..) in SEPARATORS {
            self.slots[slot] = name;
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &Value<'a> {
        &self.slots[slot]
    }
}

impl<'a> Value<'a> {
    /// Whether all of these are true of it.
    #[inline]
    pub(super) fn is(&self, facts: Facts) -> bool {
        self.facts & facts == facts
    }

    /// The most that it can take in a line.
    #[inline]
    fn bound(&self) -> usize {
        self.bytes.len() * if self.is(PLAIN) { USES } else { Anywhere::EXPANSION }
    }

    /// Few values differ from how they came.
    #[cold]
    #[inline(never)]
    fn set_anew(&mut self, field: &Field<'a>, cell: &'a mut Cell) {
        match field {
            Field::Text(text) => self.set_text(text, cell),
            Field::Uuid(None) => {}
            Field::Uuid(Some(uuid)) => self.set_uuid(uuid, cell),
            Field::Int(number) => {
                let storable = matches!(number, Int::Value(_));
                self.set_number(json::int(*number, &mut [0; NUMBER_ROOM]), storable, cell);
            }
            Field::Float(number) => {
                let storable = number.is_finite();
                self.set_number(json::float(*number, &mut [0; NUMBER_ROOM]), storable, cell);
            }
        }
    }

    #[inline]
    fn set_piece(&mut self, piece: &Piece<'a>, check: Check, cell: &'a mut Cell) {
        let is_number = matches!(check, Check::Int { .. } | Check::Float);
        self.bytes = &piece.from[..piece.len];
        // Near the end of a datagram there may be nothing behind it.
        self.head = piece.from.first_chunk().unwrap_or_else(|| head_of(self.bytes, cell));
        self.facts = facts(piece.len, piece.plain) | if is_number { STORABLE } else { 0 };
    }

    #[inline]
    fn set_text(&mut self, text: &'a str, cell: &'a mut Cell) {
        self.bytes = text.as_bytes();
        self.head = head_of(self.bytes, cell);
        self.facts = facts(text.len(), is_clean::<Anywhere>(text.as_bytes()));
    }

    #[inline]
    fn set_uuid(&mut self, uuid: &Uuid, cell: &'a mut Cell) {
        let mut text = [0; UUID_LENGTH];
        self.set_copy(uuid.hyphenated().encode_lower(&mut text).as_bytes(), cell);
    }

    #[inline]
    fn set_number(&mut self, text: &[u8], storable: bool, cell: &'a mut Cell) {
        self.set_copy(text, cell);
        self.facts |= if storable { STORABLE } else { 0 };
    }

    /// A plain text that fits the cell.
    #[inline]
    fn set_copy(&mut self, text: &[u8], cell: &'a mut Cell) {
        self.head = head_of(text, cell);
        self.bytes = &self.head[..text.len()];
        self.facts = facts(text.len(), true);
    }

    #[inline]
    fn set_joined(
        &mut self,
        first: &Value<'_>,
        (separator, length): (&[u8; SEPARATOR], usize),
        second: &Value<'_>,
        Joined(room): &'a mut Joined,
    ) {
        let at = first.bytes.len();
        room[..HEAD].copy_from_slice(first.head);
        room[at..at + SEPARATOR].copy_from_slice(separator);
        room[at + length..][..HEAD].copy_from_slice(second.head);
        self.head = room.first_chunk().unwrap_or(EMPTY.head);
        self.bytes = &self.head[..at + length + second.bytes.len()];
        // Written as it is, wherever it is written.
        self.facts = facts(self.bytes.len(), true);
    }
}

#[inline]
fn facts(length: usize, plain: bool) -> Facts {
    let is_short = plain && length <= HEAD;
    let fact = |is_so: bool, fact: Facts| u8::from(is_so) * fact;
    fact(plain, PLAIN) | fact(is_short, SHORT_PLAIN) | fact(length > 0, FILLED)
}

const USER: Value<'_> = constant(b"user", &padded(b"user"));
const NON_USER: Value<'_> = constant(b"non-user", &padded(b"non-user"));

const fn constant<'a>(text: &'a [u8], head: &'a [u8; HEAD]) -> Value<'a> {
    Value { bytes: text, head, facts: PLAIN | SHORT_PLAIN | FILLED }
}

const fn padded(text: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head.split_at_mut(text.len()).0.copy_from_slice(text);
    head
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
