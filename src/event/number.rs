//! Numbers as JavaScript's `parseInt(text, 10)` and `parseFloat(text)` read them.
//!
//! The series at the destinations were begun by a program that reads numbers so: white space in
//! front is skipped, then the longest prefix that is a number counts. Nearly every number is plain
//! digits, and those take a short cut.

use std::ops::Range;

use super::{Int, Payload};

/// Doubles are exact up to here: larger integers lose their last digits in JavaScript.
const EXACT_MAX: i64 = 1 << 53;

/// One more than the largest `i64`, and exactly representable.
const I64_END: f64 = 9_223_372_036_854_775_808.0;

/// Digits that are read at once: a word has room for no more.
const WORD: usize = 8;

/// Powers of ten by which so many decimals divide.
const POWERS: [u32; WORD + 1] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Decimals that JavaScript writes without an exponent, however small the number.
const DECIMALS_MAX: usize = 6;

/// The whole number that the field is, if it is nothing but one to eight digits; and whether JSON
/// has the same text for it. This is nearly every number, in a few instructions that do not depend
/// on how long it is.
#[inline]
pub(super) fn whole(payload: Payload<'_>, field: Option<Range<usize>>) -> Option<(i64, bool)> {
    let field = field?;
    let digits = *payload.window::<WORD>(field.start)?;
    let value = number_of(digits, field.len())?;
    Some((value.into(), field.len() == 1 || digits[0] != b'0'))
}

/// The number that the field is, if it is nothing but one to eight digits and perhaps a point and as
/// many decimals; and whether JSON has the same text for it.
#[inline]
pub(super) fn decimal(payload: Payload<'_>, field: Option<Range<usize>>) -> Option<(f64, bool)> {
    let field = field?;
    let first = *payload.window::<WORD>(field.start)?;
    let point = point_in(first).min(field.len());
    let whole = number_of(first, point)?;
    let usual = point == 1 || first[0] != b'0';
    if point == field.len() {
        return Some((whole.into(), usual));
    }
    // What is longer than a word without a point in it goes on with anything.
    if payload.window(field.start + point) != Some(b".") {
        return None;
    }
    let decimals = field.len() - point - 1;
    let behind = *payload.window::<WORD>(field.start + point + 1)?;
    let power = POWERS[decimals.min(WORD)];
    let scaled = u64::from(whole) * u64::from(power) + u64::from(number_of(behind, decimals)?);
    // Both are below 2^53 and exact, so one division gives the nearest double.
    #[expect(clippy::cast_precision_loss, reason = "at most sixteen digits; see below")]
    let value = (scaled < 1 << 53).then_some(scaled as f64 / f64::from(power))?;
    let shortest = decimals <= DECIMALS_MAX && behind[decimals - 1] != b'0';
    Some((value, usual && shortest))
}

/// Where the first point is; eight if there is none.
#[inline]
const fn point_in(text: [u8; WORD]) -> usize {
    const LOW: u64 = u64::from_ne_bytes([0x7F; WORD]);
    let zero_if_point = u64::from_le_bytes(text) ^ u64::from_ne_bytes([b'.'; WORD]);
    // Adding sets the high bit of every byte with a low bit, and cannot carry into the next byte.
    let points = !(((zero_if_point & LOW) + LOW) | zero_if_point | LOW);
    points.trailing_zeros() as usize / WORD
}

/// The number that the first `len` bytes are, if they are one to eight digits.
#[inline]
fn number_of(text: [u8; WORD], len: usize) -> Option<u32> {
    const ZEROS: u64 = u64::from_ne_bytes([b'0'; WORD]);
    const PAIRS: u64 = 0x0000_00FF_0000_00FF;
    if len == 0 || len > WORD {
        return None;
    }
    // The digits move to the end of the word, and zeros take the place in front of them.
    let shift = u64::BITS as usize - WORD * len;
    let word = u64::from_le_bytes(text) << shift | ZEROS & !(u64::MAX << shift);
    let values = word ^ ZEROS;
    // Above nine, or no digit at all: the high bit gets set.
    if (values.wrapping_add(u64::from_ne_bytes([0x76; WORD])) | values)
        & u64::from_ne_bytes([0x80; WORD])
        != 0
    {
        return None;
    }
    // Each second byte becomes a number of two digits; then four of these are weighed and added.
    let pairs = values.wrapping_mul(10) + (values >> 8);
    let high = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let low = (pairs >> 16 & PAIRS).wrapping_mul(1 + (10_000 << 32));
    u32::try_from(high.wrapping_add(low) >> 32).ok()
}

