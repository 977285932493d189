//! The small values that several sections share: times, sizes, counts, switches, tags.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    diagnostic::Fault,
    setting::{Filled, Limit, Row, Setting, Status, Switched, plain, section},
};

/// A span of time. A bare number is milliseconds, as in the rest of the file; text such as `10ms`,
/// `5s`, `30m`, `1h` and `7d` works too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(u64);

impl Millis {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

    /// So many milliseconds.
    #[must_use]
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// So many days.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self::seconds(days * 86_400)
    }

    /// The span, for timers.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A number of bytes. A bare number is bytes; text such as `256KiB`, `64MiB` (powers of 1024) or
/// `32KB` (powers of 1000) works too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    const UNITS: [(&str, u64); 9] = [
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("KB", 1_000),
        ("B", 1),
    ];

    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Shown in the largest unit that leaves a whole number; of equals, in the first of the table.
fn in_units(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |(_, size): &&(&str, u64)| value != 0 && value.is_multiple_of(*size);
    match units.iter().find(fits).or(units.last()) {
        Some((unit, size)) => write!(f, "{}{unit}", value / size),
        None => write!(f, "{value}"),
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_units(self.0, &Self::UNITS, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_units(self.0, &Self::UNITS, f)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let units =
            Measure { what: "a time", example: "`500ms`, `5s` or `1h`", units: &Self::UNITS };
        deserializer.deserialize_any(units).map(Self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let units = Measure { what: "a size", example: "`32KiB` or `64MiB`", units: &Self::UNITS };
        deserializer.deserialize_any(units).map(Self)
    }
}

/// Reads a whole number with or without a unit.
struct Measure {
    what: &'static str,
    example: &'static str,
    units: &'static [(&'static str, u64)],
}

impl Measure {
    fn parse(&self, text: &str) -> Option<u64> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        let (_, size) = self.units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        number.parse::<u64>().ok()?.checked_mul(*size)
    }
}

impl Visitor<'_> for Measure {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} such as {}", self.what, self.example)
    }

    fn visit_u64<E>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        self.parse(text).ok_or_else(|| {
            let units: Vec<_> = self.units.iter().map(|(name, _)| *name).collect();
            E::custom(format!(
                "`{text}` is not {}\nuse a whole number with one of the units {}, such as {}",
                self.what,
                units.join(", "),
                self.example
            ))
        })
    }
}

/// The word that leaves a number of threads to the program.
const AUTO: &str = "auto";
/// The word for shards without threads of their own.
const INLINE: &str = "inline";

/// How many threads: as many as the machine is best served with, or a fixed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Decided at start from the number of CPUs.
    Auto,
    /// So many.
    Fixed(u16),
}

impl Threads {
    /// One thread per CPU is the most that helps; 64 is more CPUs than one socket's traffic can use,
    /// and every pair of receiver and shard costs two rings.
    const MAX: u64 = 64;
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Fixed(threads) => threads.fmt(f),
        }
    }
}

/// Reads a number of threads, or one of these words.
struct ThreadsVisitor(&'static [&'static str]);

impl ThreadsVisitor {
    fn refuse<E: Error>(&self, shown: impl fmt::Display) -> E {
        let words = self.0.join(", ");
        E::custom(format!("`{shown}` is out of range\nuse {words}, or 1 to {}", Threads::MAX))
    }
}

impl Visitor<'_> for ThreadsVisitor {
    /// The number, or else which of the words.
    type Value = Result<u16, &'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or a whole number from 1 to {}", self.0.join(", "), Threads::MAX)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        match u16::try_from(value) {
            Ok(threads @ 1..) if value <= Threads::MAX => Ok(Ok(threads)),
            _ => Err(self.refuse(value)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let word = self.0.iter().find(|word| text.trim().eq_ignore_ascii_case(word));
        word.map(|word| Err(*word)).ok_or_else(|| self.refuse(text))
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = deserializer.deserialize_any(ThreadsVisitor(&[AUTO]))?;
        Ok(read.map_or(Self::Auto, Self::Fixed))
    }
}

/// Who parses and encodes: threads of their own, or each receiver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// What is best for the number of CPUs.
    Auto,
    /// Each receiver, on its own thread.
    Inline,
    /// So many threads of their own.
    Fixed(u16),
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Inline => f.write_str(INLINE),
            Self::Fixed(threads) => threads.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(ThreadsVisitor(&[AUTO, INLINE]))? {
            Ok(threads) => Self::Fixed(threads),
            Err(INLINE) => Self::Inline,
            Err(_) => Self::Auto,
        })
    }
}

/// Written as they are shown, which is how they are read.
macro_rules! written_as_shown {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}
written_as_shown!(Millis, ByteSize);

impl Serialize for Threads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.collect_str(self),
            Self::Fixed(threads) => serializer.serialize_u16(*threads),
        }
    }
}

impl Serialize for Shards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto | Self::Inline => serializer.collect_str(self),
            Self::Fixed(threads) => serializer.serialize_u16(*threads),
        }
    }
}

plain! {
    Millis: "time", |value| value.to_string();
    ByteSize: "size", |value| value.to_string();
    Threads: format!("auto, or 1 to {}", Threads::MAX), |value| value.to_string();
    Shards: format!("auto, inline, or 1 to {}", Threads::MAX), |value| value.to_string();
}

/// A section that has a switch and nothing else. `DEFAULT` is what the section means when it is there
/// but does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Toggle<const DEFAULT: bool> {
    /// On or off.
    pub enable: bool,
}

impl<const DEFAULT: bool> Default for Toggle<DEFAULT> {
    fn default() -> Self {
        Self { enable: DEFAULT }
    }
}

