//! What happens to a datagram after a backend has put it into a slot: the same for all backends.
//!
//! Datagrams are handled in batches. Within a batch: one clock reading, one look at the other
//! receivers' queues. At its end the ledger's blocks are published first and the leases made visible
//! after, so that for every reader of the ledger at least as many datagrams were handed over as were
//! taken.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::admission::{Admission, Levels};
use super::clock::Stamps;
use super::handoff::{Handed, ReceiverEnd};
use super::pace::IDLE;
use super::slots::{PAYLOAD_MAX, Pool};
use super::socket::Bound;
use crate::event::Listener;
use crate::observe::health::Beat;
use crate::observe::ledger::{DropReason, Ledger, ReceiveCounts};

/// A datagram in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    pub(super) listener: Listener,
    pub(super) source: SocketAddr,
    /// Bytes sent.
    pub(super) len: usize,
    /// Bytes stored in the slot: fewer when the datagram was too long for it.
    pub(super) stored: usize,
}

/// The part of a receiver that all backends share.
#[derive(Debug)]
pub(super) struct Intake {
    index: usize,
    pool: Pool,
    admission: Admission,
    stamps: Stamps,
    /// Per shard.
    ends: Vec<ReceiverEnd>,
    counts: [ReceiveCounts; Listener::COUNT],
    /// Datagrams in the batch so far.
    batch: usize,
    /// The longest wait for datagrams.
    idle: Duration,
    ledger: Arc<Ledger>,
    levels: Arc<Levels>,
    beat: Beat,
}

/// A shard on a receiver's own thread.
pub trait Inline {
    /// Takes every lease that has been handed over, and does whatever else is due. Answers how long
    /// it can wait to be called again if nothing arrives.
    fn turn(&mut self) -> Duration;
}

/// What an [`Intake`] is made from.
#[derive(Debug)]
pub(super) struct IntakeParts {
    pub(super) index: usize,
    pub(super) pool: Pool,
    pub(super) admission: Admission,
    pub(super) stamps: Stamps,
    pub(super) ends: Vec<ReceiverEnd>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) levels: Arc<Levels>,
}

impl Intake {
    pub(super) fn new(parts: IntakeParts) -> Self {
        let IntakeParts { index, pool, admission, stamps, ends, ledger, levels } = parts;
        Self {
            index,
            pool,
            admission,
            stamps,
            ends,
            // The first publication must not take back what an earlier one has counted.
            counts: Listener::ALL.map(|listener| ledger.receivers[index][listener as usize].read()),
            batch: 0,
            idle: IDLE,
            ledger,
            levels,
            beat: Beat::default(),
        }
    }

    /// Lets a test run the pool dry.
    #[cfg(test)]
    pub(super) fn hold_nothing_back(&mut self) {
        self.admission.hold_nothing_back();
    }

