//! Which events are wanted.

use crate::event::Kind;

/// The sources that the configuration enables, per [`Kind`].
///
/// User events have one switch (`userEvents.enable`); log events one each
/// (`logEvents.source.<name>.enable`).
#[derive(Clone, Copy, Debug)]
pub struct EnabledKinds(pub [bool; Kind::COUNT]);

impl EnabledKinds {
    /// Whether events of this kind are wanted.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0[kind as usize]
    }
}
