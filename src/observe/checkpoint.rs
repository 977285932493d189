//! What was in memory when a run ended without a clean stop.
//!
//! The ledger is exact while the process lives. Its totals are also written to the small file
//! `ledger` in the spool's folder, every 100 ms while they change, so that the next start can say how
//! much a crash, a `kill -9` or a power failure took with it: per destination what had been assigned
//! and neither delivered, nor spooled, nor dropped; per listener what was queued.
//!
//! How far each spool was stands there too ([`SpoolMark`]). When the next run has opened it, what was
//! written after the last record is known exactly, and so is what was dropped ([`Left`]).
//!
//! After the end of a process the number is right to within [`INTERVAL`] of traffic: what it had
//! written is in the system's page cache. After a power failure the file is as old as the last time
//! the system wrote its cache back, on Linux up to half a minute.
//!
//! A thread of its own writes the file: a slow disk delays nothing else.

mod slots;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use self::slots::Slots;
use super::ledger::{DestinationSnapshot, Ledger, Left, ListenerSnapshot, Snapshot, SpoolMark};
use super::logging::RateLimited;
use crate::event::Listener;

/// Time between two looks at the ledger.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// How long a clean stop waits for the last record: a disk that takes longer is not waited for.
const LAST_RECORD: Duration = Duration::from_secs(1);

/// Name of the file.
const FILE: &str = "ledger";

/// A longer file is not one of ours: a record takes some hundred bytes per destination.
const BYTES_MAX: u64 = 16 << 20;

/// Why the ledger cannot be checkpointed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Two processes would overwrite each other's record.
    #[error(
        "{} is in use by another ringside; give each its own Butler-SOS.ringside.spool.dir, or stop \
         the other one", path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(
        "cannot {what} {}: {source}; after an unclean stop the next start cannot say what was lost; \
         make Butler-SOS.ringside.spool.dir a folder that this user may write to", path.display()
    )]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The file, and what the last run left in it.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// Locked; `None` while there is none.
    file: Option<File>,
    /// Sequence number of the newest record in the file.
    newest: u64,
    previous: Option<LastRun>,
}

