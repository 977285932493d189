//! The ring through which slots are lent to the kernel (`IORING_REGISTER_PBUF_RING`, Linux 5.19).
//!
//! The ring is memory that this thread writes and the kernel reads. What has to be kept:
//!
//! * the tail lies in the reserved field of entry 0, so entries are written field by field and that
//!   field is never among them;
//! * entries are filled first, then the tail is stored once, with release;
//! * no references into the memory: raw pointers only;
//! * the memory outlives the registration (see [`run`](super::uring::run) for the order);
//! * only the thread that owns the `io_uring` touches the tail: the type is not `Send`.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;

use super::mapping::Mapping;
use super::slots::Slots;

/// The one buffer group of a receiver's `io_uring`.
pub(super) const GROUP: u16 = 0;

/// `struct io_uring_buf`.
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    bid: u16,
    /// In entry 0 the kernel reads the tail here; never written as part of an entry.
    tail: u16,
}

/// A ring of provided buffers.
#[derive(Debug)]
pub(super) struct BufRing {
    memory: Mapping,
    /// A power of two.
    entries: u16,
    tail: u16,
    /// Buffers that the kernel has or will have with the next [`publish`](Self::publish).
    posted: u16,
    not_send: PhantomData<*const Entry>,
}

impl BufRing {
    /// A ring without buffers.
    pub(super) fn new(entries: u16) -> io::Result<Self> {
        assert!(
            entries.is_power_of_two() && entries <= 1 << 15,
            "{entries}: not what a ring takes"
        );
        let memory = Mapping::new(usize::from(entries) * size_of::<Entry>())?;
        Ok(Self { memory, entries, tail: 0, posted: 0, not_send: PhantomData })
    }

    /// Makes it the buffer group of an `io_uring`.
    ///
    /// # Safety
    /// The ring must be unregistered, or the `io_uring` closed, before `self` is dropped.
    pub(super) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let start = self.memory.start().as_ptr().expose_provenance() as u64;
        // SAFETY: the address is that of `entries` zeroed entries, page-aligned; the caller keeps
        // them alive for as long as they are registered.
        unsafe { submitter.register_buf_ring_with_flags(start, self.entries, GROUP, 0) }
    }

    /// Entry 0; a mapping starts at a page, so it is aligned.
    fn first(&self) -> *mut Entry {
        self.memory.start().as_ptr().cast()
    }

    /// Buffers the kernel has.
    pub(super) fn posted(&self) -> u16 {
        self.posted
    }

    /// Whether it has as many as it can hold.
    pub(super) fn is_full(&self) -> bool {
        self.posted == self.entries
    }

    /// Adds a slot; the kernel sees it after [`publish`](Self::publish).
    ///
    /// # Safety
    /// Until the kernel has answered with the slot's number, or the ring was unregistered, the slot
    /// is the kernel's to write: it must have been taken from the pool, and the pool must live.
    pub(super) unsafe fn push(&mut self, slots: &Slots, slot: u16) {
        assert!(!self.is_full(), "more buffers than entries");
        let index = usize::from(self.tail & (self.entries - 1));
        // A slot is at most 65 KiB.
        let len = u32::try_from(slots.slot_size()).unwrap_or(u32::MAX);
        // SAFETY: the index is below `entries`, so the entry lies within the mapping, which is
        // page-aligned. The kernel does not read the entry before the tail says so. The tail field is
        // not written, which matters for entry 0.
        unsafe {
            let entry = self.first().add(index);
            (&raw mut (*entry).addr).write(slots.start_of(slot).expose_provenance() as u64);
            (&raw mut (*entry).len).write(len);
            (&raw mut (*entry).bid).write(slot);
        }
        self.tail = self.tail.wrapping_add(1);
        self.posted += 1;
    }

    /// Shows the kernel what was pushed.
    pub(super) fn publish(&mut self) {
        let first = self.first();
        // SAFETY: the field lies within the mapping, is aligned, and is only ever accessed here and
        // by the kernel, atomically by both.
        let tail = unsafe { AtomicU16::from_ptr(&raw mut (*first).tail) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The kernel has answered with one of the buffers.
    pub(super) fn taken(&mut self) {
        debug_assert!(self.posted > 0, "the kernel used a buffer that it did not have");
        self.posted = self.posted.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::slots::{Pool, SLOTS_MIN};

    fn raw(ring: &BufRing, index: usize) -> Entry {
        // SAFETY: the ring is not registered, so nobody else touches its memory.
        unsafe { ring.first().add(index).read() }
    }

    #[test]
    fn the_tail_survives_entry_zero() {
        let mut pool = Pool::new(SLOTS_MIN, 1000).expect("mapping");
        let mut ring = BufRing::new(4).expect("mapping");
        for round in 1..=3_u16 {
            for _ in 0..4 {
                let slot = pool.take().expect("slot");
                // SAFETY: the ring is not registered: no kernel writes to the slot.
                unsafe { ring.push(pool.slots(), slot) };
                let entry = raw(&ring, usize::from(ring.tail.wrapping_sub(1) & 3));
                assert_eq!((entry.bid, entry.len as usize), (slot, pool.slots().slot_size()));
                assert_eq!(
                    raw(&ring, 0).tail,
                    (round - 1) * 4,
                    "published too early or overwritten"
                );
                pool.recycle(slot, 0);
            }
            assert!(ring.is_full());
            ring.publish();
            assert_eq!(raw(&ring, 0).tail, round * 4);
            for _ in 0..4 {
                ring.taken();
            }
        }
    }
}
