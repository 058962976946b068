//! A client of the simulation: it reads what the network brings, parses every byte and keeps the laws.
//!
//! Owns: what it saw, across its connections. Must not know: the shard. Checked here: a gap within a connection comes only
//! to one whose socket was short, or whose history was made smaller; every end has a reason, a clean one as well as a cut.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::OnLag;
use sse_fast_oracle::everything::{Expected, Item};
use sse_fast_oracle::parser::{Block, Parser};
use sse_fast_oracle::reader::Reader;

use super::right::Right;
use super::stage::Stage;
use super::times::{STALL, TICKS};
use super::told::{Opened, SimStream};
use super::wire::{self, Wire};
use crate::delivery::Patience;

/// The head of every response.
pub(super) const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// The name of heartbeats that are events.
pub(super) const BEAT: &str = "beat";

/// See the module.
pub(super) struct Client {
    pub(super) framing: Framing,
    /// The bytes its socket holds.
    pub(super) capacity: usize,
    /// Which name it reads.
    pub(super) name: usize,
    pub(super) shard: usize,
    pub(super) wire: Option<Rc<RefCell<Wire>>>,
    pub(super) parser: Parser,
    pub(super) reader: Reader,
    /// Its reading of the stream that stands in until its handler has answered, and which that is.
    pub(super) early: Option<(usize, Reader)>,
    /// Streams it was moved to, whose openings it has not seen yet.
    pub(super) moves: VecDeque<Opened>,
    /// How the present connection began, or was moved last.
    pub(super) opened: Option<Opened>,
    /// When that was.
    pub(super) opened_at: Micros,
    /// Bytes of the head that were read.
    head: usize,
    is_fresh: bool,
    /// It has the terminal event and stays away.
    pub(super) finished: bool,
    /// What its present connection was let in with.
    pub(super) right: Right,
    /// How long the right of its next connection is to last.
    pub(super) next_right: Option<Micros>,
    /// The newest event when it shut its side: it is given everything up to that.
    pub(super) owed: Option<u64>,
    pub(super) live_gaps: usize,
    pub(super) beats: usize,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    Cut,
}

impl Client {
    pub(super) fn new(framing: Framing, capacity: usize, name: usize) -> Self {
        Self {
            framing,
            capacity,
            name,
            shard: 0,
            wire: None,
            parser: Parser::new(false, true),
            reader: Reader::default(),
            early: None,
            moves: VecDeque::new(),
            opened: None,
            opened_at: 0,
            head: 0,
            is_fresh: true,
            finished: false,
            right: Right::default(),
            next_right: None,
            owed: None,
            live_gaps: 0,
            beats: 0,
        }
    }

    /// Whether its socket takes whatever it is offered.
    pub(super) fn is_healthy(&self) -> bool {
        self.capacity == usize::MAX
    }

    /// A connection is on its way.
    pub(super) fn begin(
        &mut self,
        wire: Rc<RefCell<Wire>>,
        shard: usize,
        ids: bool,
        early: Option<usize>,
        now: Micros,
    ) {
        self.wire = Some(wire);
        self.shard = shard;
        self.parser = Parser::new(self.framing == Framing::Chunked, ids);
        self.early = early.map(|stream| (stream, Reader::default()));
        self.moves.clear();
        self.opened = None;
        self.opened_at = now;
        self.head = 0;
        self.is_fresh = true;
        self.owed = None;
        self.right = Right::default();
    }

    /// The stream it reads now, as far as the shard is concerned.
    pub(super) fn stream(&self) -> Option<usize> {
        let moved = self.moves.back().map(|opened| opened.stream);
        moved.or_else(|| self.opened.as_ref().map(|opened| opened.stream))
    }

    /// The newest event of the stream it reads, where it reads its own.
    pub(super) fn newest(&self, stage: &Stage) -> Option<u64> {
        let stream = self.stream().filter(|_| self.early.is_none())?;
        Some(stage.streams.borrow()[stream].all.newest())
    }

    /// Reads up to `bytes`.
    pub(super) fn read(&mut self, stage: &Stage, bytes: usize) {
        let Some(wire) = self.wire.clone() else { return };
        if let Some(opened) = wire.borrow_mut().opened.take() {
            self.open(opened, stage.now());
        }
        let got = wire::read(&wire, bytes);
        let head = got.len().min(HEAD.len() - self.head);
        assert_eq!(got[..head], HEAD[self.head..self.head + head], "the head comes first");
        self.head += head;
        let was_short = wire.borrow().was_short;
        for block in self.parser.take(&got[head..]) {
            self.see(stage, &block, was_short);
        }
    }

    fn open(&mut self, opened: Opened, now: Micros) {
        let expected = match &opened.expected {
            // What nothing is owed to was told so before it came.
            Expected::Nothing => panic!("204 is answered before"),
            items @ Expected::Items { .. } => items,
        };
        match &mut self.early {
            Some((_, reader)) => reader.connect(opened.place, expected),
            None => self.reader.connect(opened.place, expected),
        }
        self.opened = Some(opened);
        self.opened_at = now;
    }

