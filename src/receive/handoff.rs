//! Pending: lease and return rings between one receiver and one shard, and the shard's wake flag.

use super::slots::Lease;
use std::time::Duration;

/// The shard's end of the rings to one receiver.
#[derive(Debug)]
pub struct ShardEnd {}

impl ShardEnd {
    /// The next lease.
    pub fn take(&mut self) -> Option<Lease> {
        todo!()
    }

    /// The bytes of a lease's datagram.
    #[must_use]
    pub fn payload(&self, lease: &Lease) -> &[u8] {
        let _ = lease;
        todo!()
    }

    /// Gives the slot back to the receiver.
    pub fn give_back(&mut self, lease: Lease) {
        let _ = lease;
        todo!()
    }

    /// Whether the receiver is gone for good and every lease has been taken.
    #[must_use]
    pub fn finished(&self) -> bool {
        todo!()
    }
}

/// How a shard sleeps: until a receiver has handed over something, or a deadline.
#[derive(Debug)]
pub struct Sleeper {}

impl Sleeper {
    /// Sleeps unless `ready` says there is work; `ready` is asked again after the flag is up, so no
    /// wake-up is lost.
    pub fn sleep(&self, timeout: Option<Duration>, ready: impl FnMut() -> bool) {
        let _ = (timeout, ready);
        todo!()
    }
}
