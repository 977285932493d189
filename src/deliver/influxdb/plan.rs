//! The tables, made ready for writing.
//!
//! What is the same for every event of a kind (names, separators, constant and configured tags, the
//! keys of `raw_event`) is put together and escaped once, when the encoder is made. What is left is a
//! list of steps: a ready piece of text, then a value.

use bytes::BytesMut;

use super::encode::{EncoderSettings, InfluxVersion};
use super::escape::{TagV1, TagV2, TagV3, TagV3Stripped, without_trailing_backslashes};
use super::tables::{self, Form, Series, TagRow, Value};
use crate::deliver::line::{Escape, Line, Literal, Literals};
use crate::event::{Check, Column, Kind, Listener};

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

/// Where a step gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere: the literal is all there is, or the tag is always its default.
    Nothing,
    /// A text column.
    Text(Column),
    /// An integer column.
    Int(Column),
    /// A float column.
    Float(Column),
    /// One of [`Plan::uuids`].
    Uuid(usize),
    /// The user's full name.
    UserFull,
    /// Whether a user is behind a performance event.
    ActivitySource,
}

/// Where a UUID that is written several times comes from; its text is made once per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UuidSource {
    /// A column.
    Column(Column),
    /// The context of a user event.
    Context,
}

/// One tag: `,name=` and its value.
#[derive(Debug)]
pub(super) struct TagStep {
    pub(super) literal: Literal,
    pub(super) source: Source,
    /// Stands for an empty value; if it is empty too, the tag is left out.
    pub(super) default: Literal,
    pub(super) stripped: bool,
}

/// One field: `name=` or `name="`, its value, and a comma.
#[derive(Debug)]
pub(super) struct FieldStep {
    pub(super) literal: Literal,
    pub(super) source: Source,
    pub(super) form: Form,
}

/// One member of `raw_event`: what stands between the value before and this one, and the value.
#[derive(Debug)]
pub(super) struct MemberStep {
    pub(super) literal: Literal,
    pub(super) source: Source,
}

/// How the events of one kind are written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) literals: Literals,
    pub(super) measurement: Literal,
    pub(super) tags: Vec<TagStep>,
    pub(super) fields: Vec<FieldStep>,
    pub(super) members: Vec<MemberStep>,
    /// Ends `raw_event`.
    pub(super) members_end: Literal,
    pub(super) uuids: Vec<UuidSource>,
}

impl Plan {
    /// The plan of one kind.
    pub(super) fn new<D: Dialect>(kind: Kind, settings: &EncoderSettings) -> Self {
        let series = tables::of(kind);
        let mut plan = Self {
            literals: Literals::default(),
            measurement: Literal::default(),
            tags: Vec::new(),
            fields: Vec::new(),
            members: Vec::new(),
            members_end: Literal::default(),
            uuids: Vec::new(),
        };
        plan.measurement = plan.literals.add(series.measurement.as_bytes());
        plan.add_tags::<D>(kind, &series, settings);
        plan.add_fields::<D>(kind, &series, settings);
        if kind.listener() == Listener::LogEvents {
            plan.add_members(kind);
        }
        plan
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
            let name = without_trailing_backslashes(name);
            let value = escaped::<D::Stripped>(value);
            if !name.is_empty() && !value.is_empty() {
                tags.retain(|(earlier, _)| *earlier != name);
                tags.push((name, Tag::Configured(value)));
            }
        }
        tags.sort_by_key(|(name, _)| *name);
        for (name, tag) in tags {
            let step = self.tag_step::<D>(kind, name, &tag);
            self.tags.push(step);
        }
    }

    fn tag_step<D: Dialect>(&mut self, kind: Kind, name: &str, tag: &Tag<'_>) -> TagStep {
        let mut literal = b",".to_vec();
        literal.extend(escaped::<D::Tag>(name));
        literal.push(b'=');
        let (source, default, stripped) = match tag {
            Tag::Configured(value) => {
                literal.extend(value);
                (Source::Nothing, "", false)
            }
            Tag::BuiltIn(TagRow { value: Value::Column(Column::Source), .. }) => {
                literal.extend(kind.name().as_bytes());
                (Source::Nothing, "", false)
            }
            Tag::BuiltIn(row) => {
                let source = self.source(kind, row.value);
                (source, row.default[D::VERSION as usize], row.stripped)
            }
        };
        TagStep {
            literal: self.literals.add(&literal),
            source,
            default: self.literals.add(default.as_bytes()),
            stripped,
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
            let literal = self.literals.add(format!("{name}={quote}").as_bytes());
            let source = self.source(kind, row.value);
            self.fields.push(FieldStep { literal, source, form: row.form });
        }
    }

    /// The members of `raw_event`: the columns in their order, then what Butler SOS derives. The app
    /// name of performance events is looked up nowhere yet, and so is empty.
    fn add_members(&mut self, kind: Kind) {
        let mut pending = Pending { text: "{".to_owned(), quoted: false };
        for spec in kind.layout().columns() {
            pending.key(spec.column.name(), !matches!(spec.check, Check::Int { .. } | Check::Float));
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
        self.members_end = self.literals.add(pending.text.as_bytes());
    }

    fn add_member(&mut self, kind: Kind, value: Value, pending: &mut Pending) {
        let literal = self.literals.add(pending.text.as_bytes());
        pending.text.clear();
        let source = self.source(kind, value);
        self.members.push(MemberStep { literal, source });
    }

    /// Where the value of a kind comes from, by the check of its column.
    fn source(&mut self, kind: Kind, value: Value) -> Source {
        let column = match value {
            Value::UserFull | Value::Column(Column::UserFull) => return Source::UserFull,
            Value::ActivitySource => return Source::ActivitySource,
            Value::ContextAppId => return self.uuid(UuidSource::Context),
            Value::Nothing => return Source::Nothing,
            Value::Column(column) => column,
        };
        let specs = kind.layout().columns();
        match kind.layout().position(column).map(|position| specs[position].check) {
            None => Source::Nothing,
            Some(Check::Source | Check::Text | Check::Time) => Source::Text(column),
            Some(Check::Uuid) => self.uuid(UuidSource::Column(column)),
            Some(Check::Int { .. }) => Source::Int(column),
            Some(Check::Float) => Source::Float(column),
        }
    }

    fn uuid(&mut self, uuid: UuidSource) -> Source {
        let known = self.uuids.iter().position(|known| *known == uuid);
        Source::Uuid(known.unwrap_or_else(|| {
            self.uuids.push(uuid);
            self.uuids.len() - 1
        }))
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
    let mut out = BytesMut::new();
    let mut line = Line::begin(&mut out, 2 * text.len());
    let start = line.mark();
    line.text::<E>(without_trailing_backslashes(text));
    line.since(start).to_vec()
}
