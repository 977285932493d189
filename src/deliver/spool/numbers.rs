//! Which events of a record a part of it holds.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Numbers of events, ascending. Nearly always one range: what a destination refuses in the middle of
/// a record makes more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(Vec<Range<u64>>);

impl Numbers {
    /// The ranges, none of which is empty.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// Adds numbers behind all others.
    pub fn push(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.0.push(range);
        }
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The first `count` of them, and the others.
    #[must_use]
    pub fn split_at(&self, count: u64) -> [Self; 2] {
        let (mut first, mut rest) = (Self::default(), Self::default());
        let mut left = count;
        for range in self.ranges() {
            let cut = range.end.min(range.start.saturating_add(left));
            left -= cut - range.start;
            first.push(range.start..cut);
            rest.push(cut..range.end);
        }
        [first, rest]
    }

    /// Those at `places`, which are sorted, and the others.
    #[must_use]
    pub fn take_out(&self, places: &[u32]) -> [Self; 2] {
        let (mut out, mut rest) = (Self::default(), Self::default());
        let mut places = places.iter().map(|&place| u64::from(place)).peekable();
        let mut before = 0;
        for range in self.ranges() {
            let length = range.end - range.start;
            let mut at = range.start;
            while let Some(place) = places.next_if(|&place| place < before + length) {
                let number = range.start + (place - before);
                rest.push(at..number);
                out.push(number..number + 1);
                at = number + 1;
            }
            rest.push(at..range.end);
            before += length;
        }
        [out, rest]
    }

    /// The lines of these events among those of a record that begins with `sequence`.
    pub(super) fn lines(&self, sequence: u64, lines: &Bytes) -> Bytes {
        let mut rest = BytesMut::with_capacity(lines.len());
        let mut ranges = self.ranges().peekable();
        for (number, line) in (sequence..).zip(lines.split_inclusive(|&byte| byte == b'\n')) {
            while ranges.next_if(|range| range.end <= number).is_some() {}
            if ranges.peek().is_some_and(|range| range.contains(&number)) {
                rest.extend_from_slice(line);
            }
        }
        rest.freeze()
    }
}

impl From<Range<u64>> for Numbers {
    fn from(range: Range<u64>) -> Self {
        let mut numbers = Self::default();
        numbers.push(range);
        numbers
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a set of one range is meant")]
mod tests {
    use super::*;

    fn numbers(ranges: &[Range<u64>]) -> Numbers {
        Numbers(ranges.to_vec())
    }

    #[test]
    fn cut_in_two() {
        let all = numbers(&[3..5, 7..10]);
        assert_eq!(all.count(), 5);
        for (count, first, rest) in [
            (0, numbers(&[]), all.clone()),
            (1, numbers(&[3..4]), numbers(&[4..5, 7..10])),
            (2, numbers(&[3..5]), numbers(&[7..10])),
            (4, numbers(&[3..5, 7..9]), numbers(&[9..10])),
            (9, all.clone(), numbers(&[])),
        ] {
            assert_eq!(all.split_at(count), [first, rest], "{count}");
        }
    }

    #[test]
    fn places_are_taken_out() {
        let all = numbers(&[3..5, 7..10]);
        let [out, rest] = all.take_out(&[0, 1, 3]);
        assert_eq!(out, numbers(&[3..4, 4..5, 8..9]));
        assert_eq!(rest, numbers(&[7..8, 9..10]));
        assert_eq!(all.take_out(&[]), [numbers(&[]), all]);
    }

    #[test]
    fn lines_of_some_events() {
        let lines = Bytes::from_static(b"a\nb\nc\nd\n");
        assert_eq!(numbers(&[6..7, 8..9]).lines(5, &lines), "b\nd\n");
        assert_eq!(numbers(&[5..9]).lines(5, &lines), lines);
    }
}
