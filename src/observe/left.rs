//! What a run leaves behind, as the next one reads it: the two sides of one account.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How far a destination's spool is. Compared with what the next run finds on the disk, it tells what
/// became of it after the last checkpoint of this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpoolMark {
    /// Tells folders apart: with other settings it is another one.
    pub folder: u64,
    /// The number of the event that is written next: as many were ever written.
    pub next: u64,
    /// Events that were ever dropped because it was full.
    pub full: u64,
    /// Events in segments that were ever dropped because they were too old.
    pub expired: u64,
}

/// What the run before had not told when it ended, as its last checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// When that was.
    pub at: SystemTime,
    /// Events that were in memory.
    pub in_memory: u64,
    /// Events that were on disk.
    pub on_disk: u64,
    /// How far the spool was; `None` when that run had not opened it.
    pub spool: Option<SpoolMark>,
}
