//! The loop that turns leases into batches.
//!
//! A shard has a thread of its own, or shares that of its receiver. It takes leases from every receiver
//! that has any for it, reads the datagram where the kernel put it, and encodes the event straight into
//! the open batch of each destination that wants it. The slot goes back at once: a slow destination
//! holds encoded bytes, never a slot.
//!
//! [`Shard`] itself knows neither rings nor time, so that a simulation, a benchmark and a [`Worker`]
//! drive the same code.
//!
//! Envelope, per 372-byte log event on one core: split and validate 250 ns, encode 350 ns; counters
//! are published once per turn of up to [`TURN_LEASES`] leases. `docs/performance.md` has what was
//! measured.

use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::counters::Tally;
use crate::deliver::batch::{Batch, BatchSender, Buffer};
use crate::deliver::{Clock, Encode};
use crate::enrich::{AppNames, Enriched, UserAgents};
use crate::event::{self, Event, Listener, Payload};
use crate::observe::event_lines;
use crate::observe::health::Beat;
use crate::observe::histogram::{Latency, LocalHistogram};
use crate::observe::ledger::{
    AssignCounts, DestinationLedger, Ledger, Note, RejectReason, ShardCounts,
};
use crate::observe::tap::{Sample, Tap};
use crate::receive::{Inline, ReceiveError, Receiver, ShardEnd, ShardInput};
use crate::rules::{Categories, Rules};
use crate::upstream::Gaps;

/// Leases taken before counters are published and deadlines looked at, unless told otherwise. At
/// 2 µs per event a turn lasts half a millisecond, well inside the smallest `flushInterval`.
pub const TURN_LEASES: usize = 256;

/// A batch stops growing here even if its destination's queue has no room; then it is dropped as
/// `overflow`. Eight of these wait per destination at most ([`crate::deliver::batch::QUEUE_BATCHES`]).
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Room kept beyond `batch_bytes` in a new buffer, so that the event that fills a batch does not
/// make it grow: an event of 65 507 bytes encodes to at most three times that in practice, usual
/// ones to 2 KB.
const BATCH_SLACK: usize = 16 * 1024;

/// A due batch whose destination's queue has no room is offered again after this long.
const ROOM_RETRY: Duration = Duration::from_millis(10);

/// The longest a shard sleeps: the health endpoint expects a beat within 5 s.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How a shard makes batches.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A batch leaves at the latest this long after its first event.
    pub flush_interval: Duration,
    /// A batch leaves when it holds this many bytes.
    pub batch_bytes: usize,
    /// A batch leaves when it holds this many events.
    pub batch_events: u32,
    /// Leases taken in a turn over all receivers, but at least one from each, so that none starves.
    pub turn_leases: usize,
}

/// What a shard looks events up in. Whoever stores something new changes what holds from the shard's
/// next turn on.
#[derive(Clone, Debug)]
pub struct Lookups {
    /// Which events are wanted.
    pub rules: Arc<ArcSwap<Rules>>,
    /// Names of apps.
    pub app_names: Arc<ArcSwap<AppNames>>,
}

/// One destination as a shard sees it.
pub struct Output {
    /// Writes its format.
    pub encoder: Box<dyn Encode>,
    /// Takes full batches.
    pub sender: BatchSender,
    /// Its part of the ledger.
    pub ledger: Arc<DestinationLedger>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("destination", &self.ledger.name).finish_non_exhaustive()
    }
}

/// The batch that is being filled for one destination.
#[derive(Debug)]
struct OpenBatch {
    /// Index of the shard that fills it.
    shard: usize,
    settings: Settings,
    output: Output,
    bytes: Buffer,
    events: u32,
    oldest_ns: u64,
    /// When the batch is to leave, on the clock's monotonic scale.
    due: Duration,
    counts: AssignCounts,
}

/// Turns datagrams into batches; see the module's text.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    settings: Settings,
    lookups: Lookups,
    /// As of this turn.
    rules: Arc<Rules>,
    /// As of this turn.
    app_names: Arc<AppNames>,
    user_agents: UserAgents,
    tally: Tally,
    gaps: Gaps,
    tap: Tap,
    ledger: Arc<Ledger>,
    counts: [ShardCounts; Listener::COUNT],
    open: Vec<OpenBatch>,
    scratch: Vec<u8>,
    /// Receive times of this turn, in groups of datagrams that came together, for the histogram.
    arrivals: Vec<(Listener, u64, u64)>,
    local: [LocalHistogram; Listener::COUNT],
    latency: Arc<Latency>,
}

