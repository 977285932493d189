//! How long to leave a destination alone that does not work.

use std::time::Duration;

/// The first wait of a [`Backoff`] is at most this long: a restarting server is back within it or
/// a few times that.
const FIRST: Duration = Duration::from_millis(250);

/// While the engine drains, what is held has seconds left: try often.
const DRAINING_MAX: Duration = Duration::from_millis(500);

/// A destination may ask to be left alone this long at most; a wrong header must not stop delivery.
const ASKED_MAX: Duration = Duration::from_mins(5);

/// Capped exponential backoff with full jitter: each wait is drawn evenly from zero up to a ceiling
/// that doubles with each failure, so that clients that failed together do not return together.
#[derive(Debug)]
pub(in crate::deliver) struct Backoff {
    max: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits of up to `max`; equal seeds give equal waits.
    pub fn new(max: Duration, seed: u64) -> Self {
        Self { max, failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// The wait after one more failure, at least as long as the destination asked for.
    pub fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(31)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let ceiling_ns = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let drawn = Duration::from_nanos(self.random.u64(0..=ceiling_ns));
        drawn.max(asked.unwrap_or_default().min(ASKED_MAX))
    }

    /// Whether the last thing known is a failure.
    pub fn failing(&self) -> bool {
        self.failures > 0
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// From now on waits are short.
    pub fn hurry(&mut self) {
        self.max = self.max.min(DRAINING_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_is_capped() {
        let max = Duration::from_secs(30);
        let mut backoff = Backoff::new(max, 1);
        let mut ceiling = FIRST;
        let mut longest = Duration::ZERO;
        for _ in 0..1000 {
            let wait = backoff.wait(None);
            assert!(wait <= ceiling, "{wait:?} over {ceiling:?}");
            longest = longest.max(wait);
            ceiling = (ceiling * 2).min(max);
        }
        assert!(longest > max / 2, "reaches the cap's neighbourhood: {longest:?}");
        backoff.reset();
        assert!(!backoff.failing());
        assert!(backoff.wait(None) <= FIRST);
    }

    #[test]
    fn honours_what_is_asked_within_reason() {
        let mut backoff = Backoff::new(Duration::from_secs(30), 1);
        assert_eq!(backoff.wait(Some(Duration::from_mins(1))), Duration::from_mins(1));
        assert_eq!(backoff.wait(Some(Duration::from_secs(1 << 40))), ASKED_MAX);
    }

    #[test]
    fn equal_seeds_give_equal_waits() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(30), seed);
            std::array::from_fn::<_, 20, _>(|_| backoff.wait(None))
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }
}
