//! One look at every byte of a datagram: where the separators are, which bytes no destination has
//! to escape, and whether there is a control character.
//!
//! A field of an event has some fourteen bytes and its length cannot be foreseen, so searching field
//! by field costs more in mispredicted branches than in comparing. Here bytes become bits, 64 at a
//! time, and bits become positions eight at a time, whether there are so many or not.
//!
//! Two versions of the innermost step: SSE2, which every `x86_64` processor has, and a plain one for
//! all others, which property tests hold equal.

use super::Payload;
use super::layout::COLUMNS_MAX;

/// Bytes classified at once: one bit of a word each.
const BLOCK: usize = 64;

/// Positions written at once.
const STRIDE: usize = 8;

/// Bytes of which it is remembered whether they are plain. Longer datagrams have long messages,
/// which are rarely plain anyway.
const PLAIN_BYTES: usize = 1024;

/// Whether a byte is written as it is wherever it goes: in a tag, in a string, in JSON.
///
/// `!` and `?` would be plain too, but stand between bytes that are not: leaving them out takes a
/// third fewer comparisons.
#[must_use]
pub const fn is_plain(byte: u8) -> bool {
    !((byte <= b'"') | (byte | 3 == b'?') | (byte == b',') | (byte == b'\\'))
}

/// One bit for each byte of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bits {
    separators: u64,
    plain: u64,
    controls: u64,
}

/// The plain one of the two versions.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn classify_each(block: &[u8; BLOCK]) -> Bits {
    let mut bits = Bits::default();
    for (index, &byte) in block.iter().enumerate() {
        bits.separators |= u64::from(byte == b';') << index;
        bits.plain |= u64::from(is_plain(byte)) << index;
        bits.controls |= u64::from(byte < 0x20 || byte == 0x7F) << index;
    }
    bits
}

#[cfg(not(target_arch = "x86_64"))]
use classify_each as classify;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions; measured to be worth it")]
#[inline]
fn classify(block: &[u8; BLOCK]) -> Bits {
    // SAFETY: every `x86_64` processor has SSE2.
    unsafe { classify_vectors(block) }
}

/// The version for SSE2.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "loading a vector has no safe form")]
#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "vectors of bytes are signed"
)]
#[target_feature(enable = "sse2")]
#[inline]
fn classify_vectors(block: &[u8; BLOCK]) -> Bits {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    let mut bits = Bits::default();
    let (chunks, _) = block.as_chunks::<16>();
    for (index, chunk) in chunks.iter().enumerate() {
        // SAFETY: the load may be unaligned and reads the sixteen bytes of `chunk`.
        let bytes = unsafe { _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>()) };
        let all = |byte: u8| _mm_set1_epi8(byte as i8);
        let equal = |byte: u8| _mm_cmpeq_epi8(bytes, all(byte));
        let at_most = |byte: u8| _mm_cmpeq_epi8(_mm_min_epu8(bytes, all(byte)), bytes);
        let mask = |vector| u64::from(_mm_movemask_epi8(vector) as u16) << (index * 16);
        let compared = _mm_cmpeq_epi8(_mm_or_si128(bytes, all(3)), all(b'?'));
        let special = _mm_or_si128(
            _mm_or_si128(at_most(b'"'), compared),
            _mm_or_si128(equal(b','), equal(b'\\')),
        );
        bits.separators |= mask(equal(b';'));
        bits.plain |= mask(special);
        bits.controls |= mask(_mm_or_si128(at_most(0x1F), equal(0x7F)));
    }
    bits.plain = !bits.plain;
    bits
}

/// Where the fields of a line end.
///
/// Nobody asks for more than one field above the largest layout, which tells that there is a surplus,
/// so hostile datagrams take no more memory than good ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// They are written [`STRIDE`] at a time.
    pub(super) positions: [u32; COLUMNS_MAX + 1 + STRIDE],
    /// How many of them count.
    pub(super) found: usize,
}

/// Which of the first bytes are plain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain([u64; PLAIN_BYTES / BLOCK + 1]);

impl Plain {
    /// Whether all of these bytes are known to be plain.
    #[inline]
    pub(super) fn covers(&self, start: usize, len: usize) -> bool {
        let (word, shift) = (start / BLOCK, start % BLOCK);
        let (Some(&low), Some(&high)) = (self.0.get(word), self.0.get(word + 1)) else {
            return len == 0;
        };
        let bits = (u128::from(high) << BLOCK | u128::from(low)) >> shift;
        let wanted = if len <= BLOCK { (1_u128 << len) - 1 } else { u128::MAX };
        bits & wanted == wanted
    }
}

