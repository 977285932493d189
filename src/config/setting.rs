//! What every setting can do: be read, be judged against its limits, and describe itself.
//!
//! [`section!`] declares a section of the file once: key, type, default, limit and meaning. The reader,
//! the checks and the table in `docs/configuration.md` all come from that declaration.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use super::{
    Secret,
    diagnostic::{Fault, Report},
    document::Path,
};

/// One key of the file, for the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where the key is; `[]` stands for each item of a list.
    pub path: String,
    /// What kind of value it takes.
    pub kind: String,
    /// Its value when the key is missing; empty for items of lists, where `required` is the rule.
    pub default: String,
    /// What is refused; empty when every value of the kind is accepted.
    pub limits: String,
    /// What it does.
    pub about: String,
    /// What this version does with it.
    pub status: Status,
}

/// What this version of Ringside does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It has an effect.
    Used,
    /// Read and checked, without an effect yet.
    Later,
    /// Belongs to a part of Butler SOS that Ringside does not replace.
    LeftAlone,
}

/// A value of the file.
pub(super) trait Setting: Sized {
    /// Adds this setting to the reference. `row` has everything but `kind` and `default`.
    fn describe(default: Option<&Self>, row: Row, rows: &mut Vec<Row>);

    /// Judges the limits of what is inside; those of the value itself are its field's.
    fn check(&self, _path: &Path<'_>, _report: &mut Report<'_>) {}
}

/// A limit on a value.
pub(super) trait Limit<T> {
    /// For the reference.
    fn describe(&self) -> String;
    fn check(&self, value: &T) -> Result<(), Fault>;
}

impl<T: PartialOrd + Display> Limit<T> for RangeInclusive<T> {
    fn describe(&self) -> String {
        format!("{} to {}", self.start(), self.end())
    }

    fn check(&self, value: &T) -> Result<(), Fault> {
        if self.contains(value) {
            return Ok(());
        }
        let hint = format!("use {} to {}", self.start(), self.end());
        Err(Fault::new(format!("{value} is out of range"), hint))
    }
}

/// A sentence for the reference and the hint, and what it allows.
pub(super) struct Rule<T: ?Sized> {
    pub allows: fn(&T) -> bool,
    pub otherwise: &'static str,
    pub wanted: &'static str,
}

impl Limit<String> for Rule<str> {
    fn describe(&self) -> String {
        self.wanted.to_owned()
    }

    fn check(&self, value: &String) -> Result<(), Fault> {
        self.judge(value, value)
    }
}

impl Limit<Secret> for Rule<str> {
    fn describe(&self) -> String {
        Limit::<String>::describe(self)
    }

    fn check(&self, value: &Secret) -> Result<(), Fault> {
        self.judge(value.expose(), value)
    }
}

impl Rule<str> {
    fn judge(&self, value: &str, shown: impl Display) -> Result<(), Fault> {
        if (self.allows)(value) {
            return Ok(());
        }
        Err(Fault::new(format!("`{shown}` {}", self.otherwise), format!("use {}", self.wanted)))
    }
}

/// Text that somebody has filled in: not empty, and not one of the template's `<placeholders>`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled;

impl Filled {
    fn judge(value: &str, shown: impl Display) -> Result<(), Fault> {
        if value.trim().is_empty() {
            return Err(Fault::new("the value is empty", "fill it in"));
        }
        if value.starts_with('<') && value.ends_with('>') {
            let what = format!("`{shown}` is the placeholder of the template");
            return Err(Fault::new(what, "put the real value there"));
        }
        Ok(())
    }
}

impl Limit<String> for Filled {
    fn describe(&self) -> String {
        "not empty, not a `<placeholder>`".to_owned()
    }

    fn check(&self, value: &String) -> Result<(), Fault> {
        Self::judge(value, value)
    }
}

impl Limit<Secret> for Filled {
    fn describe(&self) -> String {
        Limit::<String>::describe(self)
    }

    fn check(&self, value: &Secret) -> Result<(), Fault> {
        Self::judge(value.expose(), value)
    }
}

/// A limit on a value that may be missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct IfGiven<L>(pub L);

impl<T, L: Limit<T>> Limit<Option<T>> for IfGiven<L> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn check(&self, value: &Option<T>) -> Result<(), Fault> {
        value.as_ref().map_or(Ok(()), |value| self.0.check(value))
    }
}

/// A list that needs an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotEmpty;

impl<T> Limit<Vec<T>> for NotEmpty {
    fn describe(&self) -> String {
        "at least one".to_owned()
    }

    fn check(&self, value: &Vec<T>) -> Result<(), Fault> {
        if value.is_empty() { Err(Fault::new("the list is empty", "add an entry")) } else { Ok(()) }
    }
}

