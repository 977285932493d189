//! The buffer pool of one receiver: slots that the kernel fills, and leases that let a shard read
//! them.
//!
//! A slot is in one place at a time:
//!
//! ```text
//! free ──take──▶ posted (the kernel may write) ──lease──▶ leased (a shard may read)
//!   ▲              │ recycle                                │ take_back
//!   └──────────────┴────────────────────────────────────────┘
//! ```
//!
//! The receiver thread alone moves slots; [`Pool`] is its book. A shard reads through [`Slots`],
//! which it shares with the receiver, and only with a [`Lease`] in hand. Leases are not `Clone` and
//! only this room makes them, so holding one proves that the kernel does not write to its slot.
//!
//! Free slots are used last in, first out, so that a quiet receiver keeps touching the same few
//! pages.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping::{Mapping, PAGE};
use crate::event::{Listener, PADDING, Payload};

/// `struct io_uring_recvmsg_out`, which the kernel writes in front of the name.
pub(super) const HEADER: usize = 16;
/// `struct sockaddr_in6`, the longer of the two names.
pub(super) const NAME: usize = 28;
/// The same, in the type that system calls take.
#[cfg(target_os = "linux")]
pub(super) const NAME_LEN: libc::socklen_t = 28;
/// Where the payload starts in every slot, whichever backend fills it.
pub(super) const PAYLOAD: usize = HEADER + NAME;
/// Longest payload of a UDP datagram, over IPv6 (65 535 less the UDP header); over IPv4 it is 65 507.
pub(super) const PAYLOAD_MAX: usize = 65_527;
/// Bytes that processors keep in their caches together, on x86-64 and nearly all others.
const CACHE_LINE: usize = 64;
/// Slots per pool at most: what the kernel takes for one ring of provided buffers.
pub const SLOTS_MAX: usize = 32_768;
/// Slots per pool at least: below, a quarter of the pool is no reserve worth its name.
pub const SLOTS_MIN: usize = 16;
/// Slots that held a datagram longer than this give their pages back: the pool would otherwise grow
/// to its full size for good after a few thousand large datagrams.
const KEEP_MAX: usize = 16 * 1024;

/// The right to read one slot of the pool, and the duty to give it back exactly once with
/// [`ShardEnd::give_back`](super::ShardEnd::give_back).
///
/// In debug builds, dropping one instead panics.
#[derive(Debug)]
#[must_use = "a lease that is not returned takes its slot out of the pool for good"]
pub struct Lease {
    pub(super) pool: u32,
    pub(super) slot: u16,
    pub(super) len: u32,
    /// Who it came from. IPv4 addresses mapped into IPv6 are given as IPv4.
    pub source: SocketAddr,
    /// The port it arrived on.
    pub listener: Listener,
    /// Receive time, in ns since 1970; unique within a run.
    pub received_ns: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        debug_assert!(
            std::thread::panicking(),
            "lease of slot {} dropped, not returned",
            self.slot
        );
    }
}

/// Bytes of a slot for datagrams up to this size.
pub(super) fn slot_size(message_size_max: usize) -> usize {
    let lines = (PAYLOAD + message_size_max.min(PAYLOAD_MAX)).div_ceil(CACHE_LINE);
    // An odd number, so that the beginnings of the slots, which is all that most datagrams fill,
    // spread over all sets of the caches: at a distance of whole pages they would share a few.
    (lines | 1) * CACHE_LINE
}

/// The memory of one receiver's slots.
#[derive(Debug)]
pub struct Slots {
    id: u32,
    memory: Mapping,
    slot_size: usize,
    count: usize,
}

