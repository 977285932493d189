//! Numbers as JavaScript's `parseInt(text, 10)` and `parseFloat(text)` read them.
//!
//! The series at the destinations were begun by a program that reads numbers so: white space in
//! front is skipped, then the longest prefix that is a number counts. Nearly every number is plain
//! digits, and those take a short cut.

use std::ops::Range;

use super::Int;
use super::scan::Marks;

/// Doubles are exact up to here: larger integers lose their last digits in JavaScript.
const EXACT_MAX: i64 = 1 << 53;

/// One more than the largest `i64`, and exactly representable.
const I64_END: f64 = 9_223_372_036_854_775_808.0;

/// Digits of which every number fits a double, and is the only one so short that gives this double.
const DIGITS_MAX: usize = 15;

/// Decimals that JavaScript writes without an exponent, however small the number.
const DECIMALS_MAX: usize = 6;

/// Whether JSON has the same text for the whole number that the field is; false when that is not
/// known. `digits` marks the digits of the line. True for nearly every number, in a few instructions
/// that do not depend on how long it is.
#[inline]
pub(super) fn is_whole(line: &[u8], digits: &Marks, field: Option<Range<usize>>) -> bool {
    field.is_some_and(|field| {
        (1..=DIGITS_MAX).contains(&field.len())
            && digits.cover(field.start, field.len())
            && (field.len() == 1 || line[field.start] != b'0')
    })
}

/// The same of a number that may have decimals.
#[inline]
pub(super) fn is_decimal(line: &[u8], digits: &Marks, field: Option<Range<usize>>) -> bool {
    let Some(field) = field else { return false };
    let bits = digits.from(field.start);
    let whole = bits.trailing_ones() as usize;
    if whole == 0 || field.len() > DIGITS_MAX || whole > 1 && line[field.start] == b'0' {
        return false;
    }
    let Some(decimals) = field.len().checked_sub(whole + 1) else { return true };
    let behind = (bits >> whole >> 1).trailing_ones() as usize;
    line[field.start + whole] == b'.'
        && behind >= decimals
        && (1..=DECIMALS_MAX).contains(&decimals)
        && line[field.end - 1] != b'0'
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
    use super::super::scan::{Ends, scan};
    use super::*;
    use proptest::prelude::*;

    type Is = fn(&[u8], &Marks, Option<Range<usize>>) -> bool;

    /// With something around it that must not count.
    fn is(short_cut: Is, text: &str, behind: &str) -> bool {
        let line = format!("1;{text};{behind}");
        let (mut ends, mut marks) = (Ends::NONE, [Marks::NONE; 2]);
        scan(line.as_bytes().into(), &mut ends, marks.each_mut());
        short_cut(line.as_bytes(), &marks[1], Some(2..text.len() + 2))
    }

    proptest! {
        #[test]
        fn what_takes_the_short_cut_is_written_as_it_came(
            text in prop_oneof![
                "[0-9]{0,18}", "[0-9]{0,9}[.][0-9]{0,9}", "[0-9.+e -]{0,10}", "[ -:<-~]{0,6}",
            ],
            behind in "[0-9.;]{0,3}.{16}",
        ) {
            if is(is_whole, &text, &behind) {
                let Some(Int::Value(value)) = int(text.as_bytes()) else { panic!("{text}") };
                prop_assert_eq!(value.to_string(), &*text);
            }
            if is(is_decimal, &text, &behind) {
                prop_assert_eq!(float(text.as_bytes()).to_string(), &*text);
            }
            let short = text.parse::<u64>().is_ok_and(|value| value.to_string() == text);
            let short = short && text.len() <= DIGITS_MAX;
            prop_assert_eq!(is(is_whole, &text, &behind), short);
            prop_assert!(is(is_decimal, &text, &behind) || !short);
        }
    }

    #[test]
    fn usual_numbers_take_the_short_cuts() {
        const BEHIND: &str = "9.9;9999999999";
        for text in ["0", "7", "1437", "12345678", "123456789012345"] {
            assert!(is(is_whole, text, BEHIND) && is(is_decimal, text, BEHIND), "{text}");
        }
        for text in ["12.503", "0.25", "12345678.123456", "0.000001"] {
            assert!(is(is_decimal, text, BEHIND) && !is(is_whole, text, BEHIND), "{text}");
        }
        for text in [
            "007",
            "1.50",
            "00.5",
            "1.0",
            "0.0000001",
            "",
            "-1",
            "1e3",
            ".5",
            "5.",
            "1.2.3",
            "1.",
            "1234567890123456",
            "1.1234567",
        ] {
            assert!(!is(is_whole, text, BEHIND) && !is(is_decimal, text, BEHIND), "{text}");
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
