//! A block of counters with one writer and any number of readers that never see half an update.
//!
//! Each engine thread counts in plain integers and publishes them once per batch. A sequence lock
//! (Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012) makes a
//! published block consistent: an equation that holds between the writer's counters holds between
//! the numbers a reader gets.

use std::hint;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// `N` counters, published together.
#[derive(Debug)]
#[repr(align(128))] // Two cache lines: the adjacent-line prefetcher must not couple two writers.
pub struct Block<const N: usize> {
    sequence: AtomicU64,
    cells: [AtomicU64; N],
}

impl<const N: usize> Default for Block<N> {
    fn default() -> Self {
        Self { sequence: AtomicU64::new(0), cells: [const { AtomicU64::new(0) }; N] }
    }
}

impl<const N: usize> Block<N> {
    /// Makes `counts` visible as one unit. Only one thread may publish to a block.
    pub fn publish(&self, counts: &[u64; N]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        debug_assert!(sequence.is_multiple_of(2), "two writers on one block");
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, count) in self.cells.iter().zip(counts) {
            cell.store(*count, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// The counters of the last complete publication.
    #[must_use]
    pub fn read(&self) -> [u64; N] {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let counts = std::array::from_fn(|i| self.cells[i].load(Ordering::Relaxed));
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return counts;
                }
            }
            hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Block;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_reader_never_sees_half_a_publication() {
        let block = Block::<8>::default();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..200_000 {
                    block.publish(&[i; 8]);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let counts = block.read();
                assert!(counts.iter().all(|c| *c == counts[0]), "{counts:?}");
            }
        });
        assert_eq!(block.read(), [199_999; 8]);
    }
}
