//! What a connection of several streams is offered in one write: pieces, each a gap, a snapshot or an event of one name.
//!
//! Owns: their bytes in their order, and what is left of the one in which a write stopped. Must not know: cursors, sockets,
//! which pieces there are. Invariants: a piece is one chunk, or its bytes alone where the body is plain. An event is the
//! connection's own id line and, around its own, the frame that everybody gets: no event is encoded a second time, and
//! what a socket does not take of it is kept as that frame, never as a copy.

use std::ops::Range;

use sse_fast_core::frame::{Frame, Framing};
use sse_fast_core::vector::IdVector;

use super::connection::Unwritten;

/// See the module.
#[derive(Default)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

/// One of them.
pub(super) struct Piece {
    /// Which name of the connection it is of.
    pub(super) member: u8,
    pub(super) what: What,
    /// Where it begins in the bytes.
    start: usize,
    end: usize,
    shared: Option<Shared>,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A head, a `retry:` line: of the connection.
    Head,
    /// What the name had to be told first of all that it had not been told.
    Told,
    /// The event at the name's cursor.
    Event,
}

/// The frame of a piece.
struct Shared {
    frame: Frame,
    /// Where in the bytes it begins.
    at: usize,
    /// The line of its block that is left out.
    without: Range<usize>,
}

impl Pieces {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    /// Gives memory back that only a very large event needed.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        self.clear();
        self.bytes.shrink_to(bytes);
        self.pieces.shrink_to(bytes / 64);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the connection's own, which are framed already, or not part of the body.
    pub(super) fn put_head(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            self.end(0, What::Head, start, None);
        }
    }

    /// A block that a name is told.
    pub(super) fn put_told(&mut self, framing: Framing, member: u8, block: &[u8]) {
        let start = self.bytes.len();
        framing.put(&mut self.bytes, block);
        self.end(member, What::Told, start, None);
    }

    /// A frame under the connection's id.
    pub(super) fn put_frame(&mut self, framing: Framing, member: u8, what: What, frame: Frame, ids: &IdVector) {
        let start = self.bytes.len();
        let (at, without) = ids.put_frame(&mut self.bytes, member.into(), framing, &frame);
        self.end(member, what, start, Some(Shared { frame, at, without }));
    }

    fn end(&mut self, member: u8, what: What, start: usize, shared: Option<Shared>) {
        self.pieces.push(Piece { member, what, start, end: self.bytes.len(), shared });
    }

    /// Those of which something was taken, where `written` bytes were.
    pub(super) fn begun(&self, written: usize) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().take_while(move |piece| piece.start < written)
    }

    /// What is left of the piece in which a write stopped; none where it stopped between two. A head is not laid out anew: it
    /// is left whole where nothing was taken.
    pub(super) fn rest(&self, written: usize) -> Option<Unwritten> {
        let is_begun = |piece: &&Piece| piece.start < written || piece.what == What::Head;
        let piece = self.pieces.iter().filter(is_begun).find(|piece| written < piece.end)?;
        let own = |from: usize, until: usize| (from < until).then(|| Unwritten::own(&self.bytes[from..until]));
        let Some(Shared { frame, at, without }) = &piece.shared else { return own(written, piece.end) };
        let before = *at..at + without.start;
        let after = before.end..before.end + frame.plain().len() - without.end;
        // Where in the block the bytes of a range stand, from what was not written on.
        let slice = |range: &Range<usize>, in_block: usize| {
            let taken = written.clamp(range.start, range.end) - range.start;
            let (from, until) = (in_block + taken, in_block + range.len());
            (from < until).then(|| Unwritten::slice(frame.clone(), from, until))
        };
        let parts = [
            own(written, before.start),
            slice(&before, 0),
            slice(&after, without.end),
            own(written.max(after.end), piece.end),
        ];
        parts.into_iter().flatten().reduce(Unwritten::then)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use sse_fast_core::vector::{Entry, Life};

    use super::*;

    #[test]
    fn whatever_was_taken_the_rest_of_the_piece_is_kept_whole_and_in_order() {
        let ids = IdVector::new(&[Entry::New, Entry::At(Life::NONE, 12)]);
        for framing in [Framing::Chunked, Framing::Plain] {
            for block in
                ["event: e\nid: a-1\ndata: x\n\n", "id: a-1\ndata: x\n\n", "event: e\ndata: x\n\n", "data: x\n\n"]
            {
                let mut pieces = Pieces::default();
                pieces.put_head(b"head");
                pieces.put_told(framing, 0, b"event: gap\ndata: 1\n\n");
                pieces.put_frame(framing, 1, What::Event, Frame::of(block.as_bytes()), &ids);
                pieces.put_frame(framing, 0, What::Event, Frame::of(block.as_bytes()), &ids);
                let all = pieces.bytes().to_vec();
                let ends: Vec<usize> = pieces.pieces.iter().map(|piece| piece.end).collect();
                for written in 0..=all.len() {
                    let rest = pieces.rest(written).map_or(Vec::new(), |rest| rest.into_bytes(framing));
                    let end = ends.iter().copied().find(|&end| end >= written).unwrap_or(0);
                    // A head is left whole where nothing was taken.
                    let is_between = ends.contains(&written);
                    assert_eq!(rest, if is_between { &[] } else { &all[written..end] }, "after {written}");
                    let begun = ends.iter().filter(|&&end| end < written).count() + usize::from(written > 0);
                    assert_eq!(pieces.begun(written).count(), begun, "after {written}");
                }
            }
        }
    }

    #[test]
    fn the_id_line_stands_before_the_event_and_the_frame_s_own_is_left_out() {
        let ids = IdVector::new(&[Entry::New, Entry::At(Life::NONE, 12)]);
        let mut pieces = Pieces::default();
        let frame = Frame::of(b"event: e\nid: a-1\nretry: 5\ndata: id: x\n\n");
        pieces.put_frame(Framing::Chunked, 1, What::Event, frame.clone(), &ids);
        assert_eq!(pieces.bytes(), b"32\r\nid: 1_-~0000000-12\nevent: e\nretry: 5\ndata: id: x\n\n\r\n");
        pieces.clear();
        pieces.put_frame(Framing::Plain, 1, What::Event, frame, &ids);
        assert_eq!(pieces.bytes(), b"id: 1_-~0000000-12\nevent: e\nretry: 5\ndata: id: x\n\n");
    }
}
