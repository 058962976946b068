//! Lines of a child process: bytes of one pipe in, lines out.
//!
//! Owns: where a line ends. LF, CRLF and a lone CR (progress bars) end one; a CR ends it at once, and
//! an LF that follows is swallowed even when it comes with a later read. What a marked line means is
//! `lines::marked`, re-exported here.
//! Must not know: processes, pipes, clocks, the logger, UTF-8.
//! Invariants: how the bytes were cut into reads never shows in the lines; a `Splitter` holds at most
//! `limit` bytes, whatever comes in; a line longer than that is reported once, when it ends, with its
//! length and its start, and is never handed on as if it were whole.

mod marked;
#[cfg(test)]
mod tests;

pub use marked::{Ended, Fault, Item, MarkedEvent, MarkedLines, Markers};

/// What is kept of a line that is too long: enough to recognise the line in a log and to see its marker.
pub const START_BYTES: usize = 4096;

/// Above this the buffer is given back after its line: hundreds of idle runs must not each keep a megabyte
/// because of one long line; below it, the next line would only have to ask for the memory again.
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
    /// The unfinished line, or its start once `length` is above `limit`.
    held: Vec<u8>,
    /// Bytes of the unfinished line seen so far, kept or not.
    length: u64,
    /// The last read ended with CR: an LF at the start of the next one belongs to it.
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
            // Doubling as Vec does it, except that the last step stops at the limit.
            let target = needed.max(self.held.capacity() * 2).min(self.limit);
            self.held.reserve_exact(target - self.held.len());
        }
        self.held.extend_from_slice(bytes);
    }

    fn is_too_long(&self) -> bool {
        self.length > self.limit as u64
    }
}
