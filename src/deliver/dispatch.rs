//! One destination's batches, from the queue to an outcome each.
//!
//! A batch is held until the destination answers: acknowledged, it is gone; refused, the lines that
//! are at fault are found and dropped, and the rest is sent again; unanswered, it is tried again,
//! ever more slowly. Everything runs in one future, and time and network come in through [`Clock`]
//! and [`Transport`], so one seed replays a whole outage.
//!
//! Delivery is at least once: a batch whose acknowledgement got lost is sent again. Databases do not
//! mind, since an event keeps its time.
//!
//! # Limits
//!
//! * Memory: [`HELD_BYTES_MAX`] of encoded events per destination. The buffers that hold them are at
//!   most half empty, since small batches that wait are copied, which makes twice that the worst
//!   case. Merged requests add [`REQUEST_BYTES_MAX`] each while they are under way.
//! * Age: [`AGE_MAX`] for what is in memory only; what is on disk has the spool's limit.
//! * Requests under way: [`Settings::in_flight`]; one where order matters, and one as a probe while
//!   the destination does not work.
//!
//! While all requests are under way, batches gather and then leave together in one request: a
//! destination that answers slowly gets fewer and larger requests, and keeps up.
//!
//! What goes over a limit is dropped oldest first and counted as `expired`.
//!
//! # Disk
//!
//! With a [`Spooling`], what a destination does not take goes to disk: after two seconds of failure, or
//! when there is a record's worth of it, or when a slow destination has filled half of the memory.
//! What lies there comes back beside what is new, one request of those under way, or all of them when
//! nothing new waits. Where order matters, what is new goes behind it, and behind a copy of what is
//! under way: if that failed, it could not be written before the others any more. At the end, what is
//! still held is written.

pub(super) mod backoff;
pub(super) mod books;
pub(super) mod held;
mod lane;
mod spooling;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::ops::Bound::{Excluded, Unbounded};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::batch::{Batch, BatchReceiver, QUEUE_BATCHES};
use super::spool::{Found, Numbers};
use super::{Clock, Outcome, Storage, Transport};
use crate::observe::ledger::DestinationLedger;
use backoff::Backoff;
use books::Books;
use held::{Held, Key, Source};
use lane::Lane;
pub use lane::Spooling;

/// Encoded events held per destination: ten minutes of outage at 100 events/s of 1 KB, and small
/// beside the buffer pool.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Events that are in memory only are held this long: a night's outage at a low rate passes without loss.
pub const AGE_MAX: Duration = Duration::from_hours(24);

/// The longest wait between two attempts on a destination that does not work.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Waiting batches are merged into requests of up to this size. InfluxDB takes 25 MB by default;
/// a destination behind a stricter proxy says so once, and requests are halved for good.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A batch shorter than this that has to wait is copied to memory of its size and its buffer
/// returned: buffers are made for `batchBytes` (256 KiB), and an outage at a low rate would otherwise
/// hold thousands of nearly empty ones.
const COPY_BELOW: usize = 128 * 1024;

/// How one destination is served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests under way at once, where order does not matter. Zero counts as one.
    pub in_flight: usize,
    /// Bytes of encoded events held at most.
    pub held_bytes_max: usize,
    /// Bytes up to which waiting batches are merged into one request.
    pub request_bytes_max: usize,
    /// How long events are held at most that are in memory only.
    pub age_max: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_flight: 4,
            held_bytes_max: HELD_BYTES_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
            age_max: AGE_MAX,
            backoff_max: BACKOFF_MAX,
            seed: fastrand::u64(..),
        }
    }
}

/// What an attempt hands back: which part, in which epoch it began, and how it went.
type Attempt<'a> = Pin<Box<dyn Future<Output = (Key, u64, Outcome)> + 'a>>;

/// What one destination's dispatch works with, besides its transport.
#[derive(Debug)]
pub struct Parts<'a, C, D> {
    /// Where everything is counted.
    pub ledger: Arc<DestinationLedger>,
    /// The batches.
    pub receiver: BatchReceiver,
    /// Time.
    pub clock: &'a C,
    /// Limits.
    pub settings: Settings,
    /// Where batches go that the destination does not take; memory is all there is without it.
    pub spooling: Option<Spooling<D>>,
}

