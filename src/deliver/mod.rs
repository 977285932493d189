//! From full batches to acknowledged events.
//!
//! Each destination has an [`Encode`] that runs on the shards and writes events straight into the
//! destination's open batch, and a [`Transport`] that runs on the deliver thread and sends batches.
//! Between them stands a bounded queue that the shard never waits for. [`dispatch`] decides what is
//! sent when, and what cannot be sent waits in the [`spool`] on disk.
//!
//! Everything here that waits or talks to the world does so through three small traits, [`Clock`],
//! [`Transport`] and [`Disk`] (with [`Storage`]), so that a simulation can take the world's place.

pub mod archive;
pub mod batch;
pub mod clock;
pub mod disk;
pub mod dispatch;
mod http;
pub mod influxdb;
pub mod json;
pub mod line;
pub mod mqtt;
pub mod ndjson;
pub mod new_relic;
pub mod probe;
pub mod spool;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::enrich::Enriched;
use crate::event::Event;
use crate::observe::histogram::Latency;
use crate::observe::ledger::DestinationLedger;
use crate::observe::series::Series;
use batch::BatchReceiver;
pub use batch::{Batch, Buffer};
pub use dispatch::Spooling;

/// Where events can go: one encoder per shard, and a future that delivers the batches.
pub trait Destination: fmt::Debug + Send {
    /// Name in the ledger: `influxdb`, `ndjson`, …
    fn name(&self) -> String;

    /// Everything that decides where events go, in any form: events that wait on disk are sent only
    /// where this is the same. `None` for a destination that has no spool.
    fn identity(&self) -> Option<String>;

    /// A new encoder, for one shard.
    fn encoder(&self) -> Box<dyn Encode>;

    /// Delivers what is served until every batch has an outcome. Runs on the deliver thread.
    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>>;

    /// The series that events go to, where a database has such a thing.
    fn series(&self) -> Option<Arc<Series>> {
        None
    }
}

/// What a destination gets to deliver, and what it reports to.
#[derive(Debug)]
pub struct Served {
    /// The batches of all shards. They end when the shards have ended.
    pub batches: BatchReceiver,
    /// The destination's part of the ledger.
    pub ledger: Arc<DestinationLedger>,
    /// Turns true when the time to shut down is over.
    pub given_up: watch::Receiver<bool>,
    /// Gets the time from receive to acknowledgement.
    pub latency: Arc<Latency>,
    /// Whether the runtime is tokio-uring's, so that files can go through io_uring too.
    pub uring: bool,
    /// Requests under way at once, where order does not matter.
    pub in_flight: usize,
    /// Where batches wait that the destination does not take; memory is all there is without it.
    pub spool: Option<Spooling<()>>,
}

impl Served {
    /// Serves one transport with these batches; see [`dispatch::run`].
    pub async fn run<T: Transport>(self, transport: T) {
        self.run_up_to(dispatch::REQUEST_BYTES_MAX, transport).await;
    }

    /// [`Served::run`] with requests of at most `request_bytes_max`, where batches are merged.
    pub async fn run_up_to<T: Transport>(self, request_bytes_max: usize, transport: T) {
        #[cfg(target_os = "linux")]
        if self.uring {
            return self.run_on(disk::UringDisk, request_bytes_max, transport).await;
        }
        self.run_on(disk::PlainDisk, request_bytes_max, transport).await;
    }

    async fn run_on<T: Transport, D: Storage + Clone + 'static>(
        self,
        disk: D,
        request_bytes_max: usize,
        transport: T,
    ) {
        let Self { batches, ledger, mut given_up, latency, in_flight, spool, .. } = self;
        let settings =
            dispatch::Settings { in_flight, request_bytes_max, ..dispatch::Settings::default() };
        let deadline = async move {
            // An error means that the engine is gone, and with it the time to shut down.
            let _ = given_up.wait_for(|given_up| *given_up).await;
        };
        let clock = &clock::SystemClock::new();
        let record = |nanoseconds, events| latency.delivered.record(nanoseconds, events);
        let spooling = spool.map(|spool| spool.on(disk));
        let parts = dispatch::Parts { ledger, receiver: batches, clock, settings, spooling };
        dispatch::run(parts, transport, deadline, record).await;
    }
}

/// Writes events in a destination's format.
pub trait Encode: Send {
    /// Whether the destination wants this event at all.
    fn wants(&self, event: &Event<'_>) -> bool;

    /// Appends one event to an open batch. Must not allocate beyond growing `out`.
    fn encode(&mut self, enriched: &Enriched<'_>, out: &mut Buffer);
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

/// Files that are appended to, for everything in this room.
pub trait Disk {
    /// An open file that is only appended to.
    type File;

    /// Opens a file of lines for appending and creates it, and the folders above it, when missing. What
    /// is appended begins on a line of its own. An error of kind [`io::ErrorKind::WouldBlock`] when
    /// another process appends to it.
    fn open_append(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Appends all of `bytes`. After an error the file ends where it ended before: what was written
    /// of them is overwritten by what is appended next.
    fn append(&self, file: &mut Self::File, bytes: Bytes) -> impl Future<Output = io::Result<()>>;

    /// Asks the system to bring what was appended to the disk.
    fn sync(&self, file: &mut Self::File) -> impl Future<Output = io::Result<()>>;
}

/// What the spool needs of a disk beyond appending.
///
/// What is appended is on the disk for certain only after [`Disk::sync`], and a file that was made,
/// renamed or removed is so for certain only after [`Storage::sync_folder`].
pub trait Storage: Disk {
    /// Keeps other processes out while it lives.
    type Lock;

    /// Makes a file for appending that only its owner may read. An error if it exists.
    fn create(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Up to `most` bytes of a file from `from` on; fewer only at its end.
    fn read(&self, path: &Path, from: u64, most: usize) -> impl Future<Output = io::Result<Bytes>>;

    /// Cuts a file off, durably.
    fn truncate(&self, path: &Path, length: u64) -> impl Future<Output = io::Result<()>>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Renames a file; one that has the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes a folder, and those above it, that only their owner may enter.
    fn create_folder(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// The files of a folder, in any order.
    fn list(&self, folder: &Path) -> impl Future<Output = io::Result<Vec<Listed>>>;

    /// Asks the system to bring the names in a folder to the disk.
    fn sync_folder(&self, folder: &Path) -> impl Future<Output = io::Result<()>>;

    /// Locks a file, which is made when missing. An error of kind [`io::ErrorKind::WouldBlock`] when
    /// another process has it.
    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>>;

    /// Bytes that may still be written below this folder; `None` where the system does not say.
    fn free(&self, folder: &Path) -> impl Future<Output = io::Result<Option<u64>>>;
}

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name; what is not UTF-8 in it is replaced.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// When it was written to last, in ns since 1970.
    pub modified_ns: u64,
}
