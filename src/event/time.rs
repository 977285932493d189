//! Is this text a time? (difference 3)
//!
//! The payload reference has three forms, and all of them are accepted in every column that holds a
//! time:
//!
//! ```text
//! 20211109T153726.028+0200         compact
//! 2021-11-09T15:37:26.028+0200     hyphenated
//! 2021-11-09 15:37:26,028          local
//! ```
//!
//! The offset may be negative, `Z`, or have a colon. The date has to be in the calendar. Anything else,
//! such as a time without milliseconds, is no time, as in Butler SOS. The text itself is passed on
//! unchanged.

/// Whether the text is a time in one of the accepted forms.
pub(super) fn is_valid(text: &[u8]) -> bool {
    TimeText::read(text).is_some()
}

/// Whether the text is a usual time, by what is known of its digits (the bits from its start on):
/// compact or local, and on a day that every month has. What is not may be a time all the same.
#[inline]
pub(super) fn is_usual(text: &[u8], digits: u64) -> bool {
    const COMPACT: u64 = 0b1111_0111_0111_1110_1111_1111;
    const LOCAL: u64 = 0b111_0110_1101_1011_0110_1111;
    let two = |at: usize| u32::from(text[at] & 0xF) * 10 + u32::from(text[at + 1] & 0xF);
    let is_date = |month, day| (1..=12).contains(&two(month)) && (1..=28).contains(&two(day));
    let is_clock = |hour, minute| two(hour) < 24 && two(minute) < 60;
    match text.len() {
        24 => {
            digits & ((1 << 24) - 1) == COMPACT
                && (text[8], text[15]) == (b'T', b'.')
                && matches!(text[19], b'+' | b'-')
                && is_date(4, 6)
                && is_clock(9, 11)
                && two(13) < 60
                && is_clock(20, 22)
        }
        23 => {
            digits & ((1 << 23) - 1) == LOCAL
                && [text[4], text[7], text[10], text[13], text[16], text[19]] == *b"-- ::,"
                && is_date(5, 8)
                && is_clock(11, 14)
                && two(17) < 60
        }
        _ => false,
    }
}

/// A time that a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeText {
    date: [u16; 3],
    clock: [u16; 3],
    millisecond: u16,
    /// Minutes that the clock is ahead of UTC, if the text says so.
    ahead: Option<i16>,
}

impl TimeText {
    /// The time, if the text has one of the accepted forms.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut rest = Rest(text);
        read(&mut rest).filter(|_| rest.0.is_empty())
    }

    /// What calendar and clock show, in ms since they showed 1970.
    #[must_use]
    pub fn shown_ms(&self) -> i64 {
        let [year, month, day] = self.date;
        let [hour, minute, second] = self.clock.map(i64::from);
        let days = days_from_civil(year.into(), month.into(), day.into());
        (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + i64::from(self.millisecond)
    }

    /// The moment, in ms since 1970 in UTC; `None` when the text does not say where the clock is.
    #[must_use]
    pub fn moment_ms(&self) -> Option<i64> {
        Some(self.shown_ms() - i64::from(self.ahead?) * 60_000)
    }
}

/// Days since 1970 of a date of the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    const MARCH_0000_TO_1970: i64 = 719_468;
    let year = year - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month_from_march + 2) / 5 + day - 1 - MARCH_0000_TO_1970
}

fn read(rest: &mut Rest<'_>) -> Option<TimeText> {
    let year = rest.number(4)?;
    let hyphenated = rest.skip(b'-');
    let month = rest.number(2)?;
    if hyphenated {
        rest.expect(b'-')?;
    }
    let day = rest.number(2)?;
    let local = hyphenated && rest.skip(b' ');
    if !local {
        rest.expect(b'T')?;
    }
    let hour = rest.number(2)?;
    if hyphenated {
        rest.expect(b':')?;
    }
    let minute = rest.number(2)?;
    if hyphenated {
        rest.expect(b':')?;
    }
    let second = rest.number(2)?;
    rest.expect(if local { b',' } else { b'.' })?;
    let millisecond = rest.number(3)?;
    let ahead = if local { None } else { Some(offset(rest)?) };
    let in_range =
        (1..=days_in(year, month)).contains(&day) && is_clock(hour, minute) && second < 60;
    let (date, clock) = ([year, month, day], [hour, minute, second]);
    in_range.then_some(TimeText { date, clock, millisecond, ahead })
}

/// Minutes ahead of UTC.
fn offset(rest: &mut Rest<'_>) -> Option<i16> {
    if rest.skip(b'Z') {
        return Some(0);
    }
    let ahead = rest.skip(b'+');
    if !ahead {
        rest.expect(b'-')?;
    }
    let hour = rest.number(2)?;
    rest.skip(b':');
    let minute = rest.number(2)?;
    // Less than a day.
    let minutes = i16::try_from(hour * 60 + minute).ok().filter(|_| is_clock(hour, minute))?;
    Some(if ahead { minutes } else { -minutes })
}

const fn is_clock(hour: u16, minute: u16) -> bool {
    hour < 24 && minute < 60
}