/// The whole number at the start of the text.
pub(super) fn int(text: &[u8]) -> Option<Int> {
    if text.first()?.is_ascii_digit()
        && let Some(value) = atoi::atoi::<i64>(text)
        && value <= EXACT_MAX
    {
        return Some(Int::Value(value));
    }
    int_as_double(text)
}

fn int_as_double(text: &[u8]) -> Option<Int> {
    let text = trim_start(text);
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = &digits[..digits_len(digits)];
    let magnitude = lexical_core::parse::<f64>(digits).ok()?;
    let value = if negative { -magnitude } else { magnitude };
    Some(if magnitude < I64_END { Int::Value(truncated(value)) } else { Int::Huge(value) })
}

// A double below 2^63 that was made of digits is a whole number that an i64 holds exactly.
#[allow(clippy::cast_possible_truncation)]
const fn truncated(value: f64) -> i64 {
    value as i64
}

/// The number at the start of the text; `NaN` if there is none, infinite if it is too large.
pub(super) fn float(text: &[u8]) -> f64 {
    match text.first() {
        None => f64::NAN,
        Some(first) if first.is_ascii_digit() => {
            lexical_core::parse(text).unwrap_or_else(|_| float_prefix(text))
        }
        Some(_) => float_prefix(text),
    }
}

fn float_prefix(text: &[u8]) -> f64 {
    let text = trim_start(text);
    let sign_len = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let (sign, unsigned) = text.split_at(sign_len);
    let magnitude = if unsigned.starts_with(b"Infinity") {
        f64::INFINITY
    } else {
        lexical_core::parse(&unsigned[..decimal_len(unsigned)]).unwrap_or(f64::NAN)
    };
    if sign == b"-" { -magnitude } else { magnitude }
}

/// Length of the longest prefix that is a decimal number: digits with at most one point before,
/// among or after them, then perhaps an exponent.
fn decimal_len(text: &[u8]) -> usize {
    let whole = digits_len(text);
    let fraction = match text.get(whole) {
        Some(b'.') => 1 + digits_len(&text[whole + 1..]),
        _ => 0,
    };
    if whole == 0 && fraction <= 1 {
        return 0;
    }
    let mantissa = whole + fraction;
    let Some(b'e' | b'E') = text.get(mantissa) else { return mantissa };
    let sign = usize::from(matches!(text.get(mantissa + 1), Some(b'+' | b'-')));
    match digits_len(&text[mantissa + 1 + sign..]) {
        0 => mantissa,
        exponent => mantissa + 1 + sign + exponent,
    }
}

