//! One destination's spool as dispatch sees it: one operation at a time, beside the network.
//!
//! The operation is a future that owns the [`Spool`] and gives it back, so that requests go on and
//! batches are taken while the disk works. What is to be noted meanwhile is noted when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::backoff::Backoff;
use super::held::{Held, Key};
use crate::deliver::Storage;
use crate::deliver::spool::{self, Found, Numbers, Record, Spool, SpoolError};

/// How a destination's batches are spooled.
#[derive(Clone, Debug)]
pub struct Spooling<D> {
    /// Where files are.
    pub disk: D,
    /// The folder and its limits.
    pub settings: spool::Settings,
    /// Time between two syncs: what was written since the last is lost when the power fails.
    pub sync_interval: Duration,
    /// What is on disk goes before what is in memory. It always does where order matters.
    pub strict: bool,
    /// Every batch is written before it is sent.
    pub always: bool,
}

impl<D> Spooling<D> {
    /// The same on this disk.
    #[must_use]
    pub fn on<E>(self, disk: E) -> Spooling<E> {
        let Self { settings, sync_interval, strict, always, .. } = self;
        Spooling { disk, settings, sync_interval, strict, always }
    }
}

/// The longest wait between two attempts on a disk that does not work.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A disk that does not answer for so long is taken for one that does not work: what it was asked for
/// goes on, and nothing else waits for it. One that wakes up, or retries a bad sector, has answered by
/// then, and of what comes meanwhile memory holds as much at six megabytes a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Records that are remembered as sent before: attempts in an outage of hours. More would only be
/// missing in the count of retries.
const TRIED_MAX: usize = 4096;

/// The spool, unless an operation failed to open it, and what the operation came to.
type Ended<D> = (Option<Spool<D>>, Report);

/// What an operation came to.
#[derive(Debug)]
pub(super) enum Report {
    Opened(Result<Found, SpoolError>),
    /// With the sequence of the record, and the record if it stays in memory.
    Written(Result<(u64, Option<Held>), SpoolError>),
    Read(Result<Option<Record>, SpoolError>),
    Tended(Result<(), SpoolError>),
}

/// What the spool is to know.
#[derive(Clone, Copy, Debug)]
enum Note {
    Done(u64),
    PartDone(u64, u64),
    Unread(u64),
}

pub(super) struct Lane<D: Storage> {
    pub plan: Spooling<D>,
    pub spool: Option<Spool<D>>,
    operation: Option<Pin<Box<dyn Future<Output = Ended<D>>>>>,
    /// When it began, and whether it takes too long.
    begun: Duration,
    late: bool,
    notes: Vec<Note>,
    /// Parts that are being written.
    pub writing: Vec<(Key, Held)>,
    /// The request under way of which a copy is being written.
    pub copying: Option<Key>,
    /// Records in memory, and in how many parts they are.
    pub records: BTreeMap<u64, u32>,
    /// Those of which only a part is left.
    pub touched: BTreeSet<u64>,
    /// Those that are not in memory, and were sent before they were written.
    pub tried: BTreeSet<u64>,
    /// Events on disk that are not in memory, as of the last operation, and the receive time of the
    /// oldest of them.
    unread: u64,
    pub oldest_ns: Option<u64>,
    opened: bool,
    backoff: Backoff,
    pub not_before: Duration,
    pub tended_at: Duration,
}