    /// Says where each turn is to be reported.
    pub(super) fn beat_with(&mut self, beat: Beat) {
        self.beat = beat;
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn pool_mut(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// To be called once per turn: beats, and takes returned slots back.
    pub(super) fn start_turn(&mut self) {
        self.beat.touch();
        self.take_back();
        self.publish_levels();
    }

    /// Whether the datagrams of a socket had better wait in it: there is little room in the pool, and
    /// more in the socket.
    pub(super) fn holds(&self, bound: &Bound) -> bool {
        self.admission.is_short(bound.listener, &self.pool) && !bound.is_filling()
    }

    /// How many datagrams admission would not refuse for want of room.
    pub(super) fn room(&mut self) -> usize {
        self.admission.look_at_others(&self.levels);
        self.admission.room(&self.pool)
    }

    /// Admits or drops the datagram that was put into a slot; either way the slot is taken care of.
    pub(super) fn admit(&mut self, slot: u16, datagram: &Datagram) {
        if self.batch == 0 {
            self.start_batch();
        }
        self.batch += 1;
        let Datagram { listener, source, len, stored } = *datagram;
        debug_assert!(stored <= len && len <= PAYLOAD_MAX, "{datagram:?}");
        let counts = &mut self.counts[listener as usize];
        counts.received += 1;
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        if let Err(reason) = self.admission.judge(listener, source.ip(), len, &self.pool) {
            counts.dropped.add(reason, 1);
            self.pool.recycle(slot, stored);
            return;
        }
        // A slot has room for the longest datagram that is admitted.
        debug_assert_eq!(stored, len, "an admitted datagram is whole");
        counts.handed += 1;
        self.pool.lease(slot, listener, stored);
        let shard = shard_of(source.ip(), self.ends.len());
        self.ends[shard].stage(Handed {
            source,
            received_ns: self.stamps.next(),
            // At most 65 527.
            len: u32::try_from(stored).unwrap_or(u32::MAX),
            slot,
            listener,
        });
    }

    /// Drops the datagram in a slot unread, because the time to shut down has passed.
    pub(super) fn abandon(&mut self, slot: u16, datagram: &Datagram) {
        self.batch += 1;
        let counts = &mut self.counts[datagram.listener as usize];
        counts.received += 1;
        counts.dropped.add(DropReason::Shutdown, 1);
        self.pool.recycle(slot, datagram.stored);
    }

    /// The longest that a backend waits for datagrams.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// Ends a turn: counts the batch and hands it over, then lets the shard of this thread have its
    /// turn. Answers how many datagrams the batch had.
    pub(super) fn end_turn(&mut self, inline: &mut dyn Inline) -> usize {
        let received = self.publish();
        self.idle = inline.turn().min(IDLE);
        // An inline shard has returned every slot by now, and they are still in the cache.
        self.take_back();
        received
    }

    fn take_back(&mut self) {
        for end in &mut self.ends {
            end.take_back(&mut self.pool);
        }
    }

    fn publish(&mut self) -> usize {
        let batch = std::mem::take(&mut self.batch);
        if batch > 0 {
            for (block, counts) in self.ledger.receivers[self.index].iter().zip(&self.counts) {
                block.publish(counts);
            }
            self.ends.iter_mut().for_each(ReceiverEnd::hand_over);
            self.publish_levels();
        }
        batch
    }

    fn start_batch(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if let Some(step) = self.stamps.start_batch(now) {
            tracing::warn!(
                "the system clock stepped back by {} ms; event times follow it",
                step / 1_000_000
            );
            // A clock belongs to no listener: it is counted with the first.
            self.counts[0].clock_steps += 1;
        }
        self.admission.start_batch(&self.levels, now);
    }

    fn publish_levels(&self) {
        for listener in Listener::ALL {
            self.levels.set(self.index, listener, self.pool.leased(listener));
        }
    }
}

impl Drop for Intake {
    /// Nobody takes this receiver's slots back any more: they must not keep others waiting for room.
    fn drop(&mut self) {
        for listener in Listener::ALL {
            self.levels.set(self.index, listener, 0);
        }
    }
}

/// The shard of a source: all its datagrams go there, whatever their port, so they stay in order.
fn shard_of(source: IpAddr, shards: usize) -> usize {
    // Fibonacci hashing: the upper half of a product with 2^64 / φ.
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let word = match source {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let [high, low] = [v6.to_bits() >> 64, v6.to_bits() & u128::from(u64::MAX)]
                .map(|half| u64::try_from(half).unwrap_or_default());
            high.rotate_left(29) ^ low
        }
    };
    let hash = word.wrapping_mul(MULTIPLIER) >> 32;
    // Scales 0..2^32 to 0..shards; the quotient is below `shards`.
    usize::try_from((hash * shards as u64) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn neighbouring_sources_spread_over_shards() {
        for shards in 1..=8 {
            let mut counts = vec![0_usize; shards];
            for host in 0..=255 {
                counts[shard_of(Ipv4Addr::new(10, 0, 0, host).into(), shards)] += 1;
            }
            let fair = 256 / shards;
            assert!(counts.iter().all(|n| *n > fair / 2 && *n < fair * 2), "{counts:?}");
        }
    }

    #[test]
    fn both_halves_of_an_ipv6_address_count() {
        let shard = |segments: [u16; 8]| shard_of(Ipv6Addr::from(segments).into(), 1 << 16);
        let shards = [
            shard([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
            shard([0xfd00, 0, 0, 0, 0, 0, 0, 2]),
            shard([0xfd00, 0, 0, 1, 0, 0, 0, 1]),
        ];
        assert!(shards[0] != shards[1] && shards[1] != shards[2] && shards[0] != shards[2]);
    }
}
