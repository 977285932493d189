//! Batches on disk, for a destination that does not take them.
//!
//! # On disk
//!
//! `<dir>/<kind>-<hash>/` belongs to one destination and to the settings that say where its events go;
//! with other settings it is another folder, and the old one is never sent elsewhere. It holds
//!
//! * segments ([`segment`]) of records ([`record`]), 8 MiB each or an eighth of a smaller limit,
//! * `cursor` after a clean stop: what is done in segments that are not done as a whole,
//! * an empty file whose name says what became of the segments before (`gone.rs`),
//! * `about`: the destination's name, for people,
//! * `lock`: held by the process that uses the folder.
//!
//! # What holds
//!
//! * What [`Spool::push`] has taken survives the end of the process; what was written before the last
//!   [`Spool::tend`] survives a power failure.
//! * After a clean stop nothing is sent twice. After a crash, what was acknowledged in segments that
//!   were not done as a whole is sent again.
//! * Every loss is counted in events: sequences number events, and a complete segment's name says
//!   which it holds. There is one exception: at the end of the segment that was written to when
//!   the process or the machine crashed, a damaged record cannot be told from one that was never
//!   completely written. Its events are counted if its header is whole, and not if it is not.

mod cursor;
#[cfg(test)]
pub(crate) mod faults;
mod gone;
pub mod inspect;
#[cfg(test)]
mod model;
mod numbers;
mod open;
mod ranges;
mod read;
pub mod record;
pub mod segment;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use shake::Shake256;
use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};

pub use numbers::Numbers;
pub use open::Found;
pub(crate) use store::FREE_SHARE;
pub use store::Spool;

/// Where one destination's spool is and what its limits are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder; see [`folder`].
    pub folder: PathBuf,
    /// The destination's name.
    pub destination: String,
    /// Most bytes on disk; a tenth of what is free there is a limit too.
    pub max_bytes: u64,
    /// Events older than this are not kept.
    pub max_age: Duration,
}

impl Settings {
    /// Events received before this, in ns since 1970, are not kept.
    pub(super) fn oldest_kept(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(u64::try_from(self.max_age.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The folder of a destination: its kind and a hash of its name and of everything that decides where
/// its events go and what they look like. No part of either becomes a path.
#[must_use]
pub fn folder(dir: &Path, name: &str, identity: &str) -> PathBuf {
    let kind: String = name
        .split(':')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || *c == '_')
        .take(16)
        .collect();
    let mut hasher = Shake256::default();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(identity.as_bytes());
    let mut hash = [0; 8];
    hasher.finalize_xof().read(&mut hash);
    dir.join(format!("{kind}-{:016x}", u64::from_be_bytes(hash)))
}

/// A batch read back, without the events that have an outcome already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number of its first event when it was written.
    pub sequence: u64,
    /// Which events it holds.
    pub numbers: Numbers,
    /// How many these are.
    pub events: u32,
    /// Receive time of the oldest event, in ns since 1970.
    pub oldest_ns: u64,
    /// The events, one a line.
    pub lines: Bytes,
}

/// Events that were in a spool and will not be read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Pushed out by younger ones.
    pub full: u64,
    /// Older than the limit.
    pub expired: u64,
    /// In damaged records.
    pub damaged: u64,
}

impl Lost {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.full + self.expired + self.damaged
    }
}

/// Why a spool cannot be used, or not at the moment.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process has it, or had it since this one began.
    #[error(
        "{}: another process uses this spool, or has used it since this one started; stop the other \
         one and restart this one, or give each its own ringside.spool.dir",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "{}: version {version} of the spool's format, written by a newer Ringside; use that one, or \
         move the folder away",
        path.display()
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Everything on disk is being sent.
    #[error(
        "the spool's limit of {limit} bytes leaves no room; raise ringside.spool.maxBytes or free \
         disk space (a tenth of what is free is used at most)"
    )]
    Full {
        /// The limit.
        limit: u64,
    },
    /// A batch is longer than a record may be, or than all that fits.
    #[error(
        "a batch does not fit the spool's limit of {limit} bytes; raise ringside.spool.maxBytes or \
         free disk space (a tenth of what is free is used at most)"
    )]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The system refuses.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl SpoolError {
    fn io(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), error }
    }
}
