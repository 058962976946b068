//! What the publishers of a stream and one shard tell each other: marks and flags, no lock of its own.
//!
//! Owns: those marks. Must not know: subscribers one by one, sockets, time.
//! Invariants:
//! 1. `subscribers` is raised under the stream's lock, where a new subscriber reads the log: a publisher that appends
//!    later sees it, and what was appended before was read.
//! 2. A floor is never too high: below it the shard owes nothing to a writable (`writable`) or a held (`held`)
//!    subscriber. It is lowered under the stream's lock; it may be too low, then a publisher asks in vain.
//! 3. The shard alone raises the floors and writes `offered` and `local`; options that ask for more lower `held`, too.
//!    Publishers set the flags, the shard clears them.
//!
//! Changes together with `shard::debt` (the floors) and `publish` (who reads them).

use sse_fast_core::id::Position;

use crate::delivery::LocalKey;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// How far publishers may run ahead of the shards: what a socket takes unread twice over (`TCP_NOTSENT_LOWAT`). A walk
/// then carries 16 KiB in each `send()`, where a byte costs a tenth of what it costs alone; more would only make the
/// events older. Measured with 500 events of 1 KB to 5,000 subscribers: half of all deliveries within 75 ms and not 450.
const MAX_UNOFFERED_BYTES: u32 = 32 * 1024;

