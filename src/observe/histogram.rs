//! How long events take, as a histogram that costs the hot path an addition in its own memory.
//!
//! The buckets are those of the Prometheus metric, so what `/metrics` shows is exact: steps of 1, 2
//! and 5 from 100 µs (less than one receive wake-up) to 60 s (more than any flush interval and
//! retry that is still worth calling latency).
//!
//! A shard records into a [`LocalHistogram`] and publishes it once per batch: at most one atomic
//! addition per bucket and batch, none per event.

use std::array;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::Listener;

/// Upper bounds of the buckets in microseconds, inclusive; one more bucket takes what is longer.
pub const BOUNDS_US: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 60_000_000,
];

/// Number of buckets, the unbounded one included.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// The bucket of a latency.
fn bucket(nanoseconds: u64) -> usize {
    let microseconds = nanoseconds.div_ceil(1_000);
    BOUNDS_US.partition_point(|bound| *bound < microseconds)
}

/// A sum of `count` latencies in microseconds. Wraps, which Prometheus reads as a counter's reset:
/// at 200 000 events/s of 1 s each that is once in three years.
fn microseconds(nanoseconds: u64, count: u64) -> u64 {
    (nanoseconds / 1_000).wrapping_mul(count)
}

/// Counts of latencies, written by any number of threads without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    /// The longest since somebody asked last.
    max_ns: AtomicU64,
}

impl Histogram {
    /// Counts `count` events that took `nanoseconds` each.
    pub fn record(&self, nanoseconds: u64, count: u64) {
        self.counts[bucket(nanoseconds)].fetch_add(count, Ordering::Relaxed);
        self.sum_us.fetch_add(microseconds(nanoseconds, count), Ordering::Relaxed);
        self.max_ns.fetch_max(nanoseconds, Ordering::Relaxed);
    }

    /// The longest latency since the last call, in nanoseconds; 0 without any.
    pub fn take_max_ns(&self) -> u64 {
        self.max_ns.swap(0, Ordering::Relaxed)
    }

    /// The counts now. Buckets that are being added to meanwhile may be one batch apart.
    #[must_use]
    pub fn snapshot(&self) -> Distribution {
        Distribution {
            counts: std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

/// The part of a [`Histogram`] that one thread has not published yet.
#[derive(Debug, Default)]
pub struct LocalHistogram {
    distribution: Distribution,
    max_ns: u64,
}

impl LocalHistogram {
    /// Counts `count` events that took `nanoseconds` each.
    pub fn record(&mut self, nanoseconds: u64, count: u64) {
        let Distribution { counts, sum_us } = &mut self.distribution;
        counts[bucket(nanoseconds)] += count;
        *sum_us = sum_us.wrapping_add(microseconds(nanoseconds, count));
        self.max_ns = self.max_ns.max(nanoseconds);
    }

    /// Moves what was counted to `histogram`. To be called once per batch.
    pub fn publish(&mut self, histogram: &Histogram) {
        for (shared, local) in histogram.counts.iter().zip(&self.distribution.counts) {
            if *local > 0 {
                shared.fetch_add(*local, Ordering::Relaxed);
            }
        }
        histogram.sum_us.fetch_add(self.distribution.sum_us, Ordering::Relaxed);
        histogram.max_ns.fetch_max(self.max_ns, Ordering::Relaxed);
        *self = Self::default();
    }
}

/// The counts of a [`Histogram`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Events per bucket, each counted in one bucket only.
    pub counts: [u64; BUCKETS],
    /// The latencies added up, in microseconds.
    pub sum_us: u64,
}

impl Distribution {
    /// Number of events.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: array::from_fn(|i| self.counts[i].wrapping_sub(earlier.counts[i])),
            sum_us: self.sum_us.wrapping_sub(earlier.sum_us),
        }
    }

    /// The upper bound of the bucket that holds the quantile `q` (0 to 1): never less than the true
    /// value (but 60 s stands for anything longer). `None` without events.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // Counts below 2^53 are exact as doubles; beyond it a rank off by one changes nothing.
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let index = self.counts.iter().position(|n| {
            below += n;
            below >= rank
        });
        let index = index.unwrap_or(BUCKETS - 1).min(BOUNDS_US.len() - 1);
        Some(Duration::from_micros(BOUNDS_US[index]))
    }
}

impl AddAssign for Distribution {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }
}

/// The two latencies of an event, both counted from its receive time.
#[derive(Debug, Default)]
pub struct Latency {
    /// Until it is encoded in a batch, per listener.
    pub batch: [Histogram; Listener::COUNT],
    /// Until a destination has acknowledged it.
    pub delivered: Histogram,
}

impl Latency {
    /// The distributions over both listeners, and their names in metrics and JSON.
    #[must_use]
    pub fn stages(&self) -> [(&'static str, Distribution); 2] {
        let mut batch = Distribution::default();
        for listener in &self.batch {
            batch += listener.snapshot();
        }
        [("batch", batch), ("delivered", self.delivered.snapshot())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_rise() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(100_000), 0);
        assert_eq!(bucket(100_001), 1);
        assert_eq!(bucket(60_000_000_000), BUCKETS - 2);
        assert_eq!(bucket(60_000_000_001), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn publishing_moves_everything_once() {
        let histogram = Histogram::default();
        let mut local = LocalHistogram::default();
        local.record(150_000, 3);
        local.record(7_000_000_000, 2);
        local.publish(&histogram);
        local.publish(&histogram);
        histogram.record(150_000, 1);
        let seen = histogram.snapshot();
        assert_eq!(seen.count(), 6);
        assert_eq!(seen.counts[1], 4);
        assert_eq!(seen.sum_us, 4 * 150 + 2 * 7_000_000);
        assert_eq!(histogram.take_max_ns(), 7_000_000_000);
        assert_eq!(histogram.take_max_ns(), 0, "since the last time");
        histogram.record(150_000, 1);
        let later = histogram.snapshot().since(&seen);
        assert_eq!((later.count(), later.sum_us), (1, 150));
    }

    #[test]
    fn stages_take_both_listeners_together() {
        let latency = Latency::default();
        latency.batch[0].record(150_000, 1);
        latency.batch[1].record(250_000, 2);
        let [(name, batch), _] = latency.stages();
        assert_eq!((name, batch.count(), batch.sum_us), ("batch", 3, 650));
    }

    #[test]
    fn quantiles_name_the_bucket() {
        let mut local = LocalHistogram::default();
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        local.record(900_000, 90);
        local.record(40_000_000, 9);
        local.record(u64::MAX, 1);
        local.publish(&histogram);
        let seen = histogram.snapshot();
        assert_eq!(seen.quantile(0.0), Some(Duration::from_millis(1)));
        assert_eq!(seen.quantile(0.9), Some(Duration::from_millis(1)));
        assert_eq!(seen.quantile(0.91), Some(Duration::from_millis(50)));
        assert_eq!(seen.quantile(1.0), Some(Duration::from_mins(1)));
    }
}
