//! Appends one event to a batch as one line, fast.
//!
//! An encoded event is a hundred short pieces, 1.6 KB in all. Appending each with
//! `extend_from_slice` costs a capacity check and a call of `memcpy` a piece, more than the copying
//! itself. Here the room for the longest line that can come out is claimed once, pieces are copied
//! with moves of fixed size that may write past their end, and text is looked at sixteen bytes at a
//! time, so that the compiler can use vector instructions for both.
//!
//! Envelope: 100 pieces × 3 ns.

use super::batch::Buffer;

/// Bytes looked at in one step, and the largest fixed move: one SSE2 or NEON register.
const CHUNK: usize = 16;

/// The longest piece that is copied with fixed moves; longer ones are worth a call of `memcpy`.
pub const SHORT: usize = 4 * CHUNK;

/// The part of a [`Literal`], or of a value in a [`Frame`], that is copied with moves of fixed size,
/// however long it is; nearly all are shorter. A UUID has 36 bytes.
pub const HEAD: usize = 3 * CHUNK;

/// The longest end of a [`Frame`].
const END: usize = 4;

/// Lengths are taken modulo this where a frame is written: they are smaller anyway, and then the compiler
/// knows it too.
const MODULUS: usize = 64;

/// What writing a frame touches at most.
const FRAMED: usize = 2 * (MODULUS - 1) + END;

const _: () = assert!(HEAD < MODULUS && MODULUS + HEAD <= FRAMED, "all moves stay in the window");

/// What stands before and behind a value, for [`Line::framed`].
#[derive(Clone, Debug)]
pub struct Frame {
    before: [u8; HEAD],
    end: [u8; END],
    before_length: u8,
    end_length: u8,
}

impl Frame {
    /// Around nothing, nothing.
    pub const EMPTY: Self =
        Self { before: [0; HEAD], end: [0; END], before_length: 0, end_length: 0 };

    /// Keeps both parts, if they are short enough.
    #[must_use]
    pub fn new(before: &[u8], end: &[u8]) -> Option<Self> {
        let mut frame = Self::EMPTY;
        frame.before.get_mut(..before.len())?.copy_from_slice(before);
        frame.end.get_mut(..end.len())?.copy_from_slice(end);
        frame.before_length = u8::try_from(before.len()).ok()?;
        frame.end_length = u8::try_from(end.len()).ok()?;
        Some(frame)
    }
}

/// Which bytes cannot stand in a text as they are, and what is written in their place.
///
/// Only bytes below 128 may be special: text is UTF-8 and stays UTF-8.
pub trait Escape {
    /// How much longer a text can become: this many bytes for each of its bytes.
    const EXPANSION: usize;

    /// Whether `byte` needs care. Called for whole chunks, so it must be plain comparisons.
    fn is_special(byte: u8) -> bool;

    /// Writes what stands for a special byte.
    fn escape(byte: u8, line: &mut Line<'_>);
}

/// A constant piece.
#[derive(Clone, Debug)]
pub struct Literal {
    length: usize,
    head: [u8; HEAD],
    /// What the head does not hold.
    rest: Box<[u8]>,
}

impl Default for Literal {
    /// Nothing.
    fn default() -> Self {
        Self::new(b"")
    }
}

impl Literal {
    /// Keeps a piece.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD));
        let mut head = [0; HEAD];
        head[..first.len()].copy_from_slice(first);
        Self { length: bytes.len(), head, rest: rest.into() }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// A line under way at the end of a batch.
#[derive(Debug)]
pub struct Line<'a> {
    room: &'a mut [u8],
    end: usize,
}

impl Line<'_> {
    /// Appends to `out` what `write` writes, and `\n`.
    ///
    /// # Panics
    /// If `write` writes more than `bound` bytes. That is a fault of the caller's arithmetic.
    #[inline]
    pub fn append(out: &mut Buffer, bound: usize, write: impl FnOnce(&mut Line<'_>)) {
        // Moves of fixed size write beyond the end of what they copy.
        let mut line = Line { room: out.room(bound + FRAMED.max(SHORT)), end: 0 };
        write(&mut line);
        line.byte(b'\n');
        let length = line.end;
        out.fill(length);
    }

    /// Where the next byte will stand; a mark for [`Line::rewind`].
    #[must_use]
    #[inline]
    pub fn mark(&self) -> usize {
        self.end
    }

    /// What has been written of the line.
    #[must_use]
    #[inline]
    pub fn written(&self) -> &[u8] {
        &self.room[..self.end]
    }

    /// Takes back everything since `mark`.
    pub fn rewind(&mut self, mark: usize) {
        debug_assert!(mark <= self.end);
        self.end = mark;
    }

    /// How many of the bytes written last are `byte`.
    #[must_use]
    pub fn trailing(&self, byte: u8) -> usize {
        self.room[..self.end].iter().rev().take_while(|&&last| last == byte).count()
    }

    /// Puts `byte` in the place of the one written last.
    pub fn replace_last(&mut self, byte: u8) {
        self.room[self.end - 1] = byte;
    }

    /// Writes one byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.room[self.end] = byte;
        self.end += 1;
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let room = &mut self.room[self.end..];
        match room.first_chunk_mut() {
            Some(room) if bytes.len() <= SHORT => copy_short(bytes, room),
            _ => room[..bytes.len()].copy_from_slice(bytes),
        }
        self.end += bytes.len();
    }

