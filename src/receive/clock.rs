//! Receive times that are unique within a run.
//!
//! Two points of one series with the same time would overwrite each other at the destination, so no
//! two datagrams may share a receive time. Receiver `i` of `n` uses only times that leave the
//! remainder `i` when divided by `n`, so receivers need not talk to each other.

/// A clock that jumps back by more than this is believed; by less, it is waited out.
const STEP_NS: u64 = 1_000_000_000;

/// The receive times of one receiver.
#[derive(Debug)]
pub(super) struct Stamps {
    last: u64,
    receivers: u64,
    index: u64,
}

impl Stamps {
    pub(super) fn new(index: usize, receivers: usize) -> Self {
        assert!(index < receivers);
        Self { last: 0, receivers: receivers as u64, index: index as u64 }
    }

    /// Takes one clock reading (ns since 1970) for the stamps of a batch. Answers by how many ns the
    /// clock has stepped back, if it has.
    pub(super) fn start_batch(&mut self, now: u64) -> Option<u64> {
        let step = self.last.checked_sub(now).filter(|step| *step > STEP_NS);
        if now > self.last || step.is_some() {
            // One less than the next stamp may be, so that it can be `now` itself.
            self.last = now.saturating_sub(1);
        }
        step
    }

    /// The next receive time: later than all before it (but for a step back).
    pub(super) fn next(&mut self) -> u64 {
        let earliest = self.last + 1;
        let ahead = self.index + self.receivers - earliest % self.receivers;
        self.last = earliest + ahead % self.receivers;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000_000_000;

    #[test]
    fn stamps_are_the_clock_or_later_and_unique() {
        let mut stamps = Stamps::new(0, 1);
        assert_eq!(stamps.start_batch(NOW), None);
        assert_eq!([stamps.next(), stamps.next(), stamps.next()], [NOW, NOW + 1, NOW + 2]);
        // The clock stands still, or steps back a little.
        assert_eq!(stamps.start_batch(NOW), None);
        assert_eq!(stamps.next(), NOW + 3);
        assert_eq!(stamps.start_batch(NOW - STEP_NS / 2), None);
        assert_eq!(stamps.next(), NOW + 4);
        assert_eq!(stamps.start_batch(NOW + 100), None);
        assert_eq!(stamps.next(), NOW + 100);
    }

    #[test]
    fn a_large_step_back_is_followed_and_told() {
        let mut stamps = Stamps::new(0, 1);
        stamps.start_batch(NOW);
        assert_eq!(stamps.next(), NOW);
        let earlier = NOW - 3 * STEP_NS;
        assert_eq!(stamps.start_batch(earlier), Some(3 * STEP_NS));
        assert_eq!(stamps.next(), earlier);
        assert_eq!(stamps.start_batch(earlier + 1), None);
    }

    #[test]
    fn receivers_never_share_a_stamp() {
        for receivers in 1..=5 {
            let mut seen = std::collections::HashSet::new();
            for index in 0..receivers {
                let mut stamps = Stamps::new(index, receivers);
                for batch in 0..10 {
                    stamps.start_batch(NOW + batch * 7);
                    for _ in 0..10 {
                        let stamp = stamps.next();
                        assert_eq!(stamp % receivers as u64, index as u64);
                        assert!(stamp >= NOW + batch * 7);
                        assert!(seen.insert(stamp));
                    }
                }
            }
        }
    }
}
