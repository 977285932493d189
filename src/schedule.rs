//! When something is done that the file schedules in words, such as `every 15 minutes`.
//!
//! The words are those of the `later` library that Butler SOS uses, as far as they name regular
//! moments:
//!
//! ```text
//! every 15 minutes              at minute 0, 15, 30 and 45 of each hour
//! every 2 hours                 at 0:00, 2:00, … 22:00
//! every day                     at 0:00
//! every 2 days                  at 0:00 of days 1, 3, 5, … of each month
//! every 2 weeks                 on Mondays at 0:00, of weeks 1, 3, 5, … of the year
//! every 3 months                at 0:00 of the first of January, April, July and October
//! every weekday, every weekend  at 0:00 of these days
//! on friday and sunday          at 0:00 of these days
//! at 10:15 am and 5:00 pm       each day at these times; also `at 22:15`
//! ```
//!
//! Days go with times or with steps within the day, in any order: `every 2 days at 10:15 am`,
//! `at 17:00 on friday`, `every 15 minutes on weekday`. Times are UTC, the default of `later`, and as
//! there steps are counted from the start of the minute, hour, day, month or year and begin anew with
//! the next one: `every 40 minutes` means minutes 0 and 40.

use std::iter::Peekable;
use std::str::SplitWhitespace;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::calendar::{civil_from_days, week_of_year, weekday};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Every schedule has a moment in each stretch of so many days: a year, and the week around its end.
const DAYS_MAX: u64 = 372;

/// Regular moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    days: Days,
    moments: Moments,
}

/// The days that have moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    All,
    /// The first of each month, and from there in steps.
    OfMonth(u64),
    /// Mondays, of the first week of the year and from there in steps.
    Weeks(u64),
    /// The first, of January and from there in steps.
    Months(u64),
    /// A bit for each day of the week, the lowest for Monday.
    OfWeek(u8),
}

/// The moments of a day, in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Moments {
    /// From the start of each period in steps.
    Every { period: u64, step: u64 },
    /// These, in order.
    At(Vec<u64>),
}

/// The text is none of the forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a schedule: use text such as `every 15 minutes` or `at 10:15 am`")]
pub struct UnknownSchedule;

impl Schedule {
    /// Time from `now` to the next moment; more than zero, and a year at most.
    #[must_use]
    pub fn until_next(&self, now: SystemTime) -> Duration {
        // A clock before 1970 is so wrong that any moment will do.
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = self.next_after(now.as_secs());
        let whole = Duration::from_secs(next - now.as_secs());
        whole.saturating_sub(Duration::from_nanos(now.subsec_nanos().into()))
    }

    /// Time between the next moment and the one after it.
    #[must_use]
    pub fn interval(&self, now: SystemTime) -> Duration {
        self.until_next(now + self.until_next(now))
    }

    /// The first moment after this one, in seconds since 1970.
    fn next_after(&self, seconds: u64) -> u64 {
        let today = seconds / DAY;
        let mut days = (today..=today + DAYS_MAX).filter(|day| self.days.has(*day));
        let next = days.find_map(|day| {
            // Later days begin with their first moment.
            let from = (seconds + 1).saturating_sub(day * DAY);
            Some(day * DAY + self.moments.first_from(from)?)
        });
        next.unwrap_or((today + DAYS_MAX) * DAY)
    }
}

impl Days {
    fn has(self, day: u64) -> bool {
        let (_, month, day_of_month) = civil_from_days(day);
        match self {
            Self::All => true,
            Self::OfMonth(step) => (day_of_month - 1).is_multiple_of(step),
            Self::Weeks(step) => weekday(day) == 0 && (week_of_year(day) - 1).is_multiple_of(step),
            Self::Months(step) => day_of_month == 1 && (month - 1).is_multiple_of(step),
            Self::OfWeek(days) => days & (1 << weekday(day)) != 0,
        }
    }
}

impl Moments {
    /// The first that is not before this second of the day.
    fn first_from(&self, from: u64) -> Option<u64> {
        match self {
            Self::At(moments) => moments.iter().copied().find(|moment| *moment >= from),
            Self::Every { period, step } => {
                let start = from / period * period;
                let into = (from - start).div_ceil(*step).checked_mul(*step);
                let next =
                    into.filter(|into| into < period).map_or(start + period, |it| start + it);
                (next < DAY).then_some(next)
            }
        }
    }
}

