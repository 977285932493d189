//! Days of the Gregorian calendar, for texts with dates and for schedules.

use std::fmt;

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
#[must_use]
pub fn civil_from_days(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    const MARCH_0000_TO_1970: u64 = 719_468;
    let days = days + MARCH_0000_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Writes seconds since 1970 as `2021-11-09T14:37:26`, in UTC.
pub fn write_date_time(out: &mut impl fmt::Write, second: u64) -> fmt::Result {
    let (year, month, day) = civil_from_days(second / 86_400);
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Day of the week of a number of days since 1970: 0 on Mondays.
#[must_use]
pub fn weekday(days: u64) -> u64 {
    // 1970 began on a Thursday.
    (days + 3) % 7
}

/// Week of the year as ISO 8601 counts them: the first is that of the year's first Thursday.
#[must_use]
pub fn week_of_year(days: u64) -> u64 {
    // A week belongs to the year of its Thursday; before January 1970 nothing is asked for.
    let thursday = (days + 3).saturating_sub(weekday(days));
    let year = civil_from_days(thursday).0;
    let mut first = thursday;
    while first >= 7 && civil_from_days(first - 7).0 == year {
        first -= 7;
    }
    (thursday - first) / 7 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (second, wanted) in [(0, "1970-01-01T00:00:00"), (1_700_000_000, "2023-11-14T22:13:20")]
        {
            let mut text = String::new();
            write_date_time(&mut text, second).unwrap();
            assert_eq!(text, wanted);
        }
    }

    #[test]
    fn known_days() {
        for (days, date, weekday_wanted, week) in [
            (0, (1970, 1, 1), 3, 1),
            (19_675, (2023, 11, 14), 1, 46),
            (19_722, (2023, 12, 31), 6, 52),
            (19_723, (2024, 1, 1), 0, 1),
            (19_782, (2024, 2, 29), 3, 9),
            // The first days of 2027 belong to the last week of 2026, which has 53.
            (20_819, (2027, 1, 1), 4, 53),
            (20_822, (2027, 1, 4), 0, 1),
        ] {
            assert_eq!(civil_from_days(days), date);
            assert_eq!(weekday(days), weekday_wanted, "{date:?}");
            assert_eq!(week_of_year(days), week, "{date:?}");
        }
    }
}