/// What a run says about itself in case that it is the last thing that it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When, in ms since 1970.
    at_ms: u64,
    /// By a run that had drained and then stopped.
    stopped: bool,
    totals: Totals,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    listeners: Vec<ListenerTotals>,
    destinations: Vec<DestinationTotals>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ListenerTotals {
    name: String,
    received: u64,
    queued: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DestinationTotals {
    name: String,
    assigned: u64,
    delivered: u64,
    spooled: u64,
    dropped: u64,
    /// What the run before this one had left, in memory and on disk, if it is not counted in here yet.
    left: u64,
    /// As of the same moment as `left`, while that is not counted.
    spool: Option<SpoolMark>,
}

impl DestinationTotals {
    fn new(snapshot: &DestinationSnapshot) -> Self {
        let (left, spooled, spool) = if let Some(left) = snapshot.left {
            (left.in_memory + left.on_disk, left.on_disk, left.spool)
        } else {
            // Without a predecessor there may still be a spool that has not been opened.
            let spool = (snapshot.counts.settled > 0).then_some(snapshot.counts.spool);
            (0, snapshot.counts.spooled, spool)
        };
        Self {
            left,
            spool,
            name: snapshot.name.clone(),
            assigned: snapshot.assigned,
            delivered: snapshot.counts.delivered,
            spooled,
            dropped: snapshot.dropped.sum(),
        }
    }

    fn in_memory(&self) -> u64 {
        let elsewhere = [self.delivered, self.spooled, self.dropped];
        let all = self.assigned.saturating_add(self.left);
        elsewhere.iter().fold(all, |left, events| left.saturating_sub(*events))
    }
}

impl Totals {
    fn new(snapshot: &Snapshot) -> Self {
        let listener = |(listener, counts): (&Listener, &ListenerSnapshot)| ListenerTotals {
            name: listener.name().to_owned(),
            received: counts.received,
            queued: counts.queued,
        };
        Self {
            listeners: Listener::ALL.iter().zip(&snapshot.listeners).map(listener).collect(),
            destinations: snapshot.destinations.iter().map(DestinationTotals::new).collect(),
        }
    }

    /// Nothing was ever received.
    fn is_zero(&self) -> bool {
        self.listeners.iter().all(|listener| listener.received == 0)
    }

    /// Bytes of the longest record with these listeners and destinations.
    fn longest_record(&self) -> usize {
        let mut totals = self.clone();
        for listener in &mut totals.listeners {
            (listener.received, listener.queued) = (u64::MAX, u64::MAX);
        }
        for counts in &mut totals.destinations {
            (counts.assigned, counts.delivered) = (u64::MAX, u64::MAX);
            (counts.spooled, counts.dropped, counts.left) = (u64::MAX, u64::MAX, u64::MAX);
            let most = u64::MAX;
            counts.spool = Some(SpoolMark { folder: most, next: most, full: most, expired: most });
        }
        LastRun { at_ms: u64::MAX, stopped: false, totals }.to_bytes().len()
    }
}

impl LastRun {
    /// What a ledger says now; `stopped` by a run that has drained.
    pub(crate) fn new(snapshot: &Snapshot, stopped: bool) -> Self {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        Self { at_ms, stopped, totals: Totals::new(snapshot) }
    }

    /// As JSON: names of destinations are free text.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Numbers, flags and text always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`Self::to_bytes`] has written.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Hands what was in memory to the ledger of this run: what was queued is counted as lost, and
    /// each destination's part once it is known what of it is on disk. To be called before anything
    /// runs.
    pub fn hand_over(&self, ledger: &Ledger) {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(self.at_ms);
        let seconds = at.elapsed().unwrap_or_default().as_secs();
        for ListenerTotals { name, queued, .. } in &self.totals.listeners {
            let known = Listener::ALL.into_iter().find(|listener| listener.name() == name);
            if let Some(listener) = known.filter(|_| *queued > 0) {
                ledger.crashed[listener as usize].fetch_add(*queued, Ordering::Relaxed);
                tracing::warn!(
                    listener = name,
                    datagrams = queued,
                    "datagrams were queued when the last run ended, {seconds} s ago; they are lost \
                     and counted as `crash`"
                );
            }
        }
        for totals in &self.totals.destinations {
            let (name, in_memory) = (&totals.name, totals.in_memory());
            match ledger.destinations.iter().find(|known| known.name == *name) {
                Some(destination) => {
                    // Nobody else does.
                    let _ = destination.left.set(Left {
                        at,
                        in_memory,
                        on_disk: totals.spooled,
                        spool: totals.spool,
                    });
                }
                None if in_memory > 0 => tracing::warn!(
                    destination = name,
                    events = in_memory,
                    "events were in memory when the last run ended, {seconds} s ago; they are lost \
                     and counted nowhere, because this destination is not configured any more"
                ),
                None => {}
            }
        }
        if !self.stopped {
            tracing::info!("the last run ended without a clean stop, {seconds} s ago");
        }
    }
}

impl Checkpoint {
    /// Looks for what the last run has left in `folder`. Nothing is created.
    ///
    /// The only error is that another process uses the folder: a file that cannot be read, or makes
    /// no sense, is a warning.
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        let mut this = Self { path: folder.join(FILE), file: None, newest: 0, previous: None };
        match this.read() {
            Ok(()) => {}
            Err(error @ CheckpointError::InUse { .. }) => return Err(error),
            Err(error) => tracing::warn!("{error}"),
        }
        Ok(this)
    }

    /// What the last run has left.
    #[must_use]
    pub fn last_run(&self) -> Option<LastRun> {
        self.previous.clone()
    }

    fn read(&mut self) -> Result<(), CheckpointError> {
        let file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => self.locked(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed("open", error)),
        };
        let mut bytes = Vec::new();
        let read = (&file).take(BYTES_MAX).read_to_end(&mut bytes);
        self.file = Some(file);
        read.map_err(|error| self.failed("read", error))?;
        let record = match slots::newest(&bytes) {
            Ok(None) => return Ok(()),
            Ok(Some((sequence, record))) => {
                self.newest = sequence;
                LastRun::parse(record)
            }
            Err(slots::Damaged) => None,
        };
        if record.is_none() {
            tracing::warn!(
                file = %self.path.display(),
                "the ledger of the last run is damaged; whether events were lost is not known"
            );
        }
        self.previous = record;
        Ok(())
    }

    /// The lock ends with the process, however it ends.
    fn locked(&self, file: File) -> Result<File, CheckpointError> {
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(CheckpointError::InUse { path: self.path.clone() })
            }
            Err(TryLockError::Error(error)) => Err(self.failed("lock", error)),
        }
    }

    fn create(&mut self) -> Result<File, CheckpointError> {
        if let Some(folder) = self.path.parent() {
            // What lies in it and below is nobody else's business.
            let mut builder = DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(folder).map_err(|error| self.failed("create", error))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path).map_err(|error| self.failed("create", error))?;
        let file = self.locked(file)?;
        // Another run may have come and gone since this one looked; newer records are to win.
        let mut bytes = Vec::new();
        let read = (&file).take(BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("read", error))?;
        if let Ok(Some((sequence, _))) = slots::newest(&bytes) {
            self.newest = sequence;
        }
        Ok(file)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> CheckpointError {
        CheckpointError::Io { what, path: self.path.clone(), source }
    }
}