/// What has been read of a text.
#[derive(Debug, Default)]
struct Read {
    days: Option<Days>,
    moments: Option<Moments>,
}

type Words<'t> = Peekable<SplitWhitespace<'t>>;

impl Read {
    /// Each of the two can be said once.
    fn days(&mut self, days: Days) -> Option<()> {
        self.days.replace(days).is_none().then_some(())
    }

    fn moments(&mut self, moments: Moments) -> Option<()> {
        self.moments.replace(moments).is_none().then_some(())
    }

    /// What follows `every`.
    fn every(&mut self, words: &mut Words<'_>) -> Option<()> {
        let word = words.next()?;
        let (count, unit): (u64, &str) = match word.parse() {
            Ok(count) => (count, words.next()?),
            Err(_) if word.starts_with(|first: char| first.is_ascii_alphabetic()) => (1, word),
            Err(_) => return None,
        };
        if count == 0 {
            return None;
        }
        let (unit, period) = match unit {
            "s" | "sec" | "secs" | "second" | "seconds" => (1, MINUTE),
            "m" | "min" | "mins" | "minute" | "minutes" => (MINUTE, HOUR),
            "h" | "hour" | "hours" => (HOUR, DAY),
            "day" | "days" if count == 1 => return self.days(Days::All),
            "day" | "days" => return self.days(Days::OfMonth(count)),
            "week" | "weeks" => return self.days(Days::Weeks(count)),
            "month" | "months" => return self.days(Days::Months(count)),
            _ if count == 1 => return self.days(Days::OfWeek(days_of_week(unit)?)),
            _ => return None,
        };
        self.moments(Moments::Every { period, step: unit.checked_mul(count)? })
    }

    /// What follows `on`.
    fn on(&mut self, words: &mut Words<'_>) -> Option<()> {
        let mut days = days_of_week(words.next()?)?;
        while words.next_if_eq(&"and").is_some() {
            days |= days_of_week(words.next()?)?;
        }
        self.days(Days::OfWeek(days))
    }

    /// What follows `at`.
    fn at(&mut self, words: &mut Words<'_>) -> Option<()> {
        let mut moments = Vec::new();
        loop {
            let time = words.next()?;
            let half = words.next_if(|word| matches!(*word, "am" | "pm"));
            moments.push(time_of_day(time, half)?);
            if words.next_if_eq(&"and").is_none() {
                break;
            }
        }
        moments.sort_unstable();
        self.moments(Moments::At(moments))
    }
}

/// The days that a word stands for, as bits.
fn days_of_week(word: &str) -> Option<u8> {
    const NAMES: [&str; 7] =
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    match word {
        "weekday" | "weekdays" => Some(0b001_1111),
        "weekend" | "weekends" => Some(0b110_0000),
        _ => {
            let is_named = |name: &str| name == word || (word.len() == 3 && name.starts_with(word));
            NAMES.into_iter().position(is_named).map(|day| 1 << day)
        }
    }
}

fn time_of_day(time: &str, half: Option<&str>) -> Option<u64> {
    let (hour, minute) = time.split_once(':')?;
    let number = |text: &str| -> Option<u64> {
        let is_number = matches!(text.len(), 1 | 2) && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|minute| *minute < 60)?);
    let hour = match half {
        None => Some(hour).filter(|hour| *hour < 24),
        Some(half) => {
            let afternoon = if half == "pm" { 12 } else { 0 };
            Some(hour).filter(|hour| (1..=12).contains(hour)).map(|hour| hour % 12 + afternoon)
        }
    }?;
    Some(hour * HOUR + minute * MINUTE)
}

impl std::str::FromStr for Schedule {
    type Err = UnknownSchedule;

