//! Lines as InfluxDB's parser reads them.

use std::collections::BTreeMap;

use influxdb_line_protocol::{FieldValue, parse_lines, split_lines};

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
    /// Reads a batch into times and lines: every line has to be accepted, have a time and no tag or
    /// field twice. InfluxDB 1 and 2 take backslashes in tags literally, 3 does not.
    ///
    /// # Panics
    ///
    /// If a line is refused.
    pub fn parse_all(batch: &str, literal_backslashes: bool) -> Vec<(i64, Self)> {
        split_lines(batch)
            .filter(|line| !line.is_empty())
            .map(|l| Self::parse(l, literal_backslashes))
            .collect()
    }

    fn parse(line: &str, literal_backslashes: bool) -> (i64, Self) {
        let line_read =
            if literal_backslashes { double_literal_backslashes(line) } else { line.into() };
        let mut parsed = parse_lines(&line_read);
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
