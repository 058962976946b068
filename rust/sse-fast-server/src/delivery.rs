//! What a stream needs to reach its shards and the directory, and what all publishers share: patience, the closing.
//!
//! Owns: the way from publishers to shards. Must not know: streams, sockets, names. A doorbell carries a shard's own key,
//! never a stream, so that nothing here leads back to what holds it; a notice may, until the control thread has read it.
//! Invariant: once `closed`, never open again.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use sse_fast_core::budget::Micros;
use sse_fast_core::event::MAX_EVENT_BYTES;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::StreamOptions;

use crate::backplane::Asks;
use crate::clock::in_micros;
use crate::durations::Durations;
use crate::idempotency::Repeats;
use crate::mailbox::Mailbox;
use crate::store::Store;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A shard's own key for a stream; another stream may have it later, so that it may be stale wherever it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalKey(pub(crate) u32);

impl LocalKey {
    /// No key.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Since when there is news, in microseconds of the monotonic clock modulo 2^32: news waits for no walk for an hour, and
/// half the bytes are kept for each stream and each ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Since(u32);

impl Since {
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
    pub(crate) fn at(now: Micros) -> Self {
        // 0 is not known: the one microsecond in 2^32 is the next one.
        Self((now as u32).max(1))
    }

    pub(crate) fn is_known(self) -> bool {
        self.0 != 0
    }

    /// How long that was before `now`.
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
    pub(crate) fn until(self, now: Micros) -> Micros {
        let passed = (now as u32).wrapping_sub(self.0);
        // A moment ahead of `now` is now: another thread has read the clock since.
        if passed > u32::MAX / 2 { 0 } else { Micros::from(passed) }
    }
}

/// What a publisher tells a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// The stream has news since then; rung at most once until the shard has seen it.
    News(LocalKey, Since),
    /// A publisher waits for what this stream's subscribers here lack, or to be told.
    Waiting(LocalKey),
}

pub(crate) type Doorbell = Mailbox<Ring>;

/// For how long publishers wait for subscribers whose sockets are full: the W of the delivery promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes: until they have taken enough, or are cut.
    Lossless,
    /// This many microseconds in a minute; 0 is not at all.
    Within(u64),
}

impl Patience {
    pub(crate) fn of(publish_wait: Option<Duration>) -> Self {
        publish_wait.map_or(Self::Lossless, |wait| Self::Within(in_micros(wait)))
    }

    /// That of a stream with these options.
    pub(crate) fn with(self, options: &StreamOptions) -> Self {
        if options.lossless { Self::Lossless } else { self }
    }

    /// Whether a connection that publishers waited for has had its share of what they wait in a minute, of which `left` is
    /// left: a half of it; and once no more than a quarter is left, nothing where it was skipped lately, else a sixteenth of
    /// what is left. So there is something left for a reader whose socket is full for a moment, however many slow ones
    /// there are.
    pub(crate) fn is_share_spent(self, spent: Micros, was_skipped: bool, left: Micros) -> bool {
        let Self::Within(limit) = self else { return false };
        spent >= limit / 2 || (left <= limit / 4 && (was_skipped || spent >= (left / 16).max(1)))
    }
}

/// What a stream tells the control thread.
pub(crate) enum Notice {
    /// Its times have changed, because it ended, was removed or was told other options. By name and life, since the
    /// directory holds the stream.
    Life { name: CompactString, epoch: Epoch },
    /// It is to be looked at: something may be due.
    Look { epoch: Epoch, timed: Arc<dyn Timed> },
    /// Others read it than before, which is to be told elsewhere.
    Present { name: CompactString },
    /// It is gone, and with it what these keys stood for.
    Gone { keys: Vec<u64> },
}

/// What is looked at when something may be due.
pub(crate) trait Timed: Send + Sync {
    /// What is due at `now`, in coarse milliseconds, each once.
    fn look(self: Arc<Self>, now: u64) -> Due;
}

/// What looking brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Keys whose time has come, and whether it was their last.
    pub(crate) keys: Vec<(u64, bool)>,
    /// Keys whose time cannot come any more.
    pub(crate) forgotten: Vec<u64>,
    /// When to look again, unless it is told before.
    pub(crate) again: Option<u64>,
}

/// See the module.
pub(crate) struct Delivery {
    /// No other delivery of this process has or had it: threads know their accounts by it.
    pub(crate) number: u64,
    /// One for each shard, in their order.
    pub(crate) doorbells: Box<[Arc<Doorbell>]>,
    /// For the directory.
    pub(crate) notices: Mailbox<Notice>,
    pub(crate) patience: Patience,
    /// How many times as fast the time between heartbeats passes; 1 but in tests of applications.
    pub(crate) heartbeat_pace: u32,
    /// The most bytes that an event's name and data may have together.
    pub(crate) max_event_bytes: usize,
    /// What was published under a key.
    pub(crate) repeats: Repeats,
    /// Set once; publishing ends. Acquire and release: who sees it sees what was done before.
    closed: AtomicBool,
    /// Where streams with a name are kept across restarts.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) waits: Waits,
    /// Events of streams without a name, which are in no list. Relaxed: a number for people.
    pub(crate) nameless: AtomicU64,
    /// Where the logs of streams with names are, if they are not here.
    pub(crate) backplane: Option<Asks>,
    /// Whether it was said that an event loop waits for it; set once. Relaxed: it orders nothing.
    pub(crate) loop_waits: AtomicBool,
}

/// How publishers waited. Relaxed: numbers for people.
#[derive(Default)]
pub(crate) struct Waits {
    /// Those that went on although a subscriber still lacked what they overwrote.
    pub(crate) gave_up: AtomicU64,
    /// How long each of them waited, for shards and for sockets.
    pub(crate) durations: Durations,
    /// Microseconds that streams' publishers waited for sockets, once for each stream.
    pub(crate) sockets: AtomicU64,
}

impl Delivery {
    pub(crate) fn new(doorbells: Box<[Arc<Doorbell>]>, notices: Mailbox<Notice>, patience: Patience) -> Self {
        let number = next_number();
        let (closed, waits, nameless) = (AtomicBool::new(false), Waits::default(), AtomicU64::new(0));
        let (max_event_bytes, repeats, loop_waits) = (MAX_EVENT_BYTES, Repeats::default(), AtomicBool::new(false));
        Self {
            number,
            doorbells,
            notices,
            patience,
            heartbeat_pace: 1,
            max_event_bytes,
            repeats,
            closed,
            store: None,
            waits,
            nameless,
            backplane: None,
            loop_waits,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends publishing; the caller wakes who waits.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// How many deliveries were made in this process. Not one of loom's atomics: those cannot outlive a model.
fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static MADE: AtomicU64 = AtomicU64::new(0);
    // Relaxed: each takes a number of its own, and that is all.
    MADE.fetch_add(1, Ordering::Relaxed)
}

#[cfg(all(test, not(loom)))]
mod since_tests {
    use super::Since;

    #[test]
    fn a_moment_is_told_from_another_beyond_the_thirty_two_bits() {
        for at in [0, 1, u64::from(u32::MAX) - 5, u64::from(u32::MAX), u64::from(u32::MAX) + 1, 7 << 32] {
            let since = Since::at(at);
            assert!(since.is_known());
            assert!(since.until(at) <= 1, "{at}");
            assert!((2_999..=3_000).contains(&since.until(at + 3_000)), "{at}");
            assert_eq!(since.until(at.saturating_sub(10)), 0, "what is ahead is now: {at}");
        }
        assert!(!Since::default().is_known());
    }
}