    fn see(&mut self, stage: &Stage, block: &Block, was_short: bool) {
        let told = self.opened.as_ref().is_some_and(|opened| opened.retry);
        assert!(!self.is_fresh || !told || block.retry.is_some(), "retry joins the first event: {block:?}");
        self.is_fresh = false;
        if self.right.see(block, stage.now()) {
            return;
        }
        if block.event.as_deref() == Some(BEAT) {
            self.beats += 1;
            return;
        }
        let streams = stage.streams.borrow();
        let current = self.opened.as_ref().expect("what is read was opened").stream;
        let is_unknown = block.data.first().is_some_and(|data| data.contains("\"from\":null"));
        if !self.moves.is_empty() && (is_unknown || !streams[current].all.owns(block)) {
            let moved = self.moves.pop_front().expect("one it was moved to");
            self.early = None;
            self.open(moved, stage.now());
        }
        let opened = self.opened.as_ref().expect("what is read was opened");
        let stream = &streams[opened.stream];
        let item = stream.all.item(block);
        let reader = self.early.as_mut().map_or(&mut self.reader, |(_, reader)| reader);
        if let (Item::Gap(range), true) = (&item, reader.is_open()) {
            self.live_gaps += 1;
            let patience = stage.publishers.borrow().patience;
            check_gap(stream, opened, was_short, patience);
            stream.check_end_of_gap(*range, patience);
        }
        if let Item::Event(position) = item {
            self.right.given(position);
        }
        reader.see(&item, block.id.as_ref());
    }

    /// Its stream has ended, and it has everything: it stays away.
    pub(super) fn finish(&mut self, stream: &SimStream) {
        assert_eq!(self.reader.received.last(), Some(&stream.all.newest()), "the terminal event was given");
        self.finished = true;
    }

    /// Whether everything was read of a connection that has ended. Its shard may have `failed`; `drain` is when it is to
    /// have stopped.
    pub(super) fn end(&mut self, stage: &Stage, failed: bool, drain: Option<Micros>) -> Option<Ending> {
        let wire = self.wire.clone()?;
        let wire = wire.borrow();
        if !wire.unread.is_empty() || wire.shut.is_none() && wire.closed.is_none() && !wire.reset {
            return None;
        }
        let streams = stage.streams.borrow();
        let opened = self.moves.back().or(self.opened.as_ref());
        let stream = opened.map(|opened| &streams[opened.stream]);
        let shrunk = opened.zip(stream).is_some_and(|(opened, stream)| stream.shrunk != opened.shrunk);
        let disconnects = stream.is_some_and(|stream| stream.disconnects);
        let may_lag = disconnects && (wire.was_short || shrunk);
        let is_clean = wire.shut.is_some() && !wire.reset && self.parser.is_closed();
        // Without chunks one that was closed for its lag cannot be told from one that was given the end.
        let is_whole = is_clean && (self.framing == Framing::Chunked || !may_lag);
        let is_complete = stream.is_some_and(SimStream::is_complete);
        let leaves = self.right.leaves(stage.now());
        if is_whole {
            assert!(self.parser.is_between_events(), "the body is whole");
            assert!(is_complete || wire.fin || drain.is_some() || leaves, "an open stream was ended for no reason");
        } else if !is_clean {
            let is_over = drain.is_some_and(|until| wire.closed.is_some_and(|at| at >= until));
            let stalled = wire.was_short && wire.closed.is_some_and(|at| at + TICKS >= wire.last_taken + STALL);
            let reason = failed || is_over || wire.is_attack || stalled || may_lag;
            assert!(reason, "a connection was cut for no reason");
        }
        if leaves && is_whole {
            self.right.ended(self.reader.next(), wire.fin, is_complete || drain.is_some());
            if let Some(stream) = stream.filter(|stream| stream.all.ended) {
                let has_everything = self.reader.received.last() == Some(&stream.all.newest());
                self.finished |= has_everything;
            }
        } else if let Some(stream) = stream.filter(|_| is_whole && !wire.fin) {
            if let Some(moved) = self.moves.pop_back() {
                self.early = None;
                if moved.expected != Expected::Nothing {
                    self.open(moved, stage.now());
                }
            }
            if self.early.is_none() {
                self.reader.check_account(stream.all.newest());
                if stream.all.ended {
                    self.finish(stream);
                }
            }
        } else if let Some(owed) = self.owed.filter(|_| is_whole && self.early.is_none()) {
            assert!(self.reader.next() > owed, "it shut its side, and was not given what there was: {owed}");
        }
        drop(streams);
        self.early = None;
        self.moves.clear();
        self.wire = None;
        Some(if is_whole { Ending::Whole } else { Ending::Cut })
    }
}

/// A gap within a connection needs a reason.
pub(super) fn check_gap(stream: &SimStream, opened: &Opened, was_short: bool, patience: Patience) {
    let shrunk = stream.shrunk != opened.shrunk;
    assert!(was_short || shrunk, "a subscriber whose socket takes bytes was skipped");
    let closes = stream.policies == 1 && stream.all.options.on_lag == OnLag::Disconnect;
    assert!(!closes, "who lags is closed, and not told of a gap");
    let lossless = patience == Patience::Lossless && stream.all.options.on_lag == OnLag::Skip;
    assert!(!lossless || shrunk || stream.policies > 1, "something was skipped that publishers wait for");
}
