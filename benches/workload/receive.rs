//! The pool and the rings between a receiver and a shard, without sockets, and other ways to get a
//! datagram from one to the other. All of them here on one thread: what is measured is the work, not
//! the way of a cache line between cores.
//!
//! The sources are compiled here by path, as `tests/loom.rs` does, because nobody but a receiver may
//! make leases: the library shows none of this.

#![allow(dead_code, unused_imports, reason = "the sources hold more than is measured")]
#![allow(clippy::pedantic, reason = "the sources are checked where they belong")]

#[path = "../../src/receive/handoff.rs"]
mod handoff;
#[path = "../../src/receive/mapping.rs"]
mod mapping;
#[path = "../../src/receive/slots.rs"]
mod slots;
#[path = "../../src/receive/wake.rs"]
mod wake;

mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
    pub(super) use std::sync::{Arc, Mutex, PoisonError};
    pub(super) use std::thread;
    pub(super) use std::time::Duration;

    pub(super) fn park(timeout: Option<Duration>) {
        thread::park_timeout(timeout.unwrap_or(Duration::MAX));
    }
}

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;

use ringside::event::Listener;

use handoff::{Handed, ReceiverEnd, ShardEnd};
use slots::{PAYLOAD, Pool};
use wake::Sleeper;

/// Datagrams that one receive brings, and that are handed over together.
pub const BATCH: usize = 64;

/// A receiver's pool, with a datagram in every slot that is used.
pub struct Slots {
    pool: Pool,
    len: usize,
}

impl Slots {
    fn new(payload: &[u8]) -> Self {
        let mut pool = Pool::new(8192, 65_507).expect("memory");
        let filled: Vec<u16> = (0..BATCH).filter_map(|_| pool.take()).collect();
        for &slot in &filled {
            let start = pool.slots().start_of(slot);
            // SAFETY: the slot was taken and nobody else has it; it holds the longest datagram.
            unsafe { start.add(PAYLOAD).copy_from(payload.as_ptr(), payload.len()) };
        }
        // In this order they come out again as they did.
        filled.iter().rev().for_each(|&slot| pool.recycle(slot, payload.len()));
        Self { pool, len: payload.len() }
    }

    /// Every datagram of a batch, where the kernel put it.
    fn datagrams(&self, slot: u16) -> &[u8] {
        // SAFETY: no kernel and no other thread has this pool.
        unsafe { self.pool.slots().bytes(slot, PAYLOAD, self.len) }
    }
}

/// The pool alone: slots are taken, leased and given back.
pub struct Book {
    slots: Slots,
    out: Vec<u16>,
}

impl Book {
    pub fn new(payload: &[u8]) -> Self {
        Self { slots: Slots::new(payload), out: Vec::with_capacity(BATCH) }
    }

    /// One batch.
    pub fn turn(&mut self) {
        let pool = &mut self.slots.pool;
        self.out.extend((0..BATCH).filter_map(|_| pool.take()));
        for &slot in &self.out {
            pool.lease(slot, Listener::LogEvents, self.slots.len);
        }
        self.out.drain(..).rev().for_each(|slot| pool.take_back(slot));
    }
}

/// What the engine does: leases through a ring, slots back through another.
pub struct Leases {
    slots: Slots,
    receiver: ReceiverEnd,
    shard: ShardEnd,
    source: SocketAddr,
}

impl Leases {
    pub fn new(payload: &[u8]) -> Self {
        let slots = Slots::new(payload);
        let (receiver, shard) = handoff::rings(&slots.pool, Sleeper::default().waker());
        Self { slots, receiver, shard, source: (Ipv4Addr::LOCALHOST, 40_000).into() }
    }

