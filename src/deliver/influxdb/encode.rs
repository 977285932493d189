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

use std::sync::Arc;

use super::categories::{Categories, Places};
use super::escape::{RawEventText, StringField, without_trailing_backslashes};
use super::guard::{self, Guard};
use super::plan::{self, Dialect, FieldStep, MemberStep, Plan, TagStep, Usual, V1, V2, V3};
use super::tables::Form;
use super::values::{PLAIN, STORABLE, Scratch, Values};
use crate::deliver::Encode;
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, NUMBER_ROOM};
use crate::deliver::line::Line;
use crate::enrich::Enriched;
use crate::event::{Event, Kind, Listener};
use crate::observe::series::Series;

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
    guard: Option<Guard>,
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
            guard: None,
        }
    }

    /// Empty sketches for the series that this encoder writes.
    #[must_use]
    pub fn series(&self) -> Series {
        guard::series(&self.plans)
    }

    /// Counts the series of events in these sketches, which an encoder with the same settings has made.
    #[must_use]
    pub fn counting(self, series: Arc<Series>) -> Self {
        Self { guard: Some(Guard::new(&self.plans, series)), ..self }
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
        let kind = enriched.event.kind();
        let (plan, guard) = (&self.plans[kind as usize], &mut self.guard);
        let mut values = Values::empty();
        values.read(enriched, &mut self.scratch);
        let categories = self.places.find::<D>(plan, enriched.categories);
        Line::append(out, plan.bound + values.bound + categories.bound(), |line| {
            tags::<D>(plan, &values, categories, line);
            if let Some(guard) = guard {
                guard.note(kind, line.written(), plan, &values);
            }
            fields(plan, &values, &categories, line);
            line.bytes(json::unsigned(enriched.received_ns, &mut [0; NUMBER_ROOM]));
        });
    }
}

/// Writes a step's text and value, if that is as usual.
#[inline]
fn usual(step: &Usual, values: &Values<'_>, line: &mut Line<'_>) -> bool {
    let value = values.get(step.slot);
    let is_usual = value.is(step.needs);
    if is_usual {
        line.framed(&step.frame, value.head, value.bytes.len());
    }
    is_usual
}

fn tags<D: Dialect>(
    plan: &Plan,
    values: &Values<'_>,
    mut categories: Categories<'_>,
    line: &mut Line<'_>,
) {
    line.bytes(plan.measurement.as_bytes());
    for step in &plan.tags {
        if !categories.tags_up_to::<D>(&step.name, line) && !usual(&step.usual, values, line) {
            unusual_tag::<D>(step, values, line);
        }
    }
    categories.tags_to_the_end::<D>(line);
    line.byte(b' ');
}

/// An empty value, a long one, or one with something to escape.
#[inline(never)]
fn unusual_tag<D: Dialect>(step: &TagStep, values: &Values<'_>, line: &mut Line<'_>) {
    let value = values.get(step.usual.slot);
    let mark = line.mark();
    line.bytes(&step.before);
    let before = line.mark();
    if value.is(PLAIN) {
        let is_empty = step.nought_is_empty && value.bytes == b"0";
        line.bytes(if is_empty { b"" } else { value.bytes });
    } else if step.stripped {
        line.text::<D::Stripped>(without_trailing_backslashes(value.bytes));
    } else {
        line.text::<D::Tag>(without_trailing_backslashes(value.bytes));
    }
    if line.mark() == before && !step.constant {
        if step.default.is_empty() {
            line.rewind(mark);
        } else {
            line.bytes(step.default.as_bytes());
        }
    }
}

/// Each field is followed by a comma; the last comma becomes the space before the time. There is
/// always a field: `raw_event` or `userFull`.
fn fields(plan: &Plan, values: &Values<'_>, categories: &Categories<'_>, line: &mut Line<'_>) {
    for step in &plan.fields {
        if usual(&step.usual, values, line) {
            continue;
        }
        match step.form {
            Form::RawEvent => raw_event(step, plan, values, categories, line),
            _ => unusual_field(step, values, categories, line),
        }
    }
    categories.write_fields(line);
    line.replace_last(b' ');
}

/// A value that is left out, a long one, or one with something to escape.
#[inline(never)]
fn unusual_field(
    step: &FieldStep,
    values: &Values<'_>,
    categories: &Categories<'_>,
    line: &mut Line<'_>,
) {
    if step.instead_of.as_ref().is_some_and(|tag| categories.replace_field(tag)) {
        return;
    }
    let value = values.get(step.usual.slot);
    match step.form {
        Form::OptionalText if value.bytes.is_empty() => return,
        Form::Integer | Form::Float if !value.is(STORABLE) => return,
        _ => line.bytes(&step.before),
    }
    match step.form {
        Form::IntegerText if value.bytes == b"0" => {}
        _ if value.is(PLAIN) => line.bytes(value.bytes),
        _ => line.text::<StringField>(value.bytes),
    }
    line.bytes(step.form.end());
}

#[inline(never)]
fn raw_event(
    step: &FieldStep,
    plan: &Plan,
    values: &Values<'_>,
    categories: &Categories<'_>,
    line: &mut Line<'_>,
) {
    line.bytes(&step.before);
    for step in &plan.members {
        if !usual(&step.usual, values, line) {
            unusual_member(step, values, line);
        }
    }
    line.bytes(&plan.members_end);
    categories.write_member(line);
    line.bytes(step.form.end());
}

/// A long value, or one with something to escape.
#[inline(never)]
fn unusual_member(step: &MemberStep, values: &Values<'_>, line: &mut Line<'_>) {
    let value = values.get(step.usual.slot);
    line.bytes(&step.before);
    if value.is(PLAIN) {
        line.bytes(value.bytes);
    } else {
        line.text::<RawEventText>(value.bytes);
    }
}

#[cfg(test)]
mod tests;
