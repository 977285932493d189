//! Pending: the buffer pool.

use std::net::IpAddr;

use crate::event::Listener;

/// The right to read one slot of the pool, and the duty to give it back exactly once.
#[derive(Debug)]
#[must_use = "a lease that is not returned takes its slot out of the pool for good"]
pub struct Lease {
    /// The pool that made it.
    pub(super) pool: u32,
    /// The slot.
    pub(super) slot: u16,
    /// Bytes of payload.
    pub(super) len: u32,
    /// Who it came from.
    pub source: IpAddr,
    /// The port it arrived on.
    pub listener: Listener,
    /// Receive time, in ns since 1970; unique within a run.
    pub received_ns: u64,
}

/// The memory of one receiver's slots.
#[derive(Debug)]
pub struct Slots {}
