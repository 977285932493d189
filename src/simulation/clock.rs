//! Simulated time, and the loops that drive futures against it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::deliver::Clock;

/// Time that passes only when everybody waits for it.
#[derive(Clone, Default)]
pub struct SimulatedClock(Rc<Time>);

#[derive(Default)]
struct Time {
    now: Cell<Duration>,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    next_timer: Cell<u64>,
}

impl SimulatedClock {
    /// Jumps to the next timer.
    fn advance(&self) {
        let timer = self.0.timers.borrow_mut().pop_first();
        let ((at, _), waker) = timer.expect("nothing will ever happen again");
        self.0.now.set(self.0.now.get().max(at));
        waker.wake();
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        self.0.now.get()
    }

    fn wall_ns(&self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let id = self.0.next_timer.get();
        self.0.next_timer.set(id + 1);
        Sleep { time: Rc::clone(&self.0), key: (self.now() + duration, id) }
    }
}

struct Sleep {
    time: Rc<Time>,
    key: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.time.now.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.time.timers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.time.timers.borrow_mut().remove(&self.key);
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future to its end; whenever it waits, the clock jumps to the next timer.
pub fn drive<F: Future>(clock: &SimulatedClock, future: F) -> F::Output {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = pin!(future);
    loop {
        while flag.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
        }
        clock.advance();
    }
}

/// Futures that are polled one at a time, in an order that a seed decides.
#[derive(Default)]
pub struct Tasks<'a>(Vec<Task<'a>>);

struct Task<'a> {
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
    flag: Arc<Flag>,
}

impl<'a> Tasks<'a> {
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'a) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.0.push(Task { future: Box::pin(future), flag });
    }

    /// Polls one that can go on; when none can, the clock jumps first. False when all have ended.
    pub fn step(&mut self, clock: &SimulatedClock, random: &mut fastrand::Rng) -> bool {
        while !self.0.is_empty() {
            let ready = |task: &Task<'_>| task.flag.0.load(Ordering::Relaxed);
            let count = self.0.iter().filter(|task| ready(task)).count();
            if count == 0 {
                clock.advance();
                continue;
            }
            let chosen = random.usize(0..count);
            let mut places = self.0.iter().enumerate().filter(|(_, task)| ready(task));
            let (index, _) = places.nth(chosen).expect("one of those that can go on");
            let Task { future, flag } = &mut self.0[index];
            flag.0.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(flag));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.0.swap_remove(index);
            }
            return true;
        }
        false
    }
}
