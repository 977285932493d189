//! When something is done that the file schedules in words, such as `every 15 minutes`.
//!
//! The words are those of the `later` library that Butler SOS uses, in their simple forms:
//!
//! ```text
//! every 15 minutes          at minute 0, 15, 30 and 45 of each hour
//! every 2 hours             at 0:00, 2:00, … 22:00
//! every day                 at 0:00
//! at 10:15 am               each day at that time; also `at 22:15`, `every day at 10:15 am`
//! ```
//!
//! Times are UTC, the default of `later`, and as there steps are counted from the start of the minute, hour or day and begin
//! anew with the next one: `every 40 minutes` means minutes 0 and 40.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Regular moments, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// After this time everything repeats.
    period: u64,
    /// The first moment of a period, from its start.
    first: u64,
    /// Time between two moments of one period.
    step: u64,
}

/// The text is none of the forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a schedule: use text such as `every 15 minutes` or `at 10:15 am`")]
pub struct UnknownSchedule;

impl Schedule {
    /// Time from `now` to the next moment; more than zero, and at most a day.
    #[must_use]
    pub fn until_next(&self, now: SystemTime) -> Duration {
        // A clock before 1970 is so wrong that any moment will do.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let into_period = now.as_secs() % self.period;
        let next = if into_period < self.first {
            self.first
        } else {
            let steps = (into_period - self.first) / self.step + 1;
            let next = self.first.saturating_add(steps.saturating_mul(self.step));
            if next < self.period { next } else { self.period + self.first }
        };
        let whole = Duration::from_secs(next - into_period);
        whole.saturating_sub(Duration::from_nanos(now.subsec_nanos().into()))
    }

    fn every(count: u64, unit: &str) -> Option<Self> {
        let (unit, period) = match unit {
            "s" | "sec" | "secs" | "second" | "seconds" => (1, MINUTE),
            "m" | "min" | "mins" | "minute" | "minutes" => (MINUTE, HOUR),
            "h" | "hour" | "hours" => (HOUR, DAY),
            // Several days would have to be counted from the start of the month.
            "day" | "days" if count == 1 => (DAY, DAY),
            _ => return None,
        };
        let step = unit.checked_mul(count).filter(|step| *step > 0)?;
        Some(Self { period, first: 0, step })
    }

    fn daily(time: &str, half: Option<&str>) -> Option<Self> {
        let (hour, minute) = time.split_once(':')?;
        let number = |text: &str| -> Option<u64> {
            let is_number = matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten()
        };
        let (hour, minute) = (number(hour)?, number(minute).filter(|minute| *minute < 60)?);
        let hour = match half {
            None => Some(hour).filter(|hour| *hour < 24),
            Some(half) => {
                let afternoon = match half {
                    "am" => 0,
                    "pm" => 12,
                    _ => return None,
                };
                Some(hour).filter(|hour| (1..=12).contains(hour)).map(|hour| hour % 12 + afternoon)
            }
        }?;
        Some(Self { period: DAY, first: hour * HOUR + minute * MINUTE, step: DAY })
    }
}

impl std::str::FromStr for Schedule {
    type Err = UnknownSchedule;

    fn from_str(text: &str) -> Result<Self, UnknownSchedule> {
        let text = text.to_ascii_lowercase();
        // `10:15am` is `10:15 am`.
        let text = text.replace("am", " am").replace("pm", " pm");
        let words: Vec<&str> = text.split_whitespace().collect();
        let schedule = match words.as_slice() {
            ["every", "day" | "days", "at", time @ ..]
            | ["every", "1", "day" | "days", "at", time @ ..]
            | ["at", time @ ..] => match time {
                [time] => Self::daily(time, None),
                [time, half] => Self::daily(time, Some(half)),
                _ => None,
            },
            ["every", unit] => Self::every(1, unit),
            ["every", count, unit] => count.parse().ok().and_then(|count| Self::every(count, unit)),
            _ => None,
        };
        schedule.ok_or(UnknownSchedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14 22:13:20 UTC.
    const NOW: u64 = 1_700_000_000;

    fn until(text: &str, at: u64) -> u64 {
        let schedule: Schedule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        schedule.until_next(UNIX_EPOCH + Duration::from_secs(at)).as_secs()
    }

    #[test]
    fn moments_are_those_of_the_clock() {
        for (text, seconds) in [
            ("every 30 seconds", 10),
            ("every 15 minutes", 100),
            ("every minute", 40),
            ("every 40 mins", 26 * 60 + 40),
            ("every 1 hour", 46 * 60 + 40),
            (" Every  2 Hours ", 3600 + 46 * 60 + 40),
            ("every 5 hours", 3600 + 46 * 60 + 40),
            ("every 90 seconds", 40),
            ("every day", 3600 + 46 * 60 + 40),
            ("at 10:15 pm", 100),
            ("at 22:14", 40),
            ("every day at 10:13 pm", DAY - 20),
            ("at 12:00am", 3600 + 46 * 60 + 40),
            ("at 12:00 pm", DAY - (10 * HOUR + 13 * MINUTE + 20)),
        ] {
            assert_eq!(until(text, NOW), seconds, "{text}");
        }
    }

    #[test]
    fn the_next_moment_is_never_now() {
        let midnight = NOW - NOW % DAY;
        assert_eq!(until("every 15 minutes", midnight), 900);
        assert_eq!(until("every day", midnight), DAY);
        assert_eq!(until("at 0:00", midnight), DAY);
        let schedule: Schedule = "every 1 second".parse().unwrap();
        let now = UNIX_EPOCH + Duration::from_millis(1_250);
        assert_eq!(schedule.until_next(now), Duration::from_millis(750));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "every",
            "every 0 minutes",
            "every -1 minutes",
            "every 1.5 hours",
            "every fortnight",
            "every 2 days",
            "every 15 minutes please",
            "15 minutes",
            "every 99999999999999999999 minutes",
            "every 18446744073709551615 hours",
            "at",
            "at 24:00",
            "at 10:60",
            "at 13:00 pm",
            "at 0:10 am",
            "at +1:10",
            "at 10",
            "*/5 * * * *",
        ] {
            assert_eq!(text.parse::<Schedule>(), Err(UnknownSchedule), "{text}");
        }
    }
}
