//! Lease and return rings between one receiver and one shard.
//!
//! Both are single-producer, single-consumer rings (rtrb) with room for every slot of the pool.
//! Each entry of either ring stands for a different slot, so neither push can fail: the receiver
//! never waits for a shard, a shard never waits for the receiver, and no cycle can deadlock.
//!
//! Leases travel as plain copies and become a [`Lease`] when a shard takes them, so a ring that is
//! dropped with entries in it drops no lease.

use std::net::SocketAddr;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::slots::{Lease, Pool, Slots};
use super::wake::{Finish, Waker};
use crate::event::{Listener, Payload};

/// A lease on its way to a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    pub(super) source: SocketAddr,
    pub(super) received_ns: u64,
    pub(super) len: u32,
    pub(super) slot: u16,
    pub(super) listener: Listener,
}

/// The receiver's end of the rings to one shard.
#[derive(Debug)]
pub(super) struct ReceiverEnd {
    leases: Producer<Handed>,
    returns: Consumer<u16>,
    /// This batch's leases: they become visible only after the ledger has counted them.
    staged: Vec<Handed>,
    waker: Waker,
    finish: Finish,
}

impl ReceiverEnd {
    /// Adds a lease to the batch.
    pub(super) fn stage(&mut self, handed: Handed) {
        debug_assert!(self.staged.len() < self.staged.capacity(), "more leases than slots");
        self.staged.push(handed);
    }

    /// Makes the batch visible to the shard and wakes it if it sleeps.
    pub(super) fn hand_over(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let pushed = self.leases.push_entire_slice(&self.staged);
        // The ring has room for every slot of the pool, and no slot is leased twice.
        assert!(pushed.is_ok(), "the lease ring is full");
        self.staged.clear();
        self.waker.wake();
    }

    /// Takes the returned slots back into the pool.
    pub(super) fn take_back(&mut self, pool: &mut Pool) {
        if let Ok(chunk) = self.returns.read_chunk(self.returns.slots()) {
            chunk.into_iter().for_each(|slot| pool.take_back(slot));
        }
    }
}

impl Drop for ReceiverEnd {
    /// However the receiver ends, its shard learns that nothing more will come.
    fn drop(&mut self) {
        self.finish.set();
        self.waker.wake();
    }
}

/// The shard's end of the rings to one receiver.
#[derive(Debug)]
pub struct ShardEnd {
    slots: Arc<Slots>,
    leases: Consumer<Handed>,
    returns: Producer<u16>,
    finish: Finish,
}

impl ShardEnd {
    /// The next lease.
    pub fn take(&mut self) -> Option<Lease> {
        let handed = self.leases.pop().ok()?;
        Some(Lease {
            pool: self.slots.id(),
            slot: handed.slot,
            len: handed.len,
            source: handed.source,
            listener: handed.listener,
            received_ns: handed.received_ns,
        })
    }

    /// The bytes of a lease's datagram.
    ///
    /// They cannot outlive the lease:
    ///
    /// ```compile_fail
    /// fn keep(end: &mut ringside::receive::ShardEnd) -> Option<ringside::event::Payload<'static>> {
    ///     let lease = end.take()?;
    ///     let payload = end.payload(&lease);
    ///     end.give_back(lease);
    ///     Some(payload)
    /// }
    /// ```
    ///
    /// # Panics
    /// When the lease came from another receiver.
    #[must_use]
    pub fn payload<'a>(&'a self, lease: &'a Lease) -> Payload<'a> {
        self.slots.payload(lease)
    }

    /// Gives the slot back to the receiver.
    ///
    /// # Panics
    /// When the lease came from another receiver.
    pub fn give_back(&mut self, lease: Lease) {
        assert_eq!(lease.pool, self.slots.id(), "a lease of another pool");
        let slot = lease.slot;
        // Returned here, so its drop bomb must not go off; it owns nothing else.
        std::mem::forget(lease);
        // The ring has room for every slot of the pool, and each is leased once.
        assert!(self.returns.push(slot).is_ok(), "the return ring is full");
    }

