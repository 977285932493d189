//! Between UTF-8 and JavaScript's UTF-16.

use super::Text;

/// Text as JavaScript holds it.
pub fn wide(text: &str) -> Text {
    text.encode_utf16().collect()
}

/// Text as it leaves in UTF-8: half a surrogate pair becomes U+FFFD.
pub fn narrow(text: &[u16]) -> String {
    String::from_utf16_lossy(text)
}

/// Removes control characters (U+0000 to U+001F and U+007F) and cuts to `limit` UTF-16 units.
pub fn sanitise(text: &[u16], limit: usize) -> Text {
    text.iter().copied().filter(|unit| *unit > 0x1F && *unit != 0x7F).take(limit).collect()
}

/// A JSON string as `JSON.stringify` writes it.
pub fn json_string(text: &[u16]) -> String {
    let mut out = String::from("\"");
    for character in char::decode_utf16(text.iter().copied()) {
        match character {
            Ok('"') => out.push_str("\\\""),
            Ok('\\') => out.push_str("\\\\"),
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok('\n') => out.push_str("\\n"),
            Ok('\r') => out.push_str("\\r"),
            Ok('\t') => out.push_str("\\t"),
            Ok(control) if control < ' ' => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            Ok(other) => out.push(other),
            Err(half) => out.push_str(&format!("\\u{:04x}", half.unpaired_surrogate())),
        }
    }
    out.push('"');
    out
}
