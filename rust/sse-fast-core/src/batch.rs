//! Frames laid end to end, so that one write serves any cursor among them.
//!
//! A walk over thousands of subscribers that are all at the same or nearly the same place copies
//! the frames once and hands each subscriber a slice: one `send()` of contiguous bytes instead of
//! a vector of hundreds (measured in `loadtest/results`). A single frame is not copied at all.
//! The batch keeps the frames too, so that a half-written one can outlive its place in the log.

use crate::frame::{Frame, Framing};
use crate::id::Position;
use crate::log::Log;

/// The most bytes laid end to end in one go. A subscriber further behind gets the next batch
/// when its socket has taken this one: 128 KiB is eight times what a socket takes unread
/// (`TCP_NOTSENT_LOWAT`), and costs 10 microseconds to copy.
pub const MAX_BATCH_BYTES: usize = 128 * 1024;

/// A frame of which a socket took only the beginning.
#[derive(Clone, Debug)]
pub struct Partial {
    /// The frame.
    pub frame: Frame,
    /// How many of its bytes, in the subscriber's framing, were taken.
    pub written: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Batch {
    /// The position of the first frame.
    from: Position,
    /// The frames, oldest first.
    frames: Vec<Frame>,
    /// Their bytes end to end; empty where there is one frame.
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
    /// The framing of `bytes`.
    framing: Framing,
    /// The frames' lengths with their chunk framing, added up.
    total: usize,
    /// The most that `total` becomes, but for one frame.
    limit: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::with_limit(MAX_BATCH_BYTES)
    }
}

impl Batch {
    /// An empty batch that takes so many bytes, and one frame whatever its size.
    pub fn with_limit(limit: usize) -> Self {
        let (frames, bytes, ends) = Default::default();
        Self { from: 0, frames, bytes, ends, framing: Framing::Chunked, total: 0, limit }
    }

    /// Fills the batch from `from` on, as far as its limit goes, at least one frame
    /// where there is one. `from` must not lie before the log's first.
    pub fn fill(&mut self, log: &Log, from: Position, framing: Framing) {
        self.fill_up_to(log, from, Position::MAX, framing);
    }

    /// The same, no further than the position `last`.
    pub fn fill_up_to(&mut self, log: &Log, from: Position, last: Position, framing: Framing) {
        self.clear();
        self.from = from;
        self.framing = framing;
        self.extend_up_to(log, last);
    }

    /// Adds what was appended to the log since, as far as its limit goes.
    pub fn extend(&mut self, log: &Log) {
        self.extend_up_to(log, Position::MAX);
    }

    fn extend_up_to(&mut self, log: &Log, last: Position) {
        if self.until() < log.first() {
            // What would continue it is gone; a subscriber that needs it is told of a gap.
            return;
        }
        debug_assert!(self.frames.len() <= 1 || self.ends.len() == self.frames.len(), "each laid frame has its end");
        for frame in log.from(self.until()) {
            let is_full = self.total + frame.len() > self.limit && !self.frames.is_empty();
            if is_full || self.until() > last {
                break;
            }
            self.total += frame.len();
            self.frames.push(frame.clone());
        }
        if self.frames.len() > 1 {
            for frame in &self.frames[self.ends.len()..] {
                self.bytes.extend_from_slice(frame.bytes(self.framing));
                self.ends.push(self.bytes.len());
            }
        }
    }

    /// Forgets the frames; the memory is kept for the next fill, up to one batch's worth.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes.clear();
        self.ends.clear();
        self.total = 0;
        self.bytes.shrink_to(self.limit);
    }

    /// The position of the first frame.
    pub fn from(&self) -> Position {
        self.from
    }

    /// The position after the last frame.
    pub fn until(&self) -> Position {
        self.from + self.frames.len() as Position
    }

    /// The frames from `cursor` to the batch's end; `None` where the batch does not hold that place.
    pub fn frames_from(&self, cursor: Position) -> Option<&[Frame]> {
        let index = usize::try_from(cursor.checked_sub(self.from)?).ok()?;
        self.frames.get(index..).filter(|frames| !frames.is_empty())
    }

    /// The bytes from `cursor` to the batch's end; `None` where the batch does not hold that
    /// place in that framing.
    pub fn bytes_from(&self, cursor: Position, framing: Framing) -> Option<&[u8]> {
        if cursor < self.from || cursor >= self.until() {
            return None;
        }
        if let [frame] = self.frames.as_slice() {
            return Some(frame.bytes(framing));
        }
        if self.framing != framing {
            return None;
        }
        Some(&self.bytes[self.start_of(cursor)..])
    }

    /// Where a subscriber at `cursor` stands once `written` of those bytes were taken: its next
    /// position, and the frame it stopped in.
    pub fn advance(&self, cursor: Position, written: usize, framing: Framing) -> (Position, Option<Partial>) {
        if let [frame] = self.frames.as_slice() {
            return match written {
                0 => (cursor, None),
                _ if written >= frame.bytes(framing).len() => (cursor + 1, None),
                _ => (cursor + 1, Some(Partial { frame: frame.clone(), written })),
            };
        }
        let reached = self.start_of(cursor) + written;
        let whole = self.ends.partition_point(|&end| end <= reached);
        let next = self.from + whole as Position;
        let start = if whole == 0 { 0 } else { self.ends[whole - 1] };
        match self.frames.get(whole) {
            Some(frame) if reached > start => {
                (next + 1, Some(Partial { frame: frame.clone(), written: reached - start }))
            }
            _ => (next, None),
        }
    }

    fn start_of(&self, cursor: Position) -> usize {
        match usize::try_from(cursor - self.from) {
            Ok(index) if index > 0 => self.ends[index - 1],
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any split of the writes gives every subscriber the bytes of its frames, once, in order.
        #[test]
        fn any_partial_writes_add_up_to_the_log(
            lengths in prop::collection::vec(1usize..30, 1..20), skip in 0usize..20, takes in prop::collection::vec(1usize..50, 1..200), plain: bool,
        ) {
            let framing = if plain { Framing::Plain } else { Framing::Chunked };
            let mut log = Log::default();
            for (index, length) in lengths.iter().enumerate() {
                log.push(Frame::of(&vec![b'a' + u8::try_from(index).unwrap(); *length]), 100, 1 << 20);
            }
            let mut cursor = 1 + (skip % lengths.len()) as u64;
            let expected: Vec<u8> = log.from(cursor).flat_map(|frame| frame.bytes(framing).to_vec()).collect();
            let (mut got, mut rest, mut batch) = (Vec::new(), None::<Partial>, Batch::default());
            for take in takes.iter().cycle() {
                if let Some(mut half) = rest.take() {
                    let bytes = half.frame.bytes(framing);
                    let taken = (*take).min(bytes.len() - half.written);
                    got.extend_from_slice(&bytes[half.written..half.written + taken]);
                    half.written += taken;
                    if half.written < bytes.len() { rest = Some(half); }
                    continue;
                }
                if cursor > log.newest() { break; }
                batch.fill(&log, cursor, framing);
                let bytes = batch.bytes_from(cursor, framing).unwrap();
                let taken = (*take).min(bytes.len());
                got.extend_from_slice(&bytes[..taken]);
                (cursor, rest) = batch.advance(cursor, taken, framing);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
