//! Texts and numbers of JSON, written as JavaScript's `JSON.stringify` writes them, because
//! `raw_event` at the destinations has to be the same text, character by character.
//!
//! Sources: RFC 8259; ECMA-262, `QuoteJSONString` and `Number::toString`.

use uuid::Uuid;

use super::line::{Escape, Line};
use crate::event::{Check, Event, Field, Int};

/// Whole numbers up to here are exact in a double; beyond, JavaScript shows the shortest digits
/// that lead back to the same double, padded with zeros.
const EXACT_MAX: u64 = 1 << 53;

/// Decimals with this many digits are told apart by doubles, so the shortest text of a double that
/// is one of them is the decimal itself.
const DISTINCT_MAX: f64 = 1e15;

/// Room for the text of any number: a sign, 17 digits and, in the longest case, `0.00000`.
pub const NUMBER_ROOM: usize = 32;

/// Length of a UUID as text.
pub const UUID_LENGTH: usize = 36;

/// Room that lexical-core asks for.
const LEXICAL_ROOM: usize = 128;

/// Escapes for a text inside a JSON string.
#[derive(Debug)]
pub struct JsonText;

impl Escape for JsonText {
    const EXPANSION: usize = "\\u001f".len();

    #[inline]
    #[expect(clippy::needless_bitwise_bool, reason = "becomes vector instructions")]
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
            line.bytes(b"u00");
            line.byte(HEX[usize::from(byte >> 4)]);
            line.byte(HEX[usize::from(byte & 15)]);
        }
        _ => line.byte(byte),
    }
}

/// Writes a text as a string.
#[inline]
pub fn string(text: &str, line: &mut Line<'_>) {
    line.byte(b'"');
    line.text::<JsonText>(text.as_bytes());
    line.byte(b'"');
}

/// Writes a UUID as a string, which is empty without one.
pub fn uuid(id: Option<&Uuid>, line: &mut Line<'_>) {
    line.byte(b'"');
    if let Some(id) = id {
        let mut text = [0; UUID_LENGTH];
        line.bytes(id.hyphenated().encode_lower(&mut text).as_bytes());
    }
    line.byte(b'"');
}

/// Writes an event's [`Event::user_full`] as a string.
pub fn user_full(event: &Event<'_>, line: &mut Line<'_>) {
    line.byte(b'"');
    for part in event.user_full().map_or([""; 3], |name| name.parts()) {
        line.text::<JsonText>(part.as_bytes());
    }
    line.byte(b'"');
}

/// Writes the value of the column at this index: as it came, where that is how it is written.
#[inline]
pub fn column(event: &Event<'_>, index: usize, check: Check, line: &mut Line<'_>) {
    let Some(piece) = event.as_came(index) else { return field(&event.at(index), line) };
    let quote: &[u8] = if matches!(check, Check::Int { .. } | Check::Float) { b"" } else { b"\"" };
    line.bytes(quote);
    let text = &piece.from[..piece.len];
    if piece.plain {
        line.bytes(text);
    } else {
        line.text::<JsonText>(text);
    }
    line.bytes(quote);
}

#[cold]
fn field(field: &Field<'_>, line: &mut Line<'_>) {
    match field {
        Field::Text(text) => string(text, line),
        Field::Uuid(id) => uuid(id.as_ref(), line),
        Field::Int(number) => line.bytes(int(*number, &mut [0; NUMBER_ROOM])),
        Field::Float(number) => line.bytes(float(*number, &mut [0; NUMBER_ROOM])),
    }
}

/// The text of a whole number.
#[inline]
pub fn int(value: Int, room: &mut [u8; NUMBER_ROOM]) -> &[u8] {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "such values come from a double")]
        Int::Value(value) if value.unsigned_abs() > EXACT_MAX => shortest(value as f64, room),
        Int::Value(value) => lexical_core::write(value, room),
        Int::Huge(value) => float(value, room),
    }
}

/// The text of a whole number.
#[inline]
pub fn unsigned(value: u64, room: &mut [u8; NUMBER_ROOM]) -> &[u8] {
    lexical_core::write(value, room)
}

/// The text of a number; `null` for those that JSON has no notation for.
#[inline]
pub fn float(value: f64, room: &mut [u8; NUMBER_ROOM]) -> &[u8] {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is compared afterwards")]
    let whole = value as i64;
    // Most times and counts are whole. This also writes -0 as `0`, as JavaScript does.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, which is compared")]
    #[expect(clippy::float_cmp, reason = "exactly whole is what is asked")]
    if whole as f64 == value && whole.unsigned_abs() <= EXACT_MAX {
        lexical_core::write(whole, room)
    } else if let Some(length) = decimal(value, room) {
        &room[..length]
    } else if value.is_finite() {
        shortest(value, room)
    } else {
        b"null"
    }
}