/// Serves one destination until all senders of its queue are gone and every event has an outcome or
/// is on disk, or until `deadline` is over: what is held or queued then and cannot be written to disk
/// is counted as `shutdown`.
///
/// `latency` is called for every acknowledgement with the nanoseconds from the receipt of the oldest
/// event to now, and the number of events.
pub async fn run<T: Transport, C: Clock, D: Storage + Clone + 'static>(
    parts: Parts<'_, C, D>,
    transport: T,
    deadline: impl Future<Output = ()>,
    latency: impl FnMut(u64, u64),
) {
    let mut state = Dispatch::new(parts, transport.unordered(), latency);
    let mut attempts: Vec<Attempt<'_>> = Vec::with_capacity(state.limit);
    let mut deadline = pin!(deadline);
    loop {
        state.expire();
        state.begin_operation();
        while let Some((key, body, events)) = state.next_attempt() {
            let (transport, epoch) = (&transport, state.epoch);
            attempts
                .push(Box::pin(async move { (key, epoch, transport.send(body, events).await) }));
        }
        state.publish(transport.sent_bytes());
        if !state.open && state.may_end() {
            break;
        }
        let timer = state.timer();
        tokio::select! {
            biased;
            () = &mut deadline => break,
            (key, epoch, outcome) = first_done(&mut attempts), if !state.is_copying() => {
                state.settle(key, epoch, outcome);
            }
            report = operation_done(&mut state.lane) => state.settle_operation(report),
            batch = state.receiver.recv(), if state.open => if let Some(batch) = batch {
                state.admit(batch);
            } else {
                state.hurry();
            },
            () = state.clock.sleep(timer.unwrap_or_default()), if timer.is_some() => {}
        }
        // Attempts come first above; this keeps a fast destination from starving the queue.
        for _ in 0..QUEUE_BATCHES {
            let Some(batch) = state.receiver.try_recv() else { break };
            state.admit(batch);
        }
    }
    drop(attempts);
    state.save().await;
    state.publish(transport.sent_bytes());
}

