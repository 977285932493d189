//! When events are due.
//!
//! The schedule is absolute: event *i*, from 1, is due *i* / rate seconds after the start. What is
//! due when the loop wakes is sent, so the load is never ahead of its rate, and a delay of this
//! process is made up for instead of lowering the rate.

use std::time::Duration;

/// How often the loop wakes when more than one event is due in that time.
const TICK: Duration = Duration::from_micros(500);
/// The longest sleep, so that an interruption is noticed soon.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// How fast events are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as this machine can.
    Unlimited,
    /// Events per second.
    Steady(u64),
    /// A company's day, again and again; see [`busy`].
    WorkingDay {
        /// Events per second when the day is busiest.
        peak: f64,
        /// How long the day takes; a short one shows a whole day in a demo.
        day: Duration,
    },
}

/// How busy a Sense site is at a time of day, from 0 (midnight) to 1, as a part of its peak.
///
/// People come from six to nine, when everybody opens an app; lunch is a dip; from five they leave;
/// at night scheduled reloads run.
#[must_use]
pub fn busy(time_of_day: f64) -> f64 {
    const HOURS: [(f64, f64); 11] = [
        (0.0, 0.08),
        (2.0, 0.12),
        (6.0, 0.05),
        (8.0, 0.60),
        (9.0, 1.00),
        (11.0, 0.80),
        (12.5, 0.45),
        (14.0, 0.85),
        (17.0, 0.50),
        (20.0, 0.10),
        (24.0, 0.08),
    ];
    let hour = time_of_day.rem_euclid(1.0) * 24.0;
    HOURS.windows(2).find(|pair| hour < pair[1].0).map_or(HOURS[0].1, |pair| {
        let part = (hour - pair[0].0) / (pair[1].0 - pair[0].0);
        pair[0].1 + part * (pair[1].1 - pair[0].1)
    })
}

/// How many events are due.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    /// Of a working day, whose rate changes: the time looked at last, and the events due then.
    at: Duration,
    due: f64,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, at: Duration::ZERO, due: 0.0 }
    }

    /// Events due so long after the start.
    pub(super) fn due(&mut self, elapsed: Duration) -> u64 {
        match self.pace {
            Pace::Unlimited => u64::MAX,
            Pace::Steady(rate) => Self::steady(rate, elapsed),
            Pace::WorkingDay { peak, day } => {
                let step = elapsed.saturating_sub(self.at).as_secs_f64();
                // A demo is started in the morning, when something happens.
                let time = 0.3 + elapsed.as_secs_f64() / day.as_secs_f64().max(f64::EPSILON);
                self.due += peak * busy(time) * step;
                self.at = elapsed;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count of events, never negative"
                )]
                let due = self.due as u64;
                due
            }
        }
    }

    /// Events due at a steady rate.
    pub(super) fn steady(rate: u64, elapsed: Duration) -> u64 {
        let due = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX)
    }

    /// How long to sleep when nothing is due and `sent` events have been sent.
    pub(super) fn sleep(&self, sent: u64, elapsed: Duration) -> Duration {
        let Pace::Steady(rate) = self.pace else { return TICK };
        if rate == 0 {
            return SLEEP_MAX;
        }
        let next_ns = (u128::from(sent) + 1) * 1_000_000_000 / u128::from(rate);
        let next = Duration::from_nanos(u64::try_from(next_ns).unwrap_or(u64::MAX));
        next.saturating_sub(elapsed).clamp(TICK, SLEEP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_pace_is_never_ahead_and_exact_at_whole_seconds() {
        let mut schedule = Schedule::new(Pace::Steady(20_000));
        assert_eq!(schedule.due(Duration::ZERO), 0);
        assert_eq!(schedule.due(Duration::from_nanos(49_999)), 0);
        assert_eq!(schedule.due(Duration::from_micros(50)), 1);
        assert_eq!(schedule.due(Duration::from_secs(1)), 20_000);
        assert_eq!(schedule.due(Duration::from_hours(24)), 20_000 * 86_400);
    }

    #[test]
    fn sleeps_until_the_next_event_but_neither_spins_nor_oversleeps() {
        let sleep = |rate, sent, elapsed| {
            Schedule::new(Pace::Steady(rate)).sleep(sent, Duration::from_micros(elapsed))
        };
        assert_eq!(sleep(200, 0, 1000), Duration::from_millis(4));
        assert_eq!(sleep(200_000, 7, 30), TICK);
        assert_eq!(sleep(1, 0, 0), SLEEP_MAX);
        assert_eq!(sleep(0, 0, 0), SLEEP_MAX);
    }

    #[test]
    fn a_working_day_peaks_in_the_morning_and_adds_up() {
        let shape: Vec<f64> = (0..240).map(|tenth| busy(f64::from(tenth) / 240.0)).collect();
        let top = shape.iter().copied().fold(0.0, f64::max);
        assert!((shape[90] - top).abs() < 1e-9 && (top - 1.0).abs() < 1e-9);
        assert!(shape.iter().all(|part| (0.0..=1.0).contains(part)));
        let pace = Pace::WorkingDay { peak: 1000.0, day: Duration::from_mins(4) };
        let mut schedule = Schedule::new(pace);
        let due = (1..=2400).map(|tick| schedule.due(Duration::from_millis(tick * 100))).last();
        let expected = 1000.0 * shape.iter().sum::<f64>();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let due = due.unwrap() as f64;
        assert!((due / expected - 1.0).abs() < 0.01, "{due} {expected}");
    }
}
