//! What goes to disk and what comes back, and when.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use super::held::{Held, Key, Source};
use super::lane::{Lane, Report};
use super::{Dispatch, UnderWay};
use crate::deliver::spool::{Numbers, Record, SpoolError};
use crate::deliver::{Clock, Storage};
use crate::observe::ledger::LossReason;

/// Batches wait this long in memory for a destination that does not work: one that is restarted is
/// back by then. It leaves a second for the disk of the three that are promised.
pub(super) const SPOOL_AFTER: Duration = Duration::from_secs(2);

/// So many bytes are worth a record at once.
const GATHER_BYTES: usize = 1024 * 1024;

/// At the end, saving what is held may take this long; the engine waits two seconds.
const SAVE_MAX: Duration = Duration::from_millis(1500);

/// At the end a disk gets this many chances: what fails once costs nothing.
const LAST_ATTEMPTS: u32 = 3;

impl<C: Clock, L: FnMut(u64, u64), D: Storage + Clone + 'static> Dispatch<'_, C, L, D> {
    /// Begins what the disk is to do next, unless it is busy.
    pub(super) fn begin_operation(&mut self) {
        let now = self.clock.now();
        let Some(lane) = &mut self.lane else { return };
        if lane.is_busy() {
            if let Err(error) = lane.look_at_clock(now) {
                self.books.spool_trouble(now, &error);
            }
        } else if now >= lane.not_before {
            lane.begins(now);
            self.begin_next(now);
        }
    }

    fn begin_next(&mut self, now: Duration) {
        let now_ns = self.clock.wall_ns();
        let Some(lane) = &mut self.lane else { return };
        let Some(spool) = lane.at_rest() else { return lane.begin_open() };
        let (idle, dirty) = (spool.bytes() == 0, spool.is_dirty());
        let record_bytes = usize::try_from(spool.record_bytes()).unwrap_or(usize::MAX);
        // First of all, since how much a power failure costs depends on it.
        if let Some(lane) = &mut self.lane
            && (dirty || !idle)
            && now >= lane.tended_at + lane.plan.sync_interval
        {
            lane.begin_tend(now, now_ns);
        } else if self.is_write_due(now) {
            let copy = self.unwritten_request().map(|(key, request)| (key, request.sent.copy()));
            let parts = if copy.is_some() { Vec::new() } else { self.take_unwritten(record_bytes) };
            if let Some(lane) = &mut self.lane {
                let send = lane.plan.always && !self.backoff.failing();
                match copy {
                    Some((key, copy)) => lane.begin_copy(key, copy, now_ns),
                    None => lane.begin_write(parts, send, now_ns),
                }
            }
        } else if self.wants_record()
            && let Some(lane) = &mut self.lane
        {
            lane.begin_read(now_ns);
        }
    }

    /// When something is due on disk that is not now.
    pub(super) fn disk_timer(&self, now: Duration) -> Option<Duration> {
        let lane = self.lane.as_ref()?;
        if lane.is_busy() {
            return lane.late_at();
        }
        if now < lane.not_before {
            return Some(lane.not_before);
        }
        let tend = lane.bytes().filter(|bytes| *bytes > 0).map(|_| {
            let at = lane.tended_at + lane.plan.sync_interval;
            at.max(now)
        });
        tend.into_iter().chain(self.write_due_at()).min()
    }

    /// When what waits in memory is to be written; `None` while nothing waits or it may stay.
    fn write_due_at(&self) -> Option<Duration> {
        let lane = self.lane.as_ref()?;
        let oldest = self.first_unwritten()?;
        if lane.plan.always {
            return Some(Duration::ZERO);
        }
        let strict = self.is_strict();
        match self.failing_since {
            // What is tried again from memory would overtake nothing, but be overtaken.
            Some(_) if strict => Some(Duration::ZERO),
            Some(since) => Some(since.max(oldest.taken_at) + SPOOL_AFTER),
            None if strict && lane.has_backlog() => Some(oldest.taken_at + SPOOL_AFTER),
            None => None,
        }
    }

    /// What is to be written next of what is in memory only.
    fn first_unwritten(&self) -> Option<&Held> {
        let request = self.unwritten_request().map(|(_, request)| &request.sent);
        request.or_else(|| self.waiting.get(&self.next_of(Source::Queue, true)?))
    }