    fn from_str(text: &str) -> Result<Self, UnknownSchedule> {
        let text = text.to_ascii_lowercase();
        // `10:15am` is `10:15 am`, and a comma is an `and`.
        let text = text.replace("am", " am").replace("pm", " pm").replace(',', " and ");
        let mut words = text.split_whitespace().peekable();
        let mut read = Read::default();
        while let Some(word) = words.next() {
            let phrase = match word {
                "every" => read.every(&mut words),
                "on" => read.on(&mut words),
                "at" => read.at(&mut words),
                _ => None,
            };
            phrase.ok_or(UnknownSchedule)?;
        }
        match read {
            Read { days: None, moments: None } => Err(UnknownSchedule),
            Read { days, moments } => Ok(Self {
                days: days.unwrap_or(Days::All),
                moments: moments.unwrap_or_else(|| Moments::At(vec![0])),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2023-11-14 22:13:20 UTC, a Tuesday.
    const NOW: u64 = 1_700_000_000;

    /// To the next midnight.
    const MIDNIGHT: u64 = HOUR + 46 * MINUTE + 40;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn until(text: &str, at: u64) -> u64 {
        schedule(text).until_next(UNIX_EPOCH + Duration::from_secs(at)).as_secs()
    }

    #[test]
    fn moments_are_those_of_the_clock() {
        for (text, seconds) in [
            ("every 30 seconds", 10),
            ("every 15 minutes", 100),
            ("every minute", 40),
            ("every 40 mins", 26 * 60 + 40),
            ("every 1 hour", 46 * 60 + 40),
            (" Every  2 Hours ", MIDNIGHT),
            ("every 5 hours", MIDNIGHT),
            ("every 90 seconds", 40),
            ("every day", MIDNIGHT),
            ("at 10:15 pm", 100),
            ("at 22:14", 40),
            ("every day at 10:13 pm", DAY - 20),
            ("at 12:00am", MIDNIGHT),
            ("at 12:00 pm", MIDNIGHT + 12 * HOUR),
            ("at 10:15 am and 10:15 pm", 100),
            ("at 6:00, 0:30", MIDNIGHT + 30 * MINUTE),
        ] {
            assert_eq!(until(text, NOW), seconds, "{text}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, days) in [
            ("every 2 days", 0),   // the 15th
            ("every 5 days", 1),   // the 16th
            ("every 40 days", 16), // the first of December
            ("every week", 5),     // Monday the 20th
            ("every 2 weeks", 5),  // week 47
            ("every 3 weeks", 19), // week 49, the 4th of December
            ("every month", 16),
            ("every 3 months", 47), // January
            ("every weekday", 0),
            ("every weekend", 3),
            ("every friday", 2),
            ("on sunday and fri", 2),
        ] {
            assert_eq!(until(text, NOW), days * DAY + MIDNIGHT, "{text}");
        }
        assert_eq!(until("every 2 days at 10:15 am", NOW), MIDNIGHT + 10 * HOUR + 15 * MINUTE);
        assert_eq!(until("at 17:00 on friday", NOW), 2 * DAY + MIDNIGHT + 17 * HOUR);
        assert_eq!(until("every 15 minutes on weekend", NOW), 3 * DAY + MIDNIGHT);
        assert_eq!(until("every 15 minutes on tuesday", NOW), 100);
    }

    #[test]
    fn the_next_moment_is_never_now() {
        let midnight = NOW - NOW % DAY;
        assert_eq!(until("every 15 minutes", midnight), 900);
        assert_eq!(until("every day", midnight), DAY);
        assert_eq!(until("at 0:00", midnight), DAY);
        let now = UNIX_EPOCH + Duration::from_millis(1_250);
        assert_eq!(schedule("every 1 second").until_next(now), Duration::from_millis(750));
    }

    #[test]
    fn intervals_lie_between_two_moments() {
        let now = UNIX_EPOCH + Duration::from_millis(NOW * 1000 + 1);
        for (text, seconds) in [
            ("every 15 minutes", 15 * MINUTE),
            ("every day", DAY),
            ("every weekend", DAY),
            ("at 0:00 and 1:00", HOUR),
        ] {
            assert_eq!(schedule(text).interval(now), Duration::from_secs(seconds), "{text}");
        }
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
            "every 2 weekdays",
            "every 0 days",
            "every 15 minutes please",
            "every 15 minutes every 2 hours",
            "every 2 days on friday",
            "every 15 minutes at 10:15",
            "after 10 minutes",
            "on",
            "on friday and",
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
            "at 10:15 and",
            "*/5 * * * *",
        ] {
            assert_eq!(text.parse::<Schedule>(), Err(UnknownSchedule), "{text}");
        }
    }
}
