//! From the tree to typed settings, by serde.
//!
//! A deserializer of our own, because it can do three things that a general one cannot: it knows the
//! keys of the struct that is being filled, so unknown keys are found without a second list; it goes
//! on after an error by striking the faulty value out and reading again, so that all errors are
//! reported; and every error gets its place.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fmt,
    iter::Enumerate,
    slice::Iter,
};

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, Visitor,
        value::{MapDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    diagnostic::{Fault, Report},
    document::{Data, Entry, Node, Path, Position},
};

/// After so many errors the rest is not read: the file is something else.
const PROBLEMS_MAX: usize = 100;

/// What a reading found besides the settings.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// `None` when the document as a whole is not what was expected; the report says why.
    pub settings: Option<T>,
    /// Whether every value of the file got into the settings.
    pub complete: bool,
    /// Keys that Ringside knows and leaves to Butler SOS, by place.
    pub left_alone: BTreeMap<Position, String>,
}

/// Reads `root` into settings and reports everything that does not fit.
pub(super) fn read<T: for<'de> Deserialize<'de>>(root: &Node, report: &mut Report<'_>) -> Found<T> {
    let reader = &Reader {
        report: RefCell::new(report),
        struck: RefCell::default(),
        unknown: RefCell::default(),
        left_alone: RefCell::default(),
    };
    // Each round strikes one value out, so the rounds end.
    let settings = loop {
        match (Place { reader, node: root, path: &Path::Root }).read() {
            Ok(settings) => break Some(settings),
            Err(()) if reader.struck.borrow().contains(&root.id) => break None,
            Err(()) if reader.report.borrow().problems() >= PROBLEMS_MAX => break None,
            Err(()) => {}
        }
    };
    let complete = reader.struck.borrow().is_empty();
    Found { settings, complete, left_alone: reader.left_alone.take() }
}

#[derive(Debug)]
struct Reader<'r, 'd> {
    report: RefCell<&'r mut Report<'d>>,
    /// Values that could not be read and count as missing from then on.
    struck: RefCell<HashSet<usize>>,
    /// Unknown keys already reported, by the id of their value.
    unknown: RefCell<HashSet<usize>>,
    left_alone: RefCell<BTreeMap<Position, String>>,
}

impl Reader<'_, '_> {
    fn is_struck(&self, node: &Node) -> bool {
        self.struck.borrow().contains(&node.id)
    }

    fn unknown_key(&self, entry: &Entry, section: &Node, path: &Path<'_>, known: &[&str]) {
        if !self.unknown.borrow_mut().insert(entry.value.id) {
            return;
        }
        let path = Path::Key(path, &entry.key).to_string();
        let absent = known.iter().filter(|key| section.get(key).is_none());
        let nearest = absent
            .map(|key| (distance(&entry.key, key), key))
            .filter(|(distance, key)| *distance <= near(key))
            .min();
        let what = "unknown key".to_owned();
        let mut report = self.report.borrow_mut();
        match nearest {
            Some((_, key)) => {
                let hint = format!("did you mean `{key}`?");
                report.problem_at(entry.key_at, path, Fault { what, hint });
            }
            None => {
                let hint = "it is ignored; a newer Butler SOS may know it".to_owned();
                report.warning_at(entry.key_at, path, Fault { what, hint });
            }
        }
    }
}

/// Edits between two keys, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    strsim::osa_distance(&a.to_lowercase(), &b.to_lowercase())
}

/// How many edits make a key look like a slip for `key`: two, but one in three letters at most, or
/// `tls` would be taken for `qos`.
fn near(key: &str) -> usize {
    (key.len() / 3).min(2)
}

/// A node and how we came to it.
#[derive(Clone, Copy)]
struct Place<'p, 'r, 'd> {
    reader: &'p Reader<'r, 'd>,
    node: &'p Node,
    path: &'p Path<'p>,
}

impl Place<'_, '_, '_> {
    fn read<T: for<'de> Deserialize<'de>>(self) -> Result<T, ()> {
        self.guard(|place| T::deserialize(place)).map_err(|_| ())
    }

    /// Reports what goes wrong here and strikes the value out. What goes wrong deeper has been
    /// reported and struck there.
    fn guard<T>(self, read: impl FnOnce(Self) -> Result<T, Error>) -> Result<T, Error> {
        read(self).map_err(|error| {
            if let Error::Here(fault) = error {
                // What a section lacks because it was struck out has been reported as such.
                let children = self.node.entries().iter();
                if !children.map(|entry| &entry.value).any(|value| self.reader.is_struck(value)) {
                    self.reader.report.borrow_mut().unreadable(self.path, fault);
                }
                self.reader.struck.borrow_mut().insert(self.node.id);
            }
            Error::Deeper
        })
    }
}

