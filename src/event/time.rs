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
    let mut rest = Rest(text);
    read(&mut rest).is_some() && rest.0.is_empty()
}

fn read(rest: &mut Rest<'_>) -> Option<()> {
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
    rest.number(3)?;
    if !local {
        offset(rest)?;
    }
    let in_range =
        (1..=days_in(year, month)).contains(&day) && is_clock(hour, minute) && second < 60;
    in_range.then_some(())
}

fn offset(rest: &mut Rest<'_>) -> Option<()> {
    if rest.skip(b'Z') {
        return Some(());
    }
    if !rest.skip(b'+') {
        rest.expect(b'-')?;
    }
    let hour = rest.number(2)?;
    rest.skip(b':');
    let minute = rest.number(2)?;
    is_clock(hour, minute).then_some(())
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
    use super::is_valid;

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
