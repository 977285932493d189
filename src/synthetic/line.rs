//! Writing one datagram: fields with `;` between them, numbers and times as log4net prints them.

/// Bytes that the longest datagram of the catalogue stays under, so that one reservation is enough.
const LINE_MAX: usize = 2048;

/// The tail of a buffer, written field by field.
///
/// Each method writes one field and puts the separator in front of it; only [`Line::begin`] and
/// [`Line::append`] do not.
#[derive(Debug)]
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Line<'a> {
    /// Starts a datagram with its message type.
    pub(super) fn begin(out: &'a mut Vec<u8>, source: &str) -> Self {
        out.reserve(LINE_MAX);
        out.push(b'/');
        out.extend_from_slice(source.as_bytes());
        out.push(b'/');
        Self { out }
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.push(b';');
        self.out.extend_from_slice(bytes);
        self
    }

    /// A field of several parts.
    pub(super) fn parts(&mut self, parts: &[&[u8]]) -> &mut Self {
        self.out.push(b';');
        self.append(parts)
    }

    /// More of the field written last.
    pub(super) fn append(&mut self, parts: &[&[u8]]) -> &mut Self {
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self
    }

    pub(super) fn int(&mut self, value: i64) -> &mut Self {
        self.out.push(b';');
        self.digits(value);
        self
    }

    /// Milliseconds with up to three decimals, from microseconds.
    pub(super) fn millis(&mut self, micros: u32) -> &mut Self {
        self.int(i64::from(micros / 1000));
        let decimals = decimal::<3>(u64::from(micros % 1000));
        let used = decimals.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        if used > 0 {
            self.out.push(b'.');
            self.out.extend_from_slice(&decimals[..used]);
        }
        self
    }

    /// A field from a template in which `%x` stands for what `value` gives for `x`.
    pub(super) fn template<'v>(
        &mut self,
        template: &str,
        value: impl Fn(u8) -> &'v [u8],
    ) -> &mut Self {
        self.out.push(b';');
        let mut rest = template.as_bytes();
        while let Some(at) = memchr::memchr(b'%', rest) {
            self.out.extend_from_slice(&rest[..at]);
            let Some(&name) = rest.get(at + 1) else { break };
            self.out.extend_from_slice(value(name));
            rest = &rest[at + 2..];
        }
        self.out.extend_from_slice(rest);
        self
    }

    fn digits(&mut self, value: i64) {
        let mut buffer = [0; <i64 as lexical_core::FormattedSize>::FORMATTED_SIZE];
        self.out.extend_from_slice(lexical_core::write(value, &mut buffer));
    }
}

/// The decimal digits of a number, filled up with zeros in front.
fn decimal<const N: usize>(mut value: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        // A remainder of ten fits a byte.
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    digits
}

/// The servers' zone, one hour ahead of UTC.
const ZONE_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// A moment as the two texts that every log event carries.
///
/// Kept between events: within one second only the milliseconds are written anew.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    unix_ms: u64,
    compact: [u8; 24],
    local: [u8; 23],
}

impl Stamp {
    pub(super) fn new(unix_ms: u64) -> Self {
        let compact = *b"00000000T000000.000+0100";
        let local = *b"0000-00-00 00:00:00,000";
        let mut stamp = Self { unix_ms, compact, local };
        stamp.write_second();
        stamp.write_millisecond();
        stamp
    }

    /// Moves to another moment, in ms since 1970.
    pub(super) fn set(&mut self, unix_ms: u64) {
        let before = std::mem::replace(&mut self.unix_ms, unix_ms);
        if before / 1000 != unix_ms / 1000 {
            self.write_second();
        }
        if before != unix_ms {
            self.write_millisecond();
        }
    }

    /// `20211109T153726.028+0100`
    pub(super) fn compact(&self) -> &[u8] {
        &self.compact
    }

    /// `2021-11-09 15:37:26,028`
    pub(super) fn local(&self) -> &[u8] {
        &self.local
    }

    fn write_second(&mut self) {
        let local_ms = self.unix_ms + ZONE_MS;
        let [year, month, day] = date(local_ms / DAY_MS);
        let second = local_ms % DAY_MS / 1000;
        let (year, month, day) = (decimal::<4>(year), decimal::<2>(month), decimal::<2>(day));
        let hour = decimal::<2>(second / 3600);
        let minute = decimal::<2>(second / 60 % 60);
        let second = decimal::<2>(second % 60);
        for (at, digits) in [(4, month), (6, day), (9, hour), (11, minute), (13, second)] {
            self.compact[at..at + 2].copy_from_slice(&digits);
        }
        for (at, digits) in [(5, month), (8, day), (11, hour), (14, minute), (17, second)] {
            self.local[at..at + 2].copy_from_slice(&digits);
        }
        self.compact[..4].copy_from_slice(&year);
        self.local[..4].copy_from_slice(&year);
    }

    fn write_millisecond(&mut self) {
        let digits = decimal::<3>(self.unix_ms % 1000);
        self.compact[16..19].copy_from_slice(&digits);
        self.local[20..23].copy_from_slice(&digits);
    }
}

/// Year, month and day of a day number, 0 being 1 January 1970; valid until the year 9999.
fn date(mut day: u64) -> [u64; 3] {
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    [year, month, day + 1]
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(unix_ms: u64) -> (String, String) {
        let stamp = Stamp::new(unix_ms);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(stamp.compact()), text(stamp.local()))
    }

    #[test]
    fn stamps_are_calendar_dates() {
        for (unix_ms, compact, local) in [
            (0, "19700101T010000.000+0100", "1970-01-01 01:00:00,000"),
            (1_709_161_199_999, "20240228T235959.999+0100", "2024-02-28 23:59:59,999"),
            (1_709_161_200_000, "20240229T000000.000+0100", "2024-02-29 00:00:00,000"),
            (1_735_689_599_007, "20250101T005959.007+0100", "2025-01-01 00:59:59,007"),
            (4_107_538_800_000, "21000301T000000.000+0100", "2100-03-01 00:00:00,000"),
        ] {
            assert_eq!(stamps(unix_ms), (compact.to_owned(), local.to_owned()));
        }
    }

    #[test]
    fn moving_a_stamp_equals_making_one() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut unix_ms = 1_736_150_400_000;
        let mut stamp = Stamp::new(unix_ms);
        for _ in 0..1000 {
            unix_ms += rng.u64(0..2000);
            stamp.set(unix_ms);
            let new = Stamp::new(unix_ms);
            assert_eq!((stamp.compact(), stamp.local()), (new.compact(), new.local()));
        }
    }

    #[test]
    fn fields_are_separated_and_numbers_are_plain() {
        let mut out = b"kept".to_vec();
        Line::begin(&mut out, "t")
            .text("a")
            .parts(&[b"b", b"c"])
            .int(-1)
            .millis(12_500)
            .millis(7)
            .millis(3000)
            .template("x %u and %u, 5 %p", |name| if name == b'u' { b"me" } else { b"%" });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "kept/t/;a;bc;-1;12.5;0.007;3;x me and me, 5 %"
        );
    }
}
