//! The tables, made ready for writing.
//!
//! What is the same for every event of a kind (names, separators, constant and configured tags, the
//! keys of `raw_event`) is put together and escaped once, when the encoder is made. What is left is a
//! list of steps: a ready piece of text, then a value.

use super::encode::{EncoderSettings, InfluxVersion};
use super::escape::{TagV1, TagV2, TagV3, TagV3Stripped, without_trailing_backslashes};
use super::tables::{self, Form, Series, TagRow, Value};
use crate::deliver::batch::Buffer;
use crate::deliver::line::{Escape, Line, Literal};
use crate::event::{COLUMNS_MAX, Check, Column, Kind, Listener};

/// What ends a field: `",`.
const FIELD_END: usize = 2;

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
}

/// InfluxDB 1.
#[derive(Debug)]
pub(super) struct V1;

impl Dialect for V1 {
    const VERSION: InfluxVersion = InfluxVersion::V1;
    type Tag = TagV1;
    type Stripped = TagV1;
}

/// InfluxDB 2.
#[derive(Debug)]
pub(super) struct V2;

impl Dialect for V2 {
    const VERSION: InfluxVersion = InfluxVersion::V2;
    type Tag = TagV2;
    type Stripped = TagV2;
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
/// The user's full name.
pub(super) const USER_FULL: Slot = COLUMNS_MAX;
/// Whether a user is behind a performance event.
pub(super) const ACTIVITY_SOURCE: Slot = COLUMNS_MAX + 1;
/// The app that the context of a user event names.
pub(super) const CONTEXT_APP_ID: Slot = COLUMNS_MAX + 2;
/// Nothing, always.
pub(super) const NOTHING: Slot = COLUMNS_MAX + 3;
/// Number of slots.
pub(super) const SLOTS: usize = COLUMNS_MAX + 4;

/// One tag: `,name=` and its value.
#[derive(Debug)]
pub(super) struct TagStep {
    pub(super) literal: Literal,
    pub(super) slot: Slot,
    /// Stands for an empty value; if it is empty too, the tag is left out.
    pub(super) default: Literal,
    pub(super) stripped: bool,
    /// The literal is all there is.
    pub(super) constant: bool,
}

/// One field: `name=` or `name="`, its value, and what ends it.
#[derive(Debug)]
pub(super) struct FieldStep {
    pub(super) literal: Literal,
    pub(super) slot: Slot,
    pub(super) form: Form,
}

/// One member of `raw_event`: what stands between the value before and this one, and the value.
#[derive(Debug)]
pub(super) struct MemberStep {
    pub(super) literal: Literal,
    pub(super) slot: Slot,
}

/// How the events of one kind are written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) measurement: Literal,
    pub(super) tags: Vec<TagStep>,
    pub(super) fields: Vec<FieldStep>,
    pub(super) members: Vec<MemberStep>,
    /// Ends `raw_event`.
    pub(super) members_end: Literal,
    /// The most that all of the above can take, without the values.
    pub(super) bound: usize,
}

impl Plan {
    /// The plan of one kind.
    pub(super) fn new<D: Dialect>(kind: Kind, settings: &EncoderSettings) -> Self {
        let series = tables::of(kind);
        let mut plan = Self {
            measurement: Literal::new(series.measurement.as_bytes()),
            tags: Vec::new(),
            fields: Vec::new(),
            members: Vec::new(),
            members_end: Literal::default(),
            bound: 0,
        };
        plan.add_tags::<D>(kind, &series, settings);
        plan.add_fields::<D>(kind, &series, settings);
        if kind.listener() == Listener::LogEvents {
            plan.add_members(kind);
        }
        plan.bound = plan.longest();
        plan
    }

    fn longest(&self) -> usize {
        let tags = self.tags.iter().map(|step| step.literal.len() + step.default.len());
        let fields = self.fields.iter().map(|step| step.literal.len() + FIELD_END);
        let members = self.members.iter().map(|step| step.literal.len());
        let steps = tags.chain(fields).chain(members).sum::<usize>();
        self.measurement.len() + self.members_end.len() + steps + TIME
    }

