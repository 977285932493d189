//! One destination's folder of segments: written at one end, read at the other.
//!
//! Events are numbered in the order of writing, and everything here is said in those numbers: which
//! are done, which are handed out, which were lost. So every loss is a number of events, however
//! little is left of what held them.
//!
//! What costs time is asked for explicitly and one thing at a time: [`Spool::push`], [`Spool::next`],
//! [`Spool::tend`], [`Spool::close`]. [`Spool::acknowledge`] and [`Spool::unread`] only take notes.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};

use super::gone::{self, Cause};
use super::ranges::Ranges;
use super::read::Window;
use super::record;
use super::segment::{self, PREFIX};
use super::{Lost, Settings, SpoolError, cursor};
use crate::deliver::Storage;
use crate::observe::ledger::SpoolMark;

/// A segment is complete at this size. Also what is read at once, and what is dropped at once from a
/// full spool.
pub(super) const SEGMENT_BYTES: u32 = 8 * 1024 * 1024;

/// Of a small spool a segment is this part, so that a full one loses little at a time.
const SEGMENT_SHARE: u64 = 8;

/// Of the free disk all segments of a destination take this part at most.
pub(crate) const FREE_SHARE: u64 = 10;

/// Receive times are remembered at this distance, in ns: the age of a backlog is right to 10 s, and a
/// week of it takes two megabytes.
const TIME_STEP_NS: u64 = 10_000_000_000;

/// The name of a file that keeps other processes out.
pub(super) const LOCK: &str = "lock";

/// The name of a file that says whose events these are.
pub(super) const ABOUT: &str = "about";

/// A file of records; which ones is in the key.
#[derive(Debug)]
pub(super) struct Segment {
    /// The sequence behind its last event.
    pub end: u64,
    /// Its length.
    pub bytes: u64,
    /// When it was written to last, in ns since 1970: no event in it is younger.
    pub newest_ns: u64,
    /// Whether it is complete, and its name says so.
    pub sealed: bool,
}

/// Whether what was written to a file is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synced {
    /// All of it.
    Yes,
    /// Something was written since the last sync.
    NotYet,
    /// A sync has failed. The system may have forgotten what it could not write, and would report
    /// success the next time: this file is not written to, nor asked to be synced, any more.
    Failed,
}

/// The segment that is written to. It is among the segments from its first record on.
#[derive(Debug)]
struct Active<F> {
    first: u64,
    file: F,
    /// Whether its name is on the disk for certain.
    named: bool,
    synced: Synced,
    /// Whether something was written since the last look.
    busy: bool,
}

/// Batches of one destination on disk.
#[derive(Debug)]
pub struct Spool<D: Storage> {
    pub(super) disk: D,
    pub(super) settings: Settings,
    /// Held from the moment that the folder exists.
    pub(super) lock: Option<D::Lock>,
    pub(super) segments: BTreeMap<u64, Segment>,
    active: Option<Active<D::File>>,
    /// Most bytes on disk; asked anew for each segment.
    budget: u64,
    /// The most that it has held since a segment was done: what gives way makes room for what comes,
    /// not for others who fill the disk.
    pub(super) kept: u64,
    /// The sequence of the next event.
    pub(super) next: u64,
    /// Events that have an outcome, and all that are in no segment.
    pub(super) done: Ranges,
    /// Records handed out, by sequence, and where they end.
    pub(super) out: BTreeMap<u64, u64>,
    pub(super) read_at: u64,
    pub(super) window: Option<Window>,
    pub(super) lost: Lost,
    /// Receive times: of the oldest event in the record with this sequence, for some records.
    pub(super) times: BTreeMap<u64, u64>,
    /// What the newest name of a dropped segment says; `next` in it is not kept up to date.
    pub(super) mark: SpoolMark,
    /// Events in segments that have no outcome.
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl<D: Storage> Spool<D> {
    /// A spool of nothing.
    pub(super) fn empty(disk: D, settings: Settings) -> Self {
        Self {
            disk,
            budget: settings.max_bytes,
            kept: 0,
            settings,
            lock: None,
            segments: BTreeMap::new(),
            active: None,
            next: 0,
            done: Ranges::default(),
            out: BTreeMap::new(),
            read_at: 0,
            window: None,
            lost: Lost::default(),
            times: BTreeMap::new(),
            mark: SpoolMark::default(),
            events: 0,
            bytes: 0,
        }
    }

    /// Events on disk that have no outcome yet, those handed out among them.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are best written as one record: what a segment takes. A record that is a large part
    /// of a small spool would push out as much at once, or find no room at all.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        self.budget / SEGMENT_SHARE
    }

