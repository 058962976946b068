//! What happens to a subscriber that fell behind.
//!
//! Owns: the judgement. Must not know: sockets, time. Invariant: the newest event, and so the terminal one, is never
//! skipped where it is there (a copy of a log elsewhere may have been told of it, and not been given it). Changes together
//! with `follow`, which acts on it.
//!
//! # Lagging
//! Lag is the number of events between a cursor and the newest. A subscriber whose socket takes
//! bytes is given everything the log still holds, however fast the publisher was; only one that
//! *was blocked* is held to `max_lag`, at the moment its socket takes bytes again, and what it was
//! already being given when its socket filled does not count: a replay of a long history fills any
//! socket, and is no lag. So a gap is announced once, with the exact number, right before the next
//! event. A reader in the same process is told of every gap and never disconnected.

use crate::gap::Gap;
use crate::id::Position;
use crate::options::OnLag;
use crate::stream::StreamState;

/// How a subscriber takes what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Its socket took everything it was offered: only what the log no longer holds can be missing.
    Writable,
    /// Its socket was full: `max_lag` applies to what was published since.
    Full {
        /// The newest position when its socket filled.
        since: Position,
    },
    /// It reads in the same process, whenever it likes.
    InProcess,
}

/// What to do with a subscriber before it is given more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on where it is.
    Continue,
    /// Announce the gap, then go on at the cursor.
    Skip(Gap, Position),
    /// Close its connection; it may resume.
    Disconnect,
}

/// How many events a subscriber whose next position is `cursor` lags behind by.
pub fn lag(newest: Position, cursor: Position, since: Position) -> u64 {
    newest.saturating_sub(since.max(cursor.saturating_sub(1)))
}

/// Whether a subscriber whose next position is `cursor` lags by more than it may.
pub fn is_beyond_max_lag(stream: &StreamState, cursor: Position, pace: Pace) -> bool {
    match pace {
        Pace::Writable | Pace::InProcess => false,
        Pace::Full { since } => lag(stream.newest(), cursor, since) > stream.options().max_lag,
    }
}

/// Judges a subscriber whose next position is `cursor`.
pub fn judge(stream: &StreamState, cursor: Position, pace: Pace) -> Verdict {
    let (first, newest, options) = (stream.log().first(), stream.newest(), stream.options());
    let (overtaken, beyond) = (cursor < first, is_beyond_max_lag(stream, cursor, pace));
    if !overtaken && !beyond {
        return Verdict::Continue;
    }
    let target = match options.on_lag {
        OnLag::Disconnect if pace != Pace::InProcess => return Verdict::Disconnect,
        // Beyond the newest only where a copy of a log lacks that.
        OnLag::Latest => newest.max(first),
        OnLag::Skip | OnLag::Disconnect if beyond => first.max(newest + 1 - options.max_lag),
        OnLag::Skip | OnLag::Disconnect => first,
    };
    debug_assert!(target <= newest.max(first), "the newest event that there is is never skipped");
    Gap::between(cursor, target).map_or(Verdict::Continue, |gap| Verdict::Skip(gap, target))
}