    /// Writes a value of at most [`HEAD`] bytes, the first `length` of `head`, in its frame.
    ///
    /// All three parts are copied whatever their length: that is cheaper than a branch that cannot be
    /// foreseen.
    #[inline]
    pub fn framed(&mut self, frame: &Frame, head: &[u8; HEAD], length: usize) {
        debug_assert!(length <= HEAD);
        let window = self.window();
        window[..HEAD].copy_from_slice(&frame.before);
        let value = usize::from(frame.before_length) % MODULUS;
        window[value..value + HEAD].copy_from_slice(head);
        let end = value + length % MODULUS;
        window[end..end + END].copy_from_slice(&frame.end);
        self.end += end + usize::from(frame.end_length);
    }

    #[inline]
    fn window(&mut self) -> &mut [u8; FRAMED] {
        let window = self.room[self.end..].first_chunk_mut();
        window.expect("the room for a line ends at least a window behind its bound")
    }

    /// Writes a literal.
    #[inline]
    pub fn literal(&mut self, literal: &Literal) {
        self.room[self.end..][..HEAD].copy_from_slice(&literal.head);
        if !literal.rest.is_empty() {
            self.room[self.end + HEAD..][..literal.rest.len()].copy_from_slice(&literal.rest);
        }
        self.end += literal.length;
    }

    /// Writes text with its special bytes escaped.
    #[inline]
    pub fn text<E: Escape>(&mut self, text: &[u8]) {
        if is_clean::<E>(text) {
            self.bytes(text);
        } else {
            self.escaped::<E>(text);
        }
    }

    #[inline(never)]
    fn escaped<E: Escape>(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(special) = first_special::<E>(rest) {
            self.bytes(&rest[..special]);
            E::escape(rest[special], self);
            rest = &rest[special + 1..];
        }
        self.bytes(rest);
    }
}

fn first_special<E: Escape>(bytes: &[u8]) -> Option<usize> {
    let (chunks, _) = bytes.as_chunks::<CHUNK>();
    let clean = chunks.iter().take_while(|chunk| chunk_is_clean::<E, CHUNK>(chunk)).count();
    let from = clean * CHUNK;
    bytes[from..].iter().position(|&byte| E::is_special(byte)).map(|position| from + position)
}

/// Whether no byte is special.
///
/// The last chunk overlaps the one before it instead of being short; what is shorter than a chunk
/// is looked at as two overlapping halves of fixed size.
#[inline]
#[must_use]
pub fn is_clean<E: Escape>(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<CHUNK>() {
        let (chunks, _) = bytes.as_chunks::<CHUNK>();
        chunks.iter().all(chunk_is_clean::<E, CHUNK>) && chunk_is_clean::<E, CHUNK>(last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        chunk_is_clean::<E, 8>(first) & chunk_is_clean::<E, 8>(last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        chunk_is_clean::<E, 4>(first) & chunk_is_clean::<E, 4>(last)
    } else {
        !bytes.iter().any(|&byte| E::is_special(byte))
    }
}

#[inline]
fn chunk_is_clean<E: Escape, const N: usize>(chunk: &[u8; N]) -> bool {
    // `|` and not `||`: without early exits this becomes a few vector comparisons.
    !chunk.iter().fold(false, |special, &byte| special | E::is_special(byte))
}

/// A copy of the first bytes of a piece, with arbitrary ones behind if it is shorter.
#[inline]
pub fn head_of<'a>(bytes: &[u8], room: &'a mut [u8; SHORT]) -> &'a [u8; HEAD] {
    match bytes.first_chunk::<HEAD>() {
        Some(head) => room[..HEAD].copy_from_slice(head),
        None => copy_short(bytes, room),
    }
    const { assert!(HEAD <= SHORT) };
    room.first_chunk().unwrap_or(&[0; HEAD])
}