fn digits_len(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Without what ECMAScript calls white space and line terminators. Works on bytes, as the text may
/// hold invalid UTF-8, which is neither white space nor a number.
fn trim_start(mut text: &[u8]) -> &[u8] {
    loop {
        text = match text {
            [b'\t'..=b'\r' | b' ', rest @ ..]
            | [0xC2, 0xA0, rest @ ..]
            | [0xE1, 0x9A, 0x80, rest @ ..]
            | [0xE2, 0x80, 0x80..=0x8A | 0xA8 | 0xA9 | 0xAF, rest @ ..]
            | [0xE2, 0x81, 0x9F, rest @ ..]
            | [0xE3, 0x80, 0x80, rest @ ..]
            | [0xEF, 0xBB, 0xBF, rest @ ..] => rest,
            _ => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read<T> = fn(Payload<'_>, Option<Range<usize>>) -> Option<(T, bool)>;

    /// With something behind it that must not count.
    fn quick<T>(read: Read<T>, text: &str, behind: &str) -> Option<(T, bool)> {
        let all = format!(";{text}{behind}");
        read(Payload::new(all.as_bytes(), text.len() + 1), Some(1..text.len() + 1))
    }

    proptest! {
        #[test]
        fn the_short_cuts_read_what_the_long_way_reads(
            text in prop_oneof![
                "[0-9]{0,10}", "[0-9]{0,9}[.][0-9]{0,9}", "[0-9.;+e -]{0,10}", "[ -~]{0,6}",
            ],
            behind in "[0-9.;]{0,3}.{16}",
        ) {
            if let Some((value, same)) = quick(whole, &text, &behind) {
                prop_assert_eq!(int(text.as_bytes()), Some(Int::Value(value)));
                prop_assert_eq!(same, value.to_string() == text);
            }
            if let Some((value, same)) = quick(decimal, &text, &behind) {
                prop_assert_eq!(float(text.as_bytes()).to_bits(), value.to_bits());
                // What `f64` shows is what JavaScript shows, from 1e-6 to 1e21.
                prop_assert!(!same || value.to_string() == text, "{} {}", text, value);
            }
        }
    }

    #[test]
    fn the_short_cuts_take_the_usual_numbers() {
        const BEHIND: &str = ";9.9;9999999999";
        for text in ["0", "7", "1437", "12345678"] {
            assert_eq!(quick(whole, text, BEHIND), Some((text.parse().unwrap(), true)));
            assert_eq!(quick(decimal, text, BEHIND), Some((text.parse().unwrap(), true)));
        }
        for text in ["12.503", "0.25", "12345678.123456"] {
            assert_eq!(quick(decimal, text, BEHIND), Some((text.parse().unwrap(), true)));
        }
        for text in ["007", "1.50", "00.5", "1.0", "0.0000001"] {
            assert!(quick(decimal, text, BEHIND).is_some_and(|(_, same)| !same), "{text}");
        }
        for text in ["", "-1", "1e3", ".5", "5.", "1.2.3", "123456789", "1.123456789"] {
            assert_eq!(quick(decimal, text, BEHIND), None, "{text}");
        }
    }

    #[test]
    fn integers_are_read_as_parse_int_reads_them() {
        let cases = [
            ("0", 0),
            ("14", 14),
            ("007", 7),
            ("12abc", 12),
            ("1e3", 1),
            ("5.9", 5),
            ("1,234", 1),
            ("0x10", 0),
            (" 5", 5),
            ("\u{A0}5", 5),
            ("\u{FEFF}\u{2003}\u{3000}5", 5),
            ("\t\n\u{B}\u{C}\r5", 5),
            ("+7", 7),
            ("-5", -5),
            ("-0", 0),
            ("9007199254740992", 1 << 53),
            ("9007199254740993", 1 << 53),
            ("-9007199254740993", -(1 << 53)),
            ("9223372036854774784", 9_223_372_036_854_774_784),
        ];
        for (text, value) in cases {
            assert_eq!(int(text.as_bytes()), Some(Int::Value(value)), "{text:?}");
        }
    }

    #[test]
    fn integers_without_digits_are_none() {
        for text in
            ["", " ", "abc", "+", "-", "- 5", "--5", "Infinity", "\u{0}1", "１２", "\u{85}5"]
        {
            assert_eq!(int(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(int(b"\xA05"), None, "half a no-break space");
    }

    #[test]
    fn integers_of_two_to_the_63_and_more_are_huge() {
        for (text, value) in [
            ("9223372036854775807", I64_END),
            ("9223372036854775808", I64_END),
            ("-9223372036854775808", -I64_END),
            ("99999999999999999999", 1e20),
            ("10000000000000000000000", 1e22),
        ] {
            assert_eq!(int(text.as_bytes()), Some(Int::Huge(value)), "{text:?}");
        }
        assert_eq!(int("9".repeat(400).as_bytes()), Some(Int::Huge(f64::INFINITY)));
    }

    #[test]
    fn floats_are_read_as_parse_float_reads_them() {
        let cases = [
            ("12.5", 12.5),
            ("100", 100.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-.5", -0.5),
            ("+5", 5.0),
            ("1,5", 1.0),
            ("7ms", 7.0),
            ("0x10", 0.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("1e", 1.0),
            ("1e+", 1.0),
            ("1.e2", 100.0),
            (".5e1x", 5.0),
            ("1.2.3", 1.2),
            ("1_000", 1.0),
            ("0.0000001", 1e-7),
            ("1e21", 1e21),
            (" 5", 5.0),
            ("\u{A0}5", 5.0),
            ("\n5", 5.0),
            ("1e400", f64::INFINITY),
            ("-1e400", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("-Infinityx", f64::NEG_INFINITY),
            ("+Infinity", f64::INFINITY),
        ];
        for (text, value) in cases {
            assert_eq!(float(text.as_bytes()).to_bits(), value.to_bits(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_float_is_nan() {
        for text in
            ["", " ", "abc", "NaN", "nan", "inf", "infinity", ".", "-", "+.", "e5", ".e5", "\u{0}5"]
        {
            assert!(float(text.as_bytes()).is_nan(), "{text:?}");
        }
    }
}