/// Numbers of at most six decimals, of which all times in events are, at a tenth of the cost.
/// Returns the length.
fn decimal(value: f64, room: &mut [u8; NUMBER_ROOM]) -> Option<usize> {
    const DECIMALS: usize = 6;
    const SCALE: u64 = 1_000_000;
    const FLOAT_SCALE: f64 = 1e6;
    let scaled = (value.abs() * FLOAT_SCALE).round();
    #[expect(clippy::float_cmp, reason = "the same double is what is asked")]
    let is_decimal = scaled < DISTINCT_MAX && scaled / FLOAT_SCALE == value.abs();
    if !is_decimal {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1e15")]
    let scaled = scaled as u64;
    let mut length = 0;
    if value < 0.0 {
        room[0] = b'-';
        length = 1;
    }
    length += lexical_core::write(scaled / SCALE, &mut room[length..]).len();
    room[length] = b'.';
    let digits = &mut room[length + 1..][..DECIMALS];
    let mut rest = scaled % SCALE;
    let mut used = 0;
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        let last = rest % 10;
        // A remainder of 10 fits.
        *digit = b'0' + last as u8;
        rest /= 10;
        if last != 0 && used == 0 {
            used = index + 1;
        }
    }
    Some(length + 1 + used)
}

/// The shortest digits that lead back to the same double, in JavaScript's notation: plain from
/// 1e-6 to below 1e21, else as `1.5e-7` or `1e+21`.
#[cold]
fn shortest(value: f64, room: &mut [u8; NUMBER_ROOM]) -> &[u8] {
    const OPTIONS: lexical_core::WriteFloatOptions = lexical_core::WriteFloatOptions::builder()
        .trim_floats(true)
        .positive_exponent_break(std::num::NonZeroI32::new(20))
        .negative_exponent_break(std::num::NonZeroI32::new(-6))
        .build_strict();
    const FORMAT: u128 = lexical_core::format::STANDARD;
    let mut lexical = [0; LEXICAL_ROOM];
    let text = lexical_core::write_with_options::<_, FORMAT>(value, &mut lexical, &OPTIONS);
    // `1e21` becomes `1e+21`.
    let sign = text.iter().position(|&byte| byte == b'e').filter(|&e| text[e + 1] != b'-');
    let (mantissa, exponent) = text.split_at(sign.map_or(text.len(), |e| e + 1));
    let plus: &[u8] = if sign.is_some() { b"+" } else { b"" };
    let mut length = 0;
    for part in [mantissa, plus, exponent] {
        room[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    &room[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::batch::Buffer;
    use proptest::prelude::*;

    fn escaped(text: &str) -> String {
        let mut out = Buffer::default();
        let bound = JsonText::EXPANSION * text.len() + 1;
        Line::append(&mut out, bound, |line| line.text::<JsonText>(text.as_bytes()));
        String::from_utf8(out[..out.len() - 1].to_vec()).unwrap()
    }

    fn float_text(value: f64) -> String {
        String::from_utf8(float(value, &mut [0; NUMBER_ROOM]).to_vec()).unwrap()
    }

    fn int_text(value: Int) -> String {
        String::from_utf8(int(value, &mut [0; NUMBER_ROOM]).to_vec()).unwrap()
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
            (-123.456_789, "-123.456789"),
        ] {
            assert_eq!(float_text(value), text);
            assert_eq!(number_to_string(value), text);
        }
        assert_eq!(float_text(7_853_570_541_467_346.0 / 8.0), "981696317683418.2");
        assert_eq!(float_text(f64::NAN), "null");
        assert_eq!(float_text(f64::NEG_INFINITY), "null");
        assert_eq!(int_text(Int::Huge(1e22)), "1e+22");
        assert_eq!(int_text(Int::Value(1 << 53)), "9007199254740992");
        let largest = Int::Value(9_223_372_036_854_774_784);
        assert_eq!(int_text(largest), "9223372036854775000");
    }

    /// Where two shortest texts are equally near, JavaScript takes the even one and Rust, from which
    /// the digits of the reference come, the upper one.
    fn is_tie(one: &str, other: &str, value: f64) -> bool {
        let reads_back = |text: &str| text.parse::<f64>() == Ok(value);
        one.len() == other.len() && reads_back(one) && reads_back(other)
    }

    proptest! {
        #[test]
        fn any_double_looks_as_in_javascript(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let (text, wanted) = (float_text(value), number_to_string(value));
            prop_assert!(text == wanted || is_tie(&text, &wanted, value), "{text} {wanted}");
        }

        #[test]
        fn everyday_numbers_look_as_in_javascript(value in -1e9..1e9, scale in -12i32..12) {
            let value = value * 10f64.powi(scale);
            let (text, wanted) = (float_text(value), number_to_string(value));
            prop_assert!(text == wanted || is_tie(&text, &wanted, value), "{text} {wanted}");
        }

        #[test]
        fn decimals_look_as_in_javascript(whole in any::<i32>(), millionths in 0..1_000_000) {
            let value: f64 = format!("{whole}.{millionths:06}").parse().unwrap();
            prop_assert_eq!(float_text(value), number_to_string(value));
        }

        #[test]
        fn any_text_is_read_back(text in any::<String>()) {
            let json = format!("\"{}\"", escaped(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn control_characters_have_their_short_forms() {
        let json = escaped("\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}\"\\");
        assert_eq!(json, "\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}\\\"\\\\");
    }
}