/// Days of a month of the Gregorian calendar; none for a month that does not exist.
const fn days_in(year: u16, month: u16) -> u16 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 0,
    }
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Exactly this many decimal digits, at most four.
    fn number(&mut self, digits: usize) -> Option<u16> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + u16::from(byte - b'0'))
        })
    }

    /// Steps over a byte if it comes next.
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip(byte).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Ends, Marks, scan};
    use super::{TimeText, is_usual, is_valid};
    use proptest::prelude::*;

    fn takes_the_short_cut(text: &str) -> bool {
        let (mut ends, mut marks) = (Ends::NONE, [Marks::NONE; 2]);
        scan(text.as_bytes().into(), &mut ends, marks.each_mut());
        is_usual(text.as_bytes(), marks[1].from(0))
    }

    proptest! {
        #[test]
        fn what_takes_the_short_cut_is_a_time(
            text in prop_oneof![
                "20[0-2][0-9][01][0-9][0-3][0-9]T[0-2][0-9][0-6][0-9][0-6][0-9][.][0-9]{3}[+-][0-2][0-9][0-6][0-9]",
                "20[0-2][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-6][0-9]:[0-6][0-9],[0-9]{3}",
            ],
            change in prop::option::of((0..24_usize, "[0-9A-Z:., +-]")),
        ) {
            let mut text: String = text;
            if let Some((at, with)) = change && at < text.len() {
                text.replace_range(at..=at, &with);
            }
            prop_assert!(is_valid(text.as_bytes()) || !takes_the_short_cut(&text));
        }
    }

    #[test]
    fn usual_times_take_the_short_cut() {
        for text in
            ["20211109T153726.028+0200", "20241228T235959.999-0500", "2021-11-09 15:37:26,028"]
        {
            assert!(takes_the_short_cut(text), "{text}");
        }
        // The calendar says whether there is such a day.
        assert!(is_valid(b"2021-12-31 15:37:26,028"));
        assert!(!takes_the_short_cut("2021-12-31 15:37:26,028"));
    }

    #[test]
    fn moments() {
        for (text, shown, moment) in [
            ("1970-01-01T00:00:00.000Z", 0, Some(0)),
            ("20211109T153726.028+0200", 1_636_472_246_028, Some(1_636_465_046_028)),
            ("2021-11-09T15:37:26.028-03:30", 1_636_472_246_028, Some(1_636_484_846_028)),
            ("2021-11-09 15:37:26,028", 1_636_472_246_028, None),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999, Some(951_868_799_999)),
            ("1969-12-31T23:59:59.999Z", -1, Some(-1)),
            ("0000-03-01T00:00:00.000Z", -62_162_035_200_000, Some(-62_162_035_200_000)),
        ] {
            let time = TimeText::read(text.as_bytes()).unwrap();
            assert_eq!((time.shown_ms(), time.moment_ms()), (shown, moment), "{text}");
        }
    }

    #[test]
    fn forms_of_the_payload_reference() {
        for text in [
            "20211109T153726.028+0200",
            "2021-11-09T15:37:26.028+0200",
            "2021-11-09 15:37:26,028",
            "20211109T153726.028-0500",
            "2021-11-09T15:37:26.028-0500",
            "2021-11-09T15:37:26.028Z",
            "20211109T153726.028Z",
            "2021-11-09T15:37:26.028+01:00",
            "20211109T153726.028-03:30",
        ] {
            assert!(is_valid(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn other_text_is_not_a_time() {
        for text in [
            "",
            "yesterday",
            "20211109",
            "2021-11-09",
            "2021-11-09T15:37:26.028",
            "2021-11-09 15:37:26.028",
            "2021-11-09T15:37:26,028+0200",
            "2021-11-09T15:37:26.028123+0200",
            "2021-11-09T15:37:26+0200",
            "20211109T153726Z",
            "2021-11-09 15:37:26",
            "2021-11-09T15:37:26.028+0200 ",
            "2021-11-09 15:37:26,028+0200",
            "2021-1109T15:37:26.028+0200",
            "20211109 153726,028",
            "20211109T15:37:26.028+0200",
            "2021-11-09T15:37:26.028+02",
            "2021-11-09T15:37:26.028z",
            "٢٠٢١-11-09T15:37:26.028+0200",
        ] {
            assert!(!is_valid(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn dates_are_in_the_calendar() {
        let cases = [
            ("2024-02-29", true),
            ("2023-02-29", false),
            ("2000-02-29", true),
            ("1900-02-29", false),
            ("2021-04-31", false),
            ("2021-12-31", true),
            ("2021-13-01", false),
            ("2021-00-01", false),
            ("2021-01-00", false),
        ];
        for (date, valid) in cases {
            assert_eq!(is_valid(format!("{date} 15:37:26,028").as_bytes()), valid, "{date}");
        }
    }

    #[test]
    fn clocks_and_offsets_are_in_range() {
        for text in [
            "2021-11-09T24:00:00.000Z",
            "2021-11-09T23:60:00.000Z",
            "2021-11-09T23:59:60.000Z",
            "2021-11-09T23:59:59.000+2400",
            "2021-11-09T23:59:59.000+0060",
        ] {
            assert!(!is_valid(text.as_bytes()), "{text}");
        }
        assert!(is_valid(b"2021-11-09T23:59:59.000+2359"));
    }
}
