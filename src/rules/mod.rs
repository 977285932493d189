//! Which events are wanted, and which categories they have.

use smallvec::SmallVec;

use crate::event::{Event, Kind};
use crate::observe::ledger::RejectReason;

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

/// A category: a tag at `InfluxDB`, a member of the event elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Category {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// The categories of one event.
pub type Categories<'r> = SmallVec<[&'r Category; 8]>;

/// Everything that decides about an event, made ready for looking up.
#[derive(Debug)]
pub struct Rules {
    enabled: EnabledKinds,
}

impl Rules {
    /// Rules that accept all events of these kinds.
    #[must_use]
    pub fn accepting(enabled: EnabledKinds) -> Self {
        Self { enabled }
    }

    /// Whether an event is wanted, and its categories (`None` when they are off, and for user
    /// events). `app_name` is the name of a performance event's app, if it is known.
    pub fn judge(
        &self,
        event: &Event<'_>,
        _app_name: Option<&str>,
    ) -> Result<Option<Categories<'_>>, RejectReason> {
        if !self.enabled.contains(event.kind()) {
            return Err(RejectReason::SourceDisabled);
        }
        Ok(None)
    }
}
