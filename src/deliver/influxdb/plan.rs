//! The tables, made ready for writing.
//!
//! What is the same for every event of a kind (names, separators, constant and configured tags, the
//! keys of `raw_event`) is put together and escaped once, when the encoder is made. What is left is a
//! list of steps: a ready piece of text, then a value.

use super::encode::{EncoderSettings, InfluxVersion};
use super::escape::{
    self, StringField, TagName, TagV3, TagV3Stripped, is_stripped, name_bytes,
    without_trailing_backslashes,
};
use super::tables::{self, FieldRow, Form, Series, TagRow, UserAgentPart, Value};
use super::values::{FILLED, Facts, NEVER, PLAIN, SHORT_PLAIN, STORABLE};
use crate::deliver::batch::Buffer;
use crate::deliver::line::{Escape, Frame, Line};
use crate::event::{COLUMNS_MAX, Check, Column, Kind, Listener};

/// The space before the tags end, the time and the line feed.
const TIME: usize = " 18446744073709551615\n".len() + 1;

/// How one version of InfluxDB has its tags written.
pub(super) trait Dialect {
    /// The version.
    const VERSION: InfluxVersion;
    /// Tags as they are.
    type Tag: Escape;
    /// Tags out of which some characters are taken.
    type Stripped: Escape;

    /// Whether something is left of a text as a [`Dialect::Stripped`] tag.
    fn has_value(text: &str) -> bool {
        text.bytes()
            .any(|byte| byte != b'\\' && !(Self::VERSION == InfluxVersion::V3 && is_stripped(byte)))
    }
}

/// InfluxDB 1.
#[derive(Debug)]
pub(super) struct V1;

impl Dialect for V1 {
    const VERSION: InfluxVersion = InfluxVersion::V1;
    type Tag = escape::Tag;
    type Stripped = escape::Tag;
}

/// InfluxDB 2.
#[derive(Debug)]
pub(super) struct V2;

impl Dialect for V2 {
    const VERSION: InfluxVersion = InfluxVersion::V2;
    type Tag = escape::Tag;
    type Stripped = escape::Tag;
}

/// InfluxDB 3.
#[derive(Debug)]
pub(super) struct V3;

impl Dialect for V3 {
    const VERSION: InfluxVersion = InfluxVersion::V3;
    type Tag = TagV3;
    type Stripped = TagV3Stripped;
}

/// Which of the event's [`Values`] a step writes: the position of a column, or one of these.
///
/// [`Values`]: super::values::Values
pub(super) type Slot = usize;
/// The user's full name, as a tag has it.
pub(super) const USER_FULL: Slot = COLUMNS_MAX;
/// Whether a user is behind a performance event.
pub(super) const ACTIVITY_SOURCE: Slot = COLUMNS_MAX + 1;
/// The app that the context of a user event names.
pub(super) const CONTEXT_APP_ID: Slot = COLUMNS_MAX + 2;
/// The name of the app that the event is about.
pub(super) const APP_NAME: Slot = COLUMNS_MAX + 3;
/// Nothing, always.
pub(super) const NOTHING: Slot = COLUMNS_MAX + 4;
/// The user's full name, as a field has it.
pub(super) const USER_FULL_FIELD: Slot = COLUMNS_MAX + 5;
/// The user's full name, as `raw_event` has it.
pub(super) const USER_FULL_MEMBER: Slot = COLUMNS_MAX + 6;
/// The first of the parts of the user agent.
pub(super) const USER_AGENT: Slot = COLUMNS_MAX + 7;
/// Number of slots.
pub(super) const SLOTS: usize = USER_AGENT + UserAgentPart::COUNT;

/// How a step is written when nothing is unusual about its value, which is nearly always: constant text
/// with the value in it, in a few moves.
#[derive(Debug)]
pub(super) struct Usual {
    pub(super) frame: Frame,
    pub(super) slot: Slot,
    /// What has to be true of the value.
    pub(super) needs: Facts,
}

impl Usual {
    /// Text before and behind a value of which all `needs` are true; too long a text is never usual.
    fn new(before: &[u8], slot: Slot, end: &[u8], needs: Facts) -> Self {
        match Frame::new(before, end) {
            Some(frame) => Self { frame, slot, needs: needs | SHORT_PLAIN },
            None => Self { frame: Frame::EMPTY, slot, needs: NEVER },
        }
    }
}

