//! What one subscriber gets before the frames of the log: a head, a gap, a snapshot.
//!
//! Owns: these bytes in their order, and what is left of them after a short write. Must not know: cursors, sockets.
//! Invariant: a snapshot is the same frame for everybody; what a socket does not take of it is kept as that frame, never
//! as a copy.

use sse_fast_core::batch::Partial;
use sse_fast_core::frame::{Frame, Framing};

use super::connection::Unwritten;

/// See the module.
#[derive(Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    /// Where a frame's bytes begin in `bytes`, and the frame; one at most.
    frame: Option<(usize, Frame)>,
}

impl Ahead {
    /// These bytes first.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, frame: None }
    }

    /// Adds a block of the subscriber's own.
    pub(super) fn put(&mut self, framing: Framing, write: impl FnOnce(&mut Vec<u8>)) {
        let mut block = Vec::new();
        write(&mut block);
        framing.put(&mut self.bytes, &block);
    }

    /// Adds a frame that everybody gets.
    pub(super) fn put_frame(&mut self, framing: Framing, frame: Frame) {
        debug_assert!(self.frame.is_none(), "one snapshot");
        let at = self.bytes.len();
        self.bytes.extend_from_slice(frame.bytes(framing));
        self.frame = Some((at, frame));
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frame = None;
    }

    /// What is left once `written` bytes were taken, where that is not all.
    pub(super) fn after(&self, written: usize, framing: Framing) -> Option<Unwritten> {
        let own = |from: usize, until: usize| (from < until).then(|| Unwritten::own(&self.bytes[from..until]));
        let Some((at, frame)) = &self.frame else { return own(written, self.bytes.len()) };
        let end = at + frame.bytes(framing).len();
        let partial = (written < end)
            .then(|| Unwritten::frame(Partial { frame: frame.clone(), written: written.saturating_sub(*at) }));
        let parts = [own(written, *at), partial, own(written.max(end), self.bytes.len())];
        parts.into_iter().flatten().reduce(Unwritten::then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_taken_the_rest_is_kept_whole_and_in_order() {
        for framing in [Framing::Chunked, Framing::Plain] {
            let mut ahead = Ahead::of(b"head".to_vec());
            ahead.put_frame(framing, Frame::of(b"data: snapshot\n\n"));
            ahead.put(framing, |block| block.extend_from_slice(b"event: gap\ndata: 1\n\n"));
            let all = ahead.bytes().to_vec();
            for written in 0..all.len() {
                let rest = ahead.after(written, framing).expect("something is left").into_bytes(framing);
                assert_eq!(rest, all[written..], "after {written}");
            }
            assert!(ahead.after(all.len(), framing).is_none());
        }
    }
}