impl Shard {
    /// A shard with empty batches. `latency` gets the time from receive to batch of each event.
    #[must_use]
    pub fn new(
        index: usize,
        settings: Settings,
        lookups: Lookups,
        ledger: Arc<Ledger>,
        outputs: Vec<Output>,
        latency: Arc<Latency>,
    ) -> Self {
        let open = outputs
            .into_iter()
            .map(|mut output| OpenBatch {
                shard: index,
                settings,
                bytes: output.sender.buffer(settings.batch_bytes + BATCH_SLACK),
                output,
                events: 0,
                oldest_ns: 0,
                due: Duration::ZERO,
                counts: AssignCounts::default(),
            })
            .collect();
        Self {
            index,
            settings,
            rules: lookups.rules.load_full(),
            app_names: lookups.app_names.load_full(),
            lookups,
            user_agents: UserAgents::new(),
            tally: Tally::default(),
            gaps: Gaps::default(),
            tap: Tap::default(),
            ledger,
            counts: [ShardCounts::default(); Listener::COUNT],
            open,
            scratch: Vec::new(),
            arrivals: Vec::with_capacity(settings.turn_leases),
            local: Default::default(),
            latency,
        }
    }

    /// Counts events by series too.
    #[must_use]
    pub fn with_tally(mut self, tally: Tally) -> Self {
        self.tally = tally;
        self
    }

    /// Copies samples of what it takes too.
    #[must_use]
    pub fn with_tap(mut self, tap: Tap) -> Self {
        self.tap = tap;
        self
    }

    /// Begins a turn: from here on the newest rules and names hold.
    pub fn begin_turn(&mut self) {
        renew(&mut self.rules, &self.lookups.rules);
        renew(&mut self.app_names, &self.lookups.app_names);
    }

    /// Reads one datagram and encodes it for every destination that wants it. `now` is the clock's
    /// monotonic time at the start of the turn.
    pub fn take<'a>(
        &mut self,
        listener: Listener,
        payload: impl Into<Payload<'a>>,
        source: SocketAddr,
        received_ns: u64,
        now: Duration,
    ) {
        let payload = payload.into();
        let counts = &mut self.counts[listener as usize];
        counts.taken += 1;
        // Out of the shard while an event borrows it, so that the shard can be used meanwhile.
        let mut scratch = mem::take(&mut self.scratch);
        let outcome = match event::parse(listener, payload, &mut scratch) {
            Ok(event) => {
                let lost = self.gaps.note(source, &event);
                if lost != 0 {
                    // Never below zero: only what was counted as lost can arrive late.
                    counts.upstream_lost = counts.upstream_lost.saturating_add_signed(lost);
                    counts.upstream_lost_peak = counts.upstream_lost_peak.max(counts.upstream_lost);
                }
                self.judge(&event, payload.bytes(), received_ns, now)
            }
            Err(error) => {
                counts.rejected.add(error.into(), 1);
                event_lines::no_event(listener, source, payload.bytes(), error, now);
                self.tally.unknown(listener, payload.bytes());
                Err(error.into())
            }
        };
        self.scratch = scratch;
        self.tap.note(|| Sample {
            listener,
            payload: payload.bytes(),
            source: source.ip(),
            received_ns,
            rejected: outcome.err(),
            stands_for: 1,
        });
        self.note_arrival(listener, received_ns);
    }

    /// Rejects an event, or enriches it and passes it on.
    fn judge(
        &mut self,
        event: &Event<'_>,
        payload: &[u8],
        received_ns: u64,
        now: Duration,
    ) -> Result<(), RejectReason> {
        let counts = &mut self.counts[event.kind().listener() as usize];
        let app_name = self.app_names.of_event(event);
        let mut room = Categories::new();
        let judged = self.rules.judge(event, app_name, &mut room);
        if event_lines::wanted() {
            event_lines::event(event, payload, judged.as_ref().err().copied(), now);
        }
        if judged == Err(RejectReason::Filter) {
            self.tally.filtered(event, app_name);
        } else {
            self.tally.received(event);
        }
        let categories = match judged {
            Ok(categories) => categories,
            Err(reason) => {
                counts.rejected.add(reason, 1);
                return Err(reason);
            }
        };
        let enriched = Enriched {
            event,
            received_ns,
            app_name: self.rules.written_app_name(event, app_name),
            user_agent: self.user_agents.of_event(event),
            categories,
        };
        note(counts, event);
        counts.accepted[event.kind() as usize] += 1;
        if route(&mut self.open, &enriched, now) {
            counts.routed += 1;
        } else {
            counts.unrouted += 1;
        }
        Ok(())
    }

    fn note_arrival(&mut self, listener: Listener, received_ns: u64) {
        match self.arrivals.last_mut() {
            // Datagrams of one receive batch are a nanosecond apart (one clock read per batch).
            Some((of, last, count)) if *of == listener && received_ns.abs_diff(*last) < 1_000 => {
                *count += 1;
            }
            _ => self.arrivals.push((listener, received_ns, 1)),
        }
    }

    /// Counts a lease that is returned unread because the time to shut down is over.
    pub fn abandon(&mut self, listener: Listener) {
        let counts = &mut self.counts[listener as usize];
        counts.taken += 1;
        counts.abandoned += 1;
    }

    /// Ends a turn: hands over the batches that are due, publishes the counters.
    pub fn end_turn(&mut self, clock: &impl Clock) {
        let now = clock.now();
        let taken = self.counts.map(|counts| counts.taken);
        self.tally.end_turn(now, taken);
        self.tap.end_turn(now, taken.iter().sum());
        for open in &mut self.open {
            if open.is_due(now) {
                open.hand_over(now, false);
            }
            open.publish();
        }
        for listener in Listener::ALL {
            self.ledger.shards[self.index][listener as usize]
                .publish(&self.counts[listener as usize]);
        }
        if !self.arrivals.is_empty() {
            let wall_ns = clock.wall_ns();
            for (listener, received_ns, count) in self.arrivals.drain(..) {
                self.local[listener as usize].record(wall_ns.saturating_sub(received_ns), count);
            }
            for (local, shared) in self.local.iter_mut().zip(&self.latency.batch) {
                local.publish(shared);
            }
        }
    }

    /// When the next batch or hand-over of counts is due, on the clock's monotonic scale.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let batches = self.open.iter().filter(|open| open.events > 0).map(|open| open.due);
        batches.chain(self.tally.deadline()).min()
    }

    /// Hands over whatever is open. Returns whether there was room for all of it; with `give_up`, a
    /// batch without room is dropped as `shutdown`, and so are counts.
    pub fn flush(&mut self, now: Duration, give_up: bool) -> bool {
        let mut done = self.tally.flush() || give_up;
        for open in &mut self.open {
            if open.events > 0 {
                open.hand_over(now, give_up);
            }
            open.publish();
            done &= open.events == 0;
        }
        done
    }
}

