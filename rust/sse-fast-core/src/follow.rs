//! What one reader of a stream gets next: the one place that decides it.
//!
//! Owns: a reader's cursor and how it moves. Must not know: sockets, framing, threads, time. Used by subscribers on
//! sockets and by readers in the same process alike, so that what one is told the others are told. (The JSON form takes
//! everything at once, from where `cursor` opens it.)
//! Invariants: the cursor never goes back; whatever it passes without a frame was announced as a gap; after
//! [`Step::Frames`] the log holds the cursor's position. Changes together with `cursor` (the beginning) and `lag` (the
//! judgement).

use crate::frame::Frame;
use crate::gap::Gap;
use crate::id::Position;
use crate::lag::{self, Pace, Verdict};
use crate::stream::StreamState;

/// What a reader gets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is told that these are missing; its cursor stands behind them now.
    Gap(Gap),
    /// The log holds everything from its cursor on.
    Frames,
    /// It lagged, and the stream's policy is to close its connection. Never for a reader in the same process.
    Disconnect,
    /// It has everything, and nothing will follow.
    End,
    /// It has everything so far.
    Pending,
}

/// A reader's place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    cursor: Position,
}

impl Follower {
    /// A reader whose next position is `cursor`, as an opening gave it.
    pub fn at(cursor: Position) -> Self {
        Self { cursor }
    }

    /// The next position it is given.
    pub fn cursor(self) -> Position {
        self.cursor
    }

    /// Decides what comes next, and moves behind what is announced as missing.
    pub fn next(&mut self, stream: &StreamState, pace: Pace) -> Step {
        match lag::judge(stream, self.cursor, pace) {
            Verdict::Disconnect => return Step::Disconnect,
            Verdict::Skip(gap, target) => {
                self.advance(target);
                return Step::Gap(gap);
            }
            Verdict::Continue => {}
        }
        if self.cursor <= stream.newest() {
            debug_assert!(self.cursor >= stream.log().first(), "what the log lost is announced");
            Step::Frames
        } else if stream.is_complete() {
            Step::End
        } else {
            Step::Pending
        }
    }

    /// The frame at its cursor; it stands behind it then.
    pub fn take<'a>(&mut self, stream: &'a StreamState) -> Option<&'a Frame> {
        let frame = stream.log().get(self.cursor)?;
        self.advance(self.cursor + 1);
        Some(frame)
    }

    /// It was given everything before `cursor`.
    pub fn advance(&mut self, cursor: Position) {
        debug_assert!(cursor >= self.cursor, "a cursor never goes back: {} to {cursor}", self.cursor);
        self.cursor = cursor;
    }
}
