//! How many events were lost before they reached a shard.
//!
//! Each appender numbers its log events from 1 to 9999 and begins anew. A number that never comes is
//! an event that was lost on its way: between the Sense service and the socket, where nobody else
//! counts it, or at the socket or the sender's rate limit, where it is counted for itself too. What is
//! missing cannot tell these apart, and gaps too wide to count would make a difference of the two
//! counts wrong.
//!
//! It is an estimate. UDP may deliver events in another order, so a missing number is taken off again
//! when it comes late. A service that restarts begins at 1, which is no loss; where that cannot be
//! told from a wrapped number, the smaller loss is assumed. A gap too wide to be told from a restart
//! is not counted.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use crate::event::{Column, Event, Field, Int, Kind, Listener, ROW_MAX};

/// Rows behind the newest that are remembered one by one: the bits of a word. Events that overtake
/// each other are neighbours; behind more than this the sender has restarted.
const WINDOW: u16 = 64;

/// The widest gap that is counted: at 100 events a second from one appender, ten seconds without any.
const GAP_MAX: u16 = 1000;

/// Senders remembered in a generation. Two generations exist, so at most 4096 senders are known: a
/// large cluster has some hundred (nodes × services), and each takes about 64 bytes.
const GENERATION: usize = 2048;

/// An appender: it sends from one port and writes one kind of event.
type Sender = (SocketAddr, Kind);

/// The row numbers seen, by sender and kind.
///
/// Those not heard of for longest are forgotten: when a generation is full it becomes the old one, and
/// what is then still in the old one, not heard of since, goes.
#[derive(Debug, Default)]
pub struct Gaps {
    young: HashMap<Sender, Rows, RandomState>,
    old: HashMap<Sender, Rows, RandomState>,
}

impl Gaps {
    /// Takes note of an event's row number; returns how the estimate changes: up when rows are
    /// missing, down when missing rows arrive late. The sum of all changes is never below zero.
    pub fn note(&mut self, source: SocketAddr, event: &Event<'_>) -> i64 {
        if event.kind().listener() != Listener::LogEvents {
            return 0;
        }
        let Some(Field::Int(Int::Value(row))) = event.field(Column::LogRow) else { return 0 };
        self.note_row((source, event.kind()), row)
    }

    fn note_row(&mut self, sender: Sender, row: i64) -> i64 {
        let Some(row) = u16::try_from(row).ok().filter(|row| (1..=ROW_MAX).contains(row)) else {
            return 0;
        };
        if let Some(rows) = self.young.get_mut(&sender) {
            return rows.note(row);
        }
        let mut rows = self.old.remove(&sender).unwrap_or_else(|| Rows::beginning_at(row));
        let change = rows.note(row);
        if self.young.len() >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(sender, rows);
        change
    }
}

/// What is known of one sender's rows.
#[derive(Clone, Copy, Debug)]
struct Rows {
    newest: u16,
    /// Bit `n` is set when the row `n + 1` before the newest is not missing.
    here: u64,
}

impl Rows {
    /// Nothing before the first row is missed.
    fn beginning_at(row: u16) -> Self {
        Self { newest: row, here: u64::MAX }
    }

