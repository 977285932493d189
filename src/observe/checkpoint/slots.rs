//! A small file that holds a record whatever moment its writer ends at.
//!
//! Two slots of one size are written in turn, in place: a write that is cut short damages one slot,
//! and the other still holds the record before it. Nothing is renamed or synced, so that a record
//! costs one write to the page cache. A slot is
//!
//! ```text
//! "rsledgr1" | sequence u64 | length u32 | crc32c u32 of sequence, length and record | record
//! ```
//!
//! in little endian; the record with the higher sequence number is the newer one.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

/// Names the format and its version.
const MAGIC: &[u8; 8] = b"rsledgr1";
const HEADER: usize = MAGIC.len() + 8 + 4 + 4;
/// What the kernel writes as one piece on common file systems.
const PAGE: usize = 4096;

/// The slots of an open file.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    /// Bytes of each slot.
    size: usize,
    /// Of the next record.
    sequence: u64,
    buffer: Vec<u8>,
}

/// A file that is not empty and has no whole record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// The newest record among the bytes of a file, and its sequence number; `None` when there has never
/// been one.
pub(super) fn newest(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Damaged> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let records = [first, second].into_iter().filter_map(decode);
    records.max_by_key(|(sequence, _)| *sequence).map(Some).ok_or(Damaged)
}

fn decode(slot: &[u8]) -> Option<(u64, &[u8])> {
    let rest = slot.strip_prefix(MAGIC)?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let record = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let sequence = u64::from_le_bytes(*sequence);
    (crc_of(sequence, record) == u32::from_le_bytes(*crc)).then_some((sequence, record))
}

fn crc_of(sequence: u64, record: &[u8]) -> u32 {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &length.to_le_bytes()), record)
}

impl Slots {
    /// Slots for records of up to `longest` bytes; those of a file that has slots of another size are
    /// forgotten. `newest` is the sequence number of the newest record so far.
    pub(super) fn new(file: File, longest: usize, newest: u64) -> io::Result<Self> {
        let size = (HEADER + longest).next_multiple_of(PAGE);
        let length = 2 * size as u64;
        if file.metadata()?.len() != length {
            file.set_len(0)?;
            file.set_len(length)?;
        }
        Ok(Self { file, size, sequence: newest + 1, buffer: Vec::with_capacity(size) })
    }

    /// Writes a record over the older of the two.
    pub(super) fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let length = u32::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if HEADER + record.len() > self.size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(MAGIC);
        self.buffer.extend_from_slice(&self.sequence.to_le_bytes());
        self.buffer.extend_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&crc_of(self.sequence, record).to_le_bytes());
        self.buffer.extend_from_slice(record);
        let at = (self.sequence % 2) * self.size as u64;
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(&self.buffer)?;
        // Only now: a failed write is repeated in the same slot, never over the good one.
        self.sequence += 1;
        Ok(())
    }

    /// Waits until what was written is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn bytes(slots: &mut Slots) -> Vec<u8> {
        let mut bytes = Vec::new();
        slots.file.rewind().expect("rewind");
        slots.file.read_to_end(&mut bytes).expect("read");
        bytes
    }

    fn slots(longest: usize, newest: u64) -> Slots {
        Slots::new(tempfile::tempfile().expect("a file"), longest, newest).expect("slots")
    }

    #[test]
    fn the_newest_record_is_found() {
        let mut slots = slots(10, 6);
        assert_eq!(newest(&bytes(&mut slots)), Ok(None));
        for (sequence, record) in [(7, "seven"), (8, "eight"), (9, "9")] {
            slots.write(record.as_bytes()).expect("write");
            assert_eq!(newest(&bytes(&mut slots)), Ok(Some((sequence, record.as_bytes()))));
        }
        assert_eq!(bytes(&mut slots).len(), 2 * PAGE);
    }

    #[test]
    fn a_write_cut_short_at_any_byte_leaves_the_record_before_it() {
        let mut slots = slots(10, 0);
        slots.write(b"one").expect("write");
        slots.write(b"two").expect("write");
        let before = bytes(&mut slots);
        slots.write(b"three").expect("write");
        let after = bytes(&mut slots);
        let slot = PAGE..PAGE + HEADER + 5;
        for cut in slot.clone() {
            let mut torn = before.clone();
            torn[slot.start..cut].copy_from_slice(&after[slot.start..cut]);
            let found = newest(&torn).expect("a whole record").expect("a record");
            // Cut before the first byte that differs or inside: the record of the other slot.
            assert_eq!(found, (2, &b"two"[..]), "{cut}");
        }
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        let mut slots = slots(10, 0);
        slots.write(b"one").expect("write");
        let whole = bytes(&mut slots);
        for at in PAGE..PAGE + HEADER + 3 {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(newest(&changed), Err(Damaged), "byte {at} bit {bit}");
            }
        }
        assert_eq!(newest(b"anything else"), Err(Damaged));
    }

    #[test]
    fn too_long_a_record_is_an_error_and_other_sizes_start_anew() {
        let mut small = slots(10, 0);
        assert!(small.write(&[b'x'; PAGE]).is_err());
        small.write(b"old").expect("write");
        let mut large = Slots::new(small.file, 2 * PAGE, 1).expect("slots");
        assert_eq!(newest(&bytes(&mut large)), Ok(None));
        large.write(&[b'x'; PAGE]).expect("write");
        assert_eq!(newest(&bytes(&mut large)).expect("whole").expect("a record").0, 2);
    }
}
