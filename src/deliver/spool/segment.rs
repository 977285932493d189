//! Segment files: their names, their first bytes, and the way through what they hold.
//!
//! A segment that is written to is called after the sequence that it begins with; one that is
//! complete is called after where it begins and ends, so that the events of a folder are counted
//! without reading a file. Records lie one behind the other. Between them may lie anything that a
//! failing disk leaves: the way goes on at the next record that is whole, and what is missing shows in
//! the sequence.

use std::ops::Range;

use super::record::{HEADER, Header};

/// Bytes before the first record: magic, version, checksum of both.
pub const PREFIX: usize = 16;

const MAGIC: &[u8; 8] = b"ringside";
const VERSION: u32 = 1;

/// Ending of the name of a segment.
const SUFFIX: &str = ".seg";

/// The name of a segment that is written to, or of a complete one.
#[must_use]
pub fn name(first: u64, end: Option<u64>) -> String {
    match end {
        None => format!("{first:016x}{SUFFIX}"),
        Some(end) => format!("{first:016x}-{end:016x}{SUFFIX}"),
    }
}

/// Where the segment of this name begins and, if it is complete, ends. `None` for other files.
#[must_use]
pub fn parse_name(name: &str) -> Option<(u64, Option<u64>)> {
    let stem = name.strip_suffix(SUFFIX)?;
    match stem.split_once('-') {
        None => Some((number(stem)?, None)),
        Some((first, end)) => {
            let (first, end) = (number(first)?, number(end)?);
            (first < end).then_some((first, Some(end)))
        }
    }
}

/// A number as it stands in a name.
pub(super) fn number(text: &str) -> Option<u64> {
    let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    hex.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// The first bytes of a segment.
#[must_use]
pub fn prefix() -> [u8; PREFIX] {
    prefix_of(VERSION)
}

fn prefix_of(version: u32) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    prefix[..8].copy_from_slice(MAGIC);
    prefix[8..12].copy_from_slice(&version.to_le_bytes());
    let checksum = crc32c::crc32c(&prefix[..12]);
    prefix[12..].copy_from_slice(&checksum.to_le_bytes());
    prefix
}

/// The version of a segment that only a newer program can read. A damaged prefix says nothing: the
/// records speak for themselves.
#[must_use]
pub fn newer_version(bytes: &[u8]) -> Option<u32> {
    let prefix = bytes.first_chunk::<PREFIX>()?;
    let version = u32::from_le_bytes(*prefix[8..].first_chunk()?);
    (version != VERSION && *prefix == prefix_of(version)).then_some(version)
}

/// A record whose checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What its header says.
    pub header: Header,
    /// Where its payload lies.
    pub payload: Range<usize>,
}

/// The way through the records of a segment, or of the rest of one.
#[derive(Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Only records within these sequences belong to the segment.
    sequences: Range<u64>,
    /// Bytes that may still be spent on checksums of what only looks like a record. Without a limit,
    /// a file of nested headers would cost the square of its size.
    search: usize,
}

/// Checksums over so many times the bytes of a segment are spent on finding records behind damage.
const SEARCH_TIMES: usize = 16;

