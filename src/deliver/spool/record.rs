//! One spooled batch as bytes.
//!
//! ```text
//! length u32 | crc32c u32 | sequence u64 | event count u32 | payload        little endian
//! ```
//!
//! `length` is that of the payload; the checksum covers everything but itself. The payload is a zstd
//! frame of the receive time of the oldest event (ns since 1970, `u64`) and the body, one event a
//! line. The sequence is the number of events written before, not of records: what is missing between
//! two records is a number of events, whatever became of the records.
//!
//! Everything here is a function of bytes. Bytes that nobody wrote are refused, at no more cost than
//! [`BODY_MAX`] of memory.

use std::io;

use bytes::{Bytes, BytesMut};

/// Bytes of a record before its payload.
pub const HEADER: usize = 20;

/// Longest body: batches and merged requests are 4 MiB and one event at most; an event of one
/// datagram is far below 1 MiB in every encoding.
pub const BODY_MAX: usize = 16 * 1024 * 1024;

/// Longest payload: what does not compress grows by a 256th and a few bytes (zstd's bound).
pub const PAYLOAD_MAX: usize = BODY_MAX + BODY_MAX / 256 + 1024;

/// An InfluxDB line compresses to a sixth at level 1; more costs more than the disk saves.
const LEVEL: i32 = 1;

/// Bytes before the body inside the payload.
const OLDEST: usize = size_of::<u64>();

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: u32,
    checksum: u32,
    /// Events before this record.
    pub sequence: u64,
    /// Events in this record.
    pub events: u32,
}

impl Header {
    /// The header at the start of `bytes`, if what it says is possible. The checksum is not looked at.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let header = Self {
            length: u32::from_le_bytes(*bytes.first_chunk()?),
            checksum: u32::from_le_bytes(*bytes[4..].first_chunk()?),
            sequence: u64::from_le_bytes(*bytes[8..].first_chunk()?),
            events: u32::from_le_bytes(*bytes[16..].first_chunk()?),
        };
        let events = header.events as usize;
        let possible = header.length as usize <= PAYLOAD_MAX
            && (1..=BODY_MAX).contains(&events)
            && header.sequence.checked_add(u64::from(header.events)).is_some();
        possible.then_some(header)
    }

    /// Bytes of the record.
    #[must_use]
    pub fn whole(&self) -> usize {
        HEADER + self.length as usize
    }

    /// Events up to the end of this record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.sequence + u64::from(self.events)
    }

    /// Whether `record`, which begins with this header, is what was written.
    #[must_use]
    pub fn matches(&self, record: &[u8]) -> bool {
        record.len() == self.whole() && checksum(record) == self.checksum
    }
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..])
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Receive time of the oldest event, in ns since 1970.
    pub oldest_ns: u64,
    /// One event a line.
    pub lines: Bytes,
}

/// Writes a record. An error of kind [`io::ErrorKind::InvalidInput`] is about the body: it is longer
/// than [`BODY_MAX`].
pub fn encode(sequence: u64, events: u32, oldest_ns: u64, lines: &[u8]) -> io::Result<Bytes> {
    if lines.len() > BODY_MAX - OLDEST {
        let text = format!("a batch of {} bytes is too long for a record", lines.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut plain = Vec::with_capacity(OLDEST + lines.len());
    plain.extend_from_slice(&oldest_ns.to_le_bytes());
    plain.extend_from_slice(lines);
    let payload = zstd::bulk::compress(&plain, LEVEL)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut record = BytesMut::with_capacity(HEADER + payload.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&sequence.to_le_bytes());
    record.extend_from_slice(&events.to_le_bytes());
    record.extend_from_slice(&payload);
    let checksum = checksum(&record);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(record.freeze())
}

/// The body of a payload of `events` events; `None` when it holds anything else.
#[must_use]
pub fn decode(payload: &[u8], events: u32) -> Option<Body> {
    // Refuses, and never allocates, more than the limit, whatever the frame says about itself.
    let plain = Bytes::from(zstd::bulk::decompress(payload, BODY_MAX).ok()?);
    let oldest_ns = u64::from_le_bytes(*plain.first_chunk()?);
    let lines = plain.slice(OLDEST..);
    let whole = lines.last() == Some(&b'\n')
        && memchr::memchr_iter(b'\n', &lines).count() == events as usize;
    whole.then_some(Body { oldest_ns, lines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(record: &[u8]) -> Option<(Header, Body)> {
        let header = Header::read(record)?;
        let record = record.get(..header.whole())?;
        header.matches(record).then_some(())?;
        Some((header, decode(&record[HEADER..], header.events)?))
    }

    #[test]
    fn there_and_back() {
        let record = encode(7, 2, 99, b"one\ntwo\n").unwrap();
        let (header, body) = read(&record).unwrap();
        assert_eq!((header.sequence, header.events, header.end()), (7, 2, 9));
        assert_eq!((body.oldest_ns, &body.lines[..]), (99, &b"one\ntwo\n"[..]));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let record = encode(7, 2, 99, b"one\ntwo\n").unwrap();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn every_torn_write_is_seen() {
        let record = encode(0, 1, 1, b"event\n").unwrap();
        for length in 0..record.len() {
            assert_eq!(read(&record[..length]), None, "{length} bytes");
            let mut zeros = record[..length].to_vec();
            zeros.resize(record.len(), 0);
            assert_eq!(read(&zeros), None, "{length} bytes and zeros");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = zstd::bulk::compress(&vec![b'\n'; BODY_MAX + 1], 1).unwrap();
        assert!(bomb.len() < 4096, "small on disk");
        assert_eq!(decode(&bomb, u32::try_from(BODY_MAX - OLDEST).unwrap()), None);
    }

    #[test]
    fn counts_and_lines_agree() {
        let text = b"no end of line";
        let record = encode(0, 1, 1, text).unwrap();
        assert_eq!(read(&record), None);
        assert_eq!(read(&encode(0, 3, 1, b"a\nb\n").unwrap()), None);
        let error = encode(0, 1, 1, &vec![0; BODY_MAX]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, events: u32) {
            let _ = read(&bytes);
            let _ = decode(&bytes, events);
        }
    }
}
