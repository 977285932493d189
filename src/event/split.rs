//! Where the fields are, and what to do when there are more fields than columns.
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

use smallvec::SmallVec;

use super::layout::{COLUMNS_MAX, Check, Column, ColumnSpec, Layout, MESSAGE, Surplus};
use super::{number, text, time, uuid_of};

/// Positions of separators. One more than the last column needs tells that there is a surplus, and
/// nobody asks for more than that, so hostile datagrams cost no more memory than good ones.
type Positions = SmallVec<[usize; COLUMNS_MAX]>;

/// The separators of one line of text.
#[derive(Debug)]
pub(super) struct Separators {
    /// The first ones, from left to right.
    left: Positions,
    /// The last ones, from right to left; only looked for when there is a surplus.
    right: Positions,
    /// Length of the line in bytes.
    len: usize,
}

impl Separators {
    /// Finds the separators from the left.
    pub fn find(line: &[u8]) -> Self {
        let left = memchr::memchr_iter(b';', line).take(COLUMNS_MAX).collect();
        Self { left, right: Positions::new(), len: line.len() }
    }

    /// Finds them from the right, too.
    pub fn find_right(&mut self, line: &[u8]) {
        self.right = memchr::memrchr_iter(b';', line).take(COLUMNS_MAX).collect();
    }

    /// Where the first field is, whatever the layout.
    pub fn first(&self) -> Range<usize> {
        0..self.left.first().copied().unwrap_or(self.len)
    }

    /// Where a column's field is; empty if the field is missing.
    pub fn range(&self, index: usize, reading: Reading) -> Range<usize> {
        let Reading { last, widest } = reading;
        let start = if index == 0 {
            0
        } else if index > widest {
            self.right[last - index] + 1
        } else {
            match self.left.get(index - 1) {
                Some(before) => before + 1,
                None => self.len,
            }
        };
        let end = if index < widest {
            self.left.get(index).copied().unwrap_or(self.len)
        } else if index == last {
            self.len
        } else {
            self.right[last - 1 - index]
        };
        start..end
    }
}

/// A way to read a line: which field belongs to which column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// The last column.
    last: usize,
    /// The column that holds all surplus separators; columns after it are counted from the right.
    /// [`Reading::NONE`]: all columns are counted from the left, and what comes after them is ignored.
    widest: usize,
}

impl Reading {
    const NONE: usize = usize::MAX;
}

/// The reading that was chosen, and what there is to note about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// How to read the line.
    pub reading: Reading,
    /// Fields are missing.
    pub short: bool,
    /// There are more fields than columns.
    pub surplus: bool,
    /// There are, and more than one reading holds.
    pub ambiguous: bool,
}

/// Chooses the reading of a line.
pub(super) fn choose(layout: &Layout, line: &[u8], separators: &mut Separators) -> Choice {
    let last = layout.columns().len() - 1;
    let from_left = Reading { last, widest: Reading::NONE };
    let found = separators.left.len();
    let mut choice =
        Choice { reading: from_left, short: found < last, surplus: found > last, ambiguous: false };
    match layout.surplus {
        Surplus::LastColumn => {
            choice.reading.widest = last;
            choice.surplus = false;
        }
        Surplus::Weigh(columns) if choice.surplus => {
            separators.find_right(line);
            let holds = |&reading: &Reading| reading_holds(layout, line, separators, reading);
            let wide = columns.iter().map(|&widest| Reading { last, widest });
            let mut holding = std::iter::once(from_left).chain(wide).filter(holds);
            let first = holding.next();
            let likeliest = Reading { last, widest: columns[0] };
            choice.ambiguous = first.is_some() && holding.next().is_some();
            choice.reading = match first {
                Some(first) if !holds(&likeliest) => first,
                _ => likeliest,
            };
        }
        Surplus::Weigh(_) | Surplus::Ignore => {}
    }
    choice
}

/// Whether everything from the message on is what its column asks for. What comes before is the same
/// in all readings.
fn reading_holds(layout: &Layout, line: &[u8], separators: &Separators, reading: Reading) -> bool {
    layout.columns().iter().enumerate().skip(MESSAGE).all(|(index, spec)| {
        let raw = &line[separators.range(index, reading)];
        text::is_unset(raw) || is_plausible(spec, raw)
    })
}

fn is_plausible(spec: &ColumnSpec, raw: &[u8]) -> bool {
    match (spec.check, spec.column) {
        (Check::Uuid, Column::ProxySessionId) => raw == b"0" || uuid_of(raw).is_some(),
        (Check::Uuid, _) => uuid_of(raw).is_some(),
        (Check::Time, _) => time::is_valid(raw),
        (Check::Int { .. }, _) => number::int(raw).is_some(),
        (_, Column::UserFull) => memchr::memchr(b'\\', raw).is_some(),
        (Check::Source | Check::Text | Check::Float, _) => true,
    }
}