/// What there is to know about a line before any field is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    pub(super) ends: Ends,
    pub(super) plain: Plain,
    /// Whether there is a control character: 0x00–0x1F and 0x7F, as in the payload reference.
    pub(super) controls: bool,
}

impl Scan {
    /// Looks at a line.
    pub(super) fn of(payload: Payload<'_>) -> Self {
        let line = payload.bytes();
        let mut scan = Self {
            ends: Ends { positions: [0; COLUMNS_MAX + 1 + STRIDE], found: 0 },
            plain: Plain([0; PLAIN_BYTES / BLOCK + 1]),
            controls: false,
        };
        for start in (0..line.len()).step_by(BLOCK) {
            let inside = line.len() - start;
            let mut bits = match payload.window::<BLOCK>(start) {
                Some(block) => classify(block),
                None => {
                    let mut block = [0; BLOCK];
                    block[..inside].copy_from_slice(&line[start..]);
                    classify(&block)
                }
            };
            if inside < BLOCK {
                let within = (1 << inside) - 1;
                bits.separators &= within;
                bits.plain &= within;
                bits.controls &= within;
            }
            scan.controls |= bits.controls != 0;
            if let Some(word) = scan.plain.0[..PLAIN_BYTES / BLOCK].get_mut(start / BLOCK) {
                *word = bits.plain;
            }
            scan.ends.push(start, bits.separators);
        }
        scan.ends.close(line.len());
        scan
    }
}

impl Ends {
    /// Adds the separators of a block.
    #[inline]
    fn push(&mut self, start: usize, mut separators: u64) {
        let base = offset(start);
        while separators != 0 && self.found < COLUMNS_MAX {
            let count = separators.count_ones() as usize;
            for position in &mut self.positions[self.found..self.found + STRIDE] {
                // Without any left this writes what is overwritten later, or never looked at.
                *position = base + separators.trailing_zeros();
                separators &= separators.wrapping_sub(1);
            }
            self.found += count.min(STRIDE);
        }
    }

    /// The last field ends where the line does.
    fn close(&mut self, len: usize) {
        self.found = self.found.min(COLUMNS_MAX);
        self.positions[self.found] = offset(len);
        self.found += 1;
    }
}

/// A position as it is kept. Datagrams have at most 65 535 bytes.
#[expect(clippy::cast_possible_truncation, reason = "see above; of longer lines the rest is lost")]
pub(super) const fn offset(position: usize) -> u32 {
    position as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(line: &[u8]) -> Vec<usize> {
        let separators = line.iter().enumerate().filter(|(_, byte)| **byte == b';');
        let mut ends: Vec<usize> = separators.map(|(at, _)| at).take(COLUMNS_MAX).collect();
        ends.push(line.len());
        ends
    }

    proptest! {
        #[test]
        fn both_versions_agree(block in prop::array::uniform32(any::<[u8; 2]>())) {
            let block = block.as_flattened().try_into().unwrap();
            prop_assert_eq!(classify(block), classify_each(block));
        }

        #[test]
        fn a_scan_finds_what_looking_at_each_byte_finds(
            line in prop::collection::vec(
                prop_oneof![4 => Just(b';'), 20 => b'a'..=b'z', 2 => any::<u8>()], 0..1400),
            padding in 0..100_usize,
            from in 0..1400_usize,
            len in 0..200_usize,
        ) {
            let mut bytes = line.clone();
            bytes.extend(std::iter::repeat_n(b';', padding));
            let scan = Scan::of(Payload::new(&bytes, line.len()));
            let found: Vec<usize> =
                scan.ends.positions[..scan.ends.found].iter().map(|&at| at as usize).collect();
            prop_assert_eq!(found, naive(&line));
            prop_assert_eq!(scan.controls, line.iter().any(|&byte| byte < 0x20 || byte == 0x7F));
            let from = from.min(line.len());
            let piece = &line[from..(from + len).min(line.len())];
            let plain = piece.iter().all(|&byte| is_plain(byte));
            let known = piece.is_empty() || (piece.len() <= 64 && from + piece.len() <= 1024);
            prop_assert!(!scan.plain.covers(from, piece.len()) || plain, "never claimed wrongly");
            prop_assert!(!(known && plain) || scan.plain.covers(from, piece.len()));
        }
    }

    #[test]
    fn nothing_has_one_empty_field() {
        let scan = Scan::of(Payload::from(&b""[..]));
        assert_eq!((scan.ends.found, scan.ends.positions[0]), (1, 0));
    }
}
