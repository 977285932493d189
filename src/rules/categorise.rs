//! Categories of log events, by level and by what the message says.
//!
//! All rules are tried. The texts that may stand anywhere in a message, of all rules, are searched for
//! in one pass by one multi-pattern matcher; those at its start or end are compared in place. All
//! compare with case, with the message as destinations get it.
//!
//! Performance events have no message: no text is found in them, so they get the default category
//! (difference 7).

use aho_corasick::AhoCorasick;
use smallvec::SmallVec;

use super::{Categories, Category, RulesError};
use crate::event::{Column, Event};
use crate::observe::ledger::RejectReason;

/// Rules, and what becomes of events that none of them matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categorise {
    /// All are tried, in this order.
    pub rules: Vec<Rule>,
    /// Categories of events that no rule matched (`ruleDefault`); empty when it is off.
    pub default: Vec<Category>,
}

/// Which events get which categories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Levels to which it applies.
    pub levels: Vec<Level>,
    /// What is done.
    pub action: Action,
    /// Texts, one of which has to be in the message. An empty text is in every message.
    pub filters: Vec<Filter>,
}

/// What a rule does with the events that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Adds categories.
    Categorise(Vec<Category>),
    /// Rejects the event as `category_drop`, whatever other rules say (difference 5).
    Drop,
}

/// A text, and where in the message it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// At the start (`sw`).
    Start(String),
    /// At the end (`ew`).
    End(String),
    /// Anywhere (`so`).
    Anywhere(String),
}

macro_rules! levels {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The level of a log event, in a rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Level { $($(#[$doc])* $variant,)+ }

        impl Level {
            /// All levels, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name in lower case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

levels! {
    /// A service cannot go on.
    Fatal = "fatal",
    /// Something failed.
    Error = "error",
    /// Something may fail.
    Warn = "warn",
    /// Something happened.
    Info = "info",
    /// Detail.
    Verbose = "verbose",
    /// Detail for developers.
    Debug = "debug",
    /// All detail.
    Silly = "silly",
}

impl Level {
    /// The level with this name, in any case.
    fn named(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|level| level.name().eq_ignore_ascii_case(text))
    }
}

/// A set of levels, one bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Levels(u8);

impl Levels {
    fn contain(self, level: Level) -> bool {
        self.0 & (1 << level as u8) != 0
    }
}

impl<'l> FromIterator<&'l Level> for Levels {
    fn from_iter<I: IntoIterator<Item = &'l Level>>(levels: I) -> Self {
        Self(levels.into_iter().fold(0, |set, level| set | (1 << *level as u8)))
    }
}

/// The rules, ready for looking up.
#[derive(Debug)]
pub(super) struct Categoriser {
    rules: Vec<CompiledRule>,
    default: Vec<Category>,
    /// Finds the texts that may stand anywhere; `None` if there are none.
    substrings: Option<AhoCorasick>,
    /// The rule of each of these texts.
    owners: Vec<usize>,
    /// The levels of the rules that have such texts.
    searched: Levels,
    /// The levels of all rules. Performance events are INFO, which few rules are about.
    levels: Levels,
}

#[derive(Debug)]
struct CompiledRule {
    levels: Levels,
    action: Action,
    starts: Vec<Box<str>>,
    ends: Vec<Box<str>>,
    /// One of its texts is empty.
    always: bool,
}

/// One bit for each rule; 256 of them without an allocation, which is more than any file is known to
/// have.
type Hits = SmallVec<[u64; 4]>;

impl Categoriser {
    pub fn new(settings: &Categorise) -> Result<Self, RulesError> {
        let mut substrings: Vec<&str> = Vec::new();
        let mut owners = Vec::new();
        let mut rules = Vec::with_capacity(settings.rules.len());
        for (index, rule) in settings.rules.iter().enumerate() {
            let mut compiled = CompiledRule {
                levels: rule.levels.iter().collect(),
                action: rule.action.clone(),
                starts: Vec::new(),
                ends: Vec::new(),
                always: false,
            };
            for filter in &rule.filters {
                match filter {
                    Filter::Start(text) | Filter::End(text) | Filter::Anywhere(text)
                        if text.is_empty() =>
                    {
                        compiled.always = true;
                    }
                    Filter::Start(text) => compiled.starts.push(text.as_str().into()),
                    Filter::End(text) => compiled.ends.push(text.as_str().into()),
                    Filter::Anywhere(text) => {
                        substrings.push(text);
                        owners.push(index);
                    }
                }
            }
            rules.push(compiled);
        }
        let levels = Levels(rules.iter().fold(0, |set, rule| set | rule.levels.0));
        let searched = Levels(owners.iter().fold(0, |set, owner| set | rules[*owner].levels.0));
        let matcher =
            if substrings.is_empty() { None } else { Some(AhoCorasick::new(substrings)?) };
        let mut default: Vec<Category> = Vec::new();
        for category in &settings.default {
            if !default.contains(category) {
                default.push(category.clone());
            }
        }
        Ok(Self { rules, default, substrings: matcher, owners, searched, levels })
    }

    /// The categories of an event, without duplicates, in the order of the rules; or that a rule
    /// drops it.
    pub fn judge(&self, event: &Event<'_>) -> Result<Categories<'_>, RejectReason> {
        let mut categories = Categories::new();
        let mut matched = false;
        let level = Level::named(event.text(Column::Level));
        if let Some(level) = level.filter(|level| self.levels.contain(*level)) {
            let message = event.text(Column::Message);
            let hits = self.search(level, message);
            for (index, rule) in self.rules.iter().enumerate() {
                if !rule.levels.contain(level) || !(is_set(&hits, index) || rule.matches(message)) {
                    continue;
                }
                let Action::Categorise(added) = &rule.action else {
                    return Err(RejectReason::CategoryDrop);
                };
                matched = true;
                for category in added {
                    if !categories.contains(&category) {
                        categories.push(category);
                    }
                }
            }
        }
        if !matched {
            categories.extend(&self.default);
        }
        Ok(categories)
    }

    /// The rules of which a text stands somewhere in the message.
    fn search(&self, level: Level, message: &str) -> Hits {
        let mut hits = Hits::new();
        let Some(substrings) = self.substrings.as_ref().filter(|_| self.searched.contain(level))
        else {
            return hits;
        };
        hits.resize(self.rules.len().div_ceil(BITS), 0);
        // Overlapping, because a text of one rule may lie within that of another.
        for found in substrings.find_overlapping_iter(message) {
            let owner = self.owners[found.pattern().as_usize()];
            hits[owner / BITS] |= 1 << (owner % BITS);
        }
        hits
    }
}

const BITS: usize = u64::BITS as usize;

fn is_set(hits: &Hits, index: usize) -> bool {
    hits.get(index / BITS).is_some_and(|word| word & (1 << (index % BITS)) != 0)
}

impl CompiledRule {
    /// Whether one of its texts stands where it has to, apart from those that may stand anywhere.
    fn matches(&self, message: &str) -> bool {
        self.always
            || self.starts.iter().any(|text| message.starts_with(&**text))
            || self.ends.iter().any(|text| message.ends_with(&**text))
    }
}
