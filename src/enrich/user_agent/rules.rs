//! How a table of names is asked.
//!
//! Patterns are those of the `regex` crate, so the time they take is linear in the text, whatever the
//! text is. Letters count in either case, and classes hold ASCII only. In the patterns
//!
//! | text | stands for |
//! |---|---|
//! | `<token>` | the rule's own test |
//! | `<loose>` | the version: two digits or more, `.` and `_` between them: `10_15.7` |
//! | `<dotted>` | the version: two numbers or more, with dots between them |
//! | `<number>` | the version: numbers with dots between them |

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// One row of a table: what to call a text that matches.
#[derive(Debug)]
pub(super) struct Rule {
    name: &'static str,
    test: &'static str,
    unless: Option<&'static str>,
    versions: &'static [&'static str],
}

impl Rule {
    /// Texts that match `test` are called `name`; their version is the first group of the first of
    /// `versions` that matches.
    pub const fn new(
        name: &'static str,
        test: &'static str,
        versions: &'static [&'static str],
    ) -> Self {
        Self { name, test, unless: None, versions }
    }

    /// But not if the text matches this.
    pub const fn unless(mut self, exception: &'static str) -> Self {
        self.unless = Some(exception);
        self
    }

    #[cfg(test)]
    pub const fn test(&self) -> &'static str {
        self.test
    }

    fn compile(&self, version: &str) -> Regex {
        let pattern = version
            .replace("<token>", &format!("(?:{})", self.test))
            .replace("<loose>", r"(\d+(?:\.?_?\d+)+)")
            .replace("<dotted>", r"(\d+(?:\.\d+)+)")
            .replace("<number>", r"(\d+(?:\.\d+)*)");
        regex(&pattern)
    }
}

/// A compiled table.
#[derive(Debug)]
pub(super) struct Rules {
    rows: &'static [Rule],
    tests: RegexSet,
    /// For each row the patterns of its versions, compiled when they are first needed: hardly any
    /// ever are, and all together would take some ten milliseconds.
    versions: Vec<OnceLock<Vec<Regex>>>,
    /// For each row what must not match.
    exceptions: Vec<Option<Regex>>,
}

impl Rules {
    pub fn new(rows: &'static [Rule]) -> Self {
        let tests = RegexSetBuilder::new(rows.iter().map(|row| row.test))
            .unicode(false)
            .case_insensitive(true)
            .build()
            .expect("the tables are constant and a test compiles them");
        let exceptions = rows.iter().map(|row| row.unless.map(regex)).collect();
        Self { rows, tests, versions: rows.iter().map(|_| OnceLock::new()).collect(), exceptions }
    }

    /// Name and version by the first row that fits; the version is empty if there is none.
    pub fn find<'t>(&self, text: &'t str) -> Option<(&'static str, &'t str)> {
        let fits = |row: &usize| !self.exceptions[*row].as_ref().is_some_and(|e| e.is_match(text));
        let index = self.tests.matches(text).into_iter().find(fits)?;
        let row = &self.rows[index];
        let compile = || row.versions.iter().map(|version| row.compile(version)).collect();
        let version = self.versions[index]
            .get_or_init(compile)
            .iter()
            .find_map(|version| version.captures(text)?.get(1))
            .map_or("", |version| version.as_str());
        Some((row.name, version))
    }
}

fn regex(pattern: &str) -> Regex {
    RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(true)
        .build()
        .expect("the tables are constant and a test compiles them")
}

#[cfg(test)]
mod tests {
    use super::super::{BROWSERS, SYSTEMS};
    use super::*;

    #[test]
    fn every_pattern_compiles_and_has_one_group() {
        for rows in [BROWSERS, SYSTEMS] {
            let rules = Rules::new(rows);
            assert_eq!(rules.tests.len(), rows.len());
            for row in rows {
                for version in row.versions {
                    assert_eq!(row.compile(version).captures_len(), 2, "{}: {version}", row.name);
                }
            }
        }
    }

    #[test]
    fn the_first_row_wins_and_versions_are_tried_in_order() {
        static ROWS: &[Rule] = &[
            Rule::new("Good", "good", &["<token>/<dotted>", "v<number>"]).unless("not good"),
            Rule::new("Any", "o", &[]),
        ];
        let rules = Rules::new(ROWS);
        assert_eq!(rules.find("xx v7 GOOD/1.2"), Some(("Good", "1.2")));
        assert_eq!(rules.find("xx v7 good/1"), Some(("Good", "7")));
        assert_eq!(rules.find("good"), Some(("Good", "")));
        assert_eq!(rules.find("good, not good"), Some(("Any", "")));
        assert_eq!(rules.find(""), None);
    }
}
