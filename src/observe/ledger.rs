//! The loss ledger: where every datagram that the kernel handed over is now.
//!
//! Per listener:
//!
//! ```text
//! received = queued + parsed + Σ dropped[reason]
//! parsed   = accepted + Σ rejected[reason]
//! accepted = routed + unrouted
//! ```
//!
//! and per destination, in events:
//!
//! ```text
//! assigned = delivered + in_flight + spooled + Σ dropped[reason]
//! ```
//!
//! How it is exact: each thread owns a [`Block`] per listener or destination and publishes it once
//! per batch; within a published block its equation holds. A reader takes the blocks downstream
//! first, so an event that moves on meanwhile is never counted twice, only seen as still on its
//! way: `queued` is what was handed to shards and not yet taken, `in_flight` what was assigned and
//! has no outcome yet.
//!
//! What a run without a clean stop took with it is found by the next one ([`super::checkpoint`]). It
//! counts there as received (or assigned) and dropped as `crash`, so that the equations hold.

use std::array;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;

use super::block::Block;
use super::failures::Failures;
pub use super::left::{Left, SpoolMark};
pub use super::reason::{
    DropReason, Drops, LossReason, Losses, Note, Notes, Reason, RejectReason, Rejects, Tally,
};
use crate::event::{Kind, Listener};

/// Fields of a counter block: plain numbers, and arrays of numbers.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident [$len:expr] { $($(#[$fdoc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type,)+ }

        impl $name {
            /// Number of cells.
            pub const LEN: usize = $len;

            /// The counters as cells of a [`Block`].
            #[must_use]
            pub fn to_cells(&self) -> [u64; Self::LEN] {
                let mut cells = [0; Self::LEN];
                let mut at = 0;
                $(at += self.$field.write(&mut cells[at..]);)+
                debug_assert_eq!(at, Self::LEN);
                cells
            }

            /// The counters back from the cells of a [`Block`].
            #[must_use]
            pub fn from_cells(cells: &[u64; Self::LEN]) -> Self {
                let mut counts = Self::default();
                let mut at = 0;
                $(at += counts.$field.read(&cells[at..]);)+
                debug_assert_eq!(at, Self::LEN);
                counts
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field.accumulate(other.$field);)+
            }
        }
    };
}

/// What can stand in a counter block.
trait Cells: Copy {
    fn write(&self, cells: &mut [u64]) -> usize;
    fn read(&mut self, cells: &[u64]) -> usize;
    fn accumulate(&mut self, other: Self);
}

impl Cells for u64 {
    fn write(&self, cells: &mut [u64]) -> usize {
        cells[0] = *self;
        1
    }
    fn read(&mut self, cells: &[u64]) -> usize {
        *self = cells[0];
        1
    }
    fn accumulate(&mut self, other: Self) {
        *self += other;
    }
}

impl<const N: usize> Cells for [u64; N] {
    fn write(&self, cells: &mut [u64]) -> usize {
        cells[..N].copy_from_slice(self);
        N
    }
    fn read(&mut self, cells: &[u64]) -> usize {
        self.copy_from_slice(&cells[..N]);
        N
    }
    fn accumulate(&mut self, other: Self) {
        for (count, more) in self.iter_mut().zip(other) {
            *count += more;
        }
    }
}

impl<R: Reason, const N: usize> Cells for Tally<R, N> {
    fn write(&self, cells: &mut [u64]) -> usize {
        self.counts.write(cells)
    }
    fn read(&mut self, cells: &[u64]) -> usize {
        self.counts.read(cells)
    }
    fn accumulate(&mut self, other: Self) {
        *self += other;
    }
}

counters! {
    /// What one receiver counts for one listener: `received = handed + Σ dropped`.
    ReceiveCounts [2 + DropReason::COUNT + 1] {
        /// Datagrams that the kernel handed over.
        received: u64,
        /// Leases handed to shards.
        handed: u64,
        /// Dropped without looking at them.
        dropped: Drops,
        /// Times the clock stepped back.
        clock_steps: u64,
    }
}

impl ReceiveCounts {
    /// Whether the block's equation holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.received == self.handed + self.dropped.sum()
    }
}

counters! {
    /// What one shard counts for one listener: `taken = Σ accepted + Σ rejected + abandoned` and
    /// `Σ accepted = routed + unrouted`.
    ShardCounts [6 + Kind::COUNT + RejectReason::COUNT + Note::COUNT] {
        /// Leases taken from the rings.
        taken: u64,
        /// Leases taken and returned unread because `shutdownTimeout` had passed.
        abandoned: u64,
        /// Accepted events that at least one destination wants.
        routed: u64,
        /// Accepted events that no destination wants.
        unrouted: u64,
        /// Events that seem to be lost on their way to the socket (a level: late ones are taken off).
        upstream_lost: u64,
        /// The highest that level has been.
        upstream_lost_peak: u64,
        /// Accepted events per [`Kind`].
        accepted: [u64; Kind::COUNT],
        /// Parsed but not accepted.
        rejected: Rejects,
        /// Noticed about accepted events.
        notes: Notes,
    }
}

