//! When things are to be looked at: each has one due time at most.
//!
//! Owns: the times. Must not know: what is due, or what becomes of it (`directory`). Times are coarse milliseconds.
//! Invariant: what is known is in both maps under the same time; what is forgotten leaves nothing behind.

use std::collections::{BTreeMap, HashMap};

use sse_fast_core::id::Epoch;

/// See the module; lives of streams have different epochs.
pub(crate) struct Expiry<T> {
    /// Soonest first.
    by_time: BTreeMap<(u64, Epoch), T>,
    /// Where to find a stream's there.
    times: HashMap<Epoch, u64>,
}

impl<T> Default for Expiry<T> {
    fn default() -> Self {
        Self { by_time: BTreeMap::new(), times: HashMap::new() }
    }
}

impl<T: Clone> Expiry<T> {
    /// It is due then, or never; what was said before no longer holds.
    pub(crate) fn schedule(&mut self, what: &T, epoch: Epoch, at: Option<u64>) {
        if let Some(before) = self.times.remove(&epoch) {
            let known = self.by_time.remove(&(before, epoch));
            debug_assert!(known.is_some(), "a time that is known is in force");
        }
        if let Some(at) = at {
            self.by_time.insert((at, epoch), what.clone());
            self.times.insert(epoch, at);
        }
        debug_assert_eq!(self.by_time.len(), self.times.len(), "each has one time");
    }

    /// The soonest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.by_time.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Takes what is due by `now`, with its epoch.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<(Epoch, T)> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, epoch), what) = first.remove_entry();
        self.times.remove(&epoch);
        Some((epoch, what))
    }

    pub(crate) fn clear(&mut self) {
        self.by_time.clear();
        self.times.clear();
    }
}