/// See the module.
pub(crate) struct Link {
    /// Subscribers of this shard. Relaxed: the stream's lock orders it (invariant 1).
    subscribers: AtomicU32,
    /// The shard's own key for this stream. Relaxed: read after a swap of `news` or `waiting` that pairs with the shard's.
    local: AtomicU32,
    /// So many of all bytes ever appended, modulo 2^32, were offered to every writable subscriber. Relaxed: too low costs
    /// a question, and the answer comes through the stream's lock. It rises without that lock, so a publisher that found
    /// it too low looks once more when it asks.
    offered: AtomicU32,
    /// Whether the shard was told that there is news. Swapped on both sides, each time `AcqRel`: of a publisher and the
    /// shard that meet here, the later sees what the earlier did before, the log or the key.
    news: AtomicBool,
    /// Whether the heartbeat in force has changed. Relaxed: set under the stream's lock, and news follows, whose swap
    /// orders it.
    retuned: AtomicBool,
    /// Whether the shard was told that a publisher waits. `AcqRel` as `news`. Set under the stream's lock, and cleared
    /// under it where the answer is given, so that no question falls between the two.
    waiting: AtomicBool,
    /// Every writable subscriber was given everything below this position.
    writable: AtomicU64,
    /// Every subscriber whose socket is full and who is waited for was given everything below this position.
    held: AtomicU64,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            subscribers: AtomicU32::new(0),
            local: AtomicU32::new(LocalKey::NONE.0),
            offered: AtomicU32::new(0),
            news: AtomicBool::new(false),
            retuned: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            writable: AtomicU64::new(Position::MAX),
            held: AtomicU64::new(Position::MAX),
        }
    }

    pub(crate) fn subscribers(&self) -> u32 {
        self.subscribers.load(Ordering::Relaxed)
    }

    // ---- Publishers ----

    /// There is news: the key to tell the shard, where it must be told. `AcqRel`: after the shard's `see_news` the new
    /// key is seen, and before it what the news is.
    pub(super) fn bring_news(&self) -> Option<LocalKey> {
        (self.subscribers() > 0 && !self.news.swap(true, Ordering::AcqRel)).then(|| self.local())
    }

    /// A publisher waits: the key to tell the shard, where it must be told. `AcqRel` as above.
    pub(super) fn ask(&self) -> Option<LocalKey> {
        (!self.waiting.swap(true, Ordering::AcqRel)).then(|| self.local())
    }

    /// Whether the shard was asked and has not answered. Relaxed: under the stream's lock, where both happen.
    pub(super) fn is_asked(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether a writable subscriber lacks something below `first`. Acquire, before `owes_held`: a floor that was raised
    /// because a socket filled is seen only together with the held floor that was lowered for it.
    pub(super) fn owes_writable(&self, first: Position) -> bool {
        self.subscribers() > 0 && self.writable.load(Ordering::Acquire) < first
    }

    /// Whether a held subscriber lacks something below `first`.
    pub(super) fn owes_held(&self, first: Position) -> bool {
        self.subscribers() > 0 && self.held.load(Ordering::Acquire) < first
    }

    /// Whether more than [`MAX_UNOFFERED_BYTES`] of the `appended` bytes were not offered yet.
    pub(crate) fn is_behind(&self, appended: u64) -> bool {
        let unoffered = wrapped(appended).wrapping_sub(self.offered.load(Ordering::Relaxed));
        self.subscribers() > 0 && unoffered > MAX_UNOFFERED_BYTES
    }

    /// The heartbeat in force has changed; under the stream's lock, so that a first subscriber sees the one or the other.
    pub(crate) fn retune(&self) {
        self.retuned.store(true, Ordering::Relaxed);
    }

    // ---- The shard ----

    pub(crate) fn local(&self) -> LocalKey {
        LocalKey(self.local.load(Ordering::Relaxed))
    }

    /// The shard keeps the stream under `key` from now on; says whether it was told of news, or of a publisher that
    /// waits, under another key.
    pub(crate) fn bind(&self, key: LocalKey) -> (bool, bool) {
        debug_assert_eq!(self.local(), LocalKey::NONE, "a shard keeps a stream once");
        self.local.store(key.0, Ordering::Relaxed);
        (self.see_news(), self.see_waiting())
    }

    /// The shard keeps the stream no longer: it owes nothing. Says whether a publisher waits.
    pub(crate) fn unbind(&self) -> bool {
        debug_assert_eq!(self.subscribers(), 0, "a stream with subscribers is kept");
        self.local.store(LocalKey::NONE.0, Ordering::Relaxed);
        self.writable.store(Position::MAX, Ordering::Release);
        self.held.store(Position::MAX, Ordering::Release);
        self.see_waiting()
    }

    /// The shard has failed: it has no subscribers and owes nothing. Says how many it had.
    pub(crate) fn abandon(&self) -> u32 {
        let gone = self.subscribers.swap(0, Ordering::Relaxed);
        self.set_writable(Position::MAX);
        self.set_held(Position::MAX);
        gone
    }

    /// A subscriber came; under the stream's lock.
    pub(crate) fn join(&self) {
        self.subscribers.fetch_add(1, Ordering::Relaxed);
    }

    /// A subscriber left; says whether it was the last.
    pub(crate) fn leave(&self) -> bool {
        let before = self.subscribers.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "only who joined leaves");
        before == 1
    }

    /// The shard looks at the stream: what is published from here on brings news again.
    pub(crate) fn see_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    /// The shard will answer the publisher that waits: what it asks from here on is asked again.
    pub(crate) fn see_waiting(&self) -> bool {
        self.waiting.swap(false, Ordering::AcqRel)
    }

    /// Whether the heartbeat may have changed since the shard last asked.
    pub(crate) fn is_retuned(&self) -> bool {
        self.retuned.load(Ordering::Relaxed)
    }

    /// Whether the heartbeat has changed since the shard last asked.
    pub(crate) fn see_retuned(&self) -> bool {
        self.retuned.load(Ordering::Relaxed) && self.retuned.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn offered(&self, offered: u64) {
        self.offered.store(wrapped(offered), Ordering::Relaxed);
    }

    /// A writable subscriber lacks what begins at `cursor`; under the stream's lock.
    pub(crate) fn lower_writable(&self, cursor: Position) {
        if self.writable.load(Ordering::Relaxed) > cursor {
            self.writable.store(cursor, Ordering::Release);
        }
    }

    /// A held subscriber lacks what begins at `cursor`; under the stream's lock.
    pub(crate) fn lower_held(&self, cursor: Position) {
        if self.held.load(Ordering::Relaxed) > cursor {
            self.held.store(cursor, Ordering::Release);
        }
    }

    /// Every writable subscriber has everything below `floor`. Release: seen only after what it says was done.
    pub(crate) fn set_writable(&self, floor: Position) {
        self.writable.store(floor, Ordering::Release);
    }

    /// Every held subscriber has everything below `floor`.
    pub(crate) fn set_held(&self, floor: Position) {
        self.held.store(floor, Ordering::Release);
    }

    /// The floors, for assertions.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn floors(&self) -> (Position, Position) {
        (self.writable.load(Ordering::Relaxed), self.held.load(Ordering::Relaxed))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "differences of it are compared, modulo 2^32")]
fn wrapped(bytes: u64) -> u32 {
    bytes as u32
}