impl ShardCounts {
    /// Whether the block's equations hold.
    #[must_use]
    pub fn balanced(&self) -> bool {
        let accepted: u64 = self.accepted.iter().sum();
        self.taken == accepted + self.rejected.sum() + self.abandoned
            && accepted == self.routed + self.unrouted
    }
}

counters! {
    /// What one shard counts for one destination: `assigned = sent + overflow + shutdown + open`, where
    /// `open` is what its open batch holds.
    AssignCounts [5] {
        /// Events encoded for the destination.
        assigned: u64,
        /// Events in batches handed to the destination's queue.
        sent: u64,
        /// Events in batches for which the destination's queue had no room.
        overflow: u64,
        /// Events in batches that could not be handed over before the time to shut down was over.
        shutdown: u64,
        /// Events in the open batch (a level, not a counter).
        open: u64,
    }
}

impl AssignCounts {
    /// Whether the block's equation holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.assigned == self.sent + self.overflow + self.shutdown + self.open
    }
}

counters! {
    /// What the delivering side counts for one destination:
    /// `taken + found = delivered + held + spooled + Σ lost`.
    DeliverCounts [11 + SpoolMark::LEN + LossReason::COUNT] {
        /// Events in batches taken from the destination's queue.
        taken: u64,
        /// Events that an earlier run had left: in the spool, or lost without a count.
        found: u64,
        /// 1 once what an earlier run had left is counted in here: when the spool is open.
        settled: u64,
        /// How far the spool is.
        spool: SpoolMark,
        /// Events acknowledged by the destination.
        delivered: u64,
        /// Events held in memory only (a level, not a counter).
        held: u64,
        /// Events on disk, whether they are being sent or not (a level, not a counter).
        spooled: u64,
        /// Bytes on disk (a level, not a counter).
        spool_bytes: u64,
        /// Batches acknowledged.
        batches: u64,
        /// Sends tried again.
        retries: u64,
        /// Receive time of the oldest event held or on disk, in ns since 1970; 0 when there is none.
        oldest_ns: u64,
        /// Bytes sent, after compression.
        bytes: u64,
        /// Events that will not be delivered.
        lost: Losses,
    }
}

impl SpoolMark {
    /// Number of cells.
    const LEN: usize = 4;
}

impl Cells for SpoolMark {
    fn write(&self, cells: &mut [u64]) -> usize {
        [self.folder, self.next, self.full, self.expired].write(cells)
    }
    fn read(&mut self, cells: &[u64]) -> usize {
        let mut parts = [0; Self::LEN];
        let read = parts.read(cells);
        [self.folder, self.next, self.full, self.expired] = parts;
        read
    }
    fn accumulate(&mut self, other: Self) {
        self.folder += other.folder;
        self.next += other.next;
        self.full += other.full;
        self.expired += other.expired;
    }
}

impl DeliverCounts {
    /// Whether the block's equation holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.taken + self.found == self.delivered + self.held + self.spooled + self.lost.sum()
    }
}

