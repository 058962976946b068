//! How long things took: counted in fixed buckets, so that a share or a percentile can be told of them later.
//!
//! Owns: the buckets and the counting. Must not know: what took so long. Invariants: a cell only grows; each of the cells
//! is read by itself, so that a reading in the middle of an addition may miss it, and never shows half of a number.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sse_fast_core::budget::Micros;

/// The upper bounds in microseconds, included; one more bucket has what took longer. From a tenth of a millisecond, which
/// is what waking a thread takes, to ten seconds, beyond which a percentile helps nobody.
pub(crate) const BOUNDS: [Micros; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// The cells. Relaxed: numbers for people.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The cells as they were read, added up over several threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// Of each bucket by itself.
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub(crate) micros: u64,
}

impl Durations {
    /// So many took so long; from one thread alone, or under one lock.
    pub(crate) fn add(&self, micros: Micros, count: u64) {
        let cell = &self.counts[BOUNDS.partition_point(|&bound| bound < micros)];
        cell.store(cell.load(Relaxed) + count, Relaxed);
        self.micros.store(self.micros.load(Relaxed).saturating_add(micros.saturating_mul(count)), Relaxed);
    }

    /// One took so long; from any thread.
    pub(crate) fn add_shared(&self, micros: Micros) {
        self.counts[BOUNDS.partition_point(|&bound| bound < micros)].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }
}

impl Distribution {
    /// With what was counted there.
    pub(crate) fn with(mut self, durations: &Durations) -> Self {
        for (total, cell) in self.counts.iter_mut().zip(&durations.counts) {
            *total += cell.load(Relaxed);
        }
        self.micros += durations.micros.load(Relaxed);
        self
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_where_its_bound_is_and_once() {
        let (one, several) = (Durations::default(), Durations::default());
        for (micros, bucket) in [(0, 0), (100, 0), (101, 1), (10_000_000, 15), (10_000_001, 16), (u64::MAX / 8, 16)] {
            let before = Distribution::default().with(&one);
            one.add(micros, 3);
            several.add_shared(micros);
            let after = Distribution::default().with(&one);
            assert_eq!(after.counts[bucket] - before.counts[bucket], 3, "{micros}");
            assert_eq!(after.count() - before.count(), 3);
            assert_eq!(after.micros - before.micros, micros * 3);
        }
        let thrice = (0..3).fold(Distribution::default(), |sum, _| sum.with(&several));
        assert_eq!(Distribution::default().with(&one), thrice, "both ways count alike");
    }
}