/// One tag: `,name=` and its value.
#[derive(Debug)]
pub(super) struct TagStep {
    pub(super) usual: Usual,
    pub(super) name: Box<str>,
    pub(super) before: Box<[u8]>,
    /// Stands for an empty value; if it is empty too, the tag is left out.
    pub(super) default: &'static str,
    pub(super) stripped: bool,
    /// What stands before the value is all there is.
    pub(super) constant: bool,
    /// The number 0 counts as empty.
    pub(super) nought_is_empty: bool,
}

/// One field: `name=` or `name="`, its value, and what ends it.
#[derive(Debug)]
pub(super) struct FieldStep {
    pub(super) usual: Usual,
    /// The name of the tag that it would be, had the configuration not made it a field.
    pub(super) instead_of: Option<Box<str>>,
    pub(super) before: Box<[u8]>,
    pub(super) form: Form,
}

impl FieldStep {
    fn new(before: &[u8], slot: Slot, form: Form, instead_of: Option<Box<str>>) -> Self {
        let needs = match form {
            _ if instead_of.is_some() => NEVER,
            Form::Text => PLAIN,
            Form::OptionalText => FILLED,
            Form::Integer | Form::Float => STORABLE,
            Form::IntegerText | Form::RawEvent => NEVER,
        };
        let usual = Usual::new(before, slot, form.end(), needs);
        Self { usual, instead_of, before: before.into(), form }
    }
}

/// One member of `raw_event`: what stands between the value before and this one, and the value.
#[derive(Debug)]
pub(super) struct MemberStep {
    pub(super) usual: Usual,
    pub(super) before: Box<[u8]>,
}

/// How the events of one kind are written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) measurement: &'static str,
    pub(super) tags: Vec<TagStep>,
    pub(super) fields: Vec<FieldStep>,
    pub(super) members: Vec<MemberStep>,
    /// Ends the last of the members.
    pub(super) members_end: Box<[u8]>,
    /// Names that a category cannot have, neither as a tag nor as a field.
    pub(super) taken: Vec<String>,
    /// Names whose categories are fields.
    pub(super) as_fields: Vec<String>,
    /// The most that all of the above can take, without the values.
    pub(super) bound: usize,
}

impl Plan {
    /// The plan of one kind.
    pub(super) fn new<D: Dialect>(kind: Kind, settings: &EncoderSettings) -> Self {
        let series = tables::of(kind);
        let mut plan = Self {
            measurement: series.measurement,
            tags: Vec::new(),
            fields: Vec::new(),
            members: Vec::new(),
            members_end: Box::default(),
            taken: reserved_names::<D>(kind.listener(), settings),
            as_fields: settings.tags_as_fields.iter().map(|name| cleaned(name)).collect(),
            bound: 0,
        };
        plan.add_fields::<D>(kind, &series, settings);
        plan.add_tags::<D>(kind, &series, settings);
        if kind.listener() == Listener::LogEvents {
            plan.add_members(kind);
        }
        plan.bound = plan.longest();
        plan
    }

    fn longest(&self) -> usize {
        let tags = self.tags.iter().map(|step| step.before.len() + step.default.len());
        let fields = self.fields.iter().map(|step| step.before.len() + step.form.end().len());
        let members = self.members.iter().map(|step| step.before.len());
        let steps = tags.chain(fields).chain(members).sum::<usize>();
        self.measurement.len() + self.members_end.len() + steps + TIME
    }

    /// Built-in and configured tags, sorted by name, as InfluxDB likes them. Where names collide the
    /// later one wins, and configured tags come after built-in ones; but nothing takes the name of a
    /// field (see [`reserved_names`]).
    fn add_tags<D: Dialect>(&mut self, kind: Kind, series: &Series, settings: &EncoderSettings) {
        let log_row = (kind.listener() == Listener::LogEvents && settings.log_row_tag)
            .then(|| tables::log_row_tag(D::VERSION, kind));
        let mut tags: Vec<(String, Tag<'_>)> = Vec::new();
        for row in series.tags.iter().chain(&log_row) {
            tags.push((row.name.to_owned(), Tag::BuiltIn(row)));
        }
        let reserved = self.taken.len();
        for (name, value) in settings.tags(kind.listener()) {
            let name = cleaned(name);
            if !name.is_empty() && D::has_value(value) && !self.taken[..reserved].contains(&name) {
                tags.retain(|(earlier, _)| *earlier != name);
                self.taken.push(name.clone());
                tags.push((name, Tag::Configured(value)));
            }
        }
        tags.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, tag) in tags {
            if self.as_fields.contains(&name) {
                self.add_tag_as_field::<D>(kind, series, name, &tag);
            } else {
                self.tags.push(tag_step::<D>(kind, name, &tag));
            }
        }
    }