/// A block of one type of counters.
macro_rules! typed_block {
    ($(#[$doc:meta])* $block:ident($counts:ident)) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $block(Block<{ $counts::LEN }>);

        impl $block {
            /// Publishes the counters; in debug builds the block's equation is asserted.
            pub fn publish(&self, counts: &$counts) {
                debug_assert!(counts.balanced(), "ledger out of balance: {counts:?}");
                self.0.publish(&counts.to_cells());
            }

            /// The counters of the last publication.
            #[must_use]
            pub fn read(&self) -> $counts {
                $counts::from_cells(&self.0.read())
            }
        }
    };
}

typed_block! {
    /// Published by a receiver, one per listener.
    ReceiveBlock(ReceiveCounts)
}
typed_block! {
    /// Published by a shard, one per listener.
    ShardBlock(ShardCounts)
}
typed_block! {
    /// Published by a shard, one per destination.
    AssignBlock(AssignCounts)
}
typed_block! {
    /// Published by the deliver thread, one per destination.
    DeliverBlock(DeliverCounts)
}

/// The last error of a destination, for people.
#[derive(Debug, Default)]
pub struct LastError(Mutex<Option<String>>);

impl LastError {
    /// Replaces the text. `None` when the destination works again.
    pub fn set(&self, text: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One destination's part of the ledger.
#[derive(Debug)]
pub struct DestinationLedger {
    /// `influxdb`, `ndjson`, …
    pub name: String,
    /// One block per shard.
    pub assigned: Vec<AssignBlock>,
    /// The delivering side.
    pub delivered: DeliverBlock,
    /// What the run before this one had left. It is counted by who delivers.
    pub left: OnceLock<Left>,
    /// Why it does not work at the moment.
    pub last_error: LastError,
    /// Attempts that failed, and refused events, since somebody took them.
    pub failures: Failures,
}

impl DestinationLedger {
    fn new(name: &str, shards: usize) -> Self {
        Self {
            name: name.to_owned(),
            assigned: (0..shards).map(|_| AssignBlock::default()).collect(),
            delivered: DeliverBlock::default(),
            left: OnceLock::new(),
            last_error: LastError::default(),
            failures: Failures::default(),
        }
    }
}

/// All blocks of one engine.
#[derive(Debug)]
pub struct Ledger {
    /// Per receiver, per listener.
    pub receivers: Vec<[ReceiveBlock; Listener::COUNT]>,
    /// Per shard, per listener.
    pub shards: Vec<[ShardBlock; Listener::COUNT]>,
    /// Datagrams that were queued when the run before this one ended, per listener.
    pub crashed: [AtomicU64; Listener::COUNT],
    /// Per destination.
    pub destinations: Vec<Arc<DestinationLedger>>,
    /// Ringside's own points, per destination that gets them: not one of them is an event, so they
    /// are not mixed with events.
    pub own_points: Vec<Arc<DestinationLedger>>,
}

impl Ledger {
    /// A ledger of zeros.
    #[must_use]
    pub fn new(receivers: usize, shards: usize, destinations: &[String]) -> Self {
        Self {
            receivers: (0..receivers)
                .map(|_| array::from_fn(|_| ReceiveBlock::default()))
                .collect(),
            shards: (0..shards).map(|_| array::from_fn(|_| ShardBlock::default())).collect(),
            crashed: Default::default(),
            destinations: destinations
                .iter()
                .map(|name| Arc::new(DestinationLedger::new(name, shards)))
                .collect(),
            own_points: Vec::new(),
        }
    }

    /// Also accounts for own points to the destination `name`.
    #[must_use]
    pub fn with_own_points(mut self, name: &str) -> Self {
        // They come from one place, as if from one shard.
        self.own_points.push(Arc::new(DestinationLedger::new(name, 1)));
        self
    }

    /// The ledger now, read downstream first.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let read = |destinations: &[Arc<DestinationLedger>]| {
            destinations.iter().map(|d| DestinationSnapshot::read(d)).collect()
        };
        let (destinations, own_points) = (read(&self.destinations), read(&self.own_points));
        let listeners = Listener::ALL.map(|listener| {
            let mut shard = ShardCounts::default();
            for block in &self.shards {
                shard += block[listener as usize].read();
            }
            let mut receive = ReceiveCounts::default();
            for block in &self.receivers {
                receive += block[listener as usize].read();
            }
            let crashed = self.crashed[listener as usize].load(Ordering::Relaxed);
            receive.received += crashed;
            receive.dropped.add(DropReason::Crash, crashed);
            ListenerSnapshot::new(receive, shard)
        });
        Snapshot { listeners, destinations, own_points }
    }
}

/// One listener's part of a [`Snapshot`].
#[derive(Clone, Debug, Serialize)]
pub struct ListenerSnapshot {
    /// Datagrams that the kernel handed over.
    pub received: u64,
    /// Handed to shards and not yet read.
    pub queued: u64,
    /// Read.
    pub parsed: u64,
    /// Read and wanted.
    pub accepted: u64,
    /// Accepted and assigned to at least one destination.
    pub routed: u64,
    /// Accepted, and no destination wants it.
    pub unrouted: u64,
    /// Dropped unread.
    pub dropped: Drops,
    /// Read and not accepted.
    pub rejected: Rejects,
    /// Noticed.
    pub notes: Notes,
    /// Events that seem to be lost before they reached a shard; no part of the equations.
    #[serde(skip)]
    pub upstream_lost: u64,
    /// The highest estimates of all shards together; never falls.
    #[serde(skip)]
    pub upstream_lost_peak: u64,
    /// Accepted events per [`Kind`], in the order of [`Kind::ALL`].
    #[serde(skip)]
    pub accepted_by_kind: [u64; Kind::COUNT],
}

impl ListenerSnapshot {
    fn new(receive: ReceiveCounts, shard: ShardCounts) -> Self {
        let accepted = shard.accepted.iter().sum();
        let mut dropped = receive.dropped;
        dropped.add(DropReason::Shutdown, shard.abandoned);
        let mut notes = shard.notes;
        notes.add(Note::ClockSteps, receive.clock_steps);
        Self {
            received: receive.received,
            queued: receive.handed - shard.taken,
            parsed: accepted + shard.rejected.sum(),
            accepted,
            routed: shard.routed,
            unrouted: shard.unrouted,
            dropped,
            rejected: shard.rejected,
            notes,
            upstream_lost: shard.upstream_lost,
            upstream_lost_peak: shard.upstream_lost_peak,
            accepted_by_kind: shard.accepted,
        }
    }

    /// Whether the listener's equations hold.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.received == self.queued + self.parsed + self.dropped.sum()
            && self.parsed == self.accepted + self.rejected.sum()
            && self.accepted == self.routed + self.unrouted
    }
}

