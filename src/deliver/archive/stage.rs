//! Batches to staging, and staged records to the writer.
//!
//! Every batch is first appended to the staging folder, which is a [`Spool`] like that of any other
//! destination; from then on it survives the end of the process. Records are read back from there and
//! go to the writer's thread, whether they were staged a moment or a run ago. When a round of files is
//! complete, its records have been delivered, and staging forgets them.
//!
//! # Limits
//!
//! * Memory: the queue from the shards, two records on their way to the writer, and the writer's own.
//! * Disk: staging has the limits of the spool. A round ends when staging is half full, too.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::writer::{Command, Completed, Done, Writer, WriterError};
use crate::deliver::batch::{Batch, BatchReceiver};
use crate::deliver::dispatch::backoff::Backoff;
use crate::deliver::dispatch::books::Books;
use crate::deliver::dispatch::held::Held;
use crate::deliver::spool::{Numbers, Spool, SpoolError};
use crate::deliver::{Clock, Spooling, Storage};
use crate::observe::ledger::{DestinationLedger, LossReason};

/// When files are completed.
#[derive(Clone, Copy, Debug)]
pub struct Roll {
    /// So long after the first event of the round.
    pub interval: Duration,
    /// When the files of the round have about so many bytes together.
    pub bytes: u64,
}

/// The longest wait between two attempts on a disk that does not work.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Records on their way to the writer: one that it works on and one that waits.
const COMMANDS: usize = 2;

/// Staging ends the round when this part of what it may hold is used, in eighths.
const FULL_EIGHTHS: u64 = 4;

/// At the end, staging what is left may take this long; the engine waits two seconds.
const SAVE_MAX: Duration = Duration::from_millis(1500);

/// At the end a disk gets this many chances.
const LAST_ATTEMPTS: u32 = 3;

/// What the stage works with.
pub(super) struct Parts<'a, C, D> {
    pub ledger: Arc<DestinationLedger>,
    pub receiver: BatchReceiver,
    pub clock: &'a C,
    pub staging: Spooling<D>,
    pub roll: Roll,
    pub writer: Writer,
}

/// Serves the archive until the queue has ended and every event is in a file, or staged. When
/// `given_up` turns true, what is not staged by then or shortly after is lost as `shutdown`.
///
/// `latency` is called for every record that is in files, with the nanoseconds from the receipt of its
/// oldest event to now, and the number of events.
pub(super) async fn run<C: Clock, D: Storage + Clone>(
    parts: Parts<'_, C, D>,
    given_up: watch::Receiver<bool>,
    latency: impl FnMut(u64, u64),
) {
    let clock = parts.clock;
    let mut stage = Stage::new(parts, latency);
    let over = |mut given_up: watch::Receiver<bool>| async move {
        // An error means that the engine is gone, and with it the time to shut down.
        let _ = given_up.wait_for(|given_up| *given_up).await;
    };
    let last_moment = async {
        over(given_up.clone()).await;
        clock.sleep(SAVE_MAX).await;
    };
    let work = async {
        stage.serve(over(given_up.clone())).await;
        stage.save().await;
    };
    tokio::select! {
        biased;
        () = work => {}
        () = last_moment => {}
    }
    stage.give_up();
}

/// A record that the writer has.
struct Written {
    sequence: u64,
    events: u32,
    oldest_ns: u64,
}

/// Where the writer is, as far as the stage knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// It has failed, or was never asked.
    None,
    /// It was told to begin.
    Begins,
    /// It takes records.
    Open,
    /// It was told to complete.
    Completes,
}

/// The thread and the way there and back.
struct Link {
    commands: mpsc::Sender<Command>,
    answers: mpsc::UnboundedReceiver<Result<Done, WriterError>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Link {
    fn new(writer: Writer) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (sender, answers) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("archive".into())
            .spawn(move || writer.run(received, &sender))
            // As at the start of every other thread, there is nothing to go on with.
            .expect("a thread for the archive");
        Self { commands, answers, thread: Some(thread) }
    }

