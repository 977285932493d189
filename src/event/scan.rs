//! One look at every byte of a datagram: where the separators are, which bytes no destination has
//! to escape, which are digits, and whether there is a control character.
//!
//! A field of an event has some fourteen bytes and its length cannot be foreseen, so searching field
//! by field costs more in mispredicted branches than in comparing. Here bytes become bits, 64 at a
//! time, and bits become positions eight at a time, whether there are so many or not.
//!
//! Two versions of the innermost step: AVX2 where the processor has it, and a plain one, which property
//! tests hold equal.

#[cfg(target_arch = "x86_64")]
use std::hint::black_box;

use super::Payload;
use super::layout::COLUMNS_MAX;

/// Bytes classified at once: one bit of a word each.
const BLOCK: usize = 64;

/// Positions written at once.
const STRIDE: usize = 8;

/// Bytes of which it is remembered what they are. Longer datagrams have long messages, which are
/// rarely plain anyway.
const MARKED: usize = 1024;

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
    digits: u64,
    controls: u64,
}

/// The version for every processor.
#[inline]
fn classify_each(block: &[u8; BLOCK]) -> Bits {
    let mut bits = Bits::default();
    for (index, &byte) in block.iter().enumerate() {
        bits.separators |= u64::from(byte == b';') << index;
        bits.plain |= u64::from(is_plain(byte)) << index;
        bits.digits |= u64::from(byte.is_ascii_digit()) << index;
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
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
#[inline]
fn classify_vectors(block: &[u8; BLOCK]) -> Bits {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_sub_epi8,
    };
    let (halves, _) = block.as_chunks::<32>();
    // SAFETY: the load reads the 32 bytes of `half`, which need no alignment for it.
    let load = |half: &[u8; 32]| unsafe { _mm256_loadu_si256(half.as_ptr().cast::<__m256i>()) };
    let halves = [load(&halves[0]), load(&halves[1])];
    let all = |byte: u8| _mm256_set1_epi8(byte as i8);
    let at_most = |bytes, byte: u8| _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, all(byte)), bytes);
    let equal = |bytes, byte: u8| _mm256_cmpeq_epi8(bytes, all(byte));
    let mask = |classes: [__m256i; 2]| {
        let [low, high] = classes.map(|class| _mm256_movemask_epi8(class) as u32);
        // Without the black box LLVM 22 takes the masks apart, bit by bit: five times slower.
        black_box(u64::from(low) | (u64::from(high) << 32))
    };
    let special = |bytes| {
        let compared = equal(_mm256_or_si256(bytes, all(3)), b'?');
        let quoted = _mm256_or_si256(equal(bytes, b','), equal(bytes, b'\\'));
        _mm256_or_si256(_mm256_or_si256(at_most(bytes, b'"'), compared), quoted)
    };
    let control = |bytes| _mm256_or_si256(at_most(bytes, 0x1F), equal(bytes, 0x7F));
    let digit = |bytes| at_most(_mm256_sub_epi8(bytes, all(b'0')), 9);
    Bits {
        separators: mask(halves.map(|bytes| equal(bytes, b';'))),
        plain: !mask(halves.map(special)),
        digits: mask(halves.map(digit)),
        controls: mask(halves.map(control)),
    }
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

/// A bit for each of the first bytes of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks([u8; MARKED / 8 + 8]);

impl Marks {
    /// None.
    pub(super) const NONE: Self = Self([0; MARKED / 8 + 8]);

    /// The bits from a byte on, the first one lowest: 57 of them at least, if the line has so many.
    #[inline]
    pub(super) fn from(&self, start: usize) -> u64 {
        let word = self.0.get(start / 8..).and_then(<[u8]>::first_chunk);
        u64::from_le_bytes(word.copied().unwrap_or_default()) >> (start % 8)
    }

    /// Whether all of these bytes are known to be marked. Of long fields it is not known.
    #[inline]
    pub(super) fn cover(&self, start: usize, len: usize) -> bool {
        self.from(start).trailing_ones() as usize >= len
    }

    #[inline]
    fn set(&mut self, start: usize, bits: u64) {
        let words = self.0[..MARKED / 8].as_chunks_mut().0;
        if let Some(word) = words.get_mut(start / BLOCK) {
            *word = bits.to_le_bytes();
        }
    }
}

/// Looks at a line: finds the ends of its fields, and which of its bytes are plain and which digits.
/// Answers whether there is a control character: 0x00–0x1F and 0x7F, as in the payload reference.
#[inline]
pub(super) fn scan(payload: Payload<'_>, ends: &mut Ends, marks: [&mut Marks; 2]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_vectors() {
        #[allow(unsafe_code, reason = "a call of what not every processor can do")]
        // SAFETY: the processor has all of it, as was just asked.
        return unsafe { scan_vectors(payload, ends, marks) };
    }
    scan_with(classify_each, payload, ends, marks)
}

/// Whether the processor has what [`classify_vectors`] needs, and what makes the most of bits.
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_vectors() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn scan_vectors(payload: Payload<'_>, ends: &mut Ends, marks: [&mut Marks; 2]) -> bool {
    scan_with(|block| classify_vectors(block), payload, ends, marks)
}

/// Compiled once for each version, with what its processor can do.
#[expect(clippy::inline_always, reason = "else it is compiled for every processor, and calls")]
#[inline(always)]
fn scan_with(
    classify: impl Fn(&[u8; BLOCK]) -> Bits,
    payload: Payload<'_>,
    ends: &mut Ends,
    [plain, digits]: [&mut Marks; 2],
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
            bits.digits &= within;
            bits.controls &= within;
        }
        controls |= bits.controls;
        plain.set(start, bits.plain);
        digits.set(start, bits.digits);
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

/// A position or length as it is kept. Datagrams have at most 65 535 bytes.
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
            prop_assume!(has_vectors());
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
            for scan in [scan, |payload: Payload<'_>, ends: &mut Ends, marks: [&mut Marks; 2]| {
                scan_with(classify_each, payload, ends, marks)
            }] {
                let (mut ends, mut plain, mut digits) = (Ends::NONE, Marks::NONE, Marks::NONE);
                let controls = scan(payload, &mut ends, [&mut plain, &mut digits]);
                let found: Vec<usize> =
                    ends.positions[..ends.found].iter().map(|&at| at as usize).collect();
                prop_assert_eq!(found, naive(&line));
                prop_assert_eq!(controls, line.iter().any(|&byte| byte < 0x20 || byte == 0x7F));
                let from = from.min(line.len());
                let piece = &line[from..(from + len).min(line.len())];
                // A word, wherever in a byte the first bit is.
                let known = piece.len() <= 57 && from + piece.len() <= MARKED;
                let all_plain = piece.iter().all(|&byte| is_plain(byte));
                let all_digits = piece.iter().all(u8::is_ascii_digit);
                for (marks, all) in [(&plain, all_plain), (&digits, all_digits)] {
                    prop_assert!(all || !marks.cover(from, piece.len()));
                    prop_assert!(!all || !known || marks.cover(from, piece.len()));
                }
            }
        }
    }

    #[test]
    fn nothing_has_one_empty_field() {
        let (mut ends, mut marks) = (Ends::NONE, [Marks::NONE; 2]);
        assert!(!scan(Payload::from(b""), &mut ends, marks.each_mut()));
        assert_eq!((ends.found, ends.positions[0]), (1, 0));
    }
}
