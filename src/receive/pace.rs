//! How long a receiver waits for more before it handles what it has.
//!
//! Waking for every datagram costs twice as much per datagram as gathering for half a millisecond;
//! gathering a lone datagram costs its latency and gains nothing. So the wait follows the rate.

use std::time::{Duration, Instant};

/// Longest wait when nothing arrives: bounds how old the receiver's beat gets and how long returned
/// slots wait to be noticed, at two wake-ups a second.
pub(super) const IDLE: Duration = Duration::from_millis(500);
/// Wait when every slot is out: shards return slots without waking the receiver, so it looks again.
/// It cannot spin (it sleeps each time) and cannot hang (the timer always fires). Admission holds a
/// quarter of the pool back from leases, so a receiver normally never gets here.
pub(super) const STARVED: Duration = Duration::from_millis(1);

/// Decides between waiting for the next datagram and gathering.
#[derive(Debug)]
pub(super) struct Pace {
    gather: Duration,
    last_batch: Option<Instant>,
    gathering: bool,
}

impl Pace {
    pub(super) fn new(gather: Duration) -> Self {
        Self { gather, last_batch: None, gathering: false }
    }

    /// How long the next wait gathers; `None`: wake at the first datagram.
    pub(super) fn gather(&self) -> Option<Duration> {
        self.gathering.then_some(self.gather)
    }

    /// Learns what a wait brought: gathering pays when more than one datagram arrives within the
    /// gathering time.
    pub(super) fn after_wait(&mut self, datagrams: usize, now: Instant) {
        if datagrams == 0 {
            self.gathering = false;
            return;
        }
        let soon = self.last_batch.is_some_and(|last| now.duration_since(last) < self.gather);
        self.gathering = !self.gather.is_zero() && (datagrams > 1 || soon);
        self.last_batch = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATHER: Duration = Duration::from_micros(500);

    #[test]
    fn a_slow_rate_is_never_gathered() {
        let (mut pace, start) = (Pace::new(GATHER), Instant::now());
        for i in 0..10 {
            assert_eq!(pace.gather(), None);
            pace.after_wait(1, start + i * 2 * GATHER);
        }
    }

    #[test]
    fn a_high_rate_is_gathered_until_it_falls() {
        let (mut pace, start) = (Pace::new(GATHER), Instant::now());
        pace.after_wait(1, start);
        assert_eq!(pace.gather(), None);
        pace.after_wait(1, start + GATHER / 10);
        assert_eq!(pace.gather(), Some(GATHER));
        pace.after_wait(50, start + 2 * GATHER);
        assert_eq!(pace.gather(), Some(GATHER));
        pace.after_wait(1, start + 10 * GATHER);
        assert_eq!(pace.gather(), None);
    }

    #[test]
    fn silence_ends_gathering() {
        let (mut pace, start) = (Pace::new(GATHER), Instant::now());
        pace.after_wait(10, start);
        assert!(pace.gather().is_some());
        pace.after_wait(0, start);
        assert!(pace.gather().is_none());
    }

    #[test]
    fn zero_never_gathers() {
        let (mut pace, start) = (Pace::new(Duration::ZERO), Instant::now());
        pace.after_wait(100, start);
        assert!(pace.gather().is_none());
    }
}