impl<'a> Walk<'a> {
    /// Begins at `at`, where a record should begin. Records outside of `sequences` are not believed.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize, sequences: Range<u64>) -> Self {
        let search = bytes.len().saturating_mul(SEARCH_TIMES);
        Self { bytes, at: at.min(bytes.len()), sequences, search }
    }

    /// Where the last record found ends.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Events that a record at this place claims to hold, though its checksum does not hold: the one
    /// that was being written when the machine stopped, or was damaged since.
    #[must_use]
    pub fn claimed(&self) -> u32 {
        Header::read(&self.bytes[self.at..])
            .filter(|header| header.sequence == self.sequences.start && self.belongs(header))
            .map_or(0, |header| header.events)
    }

    fn belongs(&self, header: &Header) -> bool {
        self.sequences.contains(&header.sequence) && header.end() <= self.sequences.end
    }

    fn record_at(&mut self, at: usize) -> Option<Found> {
        let header = Header::read(&self.bytes[at..]).filter(|header| self.belongs(header))?;
        let end = at + header.whole();
        let record = self.bytes.get(at..end)?;
        if at != self.at {
            self.search = self.search.checked_sub(record.len())?;
        }
        header.matches(record).then_some(Found { header, payload: at + HEADER..end })
    }
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        // The first place is where the next record is, unless there is damage.
        let last = self.bytes.len().checked_sub(HEADER)?;
        let found = (self.at..=last).find_map(|at| self.record_at(at))?;
        self.at = found.payload.end;
        self.sequences.start = found.header.end();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::encode;
    use super::*;

    /// A segment of three records of 2, 1 and 3 events, and where each begins.
    fn segment() -> (Vec<u8>, [usize; 4]) {
        let mut bytes = prefix().to_vec();
        let mut starts = [PREFIX; 4];
        let records = [(10, 2, "a\nb\n"), (12, 1, "c\n"), (13, 3, "d\ne\nf\n")];
        for (index, (sequence, events, lines)) in records.into_iter().enumerate() {
            bytes.extend_from_slice(&encode(sequence, events, 1, lines.as_bytes()).unwrap());
            starts[index + 1] = bytes.len();
        }
        (bytes, starts)
    }

    fn sequences(bytes: &[u8]) -> Vec<u64> {
        Walk::new(bytes, PREFIX, 10..u64::MAX).map(|found| found.header.sequence).collect()
    }

    #[test]
    fn names() {
        for (first, end) in [(0, None), (0xabc, Some(0xabd)), (7, Some(u64::MAX))] {
            assert_eq!(parse_name(&name(first, end)), Some((first, end)));
        }
        assert_eq!(name(255, Some(256)), "00000000000000ff-0000000000000100.seg");
        let others =
            ["cursor", "ff.seg", "+00000000000000f.seg", "00000000000000FF.seg", "-.seg", "é.seg"];
        for other in others {
            assert_eq!(parse_name(other), None, "{other}");
        }
        assert_eq!(parse_name(&name(5, Some(5))), None, "a segment holds something");
    }

    #[test]
    fn versions() {
        assert_eq!(newer_version(&prefix()), None);
        assert_eq!(newer_version(&prefix_of(2)), Some(2));
        let mut damaged = prefix_of(2);
        damaged[3] ^= 1;
        assert_eq!(newer_version(&damaged), None);
    }

    #[test]
    fn a_flipped_bit_costs_one_record() {
        let (bytes, starts) = segment();
        assert_eq!(sequences(&bytes), [10, 12, 13]);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut expected = vec![10, 12, 13];
            if let Some(hit) = starts.iter().rposition(|&start| bit / 8 >= start) {
                expected.remove(hit);
            }
            assert_eq!(sequences(&flipped), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_torn_tail_ends_the_way() {
        let (bytes, starts) = segment();
        for length in PREFIX..bytes.len() {
            let mut walk = Walk::new(&bytes[..length], PREFIX, 10..u64::MAX);
            let whole = starts.iter().rposition(|&start| length >= start).unwrap();
            assert_eq!(walk.by_ref().count(), whole, "{length} bytes");
            assert_eq!(walk.at(), starts[whole]);
            let header_there = length >= starts[whole] + HEADER;
            assert_eq!(walk.claimed(), if header_there { [2, 1, 3][whole] } else { 0 });
        }
    }

    #[test]
    fn records_of_elsewhere_are_not_believed() {
        let (mut bytes, _) = segment();
        bytes.extend_from_slice(&encode(11, 1, 1, b"back\n").unwrap());
        bytes.extend_from_slice(&encode(99, 1, 1, b"beyond\n").unwrap());
        assert_eq!(Walk::new(&bytes, PREFIX, 10..20).count(), 3);
    }

    #[test]
    fn nested_headers_cost_no_square() {
        // Every 20th byte begins a plausible header that reaches to the end of 4 MiB.
        let size = 4 << 20;
        let header = &encode(10, 1, 1, b"x\n").unwrap()[..HEADER];
        let mut bytes = Vec::with_capacity(size + HEADER);
        while bytes.len() < size {
            let rest = u32::try_from(size - bytes.len()).unwrap();
            bytes.extend_from_slice(&rest.to_le_bytes());
            bytes.extend_from_slice(&header[4..]);
        }
        bytes.resize(size + 2 * HEADER, 0);
        let mut walk = Walk::new(&bytes, 0, 10..u64::MAX);
        assert_eq!(walk.next(), None);
        assert!(walk.search < size, "the limit was reached");
    }
}
