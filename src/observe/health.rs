//! Whether the engine works: every listener is bound and every engine thread still turns.
//!
//! A thread touches its [`Beat`] once per turn of its loop. A loop that sleeps must therefore wake
//! at least once a second even when there is nothing to do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::event::Listener;

/// A thread whose last beat is this old has stopped turning. Five times the longest sleep of a loop.
pub const BEAT_AGE_MAX: Duration = Duration::from_secs(5);

/// One thread's sign of life.
#[derive(Clone, Debug)]
pub struct Beat {
    origin: Instant,
    /// Milliseconds from `origin` to the last beat.
    last_ms: Arc<AtomicU64>,
}

impl Default for Beat {
    /// A beat that nobody watches.
    fn default() -> Self {
        Self { origin: Instant::now(), last_ms: Arc::default() }
    }
}

impl Beat {
    /// Says that the thread turns. Reads the clock: once per turn, not per event.
    pub fn touch(&self) {
        self.touch_at(self.origin.elapsed());
    }

    /// Says that the thread turned at `now`, counted from the origin of its [`Health`].
    pub fn touch_at(&self, now: Duration) {
        self.last_ms.store(milliseconds(now), Ordering::Relaxed);
    }

    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// Where the engine says that a listener is bound, and to which address.
#[derive(Clone, Debug, Default)]
pub struct Bound(Arc<OnceLock<SocketAddr>>);

impl Bound {
    /// Says that the listener is bound to `address`. Only the first call counts.
    pub fn set(&self, address: SocketAddr) {
        let _ = self.0.set(address);
    }

    fn get(&self) -> Option<SocketAddr> {
        self.0.get().copied()
    }
}

/// What health depends on. Filled before the threads start, read by the endpoints.
#[derive(Debug)]
pub struct Health {
    origin: Instant,
    listeners: Vec<(Listener, Bound)>,
    threads: Vec<(String, Beat)>,
}

impl Default for Health {
    fn default() -> Self {
        Self { origin: Instant::now(), listeners: Vec::new(), threads: Vec::new() }
    }
}

impl Health {
    /// Adds a listener that has to be bound.
    pub fn add_listener(&mut self, listener: Listener) -> Bound {
        let bound = Bound::default();
        self.listeners.push((listener, bound.clone()));
        bound
    }

    /// Adds a thread that has to beat, as of now.
    pub fn add_thread(&mut self, name: impl Into<String>) -> Beat {
        let beat = Beat {
            origin: self.origin,
            last_ms: Arc::new(AtomicU64::new(milliseconds(self.now()))),
        };
        self.threads.push((name.into(), beat.clone()));
        beat
    }

    /// Time since this value was made: the engine's uptime.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// How things stand at `now`, counted as [`Health::now`] counts.
    #[must_use]
    pub fn report(&self, now: Duration) -> Report {
        let listeners: Vec<_> =
            self.listeners.iter().map(|(listener, bound)| (*listener, bound.get())).collect();
        let threads: Vec<_> = self
            .threads
            .iter()
            .map(|(name, beat)| {
                let age = beat.age(now);
                ThreadReport { name: name.clone(), age, alive: age < BEAT_AGE_MAX }
            })
            .collect();
        Report { listeners, threads }
    }
}

/// How things stood at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// The listeners in use, and where they are bound if they are.
    pub listeners: Vec<(Listener, Option<SocketAddr>)>,
    /// The engine's threads.
    pub threads: Vec<ThreadReport>,
}

impl Report {
    /// Whether every listener is bound and every thread beats.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.listeners.iter().all(|(_, bound)| bound.is_some())
            && self.threads.iter().all(|thread| thread.alive)
    }
}

/// One thread's part of a [`Report`].
#[derive(Clone, Debug)]
pub struct ThreadReport {
    /// `rx-0`, `shard-1`, `deliver`, …
    pub name: String,
    /// Time since its last beat.
    pub age: Duration,
    /// Whether that is short enough.
    pub alive: bool,
}

/// Whole milliseconds; they fit 64 bits for 584 million years.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_means_bound_and_beating() {
        let mut health = Health::default();
        let user = health.add_listener(Listener::UserEvents);
        let log = health.add_listener(Listener::LogEvents);
        let receiver = health.add_thread("rx-0");
        let shard = health.add_thread("shard-0");
        receiver.touch_at(Duration::from_secs(10));
        shard.touch_at(Duration::from_secs(10));
        let at = |seconds| health.report(Duration::from_secs(seconds));

        assert!(!at(10).healthy(), "nothing is bound");
        user.set("127.0.0.1:9997".parse().unwrap());
        assert!(!at(10).healthy(), "one listener is missing");
        log.set("127.0.0.1:9996".parse().unwrap());
        assert!(at(10).healthy());

        assert!(at(14).healthy());
        assert!(!at(15).healthy(), "both threads stand still");
        receiver.touch_at(Duration::from_secs(15));
        let report = at(15);
        assert!(!report.healthy());
        assert!(report.threads[0].alive && !report.threads[1].alive);
        shard.touch_at(Duration::from_secs(16));
        assert!(at(16).healthy());
    }
}