    /// Events on disk that are not handed out.
    #[must_use]
    pub fn unread_events(&self) -> u64 {
        let left = |(&first, &end): (&u64, &u64)| (end - first) - self.done.count(&(first..end));
        self.events - self.out.iter().map(left).sum::<u64>()
    }

    /// Receive time of the oldest event on disk that is not handed out, in ns since 1970. It may be
    /// some seconds too early, and for what an earlier run has written as early as its segment.
    #[must_use]
    pub fn oldest_unread_ns(&self) -> Option<u64> {
        let first = self.first_unread();
        let (_, &time) = self.times.range(..=first).next_back()?;
        (self.unread_events() > 0).then_some(time)
    }

    /// What was lost since this was asked last.
    pub fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    /// How far it is.
    #[must_use]
    pub fn mark(&self) -> SpoolMark {
        let name = self.settings.folder.file_name().unwrap_or_default();
        let folder = crc32c::crc32c(name.as_encoded_bytes()).into();
        SpoolMark { folder, next: self.next, ..self.mark }
    }

    /// Writes a batch and returns its sequence. The oldest segments make room for it. After an error
    /// the batch stays with the caller; this process will not read it back, but when it crashes before
    /// the next batch is written, the next one may: a write that fails may have written everything.
    pub async fn push(
        &mut self,
        lines: &[u8],
        events: u32,
        oldest_ns: u64,
        now_ns: u64,
    ) -> Result<u64, SpoolError> {
        let sequence = self.next;
        let too_long = SpoolError::TooLong { limit: record::BODY_MAX as u64 };
        let Some(end) = sequence.checked_add(events.into()) else { return Err(too_long) };
        let Ok(record) = record::encode(sequence, events, oldest_ns, lines) else {
            return Err(too_long);
        };
        self.move_in().await?;
        let full = (self.budget / SEGMENT_SHARE).min(SEGMENT_BYTES.into());
        let failed = self.active.as_ref().is_some_and(|active| active.synced == Synced::Failed);
        if failed || self.active_segment().is_some_and(|segment| segment.bytes >= full) {
            self.seal().await?;
        }
        self.make_room(record.len() as u64 + PREFIX as u64).await?;
        self.append(record, end, now_ns).await?;
        let last = self.times.last_key_value();
        if last.is_none_or(|(_, &time)| oldest_ns >= time.saturating_add(TIME_STEP_NS)) {
            self.times.insert(sequence, oldest_ns);
        }
        self.next = end;
        self.events += u64::from(events);
        Ok(sequence)
    }

    /// Takes a record that was just pushed as handed out: the caller has it in memory too.
    pub fn claim(&mut self, sequence: u64, events: u32) {
        self.out.insert(sequence, sequence + u64::from(events));
    }

    /// A record that was handed out has its outcome.
    pub fn acknowledge(&mut self, sequence: u64) {
        if let Some(end) = self.out.remove(&sequence) {
            self.finish(sequence..end);
        }
    }

    /// Some events of a record that was handed out have their outcome. The others do not go to the
    /// back: the record stays where it is.
    pub fn acknowledge_part(&mut self, numbers: Range<u64>) {
        let record = self.out.range(..=numbers.start).next_back();
        if record.is_some_and(|(_, end)| numbers.end <= *end) {
            self.finish(numbers);
        }
    }