/// Writes records.
struct Writer {
    checkpoint: Checkpoint,
    /// `None` before the first record.
    slots: Option<Slots>,
    /// What the newest record says.
    written: Option<Totals>,
    warnings: RateLimited,
    started: Instant,
}

impl Writer {
    /// Writes a record if there is something new to say; a failure is a warning.
    fn look(&mut self, ledger: &Ledger, stopped: bool) {
        if let Err(error) = self.update(&ledger.snapshot(), stopped)
            && let Some(suppressed) = self.warnings.allow(self.started.elapsed())
        {
            tracing::warn!(suppressed, "{error}");
        }
    }

    fn update(&mut self, snapshot: &Snapshot, stopped: bool) -> Result<(), CheckpointError> {
        let record = LastRun::new(snapshot, stopped);
        let totals = &record.totals;
        let news = stopped || self.written.as_ref() != Some(totals);
        let trace = self.slots.is_some() || self.checkpoint.file.is_some();
        if !news || (totals.is_zero() && !trace) {
            return Ok(());
        }
        let slots = if let Some(slots) = &mut self.slots {
            slots
        } else {
            let file = self.checkpoint.file.take();
            let file = file.map_or_else(|| self.checkpoint.create(), Ok)?;
            let slots = Slots::new(file, totals.longest_record(), self.checkpoint.newest)
                .map_err(|error| self.checkpoint.failed("size", error))?;
            self.slots.insert(slots)
        };
        let written = slots.write(&record.to_bytes()).and_then(|()| {
            // A clean stop must not look like a crash after a power failure a moment later.
            if stopped { slots.sync() } else { Ok(()) }
        });
        written.map_err(|error| self.checkpoint.failed("write", error))?;
        self.written = Some(record.totals);
        Ok(())
    }
}

/// Keeps the file up to date, from a thread of its own.
#[derive(Debug)]
pub struct Checkpointer {
    finish: mpsc::Sender<()>,
    finished: mpsc::Receiver<()>,
}

impl Checkpointer {
    /// Begins to write. What [`LastRun::hand_over`] gave to `ledger` is in the first record already.
    pub fn start(checkpoint: Checkpoint, ledger: Arc<Ledger>) -> io::Result<Self> {
        let mut writer = Writer {
            checkpoint,
            slots: None,
            written: None,
            warnings: RateLimited::new(),
            started: Instant::now(),
        };
        // What has been counted is not to be counted again by the next run.
        writer.look(&ledger, false);
        let (finish, asked) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        thread::Builder::new().name("checkpoint".into()).spawn(move || {
            loop {
                match asked.recv_timeout(INTERVAL) {
                    Err(RecvTimeoutError::Timeout) => writer.look(&ledger, false),
                    // Whoever asks has drained; whoever hangs up ends without.
                    result => break writer.look(&ledger, result.is_ok()),
                }
            }
            // The file is free before anybody learns that it is.
            drop(writer);
            // Nobody waits any more when this took too long.
            let _ = done.send(());
        })?;
        Ok(Self { finish, finished })
    }

    /// Writes the last record of a run that has drained, and marks the stop as clean.
    pub fn finish(self) {
        // An error means that the thread has ended, which the next start will tell.
        let _ = self.finish.send(());
        if self.finished.recv_timeout(LAST_RECORD).is_err() {
            tracing::warn!("the ledger could not be written in time; the next start may report it");
        }
    }
}

#[cfg(test)]
mod tests;
