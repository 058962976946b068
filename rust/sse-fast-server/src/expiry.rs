//! When streams are to be forgotten: each has one due time at most.
//!
//! Owns: the times. Must not know: why a stream is due, or what becomes of it (`directory`). Times are coarse milliseconds.
//! Invariant: a stream is in both maps or in neither, under the same time; one that is forgotten leaves nothing behind.

use std::collections::{BTreeMap, HashMap};

use sse_fast_core::id::Epoch;

use crate::stream::Stream;

/// See the module.
#[derive(Default)]
pub(crate) struct Expiry {
    /// Soonest first; lives of streams have different epochs.
    by_time: BTreeMap<(u64, Epoch), Stream>,
    /// Where to find a stream there.
    times: HashMap<Epoch, u64>,
}

impl Expiry {
    /// The stream is due then, or never; what was said before no longer holds.
    pub(crate) fn schedule(&mut self, stream: &Stream, epoch: Epoch, at: Option<u64>) {
        if let Some(before) = self.times.remove(&epoch) {
            let stream = self.by_time.remove(&(before, epoch));
            debug_assert!(stream.is_some(), "a time that is known is in force");
        }
        if let Some(at) = at {
            self.by_time.insert((at, epoch), stream.clone());
            self.times.insert(epoch, at);
        }
        debug_assert_eq!(self.by_time.len(), self.times.len(), "each stream has one time");
    }

    /// The soonest time.
    pub(crate) fn next(&self) -> Option<u64> {
        self.by_time.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Takes a stream that is due by `now`.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Stream> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, epoch), stream) = first.remove_entry();
        self.times.remove(&epoch);
        Some(stream)
    }

    pub(crate) fn clear(&mut self) {
        self.by_time.clear();
        self.times.clear();
    }
}
