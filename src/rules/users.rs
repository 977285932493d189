//! Users whose events are not wanted.

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashSet};

use super::ExcludedUser;
use crate::event::{Column, Event};

/// Pairs of directory and id.
#[derive(Debug, Default)]
pub(super) struct Users(HashSet<(Box<str>, Box<str>), RandomState>);

/// A pair as it lies in the datagram. Hashes as the owned pair does.
#[derive(Hash)]
struct Borrowed<'e>(&'e str, &'e str);

impl Equivalent<(Box<str>, Box<str>)> for Borrowed<'_> {
    fn equivalent(&self, (directory, id): &(Box<str>, Box<str>)) -> bool {
        self.0 == &**directory && self.1 == &**id
    }
}

impl Users {
    pub fn new(users: &[ExcludedUser]) -> Self {
        Self(
            users
                .iter()
                .map(|user| (user.directory.as_str().into(), user.id.as_str().into()))
                .collect(),
        )
    }

    /// Whether the user of the event is one of them: compared exactly, after control characters are
    /// removed, as Butler SOS does.
    pub fn contains(&self, event: &Event<'_>) -> bool {
        let user = Borrowed(event.text(Column::UserDirectory), event.text(Column::UserId));
        self.0.contains(&user)
    }
}
