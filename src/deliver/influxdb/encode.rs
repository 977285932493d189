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

use super::escape::{RawEventText, StringField, without_trailing_backslashes};
use super::plan::{Dialect, FieldStep, Plan, V1, V2, V3};
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
}

/// Writes events as line protocol.
#[derive(Debug)]
pub struct Encoder {
    version: InfluxVersion,
    kinds: [bool; Kind::COUNT],
    /// In the order of [`Kind::ALL`].
    plans: Vec<Plan>,
    scratch: Scratch,
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
        }
    }
}

impl Encode for Encoder {
    fn wants(&self, event: &Event<'_>) -> bool {
        self.kinds[event.kind() as usize]
    }

    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer) {
        let Enriched { event, received_ns, .. } = *enriched;
        let plan = &self.plans[event.kind() as usize];
        let mut values = Values::empty();
        values.read(event, &mut self.scratch);
        Line::append(out, plan.bound + values.bound, |line| {
            match self.version {
                InfluxVersion::V1 => tags::<V1>(plan, &values, line),
                InfluxVersion::V2 => tags::<V2>(plan, &values, line),
                InfluxVersion::V3 => tags::<V3>(plan, &values, line),
            }
            fields(plan, &values, line);
            line.bytes(json::unsigned(received_ns, &mut [0; NUMBER_ROOM]));
        });
    }
}

fn tags<D: Dialect>(plan: &Plan, values: &Values<'_>, line: &mut Line<'_>) {
    line.literal(&plan.measurement);
    for step in &plan.tags {
        let mark = line.mark();
        line.literal(&step.literal);
        if step.constant {
            continue;
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
    line.byte(b' ');
}

#[inline]
fn tag_value<D: Dialect>(value: &Value<'_>, stripped: bool, line: &mut Line<'_>) {
    if value.plain {
        // Versions 2 and 3 of Butler SOS take the number 0, which only `log_row` can be, for empty.
        let nought = value.storable && value.text == b"0" && D::VERSION != InfluxVersion::V1;
        line.bytes(if nought { b"" } else { value.text });
    } else if stripped {
        line.text::<D::Stripped>(without_trailing_backslashes(value.text));
    } else {
        line.text::<D::Tag>(without_trailing_backslashes(value.text));
    }
}

/// Each field is followed by a comma; the last comma becomes the space before the time. There is
/// always a field: `raw_event` or `userFull`.
fn fields(plan: &Plan, values: &Values<'_>, line: &mut Line<'_>) {
    for step in &plan.fields {
        field(step, plan, values, line);
    }
    line.replace_last(b' ');
}

#[inline]
fn field(step: &FieldStep, plan: &Plan, values: &Values<'_>, line: &mut Line<'_>) {
    let value = values.get(step.slot);
    let end: &[u8] = match step.form {
        Form::OptionalText if value.text.is_empty() => return,
        Form::Integer | Form::Float if !value.storable => return,
        Form::Integer => b"i,",
        Form::Float => b",",
        Form::Text | Form::OptionalText | Form::IntegerText | Form::RawEvent => b"\",",
    };
    line.literal(&step.literal);
    match step.form {
        Form::RawEvent => return raw_event(plan, values, line),
        Form::IntegerText if value.text == b"0" => {}
        _ if value.plain => line.bytes(value.text),
        _ => line.text::<StringField>(value.text),
    }
    line.bytes(end);
}

fn raw_event(plan: &Plan, values: &Values<'_>, line: &mut Line<'_>) {
    for step in &plan.members {
        line.literal(&step.literal);
        let value = values.get(step.slot);
        if value.plain {
            line.bytes(value.text);
        } else {
            line.text::<RawEventText>(value.text);
        }
    }
    line.literal(&plan.members_end);
}

#[cfg(test)]
mod tests;