impl Row {
    /// Completes the row of a value that has no keys of its own.
    pub(super) fn push(self, kind: impl Into<String>, default: String, rows: &mut Vec<Self>) {
        rows.push(Self { kind: kind.into(), default, ..self });
    }

    /// A row for a key below this one.
    pub(super) fn below(&self, key: &str, limits: String, about: &[&str], status: Status) -> Self {
        let about = about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        Self {
            path: format!("{}.{key}", self.path),
            kind: String::new(),
            default: String::new(),
            limits,
            about,
            status: self.status.max(status),
        }
    }
}

/// Settings without keys or items of their own: kind, and how the default is written.
macro_rules! plain {
    ($($type:ty: $kind:expr, |$value:ident| $shown:expr;)*) => {$(
        impl $crate::config::setting::Setting for $type {
            fn describe(
                default: Option<&Self>,
                row: $crate::config::setting::Row,
                rows: &mut Vec<$crate::config::setting::Row>,
            ) {
                let default = default.map_or_else(String::new, |$value| $shown);
                row.push($kind, default, rows);
            }
        }
    )*};
}
pub(super) use plain;

plain! {
    bool: "true or false", |value| value.to_string();
    u8: "number", |value| value.to_string();
    u16: "number", |value| value.to_string();
    u32: "number", |value| value.to_string();
    String: "text", |value| format!("\"{value}\"");
    Secret: "secret", |value| if value.is_empty() { "none".to_owned() } else { value.to_string() };
}

impl<T: Setting> Setting for Option<T> {
    fn describe(default: Option<&Self>, row: Row, rows: &mut Vec<Row>) {
        let first = rows.len();
        let outermost = row.path.clone();
        T::describe(default.and_then(Option::as_ref), row, rows);
        for row in &mut rows[first..] {
            if row.path == outermost && matches!(default, Some(None)) {
                "none".clone_into(&mut row.default);
            }
        }
    }

    fn check(&self, path: &Path<'_>, report: &mut Report<'_>) {
        if let Some(value) = self {
            value.check(path, report);
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn describe(default: Option<&Self>, row: Row, rows: &mut Vec<Row>) {
        let mut items = Vec::new();
        let item = Row { path: format!("{}[]", row.path), ..row.clone() };
        T::describe(None, item, &mut items);
        let own = items.iter().position(|item| item.path.ends_with("[]"));
        let kind = match own {
            // A list of plain values is one row.
            Some(index) => format!("list of {}", items.remove(index).kind),
            None => "list".to_owned(),
        };
        let default = default.map_or_else(String::new, |_| "empty".to_owned());
        row.push(kind, default, rows);
        rows.append(&mut items);
    }

    fn check(&self, path: &Path<'_>, report: &mut Report<'_>) {
        // Where an item could not be read, the rest no longer has the numbers of the file.
        let whole = report.node(path).is_none_or(|node| node.items().len() == self.len());
        for (index, item) in self.iter().enumerate().filter(|_| whole) {
            item.check(&Path::Index(path, index), report);
        }
    }
}

/// A section with a switch, which a missing section leaves off.
pub(super) trait Switched: Default {
    fn switch_off(&mut self);
}

/// What a missing section means.
pub(super) fn off<T: Switched>() -> T {
    let mut section = T::default();
    section.switch_off();
    section
}

macro_rules! switched {
    ($($section:ty),+ $(,)?) => {$(
        impl $crate::config::setting::Switched for $section {
            fn switch_off(&mut self) {
                self.enable = false;
            }
        }
    )+};
}
pub(super) use switched;

/// The key of a field: its own name, or the field's name as serde's `camelCase` makes it.
pub(super) fn key_of(field: &str, own: Option<&str>) -> String {
    if let Some(own) = own {
        return own.to_owned();
    }
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |key, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        key + &initial.to_uppercase() + rest
    })
}