    /// A record that was handed out has no outcome and is forgotten by the caller; it will be handed
    /// out again.
    pub fn unread(&mut self, sequence: u64) {
        if self.out.remove(&sequence).is_some() {
            self.read_at = self.read_at.min(sequence);
            if self.window.as_ref().is_some_and(|window| window.sequence > sequence) {
                self.window = None;
            }
        }
    }

    /// Whether something was written that may not be on the disk yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.synced != Synced::Yes)
    }

    /// Brings what was written to the disk, removes what is done and drops what is too old. To be
    /// called once in a while: what is written since the last time is the loss window of a power
    /// failure.
    pub async fn tend(&mut self, now_ns: u64) -> Result<(), SpoolError> {
        self.sync().await?;
        let busy = self.active.as_mut().is_some_and(|active| std::mem::take(&mut active.busy));
        let oldest_kept = self.settings.oldest_kept(now_ns);
        let writing = self.active.as_ref().map(|active| active.first);
        let mut gone = Vec::new();
        for (&first, segment) in &self.segments {
            // The one that is written to stays for what comes next, so that a destination that
            // keeps up with a spool does not cost a file for each batch.
            let done = self.is_done(first, segment) && !(busy && Some(first) == writing);
            let expired = segment.newest_ns < oldest_kept && self.is_free(first, segment);
            if done || expired {
                gone.push((first, if done { Cause::Done } else { Cause::Expired }));
            }
        }
        for (first, cause) in gone {
            self.drop_segment(first, cause).await?;
        }
        if let Some((&needed, _)) = self.times.range(..=self.done.gap(0)).next_back() {
            self.times = self.times.split_off(&needed);
        }
        Ok(())
    }

    /// Ends well: the next start sends nothing twice. What is handed out counts as unread.
    /// Nothing is to be written or read afterwards. After an error it may be tried again; without
    /// success, what was done in segments that stay is sent again.
    pub async fn close(&mut self) -> Result<(), SpoolError> {
        self.out.clear();
        self.read_at = 0;
        match &self.active {
            Some(active) if !self.segments.contains_key(&active.first) => {
                let path = self.path(&segment::name(active.first, None));
                let removed = self.disk.remove(&path).await;
                removed.map_err(|error| SpoolError::io("remove", &path, error))?;
                self.active = None;
            }
            Some(active) => {
                let first = active.first;
                if !self.is_done(first, &self.segments[&first]) {
                    self.seal().await?;
                }
            }
            None => {}
        }
        let done = self.segments.iter().filter(|(first, segment)| self.is_done(**first, segment));
        for first in done.map(|(&first, _)| first).collect::<Vec<_>>() {
            self.drop_segment(first, Cause::Done).await?;
        }
        let ranges: Vec<Range<u64>> = self
            .segments
            .iter()
            .flat_map(|(&first, segment)| self.done.within(first..segment.end))
            .collect();
        if !ranges.is_empty() {
            cursor::write(&self.disk, &self.settings.folder, &ranges).await?;
        }
        if self.lock.is_some() {
            self.sync_folder().await?;
        }
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.settings.folder.join(name)
    }

    pub(super) fn segment_path(&self, first: u64) -> PathBuf {
        let sealed = self.segments.get(&first).filter(|segment| segment.sealed);
        self.path(&segment::name(first, sealed.map(|segment| segment.end)))
    }

    fn active_segment(&self) -> Option<&Segment> {
        self.segments.get(&self.active.as_ref()?.first)
    }

    /// Whether all events of the segment have an outcome.
    fn is_done(&self, first: u64, segment: &Segment) -> bool {
        self.done.gap(first) >= segment.end
    }

    /// Whether nothing of the segment is handed out.
    fn is_free(&self, first: u64, segment: &Segment) -> bool {
        self.out.range(first..segment.end).next().is_none()
    }

    /// These events have an outcome. Returns how many had none before.
    fn finish(&mut self, range: Range<u64>) -> u64 {
        let new = self.done.insert(range);
        self.events -= new;
        new
    }

    /// These events are lost, except for those that are handed out. Returns how many.
    pub(super) fn lose(&mut self, range: Range<u64>) -> u64 {
        let mut lost = 0;
        let mut at = range.start;
        while at < range.end {
            let out = self.out.range(at..range.end).next().map(|(&first, &end)| (first, end));
            let (stop, next) = out.unwrap_or((range.end, range.end));
            lost += self.finish(at..stop);
            at = next;
        }
        lost
    }

    /// Makes the folder this process's own.
    async fn move_in(&mut self) -> Result<(), SpoolError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let folder = &self.settings.folder;
        let made = self.disk.create_folder(folder).await;
        made.map_err(|error| SpoolError::io("make the folder", folder, error))?;
        self.take_lock().await?;
        if let Err(error) = self.expect_nothing().await {
            self.lock = None;
            return Err(error);
        }
        let path = self.path(ABOUT);
        match self.disk.create(&path).await {
            Ok(mut file) => {
                let text = format!("{}\n", self.settings.destination.escape_debug());
                let written = self.disk.append(&mut file, text.into()).await;
                written.map_err(|error| SpoolError::io("write", &path, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(SpoolError::io("create", &path, error)),
        }
        // The folder's own name.
        if let Some(parent) = self.settings.folder.parent().filter(|p| !p.as_os_str().is_empty()) {
            let synced = self.disk.sync_folder(parent).await;
            synced.map_err(|error| SpoolError::io("sync", parent, error))?;
        }
        Ok(())
    }

    /// There was no folder when this began. If events were numbered in it since, somebody else did, and
    /// this spool's numbers mean others.
    async fn expect_nothing(&self) -> Result<(), SpoolError> {
        let folder = &self.settings.folder;
        let listed = self.disk.list(folder).await;
        let files = listed.map_err(|error| SpoolError::io("list", folder, error))?;
        let is_taken = |name: &str| segment::parse_name(name).is_some() || gone::is_name(name);
        if files.iter().any(|file| is_taken(&file.name)) {
            return Err(SpoolError::Locked { folder: folder.clone() });
        }
        Ok(())
    }

    pub(super) async fn take_lock(&mut self) -> Result<(), SpoolError> {
        let path = self.path(LOCK);
        match self.disk.lock(&path).await {
            Ok(lock) => self.lock = Some(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(SpoolError::Locked { folder: self.settings.folder.clone() });
            }
            Err(error) => return Err(SpoolError::io("lock", &path, error)),
        }
        Ok(())
    }

    /// Sets the limit for a disk with so much free.
    fn limit_to(&mut self, free: Option<u64>) {
        let share = free.map_or(u64::MAX, |free| (free + self.bytes) / FREE_SHARE);
        // When others have filled the disk the spool grows no more, but what it has is not theirs.
        self.kept = self.kept.max(self.bytes);
        self.budget = self.settings.max_bytes.min(share.max(self.kept));
    }

    /// Asks how much is free where the folder is or will be, so that the first record has its right
    /// size already. Without an answer the first segment asks again.
    pub(super) async fn look_at_disk(&mut self) {
        let folder = self.settings.folder.clone();
        for place in folder.ancestors() {
            let here = place.as_os_str().is_empty();
            match self.disk.free(if here { Path::new(".") } else { place }).await {
                Ok(free) => return self.limit_to(free),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => return,
            }
        }
    }

    /// Drops the oldest segments until `length` more bytes fit.
    async fn make_room(&mut self, length: u64) -> Result<(), SpoolError> {
        if self.active.is_none() {
            let folder = &self.settings.folder;
            let free = self.disk.free(folder).await;
            let free = free.map_err(|error| SpoolError::io("ask the size of", folder, error))?;
            self.limit_to(free);
        }
        // Nothing needs to give way for what does not fit an empty one.
        if length > self.budget {
            return Err(SpoolError::TooLong { limit: self.budget });
        }
        while self.bytes + length > self.budget {
            // What is handed out is about to be delivered: it is the next one's turn.
            let oldest = self.segments.iter().find(|(first, s)| self.is_free(**first, s));
            let Some((&first, _)) = oldest else {
                return Err(SpoolError::Full { limit: self.budget });
            };
            self.drop_segment(first, Cause::Full).await?;
        }
        Ok(())
    }

    /// A segment is gone.
    pub(super) fn forget(&mut self, first: u64) {
        self.active.take_if(|active| active.first == first);
        self.window.take_if(|window| window.segment == first);
        let Some(segment) = self.segments.remove(&first) else { return };
        self.bytes -= segment.bytes;
        self.finish(first..segment.end);
    }

    pub(super) async fn sync_folder(&self) -> Result<(), SpoolError> {
        let folder = &self.settings.folder;
        let synced = self.disk.sync_folder(folder).await;
        synced.map_err(|error| SpoolError::io("sync", folder, error))
    }

    async fn append(&mut self, record: Bytes, end: u64, now_ns: u64) -> Result<(), SpoolError> {
        let active = if let Some(active) = &mut self.active {
            active
        } else {
            let first = self.next;
            let path = self.path(&segment::name(first, None));
            let created = self.disk.create(&path).await;
            let file = created.map_err(|error| SpoolError::io("create", &path, error))?;
            self.active.insert(Active {
                first,
                file,
                named: false,
                synced: Synced::Yes,
                busy: false,
            })
        };
        let path = self.settings.folder.join(segment::name(active.first, None));
        if !active.named {
            let synced = self.disk.sync_folder(&self.settings.folder).await;
            synced.map_err(|error| SpoolError::io("sync the folder of", &path, error))?;
            active.named = true;
        }
        let bytes = if self.segments.contains_key(&active.first) {
            record
        } else {
            let mut bytes = BytesMut::with_capacity(PREFIX + record.len());
            bytes.extend_from_slice(&segment::prefix());
            bytes.extend_from_slice(&record);
            bytes.freeze()
        };
        let length = bytes.len() as u64;
        let appended = self.disk.append(&mut active.file, bytes).await;
        appended.map_err(|error| SpoolError::io("write to", &path, error))?;
        (active.synced, active.busy) = (Synced::NotYet, true);
        let empty = Segment { end, bytes: 0, newest_ns: now_ns, sealed: false };
        let segment = self.segments.entry(active.first).or_insert(empty);
        segment.end = end;
        segment.bytes += length;
        segment.newest_ns = now_ns;
        self.bytes += length;
        Ok(())
    }

    /// Brings what was written to the disk. A segment of which that fails is complete as it is: its
    /// name says what is missing if the power fails now, and what comes goes to another file.
    async fn sync(&mut self) -> Result<(), SpoolError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        match active.synced {
            Synced::Yes => return Ok(()),
            Synced::NotYet => {}
            Synced::Failed => return self.complete().await,
        }
        let Err(error) = self.disk.sync(&mut active.file).await else {
            active.synced = Synced::Yes;
            return Ok(());
        };
        active.synced = Synced::Failed;
        let first = active.first;
        let path = self.path(&segment::name(first, None));
        tracing::error!(
            destination = self.settings.destination,
            "{}: the disk did not take all that was written; what it holds is sent as long as the power \
             does not fail; look after the disk",
            path.display()
        );
        // If this fails too, it is tried again.
        let _ = self.complete().await;
        Err(SpoolError::io("sync", &path, error))
    }

    /// Completes the segment that is written to.
    async fn seal(&mut self) -> Result<(), SpoolError> {
        self.sync().await?;
        self.complete().await
    }

    /// Gives the segment that is written to the name of a complete one.
    async fn complete(&mut self) -> Result<(), SpoolError> {
        let Some(first) = self.active.as_ref().map(|active| active.first) else { return Ok(()) };
        let from = self.segment_path(first);
        let Some(segment) = self.segments.get_mut(&first) else { return Ok(()) };
        let to = self.settings.folder.join(segment::name(first, Some(segment.end)));
        let renamed = self.disk.rename(&from, &to).await;
        renamed.map_err(|error| SpoolError::io("rename", &from, error))?;
        segment.sealed = true;
        self.active = None;
        self.sync_folder().await
    }
}
