//! What a shard and the publishers of a stream tell each other: counters and marks, no lock.
//!
//! Two marks say how far a shard is. `floor` is a position: below it the shard owes nothing to
//! anybody a publisher is made to wait for, so the log may overwrite it. `offered` is an amount:
//! so many of all bytes ever appended were offered to every subscriber whose socket takes them.
//! Both may be too low (then somebody looks or waits in vain), never too high. The shard's thread
//! alone writes them; whom it waits for is decided in `shard::member`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use sse_fast_core::id::Position;

/// No member.
pub(crate) const NO_MEMBER: u32 = u32::MAX;

/// What a shard and the publishers tell each other about this stream.
pub(crate) struct Seat {
    /// Subscribers of this shard; raised under the stream's lock, where a new one reads the log, so
    /// that whoever appends later sees it, and whoever saw it appends for it.
    pub(crate) subscribers: AtomicU32,
    /// Whether the stream is on the shard's list of dirty streams.
    pub(crate) dirty: AtomicBool,
    /// Whether heartbeats must be looked at anew.
    pub(crate) retuned: AtomicBool,
    /// Whether a publisher waits for the floor to rise; the shard was told to look.
    pub(crate) waiting: AtomicBool,
    /// Whether a publisher waits for the next walk to end.
    pacing: AtomicBool,
    /// See the module.
    pub(crate) floor: AtomicU64,
    /// See the module.
    offered: AtomicU64,
    /// The shard's own key for this stream, `u32::MAX` for none; written by the shard's thread only.
    pub(crate) member: AtomicU32,
}

impl Seat {
    pub(super) fn new() -> Self {
        Self {
            subscribers: AtomicU32::new(0),
            dirty: AtomicBool::new(false),
            retuned: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            pacing: AtomicBool::new(false),
            floor: AtomicU64::new(Position::MAX),
            offered: AtomicU64::new(u64::MAX),
            member: AtomicU32::new(NO_MEMBER),
        }
    }

    /// Whether appending, which leaves `first_after` the oldest, would overwrite what this shard
    /// owes. Acquire pairs with the shard's release: a floor is seen only after what it says was
    /// done.
    pub(super) fn owes(&self, first_after: Position) -> bool {
        self.subscribers.load(Ordering::Acquire) > 0 && self.floor.load(Ordering::Acquire) < first_after
    }

    /// Whether more than `limit` of the `appended` bytes were not offered yet.
    pub(super) fn behind(&self, appended: u64, limit: u64) -> bool {
        // SeqCst: see `walked`.
        self.subscribers.load(Ordering::Acquire) > 0
            && appended.saturating_sub(self.offered.load(Ordering::SeqCst)) > limit
    }

    /// A publisher is about to wait for the next walk to end; it must look at `behind` once more.
    pub(super) fn wait_for_walk(&self) {
        self.pacing.store(true, Ordering::SeqCst);
    }

    /// So many bytes were offered.
    pub(crate) fn offered(&self, offered: u64) {
        self.offered.store(offered, Ordering::SeqCst);
    }

    /// A walk ended; says whether a publisher waits for that. `SeqCst` on both marks, here and
    /// there: either the publisher sees the new amount, or the shard sees that it waits.
    pub(crate) fn walked(&self, offered: u64) -> bool {
        self.offered(offered);
        self.pacing.load(Ordering::SeqCst) && self.pacing.swap(false, Ordering::SeqCst)
    }
}