impl<'de, const DEFAULT: bool> Deserialize<'de> for Toggle<DEFAULT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Given {
            enable: Option<bool>,
        }

        let Given { enable } = Given::deserialize(deserializer)?;
        Ok(Self { enable: enable.unwrap_or(DEFAULT) })
    }
}

impl<const DEFAULT: bool> Switched for Toggle<DEFAULT> {
    fn switch_off(&mut self) {
        self.enable = false;
    }
}

impl<const DEFAULT: bool> Setting for Toggle<DEFAULT> {
    fn describe(_: Option<&Self>, row: Row, rows: &mut Vec<Row>) {
        let about = row.about.clone();
        let row = row.below("enable", String::new(), &[&about], Status::Used);
        bool::describe(Some(&DEFAULT), row, rows);
    }
}

section! {
    /// A name and a value, added to everything that is sent.
    pub struct Tag {
        /// Name. Older files write the key `tag`.
        #[serde(alias = "tag")]
        name: String => Filled;
        /// Value. A number needs quotes.
        value: String;
    }
}

/// The id of an object in an app. Written as text or, as in the template, as `objectId: ID`
/// (difference 31).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ObjectId(pub String);

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Entry {
            object_id: String,
        }

        struct ObjectIdVisitor;

        impl<'de> Visitor<'de> for ObjectIdVisitor {
            type Value = ObjectId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object id, or `objectId:` with one")
            }

            fn visit_str<E>(self, id: &str) -> Result<ObjectId, E> {
                Ok(ObjectId(id.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ObjectId, A::Error> {
                let entry = Entry::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ObjectId(entry.object_id))
            }
        }

        deserializer.deserialize_any(ObjectIdVisitor)
    }
}

plain! {
    ObjectId: "text", |value| value.0.clone();
}

/// A section of Butler SOS that has no part in what Ringside does. Its content is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftAlone;

impl<'de> Deserialize<'de> for LeftAlone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Serialize for LeftAlone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("left to Butler SOS")
    }
}

impl Setting for LeftAlone {
    fn describe(_: Option<&Self>, row: Row, rows: &mut Vec<Row>) {
        let row = Row { status: Status::LeftAlone, ..row };
        row.push("any", String::new(), rows);
    }
}

/// A power of two within bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct PowerOfTwo {
    pub min: u32,
    pub max: u32,
}

impl Limit<u32> for PowerOfTwo {
    fn describe(&self) -> String {
        format!("a power of two, {} to {}", self.min, self.max)
    }

    fn check(&self, value: &u32) -> Result<(), Fault> {
        (self.min..=self.max).check(value)?;
        if value.is_power_of_two() {
            return Ok(());
        }
        let above = value.next_power_of_two();
        let hint = format!("use {} or {above}", above / 2);
        Err(Fault::new(format!("{value} is not a power of two"), hint))
    }
}

/// A duration as InfluxDB 1 writes it, such as `10d`, `1h30m` or `INF`.
#[derive(Clone, Copy, Debug)]
pub(super) struct InfluxDuration;

impl InfluxDuration {
    const UNITS: [&str; 10] = ["ns", "us", "u", "µ", "ms", "s", "m", "h", "d", "w"];

    fn accepts(text: &str) -> bool {
        let mut rest = text;
        while !rest.is_empty() {
            let number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            let unit = number.trim_start_matches(|c: char| !c.is_ascii_digit());
            let name = &number[..number.len() - unit.len()];
            if number.len() == rest.len() || !Self::UNITS.contains(&name) {
                return false;
            }
            rest = unit;
        }
        !text.is_empty()
    }
}

impl Limit<String> for InfluxDuration {
    fn describe(&self) -> String {
        "an InfluxDB duration such as `10d` or `INF`".to_owned()
    }

    fn check(&self, value: &String) -> Result<(), Fault> {
        if value.eq_ignore_ascii_case("inf") || Self::accepts(value) {
            return Ok(());
        }
        let hint = "use a number with ns, us, ms, s, m, h, d or w, such as `10d`, or `INF`";
        Err(Fault::new(format!("`{value}` is not an InfluxDB duration"), hint))
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, InfluxDuration, Measure, Millis};

    #[test]
    fn times_and_sizes_are_read_and_shown() {
        let millis = Measure { what: "", example: "", units: &Millis::UNITS };
        for (text, expected) in
            [("10ms", 10), ("5s", 5_000), ("2 h", 7_200_000), ("7D", 604_800_000)]
        {
            assert_eq!(millis.parse(text), Some(expected), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "5 parsecs", "18446744073709551615d"] {
            assert_eq!(millis.parse(text), None, "{text}");
        }
        let bytes = Measure { what: "", example: "", units: &ByteSize::UNITS };
        assert_eq!(bytes.parse("64MiB"), Some(64 << 20));
        assert_eq!(bytes.parse("32kb"), Some(32_000));

        assert_eq!(Millis::new(1_500).to_string(), "1500ms");
        assert_eq!(Millis::days(7).to_string(), "7d");
        assert_eq!(Millis::new(0).to_string(), "0ms");
        assert_eq!(ByteSize::new(256 << 10).to_string(), "256KiB");
    }

    #[test]
    fn influxdb_durations_are_a_number_and_a_unit_each() {
        for text in ["10d", "1h30m", "52w", "5µ"] {
            assert!(InfluxDuration::accepts(text), "{text}");
        }
        for text in ["", "10", "d", "10 d", "10days", "-1d"] {
            assert!(!InfluxDuration::accepts(text), "{text}");
        }
    }
}
