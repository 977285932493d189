//! How long events take, as a histogram that costs the hot path an addition in its own memory.
//!
//! The buckets are those of the Prometheus metric, so what `/metrics` shows is exact: steps of 1, 2
//! and 5 from 100 µs (less than one receive wake-up) to 60 s (more than any flush interval and
//! retry that is still worth calling latency).
//!
//! A shard records into a [`LocalHistogram`] and publishes it once per batch: at most one atomic
//! addition per bucket and batch, none per event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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
}

impl Histogram {
    /// Counts `count` events that took `nanoseconds` each.
    pub fn record(&self, nanoseconds: u64, count: u64) {
        self.counts[bucket(nanoseconds)].fetch_add(count, Ordering::Relaxed);
        self.sum_us.fetch_add(microseconds(nanoseconds, count), Ordering::Relaxed);
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
pub struct LocalHistogram(Distribution);

impl LocalHistogram {
    /// Counts `count` events that took `nanoseconds` each.
    pub fn record(&mut self, nanoseconds: u64, count: u64) {
        self.0.counts[bucket(nanoseconds)] += count;
        self.0.sum_us = self.0.sum_us.wrapping_add(microseconds(nanoseconds, count));
    }

    /// Moves what was counted to `histogram`. To be called once per batch.
    pub fn publish(&mut self, histogram: &Histogram) {
        for (shared, local) in histogram.counts.iter().zip(&self.0.counts) {
            if *local > 0 {
                shared.fetch_add(*local, Ordering::Relaxed);
            }
        }
        histogram.sum_us.fetch_add(self.0.sum_us, Ordering::Relaxed);
        self.0 = Distribution::default();
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

/// The two latencies of an event, both counted from its receive time.
#[derive(Debug, Default)]
pub struct Latency {
    /// Until it is encoded in a batch.
    pub batch: Histogram,
    /// Until a destination has acknowledged it.
    pub delivered: Histogram,
}

impl Latency {
    /// The histograms and their names in metrics and JSON.
    #[must_use]
    pub fn stages(&self) -> [(&'static str, &Histogram); 2] {
        [("batch", &self.batch), ("delivered", &self.delivered)]
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
