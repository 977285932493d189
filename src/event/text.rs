//! Text without control characters, cut to its limit.

/// What log4net writes for a property that is not set (difference 18).
pub(super) const NOT_SET: &str = "(null)";

/// The datagram as text, if it can be used where it lies: valid UTF-8 without control characters.
pub(super) fn as_is(payload: &[u8], controls: bool) -> Option<&str> {
    if controls {
        return None;
    }
    simdutf8::basic::from_utf8(payload).ok()
}

/// A cleaned copy in `scratch`, and whether there was invalid UTF-8.
///
/// Invalid sequences become U+FFFD as in the WHATWG Encoding Standard, which is also what Node.js
/// does; control characters are left out.
pub(super) fn clean<'a>(payload: &[u8], scratch: &'a mut Vec<u8>) -> (&'a str, bool) {
    scratch.clear();
    let mut invalid = false;
    for chunk in payload.utf8_chunks() {
        scratch.extend(chunk.valid().bytes().filter(|&byte| !is_control(byte)));
        if !chunk.invalid().is_empty() {
            invalid = true;
            scratch.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    // Made of whole characters only, so there is no other arm to take.
    let text = simdutf8::basic::from_utf8(scratch).expect("whole characters are valid UTF-8");
    (text, invalid)
}

/// 0x00–0x1F and 0x7F, as in the payload reference; C1 controls stay.
const fn is_control(byte: u8) -> bool {
    byte < SPACE || byte == DELETE
}

const SPACE: u8 = 0x20;
const DELETE: u8 = 0x7F;

/// One field: empty if it was not set, else at most `limit` characters of it.
pub(super) fn field(text: &str, limit: usize) -> &str {
    if text == NOT_SET { "" } else { cut(text, limit) }
}

/// Whether a field holds nothing at all.
pub(super) fn is_unset(raw: &[u8]) -> bool {
    raw.is_empty() || raw == NOT_SET.as_bytes()
}

fn cut(text: &str, limit: usize) -> &str {
    // There are at least as many bytes as characters, so short text needs no counting.
    if text.len() <= limit {
        return text;
    }
    match text.char_indices().nth(limit) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_text_is_borrowed() {
        let payload = "Österåker; emoji 😀, C1 \u{85}, BOM \u{FEFF}".as_bytes();
        assert_eq!(as_is(payload, false).map(str::as_ptr), Some(payload.as_ptr()));
    }

    #[test]
    fn control_characters_and_invalid_sequences_are_not_used_as_they_are() {
        assert_eq!(as_is(b"ab", true), None);
        for byte in [0x80, 0xFF] {
            assert_eq!(as_is(&[b'a', byte, b'b'], false), None, "{byte:#x}");
        }
    }

    #[test]
    fn control_characters_are_removed() {
        let mut scratch = Vec::new();
        assert_eq!(clean(b"\x00a\x1F\tb\r\n\x7Fc", &mut scratch), ("abc", false));
    }

    #[test]
    fn invalid_sequences_are_replaced_one_for_each_maximal_part() {
        let cases: [(&[u8], &str); 4] = [
            (b"a\xFF\xFEb\xC3", "a\u{FFFD}\u{FFFD}b\u{FFFD}"),
            (b"a\xC0\x80b", "a\u{FFFD}\u{FFFD}b"),
            (b"\xF0\x9F\x98;", "\u{FFFD};"),
            (b"\xE2\x01\x82\xAC", "\u{FFFD}\u{FFFD}\u{FFFD}"),
        ];
        let mut scratch = b"left over".to_vec();
        for (payload, expected) in cases {
            assert_eq!(clean(payload, &mut scratch), (expected, true));
        }
    }

    #[test]
    fn text_is_cut_in_characters() {
        assert_eq!(field("abcdef", 6), "abcdef");
        assert_eq!(field("abcdefg", 6), "abcdef");
        assert_eq!(field("ab😀d", 3), "ab😀", "an emoji is one character, never half of one");
        assert_eq!(field("ööö", 3), "ööö", "six bytes, three characters");
    }

    #[test]
    fn the_mark_of_a_missing_property_is_empty() {
        assert_eq!(field("(null)", 100), "");
        assert_eq!(field("(null) ", 100), "(null) ");
        assert!(is_unset(b"(null)") && is_unset(b"") && !is_unset(b"null"));
    }
}