    /// Where order matters, what is under way is written before what waits behind it: if it failed, it
    /// would have to be written behind those that follow it.
    fn unwritten_request(&self) -> Option<(Key, &UnderWay)> {
        let mut requests = self.under_way.iter().filter(|_| self.is_strict());
        let request = requests.find(|(_, request)| !request.sent.on_disk())?;
        // Alone it stays in memory: it may have its answer soon.
        self.next_of(Source::Queue, true)?;
        Some((*request.0, request.1))
    }

    /// Whether what is under way is being written. Its answer has to wait: only what is written can be
    /// acknowledged.
    pub(super) fn is_copying(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.copying.is_some())
    }

    fn is_write_due(&self, now: Duration) -> bool {
        let Some(at) = self.write_due_at() else {
            // It works, but too slowly.
            return self.held_bytes > self.settings.held_bytes_max / 2
                && self.first_unwritten().is_some();
        };
        if at <= now || !self.open {
            return true;
        }
        let waiting = self.waiting.range(..(Source::Spool, 0, 0));
        waiting.map(|(_, part)| part.bytes.len()).sum::<usize>() >= GATHER_BYTES
    }

    /// Whether one more record is to be read.
    fn wants_record(&self) -> bool {
        let Some(lane) = self.lane.as_ref().filter(|lane| lane.unread() > 0 && self.open) else {
            return false;
        };
        let fresh = !self.is_strict() && self.next_of(Source::Queue, true).is_some();
        lane.records.len() < if fresh { 1 } else { self.slots() }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.ordered || self.lane.as_ref().is_some_and(|lane| lane.plan.strict)
    }

    /// Whether batches are sent only after they were written.
    fn is_written_first(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| {
            lane.works() && (lane.plan.always || (self.is_strict() && self.backoff.failing()))
        })
    }

    /// The next part to send of those that wait.
    pub(super) fn pick(&mut self) -> Option<Key> {
        let strict = self.is_strict();
        let stored = self.next_of(Source::Spool, strict);
        if strict && self.lane.as_ref().is_some_and(|lane| lane.has_backlog() && lane.works()) {
            return stored;
        }
        let fresh = self.next_of(Source::Queue, strict).filter(|_| !self.is_written_first());
        let picked = match (fresh, stored) {
            // One of the requests is the share of what was stored; of one request, every second.
            (Some(fresh), Some(stored)) => {
                let none = !self.under_way.keys().any(|(source, ..)| *source == Source::Spool);
                Some(if none && (self.slots() > 1 || !self.stored_last) { stored } else { fresh })
            }
            (fresh, stored) => fresh.or(stored),
        };
        self.stored_last = matches!(picked, Some((Source::Spool, ..)));
        picked
    }

    /// The next part of a source: the first, or the one whose turn it is.
    fn next_of(&self, source: Source, first: bool) -> Option<Key> {
        let end = match source {
            Source::Queue => Excluded((Source::Spool, 0, 0)),
            Source::Spool => Unbounded,
        };
        let after = |start| self.waiting.range((start, end)).next();
        let turn = self.cursors[source as usize].filter(|_| !first);
        let next = turn.and_then(|cursor| after(Excluded(cursor)));
        next.or_else(|| after(Included((source, 0, 0)))).map(|(key, _)| *key)
    }

    /// The parts that go into the next record. One that was tried goes alone: if the destination
    /// chokes on it, it must not take others along.
    fn take_unwritten(&mut self, record_bytes: usize) -> Vec<(Key, Held)> {
        let most = self.settings.request_bytes_max.min(record_bytes);
        let mut parts: Vec<(Key, Held)> = Vec::new();
        let mut length = 0;
        while let Some((&key, part)) = self.waiting.first_key_value()
            && key.0 == Source::Queue
            && (parts.is_empty()
                || (!part.tried && !parts[0].1.tried && length + part.bytes.len() <= most))
            && let Some(part) = self.waiting.remove(&key)
        {
            length += part.bytes.len();
            parts.push((key, part));
        }
        parts
    }

    /// An operation has ended.
    pub(super) fn settle_operation(&mut self, report: Report) {
        let now = self.clock.now();
        let failed = match report {
            Report::Opened(opened) => opened.map(|found| self.books.found(&found)).err(),
            Report::Written(written) => self.settle_write(written),
            Report::Read(read) => match read {
                Ok(record) => {
                    if let Some(record) = record {
                        self.hold(record);
                    }
                    None
                }
                Err(error) => Some(error),
            },
            Report::Tended(tended) => tended.err(),
        };
        if let Some(lane) = &mut self.lane {
            if let Some(spool) = &mut lane.spool {
                self.books.look_at(spool);
            }
            match failed {
                None => lane.succeeded(),
                Some(error) => {
                    lane.failed(now);
                    self.books.spool_trouble(now, &error);
                }
            }
        }
    }

    /// Parts, or a copy of what is under way, were written or could not be. Returns the error that says
    /// something about the disk.
    fn settle_write(
        &mut self,
        written: Result<(u64, Option<Held>), SpoolError>,
    ) -> Option<SpoolError> {
        let lane = self.lane.as_mut()?;
        let (copied, parts) = (lane.copying.take(), std::mem::take(&mut lane.writing));
        match (written, copied) {
            (Ok((sequence, _)), Some(key)) => self.copied(sequence, key),
            (Ok((sequence, kept)), None) => self.wrote(sequence, kept, parts),
            (Err(error), Some(_)) => return Some(error),
            (Err(error), None) => return self.keep_unwritten(parts, error),
        }
        None
    }

    /// What is under way is on disk too.
    fn copied(&mut self, sequence: u64, key: Key) {
        let (Some(request), Some(lane)) = (self.under_way.get_mut(&key), &mut self.lane) else {
            debug_assert!(false, "its answer has waited");
            return;
        };
        self.books.spooled(request.sent.events);
        lane.records.insert(sequence, 1);
        request.place = (Source::Spool, sequence, 0);
        let mut rest = Numbers::from(sequence..sequence + u64::from(request.sent.events));
        request.sent.written(sequence, rest.clone());
        let mut at = 0;
        for (key, part) in &mut request.parts {
            let numbers;
            [numbers, rest] = rest.split_at(part.events.into());
            part.written(sequence, numbers);
            *key = (Source::Spool, sequence, at);
            at += part.events;
        }
    }

    /// Parts are on disk; memory is done with them, unless they are `kept` to be sent at once.
    fn wrote(&mut self, sequence: u64, kept: Option<Held>, parts: Vec<(Key, Held)>) {
        let tried = parts.iter().any(|(_, part)| part.tried);
        if let Some(Held { bytes, events, oldest_ns, .. }) = kept {
            let numbers = (sequence..sequence + u64::from(events)).into();
            self.hold(Record { sequence, numbers, events, oldest_ns, lines: bytes });
        } else if let Some(lane) = self.lane.as_mut().filter(|_| tried) {
            lane.note_tried(sequence);
        }
        for (_, part) in parts {
            self.books.spooled(part.events);
            self.release(part);
        }
    }

    /// Parts could not be written and wait again. What is too long is cut; a single event that will
    /// never fit is lost. Returns the error unless that helps.
    fn keep_unwritten(&mut self, parts: Vec<(Key, Held)>, error: SpoolError) -> Option<SpoolError> {
        let SpoolError::TooLong { limit } = error else {
            self.waiting.extend(parts);
            return Some(error);
        };
        // A disk that is nearly full may have more room later.
        let is_final = self.lane.as_ref().is_some_and(|lane| limit >= lane.plan.settings.max_bytes);
        let mut stays = false;
        for (key, part) in parts {
            if let Some(halves) = part.halves() {
                self.replace(key, part, halves);
            } else if is_final {
                self.books.spool_trouble(self.clock.now(), &error);
                self.books.lost(LossReason::SpoolFull, &part);
                self.finish(part);
            } else {
                self.waiting.insert(key, part);
                stays = true;
            }
        }
        stays.then_some(error)
    }

    /// Takes a record into memory.
    fn hold(&mut self, record: Record) {
        let Record { sequence, numbers, events, oldest_ns, lines } = record;
        let taken_at = self.clock.now();
        self.held_bytes += lines.len();
        let tried = self.lane.as_mut().is_some_and(|lane| lane.tried.remove(&sequence));
        let held = Held {
            bytes: lines,
            events,
            oldest_ns,
            taken_at,
            pooled: None,
            tried,
            record: Some(sequence),
            numbers,
        };
        self.waiting.insert((Source::Spool, sequence, 0), held);
        if let Some(lane) = &mut self.lane {
            lane.records.insert(sequence, 1);
        }
    }

    /// Makes room for a batch that has come: what is on disk too is forgotten, else the oldest is
    /// lost.
    pub(super) fn evict(&mut self) -> bool {
        // First what was not sent yet: it is read again when its turn comes, the other one sooner.
        if self.forget_stored(|held| !held.tried) || self.forget_stored(|_| true) {
            return true;
        }
        let Some(oldest) = self.waiting.first_entry().filter(|it| it.key().0 == Source::Queue)
        else {
            return false;
        };
        let oldest = oldest.remove();
        self.books.expired(&oldest);
        self.finish(oldest);
        true
    }

    /// Forgets the first record with a part of which `chosen` holds, unless another part is under
    /// way; it is still on disk, and will be read again. False when there is none.
    pub(super) fn forget_stored(&mut self, chosen: impl Fn(&Held) -> bool) -> bool {
        let is_free =
            |record| !self.under_way.values().any(|request| request.sent.record == Some(record));
        let mut stored = self.waiting.range((Source::Spool, 0, 0)..);
        let Some(record) = stored
            .find_map(|(_, held)| held.record.filter(|record| chosen(held) && is_free(*record)))
        else {
            return false;
        };
        let mut parts = self.waiting.split_off(&(Source::Spool, record, 0));
        self.waiting.extend(parts.split_off(&(Source::Spool, record + 1, 0)));
        self.held_bytes -= parts.values().map(|part| part.bytes.len()).sum::<usize>();
        if let Some(lane) = &mut self.lane {
            lane.forget(record);
            if parts.values().any(|part| part.tried) {
                lane.note_tried(record);
            }
        }
        true
    }

    /// Whether nothing is left to wait for once the queue has ended: everything has an outcome, or is
    /// on disk, or will be as soon as this returns.
    pub(super) fn may_end(&self) -> bool {
        let Some(lane) = &self.lane else { return self.is_empty() };
        if lane.is_busy() {
            return lane.is_late() && self.is_empty() && lane.writing.is_empty();
        }
        self.is_empty() || (self.backoff.failing() && lane.works() && lane.spool.is_some())
    }

    /// Writes to disk what is held; what cannot be written is counted as lost.
    pub(super) async fn save(&mut self) {
        // Closed first: a batch that is sent meanwhile stays with its shard, and is counted there.
        self.receiver.close();
        while let Some(batch) = self.receiver.recv().await {
            self.admit(batch);
        }
        if self.lane.is_some() {
            let clock = self.clock;
            tokio::select! {
                biased;
                () = self.write_all() => {}
                () = clock.sleep(SAVE_MAX) => {}
            }
        }
        self.take_back();
        // A write that is not waited for any more may have pushed out others.
        if let Some(spool) = self.lane.as_mut().and_then(Lane::at_rest) {
            self.books.look_at(spool);
        }
        let unwritten = self.lane.as_mut().map(|lane| std::mem::take(&mut lane.writing));
        let waiting = std::mem::take(&mut self.waiting);
        for (_, held) in waiting.into_iter().chain(unwritten.into_iter().flatten()) {
            if !held.on_disk() {
                self.books.lost(LossReason::Shutdown, &held);
            }
        }
        self.held_bytes = 0;
    }

    /// Nobody waits for what is under way.
    fn take_back(&mut self) {
        for (_, request) in std::mem::take(&mut self.under_way) {
            let parts = self.taken_back(request);
            self.waiting.extend(parts);
        }
    }

    async fn write_all(&mut self) {
        if let Some(lane) = self.lane.as_mut().filter(|lane| lane.is_busy()) {
            let report = lane.ended().await;
            self.settle_operation(report);
        }
        self.take_back();
        let (clock, mut failures) = (self.clock, 0);
        // What is left of a record stays where it is.
        while let Some((&key, held)) = self.waiting.first_key_value()
            && key.0 == Source::Queue
            && failures < LAST_ATTEMPTS
        {
            let Some(spool) = self.lane.as_mut().and_then(Lane::at_rest) else { return };
            let (bytes, events) = (held.bytes.clone(), held.events);
            let written = spool.push(&bytes, events, held.oldest_ns, clock.wall_ns()).await;
            self.books.look_at(spool);
            let Some(held) = self.waiting.remove(&key) else { return };
            match written {
                Ok(_) => {
                    self.books.spooled(events);
                    self.release(held);
                }
                Err(error) => {
                    if let Some(error) = self.keep_unwritten(vec![(key, held)], error) {
                        self.books.spool_trouble(clock.now(), &error);
                        failures += 1;
                    }
                }
            }
        }
        let Some(spool) = self.lane.as_mut().and_then(Lane::at_rest) else { return };
        for _ in 0..LAST_ATTEMPTS {
            match spool.close().await {
                Ok(()) => {
                    self.books.look_at(spool);
                    break;
                }
                Err(error) => self.books.spool_trouble(clock.now(), &error),
            }
        }
    }
}