/// Declares a section: a struct, its keys, their defaults, limits and meaning.
///
/// `key as "KEY": Type = default => limit, later;` where `as`, the limit and `later` (no effect in
/// this version) may be left out. `key: Type;`, without a default, is a key that must be given.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {$(
            $(#[doc = $doc:literal])+
            $(#[serde($($serde:tt)*)])?
            $field:ident $(as $key:literal)?: $type:ty = $default:expr
            $(=> $limit:expr)? $(, $status:ident)?;
        )*}
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {$(
            $(#[doc = $doc])+
            $(#[serde($($serde)*)])?
            $(#[serde(rename = $key)])?
            pub $field: $type,
        )*}

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::config::setting::Setting for $name {
            $crate::config::setting::section!(@describe $name, Some(&$name::default()); $(
                $(#[doc = $doc])+ $field $(as $key)?: $type $(=> $limit)? $(, $status)?;
            )*);
            $crate::config::setting::section!(@check $(
                $field $(as $key)? $(=> $limit)? $(, $status)?;
            )*);
        }
    };
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {$(
            $(#[doc = $doc:literal])+
            $(#[serde($($serde:tt)*)])?
            $field:ident $(as $key:literal)?: $type:ty $(=> $limit:expr)?;
        )*}
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {$(
            $(#[doc = $doc])+
            $(#[serde($($serde)*)])?
            $(#[serde(rename = $key)])?
            pub $field: $type,
        )*}

        impl $crate::config::setting::Setting for $name {
            $crate::config::setting::section!(@describe $name, None::<&Self>; $(
                $(#[doc = $doc])+ $field $(as $key)?: $type $(=> $limit)?;
            )*);
            $crate::config::setting::section!(@check $(
                $field $(as $key)? $(=> $limit)?;
            )*);
        }
    };
    (@describe $name:ident, $defaults:expr; $(
        $(#[doc = $doc:literal])+ $field:ident $(as $key:literal)?: $type:ty
        $(=> $limit:expr)? $(, $status:ident)?;
    )*) => {
        // The switch of a missing section is off, but what counts for the reader of the reference
        // is its value in a section that is there: the section's own defaults.
        fn describe(
            _: Option<&Self>,
            row: $crate::config::setting::Row,
            rows: &mut Vec<$crate::config::setting::Row>,
        ) {
            let defaults: Option<&Self> = $defaults;
            $(
                let key = $crate::config::setting::section!(@key $field $(as $key)?);
                let limits = $crate::config::setting::section!(@limits $type $(=> $limit)?);
                let status = $crate::config::setting::section!(@status $($status)?);
                let below = row.below(&key, limits, &[$($doc),+], status);
                let default = defaults.map(|defaults| &defaults.$field);
                <$type as $crate::config::setting::Setting>::describe(default, below, rows);
            )*
        }
    };
    (@check $($field:ident $(as $key:literal)? $(=> $limit:expr)? $(, $status:ident)?;)*) => {
        fn check(
            &self,
            path: &$crate::config::document::Path<'_>,
            report: &mut $crate::config::diagnostic::Report<'_>,
        ) {$(
            let key = $crate::config::setting::section!(@key $field $(as $key)?);
            let own = &$crate::config::document::Path::Key(path, &key);
            $(
                if let Err(fault) = $crate::config::setting::Limit::check(&$limit, &self.$field) {
                    report.outside_limits(own, fault);
                }
            )?
            $($crate::config::setting::section!(@notice $status, own, report);)?
            $crate::config::setting::Setting::check(&self.$field, own, report);
        )*}
    };
    (@notice later, $path:expr, $report:expr) => {
        $report.not_yet($path);
    };
    (@key $field:ident) => {
        $crate::config::setting::key_of(stringify!($field), None)
    };
    (@key $field:ident as $key:literal) => {
        $crate::config::setting::key_of(stringify!($field), Some($key))
    };
    (@limits $type:ty) => {
        String::new()
    };
    (@limits $type:ty => $limit:expr) => {
        $crate::config::setting::Limit::<$type>::describe(&$limit)
    };
    (@status) => {
        $crate::config::setting::Status::Used
    };
    (@status later) => {
        $crate::config::setting::Status::Later
    };
}
pub(super) use section;

/// Declares an enum that the file writes as one of a few words. Case and surrounding spaces do not
/// matter, as in Butler SOS; true, false and numbers count as their text.
macro_rules! choice {
    (
        $(#[doc = $about:literal])+
        pub enum $name:ident {$(
            $(#[doc = $doc:literal])+
            $variant:ident = $word:literal,
        )+}
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {$(
            $(#[doc = $doc])+
            $variant,
        )+}

        impl $name {
            /// The words of the file, in the order of the variants.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The word that the file uses.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let word = text.trim();
                $(
                    if word.eq_ignore_ascii_case($word) {
                        return Ok(Self::$variant);
                    }
                )+
                let words = Self::WORDS.join(", ");
                Err(format!("`{word}` is not one of the choices\nuse one of: {words}"))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = from.deserialize_any($crate::config::setting::Word)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }

        $crate::config::setting::plain! {
            $name: $name::WORDS.join(", "), |value| value.to_string();
        }
    };
}
pub(super) use choice;

/// Reads a scalar as the text that stands for it.
pub(super) struct Word;

impl serde::de::Visitor<'_> for Word {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }
}
