//! Sets of sequences that are mostly without gaps.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Numbers;

/// A set of numbers, kept as ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds `range`; returns how many of its numbers are new.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let new = (range.end - range.start) - self.count(&range);
        let Range { mut start, mut end } = range;
        // Whatever overlaps or touches becomes one.
        while let Some((&first, &last)) = self.0.range(..=end).next_back()
            && last >= start
        {
            self.0.remove(&first);
            (start, end) = (start.min(first), end.max(last));
        }
        self.0.insert(start, end);
        new
    }

    /// How many numbers of `range` are in the set.
    pub fn count(&self, range: &Range<u64>) -> u64 {
        self.within(range.clone()).map(|part| part.end - part.start).sum()
    }

    /// The parts of the set within `range`.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let before = self.0.range(..range.start).next_back();
        let parts = before.into_iter().chain(self.0.range(range.start..range.end.max(range.start)));
        parts
            .map(move |(&first, &last)| first.max(range.start)..last.min(range.end))
            .filter(|part| !part.is_empty())
    }

    /// The numbers of `range` that are not in the set.
    pub fn missing(&self, range: Range<u64>) -> Numbers {
        let (mut missing, mut at) = (Numbers::default(), range.start);
        for part in self.within(range.clone()) {
            missing.push(at..part.start);
            at = part.end;
        }
        missing.push(at..range.end);
        missing
    }

    /// The first number from `from` on that is not in the set.
    pub fn gap(&self, from: u64) -> u64 {
        match self.0.range(..=from).next_back() {
            Some((_, &end)) if end > from => end,
            _ => from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn as_a_set_of_numbers(
            inserts in proptest::collection::vec((0_u64..60, 0_u64..12), 0..30),
            from in 0_u64..80,
            length in 0_u64..40,
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (start, length) in inserts {
                let new = (start..start + length).filter(|&n| set.insert(n)).count() as u64;
                prop_assert_eq!(ranges.insert(start..start + length), new);
            }
            let asked = from..from + length;
            let within: Vec<u64> = ranges.within(asked.clone()).flatten().collect();
            prop_assert_eq!(&within, &set.range(asked.clone()).copied().collect::<Vec<_>>());
            prop_assert_eq!(ranges.count(&asked), within.len() as u64);
            let missing: Vec<u64> = ranges.missing(asked.clone()).ranges().flatten().collect();
            let expected: Vec<u64> = asked.clone().filter(|n| !set.contains(n)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert_eq!(ranges.gap(from), (from..200).find(|n| !set.contains(n)).unwrap());
            let parts: Vec<_> = ranges.0.iter().collect();
            prop_assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", parts);
        }
    }
}
