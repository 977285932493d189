//! Categories of log events, by level and by what the message says.
//!
//! All rules are tried. The texts of all of them are searched for together, and of those that have to
//! stand at the start or end of a message, only what is found there counts. All compare with case, with
//! the message as destinations get it.
//!
//! Performance events have no message: no text is found in them, so they get the default category
//! (difference 7).

mod texts;

use smallvec::SmallVec;

use super::{Categories, Category, RulesError};
use crate::event::{Column, Event};
use crate::observe::ledger::RejectReason;
use texts::Texts;

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
    /// The texts of all rules; each finds the number of its rule and where it has to stand.
    texts: Texts<(usize, Place)>,
    /// The rules of which a text is empty: they match every message.
    always: Hits,
    /// The levels of all rules. Performance events are INFO, which few rules are about.
    levels: Levels,
}

#[derive(Debug)]
struct CompiledRule {
    levels: Levels,
    action: Action,
}

/// Where in the message a text has to stand.
#[derive(Clone, Copy, Debug)]
enum Place {
    Start,
    End,
    Anywhere,
}

impl Filter {
    fn text_and_place(&self) -> (&str, Place) {
        match self {
            Self::Start(text) => (text, Place::Start),
            Self::End(text) => (text, Place::End),
            Self::Anywhere(text) => (text, Place::Anywhere),
        }
    }
}

/// One bit for each rule; 256 of them without an allocation, which is more than any file is known to
/// have.
type Hits = SmallVec<[u64; 4]>;

impl Categoriser {
    pub fn new(settings: &Categorise) -> Result<Self, RulesError> {
        let mut always = Hits::from_elem(0, settings.rules.len().div_ceil(BITS));
        let mut texts = Vec::new();
        let mut rules = Vec::with_capacity(settings.rules.len());
        for (index, rule) in settings.rules.iter().enumerate() {
            for (text, place) in rule.filters.iter().map(Filter::text_and_place) {
                if text.is_empty() {
                    set(&mut always, index);
                } else {
                    texts.push((text, (index, place)));
                }
            }
            let levels = rule.levels.iter().collect();
            rules.push(CompiledRule { levels, action: rule.action.clone() });
        }
        let levels = Levels(rules.iter().fold(0, |set, rule| set | rule.levels.0));
        let texts = Texts::new(texts)?;
        let mut default: Vec<Category> = Vec::new();
        for category in &settings.default {
            if !default.contains(category) {
                default.push(category.clone());
            }
        }
        Ok(Self { rules, default, texts, always, levels })
    }

    /// Adds the categories of an event, without duplicates, in the order of the rules; or says that
    /// a rule drops it.
    pub fn judge<'r>(
        &'r self,
        event: &Event<'_>,
        categories: &mut Categories<'r>,
    ) -> Result<(), RejectReason> {
        let mut matched = false;
        let level = Level::named(event.text(Column::Level));
        if let Some(level) = level.filter(|level| self.levels.contain(*level)) {
            for index in ones(&self.matching(event.text(Column::Message))) {
                let rule = &self.rules[index];
                if !rule.levels.contain(level) {
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
            // Most events come here; `extend` takes longer for the one category that there mostly is.
            for category in &self.default {
                categories.push(category);
            }
        }
        Ok(())
    }

    /// The rules of which a text stands in the message where it has to, whatever their levels.
    fn matching(&self, message: &str) -> Hits {
        let mut hits = self.always.clone();
        self.texts.each_in(message, |range, &(rule, place)| {
            let stands = match place {
                Place::Start => range.start == 0,
                Place::End => range.end == message.len(),
                Place::Anywhere => true,
            };
            if stands {
                set(&mut hits, rule);
            }
        });
        hits
    }
}

const BITS: usize = u64::BITS as usize;

fn set(hits: &mut Hits, index: usize) {
    hits[index / BITS] |= 1 << (index % BITS);
}

/// The set bits, in their order.
fn ones(hits: &Hits) -> impl Iterator<Item = usize> {
    hits.iter().enumerate().flat_map(|(word, &bits)| {
        let rest = |bits: &u64| Some(bits & (bits - 1)).filter(|&bits| bits != 0);
        std::iter::successors(Some(bits).filter(|&bits| bits != 0), rest)
            .map(move |bits| word * BITS + bits.trailing_zeros() as usize)
    })
}
