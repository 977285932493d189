//! The bytes of a datagram, and how far it is allowed to look beyond them.

/// Bytes behind a datagram that make reading it cheapest; see [`Payload`].
pub const PADDING: usize = 64;

/// The bytes of a datagram, and the memory behind them that may be read, whatever stands there.
///
/// Most fields are shorter than a few vector registers. Where it does not matter what comes behind a
/// field, it is read with moves of fixed size instead of a branch for each length. Near the end of a
/// datagram that needs memory behind it; without any, everything means the same and costs more.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    all: &'a [u8],
    len: usize,
}

impl<'a> Payload<'a> {
    /// The first `len` bytes of `all`, or all if there are fewer.
    #[must_use]
    pub fn new(all: &'a [u8], len: usize) -> Self {
        Self { all, len: len.min(all.len()) }
    }

    /// The bytes of the datagram.
    #[must_use]
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        &self.all[..self.len]
    }

    /// Everything that may be read from `start` on.
    #[inline]
    pub(super) fn onwards(self, start: usize) -> &'a [u8] {
        self.all.get(start..).unwrap_or_default()
    }

    /// `N` bytes from `start` on, if so many may be read.
    #[inline]
    pub(super) fn window<const N: usize>(self, start: usize) -> Option<&'a [u8; N]> {
        self.onwards(start).first_chunk()
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    /// Without anything behind it.
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes, bytes.len())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}
