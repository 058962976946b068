//! Lines of a child process: the bytes of one pipe go in, lines come out.
//!
//! Owns: where a line ends. LF, CRLF and a lone CR (as progress bars write it) end a line. A CR ends it at once; an LF
//! that follows is skipped, even when a later read brings it. What a marked line means is `lines::marked`, re-exported
//! here.
//! Must not know: processes, pipes, clocks, the logger, UTF-8.
//! Invariants: the same bytes give the same lines, however reads divide them. A `Splitter` holds at most `limit` bytes.
//! A longer line is reported once, when it ends, with its length and its start, and never as if it were whole.

mod marked;
#[cfg(test)]
mod tests;

pub use marked::{Ended, Fault, Item, MarkedEvent, MarkedLines, Markers};

/// How much is kept of a line that is too long: enough to recognise it in a log and to see its marker.
pub const START_BYTES: usize = 4096;

/// A buffer larger than this is freed after its line, so that hundreds of idle runs do not each keep a megabyte because
/// of one long line. A smaller one is kept for the next line.
const KEEP_BYTES: usize = 16 * 1024;

/// One line, without what ended it.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The whole line, at most `limit` bytes.
    Whole(&'a [u8]),
    /// A line above the limit; all but its start was discarded.
    TooLong {
        /// The first bytes of the line, at most [`START_BYTES`].
        start: &'a [u8],
        /// The length of the whole line in bytes.
        length: u64,
    },
}

/// Cuts the bytes of one pipe into lines, holding the unfinished one between reads.
#[derive(Debug)]
pub struct Splitter {
    /// The unfinished line; only its start once `length` exceeds `limit`.
    held: Vec<u8>,
    /// Bytes of the unfinished line seen so far, kept or not.
    length: u64,
    /// The last read ended with CR, so an LF at the start of the next one belongs to the same line end.
    after_cr: bool,
    /// The longest line that is kept whole.
    limit: usize,
}

impl Splitter {
    /// A splitter whose lines are at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { held: Vec::new(), length: 0, after_cr: false, limit }
    }

    /// Takes the bytes of one read and hands every line that ended in them to `take`.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            let (line, ending) = rest.split_at(end);
            self.complete(line, &mut take);
            self.after_cr = ending == b"\r";
            rest = ending.strip_prefix(b"\r\n").unwrap_or(&ending[1..]);
        }
        self.hold(rest);
    }

    /// The pipe is closed: hands over a last line that nothing ended, if there is one.
    pub fn finish(&mut self, mut take: impl FnMut(Line<'_>)) {
        if self.length > 0 {
            self.complete(b"", &mut take);
        }
    }

    /// Bytes of memory held for the unfinished line.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// The unfinished line ends with `tail`. A line that lies within one read is not copied.
    fn complete(&mut self, tail: &[u8], take: &mut impl FnMut(Line<'_>)) {
        if self.length == 0 && tail.len() <= self.limit {
            take(Line::Whole(tail));
            return;
        }
        self.hold(tail);
        if self.is_too_long() {
            take(Line::TooLong { start: &self.held, length: self.length });
        } else {
            take(Line::Whole(&self.held));
        }
        self.held.clear();
        self.length = 0;
        if self.held.capacity() > KEEP_BYTES {
            self.held = Vec::new();
        }
    }

    /// Adds bytes to the unfinished line, or only to its length once it is too long.
    fn hold(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.is_too_long() {
            let start = START_BYTES.min(self.limit);
            let room = start.saturating_sub(self.held.len()).min(bytes.len());
            self.held.truncate(start);
            self.held.extend_from_slice(&bytes[..room]);
            self.held.shrink_to(start);
            return;
        }
        let needed = self.held.len() + bytes.len();
        if needed > self.held.capacity() {
            // Doubles as Vec does, but never beyond the limit.
            let target = needed.max(self.held.capacity() * 2).min(self.limit);
            self.held.reserve_exact(target - self.held.len());
        }
        self.held.extend_from_slice(bytes);
    }

    fn is_too_long(&self) -> bool {
        self.length > self.limit as u64
    }
}