    async fn answer(&mut self) -> Result<Done, WriterError> {
        if let Some(answer) = self.answers.recv().await {
            return answer;
        }
        // It ends before it is told to by a panic only, which is this thread's too.
        if let Some(Err(panic)) = self.thread.take().map(thread::JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        std::future::pending().await
    }
}

struct Stage<'a, C, L, D: Storage> {
    clock: &'a C,
    receiver: BatchReceiver,
    /// Whether batches still come.
    open: bool,
    staging: Spooling<D>,
    roll: Roll,
    link: Link,
    round: Round,
    books: Books,
    latency: L,
    spool: Option<Spool<D>>,
    disk_backoff: Backoff,
    disk_not_before: Duration,
    tended_at: Duration,
    writer_backoff: Backoff,
    /// Rounds wait until then, for the writer or for what they need of staging.
    round_not_before: Duration,
    /// Whether the last failure was that of beginning a round.
    begin_failed: bool,
    /// How far staging was when it was opened, until a round has begun.
    found_next: Option<u64>,
    /// Batches that are in memory only.
    held: VecDeque<Held>,
    /// What the writer has of this round.
    written: Vec<Written>,
    /// How many events these are.
    handed: u64,
    /// When it got the first of it.
    begun_at: Duration,
    /// How large the files of the round are.
    bytes: u64,
    /// Bytes of all files.
    sent_bytes: u64,
    /// Whether staging has no room but for what the writer has.
    full: bool,
}

impl<'a, C: Clock, L: FnMut(u64, u64), D: Storage + Clone> Stage<'a, C, L, D> {
    fn new(parts: Parts<'a, C, D>, latency: L) -> Self {
        let Parts { ledger, receiver, clock, staging, roll, writer } = parts;
        let seed = fastrand::u64(..);
        Self {
            clock,
            receiver,
            open: true,
            staging,
            roll,
            link: Link::new(writer),
            round: Round::None,
            books: Books::new(ledger),
            latency,
            spool: None,
            disk_backoff: Backoff::new(BACKOFF_MAX, seed),
            disk_not_before: Duration::ZERO,
            tended_at: Duration::ZERO,
            writer_backoff: Backoff::new(BACKOFF_MAX, seed),
            round_not_before: Duration::ZERO,
            begin_failed: false,
            found_next: None,
            held: VecDeque::new(),
            written: Vec::new(),
            handed: 0,
            begun_at: Duration::ZERO,
            bytes: 0,
            sent_bytes: 0,
            full: false,
        }
    }

    async fn serve(&mut self, given_up: impl Future<Output = ()>) {
        let mut given_up = std::pin::pin!(given_up);
        let clock = self.clock;
        loop {
            let worked = self.work().await;
            self.publish();
            if !self.open && self.may_end() {
                return;
            }
            let timer = self.timer();
            tokio::select! {
                biased;
                () = &mut given_up => return,
                answer = self.link.answer() => self.settle(answer),
                batch = self.receiver.recv(), if self.open && self.held.is_empty() => match batch {
                    Some(batch) => self.admit(batch),
                    None => self.hurry(),
                },
                () = std::future::ready(()), if worked => {}
                () = clock.sleep(timer.unwrap_or_default()), if timer.is_some() => {}
            }
        }
    }

    fn admit(&mut self, batch: Batch) {
        let Batch { bytes, events, oldest_ns, shard } = batch;
        if events == 0 {
            return self.receiver.recycle(shard, bytes);
        }
        self.books.took(events);
        self.held.push_back(Held {
            bytes,
            events,
            oldest_ns,
            taken_at: self.clock.now(),
            pooled: Some(shard),
            tried: false,
            record: None,
            numbers: Numbers::default(),
        });
    }

