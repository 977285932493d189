//! Whether the wall clock can be believed when it says how old a file is.
//!
//! A clock that is wrong for a moment must not cost the archive. So it is compared with one that only
//! goes forward, and after a jump it has a day to be set right.

use std::time::{Duration, Instant};

/// Clocks are adjusted by seconds; more than this is a jump. Daylight saving is none: this is UTC.
const JUMP: Duration = Duration::from_hours(1);

/// How long the clock is not believed after a jump: somebody will have noticed.
const DOUBT: Duration = Duration::from_hours(24);

/// Why the clock is not believed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// It has moved so far from where it should be.
    Jumped(Duration),
    /// At the first look every file was too old.
    AllOld,
}

/// The wall clock, and since when it is not believed.
#[derive(Debug, Default)]
pub(super) struct Wall {
    /// Both clocks at the last look.
    seen: Option<(Instant, u64)>,
    doubted: Option<Instant>,
}

impl Wall {
    /// Looks at both clocks. `all_old` is whether every file is too old by the wall clock. Returns what
    /// is wrong, when that is news.
    pub fn look(&mut self, now: Instant, wall_ns: u64, all_old: bool) -> Option<Suspicion> {
        let suspicion = match self.seen.replace((now, wall_ns)) {
            None => all_old.then_some(Suspicion::AllOld),
            Some((then, then_ns)) => {
                let elapsed = u64::try_from((now - then).as_nanos()).unwrap_or(u64::MAX);
                let off = wall_ns.abs_diff(then_ns.saturating_add(elapsed));
                let off = Duration::from_nanos(off);
                (off > JUMP).then_some(Suspicion::Jumped(off))
            }
        };
        if suspicion.is_some() {
            self.doubted = Some(now);
        }
        suspicion
    }

    /// Whether files may be removed for their age.
    pub fn is_believed(&self, now: Instant) -> bool {
        self.doubted.is_none_or(|since| now - since >= DOUBT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: u64 = 1_700_000_000_000_000_000;

    /// Looks after so long, when the wall clock is off by so much.
    fn look(wall: &mut Wall, start: Instant, after: Duration, off: Duration) -> (bool, bool) {
        let wall_ns = NOW_NS + u64::try_from((after + off).as_nanos()).unwrap();
        let news = wall.look(start + after, wall_ns, false).is_some();
        (news, wall.is_believed(start + after))
    }

    #[test]
    fn a_jump_is_doubted_for_a_day() {
        let (mut wall, start) = (Wall::default(), Instant::now());
        let [minute, hour, day] = [1, 60, 24 * 60].map(Duration::from_mins);
        let mut look = |after, off| look(&mut wall, start, after, off);
        assert_eq!(look(Duration::ZERO, Duration::ZERO), (false, true));
        assert_eq!(look(30 * day, minute), (false, true), "adjusted");
        assert_eq!(look(31 * day, 500 * day), (true, false), "forward");
        assert_eq!(look(31 * day + hour, Duration::ZERO), (true, false), "and back");
        assert_eq!(look(32 * day, Duration::ZERO), (false, false));
        assert_eq!(look(32 * day + hour, Duration::ZERO), (false, true));
    }

    #[test]
    fn a_clock_by_which_all_is_old_is_doubted_at_the_start() {
        let (mut wall, start) = (Wall::default(), Instant::now());
        assert_eq!(wall.look(start, NOW_NS, true), Some(Suspicion::AllOld));
        assert!(!wall.is_believed(start));
        assert_eq!(wall.look(start, NOW_NS, true), None, "later it may be right");
        assert!(wall.is_believed(start + DOUBT));
    }
}
