//! How long news took from its publishing to the sockets.
//!
//! Owns: what a step has written and since when that was news. Must not know: streams, sockets, the clock. A walk notes
//! once for each of its parts what it wrote; the end of the step is when all of that was written. So nothing of this
//! runs for a delivery, the clock is read once a step, and a time is too long by the rest of its step at most: some
//! hundred sends. Of the events in one write the oldest counts. Who catches up, or whose socket was full, is not among
//! those who are measured: their lag tells of them.

use sse_fast_core::budget::Micros;

use crate::delivery::Since;
use crate::durations::Durations;

/// See the module.
#[derive(Default)]
pub(super) struct Delays {
    /// Since when it was news, and how many writes brought it; in a step no more than it has parts of walks.
    begun: Vec<(Since, u64)>,
}

impl Delays {
    /// So many writes brought what is news since then.
    pub(super) fn begin(&mut self, since: Since, writes: u64) {
        if since.is_known() && writes > 0 {
            self.begun.push((since, writes));
        }
    }

    /// All of that was written by `now`.
    pub(super) fn end(&mut self, now: Micros, delivery: &Durations) {
        for (since, writes) in self.begun.drain(..) {
            delivery.add(since.until(now), writes);
        }
    }
}
