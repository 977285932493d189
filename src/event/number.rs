//! Numbers as JavaScript's `parseInt(text, 10)` and `parseFloat(text)` read them.
//!
//! The series at the destinations were begun by a program that reads numbers so: white space in
//! front is skipped, then the longest prefix that is a number counts. Nearly every number is plain
//! digits, and those take a short cut.

use super::Int;

/// Doubles are exact up to here: larger integers lose their last digits in JavaScript.
const EXACT_MAX: i64 = 1 << 53;

/// One more than the largest `i64`, and exactly representable.
const I64_END: f64 = 9_223_372_036_854_775_808.0;

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
    Some(if magnitude < I64_END { Int::Value(whole(value)) } else { Int::Huge(value) })
}

// A double below 2^63 that was made of digits is a whole number that an i64 holds exactly.
#[allow(clippy::cast_possible_truncation)]
const fn whole(value: f64) -> i64 {
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