/// One destination's part of a [`Snapshot`].
#[derive(Clone, Debug)]
pub struct DestinationSnapshot {
    /// Its name.
    pub name: String,
    /// Events encoded for it, and those that an earlier run had left.
    pub assigned: u64,
    /// Events on their way in memory: open batches, queue, requests.
    pub in_flight: u64,
    /// Events that will not be delivered.
    pub dropped: Losses,
    /// What the run before had left, as long as it is not counted in here.
    pub left: Option<Left>,
    /// Everything else.
    pub counts: DeliverCounts,
    /// Why it does not work at the moment.
    pub last_error: Option<String>,
}

impl DestinationSnapshot {
    fn read(destination: &DestinationLedger) -> Self {
        let counts = destination.delivered.read();
        let mut assign = AssignCounts::default();
        for block in &destination.assigned {
            assign += block.read();
        }
        let mut dropped = counts.lost;
        dropped.add(LossReason::Overflow, assign.overflow);
        dropped.add(LossReason::Shutdown, assign.shutdown);
        Self {
            name: destination.name.clone(),
            assigned: assign.assigned + counts.found,
            // What the shards hold open, what waits in the queue, and what is held for sending.
            in_flight: assign.open + (assign.sent - counts.taken) + counts.held,
            dropped,
            left: destination.left.get().filter(|_| counts.settled == 0).copied(),
            counts,
            last_error: destination.last_error.get(),
        }
    }

    /// Whether the destination's equation holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.assigned
            == self.counts.delivered + self.in_flight + self.counts.spooled + self.dropped.sum()
    }
}

/// The whole ledger at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Per listener, in the order of [`Listener::ALL`].
    pub listeners: [ListenerSnapshot; Listener::COUNT],
    /// Per destination.
    pub destinations: Vec<DestinationSnapshot>,
    /// Ringside's own points, in points.
    pub own_points: Vec<DestinationSnapshot>,
}

impl Snapshot {
    /// Whether all equations hold.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.listeners.iter().all(ListenerSnapshot::balanced)
            && self.destinations.iter().all(DestinationSnapshot::balanced)
            && self.own_points.iter().all(DestinationSnapshot::balanced)
    }

    /// Whether anything was given up because the time to shut down was over.
    #[must_use]
    pub fn lost_by_shutdown(&self) -> bool {
        self.listeners.iter().any(|l| l.dropped.get(DropReason::Shutdown) > 0)
            || self.destinations.iter().any(|d| d.dropped.get(LossReason::Shutdown) > 0)
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.listeners.iter().all(|l| l.queued == 0)
            && self.destinations.iter().all(|d| d.in_flight == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_and_back() {
        let mut counts = ShardCounts { taken: 7, routed: 3, unrouted: 1, ..Default::default() };
        counts.accepted[Kind::QixPerf as usize] = 4;
        counts.rejected.add(RejectReason::Filter, 3);
        assert!(counts.balanced());
        assert_eq!(ShardCounts::from_cells(&counts.to_cells()), counts);
    }

    #[test]
    fn a_snapshot_balances() {
        let ledger = Ledger::new(1, 1, &["ndjson".into()]);
        let mut receive = ReceiveCounts { received: 10, handed: 9, ..Default::default() };
        receive.dropped.add(DropReason::Size, 1);
        ledger.receivers[0][0].publish(&receive);
        let mut shard = ShardCounts { taken: 5, routed: 4, ..Default::default() };
        shard.accepted[0] = 4;
        shard.rejected.add(RejectReason::Empty, 1);
        ledger.shards[0][0].publish(&shard);
        let snapshot = ledger.snapshot();
        assert!(snapshot.balanced());
        assert_eq!(snapshot.listeners[0].queued, 4);
        assert!(!snapshot.at_rest());
    }
}
