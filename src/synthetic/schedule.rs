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
    /// A company's day, again and again.
    WorkingDay(Day),
}

/// A company's working day, and what happens in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Day {
    /// Events per second when the day is busiest, the incident apart.
    pub peak: f64,
    /// How long the day takes; a short one shows a whole day in a demo.
    pub length: Duration,
}

/// What a cluster goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// People work.
    #[default]
    Work,
    /// Scheduled reloads, and hardly anybody.
    Night,
    /// One engine fails: it answers slowly, the services around it complain, people try again.
    Incident,
}

/// A day begins in the morning, when something happens.
const BEGINS_H: f64 = 7.5;

/// When the engine fails.
const INCIDENT_H: std::ops::Range<f64> = 10.0..11.5;

/// When the database is away.
const OUTAGE_H: std::ops::Range<f64> = 10.5..12.0;

/// The load of an incident, to that of the same time of another day.
const STORM: f64 = 2.5;

impl Day {
    /// The hour of the day so long after the start, from 0 to 24.
    #[must_use]
    pub fn hour(&self, elapsed: Duration) -> f64 {
        let days = elapsed.as_secs_f64() / self.length.as_secs_f64().max(f64::EPSILON);
        (BEGINS_H + 24.0 * days).rem_euclid(24.0)
    }

    /// What the cluster goes through then.
    #[must_use]
    pub fn mood(&self, elapsed: Duration) -> Mood {
        let hour = self.hour(elapsed);
        match hour {
            _ if INCIDENT_H.contains(&hour) => Mood::Incident,
            _ if !(6.0..20.0).contains(&hour) => Mood::Night,
            _ => Mood::Work,
        }
    }

    /// Whether the database is away then.
    #[must_use]
    pub fn outage(&self, elapsed: Duration) -> bool {
        OUTAGE_H.contains(&self.hour(elapsed))
    }

    /// How long after the start the engine fails first, and how long the database stays away.
    #[must_use]
    pub fn incident(&self) -> (Duration, Duration) {
        let of_day = |hours: f64| self.length.mul_f64(hours / 24.0);
        (of_day(INCIDENT_H.start - BEGINS_H), of_day(OUTAGE_H.end - OUTAGE_H.start))
    }

    /// Events per second then.
    fn rate(&self, elapsed: Duration) -> f64 {
        let storm = if self.mood(elapsed) == Mood::Incident { STORM } else { 1.0 };
        self.peak * busy(self.hour(elapsed) / 24.0) * storm
    }
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
            Pace::WorkingDay(day) => {
                let step = elapsed.saturating_sub(self.at).as_secs_f64();
                self.due += day.rate(elapsed) * step;
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
        let day = Day { peak: 1000.0, length: Duration::from_mins(4) };
        let mut schedule = Schedule::new(Pace::WorkingDay(day));
        let due = (1..=2400).map(|tick| schedule.due(Duration::from_millis(tick * 100))).last();
        // The incident lasts from 10.0 to 11.5.
        let storm = (STORM - 1.0) * shape[100..115].iter().sum::<f64>();
        let expected = 1000.0 * (shape.iter().sum::<f64>() + storm);
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let due = due.unwrap() as f64;
        assert!((due / expected - 1.0).abs() < 0.01, "{due} {expected}");
    }

    #[test]
    fn a_day_has_its_incident_its_outage_and_its_night() {
        use Mood::{Incident, Night, Work};
        let day = Day { peak: 100.0, length: Duration::from_hours(24) };
        let at = |hour: f64| Duration::from_secs_f64((hour - BEGINS_H).rem_euclid(24.0) * 3_600.0);
        let moods = [8.0, 10.1, 11.6, 19.0, 21.0, 3.0].map(|hour| day.mood(at(hour)));
        assert_eq!(moods, [Work, Incident, Work, Work, Night, Night]);
        assert_eq!(
            [10.1, 10.6, 11.9, 12.1].map(|hour| day.outage(at(hour))),
            [false, true, true, false]
        );
        let tomorrow = at(10.1) + day.length;
        assert_eq!(day.mood(tomorrow), Incident);
        let (begins, away) = day.incident();
        assert_eq!((begins.as_secs(), away.as_secs()), (9_000, 5_400));
        assert!(day.rate(at(10.1)) > 2.0 * day.rate(at(9.9)));
    }
}
