//! What to do when there are more fields than columns.
//!
//! A message may hold the separator, so a datagram can have more fields than its layout has columns.
//! Then there are several ways to read it:
//!
//! * (a) the extra trailing fields are new, sent by a newer appender: ignore them;
//! * (b) the message holds the extra separators: count the columns after it from the right;
//! * the same with another column of free text in the message's place (scheduler).
//!
//! A reading holds when the UUIDs, times and whole numbers from the message on are what their columns
//! ask for, or empty, and so is the scheduler's `DIRECTORY\id`, without which its last three readings
//! could not be told apart. (b) wins if it holds, or if none does; else the first that holds, in the
//! order above. Separators of user events need no such choice, as their message is the last column;
//! nor do those of performance events, which have no free text.

use std::ops::Range;

use super::layout::{Check, Column, ColumnSpec, LANES, Layout, MESSAGE, Surplus};
use super::scan::{Ends, offset};
use super::{id, number, text, time};

impl Ends {
    /// Lets one column have all surplus separators: those after it are found from the right.
    fn widen(&mut self, line: &[u8], last: usize, widest: usize) {
        self.positions[last] = offset(line.len());
        let separators = memchr::memrchr_iter(b';', line);
        for (position, separator) in self.positions[widest..last].iter_mut().rev().zip(separators) {
            *position = offset(separator);
        }
    }

    /// Start and end of a field; `None` if it is missing.
    #[inline]
    pub fn of(&self, index: usize) -> Option<Range<usize>> {
        if index >= self.found {
            return None;
        }
        let start = if index == 0 { 0 } else { self.positions[index - 1] as usize + 1 };
        Some(start..self.positions[index] as usize)
    }

    /// Fields that are longer than their limit or as long as the mark of what is not set, one bit
    /// each: of all others it is known that they are neither cut nor unset. Says nothing of the first.
    #[expect(
        clippy::needless_range_loop,
        reason = "three arrays, of which one is read in two places"
    )]
    #[inline]
    pub fn unusual(&self, limits: &[u32; LANES]) -> u32 {
        let mut unusual = 0;
        for index in 1..LANES {
            // Beyond the fields that were found, nobody asks.
            let before = self.positions[index - 1].wrapping_add(1);
            let len = self.positions[index].wrapping_sub(before);
            let asks = (len > limits[index]) | (len == offset(text::NOT_SET.len()));
            unusual |= if asks { 1 << index } else { 0 };
        }
        unusual
    }

    /// A field; empty if it is missing.
    #[inline]
    pub fn bytes<'a>(&self, line: &'a [u8], index: usize) -> &'a [u8] {
        self.of(index).map_or(&[], |range| &line[range])
    }

    /// The same of clean text.
    #[inline]
    pub fn text<'a>(&self, line: &'a str, index: usize) -> &'a str {
        self.of(index).map_or("", |range| &line[range])
    }
}

/// How to read a line, and what there is to note about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// The column that has all surplus separators; `None` if there are none, or if what comes after
    /// the last column is ignored.
    widest: Option<usize>,
    /// Fields are missing.
    pub short: bool,
    /// There are more fields than columns.
    pub surplus: bool,
    /// There are, and more than one reading holds.
    pub ambiguous: bool,
}

impl Reading {
    /// Chooses how to read a line.
    pub fn choose(layout: &Layout, line: &[u8], ends: &Ends) -> Self {
        let columns = layout.columns().len();
        let short = ends.found < columns;
        if ends.found <= columns {
            return Self { short, ..Self::default() };
        }
        match layout.surplus {
            Surplus::LastColumn => Self { widest: Some(columns - 1), ..Self::default() },
            Surplus::Ignore => Self { surplus: true, ..Self::default() },
            Surplus::Weigh(wide) => Self::weigh(layout, line, ends, wide),
        }
    }

    fn weigh(layout: &Layout, line: &[u8], ends: &Ends, wide: &[usize]) -> Self {
        let reading = |widest| Self { widest, short: false, surplus: true, ambiguous: false };
        let holds = |reading: &Self| {
            let mut ends = *ends;
            reading.apply(layout, line, &mut ends);
            holds(layout, line, &ends)
        };
        let message = reading(Some(wide[0]));
        let ways = std::iter::once(None).chain(wide.iter().copied().map(Some)).map(reading);
        let mut holding = ways.filter(holds);
        let first = holding.next();
        let ambiguous = holding.next().is_some();
        let chosen = match first {
            Some(first) if !holds(&message) => first,
            _ => message,
        };
        Self { ambiguous, ..chosen }
    }

    /// Moves the ends of the fields of a line to where this reading has them.
    #[inline]
    pub fn apply(&self, layout: &Layout, line: &[u8], ends: &mut Ends) {
        if let Some(widest) = self.widest {
            ends.widen(line, layout.columns().len() - 1, widest);
        }
    }
}

/// Whether everything from the message on is what its column asks for. What comes before is the same
/// in all readings.
fn holds(layout: &Layout, line: &[u8], ends: &Ends) -> bool {
    layout.columns().iter().enumerate().skip(MESSAGE).all(|(index, spec)| {
        let raw = ends.bytes(line, index);
        text::is_unset(raw) || is_plausible(spec, raw)
    })
}

fn is_plausible(spec: &ColumnSpec, raw: &[u8]) -> bool {
    match (spec.check, spec.column) {
        (Check::Uuid, Column::ProxySessionId) => raw == b"0" || id::parse(raw).is_some(),
        (Check::Uuid, _) => id::parse(raw).is_some(),
        (Check::Time, _) => time::is_valid(raw),
        (Check::Int { .. }, _) => number::int(raw).is_some(),
        (_, Column::UserFull) => memchr::memchr(b'\\', raw).is_some(),
        (Check::Source | Check::Text | Check::Float, _) => true,
    }
}