    /// Whether there are leases to take.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Whether the receiver is gone for good and every lease has been taken.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finish.and_empty(|| self.leases.is_empty())
    }
}

/// The rings between the receiver that owns `pool` and one shard.
pub(super) fn rings(pool: &Pool, waker: Waker) -> (ReceiverEnd, ShardEnd) {
    let (lease_in, lease_out) = RingBuffer::new(pool.len());
    let (return_in, return_out) = RingBuffer::new(pool.len());
    let finish = Finish::default();
    (
        ReceiverEnd {
            leases: lease_in,
            returns: return_out,
            staged: Vec::with_capacity(pool.len()),
            waker,
            finish: finish.clone(),
        },
        ShardEnd { slots: Arc::clone(pool.slots()), leases: lease_out, returns: return_in, finish },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::slots::SLOTS_MIN;
    use crate::receive::wake::Sleeper;
    use std::net::Ipv4Addr;

    fn handed(slot: u16) -> Handed {
        Handed {
            source: (Ipv4Addr::LOCALHOST, 1).into(),
            received_ns: u64::from(slot),
            len: 0,
            slot,
            listener: Listener::LogEvents,
        }
    }

    #[test]
    fn the_whole_pool_fits_both_rings() {
        let mut pool = Pool::new(SLOTS_MIN, 100).expect("mapping");
        let sleeper = Sleeper::default();
        let (mut receiver, mut shard) = rings(&pool, sleeper.waker());
        for _ in 0..5 {
            while let Some(slot) = pool.take() {
                pool.lease(slot, Listener::LogEvents, 0);
                receiver.stage(handed(slot));
            }
            assert!(!shard.has_leases(), "staged, not yet visible");
            receiver.hand_over();
            while let Some(lease) = shard.take() {
                shard.give_back(lease);
            }
            receiver.take_back(&mut pool);
            assert_eq!(pool.leased_total(), 0);
        }
    }

    #[test]
    fn finished_means_gone_and_empty() {
        let mut pool = Pool::new(SLOTS_MIN, 100).expect("mapping");
        let (mut receiver, mut shard) = rings(&pool, Sleeper::default().waker());
        let slot = pool.take().expect("slot");
        pool.lease(slot, Listener::LogEvents, 0);
        receiver.stage(handed(slot));
        receiver.hand_over();
        assert!(!shard.finished());
        drop(receiver);
        assert!(!shard.finished(), "one lease is left");
        let lease = shard.take().expect("lease");
        shard.give_back(lease);
        assert!(shard.finished());
    }

    #[test]
    #[should_panic(expected = "another pool")]
    fn a_lease_of_another_pool_is_refused() {
        let mut pool = Pool::new(SLOTS_MIN, 100).expect("mapping");
        let other = Pool::new(SLOTS_MIN, 100).expect("mapping");
        let (mut receiver, mut shard) = rings(&pool, Sleeper::default().waker());
        let (_other_receiver, other_shard) = rings(&other, Sleeper::default().waker());
        let slot = pool.take().expect("slot");
        pool.lease(slot, Listener::LogEvents, 0);
        receiver.stage(handed(slot));
        receiver.hand_over();
        let lease = shard.take().expect("lease");
        let _ = other_shard.payload(&lease);
    }

    #[test]
    #[should_panic(expected = "dropped, not returned")]
    #[cfg(debug_assertions)]
    fn a_dropped_lease_is_caught() {
        let mut pool = Pool::new(SLOTS_MIN, 100).expect("mapping");
        let (mut receiver, mut shard) = rings(&pool, Sleeper::default().waker());
        let slot = pool.take().expect("slot");
        pool.lease(slot, Listener::LogEvents, 0);
        receiver.stage(handed(slot));
        receiver.hand_over();
        drop(shard.take());
    }
}
