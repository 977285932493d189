//! Counts of events by source, host and subsystem, as points of `InfluxDB`.

use std::time::Duration;

use crate::event::Event;

/// One shard's counts.
#[derive(Debug, Default)]
pub struct Tally {}

impl Tally {
    /// Counts an event that was received, whatever becomes of it.
    pub fn received(&mut self, _event: &Event<'_>) {}

    /// Counts a performance event that no monitor filter accepts.
    pub fn filtered(&mut self, _event: &Event<'_>, _app_name: Option<&str>) {}

    /// Hands the counts over when they are due. `now` is the clock's monotonic time.
    pub fn end_turn(&mut self, _now: Duration) {}
}
