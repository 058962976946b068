//! One event's immutable wire bytes, encoded once and shared by every subscriber.
//!
//! Owns: the framing of an event: as an HTTP chunk, or plain where the connection's close ends the body.
//! Must not know: what the event's fields are (`wire` writes them), or where the frame is kept.
//! Invariants: a frame is exactly one chunk, so any sequence of frames is a valid chunked body, and a partial write is
//! described by a position in bytes. The plain form is a slice of the chunked one, never a copy.

use std::sync::Arc;

use crate::wire;

/// Shared wire bytes; cloning raises a reference count and copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Arc<[u8]>);

impl Frame {
    /// Wraps the block that `write` appends, its blank line included, into a chunk. `scratch` is cleared and reused, so
    /// that a publish allocates once, for the frame itself.
    pub fn new(scratch: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let start = wire::chunk_around(scratch, write);
        Self(Arc::from(&scratch[start..]))
    }

    /// A frame of bytes that were encoded before.
    pub fn of(block: &[u8]) -> Self {
        Self::new(&mut Vec::new(), |out| out.extend_from_slice(block))
    }

    /// The bytes with their chunk framing.
    pub fn chunked(&self) -> &[u8] {
        &self.0
    }

    /// The bytes without their chunk framing.
    pub fn plain(&self) -> &[u8] {
        // A chunk is "<hex>\r\n<block>\r\n"; the first LF ends its size line.
        let start = memchr::memchr(b'\n', &self.0).map_or(0, |at| at + 1);
        &self.0[start..self.0.len() - 2]
    }

    /// The bytes a subscriber of this framing is sent.
    pub fn bytes(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => self.chunked(),
            Framing::Plain => self.plain(),
        }
    }

    /// What the frame counts against a log's bound in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Always false; it stands here because a type with `len` is expected to have it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a subscriber's response body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1 chunks.
    Chunked,
    /// Until the connection closes: HTTP/1.0, or by setting.
    Plain,
}

impl Framing {
    /// Appends `block` as a subscriber of this framing is sent it.
    pub fn put(self, out: &mut Vec<u8>, block: &[u8]) {
        match self {
            Self::Chunked => wire::chunk(out, block),
            Self::Plain => out.extend_from_slice(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_carry_the_same_block() {
        let block = b"data: x\n\n";
        let frame = Frame::of(block);
        assert_eq!(frame.plain(), block);
        assert_eq!(frame.chunked(), b"9\r\ndata: x\n\n\r\n");
    }
}
