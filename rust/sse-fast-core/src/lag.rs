//! What happens to a subscriber that fell behind.
//!
//! # Lagging
//! Lag is the number of events between a cursor and the newest. A subscriber whose socket takes
//! bytes is given everything the log still holds, however fast the publisher was; only one that
//! *was blocked* is held to `max_lag`, at the moment its socket takes bytes again. So a gap is
//! announced once, with the exact number, right before the next event. The newest event, and so
//! the terminal one, is never skipped.

use crate::cursor::Gap;
use crate::id::Position;
use crate::options::OnLag;
use crate::stream::StreamState;

/// Whether a subscriber's socket took everything it was offered last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It did: only what the log no longer holds can be missing.
    Ready,
    /// It did not: `max_lag` applies.
    Blocked,
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

/// Judges a subscriber whose next position is `cursor`.
pub fn judge(stream: &StreamState, cursor: Position, pace: Pace) -> Verdict {
    let (first, newest, options) = (stream.log().first(), stream.newest(), stream.options());
    let lag = (newest + 1).saturating_sub(cursor);
    let overtaken = cursor < first;
    let beyond = pace == Pace::Blocked && lag > options.max_lag;
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