    /// All senders are gone.
    fn hurry(&mut self) {
        self.open = false;
        self.disk_backoff.hurry();
        // A last attempt, and none of either after that one.
        (self.disk_not_before, self.round_not_before) = (Duration::ZERO, Duration::ZERO);
    }

    /// Whether nothing is left to wait for once the queue has ended.
    fn may_end(&self) -> bool {
        let staged = self.spool.as_ref().is_some_and(|spool| spool.events() > 0);
        // What cannot be written now is written by the next run.
        let failing = self.round == Round::None && self.writer_backoff.failing();
        self.held.is_empty() && (!staged || failing)
    }

    /// Does what is due, a little at a time. Whether there may be more.
    async fn work(&mut self) -> bool {
        let now = self.clock.now();
        let [may_stage, may_move] =
            [self.disk_not_before, self.round_not_before].map(|at| at <= now);
        let staged = if may_stage { self.stage(now).await } else { Ok(false) };
        // Also when nothing can be staged: the end of the round may be what makes room.
        let moved = if may_move { self.move_on().await } else { Ok(false) };
        if let Some(spool) = &mut self.spool {
            self.books.look_at(spool);
        }
        let now = self.clock.now();
        if let Err(error) = &staged {
            self.books.blocked(now, error);
            self.disk_not_before = now + self.disk_backoff.wait(None);
        }
        if let Err(error) = &moved {
            self.books.blocked(now, error);
            self.round_not_before = now + self.disk_backoff.wait(None);
        }
        if let (true, true, Ok(_), Ok(_)) = (may_stage, may_move, &staged, &moved) {
            self.disk_backoff.reset();
            if self.held.is_empty() {
                self.books.unblocked();
            }
        }
        staged.unwrap_or(false) || moved.unwrap_or(false)
    }

    /// Brings what comes to staging.
    async fn stage(&mut self, now: Duration) -> Result<bool, SpoolError> {
        match self.spool {
            None => self.begin().await.map(|()| true),
            Some(_) if now >= self.tended_at + self.staging.sync_interval => self.tend().await,
            Some(_) => match self.push().await {
                Err(SpoolError::Full { .. }) if !self.written.is_empty() => {
                    // The end of the round makes room.
                    self.full = true;
                    Ok(false)
                }
                pushed => pushed,
            },
        }
    }

    /// Brings what is staged to files.
    async fn move_on(&mut self) -> Result<bool, SpoolError> {
        match self.round {
            Round::None => Ok(self.begin_round()),
            Round::Open if self.is_due() => self.complete().await,
            Round::Open => self.write().await,
            Round::Begins | Round::Completes => Ok(false),
        }
    }

    async fn begin(&mut self) -> Result<(), SpoolError> {
        let Spooling { disk, settings, .. } = self.staging.clone();
        let (spool, found) = Spool::open(disk, settings).await?;
        self.books.found(&found);
        self.found_next = Some(found.mark.next);
        self.spool = Some(spool);
        Ok(())
    }

    /// Brings what is staged to the disk and lets go what is in files.
    async fn tend(&mut self) -> Result<bool, SpoolError> {
        let now_ns = self.clock.wall_ns();
        let Some(spool) = &mut self.spool else { return Ok(false) };
        spool.tend(now_ns).await?;
        self.tended_at = self.clock.now();
        Ok(true)
    }