    /// A tag that becomes a field. Where there is a field of that name, which then holds the same,
    /// there is nothing to add.
    fn add_tag_as_field<D: Dialect>(
        &mut self,
        kind: Kind,
        series: &Series,
        name: String,
        tag: &Tag<'_>,
    ) {
        if series.fields.iter().any(|row| row.names[D::VERSION as usize] == name) {
            return;
        }
        let mut literal = escaped::<TagName>(name.as_bytes());
        literal.extend(b"=\"");
        let (slot, form) = match tag {
            Tag::BuiltIn(row) => (field_slot(kind, row.value), Form::OptionalText),
            Tag::Configured(value) => {
                literal.extend(escaped::<StringField>(value.as_bytes()));
                (NOTHING, Form::Text)
            }
        };
        self.fields.push(FieldStep::new(&literal, slot, form, Some(name.into())));
    }

    fn add_fields<D: Dialect>(&mut self, kind: Kind, series: &Series, settings: &EncoderSettings) {
        let log_row = (kind.listener() == Listener::LogEvents && !settings.log_row_tag)
            .then_some(tables::LOG_ROW_FIELD);
        let mut rows: Vec<_> = named::<D>(series.fields.iter().chain(&log_row)).collect();
        rows.sort_by_key(|(name, _)| *name);
        for (name, row) in rows {
            let quote = if matches!(row.form, Form::Integer | Form::Float) { "" } else { "\"" };
            let before = format!("{name}={quote}");
            let slot = field_slot(kind, row.value);
            self.fields.push(FieldStep::new(before.as_bytes(), slot, row.form, None));
        }
    }

    /// The members of `raw_event`: the columns in their order, then what Butler SOS derives. The
    /// categories come last, when the event is known.
    fn add_members(&mut self, kind: Kind) {
        let mut pending = Pending { text: "{".to_owned(), quoted: false };
        for spec in kind.layout().columns() {
            pending
                .key(spec.column.name(), !matches!(spec.check, Check::Int { .. } | Check::Float));
            match spec.column {
                Column::Source => pending.text.push_str(kind.name()),
                column => self.add_member(kind, Value::Column(column), &mut pending),
            }
            if kind == Kind::QixPerf && spec.column == Column::AppId {
                pending.key(Column::AppName.name(), true);
                self.add_member(kind, Value::AppName, &mut pending);
            }
        }
        if kind == Kind::QixPerf {
            pending.key("event_activity_source", true);
            self.add_member(kind, Value::ActivitySource, &mut pending);
        }
        if kind.layout().position(Column::UserFull).is_none() {
            pending.key(Column::UserFull.name(), true);
            self.add_member(kind, Value::UserFull, &mut pending);
        }
        pending.end_value();
        self.members_end = pending.text.into_bytes().into();
    }

    fn add_member(&mut self, kind: Kind, value: Value, pending: &mut Pending) {
        let before = std::mem::take(&mut pending.text).into_bytes();
        let slot = match slot(kind, value) {
            USER_FULL => USER_FULL_MEMBER,
            slot => slot,
        };
        let usual = Usual::new(&before, slot, b"", PLAIN);
        self.members.push(MemberStep { usual, before: before.into() });
    }
}

/// Where a field's value is found among an event's values.
fn field_slot(kind: Kind, value: Value) -> Slot {
    match slot(kind, value) {
        USER_FULL => USER_FULL_FIELD,
        slot => slot,
    }
}

/// Where a tag's value is found among an event's values.
fn slot(kind: Kind, value: Value) -> Slot {
    match value {
        Value::UserFull | Value::Column(Column::UserFull) => USER_FULL,
        Value::ActivitySource => ACTIVITY_SOURCE,
        Value::ContextAppId => CONTEXT_APP_ID,
        Value::AppName => APP_NAME,
        Value::UserAgent(part) => USER_AGENT + part as usize,
        Value::Nothing => NOTHING,
        Value::Column(column) => kind.layout().position(column).unwrap_or(NOTHING),
    }
}