    /// One batch: every datagram is leased, handed over, read and given back.
    pub fn turn(&mut self, mut read: impl FnMut(&[u8])) {
        let Slots { pool, len } = &mut self.slots;
        for received_ns in 0..BATCH as u64 {
            let slot = pool.take().expect("a slot");
            pool.lease(slot, Listener::LogEvents, *len);
            self.receiver.stage(Handed {
                source: self.source,
                received_ns,
                len: *len as u32,
                slot,
                listener: Listener::LogEvents,
            });
        }
        self.receiver.hand_over();
        while let Some(lease) = self.shard.take() {
            read(self.shard.payload(&lease).bytes());
            self.shard.give_back(lease);
        }
        self.receiver.take_back(pool);
    }
}

/// The same without a ring: the receiver reads, and the slot is free again.
pub struct Inline(Slots);

impl Inline {
    pub fn new(payload: &[u8]) -> Self {
        Self(Slots::new(payload))
    }

    /// One batch.
    pub fn turn(&mut self, mut read: impl FnMut(&[u8])) {
        for _ in 0..BATCH {
            let slot = self.0.pool.take().expect("a slot");
            read(self.0.datagrams(slot));
            self.0.pool.recycle(slot, self.0.len);
        }
    }
}

/// One datagram in a [`Chunk`].
struct Copied {
    source: SocketAddr,
    received_ns: u64,
    end: usize,
}

/// Datagrams copied one behind the other.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    datagrams: Vec<Copied>,
}

/// Datagrams copied into a chunk per shard; chunks travel through rings and back.
pub struct Copies {
    slots: Slots,
    full: (rtrb::Producer<Chunk>, rtrb::Consumer<Chunk>),
    empty: (rtrb::Producer<Chunk>, rtrb::Consumer<Chunk>),
    source: SocketAddr,
}

impl Copies {
    pub fn new(payload: &[u8]) -> Self {
        let mut empty = rtrb::RingBuffer::new(4);
        assert!(empty.0.push(Chunk::default()).is_ok());
        let source = (Ipv4Addr::LOCALHOST, 40_000).into();
        Self { slots: Slots::new(payload), full: rtrb::RingBuffer::new(4), empty, source }
    }

    /// One batch.
    pub fn turn(&mut self, mut read: impl FnMut(&[u8])) {
        let mut chunk = self.empty.1.pop().expect("an empty chunk");
        for received_ns in 0..BATCH as u64 {
            let slot = self.slots.pool.take().expect("a slot");
            chunk.bytes.extend_from_slice(self.slots.datagrams(slot));
            let end = chunk.bytes.len();
            chunk.datagrams.push(Copied { source: self.source, received_ns, end });
            self.slots.pool.recycle(slot, self.slots.len);
        }
        assert!(self.full.0.push(chunk).is_ok());
        let mut chunk = self.full.1.pop().expect("a full chunk");
        let mut start = 0;
        for datagram in &chunk.datagrams {
            read(&chunk.bytes[start..datagram.end]);
            start = datagram.end;
        }
        chunk.bytes.clear();
        chunk.datagrams.clear();
        assert!(self.empty.0.push(chunk).is_ok());
    }
}

/// What one would write first: each datagram in a vector of its own, through a channel of the standard
/// library.
pub struct Channel {
    slots: Slots,
    sender: mpsc::Sender<(SocketAddr, u64, Vec<u8>)>,
    receiver: mpsc::Receiver<(SocketAddr, u64, Vec<u8>)>,
    source: SocketAddr,
}

impl Channel {
    pub fn new(payload: &[u8]) -> Self {
        let (sender, receiver) = mpsc::channel();
        let source = (Ipv4Addr::LOCALHOST, 40_000).into();
        Self { slots: Slots::new(payload), sender, receiver, source }
    }

    /// One batch.
    pub fn turn(&mut self, mut read: impl FnMut(&[u8])) {
        for received_ns in 0..BATCH as u64 {
            let slot = self.slots.pool.take().expect("a slot");
            let copy = self.slots.datagrams(slot).to_vec();
            self.sender.send((self.source, received_ns, copy)).expect("a receiver");
            self.slots.pool.recycle(slot, self.slots.len);
        }
        while let Ok((_, _, payload)) = self.receiver.try_recv() {
            read(&payload);
        }
    }
}
