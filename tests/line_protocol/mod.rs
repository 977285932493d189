//! Lines as InfluxDB reads them, so that what is expected and what is received can be compared as
//! measurement, set of tags and set of typed fields.

use std::collections::BTreeMap;

use influxdb_line_protocol::{FieldValue, parse_lines, split_lines};

use crate::butler_sos::{Field, Point, Version, narrow};

/// A line without its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The name of the series.
    pub measurement: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its fields.
    pub fields: BTreeMap<String, Value>,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A float.
    Float(f64),
    /// An integer.
    Int(i64),
}

impl Line {
    /// What a version of InfluxDB reads of a point.
    pub fn of(point: &Point, version: Version) -> Self {
        let tags = point
            .tags
            .iter()
            .map(|(name, value)| (name.clone(), as_read(&narrow(value), version)))
            .collect();
        let fields = point
            .fields
            .iter()
            .map(|(name, field)| {
                let value = match field {
                    Field::Text(text) => Value::Text(narrow(text)),
                    Field::Float(number) => Value::Float(*number),
                    Field::Int(number) => Value::Int(*number as i64),
                };
                (name.clone(), value)
            })
            .collect();
        Self { measurement: point.measurement.to_owned(), tags, fields }
    }

    /// Reads a batch into times and lines: every line has to be accepted, have a time and no tag or
    /// field twice.
    ///
    /// # Panics
    ///
    /// If a line is refused.
    pub fn read_all(batch: &str, version: Version) -> Vec<(i64, Self)> {
        split_lines(batch).filter(|line| !line.is_empty()).map(|l| Self::read(l, version)).collect()
    }

    fn read(line: &str, version: Version) -> (i64, Self) {
        let doubled = match version {
            Version::V1 | Version::V2 => double_literal_backslashes(line),
            Version::V3 => line.to_owned(),
        };
        let mut parsed = parse_lines(&doubled);
        let read = match (parsed.next(), parsed.next()) {
            (Some(Ok(read)), None) => read,
            other => panic!("{line}\nis refused: {other:?}"),
        };
        let time = read.timestamp.unwrap_or_else(|| panic!("{line}\nhas no time"));
        let mut tags = BTreeMap::new();
        for (name, value) in read.series.tag_set.iter().flatten() {
            let twice = tags.insert(name.to_string(), value.to_string());
            assert_eq!(twice, None, "{line}\nhas the tag {name} twice");
        }
        let mut fields = BTreeMap::new();
        for (name, value) in &read.field_set {
            let value = match value {
                FieldValue::String(text) => Value::Text(text.to_string()),
                FieldValue::F64(number) => Value::Float(*number),
                FieldValue::I64(number) => Value::Int(*number),
                other => panic!("{line}\nhas the field {name} of another type: {other:?}"),
            };
            let twice = fields.insert(name.to_string(), value);
            assert_eq!(twice, None, "{line}\nhas the field {name} twice");
        }
        (time, Self { measurement: read.series.measurement.to_string(), tags, fields })
    }
}

/// InfluxDB 1 and 2 take a backslash in a tag literally unless it stands before `,`, `=` or a space.
/// The parser used here is InfluxDB 3's, to which two backslashes are one: this doubles the literal
/// ones in the tags, so that it reads the line as the other versions do.
fn double_literal_backslashes(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\\', Some(&next @ (',' | '=' | ' '))) => {
                out.extend(['\\', next]);
                rest.next();
            }
            ('\\', _) => out.push_str("\\\\"),
            // The tags end here.
            (' ', _) => {
                out.push(' ');
                out.extend(rest);
                return out;
            }
            _ => out.push(c),
        }
    }
    out
}

/// The value of a tag as a version of InfluxDB reads it when it is written as Butler SOS writes it.
/// Nobody escapes backslashes in tags; InfluxDB 3 reads two of them as one. The clients for versions 2
/// and 3 escape line breaks and tabs, which InfluxDB does not undo.
fn as_read(value: &str, version: Version) -> String {
    match version {
        Version::V1 => value.to_owned(),
        Version::V2 => escaped(value),
        Version::V3 => escaped(value).replace("\\\\", "\\"),
    }
}

fn escaped(value: &str) -> String {
    value.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}
