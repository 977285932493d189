//! The sleep, wake, return and finish protocols under the interleavings that loom explores.
//!
//! `src/receive/wake.rs` is compiled here against loom's primitives. The rings between receiver and
//! shard are rtrb's, which has no loom hooks; a minimal ring of the same contract (one producer, one
//! consumer, release on push, acquire on pop) stands in for them. What is explored is therefore our
//! own protocol around the rings, not rtrb.

mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
    pub use loom::sync::{Arc, Mutex};
    pub use loom::thread;
    pub use std::sync::PoisonError;
    pub use std::time::Duration;

    /// loom has no time: a sleep without a wake-up is a deadlock, which is what is looked for.
    pub fn park(_timeout: Option<Duration>) {
        thread::park();
    }
}

#[path = "../src/receive/wake.rs"]
mod wake;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use wake::{Finish, Sleeper, Waker};

/// Explores every execution with up to three preemptions, which is what finds bugs of this kind
/// (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007); more take hours.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Stand-in for an rtrb ring with room for everything that is ever pushed.
#[derive(Default)]
struct Ring {
    entries: [AtomicUsize; 4],
    pushed: AtomicUsize,
    popped: AtomicUsize,
}

impl Ring {
    fn push(&self, value: usize) {
        let at = self.pushed.load(Ordering::Relaxed);
        self.entries[at].store(value, Ordering::Relaxed);
        self.pushed.store(at + 1, Ordering::Release);
    }

    fn pop(&self) -> Option<usize> {
        let at = self.popped.load(Ordering::Relaxed);
        if at == self.pushed.load(Ordering::Acquire) {
            return None;
        }
        self.popped.store(at + 1, Ordering::Relaxed);
        Some(self.entries[at].load(Ordering::Relaxed))
    }

    fn is_empty(&self) -> bool {
        self.popped.load(Ordering::Relaxed) == self.pushed.load(Ordering::Acquire)
    }
}

/// The receiver's part at its end: the last leases are visible before the flag, the flag before the
/// wake-up.
fn finish(finish: &Finish, waker: &Waker) {
    finish.set();
    waker.wake();
}

/// The shard's loop: takes until the receiver is gone and the ring empty; sleeps in between.
fn take_all(ring: &Ring, finished: &Finish, sleeper: &Sleeper, mut each: impl FnMut(usize)) {
    loop {
        while let Some(value) = ring.pop() {
            each(value);
        }
        if finished.and_empty(|| ring.is_empty()) {
            return;
        }
        sleeper.sleep(None, || !ring.is_empty() || finished.is_set());
    }
}

#[test]
fn no_wake_up_is_lost_and_nothing_is_missed_at_the_end() {
    explore(|| {
        let sleeper = Sleeper::default();
        let (waker, finished) = (sleeper.waker(), Finish::default());
        let ring = Arc::new(Ring::default());
        let shard = thread::spawn({
            let (ring, finished) = (Arc::clone(&ring), finished.clone());
            move || {
                let mut taken = Vec::new();
                take_all(&ring, &finished, &sleeper, |value| taken.push(value));
                taken
            }
        });
        ring.push(7);
        waker.wake();
        // Only the flag's own ordering makes the last one visible.
        ring.push(8);
        finish(&finished, &waker);
        assert_eq!(shard.join().expect("shard"), [7, 8]);
    });
}

#[test]
fn two_receivers_wake_one_shard() {
    explore(|| {
        let sleeper = Sleeper::default();
        let rings: [Arc<Ring>; 2] = Default::default();
        let [first, second] = rings.clone();
        let [first_waker, second_waker] = [sleeper.waker(), sleeper.waker()];
        let shard = thread::spawn(move || {
            let mut taken = 0;
            while taken < 2 {
                let before = taken;
                taken += rings.iter().filter_map(|ring| ring.pop()).sum::<usize>();
                if taken == before {
                    sleeper.sleep(None, || rings.iter().any(|ring| !ring.is_empty()));
                }
            }
        });
        let receiver = thread::spawn(move || {
            second.push(1);
            second_waker.wake();
        });
        first.push(1);
        first_waker.wake();
        receiver.join().expect("receiver");
        shard.join().expect("shard");
    });
}

/// One slot, filled twice: the receiver may write to it only while it is not leased, the shard read
/// it only while it is. loom's cell panics when the two overlap.
#[test]
fn a_slot_is_written_and_read_in_turns_and_returned_once() {
    struct Pool {
        slot: UnsafeCell<u32>,
        leases: Ring,
        returns: Ring,
    }

    explore(|| {
        let pool = Arc::new(Pool {
            slot: UnsafeCell::new(0),
            leases: Ring::default(),
            returns: Ring::default(),
        });
        let sleeper = Sleeper::default();
        let (waker, finished) = (sleeper.waker(), Finish::default());
        let shard = thread::spawn({
            let (pool, finished) = (Arc::clone(&pool), finished.clone());
            move || {
                let mut read = Vec::new();
                take_all(&pool.leases, &finished, &sleeper, |slot| {
                    read.push(pool.slot.with(|value| unsafe { *value }));
                    pool.returns.push(slot);
                });
                read
            }
        });
        let mut returned = 0;
        for value in [1, 2] {
            pool.slot.with_mut(|slot| unsafe { *slot = value });
            pool.leases.push(0);
            waker.wake();
            if value == 1 {
                // The receiver does not wait for returns, it looks: here until there is one.
                while pool.returns.pop().is_none() {
                    thread::yield_now();
                }
                returned += 1;
            }
        }
        finish(&finished, &waker);
        assert_eq!(shard.join().expect("shard"), [1, 2]);
        returned += std::iter::from_fn(|| pool.returns.pop()).count();
        assert_eq!(returned, 2, "each lease came back once");
    });
}