    fn note(&mut self, row: u16) -> i64 {
        // Both modulo 9999, so that 1 comes right after 9999.
        let ahead = (row + ROW_MAX - self.newest) % ROW_MAX;
        let behind = (ROW_MAX - ahead) % ROW_MAX;
        // Just after a wrap a small number may as well be a restart.
        let reach = if row > self.newest { GAP_MAX } else { WINDOW };
        if behind == 0 {
            0
        } else if behind <= WINDOW {
            let bit = 1 << (behind - 1);
            let late = self.here & bit == 0;
            self.here |= bit;
            -i64::from(late)
        } else if ahead <= reach {
            let shifted = self.here.checked_shl(ahead.into()).unwrap_or_default();
            let former_newest = 1_u64.checked_shl((ahead - 1).into()).unwrap_or_default();
            self.here = shifted | former_newest;
            self.newest = row;
            i64::from(ahead) - 1
        } else {
            *self = Self::beginning_at(row);
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender(port: u16) -> Sender {
        (SocketAddr::from(([10, 0, 0, 1], port)), Kind::Engine)
    }

    fn changes(rows: impl IntoIterator<Item = i64>) -> i64 {
        let mut gaps = Gaps::default();
        rows.into_iter().map(|row| gaps.note_row(sender(1), row)).sum()
    }

    #[test]
    fn missing_rows_are_counted() {
        assert_eq!(changes([7, 8, 9]), 0, "it may begin anywhere");
        assert_eq!(changes([1, 2, 5, 6, 8]), 3);
        assert_eq!(changes([1, 1000]), 998);
        assert_eq!(changes([1, 1001]), 999);
    }

    #[test]
    fn late_rows_are_taken_off_again() {
        assert_eq!(changes([1, 4, 3, 2, 5]), 0);
        assert_eq!(changes([1, 4, 3, 3, 3]), 1, "a duplicate is no second row");
        assert_eq!(changes([10, 9, 8, 11]), 0, "before the first");
        assert_eq!(changes([1, 66, 2]), 63, "64 behind");
    }

    #[test]
    fn rows_wrap() {
        assert_eq!(changes([9998, 9999, 1, 2]), 0);
        assert_eq!(changes([9998, 2]), 2);
        assert_eq!(changes([9998, 2, 9999, 1]), 0);
        assert_eq!(changes([9998, 2, 1, 9999, 3]), 0);
    }

    #[test]
    fn a_restart_is_no_loss() {
        assert_eq!(changes([500, 501, 1, 2, 3]), 0);
        assert_eq!(changes([9500, 1, 2, 4]), 1, "only the gap after it");
        assert_eq!(changes([1, 5000, 5001]), 0, "too wide to be a gap");
        assert_eq!(changes([30, 1, 2, 3, 31]), 0, "among the remembered rows");
    }

    #[test]
    fn what_is_no_row_number_is_ignored() {
        assert_eq!(changes([5, 0, -1, 10_000, i64::MAX, i64::MIN, 6]), 0);
    }

    #[test]
    fn senders_are_told_apart_and_the_forgotten_begin_anew() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.note_row(sender(1), 1), 0);
        assert_eq!(gaps.note_row(sender(2), 50), 0);
        assert_eq!(gaps.note_row((sender(1).0, Kind::Proxy), 90), 0);
        assert_eq!(gaps.note_row(sender(1), 3), 1);
        for port in 3..=u16::MAX {
            gaps.note_row(sender(port), 1);
            assert_eq!(gaps.note_row(sender(2), 50), 0, "heard of all the time");
            assert!(gaps.young.len() + gaps.old.len() <= 2 * GENERATION);
        }
        assert_eq!(gaps.note_row(sender(2), 52), 1, "remembered");
        assert_eq!(gaps.note_row(sender(1), 9), 0, "forgotten");
    }

    proptest! {
        #[test]
        fn the_estimate_is_never_below_zero(rows in prop::collection::vec(-5_i64..10_010, 0..300)) {
            let mut gaps = Gaps::default();
            let mut estimate = 0;
            for row in rows {
                estimate += gaps.note_row(sender(1), row);
                prop_assert!(estimate >= 0);
            }
        }

        /// Rows that overtake each other by a few places are no loss, and lost ones are counted
        /// exactly, wherever the numbers wrap.
        #[test]
        fn losses_are_exact_whatever_the_order(
            start in 1_i64..=9999,
            events in prop::collection::vec((0_usize..16, prop::bool::weighted(0.1)), 2..400),
        ) {
            let last = events.len() - 1;
            let mut sent: Vec<(usize, i64)> = Vec::new();
            let mut lost = 0;
            for (index, (delay, is_lost)) in events.into_iter().enumerate() {
                // The first sets the start and the last shows what is missing before it.
                if is_lost && index != 0 && index != last {
                    lost += 1;
                    continue;
                }
                let place = if index == 0 { 0 } else if index == last { last + 16 } else { index + delay };
                let row = (start - 1 + i64::try_from(index).unwrap()) % 9999 + 1;
                sent.push((place, row));
            }
            sent.sort_by_key(|(place, _)| *place);
            prop_assert_eq!(changes(sent.into_iter().map(|(_, row)| row)), lost);
        }
    }
}
