//! The system's clock.
//!
//! Retry, expiry and latency ask a [`Clock`] and never the system, so that a simulation can run a
//! day of outage in a millisecond and the same way each time.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Clock;

/// Time from the operating system; waiting goes through tokio's timer.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::now`] is zero at this moment. Copies share the origin.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall_ns(&self) -> u64 {
        // Before 1970 the clock is certainly wrong; after 2554 the number no longer fits.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_the_origin() {
        let clock = SystemClock::new();
        let copy = clock;
        let earlier = clock.now();
        assert!(copy.now() >= earlier);
        assert!(clock.wall_ns() > 1_600_000_000_000_000_000, "later than 2020");
    }
}