impl<D: Storage + Clone + 'static> Lane<D>
where
    D::File: 'static,
    D::Lock: 'static,
{
    pub fn new(plan: Spooling<D>, seed: u64) -> Self {
        Self {
            plan,
            spool: None,
            operation: None,
            begun: Duration::ZERO,
            late: false,
            notes: Vec::new(),
            writing: Vec::new(),
            copying: None,
            records: BTreeMap::new(),
            touched: BTreeSet::new(),
            tried: BTreeSet::new(),
            unread: 0,
            oldest_ns: None,
            opened: false,
            backoff: Backoff::new(BACKOFF_MAX, seed),
            not_before: Duration::ZERO,
            tended_at: Duration::ZERO,
        }
    }

    /// Whether what is given to it will be on disk soon, as far as is known.
    pub fn works(&self) -> bool {
        !self.backoff.failing() && !self.late
    }

    pub fn is_busy(&self) -> bool {
        self.operation.is_some()
    }

    /// The operation under way, if there is one, began now.
    pub fn begins(&mut self, now: Duration) {
        self.begun = now;
    }

    /// When the operation under way will have taken too long.
    pub fn late_at(&self) -> Option<Duration> {
        (self.is_busy() && !self.late).then_some(self.begun + PATIENCE)
    }

    /// The operation under way takes too long.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// Looks whether the operation takes too long; an error when that is news.
    pub fn look_at_clock(&mut self, now: Duration) -> Result<(), SpoolError> {
        if self.late_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        self.late = true;
        let text = format!("the disk has not answered for {} s", PATIENCE.as_secs());
        let error = io::Error::new(io::ErrorKind::TimedOut, text);
        Err(SpoolError::Io { action: "use", path: self.plan.settings.folder.clone(), error })
    }

    /// Whether anything lies, or may lie, on disk that has no outcome.
    pub fn has_backlog(&self) -> bool {
        let unread = self.notes.iter().any(|note| matches!(note, Note::Unread(_)));
        (!self.opened && self.works())
            || self.unread > 0
            || unread
            || !self.records.is_empty()
            || !self.writing.is_empty()
    }

    /// Events on disk that could be read.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Bytes on disk; none while an operation is under way.
    pub fn bytes(&self) -> Option<u64> {
        self.spool.as_ref().map(Spool::bytes)
    }

    /// The spool, told what there is to know, when it is open and no operation is under way.
    pub fn at_rest(&mut self) -> Option<&mut Spool<D>> {
        let spool = self.spool.as_mut()?;
        for note in self.notes.drain(..) {
            match note {
                Note::Done(sequence) => spool.acknowledge(sequence),
                Note::PartDone(first, end) => spool.acknowledge_part(first..end),
                Note::Unread(sequence) => spool.unread(sequence),
            }
        }
        self.unread = spool.unread_events();
        self.oldest_ns = spool.oldest_unread_ns();
        Some(spool)
    }

    /// A record is written that was sent before.
    pub fn note_tried(&mut self, record: u64) {
        self.tried.insert(record);
        if self.tried.len() > TRIED_MAX {
            self.tried.pop_first();
        }
    }

    /// Some events of a record have their outcome.
    pub fn note_done(&mut self, record: u64, numbers: &Numbers) {
        // All of a whole one are noted at once.
        if self.touched.contains(&record) {
            self.notes.extend(numbers.ranges().map(|range| Note::PartDone(range.start, range.end)));
        }
    }

    /// A part of a record is no more.
    pub fn finish_part(&mut self, record: u64) {
        if let Some(parts) = self.records.get_mut(&record) {
            *parts -= 1;
            if *parts == 0 {
                self.records.remove(&record);
                self.touched.remove(&record);
                self.notes.push(Note::Done(record));
            }
        }
    }

    /// A record is cut: one of its parts becomes `parts` more, and is about to be no more.
    pub fn cut(&mut self, record: u64, parts: u32) {
        if let Some(count) = self.records.get_mut(&record) {
            *count += parts;
            self.touched.insert(record);
        }
    }

    /// Not all of a record is in memory any more as it was read.
    pub fn touch(&mut self, record: u64) {
        if self.records.contains_key(&record) {
            self.touched.insert(record);
        }
    }

    /// A record is forgotten; it is still on disk.
    pub fn forget(&mut self, record: u64) {
        if self.records.remove(&record).is_some() {
            self.touched.remove(&record);
            self.notes.push(Note::Unread(record));
        }
    }

    pub fn begin_open(&mut self) {
        let open = Spool::open(self.plan.disk.clone(), self.plan.settings.clone());
        self.operation = Some(Box::pin(async move {
            match open.await {
                Ok((spool, found)) => (Some(spool), Report::Opened(Ok(found))),
                Err(error) => (None, Report::Opened(Err(error))),
            }
        }));
    }

    /// Writes `parts` as one record. It is to be sent from memory too when `send` holds.
    pub fn begin_write(&mut self, parts: Vec<(Key, Held)>, send: bool, now_ns: u64) {
        let record = joined(&parts);
        self.writing = parts;
        // Behind others that are still on disk it has to be read back like them.
        let send = send && self.unread == 0;
        self.push(record, send, now_ns);
    }

    /// Writes a copy of the request `key`, which is under way.
    pub fn begin_copy(&mut self, key: Key, copy: Held, now_ns: u64) {
        self.copying = Some(key);
        self.push(copy, true, now_ns);
    }

    /// Writes a record; with `keep` it stays in memory too.
    fn push(&mut self, record: Held, keep: bool, now_ns: u64) {
        let Some(mut spool) = self.spool.take() else { return };
        self.operation = Some(Box::pin(async move {
            let Held { ref bytes, events, oldest_ns, .. } = record;
            let written = spool.push(bytes, events, oldest_ns, now_ns).await;
            if let (Ok(sequence), true) = (&written, keep) {
                spool.claim(*sequence, events);
            }
            let written = written.map(|sequence| (sequence, keep.then_some(record)));
            (Some(spool), Report::Written(written))
        }));
    }

    pub fn begin_read(&mut self, now_ns: u64) {
        let Some(mut spool) = self.spool.take() else { return };
        self.operation = Some(Box::pin(async move {
            let read = spool.next(now_ns).await;
            (Some(spool), Report::Read(read))
        }));
    }

    pub fn begin_tend(&mut self, now: Duration, now_ns: u64) {
        let Some(mut spool) = self.spool.take() else { return };
        self.tended_at = now;
        self.operation = Some(Box::pin(async move {
            let tended = spool.tend(now_ns).await;
            (Some(spool), Report::Tended(tended))
        }));
    }

    /// Waits for the operation to end; for ever when there is none.
    pub async fn ended(&mut self) -> Report {
        let (spool, report) = poll_fn(|context| match &mut self.operation {
            Some(operation) => operation.as_mut().poll(context),
            None => Poll::Pending,
        })
        .await;
        self.operation = None;
        self.late = false;
        self.spool = spool;
        self.opened |= self.spool.is_some();
        self.at_rest();
        report
    }

    /// The disk works.
    pub fn succeeded(&mut self) {
        self.backoff.reset();
        self.not_before = Duration::ZERO;
    }

    /// The disk does not work.
    pub fn failed(&mut self, now: Duration) {
        self.not_before = now + self.backoff.wait(None);
    }
}

/// Parts as one.
fn joined(parts: &[(Key, Held)]) -> Held {
    let length = parts.iter().map(|(_, part)| part.bytes.len()).sum();
    Held::merged(parts, length)
}
