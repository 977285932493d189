//! UUIDs with hyphens, which is the only form that counts.

use uuid::Uuid;

/// Length of a UUID.
pub(super) const UUID_LEN: usize = 36;

/// Places of the hyphens.
const IS_HYPHEN: [bool; UUID_LEN] = {
    let mut places = [false; UUID_LEN];
    (places[8], places[13], places[18], places[23]) = (true, true, true, true);
    places
};

/// The UUID that the text is, in upper or lower case.
pub(super) fn parse(text: &[u8]) -> Option<Uuid> {
    if text.len() != UUID_LEN {
        return None;
    }
    Uuid::try_parse_ascii(text).ok()
}

/// Whether the text is a UUID in lower case, which is how it is written.
///
/// Without a branch for each byte the comparisons become vector instructions.
#[inline]
pub(super) fn is_lower(text: &[u8]) -> bool {
    let Ok(text) = <&[u8; UUID_LEN]>::try_from(text) else { return false };
    text.iter().zip(IS_HYPHEN).fold(true, |good, (&byte, hyphen)| {
        let digit = (byte.wrapping_sub(b'0') < 10) | (byte.wrapping_sub(b'a') < 6);
        good & if hyphen { byte == b'-' } else { digit }
    })
}

/// The UUID of a text that [`is_lower`]; none of other lengths.
///
/// Without checking it again, which is most of the work: filters ask for an event's app, and so does
/// the look-up of its name.
pub(super) fn of_lower(text: &[u8]) -> Option<Uuid> {
    let text = <&[u8; UUID_LEN]>::try_from(text).ok()?;
    let four = |at: usize| text[at..at + 4].try_into().map_or(0, u32::from_be_bytes);
    let word = |first, second| of_digits((u64::from(four(first)) << 32) | u64::from(four(second)));
    let words = [word(0, 4), word(9, 14), word(19, 24), word(28, 32)];
    Some(Uuid::from_u128(words.into_iter().fold(0, |id, word| (id << 32) | u128::from(word))))
}

/// The number that eight digits make, of which the first is in the highest byte.
#[inline]
fn of_digits(digits: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    // `0` is 0x30 and `a` is 0x61: what bit 6 says is worth nine.
    let values = (digits & (0xF * ONES)) + 9 * ((digits >> 6) & ONES);
    let pairs = (values | (values >> 4)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs | (pairs >> 8)) & 0x0000_FFFF_0000_FFFF;
    (fours | (fours >> 16)) & 0xFFFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_in_lower_case_is_written_as_it_came(
            text in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            change in prop::option::of((0..UUID_LEN, "[/:`gG@AF0f-]?")),
        ) {
            let mut text: String = text;
            if let Some((at, with)) = change {
                text.replace_range(at..=at, &with);
            }
            let written = parse(text.as_bytes()).map(|id| id.to_string());
            prop_assert_eq!(is_lower(text.as_bytes()), written.as_ref() == Some(&text));
            if is_lower(text.as_bytes()) {
                prop_assert_eq!(of_lower(text.as_bytes()), parse(text.as_bytes()));
            }
        }
    }
}