    /// Stages the batch that is held first.
    async fn push(&mut self) -> Result<bool, SpoolError> {
        let (Some(spool), Some(held)) = (&mut self.spool, self.held.front()) else {
            return Ok(false);
        };
        let now_ns = self.clock.wall_ns();
        let pushed = spool.push(&held.bytes, held.events, held.oldest_ns, now_ns).await;
        let Some(held) = self.held.pop_front() else { return Ok(false) };
        match pushed {
            Ok(_) => {
                self.full = false;
                self.books.spooled(held.events);
                self.recycle(held);
            }
            Err(SpoolError::TooLong { limit }) => self.cut(held, limit)?,
            Err(error) => {
                self.held.push_front(held);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// A batch is too long for staging. A single event that will never fit is lost.
    fn cut(&mut self, held: Held, limit: u64) -> Result<(), SpoolError> {
        let error = SpoolError::TooLong { limit };
        if let Some(halves) = held.halves() {
            halves.into_iter().rev().for_each(|half| self.held.push_front(half));
        } else if limit < self.staging.settings.max_bytes {
            // A disk that is nearly full may have more room later.
            self.held.push_front(held);
            return Err(error);
        } else {
            self.books.spool_trouble(self.clock.now(), &error);
            self.books.lost(LossReason::SpoolFull, &held);
        }
        self.recycle(held);
        Ok(())
    }

    fn recycle(&mut self, held: Held) {
        if let Some(shard) = held.pooled {
            self.receiver.recycle(shard, held.bytes);
        }
    }

    /// Lets the writer begin when there is something for it to do.
    fn begin_round(&mut self) -> bool {
        let Some(spool) = &self.spool else { return false };
        if spool.unread_events() == 0 {
            return false;
        }
        let staging = self.staging.settings.folder.clone();
        // Numbers that were given since the start say nothing about what had been forgotten by then.
        // Files that this run has made have them.
        let next = self.found_next.unwrap_or(spool.mark().next);
        let began = self.link.commands.try_send(Command::Begin { staging, next }).is_ok();
        if began {
            self.round = Round::Begins;
        }
        began
    }

    /// Hands the next record to the writer, if it takes one.
    async fn write(&mut self) -> Result<bool, SpoolError> {
        let (Some(spool), Ok(place)) = (&mut self.spool, self.link.commands.try_reserve()) else {
            return Ok(false);
        };
        let Some(record) = spool.next(self.clock.wall_ns()).await? else { return Ok(false) };
        if self.written.is_empty() {
            self.begun_at = self.clock.now();
        }
        let (sequence, events, oldest_ns) = (record.sequence, record.events, record.oldest_ns);
        self.written.push(Written { sequence, events, oldest_ns });
        self.handed += u64::from(events);
        place.send(Command::Write(record));
        Ok(true)
    }

    /// Whether the round is to end.
    fn is_due(&self) -> bool {
        let Some(spool) = self.spool.as_ref().filter(|_| !self.written.is_empty()) else {
            return false;
        };
        self.clock.now() >= self.begun_at + self.roll.interval
            || self.bytes >= self.roll.bytes
            || self.full
            // Of a backlog, half at a time: rather a few large files than one for each batch.
            || (spool.bytes() >= spool.record_bytes() * FULL_EIGHTHS
                && 2 * self.handed >= spool.events())
            || (!self.open && spool.unread_events() == 0)
    }

    async fn complete(&mut self) -> Result<bool, SpoolError> {
        // First: files must not have events that staging may still lose in a power failure, since
        // others would get their numbers.
        if self.spool.as_ref().is_some_and(Spool::is_dirty) {
            self.tend().await?;
        }
        let told = self.link.commands.try_send(Command::Complete).is_ok();
        if told {
            self.round = Round::Completes;
        }
        Ok(told)
    }

    fn settle(&mut self, answer: Result<Done, WriterError>) {
        match answer {
            Ok(Done::Begun) => self.begun(),
            Ok(Done::Written(bytes)) => self.bytes = bytes,
            Ok(Done::Completed(completed)) => self.completed(completed),
            Err(error) => self.failed(&error),
        }
    }

    fn begun(&mut self) {
        self.round = Round::Open;
        self.found_next = None;
        // Another failure is over when a round is completed.
        if std::mem::take(&mut self.begin_failed) {
            self.books.works();
        }
    }

    fn completed(&mut self, completed: Completed) {
        self.round = Round::Open;
        self.full = false;
        self.handed = 0;
        self.writer_backoff.reset();
        self.books.works();
        self.bytes = 0;
        self.sent_bytes += completed.bytes;
        let written = std::mem::take(&mut self.written);
        let events = written.iter().map(|record| u64::from(record.events)).sum();
        if completed.unreadable > 0 {
            tracing::error!(
                events = completed.unreadable,
                "staged events of a newer version, or of no version, were left out of the archive; they \
                 are counted as `refused`"
            );
        }
        self.books.delivered_from_disk(events, completed.unreadable, written.len() as u64);
        let now_ns = self.clock.wall_ns();
        for Written { sequence, events, oldest_ns } in written {
            if let Some(spool) = &mut self.spool {
                spool.acknowledge(sequence);
            }
            (self.latency)(now_ns.saturating_sub(oldest_ns), events.into());
        }
        // What is done is let go at once, and makes room.
        (self.tended_at, self.disk_not_before) = (Duration::ZERO, Duration::ZERO);
    }

    /// The round has failed: its records are read again.
    fn failed(&mut self, error: &WriterError) {
        self.begin_failed = self.round == Round::Begins;
        self.round = Round::None;
        self.full = false;
        self.handed = 0;
        self.bytes = 0;
        self.books.unavailable(&error.to_string());
        self.books.retried();
        self.round_not_before = self.clock.now() + self.writer_backoff.wait(None);
        for record in std::mem::take(&mut self.written) {
            if let Some(spool) = &mut self.spool {
                spool.unread(record.sequence);
            }
        }
    }

    /// How long nothing is to do unless a batch or an answer comes. `None`: until then.
    fn timer(&self) -> Option<Duration> {
        let now = self.clock.now();
        let disk = (now < self.disk_not_before).then_some(self.disk_not_before);
        let spool = self.spool.as_ref();
        let tend = spool
            .filter(|spool| spool.bytes() > 0)
            .map(|_| (self.tended_at + self.staging.sync_interval).max(self.disk_not_before));
        let unread = spool.is_some_and(|spool| spool.unread_events() > 0);
        let round = match self.round {
            Round::Open if now < self.round_not_before => Some(self.round_not_before),
            Round::Open if !self.written.is_empty() => Some(self.begun_at + self.roll.interval),
            Round::None if unread => Some(self.round_not_before),
            _ => None,
        };
        let wake = [disk, tend, round].into_iter().flatten().min()?;
        Some(wake.saturating_sub(now))
    }

    fn publish(&mut self) {
        let held = self.held.front().map(|held| held.oldest_ns);
        let written = self.written.first().map(|record| record.oldest_ns);
        let unread = self.spool.as_ref().and_then(Spool::oldest_unread_ns);
        let oldest_ns = [held, written, unread].into_iter().flatten().min();
        self.books.publish(oldest_ns, self.sent_bytes);
    }

    /// Stages what is held or queued.
    async fn save(&mut self) {
        // Closed first: a batch that is sent meanwhile stays with its shard, and is counted there.
        self.receiver.close();
        let mut failures = 0;
        while failures < LAST_ATTEMPTS {
            if self.held.is_empty() {
                let Some(batch) = self.receiver.recv().await else { break };
                self.admit(batch);
            }
            let pushed = match self.spool {
                None => self.begin().await,
                Some(_) => self.push().await.map(|_| ()),
            };
            if let Err(error) = pushed {
                self.books.spool_trouble(self.clock.now(), &error);
                failures += 1;
            }
        }
        let Some(spool) = &mut self.spool else { return };
        for _ in 0..LAST_ATTEMPTS {
            match spool.close().await {
                Ok(()) => break,
                Err(error) => self.books.spool_trouble(self.clock.now(), &error),
            }
        }
        self.books.look_at(spool);
    }

    /// Counts what is in memory only.
    fn give_up(&mut self) {
        self.receiver.close();
        while let Some(batch) = self.receiver.try_recv() {
            self.admit(batch);
        }
        for held in std::mem::take(&mut self.held) {
            self.books.lost(LossReason::Shutdown, &held);
        }
        self.publish();
    }
}
