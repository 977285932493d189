//! How a shard sleeps and how receivers wake it, without losing a wake-up and without spinning.
//!
//! A receiver publishes its leases, then asks whether the shard sleeps. A shard says that it
//! sleeps, then asks whether there are leases. Each puts a sequentially consistent fence between its
//! write and its read, so at least one of the two sees the other (Dekker's pattern): either the
//! shard finds the leases, or the receiver finds the shard asleep. Waking costs a system call only
//! when the shard really sleeps.
//!
//! `tests/loom.rs` compiles this very file against loom's primitives and explores its interleavings;
//! that is why it takes everything from `super::sync`.

use super::sync::thread::{self, Thread};
use super::sync::{Arc, AtomicBool, Duration, Mutex, Ordering, PoisonError, fence, park};

#[derive(Debug, Default)]
struct Shared {
    sleeping: AtomicBool,
    /// Locked only by a thread about to sleep and by one about to wake it.
    sleeper: Mutex<Option<Thread>>,
}

/// The side of the thread that sleeps.
#[derive(Debug, Default)]
pub struct Sleeper(Arc<Shared>);

/// Wakes the thread that sleeps on the [`Sleeper`] it was made from.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

impl Sleeper {
    /// A handle that wakes whoever sleeps here.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.0))
    }

    /// Sleeps unless `ready` says there is work; `ready` is asked after the flag is up, so no
    /// wake-up is lost. Returns when woken, after `timeout`, or for no reason at all: look again.
    pub fn sleep(&self, timeout: Option<Duration>, mut ready: impl FnMut() -> bool) {
        // A poisoned lock means that another thread panicked, which ends the process anyway; the
        // value is a plain handle and cannot be half written.
        *self.0.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        // Release: whoever sees the flag up also sees the handle.
        self.0.sleeping.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if !ready() {
            park(timeout);
        }
        self.0.sleeping.store(false, Ordering::Relaxed);
    }
}

impl Waker {
    /// Wakes the sleeper if it sleeps. To be called after the work was made visible to it.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        // The sleeper alone takes the flag down. Until it runs again it may be unparked more than
        // once, which costs a system call only the first time.
        if self.0.sleeping.load(Ordering::Acquire) {
            let sleeper = self.0.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = &*sleeper {
                thread.unpark();
            }
        }
    }
}

/// Says that no more leases will come. Set after the last one was made visible, so a reader that
/// sees it set and then finds the ring empty has seen them all.
#[derive(Clone, Debug, Default)]
pub struct Finish(Arc<AtomicBool>);

impl Finish {
    /// No more leases after those already visible.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether everything has been taken.
    #[must_use]
    pub fn and_empty(&self, ring_is_empty: impl FnOnce() -> bool) -> bool {
        // In this order: leases that were visible before the flag are seen after it.
        self.is_set() && ring_is_empty()
    }
}
