//! Names of users that are told apart but not told.
//!
//! A hash and not a cipher, and short: the same user has the same text in every event, and in those
//! that Butler SOS sent, so that counts of users stay right.

use shake::Shake256;
use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};

/// Bytes of the hash that are used.
const BYTES: usize = 8;

/// Length of a scrambled text.
pub const SCRAMBLED: usize = 2 * BYTES;

/// The first eight bytes of SHAKE256 over all `parts`, one after the other, as lower-case hex.
#[must_use]
pub fn scramble(parts: &[&str]) -> [u8; SCRAMBLED] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = Shake256::default();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let mut hash = [0; BYTES];
    hasher.finalize_xof().read(&mut hash);
    let mut text = [0; SCRAMBLED];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(hash) {
        *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Butler SOS sent for these.
    #[test]
    fn is_the_hash_of_butler_sos() {
        for (parts, scrambled) in [
            (&["LAB", "\\", "goran"][..], "ab4d299d22eb1b8e"),
            (&["LAB"], "e917621682605938"),
            (&["goran"], "76b784e6533bb670"),
            (&["h😀"], "c0fbfbd1dcf64b5e"),
            (&[], "46b9dd2b0ba88d13"),
        ] {
            assert_eq!(scramble(parts), scrambled.as_bytes(), "{parts:?}");
        }
    }
}
