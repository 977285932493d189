//! Lines as InfluxDB reads them, so that what is expected and what is received can be compared as
//! measurement, set of tags and set of typed fields.

mod parsed;

pub use parsed::{Line, Value};

use crate::butler_sos::{Field, Point, Version, narrow};

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

    /// The lines of a batch as a version reads them, with their times.
    ///
    /// # Panics
    /// If a line is refused.
    pub fn read_all(batch: &str, version: Version) -> Vec<(i64, Self)> {
        Self::parse_all(batch, matches!(version, Version::V1 | Version::V2))
    }
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
