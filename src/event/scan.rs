//! One look at every byte of a datagram: where the separators are, which bytes no destination has
//! to escape, and whether there is a control character.
//!
//! A field of an event has some fourteen bytes and its length cannot be foreseen, so searching field
//! by field costs more in mispredicted branches than in comparing. Here bytes become bits, 64 at a
//! time, and bits become positions eight at a time, whether there are so many or not.
//!
//! Two versions of the innermost step: AVX2 where the processor has it, and a plain one, which property
//! tests hold equal.

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
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches the comparisons of a whole chunk become vector instructions"
)]
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

/// The version for every processor.
#[inline]
fn classify_each(block: &[u8; BLOCK]) -> Bits {
    let mut bits = Bits::default();
    for (index, &byte) in block.iter().enumerate() {
        bits.separators |= u64::from(byte == b';') << index;
        bits.plain |= u64::from(is_plain(byte)) << index;
        bits.controls |= u64::from(byte < 0x20 || byte == 0x7F) << index;
    }
    bits
}

/// The version for processors with AVX2, which is nearly every one that runs servers.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "loading a vector has no safe form")]
#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_ptr_alignment,
    reason = "vectors of bytes are signed; the load needs no alignment"
)]
#[target_feature(enable = "avx2,popcnt")]
#[inline]
fn classify_vectors(block: &[u8; BLOCK]) -> Bits {
    use std::hint::black_box;

    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };
    let mut bits = Bits::default();
    let (halves, _) = block.as_chunks::<32>();
    for (index, half) in halves.iter().enumerate() {
        // SAFETY: the load reads the 32 bytes of `half`, which need no alignment for it.
        let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast::<__m256i>()) };
        let all = |byte: u8| _mm256_set1_epi8(byte as i8);
        let equal = |byte: u8| _mm256_cmpeq_epi8(bytes, all(byte));
        let at_most = |byte: u8| _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, all(byte)), bytes);
        // Without the black box LLVM 22 takes the masks apart, bit by bit: five times slower.
        let mask =
            |vector| u64::from(black_box(_mm256_movemask_epi8(vector)) as u32) << (index * 32);
        let compared = _mm256_cmpeq_epi8(_mm256_or_si256(bytes, all(3)), all(b'?'));
        let special = _mm256_or_si256(
            _mm256_or_si256(at_most(b'"'), compared),
            _mm256_or_si256(equal(b','), equal(b'\\')),
        );
        bits.separators |= mask(equal(b';'));
        bits.plain |= mask(special);
        bits.controls |= mask(_mm256_or_si256(at_most(0x1F), equal(0x7F)));
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

/// Which of the first bytes are plain, a bit for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain([u64; PLAIN_BYTES / BLOCK + 1]);

impl Plain {
    /// None.
    pub(super) const NONE: Self = Self([0; PLAIN_BYTES / BLOCK + 1]);

    /// Whether all of these bytes are known to be plain. Of long fields it is not known: they rarely
    /// are.
    #[inline]
    pub(super) fn covers(&self, start: usize, len: usize) -> bool {
        let (word, shift) = (start / BLOCK, start % BLOCK);
        let [low, high] =
            self.0.get(word..).and_then(<[u64]>::first_chunk).copied().unwrap_or_default();
        // Shifted in two steps, since a shift by 64 is none.
        let bits = low >> shift | high << 1 << (BLOCK - 1 - shift);
        len <= BLOCK && bits.trailing_ones() as usize >= len
    }
}

/// Looks at a line: finds the ends of its fields and which of its bytes are plain. Answers whether
/// there is a control character: 0x00–0x1F and 0x7F, as in the payload reference.
#[inline]
pub(super) fn scan(payload: Payload<'_>, ends: &mut Ends, plain: &mut Plain) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
        #[allow(unsafe_code, reason = "a call of what not every processor can do")]
        // SAFETY: the processor has AVX2 and what came with it.
        return unsafe { scan_vectors(payload, ends, plain) };
    }
    scan_with(classify_each, payload, ends, plain)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn scan_vectors(payload: Payload<'_>, ends: &mut Ends, plain: &mut Plain) -> bool {
    scan_with(|block| classify_vectors(block), payload, ends, plain)
}

/// Compiled once for each version, with what its processor can do.
#[expect(clippy::inline_always, reason = "else it is compiled for every processor, and calls")]
#[inline(always)]
fn scan_with(
    classify: impl Fn(&[u8; BLOCK]) -> Bits,
    payload: Payload<'_>,
    ends: &mut Ends,
    plain: &mut Plain,
) -> bool {
    let line = payload.bytes();
    let mut controls = 0;
    for start in (0..line.len()).step_by(BLOCK) {
        let inside = line.len() - start;
        let mut bits = if let Some(block) = payload.window(start) {
            classify(block)
        } else {
            let mut block = [0; BLOCK];
            block[..inside].copy_from_slice(&line[start..]);
            classify(&block)
        };
        if inside < BLOCK {
            let within = (1 << inside) - 1;
            bits.separators &= within;
            bits.plain &= within;
            bits.controls &= within;
        }
        controls |= bits.controls;
        if let Some(word) = plain.0[..PLAIN_BYTES / BLOCK].get_mut(start / BLOCK) {
            *word = bits.plain;
        }
        ends.push(start, bits.separators);
    }
    ends.close(line.len());
    controls != 0
}

impl Ends {
    /// None found yet.
    pub(super) const NONE: Self = Self { positions: [0; COLUMNS_MAX + 1 + STRIDE], found: 0 };

    /// Adds the separators of a block.
    #[expect(clippy::inline_always, reason = "see `scan_with`")]
    #[inline(always)]
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
        #[cfg(target_arch = "x86_64")]
        fn both_versions_agree(block in prop::array::uniform32(any::<[u8; 2]>())) {
            let block = block.as_flattened().try_into().unwrap();
            prop_assume!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt"));
            #[allow(unsafe_code, reason = "a call of what not every processor can do")]
            // SAFETY: asked above.
            let vectors = unsafe { classify_vectors(block) };
            prop_assert_eq!(vectors, classify_each(block));
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
            let payload = Payload::new(&bytes, line.len());
            for scan in [scan, |payload: Payload<'_>, ends: &mut Ends, plain: &mut Plain| {
                scan_with(classify_each, payload, ends, plain)
            }] {
                let (mut ends, mut plain) = (Ends::NONE, Plain::NONE);
                let controls = scan(payload, &mut ends, &mut plain);
                let found: Vec<usize> =
                    ends.positions[..ends.found].iter().map(|&at| at as usize).collect();
                prop_assert_eq!(found, naive(&line));
                prop_assert_eq!(controls, line.iter().any(|&byte| byte < 0x20 || byte == 0x7F));
                let from = from.min(line.len());
                let piece = &line[from..(from + len).min(line.len())];
                let all_plain = piece.iter().all(|&byte| is_plain(byte));
                let known = piece.len() <= BLOCK && from + piece.len() <= PLAIN_BYTES
                    || piece.is_empty();
                prop_assert_eq!(plain.covers(from, piece.len()), known && all_plain);
            }
        }
    }

    #[test]
    fn nothing_has_one_empty_field() {
        let (mut ends, mut plain) = (Ends::NONE, Plain::NONE);
        assert!(!scan(Payload::from(b""), &mut ends, &mut plain));
        assert_eq!((ends.found, ends.positions[0]), (1, 0));
    }
}
