//! Numbers as JavaScript reads and writes them.

/// What `parseInt` and `parseFloat` skip in front.
fn is_space(c: char) -> bool {
    c.is_whitespace() && c != '\u{85}' || c == '\u{FEFF}'
}

/// `parseInt(text, 10)`.
pub fn parse_int(text: &str) -> f64 {
    let text = text.trim_start_matches(is_space);
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse::<f64>().map_or(f64::NAN, |number| sign * number)
}

/// `parseFloat(text)`: the longest prefix that is a number.
pub fn parse_float(text: &str) -> f64 {
    let text = text.trim_start_matches(is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.starts_with("Infinity") {
        return if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    (1..=text.len())
        .rev()
        .filter(|end| text.is_char_boundary(*end))
        .map(|end| &text[..end])
        .filter(|prefix| {
            prefix.chars().all(|c| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
        })
        .find_map(|prefix| prefix.parse().ok())
        .unwrap_or(f64::NAN)
}

/// `String(number)`.
pub fn js_number(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    if number == 0.0 {
        return "0".into();
    }
    // Rust's `{:e}` gives the shortest digits that read back as the same number, as JavaScript does.
    let shortest = format!("{:e}", number.abs());
    let (mantissa, exponent) = shortest.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("a whole exponent");
    let sign = if number < 0.0 { "-" } else { "" };
    if (-6..21).contains(&exponent) {
        format!("{sign}{}", number.abs())
    } else {
        let plus = if exponent > 0 { "+" } else { "" };
        format!("{sign}{mantissa}e{plus}{exponent}")
    }
}

/// A JSON number as `JSON.stringify` writes it.
pub fn json_number(number: f64) -> String {
    if number.is_finite() { js_number(number) } else { "null".into() }
}
