//! From full batches to acknowledged events.
//!
//! Each destination has an [`Encode`] that runs on the shards and writes events straight into the
//! destination's open batch, and a [`Transport`] that runs on the deliver thread and sends batches.
//! Between them stands a bounded queue that the shard never waits for.
//!
//! Everything here that waits or talks to the world does so through three small traits, [`Clock`],
//! [`Transport`] and [`Disk`], so that a simulation can take the world's place.

pub mod batch;
pub mod clock;
pub mod disk;
pub mod dispatch;
pub mod influxdb;
pub mod json;
pub mod line;
pub mod ndjson;

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::event::Event;
pub use batch::Batch;

/// Writes events in a destination's format.
pub trait Encode: Send {
    /// Whether the destination wants this event at all.
    fn wants(&self, event: &Event<'_>) -> bool;

    /// Appends one event to an open batch. `received_ns` is the receive time in nanoseconds since
    /// 1970, unique within a run. Must not allocate beyond growing `out`.
    fn encode(&mut self, event: &Event<'_>, received_ns: u64, out: &mut BytesMut);
}

/// Time, for everything in this room.
pub trait Clock {
    /// Monotonic time since some fixed moment.
    fn now(&self) -> Duration;

    /// Wall clock in nanoseconds since 1970.
    fn wall_ns(&self) -> u64;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;
}

/// What became of an attempt to send a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, all of it.
    Delivered,
    /// The destination took `batch.events - refused` events and refused the others for good.
    Partial {
        /// Events refused.
        refused: u32,
        /// Why, for the log.
        reason: String,
    },
    /// The destination names lines (counted from 0) that it will never take; the rest is to be sent
    /// again.
    RefusedLines {
        /// The lines.
        lines: Vec<u32>,
        /// Why, for the log.
        reason: String,
    },
    /// The destination refuses the batch and does not say which part of it: halve it and try.
    RefusedUnnamed {
        /// Why, for the log.
        reason: String,
    },
    /// The batch is too large: halve it.
    TooLarge,
    /// The configuration is wrong (credentials, missing database): keep the batch, tell the operator.
    Misconfigured {
        /// Why, for the log and the health page.
        reason: String,
    },
    /// Busy or out of reach: try again, not before `after` if the destination says so.
    Unavailable {
        /// Why, for the log.
        reason: String,
        /// How long the destination asks to be left alone.
        after: Option<Duration>,
    },
}

/// Sends batches to one destination.
pub trait Transport {
    /// Makes one attempt. Times out by itself. `body` holds one event a line.
    fn send(&self, body: Bytes, events: u32) -> impl Future<Output = Outcome>;

    /// Whether batches may overtake each other, so that several can be under way.
    fn unordered(&self) -> bool;

    /// Bytes of all bodies sent so far, after compression.
    fn sent_bytes(&self) -> u64;
}

/// Files, for everything in this room.
pub trait Disk {
    /// An open file that is only appended to.
    type File;

    /// Opens a file for appending and creates it, and the folders above it, when missing.
    fn open_append(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Appends all of `bytes`.
    fn append(&self, file: &mut Self::File, bytes: Bytes) -> impl Future<Output = io::Result<()>>;

    /// Asks the system to bring what was appended to the disk.
    fn sync(&self, file: &mut Self::File) -> impl Future<Output = io::Result<()>>;
}
