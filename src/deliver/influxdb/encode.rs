//! From a borrowed event to a line of InfluxDB's line protocol, for InfluxDB 1, 2 and 3.
//!
//! One event is one line: measurement, tags, fields, the receive time in nanoseconds. The series are
//! those of Butler SOS (`tables`), prepared once (`plan`); per event nothing is
//! left but copying ready pieces and values into the batch. Log events carry themselves as JSON in
//! the field `raw_event`, so most bytes are escaped twice; that is done in one pass.
//!
//! No text of an event, whatever it holds, can end a line, a tag or a string early.
//!
//! Envelope: 350 ns for a 372-byte performance event, which becomes a line of 1.6 KB.

use super::categories::{Categories, Places};
use super::escape::{RawEventText, StringField, without_trailing_backslashes};
use super::plan::{self, Dialect, FieldStep, Plan, RAW_EVENT_END, TagStep, V1, V2, V3};
use super::tables::Form;
use super::values::{Scratch, Value, Values};
use crate::deliver::Encode;
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, NUMBER_ROOM};
use crate::deliver::line::Line;
use crate::enrich::Enriched;
use crate::event::{Event, Kind, Listener};

/// The versions of InfluxDB whose series Butler SOS writes differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InfluxVersion {
    /// InfluxDB 1.x.
    V1,
    /// InfluxDB 2.x.
    V2,
    /// InfluxDB 3.x.
    V3,
}

impl InfluxVersion {
    /// Number of versions.
    pub const COUNT: usize = 3;
}

/// What an [`Encoder`] has to know.
#[derive(Clone, Debug)]
pub struct EncoderSettings {
    /// Whose series to write.
    pub version: InfluxVersion,
    /// Tags for every user event, as name and value (`userEvents.tags`).
    pub user_tags: Vec<(String, String)>,
    /// Tags for every log event (`logEvents.tags`).
    pub log_tags: Vec<(String, String)>,
    /// Names of tags that are written as string fields instead (`ringside.tagsAsFields`). Categories
    /// of these names too.
    pub tags_as_fields: Vec<String>,
    /// Write the row number as the tag `log_row`, as Butler SOS does, instead of as the field
    /// `log_row_field` (difference 13).
    pub log_row_tag: bool,
    /// Which kinds are wanted, in the order of [`Kind::ALL`].
    pub kinds: [bool; Kind::COUNT],
}

impl EncoderSettings {
    pub(super) fn tags(&self, listener: Listener) -> &[(String, String)] {
        match listener {
            Listener::UserEvents => &self.user_tags,
            Listener::LogEvents => &self.log_tags,
        }
    }

    /// Names of configured tags that are left out, because a field has the name; for a warning.
    #[must_use]
    pub fn tags_left_out(&self) -> Vec<&str> {
        let reserved = match self.version {
            InfluxVersion::V1 => plan::reserved_names::<V1>,
            InfluxVersion::V2 => plan::reserved_names::<V2>,
            InfluxVersion::V3 => plan::reserved_names::<V3>,
        };
        let mut left_out = Vec::new();
        for listener in Listener::ALL {
            let reserved = reserved(listener, self);
            let names = self.tags(listener).iter().map(|(name, _)| name.as_str());
            left_out.extend(names.filter(|name| reserved.contains(&plan::cleaned(name))));
        }
        left_out
    }
}

/// Writes events as line protocol.
#[derive(Debug)]
pub struct Encoder {
    version: InfluxVersion,
    kinds: [bool; Kind::COUNT],
    /// In the order of [`Kind::ALL`].
    plans: Vec<Plan>,
    scratch: Scratch,
    places: Places,
}

impl Encoder {
    /// Prepares an encoder.
    #[must_use]
    pub fn new(settings: &EncoderSettings) -> Self {
        let plan = match settings.version {
            InfluxVersion::V1 => Plan::new::<V1>,
            InfluxVersion::V2 => Plan::new::<V2>,
            InfluxVersion::V3 => Plan::new::<V3>,
        };
        Self {
            version: settings.version,
            kinds: settings.kinds,
            plans: Kind::ALL.into_iter().map(|kind| plan(kind, settings)).collect(),
            scratch: Scratch::default(),
            places: Places::default(),
        }
    }
}