impl OpenBatch {
    /// Adds an event, if the destination wants it.
    fn encode(&mut self, enriched: &Enriched<'_>, now: Duration) -> bool {
        if !self.output.encoder.wants(enriched.event) {
            return false;
        }
        if self.events == 0 {
            self.oldest_ns = enriched.received_ns;
            self.due = now + self.settings.flush_interval;
        }
        self.output.encoder.encode(enriched, &mut self.bytes);
        self.events += 1;
        self.counts.assigned += 1;
        self.counts.open += 1;
        true
    }

    fn is_due(&self, now: Duration) -> bool {
        self.events > 0
            && (self.bytes.len() >= self.settings.batch_bytes
                || self.events >= self.settings.batch_events
                || now >= self.due)
    }

    /// Hands the batch to the destination's queue. Without room it stays open and grows, up to
    /// [`BATCH_BYTES_MAX`]; then, or with `give_up`, it is dropped and counted.
    fn hand_over(&mut self, now: Duration, give_up: bool) {
        if !self.output.sender.has_room() && self.bytes.len() < BATCH_BYTES_MAX && !give_up {
            self.due = now + ROOM_RETRY;
            return;
        }
        let capacity = self.settings.batch_bytes + BATCH_SLACK;
        let bytes = mem::replace(&mut self.bytes, self.output.sender.buffer(capacity));
        let events = mem::take(&mut self.events);
        let batch =
            Batch { bytes: bytes.freeze(), events, oldest_ns: self.oldest_ns, shard: self.shard };
        // Published before the batch can be taken, so that no reader sees it taken before sent.
        self.counts.open = 0;
        self.counts.sent += u64::from(events);
        self.publish();
        if let Err(batch) = self.output.sender.try_send(batch) {
            let lost = if give_up { &mut self.counts.shutdown } else { &mut self.counts.overflow };
            *lost += u64::from(batch.events);
            self.counts.sent -= u64::from(batch.events);
        }
    }

    fn publish(&self) {
        self.output.ledger.assigned[self.shard].publish(&self.counts);
    }
}

/// Encodes an event for every destination that wants it; returns whether one did.
fn route(open: &mut [OpenBatch], enriched: &Enriched<'_>, now: Duration) -> bool {
    let mut routed = false;
    for open in open {
        routed |= open.encode(enriched, now);
        if open.bytes.len() >= BATCH_BYTES_MAX {
            open.hand_over(now, false);
        }
    }
    routed
}

