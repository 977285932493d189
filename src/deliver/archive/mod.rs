//! Events as Parquet files, for years: one folder per kind and day, which `DuckDB`, Polars, pandas and
//! Qlik Sense read as they are.
//!
//! | file | what |
//! |---|---|
//! | [`schema`] | the columns of each kind, derived from its layout |
//! | [`record`] | one event as a compact line: what the shards encode |
//! | `stage` | batches to staging, which survives a crash, and from there to the writer |
//! | `writer`, `columns` | the thread that writes Parquet |
//! | [`read`] | the files and what is staged, for whoever looks at them |
//! | [`files`] | names, what is there already, what is too old |
//! | `wall` | whether the clock can be believed about that |
//!
//! `delivered` means that the Parquet file is on the disk under its name.

mod columns;
pub mod files;
pub mod read;
pub mod record;
pub mod schema;
mod stage;
#[cfg(test)]
mod tests;
mod wall;
mod writer;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use self::files::Retention;
use self::stage::{Parts, run};
use self::writer::Writer;
use super::clock::SystemClock;
use super::disk::PlainDisk;
use super::{Destination, Encode, Served, Storage};

pub use stage::Roll;

/// An archive of Parquet files.
#[derive(Debug)]
pub struct ArchiveDestination {
    /// Its folder.
    pub dir: PathBuf,
    /// When files are completed.
    pub roll: Roll,
    /// How much is kept.
    pub retention: Retention,
}

impl ArchiveDestination {
    async fn serve_on<D: Storage + Clone>(self, served: Served, disk: D) {
        let Served { batches, ledger, given_up, latency, spool, .. } = served;
        // The engine gives one to every destination with an identity, unless somebody builds an engine
        // without; the panic ends it with this text.
        let staging = spool.expect("the archive stages events in a spool").on(disk);
        let clock = &SystemClock::new();
        let writer = Writer::new(self.dir, self.retention);
        let parts = Parts { ledger, receiver: batches, clock, staging, roll: self.roll, writer };
        run(parts, given_up, |ns, events| latency.delivered.record(ns, events)).await;
    }
}

impl Destination for ArchiveDestination {
    fn name(&self) -> String {
        "archive".into()
    }

    fn identity(&self) -> Option<String> {
        // The same folder under another working directory is another folder.
        let dir = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        Some(dir.display().to_string())
    }

    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(record::Encoder)
    }

    fn serve(self: Box<Self>, served: Served) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            #[cfg(target_os = "linux")]
            if served.uring {
                return self.serve_on(served, super::disk::UringDisk).await;
            }
            self.serve_on(served, PlainDisk).await;
        })
    }
}
