//! An event that never was: a value for everything that a pattern can name, so that a pattern can be
//! rendered, read by the parser, and what arrives compared with what should.

use std::fmt::Write as _;

use super::super::conversion::{Conversion, conversion};
use super::super::pattern::{Part, PatternField, Value};
use crate::event::{Check, Column, ColumnSpec, Event, Field, Int, Kind};

/// One column of a layout with what should fill it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub column: Column,
    /// Index in the layout.
    pub index: usize,
    pub conversion: Conversion,
    /// The value that the column should hold in the end; no other column has the same.
    pub value: String,
    /// Characters of text that are kept; 0 for what is no text.
    pub limit: usize,
}

/// The columns of a kind, but for the message type.
pub(super) fn wanted(kind: Kind) -> Vec<Wanted> {
    let columns = kind.layout().columns().iter().enumerate();
    let wanted = columns.filter_map(|(index, spec)| {
        let conversion = conversion(kind, spec.column)?;
        let value = value(index, spec);
        Some(Wanted { column: spec.column, index, conversion, value, limit: spec.limit })
    });
    wanted.collect()
}

/// A value that passes the column's check.
fn value(index: usize, spec: &ColumnSpec) -> String {
    match spec.check {
        Check::Uuid => format!("00000000-0000-4000-8000-{index:012}"),
        Check::Time => format!("2021-11-09T15:37:26.{index:03}+0200"),
        Check::Int { .. } => format!("{}", 1000 + index),
        Check::Float => format!("{index}.5"),
        // Directory and name, as the scheduler writes it.
        Check::Text if spec.column == Column::UserFull => format!("DIRECTORY\\value{index}"),
        Check::Text | Check::Source => format!("value{index}"),
    }
}

/// What log4net would make of a field.
pub(super) fn render(field: &PatternField<'_>, wanted: &[Wanted]) -> String {
    let mut text = String::new();
    for part in &field.parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Value(value) => text.push_str(&fit(filled(value, wanted), value)),
        }
    }
    text
}

/// A value cut and padded. Real values are of any length: with a least width some are padded.
fn fit(text: String, value: &Value<'_>) -> String {
    let len = text.chars().count();
    match value.max {
        Some(max) if len > max => text.chars().skip(len - max).collect(),
        _ if value.min > 0 => text + " ",
        _ => text,
    }
}

fn filled(value: &Value<'_>, wanted: &[Wanted]) -> String {
    match value.name {
        "newline" => return "\r\n".to_owned(),
        "literal" => return value.option.unwrap_or_default().to_owned(),
        _ => {}
    }
    let is_same = |wanted: &&Wanted| is_filled_by(&wanted.conversion, value);
    wanted.iter().find(is_same).map_or_else(
        || {
            // Neither a UUID, nor a time, nor a number.
            let mut text = format!("other {}", value.name);
            let _ = write!(text, " {}", value.option.unwrap_or_default());
            text.replace(';', " ")
        },
        |wanted| wanted.value.clone(),
    )
}

/// Whether a value of a pattern is what a conversion gives, give or take encoding and cosmetics.
pub(super) fn is_filled_by(conversion: &Conversion, value: &Value<'_>) -> bool {
    let option = value.option.filter(|option| !option.is_empty());
    match (conversion.name, value.name) {
        ("property", "property") => conversion.option.as_deref() == option,
        ("date", "date") => option.is_none_or(|option| option == "ISO8601"),
        // With an option it is cut to so many parts.
        ("logger", "logger") => option.is_none(),
        ("message" | "encodedmessage", "message" | "encodedmessage")
        | ("encodedexception", "exception")
        | ("user", "username") => true,
        // Sense's converters use no option that would change what the value is.
        (wanted, given) => wanted == given,
    }
}

/// Whether a column holds what it should.
pub(super) fn has_arrived(event: &Event<'_>, wanted: &Wanted) -> bool {
    // It is only kept where directory and name are not known apart.
    if wanted.column == Column::UserFull {
        return event.raw(wanted.column) == wanted.value.as_bytes();
    }
    match event.field(wanted.column) {
        Some(Field::Text(text)) => text == wanted.value,
        Some(Field::Uuid(uuid)) => uuid.is_some_and(|uuid| uuid.to_string() == wanted.value),
        Some(Field::Int(Int::Value(number))) => number.to_string() == wanted.value,
        Some(Field::Float(number)) => number.to_string() == wanted.value,
        Some(Field::Int(Int::Huge(_))) | None => false,
    }
}