/// Takes what was stored last, if that is something new.
fn renew<T>(current: &mut Arc<T>, newest: &ArcSwap<T>) {
    let newest = newest.load();
    if !Arc::ptr_eq(current, &newest) {
        *current = Arc::clone(&newest);
    }
}

fn note(counts: &mut ShardCounts, event: &Event<'_>) {
    let flags = event.flags;
    for (set, note) in [
        (flags.short, Note::Short),
        (flags.surplus, Note::Surplus),
        (flags.ambiguous, Note::Ambiguous),
        (flags.invalid_utf8, Note::InvalidUtf8),
    ] {
        counts.notes.add(note, u64::from(set));
    }
}

/// A shard with what it works on: the rings that bring its leases.
///
/// Once `abandon` is set, leases are returned unread and full queues are not waited for.
#[derive(Debug)]
pub struct Worker<C> {
    shard: Shard,
    input: ShardInput,
    clock: C,
    abandon: Arc<AtomicBool>,
}

impl<C: Clock> Worker<C> {
    /// Nothing is taken before it runs.
    #[must_use]
    pub fn new(shard: Shard, input: ShardInput, clock: C, abandon: Arc<AtomicBool>) -> Self {
        Self { shard, input, clock, abandon }
    }

    /// The thread of a shard: takes leases until every receiver is gone, then hands over what is
    /// open.
    pub fn run(mut self, beat: &Beat) {
        loop {
            beat.touch();
            // Asked before the rings are read: what a receiver handed over before it was gone is
            // there.
            let finished = self.input.ends.iter().all(ShardEnd::finished);
            if self.turn() > 0 {
                continue;
            }
            if finished {
                break;
            }
            let timeout = self.idle();
            let ShardInput { ends, sleeper } = &self.input;
            sleeper.sleep(Some(timeout), || {
                ends.iter().any(ShardEnd::has_leases) || ends.iter().all(ShardEnd::finished)
            });
        }
        self.flush(beat);
    }

    /// The thread of a receiver and its shard: one after the other, until the receiver is done.
    ///
    /// # Errors
    /// When the receiver cannot go on; what it received before is handed over.
    ///
    /// # Panics
    /// When the receiver or the shard does. After a panic of the receiver, what is open is handed
    /// over first.
    pub fn run_inline(mut self, receiver: Receiver, beat: &Beat) -> Result<(), ReceiveError> {
        let mut inline = Turns { worker: &mut self, within: false };
        // The worker is used again only if it was not the one to panic.
        let ended = catch_unwind(AssertUnwindSafe(|| receiver.run_with(beat.clone(), &mut inline)));
        if !inline.within {
            self.run(beat);
        }
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The only place where a shard waits for a destination: everything else is over.
    fn flush(&mut self, beat: &Beat) {
        while !self.shard.flush(self.clock.now(), self.abandon.load(Ordering::Acquire)) {
            beat.touch();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn turn(&mut self) -> usize {
        turn(&mut self.shard, &mut self.input.ends, &self.clock, &self.abandon)
    }

    /// How long there is nothing to do unless something arrives.
    fn idle(&self) -> Duration {
        let now = self.clock.now();
        let deadline = self.shard.deadline();
        deadline.map_or(SLEEP_MAX, |at| at.saturating_sub(now)).min(SLEEP_MAX)
    }
}

/// The turns of a shard on its receiver's thread.
struct Turns<'a, C> {
    worker: &'a mut Worker<C>,
    /// Whether one has begun and not ended.
    within: bool,
}

impl<C: Clock> Inline for Turns<'_, C> {
    fn turn(&mut self) -> Duration {
        self.within = true;
        while self.worker.turn() > 0 {}
        self.within = false;
        self.worker.idle()
    }
}

/// One turn over all rings; returns the number of leases taken.
fn turn(
    shard: &mut Shard,
    ends: &mut [ShardEnd],
    clock: &impl Clock,
    abandon: &AtomicBool,
) -> usize {
    let now = clock.now();
    let abandon = abandon.load(Ordering::Relaxed);
    let quota = (shard.settings.turn_leases / ends.len()).max(1);
    let mut taken = 0;
    shard.begin_turn();
    for end in ends {
        for _ in 0..quota {
            let Some(lease) = end.take() else { break };
            if abandon {
                shard.abandon(lease.listener);
            } else {
                let payload = end.payload(&lease);
                shard.take(lease.listener, payload, lease.source, lease.received_ns, now);
            }
            end.give_back(lease);
            taken += 1;
        }
    }
    shard.end_turn(clock);
    taken
}

#[cfg(test)]
mod tests;