    /// Built-in and configured tags, sorted by name, as InfluxDB likes them. Where names collide the
    /// later one wins, and configured tags come after built-in ones.
    fn add_tags<D: Dialect>(&mut self, kind: Kind, series: &Series, settings: &EncoderSettings) {
        let log_row = (kind.listener() == Listener::LogEvents && settings.log_row_tag)
            .then(|| tables::log_row_tag(D::VERSION, kind));
        let mut tags: Vec<(&str, Tag<'_>)> = Vec::new();
        for row in series.tags.iter().chain(&log_row) {
            tags.push((row.name, Tag::BuiltIn(row)));
        }
        for (name, value) in settings.tags(kind.listener()) {
            let name = name.trim_end_matches('\\');
            let value = escaped::<D::Stripped>(value);
            if !name.is_empty() && !value.is_empty() {
                tags.retain(|(earlier, _)| *earlier != name);
                tags.push((name, Tag::Configured(value)));
            }
        }
        tags.sort_by_key(|(name, _)| *name);
        for (name, tag) in tags {
            self.tags.push(tag_step::<D>(kind, name, &tag));
        }
    }

    fn add_fields<D: Dialect>(&mut self, kind: Kind, series: &Series, settings: &EncoderSettings) {
        let log_row = (kind.listener() == Listener::LogEvents && !settings.log_row_tag)
            .then_some(tables::LOG_ROW_FIELD);
        let mut rows: Vec<_> = series
            .fields
            .iter()
            .chain(&log_row)
            .map(|row| (row.names[D::VERSION as usize], row))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        rows.sort_by_key(|(name, _)| *name);
        for (name, row) in rows {
            let quote = if matches!(row.form, Form::Integer | Form::Float) { "" } else { "\"" };
            let literal = Literal::new(format!("{name}={quote}").as_bytes());
            self.fields.push(FieldStep { literal, slot: slot(kind, row.value), form: row.form });
        }
    }

    /// The members of `raw_event`: the columns in their order, then what Butler SOS derives. The app
    /// name of performance events is looked up nowhere yet, and so is empty.
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
        pending.text.push_str("}\",");
        self.members_end = Literal::new(pending.text.as_bytes());
    }

    fn add_member(&mut self, kind: Kind, value: Value, pending: &mut Pending) {
        let literal = Literal::new(pending.text.as_bytes());
        pending.text.clear();
        self.members.push(MemberStep { literal, slot: slot(kind, value) });
    }
}

/// Where the value is found among an event's values.
fn slot(kind: Kind, value: Value) -> Slot {
    match value {
        Value::UserFull | Value::Column(Column::UserFull) => USER_FULL,
        Value::ActivitySource => ACTIVITY_SOURCE,
        Value::ContextAppId => CONTEXT_APP_ID,
        Value::Nothing => NOTHING,
        Value::Column(column) => kind.layout().position(column).unwrap_or(NOTHING),
    }
}

fn tag_step<D: Dialect>(kind: Kind, name: &str, tag: &Tag<'_>) -> TagStep {
    let mut literal = b",".to_vec();
    literal.extend(escaped::<D::Tag>(name));
    literal.push(b'=');
    let constant = match tag {
        Tag::Configured(value) => Some(value.as_slice()),
        Tag::BuiltIn(TagRow { value: Value::Column(Column::Source), .. }) => {
            Some(kind.name().as_bytes())
        }
        Tag::BuiltIn(_) => None,
    };
    literal.extend(constant.unwrap_or_default());
    let (value, default, stripped) = match tag {
        Tag::BuiltIn(row) => (row.value, row.default[D::VERSION as usize], row.stripped),
        Tag::Configured(_) => (Value::Nothing, "", false),
    };
    TagStep {
        literal: Literal::new(&literal),
        slot: slot(kind, value),
        default: Literal::new(default.as_bytes()),
        stripped,
        constant: constant.is_some(),
    }
}

enum Tag<'a> {
    BuiltIn(&'a TagRow),
    /// The value, escaped.
    Configured(Vec<u8>),
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

/// A tag's name or value as it stands in the line.
fn escaped<E: Escape>(text: &str) -> Vec<u8> {
    let mut out = Buffer::default();
    Line::append(&mut out, E::EXPANSION * text.len() + 1, |line| {
        line.text::<E>(without_trailing_backslashes(text.as_bytes()));
    });
    out[..out.len() - 1].to_vec()
}
