//! The escapes of line protocol, per version.
//!
//! Nobody escapes a backslash in a tag, because InfluxDB 1 and 2 take `\` literally unless it stands
//! before `,`, `=` or a space, and the series that exist were written so. InfluxDB 3 reads `\\` as
//! one backslash; see [`TagV3`].
//!
//! Sources: InfluxDB's line protocol reference; what Butler SOS writes (difference 23).

#![expect(
    clippy::needless_bitwise_bool,
    reason = "without branches the comparisons of a whole chunk become vector instructions"
)]

use crate::deliver::json;
use crate::deliver::line::{Escape, Line};
use crate::event;

/// In a tag each special byte becomes an escape of two.
pub(super) const TAG_EXPANSION: usize = 2;

/// A `\` at the end of a tag would escape the comma or space after it (difference 23).
#[inline]
pub(super) fn without_trailing_backslashes(text: &[u8]) -> &[u8] {
    let last = text.iter().rposition(|&byte| byte != b'\\');
    &text[..last.map_or(0, |last| last + 1)]
}

const fn delimits(byte: u8) -> bool {
    (byte == b',') | (byte == b'=') | (byte == b' ')
}

/// Writes a byte that ends lines or columns as an escape of two characters.
fn escape_control(byte: u8, line: &mut Line<'_>) {
    line.byte(b'\\');
    json::escape_letter(byte, line);
}

/// The name of a measurement, in all versions: `=` stands for itself.
#[derive(Debug)]
pub(super) struct Measurement;

impl Escape for Measurement {
    const EXPANSION: usize = TAG_EXPANSION;

    #[inline]
    fn is_special(byte: u8) -> bool {
        (byte == b',') | (byte == b' ') | (byte == b'\n') | (byte == b'\r') | (byte == b'\t')
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        escape_control(byte, line);
    }
}

/// The name of a configured tag or category, in all versions.
///
/// Versions read backslashes and control characters in names differently; without them two names are
/// the same in the line exactly when their [`name_bytes`] are.
#[derive(Debug)]
pub(super) struct TagName;

impl Escape for TagName {
    const EXPANSION: usize = TAG_EXPANSION;

    #[inline]
    fn is_special(byte: u8) -> bool {
        delimits(byte) | (byte < b' ') | (byte == b'\\') | (byte == 0x7F)
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        if delimits(byte) {
            line.bytes(&[b'\\', byte]);
        }
    }
}

/// What is left of a name in the line, but for escapes.
pub(super) fn name_bytes(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|&byte| delimits(byte) || !TagName::is_special(byte))
}

/// A tag of InfluxDB 1 and 2.
///
/// To version 1 Butler SOS writes line breaks and tabs as they are, which break the line; here they
/// are escaped for both, as Butler SOS does for version 2 (difference 23). In events there are none;
/// in configured tags and the names of apps there might be.
#[derive(Debug)]
pub(super) struct Tag;

impl Escape for Tag {
    const EXPANSION: usize = TAG_EXPANSION;

    #[inline]
    fn is_special(byte: u8) -> bool {
        delimits(byte) | (byte == b'\n') | (byte == b'\r') | (byte == b'\t')
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        escape_control(byte, line);
    }
}

/// A tag of InfluxDB 3, such as `user_full`, that Butler SOS writes as it is.
///
/// InfluxDB 3 reads backslashes in pairs, so in `LAB\\ a` the escape of the space is used up and the
/// tags end there: the line is refused, or worse. An odd run of backslashes before a delimiter
/// therefore gets one more (difference 23).
#[derive(Debug)]
pub(super) struct TagV3;

impl Escape for TagV3 {
    // The added backslash comes after one that was not escaped.
    const EXPANSION: usize = TAG_EXPANSION;

    #[inline]
    fn is_special(byte: u8) -> bool {
        Tag::is_special(byte)
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        if delimits(byte) && line.trailing(b'\\') % 2 == 1 {
            line.byte(b'\\');
        }
        escape_control(byte, line);
    }
}

/// Whether Butler SOS takes a byte out of most tags of InfluxDB 3.
pub(super) fn is_stripped(byte: u8) -> bool {
    matches!(byte, b'<' | b'>' | b'\\' | b'\n' | b'\r')
}

/// A tag of InfluxDB 3 out of which Butler SOS takes `<`, `>`, `\` and line breaks.
#[derive(Debug)]
pub(super) struct TagV3Stripped;

impl Escape for TagV3Stripped {
    const EXPANSION: usize = TAG_EXPANSION;

    #[inline]
    fn is_special(byte: u8) -> bool {
        Tag::is_special(byte) | (byte == b'<') | (byte == b'>') | (byte == b'\\')
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        if !is_stripped(byte) {
            escape_control(byte, line);
        }
    }
}

/// A string field, in all versions. A line break would be legal here, but one event is one line; in
/// events there are none.
#[derive(Debug)]
pub(super) struct StringField;

impl Escape for StringField {
    const EXPANSION: usize = "\\\"".len();

    #[inline]
    fn is_special(byte: u8) -> bool {
        (byte == b'"') | (byte == b'\\') | (byte == b'\n') | (byte == b'\r')
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        match byte {
            b'"' | b'\\' => line.bytes(&[b'\\', byte]),
            _ => line.byte(b' '),
        }
    }
}

/// A text of the JSON inside the string field `raw_event`: both escapes in one pass.
#[derive(Debug)]
pub(super) struct RawEventText;

impl Escape for RawEventText {
    const EXPANSION: usize = json::JsonText::EXPANSION + "\\".len();

    #[inline]
    fn is_special(byte: u8) -> bool {
        json::JsonText::is_special(byte)
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        // JSON's backslash is escaped; so is what follows it when it is one of the field's.
        line.bytes(b"\\\\");
        if matches!(byte, b'"' | b'\\') {
            line.byte(b'\\');
        }
        json::escape_letter(byte, line);
    }
}

/// All bytes that are special anywhere in a line, so that a text without them is copied wherever it
/// goes without being looked at again.
#[derive(Debug)]
pub(super) struct Anywhere;

impl Escape for Anywhere {
    /// In one tag, one string field and `raw_event`.
    const EXPANSION: usize = TAG_EXPANSION + StringField::EXPANSION + RawEventText::EXPANSION;

    #[inline]
    fn is_special(byte: u8) -> bool {
        !event::is_plain(byte)
    }

    fn escape(byte: u8, line: &mut Line<'_>) {
        line.byte(byte);
    }
}
