//! What a listener lets in that may change while the receivers run: its senders and its rate.
//!
//! One gate per listener is shared by all receivers, so a limit is a limit for all of them together.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::sources::Sources;

/// Length of a window of the rate limit, in ms: the key is `maxMessagesPerMinute`.
const WINDOW_MS: u32 = 60_000;

/// Receivers read the clock once per batch, so a reading may be older than the window's begin; by more
/// than this, the clock was set back.
const DISORDER_MS: u32 = 10_000;

/// Senders and rate of one listener. Lets everything in until told otherwise.
#[derive(Debug, Default)]
pub struct Gate {
    sources: ArcSwapOption<Sources>,
    rate: Rate,
}

impl Gate {
    /// Only these may send from each receiver's next batch on; `None`: everybody.
    pub fn allow(&self, sources: Option<Sources>) {
        self.sources.store(sources.map(Arc::new));
    }

    /// Whether senders are checked.
    #[must_use]
    pub fn checks_sources(&self) -> bool {
        self.sources.load().is_some()
    }

    /// Whether this address may send.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.sources.load().as_ref().is_none_or(|sources| sources.contains(address))
    }

    /// Datagrams that the rate limit has counted in the window that began last; 0 without a limit.
    pub fn rate_counted(&self) -> u32 {
        self.rate.counted()
    }

    /// At most so many datagrams in a window of one minute; `None`: any number.
    ///
    /// The window under way is kept: what came in it counts towards the new limit.
    pub fn limit(&self, per_minute: Option<u32>) {
        self.rate.per_minute.store(per_minute.unwrap_or(Rate::UNLIMITED), Ordering::Relaxed);
    }

    /// Renews a receiver's view of the senders.
    pub(super) fn renew(&self, view: &mut Option<Arc<Sources>>) {
        let newest = self.sources.load();
        let same = match (&*view, &*newest) {
            (None, None) => true,
            (Some(view), Some(newest)) => Arc::ptr_eq(view, newest),
            _ => false,
        };
        if !same {
            view.clone_from(&newest);
        }
    }

    /// Whether one more datagram is within the rate; if so, it is counted. `now_ms` is the batch's
    /// clock reading, of which the low 32 bits matter.
    pub(super) fn admits(&self, now_ms: u32) -> bool {
        self.rate.admits(now_ms)
    }
}

/// A limit on the datagrams in a fixed window. A window begins with the first datagram after the last
/// one has ended.
///
/// Counted by one atomic operation per admitted datagram, and only while there is a limit. Taking a
/// share for a whole batch would be cheaper, but then one receiver would refuse what another gives
/// back a moment later, and the limit would not be exact.
#[derive(Debug)]
struct Rate {
    per_minute: AtomicU32,
    /// Begin of the window (ms, wrapping after 49 days) in the upper half, datagrams in the lower.
    window: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_minute: AtomicU32::new(Self::UNLIMITED), window: AtomicU64::new(0) }
    }
}

impl Rate {
    /// Datagrams in the window that began last; 0 without a limit.
    fn counted(&self) -> u32 {
        if self.per_minute.load(Ordering::Relaxed) == Self::UNLIMITED {
            return 0;
        }
        lower(self.window.load(Ordering::Relaxed))
    }

    /// No limit: the configuration's smallest is 1.
    const UNLIMITED: u32 = 0;

    // Relaxed throughout: each variable stands for itself.
    fn admits(&self, now_ms: u32) -> bool {
        let max = self.per_minute.load(Ordering::Relaxed);
        if max == Self::UNLIMITED {
            return true;
        }
        let counted = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            let (begin, count) = (upper(window), lower(window));
            let lasts =
                now_ms.wrapping_sub(begin) < WINDOW_MS || begin.wrapping_sub(now_ms) <= DISORDER_MS;
            match (lasts && window != 0, count < max) {
                (false, _) => Some(pack(now_ms, 1)),
                (true, true) => Some(pack(begin, count + 1)),
                (true, false) => None,
            }
        });
        counted.is_ok()
    }
}

fn pack(begin: u32, count: u32) -> u64 {
    u64::from(begin) << 32 | u64::from(count)
}

fn upper(window: u64) -> u32 {
    (window >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn lower(window: u64) -> u32 {
    window as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn admitted(gate: &Gate, now_ms: u32, offered: u32) -> u32 {
        (0..offered).map(|_| u32::from(gate.admits(now_ms))).sum()
    }

    #[test]
    fn a_window_begins_with_its_first_datagram_and_lasts_a_minute() {
        let gate = Gate::default();
        assert_eq!(admitted(&gate, 0, 1_000), 1_000, "no limit");
        gate.limit(Some(10));
        let begin = u32::MAX - 30_000;
        assert_eq!(admitted(&gate, begin, 4), 4);
        assert_eq!(
            admitted(&gate, begin.wrapping_add(59_999), 100),
            6,
            "the clock wraps meanwhile"
        );
        assert_eq!(admitted(&gate, begin.wrapping_add(60_000), 100), 10);
        assert_eq!(admitted(&gate, begin.wrapping_add(60_001), 1), 0);
    }

    #[test]
    fn an_older_reading_counts_and_a_clock_set_back_does_not_block() {
        let gate = Gate::default();
        gate.limit(Some(10));
        assert_eq!(admitted(&gate, 1_000_000, 8), 8);
        assert_eq!(admitted(&gate, 999_999, 8), 2, "another receiver's batch, begun earlier");
        assert_eq!(admitted(&gate, 500_000, 20), 10, "set back by minutes");
    }

    #[test]
    fn a_new_limit_holds_at_once() {
        let gate = Gate::default();
        gate.limit(Some(10));
        assert_eq!(admitted(&gate, 5, 20), 10);
        gate.limit(Some(15));
        assert_eq!(admitted(&gate, 6, 20), 5);
        gate.limit(Some(3));
        assert_eq!(admitted(&gate, 7, 20), 0);
        gate.limit(None);
        assert_eq!(admitted(&gate, 8, 20), 20);
    }

    #[test]
    fn receivers_together_admit_exactly_the_limit() {
        let gate = Gate::default();
        gate.limit(Some(10_000));
        let total: u32 = thread::scope(|scope| {
            let receivers = [(); 4].map(|()| scope.spawn(|| admitted(&gate, 7, 5_000)));
            receivers.map(|receiver| receiver.join().expect("no panic")).iter().sum()
        });
        assert_eq!(total, 10_000);
    }

    #[test]
    fn a_view_is_renewed_when_the_senders_change() {
        let gate = Gate::default();
        let mut view = None;
        gate.renew(&mut view);
        assert!(view.is_none() && !gate.checks_sources());
        gate.allow(Some(Sources::default()));
        gate.renew(&mut view);
        assert!(view.is_some() && gate.checks_sources());
        gate.allow(None);
        gate.renew(&mut view);
        assert!(view.is_none());
    }
}