impl<'de> Deserializer<'de> for Place<'_, '_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(value) => visitor.visit_bool(*value),
            Data::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Data::Float(value) => visitor.visit_f64(*value),
            Data::Text(value) => visitor.visit_str(value),
            Data::Sequence(items) => {
                let items = items.iter().enumerate();
                visitor.visit_seq(Items { place: self, items })
            }
            Data::Mapping(entries) => visitor.visit_map(Entries::new(self, None, entries)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.data {
            Data::Mapping(entries) => visitor.visit_map(Entries::new(self, Some(known), entries)),
            // Butler SOS's documents write `[]` for a section without entries (difference 31).
            Data::Sequence(items) if items.is_empty() => {
                let off = known.contains(&"enable").then_some(("enable", false));
                visitor.visit_map(MapDeserializer::new(off.into_iter()))
            }
            other => {
                let what = format!("expected a section, found {}", kind(other));
                let hint = "its keys belong on the lines below it, indented";
                Err(Error::Here(Fault::new(what, hint)))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.data {
            Data::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let at = self.reader.report.borrow().position(self.path);
        self.reader.left_alone.borrow_mut().insert(at, self.path.to_string());
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier
    }
}

struct Items<'p, 'r, 'd> {
    place: Place<'p, 'r, 'd>,
    items: Enumerate<Iter<'p, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Place { reader, path, .. } = self.place;
        let Some((index, node)) = self.items.find(|(_, node)| !reader.is_struck(node)) else {
            return Ok(None);
        };
        let path = Path::Index(path, index);
        let place = Place { reader, node, path: &path };
        place.guard(|place| seed.deserialize(place)).map(Some)
    }
}

struct Entries<'p, 'r, 'd> {
    place: Place<'p, 'r, 'd>,
    /// The keys of the struct that is being filled.
    known: Option<&'static [&'static str]>,
    entries: Iter<'p, Entry>,
    value: Option<&'p Entry>,
}

impl<'p, 'r, 'd> Entries<'p, 'r, 'd> {
    fn new(
        place: Place<'p, 'r, 'd>,
        known: Option<&'static [&'static str]>,
        entries: &'p [Entry],
    ) -> Self {
        Self { place, known, entries: entries.iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Place { reader, path, node: section } = self.place;
        for entry in self.entries.by_ref() {
            if let Some(known) = self.known
                && !known.contains(&entry.key.as_str())
            {
                reader.unknown_key(entry, section, path, known);
                continue;
            }
            // A key whose value is commented out is null, and means the same as no key.
            if matches!(entry.value.data, Data::Null) || reader.is_struck(&entry.value) {
                continue;
            }
            self.value = Some(entry);
            let key: StrDeserializer<'_, Error> = entry.key.as_str().into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(Entry { key, value: node, .. }) = self.value.take() else {
            return Err(serde::de::Error::custom("a value was asked for before its key"));
        };
        let Place { reader, path, .. } = self.place;
        let path = Path::Key(path, key);
        Place { reader, node, path: &path }.guard(|place| seed.deserialize(place))
    }
}

/// Why a value could not be read.
#[derive(Debug)]
enum Error {
    /// At the value that is being read.
    Here(Fault),
    /// Within it; reported already.
    Deeper,
}

impl serde::de::Error for Error {
    /// A message may carry its hint on a second line.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (what, hint) = message.split_once('\n').unwrap_or((&message, ""));
        Self::Here(Fault::new(what, hint))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = wanted(&expected.to_string());
        let hint = match (found, expected.as_str()) {
            (Unexpected::Str(text), "true or false") if is_yaml_1_1_bool(text) => {
                "write true or false, without quotes"
            }
            (Unexpected::Str(text), wanted)
                if wanted.contains("number") && text.parse::<f64>().is_ok() =>
            {
                "remove the quotes"
            }
            (Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_), "text") => {
                "put it in quotes"
            }
            (Unexpected::Float(_), "text") => "put it in quotes",
            (Unexpected::Seq, _) => "remove the dash: this is one value, not a list",
            (Unexpected::Map, "a list") => "put a dash before each entry",
            (_, "a list") => "write each entry on its own line after a dash, or `[]` for none",
            _ => "correct the value, or remove the key to get the default",
        };
        Self::Here(Fault::new(format!("expected {expected}, found {}", seen(found)), hint))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Here(Fault::new(format!("the key `{field}` is missing"), "add it"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        let hint = "keep one spelling";
        Self::Here(Fault::new(format!("`{field}` is given twice, in two spellings"), hint))
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(fault) => f.write_str(&fault.what),
            Self::Deeper => f.write_str("reported already"),
        }
    }
}

fn is_yaml_1_1_bool(text: &str) -> bool {
    ["yes", "no", "on", "off", "true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// serde's words for what a type expects, in the words of the documents.
fn wanted(expected: &str) -> String {
    match expected {
        "a boolean" => "true or false".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" => "a whole number, 0 or more".to_owned(),
        other => other.to_owned(),
    }
}

fn seen(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) if text.len() <= 40 => format!("the text \"{text}\""),
        Unexpected::Str(_) => "a text".to_owned(),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a section".to_owned(),
        other => other.to_string(),
    }
}

fn kind(data: &Data) -> &'static str {
    match data {
        Data::Null => "nothing",
        Data::Bool(_) => "true or false",
        Data::Integer(_) | Data::Float(_) => "a number",
        Data::Text(_) => "a text",
        Data::Sequence(_) => "a list",
        Data::Mapping(_) => "a section",
    }
}
