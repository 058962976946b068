//! The retained frames of a stream: a ring bounded by events and by bytes.
//!
//! Owns: appending frames, evicting the oldest, and finding one by its position.
//! Must not know: subscribers, the stream's options, why it is bounded.
//! Invariants: positions are consecutive; the newest frame is retained whatever the bounds are, so a terminal event survives
//! them; `first..=newest` are exactly the positions that can still be given. Only a copy of a log elsewhere may lack the newest
//! ([`Log::after`], [`Log::skip_to`]): `first` is one beyond it then.

use std::collections::VecDeque;
use std::iter::Chain;
use std::slice;

use crate::frame::Frame;
use crate::id::Position;

/// Frames, oldest first. Most streams of a server with many have one event at most: that lies right here, and takes no room
/// of its own on the heap.
#[derive(Debug)]
enum Frames {
    /// One; none only before the first event.
    One(Option<Frame>),
    /// As many as there are.
    Many(VecDeque<Frame>),
}

impl Default for Frames {
    fn default() -> Self {
        Self::One(None)
    }
}

impl Frames {
    /// In two pieces, either of which may be empty.
    fn pieces(&self) -> (&[Frame], &[Frame]) {
        match self {
            Self::One(frame) => (frame.as_slice(), &[]),
            Self::Many(frames) => frames.as_slices(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(frame) => usize::from(frame.is_some()),
            Self::Many(frames) => frames.len(),
        }
    }

    fn get(&self, index: usize) -> Option<&Frame> {
        match self {
            Self::One(frame) => frame.as_ref().filter(|_| index == 0),
            Self::Many(frames) => frames.get(index),
        }
    }

    fn iter(&self) -> Chain<slice::Iter<'_, Frame>, slice::Iter<'_, Frame>> {
        let (older, newer) = self.pieces();
        older.iter().chain(newer)
    }

    fn push_back(&mut self, frame: Frame) {
        match self {
            Self::One(only) => match only.take() {
                None => *only = Some(frame),
                Some(older) => *self = Self::Many(VecDeque::from([older, frame])),
            },
            Self::Many(frames) => frames.push_back(frame),
        }
    }

    /// The oldest of several; the last one stays.
    fn pop_front(&mut self) -> Option<Frame> {
        match self {
            Self::One(_) => None,
            Self::Many(frames) => frames.pop_front(),
        }
    }
}

/// The retained frames, oldest first, with the sums that its bounds need.
#[derive(Debug, Default)]
pub struct Log {
    /// The frames of `first..=newest`, oldest first.
    frames: Frames,
    /// How many frames were evicted: the oldest retained position is one more.
    evicted: Position,
    /// The sum of the frames' lengths.
    bytes: usize,
    /// The sum of the lengths of all frames ever appended.
    appended: u64,
}

impl Log {
    /// A log that holds these frames, the first of them at `first`.
    pub fn of(first: Position, frames: impl IntoIterator<Item = Frame>) -> Self {
        let mut log = Self::after(first.saturating_sub(1));
        for frame in frames {
            log.push(frame, usize::MAX, usize::MAX);
        }
        log
    }

    /// How many frames are retained.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.frames.len() == 0
    }

    /// The oldest retained position; one beyond the newest where nothing is retained.
    pub fn first(&self) -> Position {
        self.evicted + 1
    }

    /// The newest position; 0 before the first append.
    pub fn newest(&self) -> Position {
        self.evicted + self.frames.len() as Position
    }

    /// The frame at `position`, where it is retained.
    pub fn get(&self, position: Position) -> Option<&Frame> {
        let index = position.checked_sub(self.first())?;
        self.frames.get(usize::try_from(index).ok()?)
    }

    /// The frames from `position` on, oldest first.
    pub fn from(&self, position: Position) -> impl Iterator<Item = &Frame> {
        let skip = position.saturating_sub(self.first());
        self.frames.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The oldest position that would remain if `count` more frames were appended, of `length` bytes together; beyond the
    /// next position where not even all but the last of those would.
    pub fn first_after(&self, count: usize, length: usize, history: usize, history_bytes: usize) -> Position {
        let (mut events, mut bytes, mut first) = (self.frames.len() + count, self.bytes + length, self.first());
        for frame in self.frames.iter() {
            if events <= history && bytes <= history_bytes {
                break;
            }
            events -= 1;
            bytes -= frame.len();
            first += 1;
        }
        if count > 1 && (events > history || bytes > history_bytes) && events == count { first + 1 } else { first }
    }

    /// A log whose first frame comes right after `base`: what is before was never here.
    pub fn after(base: Position) -> Self {
        Self { evicted: base, ..Self::default() }
    }

    /// Nothing up to `base` can be given any more; the next frame comes right after it. Never back.
    pub fn skip_to(&mut self, base: Position) {
        debug_assert!(base >= self.newest(), "a log goes on: {} to {base}", self.newest());
        self.evicted = base.max(self.newest());
        self.frames = Frames::default();
        self.bytes = 0;
    }

    /// Appends a frame and evicts what no longer fits; returns its position.
    pub fn push(&mut self, frame: Frame, history: usize, history_bytes: usize) -> Position {
        self.bytes += frame.len();
        self.appended += frame.len() as u64;
        self.frames.push_back(frame);
        self.trim(history, history_bytes);
        self.newest()
    }

    /// Evicts what does not fit the bounds; the newest frame stays whatever they say.
    pub fn trim(&mut self, history: usize, history_bytes: usize) {
        while self.frames.len() > 1 && (self.frames.len() > history || self.bytes > history_bytes) {
            if let Some(frame) = self.frames.pop_front() {
                self.bytes -= frame.len();
                self.evicted += 1;
            }
        }
    }

    /// The bytes ever appended.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// The bytes appended before `position`, which must not be older than the first retained one.
    pub fn appended_before(&self, position: Position) -> u64 {
        self.appended - self.from(position).map(|frame| frame.len() as u64).sum::<u64>()
    }

    /// The bytes retained.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The oracle keeps every frame and counts from the end.
        #[test]
        fn a_log_is_the_longest_tail_that_fits(
            lengths in prop::collection::vec(1usize..40, 1..60), history in 1usize..12, history_bytes in 1usize..200,
        ) {
            let mut log = Log::default();
            let mut all = Vec::new();
            for length in lengths {
                let frame = Frame::of(&vec![b'x'; length]);
                let predicted = log.first_after(1, frame.len(), history, history_bytes);
                all.push(frame.clone());
                let position = log.push(frame, history, history_bytes);
                prop_assert_eq!(position, all.len() as u64);
                let mut keep = 1;
                let mut bytes = all[all.len() - 1].len();
                while keep < history && keep < all.len() && bytes + all[all.len() - keep - 1].len() <= history_bytes {
                    bytes += all[all.len() - keep - 1].len();
                    keep += 1;
                }
                prop_assert_eq!(log.first(), (all.len() - keep + 1) as u64);
                prop_assert_eq!(log.first(), predicted);
                prop_assert_eq!(log.bytes(), bytes);
                let from = log.first() + (keep as u64) / 2;
                let got: Vec<_> = log.from(from).cloned().collect();
                prop_assert_eq!(&got[..], &all[usize::try_from(from).unwrap() - 1..]);
                prop_assert_eq!(log.get(position), all.last());
                prop_assert_eq!(log.get(log.first() - 1), None);
                prop_assert_eq!(log.get(position + 1), None);
            }
        }
    }
}
