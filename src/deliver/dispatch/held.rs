//! Batches while a destination does not have them yet, and the parts they are cut into.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::deliver::spool::Numbers;

/// Where a part comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::deliver) enum Source {
    /// The queue; it is in memory only.
    Queue,
    /// The spool; it is on disk too.
    Spool,
}

/// Place in the order of sending: number of the batch, or sequence in the spool, and where in it the
/// part began.
pub(in crate::deliver) type Key = (Source, u64, u32);

/// A batch, or a part of one. One line is one event.
#[derive(Debug)]
pub(in crate::deliver) struct Held {
    pub bytes: Bytes,
    pub events: u32,
    /// Receive time of the oldest event, in ns since 1970.
    pub oldest_ns: u64,
    /// When the batch came, on the monotonic clock.
    pub taken_at: Duration,
    /// The shard whose buffer this is; none when it is a copy or a part.
    pub pooled: Option<usize>,
    /// Whether it was sent before.
    pub tried: bool,
    /// The record of the spool that holds it.
    pub record: Option<u64>,
    /// The numbers of its events in the spool; none for those that are in memory only.
    pub numbers: Numbers,
}

impl Held {
    /// Whether it survives the end of the process.
    pub fn on_disk(&self) -> bool {
        self.record.is_some()
    }

    /// The same once more; the bytes are shared.
    pub fn copy(&self) -> Self {
        self.part(self.bytes.clone(), self.events, self.numbers.clone())
    }

    /// It is on disk from here on.
    pub fn written(&mut self, record: u64, numbers: Numbers) {
        (self.record, self.numbers) = (Some(record), numbers);
    }

    fn part(&self, bytes: Bytes, events: u32, numbers: Numbers) -> Self {
        Self { bytes, events, numbers, pooled: None, ..*self }
    }

    /// All `parts` as one of `length` bytes.
    pub fn merged(parts: &[(Key, Self)], length: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(length);
        for (_, part) in parts {
            bytes.extend_from_slice(&part.bytes);
        }
        let parts = || parts.iter().map(|(_, part)| part);
        Self {
            bytes: bytes.freeze(),
            events: parts().map(|part| part.events).sum(),
            oldest_ns: parts().map(|part| part.oldest_ns).min().unwrap_or_default(),
            taken_at: parts().map(|part| part.taken_at).min().unwrap_or_default(),
            pooled: None,
            tried: false,
            record: None,
            numbers: Numbers::default(),
        }
    }

    /// Where line `number` begins; the end of the batch when there are not so many.
    fn start_of(&self, number: u32) -> usize {
        match number.checked_sub(1) {
            None => 0,
            Some(newline) => memchr::memchr_iter(b'\n', &self.bytes)
                .nth(newline as usize)
                .map_or(self.bytes.len(), |at| at + 1),
        }
    }

    /// One line, for the log.
    pub fn line(&self, number: u32) -> &[u8] {
        let start = self.start_of(number);
        let line = &self.bytes[start..];
        memchr::memchr(b'\n', line).map_or(line, |end| &line[..end])
    }

    /// Both halves. `None` for a single event, which cannot be cut.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let first = self.events / 2;
        let cut = self.start_of(first);
        // The second test fails only for a batch with fewer lines than events; an empty body would
        // be acknowledged, and the events in it counted as delivered.
        (first > 0 && cut < self.bytes.len()).then(|| {
            let [before, behind] = self.numbers.split_at(first.into());
            [
                self.part(self.bytes.slice(..cut), first, before),
                self.part(self.bytes.slice(cut..), self.events - first, behind),
            ]
        })
    }

    /// The rest without `lines`, which are sorted, unique and in range, and the numbers of these.
    /// `None` when nothing is left.
    pub fn without(&self, lines: &[u32]) -> (Option<Self>, Numbers) {
        debug_assert!(lines.is_sorted_by(|a, b| a < b), "sorted and unique: {lines:?}");
        let mut rest = BytesMut::with_capacity(self.bytes.len());
        let mut refused = lines.iter().copied().peekable();
        let mut events = 0;
        for (number, line) in (0..self.events).zip(self.bytes.split_inclusive(|&b| b == b'\n')) {
            if refused.next_if_eq(&number).is_none() {
                rest.extend_from_slice(line);
                events += 1;
            }
        }
        let [out, numbers] = self.numbers.take_out(lines);
        ((events > 0).then(|| self.part(rest.freeze(), events, numbers)), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &'static str, events: u32) -> Held {
        Held {
            bytes: Bytes::from_static(text.as_bytes()),
            events,
            oldest_ns: 1,
            taken_at: Duration::ZERO,
            pooled: Some(0),
            tried: true,
            record: Some(10),
            numbers: (10..10 + u64::from(events)).into(),
        }
    }

    fn shown(part: &Held) -> (&str, u32) {
        (std::str::from_utf8(&part.bytes).unwrap(), part.events)
    }

    #[test]
    fn halves_keep_lines_whole() {
        let halves = held("a\nbb\nccc\n", 3).halves().unwrap();
        assert_eq!(halves.each_ref().map(shown), [("a\n", 1), ("bb\nccc\n", 2)]);
        assert!(halves.iter().all(|half| half.pooled.is_none() && half.tried));
        assert!(held("a\n", 1).halves().is_none());
    }

    #[test]
    fn a_batch_with_too_few_lines_is_not_halved() {
        assert!(held("a\n", 2).halves().is_none());
    }

    #[test]
    fn merged_and_cut_again() {
        let parts = [
            ((Source::Queue, 0, 0), held("a\nbb\n", 2)),
            ((Source::Queue, 1, 0), held("c\nd\n", 2)),
        ];
        let merged = Held::merged(&parts, 9);
        assert_eq!(shown(&merged), ("a\nbb\nc\nd\n", 4));
        assert_eq!(merged.halves().unwrap().each_ref().map(shown), [("a\nbb\n", 2), ("c\nd\n", 2)]);
    }

    #[test]
    fn lines_are_taken_out() {
        let batch = held("a\nbb\nccc\nd\n", 4);
        let (rest, out) = batch.without(&[0, 2]);
        let rest = rest.unwrap();
        assert_eq!(shown(&rest), ("bb\nd\n", 2));
        assert_eq!(out.ranges().flatten().collect::<Vec<_>>(), [10, 12]);
        let [_, last] = rest.halves().unwrap();
        assert_eq!(last.numbers.ranges().flatten().collect::<Vec<_>>(), [13]);
        assert!(batch.without(&[0, 1, 2, 3]).0.is_none());
        assert_eq!(batch.line(0), b"a");
        assert_eq!(batch.line(3), b"d");
    }
}
