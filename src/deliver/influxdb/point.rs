//! Points that are not events: counters and states of Ringside itself.
//!
//! They are few, so they are put together piece by piece, unlike events (`plan`); types and escapes
//! are the same. Butler SOS writes whole numbers of such points as floats to InfluxDB 1 and as
//! integers to InfluxDB 2 and 3, and a series keeps the type that it began with.

use std::borrow::Cow;

use super::Version;
use super::escape::{
    Measurement, StringField, TAG_EXPANSION, Tag, TagV3, without_trailing_backslashes,
};
use crate::deliver::batch::Buffer;
use crate::deliver::json::{self, NUMBER_ROOM};
use crate::deliver::line::{Escape, Line};

/// Bytes around a name and a value: separators, quotes, the `i` of an integer.
const AROUND: usize = 8;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// A number. One that is not finite cannot be stored and is left out.
    Number(f64),
    /// Text.
    Text(&'a str),
}

/// One point.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    measurement: &'a str,
    tags: Vec<(&'a str, Cow<'a, str>)>,
    fields: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Point<'a> {
    /// A point without tags and fields.
    #[must_use]
    pub fn new(measurement: &'a str) -> Self {
        Self { measurement, tags: Vec::new(), fields: Vec::new() }
    }

    /// Adds a tag, in the place of an earlier one with this name. No control character gets into its
    /// value, and an empty value is no tag (difference 9).
    #[must_use]
    pub fn tag(mut self, name: &'a str, value: &'a str) -> Self {
        self.tags.retain(|(earlier, _)| *earlier != name);
        let value = if value.chars().any(|it| it.is_ascii_control()) {
            Cow::Owned(value.chars().filter(|character| !character.is_ascii_control()).collect())
        } else {
            Cow::Borrowed(value)
        };
        if !without_trailing_backslashes(value.as_bytes()).is_empty() && !name.is_empty() {
            self.tags.push((name, value));
        }
        self
    }

    /// Adds tags; see [`Point::tag`].
    #[must_use]
    pub fn tags(self, tags: &'a [(String, String)]) -> Self {
        tags.iter().fold(self, |point, (name, value)| point.tag(name, value))
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &'a str, value: Value<'a>) -> Self {
        if !matches!(value, Value::Number(number) if !number.is_finite()) {
            self.fields.push((name, value));
        }
        self
    }

    /// Appends the point as a line, with its time in nanoseconds since 1970. A point without fields
    /// is none: nothing is written then. Returns the number of lines.
    pub fn write(&self, version: Version, time_ns: u64, out: &mut Buffer) -> u32 {
        if self.fields.is_empty() {
            return 0;
        }
        match version {
            Version::V1 => self.append::<Tag>("", time_ns, out),
            Version::V2 => self.append::<Tag>("i", time_ns, out),
            Version::V3 => self.append::<TagV3>("i", time_ns, out),
        }
        1
    }

    fn append<T: Escape>(&self, whole: &str, time_ns: u64, out: &mut Buffer) {
        Line::append(out, self.bound(), |line| {
            line.text::<Measurement>(without_trailing_backslashes(self.measurement.as_bytes()));
            for (name, value) in &self.tags {
                line.byte(b',');
                line.text::<T>(without_trailing_backslashes(name.as_bytes()));
                line.byte(b'=');
                line.text::<T>(without_trailing_backslashes(value.as_bytes()));
            }
            let mut before = b' ';
            for (name, value) in &self.fields {
                line.byte(before);
                before = b',';
                line.text::<T>(name.as_bytes());
                line.byte(b'=');
                let room = &mut [0; NUMBER_ROOM];
                match value {
                    Value::Count(count) => {
                        line.bytes(json::unsigned(*count, room));
                        line.bytes(whole.as_bytes());
                    }
                    Value::Number(number) => line.bytes(json::float(*number, room)),
                    Value::Text(text) => {
                        line.byte(b'"');
                        line.text::<StringField>(text.as_bytes());
                        line.byte(b'"');
                    }
                }
            }
            line.byte(b' ');
            line.bytes(json::unsigned(time_ns, &mut [0; NUMBER_ROOM]));
        });
    }

    /// The most bytes that the line can take.
    fn bound(&self) -> usize {
        let tags = self.tags.iter().map(|(name, value)| name.len() + value.len());
        let fields = self.fields.iter().map(|(name, value)| {
            name.len()
                + match value {
                    Value::Text(text) => text.len(),
                    Value::Count(_) | Value::Number(_) => NUMBER_ROOM,
                }
        });
        let texts: usize = tags.chain(fields).map(|length| length + AROUND).sum();
        TAG_EXPANSION.max(StringField::EXPANSION) * (self.measurement.len() + texts)
            + NUMBER_ROOM
            + AROUND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(version: Version, point: &Point<'_>) -> String {
        let mut out = Buffer::default();
        let lines = point.write(version, 17, &mut out);
        assert_eq!(lines as usize, memchr::memchr_iter(b'\n', &out).count());
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn whole_numbers_are_floats_in_version_1_only() {
        let point = Point::new("m")
            .tag("t", "v")
            .field("a", Value::Count(3))
            .field("b", Value::Number(1.5))
            .field("c", Value::Text("x\"y"));
        assert_eq!(line(Version::V1, &point), "m,t=v a=3,b=1.5,c=\"x\\\"y\" 17\n");
        for version in [Version::V2, Version::V3] {
            assert_eq!(line(version, &point), "m,t=v a=3i,b=1.5,c=\"x\\\"y\" 17\n");
        }
    }

    #[test]
    fn nothing_breaks_out_of_its_place() {
        let point = Point::new("my m,x=y\\")
            .tag("a b", "c,d=e f\\")
            .tag("lines", "g\nevil v=1 1\nh\u{7f}\u{0}")
            .tag("empty", "\n")
            .field("n", Value::Count(1));
        assert_eq!(
            line(Version::V1, &point),
            "my\\ m\\,x=y,a\\ b=c\\,d\\=e\\ f,lines=gevil\\ v\\=1\\ 1h n=1 17\n"
        );
    }

    #[test]
    fn the_later_of_two_tags_with_one_name_wins() {
        let tags = [("host".to_owned(), "configured".to_owned())];
        let point = Point::new("m").tag("host", "own").tags(&tags).field("n", Value::Count(1));
        assert_eq!(line(Version::V2, &point), "m,host=configured n=1i 17\n");
    }

    #[test]
    fn a_point_without_fields_is_none() {
        let point = Point::new("m").field("n", Value::Number(f64::NAN));
        assert_eq!(line(Version::V1, &point), "");
    }
}
