//! Many texts, searched for together.
//!
//! Most messages hold none of them, so what counts is how fast that is known. Where the processor can
//! look at 16 or 32 bytes at a time, and the beginnings of the texts are not too many for that (64), a
//! vectorised searcher finds where one might begin; whether it does, an automaton says. Without it, the
//! automaton looks at every byte.
//!
//! Either finds the longest text at the first place where there is any, and the texts that this one
//! begins with are there too; the search goes on at the next byte, so that texts are found within and
//! across others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::packed::{Config, Searcher};
use aho_corasick::{AhoCorasick, Anchored, BuildError, Input, Match, MatchKind, Span, StartKind};

/// A beginning of this many bytes tells texts apart from nearly all that is not one; longer ones would
/// only be more.
const BEGINNING: usize = 8;

/// Texts, each with something that it stands for.
#[derive(Debug)]
pub(super) struct Texts<T> {
    search: Search,
    /// For each text, what is found with it: itself and those that it begins with, with their lengths.
    found: Vec<Vec<(usize, T)>>,
}

#[derive(Debug)]
struct Search {
    /// Finds where a text might begin.
    beginnings: Option<Searcher>,
    /// Finds the longest text.
    automaton: AhoCorasick,
}

impl<T: Clone> Texts<T> {
    /// Makes texts ready to be searched for. None of them is empty; one may be given several times.
    pub fn new<'t>(texts: impl IntoIterator<Item = (&'t str, T)>) -> Result<Self, BuildError> {
        let mut meanings: BTreeMap<&str, Vec<T>> = BTreeMap::new();
        for (text, meaning) in texts {
            meanings.entry(text).or_default().push(meaning);
        }
        let starts = |whole: &str| {
            let within = meanings.iter().filter(|(text, _)| whole.starts_with(**text));
            within
                .flat_map(|(text, meanings)| meanings.iter().map(|m| (text.len(), m.clone())))
                .collect()
        };
        let found = meanings.keys().map(|text| starts(text)).collect();
        Ok(Self { search: Search::new(&meanings.keys().copied().collect::<Vec<_>>())?, found })
    }
}

impl<T> Texts<T> {
    /// Calls `each` for every place where one of the texts is, with what the text stands for.
    pub fn each_in(&self, line: &str, mut each: impl FnMut(Range<usize>, &T)) {
        let mut from = 0;
        while let Some(longest) = self.search.first(line, from) {
            let start = longest.start();
            for (length, meaning) in &self.found[longest.pattern().as_usize()] {
                each(start..start + length, meaning);
            }
            from = start + 1;
        }
    }
}

impl Search {
    fn new(texts: &[&str]) -> Result<Self, BuildError> {
        let beginnings: BTreeSet<&[u8]> =
            texts.iter().map(|text| &text.as_bytes()[..text.len().min(BEGINNING)]).collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Both)
            // Where it looks at every byte, the texts are so many that some rare byte is in each line.
            .prefilter(false)
            .build(texts)?;
        Ok(Self { beginnings: Config::new().builder().extend(beginnings).build(), automaton })
    }

    /// The longest text at the first place from `from` on.
    fn first(&self, line: &str, mut from: usize) -> Option<Match> {
        let Some(beginnings) = &self.beginnings else {
            return self.automaton.find(Input::new(line).range(from..));
        };
        loop {
            from = beginnings.find_in(line, Span { start: from, end: line.len() })?.start();
            let here = Input::new(line).range(from..).anchored(Anchored::Yes);
            let longest = self.automaton.find(here);
            if longest.is_some() {
                return longest;
            }
            from += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Every place of every text, found one by one.
    fn naive(texts: &[String], line: &str) -> Vec<(Range<usize>, usize)> {
        let mut found = Vec::new();
        for start in 0..line.len() {
            for (index, text) in texts.iter().enumerate() {
                if line.as_bytes()[start..].starts_with(text.as_bytes()) {
                    found.push((start..start + text.len(), index));
                }
            }
        }
        found
    }

    fn found(texts: &[String], line: &str) -> Vec<(Range<usize>, usize)> {
        let numbered = texts.iter().enumerate().map(|(index, text)| (text.as_str(), index));
        let mut found = Vec::new();
        Texts::new(numbered).unwrap().each_in(line, |range, &index| found.push((range, index)));
        found.sort_by_key(|(range, index)| (range.start, *index));
        found
    }

    proptest! {
        #[test]
        fn every_place_of_every_text_is_found(
            texts in vec("[abö]{1,4}|[ab]{9,12}", 0..20),
            line in "[abcö]{0,60}",
        ) {
            prop_assert_eq!(found(&texts, &line), naive(&texts, &line));
        }

        #[test]
        fn also_of_more_texts_than_are_searched_for_at_once(
            texts in vec("[ab]{3,8}", 100..110),
            line in "[abc]{0,60}",
        ) {
            prop_assert_eq!(found(&texts, &line), naive(&texts, &line));
        }
    }

    #[test]
    fn without_texts_nothing_is_found() {
        assert_eq!(found(&[], "a line"), []);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn few_beginnings_are_searched_for_at_once_and_many_one_byte_at_a_time() {
        let at_once = |texts: Vec<String>| {
            let texts = texts.iter().map(|text| (text.as_str(), ()));
            Texts::new(texts).unwrap().search.beginnings.is_some()
        };
        let numbered = |range: Range<u32>| range.map(|n| format!("{n} times")).collect();
        assert!(!at_once(numbered(100..200)));
        if std::arch::is_x86_feature_detected!("ssse3") {
            assert!(at_once(numbered(100..160)));
            assert!(at_once((0..500).map(|n| format!("Beginning alike {n}")).collect()));
        }
    }
}
