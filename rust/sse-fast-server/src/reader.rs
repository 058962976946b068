//! Reading a stream within this process.
//!
//! The same cursor, gaps and end as a subscriber on a socket has. A reader in the process is
//! never waited for: where it falls out of the log it gets a gap event. It sees an event the
//! moment it is published.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sse_fast_core::cursor::{self, Gap, Opening};
use sse_fast_core::id::Position;
use sse_fast_core::lag::{self, Pace, Verdict};
use sse_fast_core::options::Start;
use sse_fast_core::wire::{self, Decoded};

use crate::stream::{Inner, Stream};

/// Where a reader begins.
#[derive(Clone, Debug)]
pub enum ReadFrom {
    /// Like a new subscriber; the stream's own `start` where none is given.
    Start(Option<Start>),
    /// Like a subscriber that resumes after this id.
    After(String),
}

/// What looking for the next event brought.
#[derive(Clone, Debug)]
pub enum ReadOutcome {
    /// An event, a snapshot or a gap.
    Event(Decoded),
    /// The terminal event was given, or the stream was removed.
    Ended,
    /// Nothing within the time given.
    Timeout,
    /// The server was closed.
    Closed,
}

/// A reading of one stream.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    /// The next position wanted.
    cursor: Position,
    /// What comes before it: gaps and the snapshot.
    ahead: VecDeque<Decoded>,
    /// Whether there is nothing more to come.
    finished: bool,
}

impl Stream {
    /// Begins to read.
    pub fn reader(&self, from: &ReadFrom) -> Reader {
        let inner = self.inner();
        let opening = match from {
            ReadFrom::Start(start) => cursor::open(&inner.state, None, *start),
            ReadFrom::After(id) => cursor::open(&inner.state, Some(id), None),
        };
        let mut reader = Reader { stream: self.clone(), cursor: 0, ahead: VecDeque::new(), finished: false };
        match opening {
            Opening::Finished => reader.finished = true,
            Opening::Live { before, snapshot, after, cursor } => {
                reader.cursor = cursor;
                reader.ahead.extend(before.map(|gap| gap_event(&inner, gap)));
                reader.ahead.extend(snapshot.map(|frame| wire::decode(frame.plain())));
                reader.ahead.extend(after.map(|gap| gap_event(&inner, gap)));
            }
        }
        reader
    }
}

impl Reader {
    /// Waits for the next event, for ever where no `timeout` is given.
    pub fn next(&mut self, timeout: Option<Duration>) -> ReadOutcome {
        let began = Instant::now();
        let stream = self.stream.clone();
        let mut inner = stream.inner();
        loop {
            if let Some(outcome) = self.look(&inner) {
                return outcome;
            }
            let left = timeout.map_or(Duration::from_secs(3600), |limit| limit.saturating_sub(began.elapsed()));
            if left.is_zero() {
                return ReadOutcome::Timeout;
            }
            inner = stream.wait_for_news(inner, left);
        }
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> ReadOutcome {
        let stream = self.stream.clone();
        let inner = stream.inner();
        self.look(&inner).unwrap_or(ReadOutcome::Timeout)
    }

    /// A socket that becomes readable when there may be something; whoever reads it drains it.
    pub fn wake_fd(&mut self) -> std::io::Result<OwnedFd> {
        self.stream.add_waker().map(OwnedFd::from)
    }

    /// The stream that is read.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    fn look(&mut self, inner: &Inner) -> Option<ReadOutcome> {
        if let Some(event) = self.ahead.pop_front() {
            return Some(ReadOutcome::Event(event));
        }
        if self.finished {
            return Some(ReadOutcome::Ended);
        }
        if let Verdict::Skip(gap, target) = lag::judge(&inner.state, self.cursor, Pace::Ready) {
            self.cursor = target;
            return Some(ReadOutcome::Event(gap_event(inner, gap)));
        }
        self.cursor = self.cursor.max(inner.state.log().first());
        if let Some(frame) = inner.state.log().get(self.cursor) {
            self.cursor += 1;
            self.finished = inner.state.ended() && self.cursor > inner.state.newest();
            return Some(ReadOutcome::Event(wire::decode(frame.plain())));
        }
        if inner.state.ended() || inner.removed {
            self.finished = true;
            return Some(ReadOutcome::Ended);
        }
        self.stream.0.hub.closed().then_some(ReadOutcome::Closed)
    }
}

fn gap_event(inner: &Inner, gap: Gap) -> Decoded {
    let mut block = Vec::new();
    put_gap(&mut block, inner, gap);
    wire::decode(&block)
}

/// Appends a gap's block.
pub(crate) fn put_gap(block: &mut Vec<u8>, inner: &Inner, gap: Gap) {
    let range = match gap {
        Gap::Known { from, to } => Some((from, to)),
        Gap::Unknown => None,
    };
    wire::gap(block, inner.state.epoch(), range);
}
