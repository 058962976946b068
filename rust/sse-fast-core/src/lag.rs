//! What happens to a subscriber that fell behind.
//!
//! # Lagging
//! Lag is the number of events between a cursor and the newest. A subscriber whose socket takes
//! bytes is given everything the log still holds, however fast the publisher was; only one that
//! *was blocked* is held to `max_lag`, at the moment its socket takes bytes again, and what it was
//! already being given when its socket filled does not count: a replay of a long history fills any
//! socket, and is no lag. So a gap is announced once, with the exact number, right before the next
//! event. The newest event, and so the terminal one, is never skipped.

use crate::cursor::Gap;
use crate::id::Position;
use crate::options::OnLag;
use crate::stream::StreamState;

/// Whether a subscriber's socket took everything it was offered last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It did: only what the log no longer holds can be missing.
    Ready,
    /// It did not: `max_lag` applies to what was published since.
    Blocked {
        /// The newest position when its socket filled.
        since: Position,
    },
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

/// How many events were published that a subscriber whose next position is `cursor` fell behind by.
pub fn behind(newest: Position, cursor: Position, since: Position) -> u64 {
    newest.saturating_sub(since.max(cursor.saturating_sub(1)))
}

/// Judges a subscriber whose next position is `cursor`.
pub fn judge(stream: &StreamState, cursor: Position, pace: Pace) -> Verdict {
    let (first, newest, options) = (stream.log().first(), stream.newest(), stream.options());
    let overtaken = cursor < first;
    let beyond = match pace {
        Pace::Ready => false,
        Pace::Blocked { since } => behind(newest, cursor, since) > options.max_lag,
    };
    if !overtaken && !beyond {
        return Verdict::Continue;
    }
    let target = match options.on_lag {
        OnLag::Disconnect => return Verdict::Disconnect,
        OnLag::Latest => newest,
        OnLag::Skip if beyond => first.max(newest + 1 - options.max_lag),
        OnLag::Skip => first,
    };
    Gap::between(cursor, target).map_or(Verdict::Continue, |gap| Verdict::Skip(gap, target))
}
