//! Counts by series, for threads that must not allocate.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Texts that name a series.
pub(super) const TEXTS: usize = 4;

/// What names a series, borrowed from an event.
pub(super) type Key<'a> = [&'a str; TEXTS];

/// Series that a table holds at most; events of further ones are counted under [`OTHER`]. A large
/// Sense cluster has some hundred pairs of host and subsystem; whoever sends invented names gets at
/// most 10 000 × 4 texts of 100 characters, 4 MB a shard.
pub(super) const SERIES_MAX: usize = 10_000;

/// Stands in all places of the series beyond [`SERIES_MAX`].
pub(super) const OTHER: &str = "other";

/// The counts of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) texts: [Box<str>; TEXTS],
    pub(super) count: u64,
    /// Process times added up.
    pub(super) process_time: f64,
}

/// Counts by series.
#[derive(Debug, Default)]
pub(super) struct Table {
    hasher: RandomState,
    series: HashTable<Series>,
}

impl Table {
    /// Adds to a series. Allocates for one that is not there yet.
    pub(super) fn add(&mut self, key: Key<'_>, count: u64, process_time: f64) {
        if !self.add_known(key, count, process_time) {
            let key = if self.series.len() < SERIES_MAX { key } else { [OTHER; TEXTS] };
            self.insert(key, count, process_time);
        }
    }

    fn add_known(&mut self, key: Key<'_>, count: u64, process_time: f64) -> bool {
        let hash = self.hasher.hash_one(key);
        let found = self.series.find_mut(hash, |series| is(series, key));
        if let Some(series) = found {
            series.count += count;
            series.process_time += process_time;
            return true;
        }
        false
    }

    #[cold]
    fn insert(&mut self, key: Key<'_>, count: u64, process_time: f64) {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(key);
        let rehash = |series: &Series| hasher.hash_one(&series.texts);
        match self.series.entry(hash, |series| is(series, key), rehash) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().count += count;
                entry.get_mut().process_time += process_time;
            }
            Entry::Vacant(entry) => {
                entry.insert(Series { texts: key.map(Box::from), count, process_time });
            }
        }
    }

    /// Adds everything that another table holds.
    pub(super) fn add_all(&mut self, other: &Self) {
        for Series { texts, count, process_time } in other.counted() {
            self.add(texts.each_ref().map(|text| &**text), *count, *process_time);
        }
    }

    /// The series with a count.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.count > 0)
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.counted().next().is_none()
    }

    /// Back to zero. Series that counted stay, so that counting on does not allocate; those that did
    /// not since the last time go.
    pub(super) fn reset(&mut self) {
        self.series.retain(|series| series.count > 0);
        for series in &mut self.series {
            (series.count, series.process_time) = (0, 0.0);
        }
    }
}

fn is(series: &Series, key: Key<'_>) -> bool {
    series.texts.iter().zip(key).all(|(text, wanted)| **text == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(table: &Table) -> Vec<(String, u64)> {
        let mut counts: Vec<_> =
            table.counted().map(|series| (series.texts.join("/"), series.count)).collect();
        counts.sort();
        counts
    }

    #[test]
    fn each_series_has_its_count() {
        let mut table = Table::default();
        table.add(["log", "a", "b", "c"], 1, 0.5);
        table.add(["log", "a", "b", "c"], 2, 0.25);
        table.add(["log", "ab", "", "c"], 1, 0.0);
        assert_eq!(counts(&table), [("log/a/b/c".to_owned(), 3), ("log/ab//c".to_owned(), 1)]);
        let times: f64 = table.counted().map(|series| series.process_time).sum();
        assert!((times - 0.75).abs() < f64::EPSILON);
    }

    #[test]
    fn series_beyond_the_limit_share_one() {
        let mut table = Table::default();
        for number in 0..SERIES_MAX + 7 {
            table.add(["log", &number.to_string(), "b", "c"], 1, 0.0);
        }
        table.add(["log", "0", "b", "c"], 1, 0.0);
        let counts = counts(&table);
        assert_eq!(counts.len(), SERIES_MAX + 1);
        assert!(counts.contains(&("other/other/other/other".to_owned(), 7)));
        assert!(counts.contains(&("log/0/b/c".to_owned(), 2)), "known series still count");
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), SERIES_MAX as u64 + 8);
    }

    #[test]
    fn a_series_that_is_not_used_for_a_whole_round_goes() {
        let mut table = Table::default();
        table.add(["a", "", "", ""], 1, 1.0);
        table.reset();
        assert!(table.is_empty());
        assert_eq!(table.series.len(), 1, "stays for counting on");
        table.reset();
        assert_eq!(table.series.len(), 0);
    }
}
