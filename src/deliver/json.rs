//! Texts and numbers of JSON, written as JavaScript's `JSON.stringify` writes them, because
//! `raw_event` at the destinations has to be the same text, character by character.
//!
//! Sources: RFC 8259; ECMA-262, `QuoteJSONString` and `Number::toString`.

use super::line::{Escape, Line};
use crate::event::Int;

/// Whole numbers up to here are exact in a double; beyond, JavaScript shows the shortest digits
/// that lead back to the same double, padded with zeros.
const EXACT_MAX: i64 = 1 << 53;

/// Room for any double in JavaScript's notation: sign, 17 digits, `0.00000` or `e-324` and the
/// zeros of a whole number below 1e21; lexical-core asks for more.
const FLOAT_ROOM: usize = 128;

/// Escapes for a text inside a JSON string.
#[derive(Debug)]
pub struct JsonText;

impl Escape for JsonText {
    #[inline]
    fn is_special(byte: u8) -> bool {
        (byte == b'"') | (byte == b'\\') | (byte < 0x20)
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        line.byte(b'\\');
        escape_letter(byte, line);
    }
}

/// What follows the backslash of an escape.
pub(super) fn escape_letter(byte: u8, line: &mut Line<'_>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        0x08 => line.byte(b'b'),
        b'\t' => line.byte(b't'),
        b'\n' => line.byte(b'n'),
        0x0c => line.byte(b'f'),
        b'\r' => line.byte(b'r'),
        0..0x20 => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            line.bytes(b"u00");
            line.bytes(&digits);
        }
        _ => line.byte(byte),
    }
}

/// Writes a whole number.
#[inline]
pub fn int(value: Int, line: &mut Line<'_>) {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "such values come from a double")]
        Int::Value(value) if value.unsigned_abs() > EXACT_MAX.unsigned_abs() => {
            shortest(value as f64, line);
        }
        Int::Value(value) => line.integer(value),
        Int::Huge(value) => float_or_null(value, line),
    }
}

/// Writes a number; `null` for those that JSON has no notation for.
#[inline]
pub fn float_or_null(value: f64, line: &mut Line<'_>) {
    if value.is_finite() {
        float(value, line);
    } else {
        line.bytes(b"null");
    }
}

/// Writes a finite number.
#[inline]
pub fn float(value: f64, line: &mut Line<'_>) {
    debug_assert!(value.is_finite());
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is compared afterwards")]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which is compared")]
    let is_whole = whole as f64 == value && whole.unsigned_abs() <= EXACT_MAX.unsigned_abs();
    // Most times and counts are whole. This also writes -0 as `0`, as JavaScript does.
    if is_whole { line.integer(whole) } else { shortest(value, line) }
}

/// The shortest digits that lead back to the same double, in JavaScript's notation: plain from
/// 1e-6 to below 1e21, else as `1.5e-7` or `1e+21`.
fn shortest(value: f64, line: &mut Line<'_>) {
    const OPTIONS: lexical_core::WriteFloatOptions = lexical_core::WriteFloatOptions::builder()
        .trim_floats(true)
        .positive_exponent_break(std::num::NonZeroI32::new(20))
        .negative_exponent_break(std::num::NonZeroI32::new(-6))
        .build_strict();
    line.with_room(FLOAT_ROOM, |room| {
        let length = lexical_core::write_with_options::<_, { lexical_core::format::STANDARD }>(
            value, room, &OPTIONS,
        )
        .len();
        add_exponent_sign(room, length)
    });
}

/// `1e21` becomes `1e+21`. Returns the new length.
fn add_exponent_sign(room: &mut [u8], length: usize) -> usize {
    match room[..length].iter().position(|&byte| byte == b'e') {
        Some(e) if room[e + 1] != b'-' => {
            room.copy_within(e + 1..length, e + 2);
            room[e + 1] = b'+';
            length + 1
        }
        _ => length,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut out = BytesMut::new();
        let mut line = Line::begin(&mut out, 0);
        write(&mut line);
        line.finish();
        out.truncate(out.len() - 1);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// `Number::toString` of ECMA-262 step by step, from the digits and the exponent.
    fn number_to_string(value: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        let scientific = format!("{:e}", value.abs());
        let (mantissa, exponent) = scientific.split_once('e').unwrap();
        let digits = mantissa.replace('.', "");
        let (k, n) = (digits.len(), exponent.parse::<i32>().unwrap() + 1);
        let place = usize::try_from(n.abs()).unwrap();
        let text = if (1..=21).contains(&n) && k <= place {
            digits + &"0".repeat(place - k)
        } else if (1..=21).contains(&n) {
            format!("{}.{}", &digits[..place], &digits[place..])
        } else if (-5..=0).contains(&n) {
            format!("0.{}{digits}", "0".repeat(place))
        } else {
            let point = if k > 1 { "." } else { "" };
            format!("{}{point}{}e{:+}", &digits[..1], &digits[1..], n - 1)
        };
        if value < 0.0 { format!("-{text}") } else { text }
    }

    #[test]
    fn numbers_look_as_in_javascript() {
        for (value, text) in [
            (12.5, "12.5"),
            (11.0, "11"),
            (-0.0, "0"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e22, "1e+22"),
            (9_223_372_036_854_774_784.0, "9223372036854775000"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(written(|line| float(value, line)), text);
            assert_eq!(number_to_string(value), text);
        }
        assert_eq!(written(|line| float_or_null(f64::NAN, line)), "null");
        assert_eq!(written(|line| float_or_null(f64::NEG_INFINITY, line)), "null");
        assert_eq!(written(|line| int(Int::Huge(1e22), line)), "1e+22");
        assert_eq!(written(|line| int(Int::Value(1 << 53), line)), "9007199254740992");
        let largest = Int::Value(9_223_372_036_854_774_784);
        assert_eq!(written(|line| int(largest, line)), "9223372036854775000");
    }

    proptest! {
        #[test]
        fn any_double_looks_as_in_javascript(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(written(|line| float(value, line)), number_to_string(value));
        }

        #[test]
        fn everyday_numbers_look_as_in_javascript(value in -1e9..1e9, scale in -12i32..12) {
            let value = value * 10f64.powi(scale);
            prop_assert_eq!(written(|line| float(value, line)), number_to_string(value));
        }

        #[test]
        fn any_text_is_read_back(text in any::<String>()) {
            let json = format!("\"{}\"", written(|line| line.text::<JsonText>(&text)));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn control_characters_have_their_short_forms() {
        let json = written(|line| line.text::<JsonText>("\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}\"\\"));
        assert_eq!(json, "\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}\\\"\\\\");
    }
}
