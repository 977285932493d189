//! From the socket to leases: the only room that talks to the kernel's receive path, and, but for one
//! file of vector instructions, the only one with `unsafe` code.
//!
//! # Envelope
//!
//! A large cluster sends some thousand datagrams a second and a storm of errors some hundred
//! thousand. At 300 000/s the kernel's part costs about 0.7 µs per datagram when datagrams are
//! gathered for up to 500 µs, and twice that when each arrival wakes the receiver; what this room adds
//! stays under 40 ns: one clock read, one ledger update and at most one wake-up per shard for a
//! *batch*, and one copy of 40 bytes per datagram into the lease ring. The payload is never copied.
//!
//! # Parts
//!
//! * [`start()`] binds the sockets, chooses the backend and makes everything that the threads need;
//!   each [`Receiver`] then runs on a thread of its own.
//! * The backend fills slots of the receiver's pool: `io_uring`, or recvmmsg inside tokio's readiness,
//!   or tokio's `recv_from` where there is no Linux.
//! * The intake, the same for all backends, admits or drops each datagram, stamps it, counts it and
//!   hands it to the shard of its source as a [`Lease`].
//! * The [`Handle`] stops the receivers and answers questions about them from any thread.

#![allow(
    unsafe_code,
    reason = "memory shared with the kernel, and system calls without a safe wrapper"
)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "what the portable backend does not need of what all share")
)]

mod admission;
mod clock;
mod gate;
mod handoff;
pub mod inspect;
mod intake;
mod mapping;
mod pace;
mod passed;
mod pressure;
mod settings;
mod slots;
mod socket;
mod sources;
mod start;
mod wake;

#[cfg(target_os = "linux")]
mod bufring;
#[cfg(target_os = "linux")]
mod completion;
#[cfg(target_os = "linux")]
mod recvmmsg;
#[cfg(target_os = "linux")]
mod steer;
// Compiled on Linux too for its test.
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
#[cfg(target_os = "linux")]
mod uring;

#[cfg(target_os = "linux")]
#[doc(hidden)]
pub use completion::read_completion;
pub use gate::Gate;
pub use handoff::ShardEnd;
pub use intake::Inline;
pub use passed::Passed;
pub use pressure::{Notice, PressureWatch};
pub use settings::{
    BackendChoice, BackendKind, FeatureMask, ListenerSettings, ReceiveError, Settings, Shards,
};
pub use slots::{Lease, SLOTS_MAX, SLOTS_MIN};
pub use sources::Sources;
pub use start::{Handle, Receiver, Receivers, RingStats, ShardInput, start};
pub use wake::{Sleeper, Waker};

/// What [`wake`] is built on; its loom test puts loom's primitives in the place of these.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
    pub(super) use std::sync::{Arc, Mutex, PoisonError};
    pub(super) use std::thread;
    pub(super) use std::time::Duration;

    pub(super) fn park(timeout: Option<Duration>) {
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }
}