impl Encode for Encoder {
    fn wants(&self, event: &Event<'_>) -> bool {
        self.kinds[event.kind() as usize]
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        match self.version {
            InfluxVersion::V1 => self.write::<V1>(enriched, out),
            InfluxVersion::V2 => self.write::<V2>(enriched, out),
            InfluxVersion::V3 => self.write::<V3>(enriched, out),
        }
    }
}

impl Encoder {
    fn write<D: Dialect>(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let plan = &self.plans[enriched.event.kind() as usize];
        let mut values = Values::empty();
        values.read(enriched, &mut self.scratch);
        let categories = self.places.find::<D>(plan, enriched.categories);
        Line::append(out, plan.bound + values.bound + categories.bound(), |line| {
            tags::<D>(plan, &values, categories, line);
            fields(plan, &values, &categories, line);
            line.bytes(json::unsigned(enriched.received_ns, &mut [0; NUMBER_ROOM]));
        });
    }
}

fn tags<D: Dialect>(
    plan: &Plan,
    values: &Values<'_>,
    mut categories: Categories<'_>,
    line: &mut Line<'_>,
) {
    line.literal(&plan.measurement);
    for step in &plan.tags {
        if !categories.tags_up_to::<D>(&step.name, line) {
            tag::<D>(step, values, line);
        }
    }
    categories.tags_to_the_end::<D>(line);
    line.byte(b' ');
}

#[inline]
fn tag<D: Dialect>(step: &TagStep, values: &Values<'_>, line: &mut Line<'_>) {
    let mark = line.mark();
    line.literal(&step.literal);
    if step.constant {
        return;
    }
    let before = line.mark();
    tag_value::<D>(values.get(step.slot), step.stripped, line);
    if line.mark() == before {
        if step.default.is_empty() {
            line.rewind(mark);
        } else {
            line.literal(&step.default);
        }
    }
}

#[inline]
fn tag_value<D: Dialect>(value: &Value<'_>, stripped: bool, line: &mut Line<'_>) {
    if value.plain {
        // Versions 2 and 3 of Butler SOS take the number 0, which only `log_row` can be, for empty.
        let nought =
            value.storable && value.text.bytes() == b"0" && D::VERSION != InfluxVersion::V1;
        if !nought {
            line.wide(&value.text);
        }
    } else if stripped {
        line.text::<D::Stripped>(without_trailing_backslashes(value.text.bytes()));
    } else {
        line.text::<D::Tag>(without_trailing_backslashes(value.text.bytes()));
    }
}

/// Each field is followed by a comma; the last comma becomes the space before the time. There is
/// always a field: `raw_event` or `userFull`.
fn fields(plan: &Plan, values: &Values<'_>, categories: &Categories<'_>, line: &mut Line<'_>) {
    for step in &plan.fields {
        if step.instead_of.as_ref().is_some_and(|tag| categories.replace_field(tag)) {
            continue;
        }
        match step.form {
            Form::RawEvent => raw_event(step, plan, values, categories, line),
            _ => field(step, values, line),
        }
    }
    categories.write_fields(line);
    line.replace_last(b' ');
}

#[inline]
fn field(step: &FieldStep, values: &Values<'_>, line: &mut Line<'_>) {
    let value = values.get(step.slot);
    let end: &[u8] = match step.form {
        Form::OptionalText if value.text.bytes().is_empty() => return,
        Form::Integer | Form::Float if !value.storable => return,
        Form::Integer => b"i,",
        Form::Float => b",",
        Form::Text | Form::OptionalText | Form::IntegerText | Form::RawEvent => b"\",",
    };
    line.literal(&step.literal);
    match step.form {
        Form::IntegerText if value.text.bytes() == b"0" => {}
        _ if value.plain => line.wide(&value.text),
        _ => line.text::<StringField>(value.text.bytes()),
    }
    line.bytes(end);
}

fn raw_event(
    step: &FieldStep,
    plan: &Plan,
    values: &Values<'_>,
    categories: &Categories<'_>,
    line: &mut Line<'_>,
) {
    line.literal(&step.literal);
    for step in &plan.members {
        line.literal(&step.literal);
        let value = values.get(step.slot);
        if value.plain {
            line.wide(&value.text);
        } else {
            line.text::<RawEventText>(value.text.bytes());
        }
    }
    line.literal(&plan.members_end);
    categories.write_member(line);
    line.bytes(RAW_EVENT_END);
}

#[cfg(test)]
mod tests;