/// Copies at most `SHORT` bytes with moves of fixed size: the first and the last part of the piece,
/// overlapping in the middle.
#[inline]
fn copy_short(from: &[u8], to: &mut [u8; SHORT]) {
    let length = from.len();
    if let (Some(first), Some(last)) = (from.first_chunk::<CHUNK>(), from.last_chunk::<CHUNK>()) {
        to[..CHUNK].copy_from_slice(first);
        if length > 2 * CHUNK {
            to[CHUNK..2 * CHUNK].copy_from_slice(&from[CHUNK..2 * CHUNK]);
            if length > 3 * CHUNK {
                to[2 * CHUNK..3 * CHUNK].copy_from_slice(&from[2 * CHUNK..3 * CHUNK]);
            }
        }
        to[length - CHUNK..length].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (from.first_chunk::<8>(), from.last_chunk::<8>()) {
        to[..8].copy_from_slice(first);
        to[length - 8..length].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (from.first_chunk::<4>(), from.last_chunk::<4>()) {
        to[..4].copy_from_slice(first);
        to[length - 4..length].copy_from_slice(last);
    } else {
        for (byte, room) in from.iter().zip(to) {
            *room = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes `x` as `<x>`, so that the place and number of escapes show.
    struct Brackets;

    impl Escape for Brackets {
        const EXPANSION: usize = 3;

        fn is_special(byte: u8) -> bool {
            byte == b'x'
        }

        fn escape(byte: u8, line: &mut Line<'_>) {
            line.bytes(&[b'<', byte, b'>']);
        }
    }

    proptest! {
        #[test]
        fn text_of_any_length_is_escaped_like_a_replace(text in "[a-cxé]{0,90}") {
            let mut out = Buffer::default();
            Line::append(&mut out, 10, |line| line.bytes(b"before"));
            let bound = Brackets::EXPANSION * text.len() + 1;
            Line::append(&mut out, bound, |line| line.text::<Brackets>(text.as_bytes()));
            let wanted = format!("before\n{}\n", text.replace('x', "<x>"));
            prop_assert_eq!(&out[..], wanted.as_bytes());
        }

        #[test]
        fn bytes_of_any_length_are_copied(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Buffer::default();
            Line::append(&mut out, bytes.len() + 1, |line| line.bytes(&bytes));
            prop_assert_eq!(&out[..out.len() - 1], &bytes[..]);
        }

        #[test]
        fn literals_of_any_length_come_back(
            pieces in prop::collection::vec("[a-z]{0,100}", 1..6),
        ) {
            let literals: Vec<_> =
                pieces.iter().map(|piece| Literal::new(piece.as_bytes())).collect();
            let bound = literals.iter().map(Literal::len).sum::<usize>() + 1;
            let mut out = Buffer::default();
            Line::append(&mut out, bound, |line| {
                for literal in &literals {
                    line.literal(literal);
                }
            });
            let wanted = format!("{}\n", pieces.concat());
            prop_assert_eq!(&out[..], wanted.as_bytes());
        }
    }

    #[test]
    fn rewinding_takes_back_what_was_written_since_the_mark() {
        let mut out = Buffer::default();
        Line::append(&mut out, 100, |line| {
            line.bytes(b"a");
            let mark = line.mark();
            line.bytes(b",tag=");
            line.rewind(mark);
            line.bytes(b"b\\\\,");
            line.replace_last(b'\\');
            assert_eq!(line.trailing(b'\\'), 3);
        });
        assert_eq!(&out[..], b"ab\\\\\\\n");
    }

    #[test]
    #[should_panic(expected = "range")]
    fn more_than_the_bound_panics_instead_of_corrupting() {
        let mut out = Buffer::default();
        Line::append(&mut out, 1, |line| line.bytes(&[0; 200]));
    }
}
