//! More fields than columns: which field belongs to which column.

use ringside::event::Kind;

use crate::butler_sos::{Take, columns_of, is_lower_uuid};

const MESSAGE: usize = 8;

/// One piece for each column, as far as there are any.
///
/// Readings, in the order in which they are tried: all columns from the left, the rest ignored; or
/// the surplus in the message, for the scheduler also in the exception, the task's name or the app's
/// name, with the columns behind it from the right. The first reading in which all UUIDs, times and
/// whole numbers from the message on are what they should be, or empty, is taken; where the surplus
/// in the message is such a reading, or none is, it is that one.
pub fn assign(kind: Kind, pieces: &[&str]) -> Vec<String> {
    let columns = columns_of(kind);
    let from_left = || pieces.iter().take(columns.len()).map(|&piece| piece.to_owned()).collect();
    if pieces.len() <= columns.len() || kind == Kind::QixPerf {
        return from_left();
    }
    let extra = pieces.len() - columns.len();
    let wide = |at: usize| {
        let mut read: Vec<String> = pieces[..at].iter().map(|&piece| piece.to_owned()).collect();
        read.push(pieces[at..=at + extra].join(";"));
        read.extend(pieces[at + extra + 1..].iter().map(|&piece| piece.to_owned()));
        read
    };
    let mut readings: Vec<Vec<String>> = vec![from_left(), wide(MESSAGE)];
    if kind == Kind::Scheduler {
        let named = |name| columns.iter().position(|(column, _)| *column == name).expect(name);
        readings.extend(["exception_message", "task_name", "app_name"].map(named).map(wide));
    }
    let holds = |reading: &Vec<String>| {
        columns.iter().zip(reading).skip(MESSAGE).all(|((name, take), piece)| {
            piece.is_empty() || piece == "(null)" || is_plausible(name, *take, piece)
        })
    };
    let first = readings.iter().position(holds).unwrap_or(1);
    let chosen = if holds(&readings[1]) { 1 } else { first };
    readings.swap_remove(chosen)
}

fn is_plausible(name: &str, take: Take, piece: &str) -> bool {
    match take {
        // No user is behind the event.
        Take::Uuid if name == "proxy_session_id" && piece == "0" => true,
        Take::Uuid => is_lower_uuid(&piece.to_ascii_lowercase()),
        // Directory and id.
        Take::Text(_) if name == "user_full" => piece.contains('\\'),
        Take::Time(_) => is_time(piece),
        Take::Int(..) => piece.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+'),
        Take::Source | Take::Text(_) | Take::Float => true,
    }
}

/// Whether the text is a time in one of the three forms of the payload reference, with any offset,
/// and is in the calendar.
pub fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let offsets = ["+0000", "-0000", "+00:00", "-00:00", "Z"];
    let zoned = |form: &str| offsets.iter().any(|offset| shape == format!("{form}{offset}"));
    if !(zoned("00000000T000000.000")
        || zoned("0000-00-00T00:00:00.000")
        || shape == "0000-00-00 00:00:00,000")
    {
        return false;
    }
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |n, d| n * 10 + d);
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    let offset = if digits.len() > 17 { (number(17, 19), number(19, 21)) } else { (0, 0) };
    (1..=days).contains(&day)
        && number(8, 10) < 24
        && number(10, 12) < 60
        && number(12, 14) < 60
        && offset.0 < 24
        && offset.1 < 60
}