/// Waits for the disk; for ever when nothing is asked of it.
async fn operation_done<D: Storage + Clone + 'static>(lane: &mut Option<Lane<D>>) -> lane::Report {
    match lane {
        Some(lane) => lane.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits for whichever attempt is done first; for ever when there is none.
async fn first_done<F: Future + Unpin>(attempts: &mut Vec<F>) -> F::Output {
    poll_fn(|context| {
        for index in 0..attempts.len() {
            if let Poll::Ready(output) = Pin::new(&mut attempts[index]).poll(context) {
                attempts.swap_remove(index);
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// One request.
struct UnderWay {
    /// Where it waits if it fails.
    place: Key,
    sent: Held,
    /// What it was merged from; empty when it was not. After a failure they wait on their own again,
    /// and are not merged any more: one on which the destination chokes must not take others along.
    parts: Vec<(Key, Held)>,
}

struct Dispatch<'a, C, L, D: Storage> {
    /// Whether batches still come.
    open: bool,
    receiver: BatchReceiver,
    limit: usize,
    ordered: bool,
    settings: Settings,
    clock: &'a C,
    waiting: BTreeMap<Key, Held>,
    under_way: BTreeMap<Key, UnderWay>,
    held_bytes: usize,
    batches: u64,
    /// Per source, the part that was sent last. Unordered parts take turns from here, so that one on
    /// which the destination chokes does not stand in the way of the others.
    cursors: [Option<Key>; 2],
    /// Whether the last part that was sent came from the spool.
    stored_last: bool,
    lane: Option<Lane<D>>,
    backoff: Backoff,
    /// When it failed first of all the times since it worked.
    failing_since: Option<Duration>,
    not_before: Duration,
    /// Counts failures. An attempt that began before the last failure says nothing new about the
    /// destination: four requests that fail together are one failure.
    epoch: u64,
    books: Books,
    latency: L,
}

impl<'a, C: Clock, L: FnMut(u64, u64), D: Storage + Clone + 'static> Dispatch<'a, C, L, D> {
    fn new(parts: Parts<'a, C, D>, unordered: bool, latency: L) -> Self {
        let Parts { ledger, receiver, clock, settings, spooling } = parts;
        let strict = spooling.as_ref().is_some_and(|plan| plan.strict);
        let mut books = Books::new(ledger);
        if spooling.is_none() {
            books.found(&Found::default());
        }
        Self {
            open: true,
            receiver,
            // One behind the other is the only order that a network keeps.
            limit: if unordered && !strict { settings.in_flight.max(1) } else { 1 },
            ordered: !unordered,
            settings,
            clock,
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            held_bytes: 0,
            batches: 0,
            cursors: [None; 2],
            stored_last: false,
            lane: spooling.map(|plan| Lane::new(plan, settings.seed)),
            backoff: Backoff::new(settings.backoff_max, settings.seed),
            failing_since: None,
            not_before: Duration::ZERO,
            epoch: 0,
            books,
            latency,
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    fn slots(&self) -> usize {
        if self.backoff.failing() { 1 } else { self.limit }
    }

    fn admit(&mut self, batch: Batch) {
        let Batch { bytes, events, oldest_ns, shard } = batch;
        if events == 0 {
            self.receiver.recycle(shard, bytes);
            return;
        }
        debug_assert_eq!(
            memchr::memchr_iter(b'\n', &bytes).count(),
            events as usize,
            "one line per event"
        );
        self.books.took(events);
        while self.held_bytes + bytes.len() > self.settings.held_bytes_max && self.evict() {}
        self.held_bytes += bytes.len();
        let now = self.clock.now();
        let mut held = Held {
            bytes,
            events,
            oldest_ns,
            taken_at: now,
            pooled: Some(shard),
            tried: false,
            record: None,
            numbers: Numbers::default(),
        };
        let starts_at_once = self.waiting.is_empty()
            && self.under_way.len() < self.slots()
            && now >= self.not_before;
        if !starts_at_once {
            held = self.compact(held);
        }
        self.waiting.insert((Source::Queue, self.batches, 0), held);
        self.batches += 1;
    }

    /// The next part to send, moved to those under way.
    fn next_attempt(&mut self) -> Option<(Key, Bytes, u32)> {
        if self.under_way.len() >= self.slots() || self.clock.now() < self.not_before {
            return None;
        }
        let key = self.pick()?;
        let first = self.waiting.remove(&key)?;
        self.cursors[key.0 as usize] = Some(key);
        if first.tried {
            self.books.retried();
        }
        let request = self.merge(key, first);
        let attempt = (key, request.sent.bytes.clone(), request.sent.events);
        self.under_way.insert(key, request);
        Some(attempt)
    }

    /// Joins a part that is about to be sent and those that wait behind it.
    fn merge(&mut self, key: Key, first: Held) -> UnderWay {
        let mut length = first.bytes.len();
        let mut parts = Vec::new();
        if key.0 == Source::Queue && !first.tried && !self.backoff.failing() {
            while let Some((&next, part)) = self.waiting.range((Excluded(key), Unbounded)).next()
                && next.0 == Source::Queue
                && !part.tried
                && length + part.bytes.len() <= self.settings.request_bytes_max
                && let Some(part) = self.waiting.remove(&next)
            {
                length += part.bytes.len();
                parts.push((next, part));
            }
        }
        let place = key;
        let Some((last, _)) = parts.last() else { return UnderWay { place, sent: first, parts } };
        self.cursors[last.0 as usize] = Some(*last);
        parts.insert(0, (key, first));
        UnderWay { place, sent: Held::merged(&parts, length), parts }
    }

    fn settle(&mut self, key: Key, epoch: u64, outcome: Outcome) {
        let Some(request) = self.under_way.remove(&key) else {
            debug_assert!(false, "an attempt without its request");
            return;
        };
        let key = request.place;
        match outcome {
            Outcome::Delivered => {
                let held = self.answered(request, epoch);
                self.deliver(held, 0);
            }
            Outcome::Partial { refused, reason } => {
                let held = self.answered(request, epoch);
                let refused = refused.min(held.events);
                self.books.refused(self.clock.now(), &held, refused, &[], &reason);
                self.deliver(held, refused);
            }
            Outcome::RefusedLines { lines, reason } => {
                let held = self.answered(request, epoch);
                self.take_out(key, held, lines, &reason);
            }
            Outcome::RefusedUnnamed { reason } => {
                let held = self.answered(request, epoch);
                self.bisect(key, held, &reason);
            }
            Outcome::TooLarge => {
                let held = self.answered(request, epoch);
                let most = &mut self.settings.request_bytes_max;
                *most = (*most).min(held.bytes.len() / 2);
                self.bisect(key, held, "too large");
            }
            Outcome::Misconfigured { reason } => {
                self.books.misconfigured(&reason);
                self.retry(request, epoch, None);
            }
            Outcome::Unavailable { reason, after } => {
                self.books.unavailable(&reason);
                self.retry(request, epoch, after);
            }
        }
    }

    /// The destination works. What was sent is one from here on.
    fn answered(&mut self, request: UnderWay, epoch: u64) -> Held {
        if epoch == self.epoch {
            self.backoff.reset();
            self.failing_since = None;
            self.books.works();
        }
        for (_, part) in request.parts {
            self.recycle(part);
        }
        Held { tried: true, ..request.sent }
    }

    /// The destination has the part, except for `refused` events that are counted already.
    fn deliver(&mut self, held: Held, refused: u32) {
        let delivered = held.events - refused;
        if delivered > 0 {
            self.books.delivered(&held, delivered);
            let age_ns = self.clock.wall_ns().saturating_sub(held.oldest_ns);
            (self.latency)(age_ns, u64::from(delivered));
        }
        self.finish(held);
    }

    /// Drops the lines that the destination named and sends the rest again.
    fn take_out(&mut self, key: Key, held: Held, mut lines: Vec<u32>, reason: &str) {
        lines.retain(|line| *line < held.events);
        lines.sort_unstable();
        lines.dedup();
        let Some(first) = lines.first() else {
            // Named lines that are not there: find them.
            return self.bisect(key, held, reason);
        };
        let (rest, out) = held.without(&lines);
        let refused = held.events - rest.as_ref().map_or(0, |rest| rest.events);
        self.books.refused(self.clock.now(), &held, refused, held.line(*first), reason);
        if let (Some(record), Some(lane)) = (held.record, &mut self.lane) {
            lane.touch(record);
            lane.note_done(record, &out);
        }
        self.replace(key, held, rest);
    }

    /// Cuts a part in two, down to the event that is at fault, which is dropped.
    fn bisect(&mut self, key: Key, held: Held, reason: &str) {
        let Some(halves) = held.halves() else {
            self.books.refused(self.clock.now(), &held, held.events, held.line(0), reason);
            return self.finish(held);
        };
        self.replace(key, held, halves);
    }

    /// Puts parts of a part in its place.
    fn replace(&mut self, key: Key, held: Held, parts: impl IntoIterator<Item = Held>) {
        let (source, batch, mut at) = key;
        for part in parts {
            self.held_bytes += part.bytes.len();
            let events = part.events;
            if let (Some(record), Some(lane)) = (part.record, &mut self.lane) {
                lane.cut(record, 1);
            }
            self.waiting.insert((source, batch, at), part);
            at += events;
        }
        self.release(held);
    }

    /// Keeps what was sent and leaves the destination alone for a while.
    fn retry(&mut self, request: UnderWay, epoch: u64, asked: Option<Duration>) {
        if epoch == self.epoch {
            self.epoch += 1;
            self.failing_since.get_or_insert(self.clock.now());
            self.not_before = self.clock.now() + self.backoff.wait(asked);
        }
        for (key, part) in self.taken_back(request) {
            let part = self.compact(part);
            self.waiting.insert(key, Held { tried: true, ..part });
        }
    }

    /// The parts of a request that has failed, or is not waited for any more.
    fn taken_back(&mut self, request: UnderWay) -> Vec<(Key, Held)> {
        let UnderWay { place, sent, parts } = request;
        if parts.is_empty() {
            return vec![(place, sent)];
        }
        if let (Some(record), Some(lane)) = (sent.record, &mut self.lane) {
            // There was one part of it.
            for _ in 1..parts.len() {
                lane.cut(record, 1);
            }
        }
        parts
    }

    /// Gives the buffer of a small part back when the part has to wait.
    fn compact(&mut self, held: Held) -> Held {
        match held.pooled {
            Some(shard) if held.bytes.len() < COPY_BELOW => {
                let copy = Bytes::copy_from_slice(&held.bytes);
                self.receiver.recycle(shard, held.bytes);
                Held { bytes: copy, pooled: None, ..held }
            }
            _ => held,
        }
    }

    /// All of the part has its outcome.
    fn finish(&mut self, held: Held) {
        if let (Some(record), Some(lane)) = (held.record, &mut self.lane) {
            lane.note_done(record, &held.numbers);
        }
        self.release(held);
    }

    /// The part is no more: it has its outcome, or others have taken its place.
    fn release(&mut self, held: Held) {
        self.held_bytes -= held.bytes.len();
        if let (Some(record), Some(lane)) = (held.record, &mut self.lane) {
            lane.finish_part(record);
        }
        self.recycle(held);
    }

    fn recycle(&mut self, held: Held) {
        if let Some(shard) = held.pooled {
            self.receiver.recycle(shard, held.bytes);
        }
    }

    /// What is in memory only is lost when it is too old. What is on disk too has the spool's limit,
    /// and the spool counts it, when it comes upon it again.
    fn expire(&mut self) {
        let now = self.clock.now();
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.key().0 == Source::Queue
            && now >= oldest.get().taken_at + self.settings.age_max
        {
            let held = oldest.remove();
            self.books.expired(&held);
            self.finish(held);
        }
        if let Some(lane) = &self.lane {
            let oldest_kept = lane.plan.settings.oldest_kept(self.clock.wall_ns());
            while self.forget_stored(|held| held.oldest_ns < oldest_kept) {}
        }
    }

    /// How long nothing is to do unless a batch or an answer comes. `None`: until then.
    fn timer(&self) -> Option<Duration> {
        let now = self.clock.now();
        let oldest = self.waiting.first_key_value();
        // What is on disk is looked at before each attempt.
        let unwritten = oldest.filter(|((source, ..), _)| *source == Source::Queue);
        let expiry = unwritten.map(|(_, oldest)| oldest.taken_at + self.settings.age_max);
        let free = now < self.not_before && self.under_way.len() < self.slots();
        let retry = oldest.map(|_| self.not_before).filter(|_| free);
        let wake = [expiry, retry, self.disk_timer(now)].into_iter().flatten().min()?;
        Some(wake.saturating_sub(now))
    }

    /// All senders are gone: what is held has until the deadline.
    fn hurry(&mut self) {
        self.open = false;
        self.backoff.hurry();
        self.not_before = self.clock.now();
    }

    fn publish(&mut self, sent_bytes: u64) {
        // The first that waits stands for all that wait: they came in this order, give or take what
        // the shards differ by.
        let first = self.waiting.values().next();
        let under_way = self.under_way.values().map(|request| &request.sent);
        let writing = self.lane.iter().flat_map(|lane| lane.writing.iter().map(|(_, held)| held));
        let oldest_ns =
            first.into_iter().chain(under_way).chain(writing).map(|held| held.oldest_ns);
        let on_disk = self.lane.as_ref().and_then(|lane| lane.oldest_ns);
        self.books.publish(oldest_ns.chain(on_disk).min(), sent_bytes);
    }
}