impl Slots {
    fn new(count: usize, message_size_max: usize) -> io::Result<Self> {
        static NEXT_ID: AtomicU32 = AtomicU32::new(0);
        assert!((SLOTS_MIN..=SLOTS_MAX).contains(&count), "checked by receive::start");
        let slot_size = slot_size(message_size_max);
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            memory: Mapping::new(count * slot_size)?,
            slot_size,
            count,
        })
    }

    /// Tells this pool from every other of the process.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Bytes per slot.
    pub(super) fn slot_size(&self) -> usize {
        self.slot_size
    }

    /// The first byte of a slot.
    pub(super) fn start_of(&self, slot: u16) -> *mut u8 {
        assert!(usize::from(slot) < self.count, "slot {slot} of {}", self.count);
        // SAFETY: the slot is one of `count`, so the offset lies within the mapping.
        unsafe { self.memory.start().as_ptr().add(usize::from(slot) * self.slot_size) }
    }

    /// Some bytes of a slot.
    ///
    /// # Safety
    /// Neither the kernel nor another thread may write to these bytes during `'_`.
    pub(super) unsafe fn bytes(&self, slot: u16, offset: usize, len: usize) -> &[u8] {
        assert!(offset + len <= self.slot_size, "{offset} + {len} of {}", self.slot_size);
        // SAFETY: the range lies within the slot (asserted), the mapping is zeroed and lives as long
        // as `self`, and the caller promises that nobody writes.
        unsafe { std::slice::from_raw_parts(self.start_of(slot).add(offset), len) }
    }

    /// The payload that a lease stands for.
    ///
    /// Behind it the slot goes on, with what an earlier datagram has left there.
    pub(super) fn payload<'a>(&'a self, lease: &'a Lease) -> Payload<'a> {
        assert_eq!(lease.pool, self.id, "a lease of another pool");
        let len = lease.len as usize;
        let all = (len + PADDING).min(self.slot_size - PAYLOAD);
        // SAFETY: while the lease exists its slot is in state `Leased`: the kernel does not have it,
        // and the receiver does not touch it before it comes back through the return ring, which
        // consumes the lease. The slice borrows the lease, so it ends before that.
        let all = unsafe { self.bytes(lease.slot, PAYLOAD, all) };
        Payload::new(all, len)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// The kernel may write to it, or has just written to it.
    Posted,
    Leased {
        listener: Listener,
        large: bool,
    },
}

/// The receiver's book of its slots.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Arc<Slots>,
    free: Vec<u16>,
    states: Vec<State>,
    leased: [usize; Listener::COUNT],
}

impl Pool {
    /// A pool of free slots, each with room for `message_size_max` bytes.
    pub(super) fn new(count: usize, message_size_max: usize) -> io::Result<Self> {
        let slots = Arc::new(Slots::new(count, message_size_max)?);
        Ok(Self {
            slots,
            // Reversed, so that the first slots taken are the first of the mapping.
            free: (0..count).rev().filter_map(|slot| u16::try_from(slot).ok()).collect(),
            states: vec![State::Free; count],
            leased: [0; Listener::COUNT],
        })
    }

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// Number of slots.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Slots held by shards for datagrams of one listener.
    pub(super) fn leased(&self, listener: Listener) -> usize {
        self.leased[listener as usize]
    }

    /// Slots held by shards.
    pub(super) fn leased_total(&self) -> usize {
        self.leased.iter().sum()
    }

    /// A slot for the kernel to fill.
    pub(super) fn take(&mut self) -> Option<u16> {
        let slot = self.free.pop()?;
        debug_assert_eq!(self.states[usize::from(slot)], State::Free);
        self.states[usize::from(slot)] = State::Posted;
        Some(slot)
    }

    /// Whether the kernel has the slot: anything else is not a buffer that it may speak of.
    pub(super) fn is_posted(&self, slot: u16) -> bool {
        self.states.get(usize::from(slot)) == Some(&State::Posted)
    }

    /// A filled slot goes to a shard; `len` is what was stored.
    pub(super) fn lease(&mut self, slot: u16, listener: Listener, len: usize) {
        assert!(self.is_posted(slot), "leasing slot {slot}, which was not filled");
        self.states[usize::from(slot)] = State::Leased { listener, large: len > KEEP_MAX };
        self.leased[listener as usize] += 1;
    }