fn tag_step<D: Dialect>(kind: Kind, name: String, tag: &Tag<'_>) -> TagStep {
    let mut before = b",".to_vec();
    before.extend(escaped::<TagName>(name.as_bytes()));
    before.push(b'=');
    let constant = match tag {
        Tag::Configured(value) => {
            Some(escaped::<D::Stripped>(without_trailing_backslashes(value.as_bytes())))
        }
        Tag::BuiltIn(TagRow { value: Value::Column(Column::Source), .. }) => {
            Some(kind.name().as_bytes().to_vec())
        }
        Tag::BuiltIn(_) => None,
    };
    before.extend(constant.iter().flatten());
    let (value, default, stripped) = match tag {
        Tag::BuiltIn(row) => (row.value, row.default[D::VERSION as usize], row.stripped),
        Tag::Configured(_) => (Value::Nothing, "", false),
    };
    // Versions 2 and 3 of Butler SOS take the number 0 for empty.
    let is_number = matches!(value, Value::Column(column) if is_number(kind, column));
    let nought_is_empty = is_number && D::VERSION != InfluxVersion::V1;
    let needs = match (constant.is_some(), nought_is_empty) {
        (true, _) => PLAIN,
        (false, true) => NEVER,
        (false, false) => FILLED,
    };
    TagStep {
        usual: Usual::new(&before, slot(kind, value), b"", needs),
        name: name.into(),
        before: before.into(),
        default,
        stripped,
        constant: constant.is_some(),
        nought_is_empty,
    }
}

fn is_number(kind: Kind, column: Column) -> bool {
    let columns = kind.layout().columns();
    let mut checks = columns.iter().filter(|spec| spec.column == column).map(|spec| spec.check);
    checks.any(|check| matches!(check, Check::Int { .. } | Check::Float))
}

enum Tag<'a> {
    BuiltIn(&'a TagRow),
    /// The value.
    Configured(&'a str),
}

/// The names of fields that configured tags and categories must not have, over all kinds of a
/// listener, because they share a measurement.
///
/// `InfluxDB` 3 refuses a line with a tag and a field of one name. The others take it, but none takes a
/// field that is a string here and a number there, so what is to become a field must not have the name
/// of one either.
pub(super) fn reserved_names<D: Dialect>(
    listener: Listener,
    settings: &EncoderSettings,
) -> Vec<String> {
    let log_row = (listener == Listener::LogEvents).then_some(tables::LOG_ROW_FIELD);
    let series = Kind::ALL.into_iter().filter(|kind| kind.listener() == listener).map(tables::of);
    let mut names: Vec<String> = series
        .flat_map(|series| named::<D>(series.fields.iter()))
        .chain(named::<D>(log_row.iter()))
        .map(|(name, _)| name.to_owned())
        .collect();
    if D::VERSION != InfluxVersion::V3 {
        let becomes_field =
            |name: &String| settings.tags_as_fields.iter().any(|tag| cleaned(tag) == *name);
        names.retain(becomes_field);
    }
    names.sort();
    names.dedup();
    names
}

/// The fields that a version has, with their names.
fn named<'r, D: Dialect>(
    rows: impl Iterator<Item = &'r FieldRow>,
) -> impl Iterator<Item = (&'static str, &'r FieldRow)> {
    rows.map(|row| (row.names[D::VERSION as usize], row)).filter(|(name, _)| !name.is_empty())
}

/// A configured name without what is not written of it.
pub(super) fn cleaned(name: &str) -> String {
    // What is taken out are whole characters of one byte, so text stays text.
    String::from_utf8(name_bytes(name).collect()).unwrap_or_default()
}

/// Text of `raw_event` between two values that change.
struct Pending {
    text: String,
    /// Whether the value before is a string that is still open.
    quoted: bool,
}

impl Pending {
    fn end_value(&mut self) {
        if std::mem::take(&mut self.quoted) {
            self.text.push_str("\\\"");
        }
    }

    fn key(&mut self, key: &str, quoted: bool) {
        self.end_value();
        if self.text != "{" {
            self.text.push(',');
        }
        self.text.push_str("\\\"");
        self.text.push_str(key);
        self.text.push_str(if quoted { "\\\":\\\"" } else { "\\\":" });
        self.quoted = quoted;
    }
}

/// A configured text as it stands in the line.
fn escaped<E: Escape>(text: &[u8]) -> Vec<u8> {
    let mut out = Buffer::default();
    Line::append(&mut out, E::EXPANSION * text.len() + 1, |line| line.text::<E>(text));
    out[..out.len() - 1].to_vec()
}
