//! When backpressure is worth a line in the log.
//!
//! Receivers note it per batch, and a burst may come and go many times a second. Whoever looks here
//! once a second tells an operator that it began, once a minute that it lasts, and that it is over.

use std::fmt;
use std::time::{Duration, Instant};

use super::start::Handle;
use crate::event::Listener;

/// How often lasting backpressure is told again.
const REPEAT: Duration = Duration::from_mins(1);

/// Something to tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Notice {
    /// The queue is, or was since the last look, above its threshold.
    Detected {
        /// Whose queue.
        listener: Listener,
        /// The highest since the last look, in percent of the capacity.
        utilization: f64,
        /// `backpressureThreshold`, in percent.
        threshold: u8,
    },
    /// It no longer is.
    Cleared {
        /// Whose queue.
        listener: Listener,
    },
}

impl fmt::Display for Notice {
    /// The first text is Butler SOS's, for those who search their logs for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detected { listener, utilization, threshold } => write!(
                f,
                "[UDP Queue] Backpressure detected for {}: Queue utilization {utilization:.1}% \
                 (threshold: {threshold}%)",
                listener.name()
            ),
            Self::Cleared { listener } => {
                write!(f, "[UDP Queue] Backpressure cleared for {}", listener.name())
            }
        }
    }
}

/// What a queue did since the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peak {
    /// The highest, in percent of the capacity; `None` when it was not above the threshold.
    pub(super) utilization: Option<f64>,
    pub(super) threshold: u8,
    /// Whether it has not yet fallen below the level at which backpressure ends.
    pub(super) active: bool,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct PressureWatch {
    /// When backpressure was told last, while it lasts; and its last peak.
    told: [Option<(Instant, f64)>; Listener::COUNT],
}

impl PressureWatch {
    /// Looks at all queues; to be called about once a second.
    pub fn look(&mut self, handle: &Handle, now: Instant) -> impl Iterator<Item = Notice> + use<> {
        Listener::ALL
            .map(|listener| self.judge(listener, handle.peak(listener), now))
            .into_iter()
            .flatten()
    }

    fn judge(&mut self, listener: Listener, peak: Peak, now: Instant) -> Option<Notice> {
        let told = &mut self.told[listener as usize];
        let utilization = peak.utilization.or(told.filter(|_| peak.active).map(|(_, last)| last));
        let Some(utilization) = utilization else {
            return told.take().map(|_| Notice::Cleared { listener });
        };
        let due = told.is_none_or(|(at, _)| now.duration_since(at) >= REPEAT);
        *told = Some((told.filter(|_| !due).map_or(now, |(at, _)| at), utilization));
        due.then_some(Notice::Detected { listener, utilization, threshold: peak.threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: Listener = Listener::UserEvents;

    fn peak(utilization: Option<f64>, active: bool) -> Peak {
        Peak { utilization, threshold: 80, active }
    }

    #[test]
    fn the_text_is_the_documented_one() {
        let notice = Notice::Detected { listener: LISTENER, utilization: 85.49, threshold: 80 };
        let text = "[UDP Queue] Backpressure detected for user_events: Queue utilization 85.5% \
                    (threshold: 80%)";
        assert_eq!(notice.to_string(), text);
    }

    #[test]
    fn told_at_the_transition_once_a_minute_and_at_the_end() {
        let mut watch = PressureWatch::default();
        let start = Instant::now();
        let mut at =
            |second, peak| watch.judge(LISTENER, peak, start + Duration::from_secs(second));
        let detected =
            |utilization| Some(Notice::Detected { listener: LISTENER, utilization, threshold: 80 });
        assert_eq!(at(0, peak(None, false)), None);
        assert_eq!(at(1, peak(Some(90.0), false)), detected(90.0), "a burst between two looks");
        assert_eq!(at(2, peak(Some(95.0), true)), None);
        assert_eq!(at(60, peak(None, true)), None, "not yet below the level of the all-clear");
        assert_eq!(at(61, peak(Some(99.0), true)), detected(99.0));
        assert_eq!(at(62, peak(None, false)), Some(Notice::Cleared { listener: LISTENER }));
        assert_eq!(at(63, peak(None, false)), None);
        assert_eq!(at(64, peak(Some(81.0), true)), detected(81.0));
    }
}