    /// A filled slot is not wanted; `len` is what was stored.
    pub(super) fn recycle(&mut self, slot: u16, len: usize) {
        assert!(self.is_posted(slot), "recycling slot {slot}, which was not filled");
        self.release(slot, len > KEEP_MAX);
    }

    /// Free slots.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Whether every slot is out.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes back what the kernel has, after it was made to let go of it.
    pub(super) fn reclaim(&mut self) {
        for slot in 0..self.len() {
            if self.states[slot] == State::Posted {
                // The pool has at most 2^15 slots. Their pages are of no more use.
                self.release(u16::try_from(slot).unwrap_or(u16::MAX), false);
            }
        }
    }

    /// A shard is done with a slot.
    pub(super) fn take_back(&mut self, slot: u16) {
        let State::Leased { listener, large } = self.states[usize::from(slot)] else {
            // Cannot happen while leases are made by `lease` only. In a release build the slot stays
            // where it is, which is sound.
            debug_assert!(false, "slot {slot} was returned but not leased");
            return;
        };
        self.leased[listener as usize] -= 1;
        self.release(slot, large);
    }

    fn release(&mut self, slot: u16, large: bool) {
        if large {
            let start = usize::from(slot) * self.slots.slot_size;
            let end = start + self.slots.slot_size;
            // The pages at both ends are shared with the slots before and after.
            let pages = start.next_multiple_of(PAGE)..end / PAGE * PAGE;
            // SAFETY: the slot is neither with the kernel nor leased any more, this thread alone can
            // change that, and the pages lie within it.
            unsafe { self.slots.memory.discard(pages.start, pages.len()) };
        }
        self.states[usize::from(slot)] = State::Free;
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(SLOTS_MIN, 1024).expect("a small mapping")
    }

    #[test]
    fn slots_hold_the_longest_datagram() {
        let pool = Pool::new(SLOTS_MIN, 65_507).expect("mapping");
        assert!(pool.slots().slot_size() >= PAYLOAD + 65_507);
    }

    #[test]
    fn the_slot_freed_last_is_used_first() {
        let mut pool = pool();
        let (first, second) = (pool.take().expect("slot"), pool.take().expect("slot"));
        assert_eq!((first, second), (0, 1));
        pool.recycle(second, 0);
        pool.recycle(first, 0);
        assert_eq!(pool.take(), Some(first));
    }

    #[test]
    fn every_slot_comes_back() {
        let mut pool = pool();
        for round in 0..3 {
            let taken: Vec<u16> = std::iter::from_fn(|| pool.take()).collect();
            assert_eq!(taken.len(), SLOTS_MIN);
            for slot in &taken {
                pool.lease(*slot, Listener::ALL[round % 2], 20_000);
            }
            assert_eq!(pool.leased_total(), SLOTS_MIN);
            assert_eq!(pool.leased(Listener::ALL[round % 2]), SLOTS_MIN);
            for slot in taken {
                pool.take_back(slot);
            }
            assert_eq!(pool.leased_total(), 0);
        }
    }

    #[test]
    #[should_panic(expected = "returned but not leased")]
    #[cfg(debug_assertions)]
    fn a_slot_returned_twice_is_caught() {
        let mut pool = pool();
        let slot = pool.take().expect("slot");
        pool.lease(slot, Listener::LogEvents, 1);
        pool.take_back(slot);
        pool.take_back(slot);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_of_large_datagrams_are_given_back() {
        let mut pool = Pool::new(SLOTS_MIN, 65_507).expect("mapping");
        let slot = pool.take().expect("slot");
        let (inside, shared) = (pool.slots().slot_size() / 2, pool.slots().slot_size() - 1);
        for at in [inside, shared] {
            // SAFETY: the slot was taken from the pool and given to nobody.
            unsafe { pool.slots().start_of(slot).add(at).write(7) };
        }
        pool.recycle(slot, KEEP_MAX + 1);
        // SAFETY: the slot is free.
        let byte = |at| unsafe { pool.slots().bytes(slot, at, 1) }[0];
        assert_eq!((byte(inside), byte(shared)), (0, 7));
    }
}
