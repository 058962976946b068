//! A client with its socket, and the engine's end of its connection.
//!
//! The socket has room for so many bytes and takes no more: what the engine offers beyond is left
//! half-written, and that is all the engine keeps for it. What the client gets goes through a
//! parser of its own to its [`Reader`], which holds it against the laws.

use sse_fast_core::batch::{Batch, MAX_BATCH_BYTES, Rest};
use sse_fast_core::cursor::Gap;
use sse_fast_core::frame::Framing;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::lag::Pace;
use sse_fast_core::wire;

use crate::parser::Parser;
use crate::reader::Reader;
use crate::world::World;

/// The client's end of a connection, and how much it takes at once.
#[derive(Debug)]
pub struct Socket {
    pub parser: Parser,
    pub reader: Reader,
    /// The bytes it takes before it blocks.
    pub room: usize,
    /// The most `room` can become; without limit for a healthy client.
    pub capacity: usize,
    /// Whether the connection has not shown an event yet.
    pub is_fresh: bool,
}

/// The engine's end of a connection.
#[derive(Debug)]
pub struct Subscriber {
    pub framing: Framing,
    /// The position of the next frame.
    pub cursor: u64,
    /// Bytes from outside the log: opening, gap, heartbeat, last chunk.
    pub pending: Vec<u8>,
    /// What remains of a half-written frame.
    pub rest: Option<Rest>,
    pub pace: Pace,
    pub wrote_at: Tick,
    /// The tick its heartbeat's slot comes up.
    pub slot: Tick,
    /// Whether the connection closes once nothing is pending.
    pub is_closing: bool,
    /// Whether a `retry:` line was sent and waits for the event it shall be a line of.
    pub retry_waits: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Peer {
    pub socket: Socket,
    pub subscriber: Option<Subscriber>,
    pub framing: Framing,
    /// Whether it has the terminal event and stays away.
    pub finished: bool,
    /// How many gaps were announced within connections.
    pub live_gaps: usize,
    /// How many heartbeats it was sent.
    pub heartbeats: usize,
}

impl Socket {
    /// Takes what there is room for, and hands complete events to the reader.
    pub fn take(&mut self, world: &World, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        if self.capacity != usize::MAX {
            self.room -= taken;
        }
        for block in self.parser.take(&bytes[..taken]) {
            let is_told = self.is_fresh && world.all.options.retry.is_some();
            assert!(block.retry.is_some() || !is_told, "retry joins the first event: {block:?}");
            self.is_fresh = false;
            self.reader.see(&world.item(&block), block.id.as_ref());
        }
        taken
    }
}

impl Peer {
    /// A client whose socket takes at most `capacity` bytes between two drains.
    pub fn new(framing: Framing, capacity: usize) -> Self {
        let parser = Parser::new(framing == Framing::Chunked, true);
        let socket = Socket { parser, reader: Reader::default(), room: capacity, capacity, is_fresh: true };
        Self { socket, subscriber: None, framing, finished: false, live_gaps: 0, heartbeats: 0 }
    }

    /// Whether its socket takes whatever it is offered.
    pub fn is_healthy(&self) -> bool {
        self.socket.capacity == usize::MAX
    }

    /// How many bytes the engine holds for this subscriber alone.
    pub fn held_bytes(&self) -> usize {
        self.subscriber.as_ref().map_or(0, |subscriber| {
            let rest = subscriber.rest.as_ref().map_or(0, |rest| rest.frame.len() - rest.written);
            subscriber.pending.len() + rest
        })
    }

    /// Whether its socket takes bytes and `first` as the log's oldest would overtake it.
    pub fn is_overtaken_by(&self, first: u64) -> bool {
        self.subscriber.as_ref().is_some_and(|subscriber| subscriber.pace == Pace::Ready && subscriber.cursor < first)
    }

    /// The client or the engine goes away, with whatever was half-written.
    pub fn disconnect(&mut self) {
        self.subscriber = None;
    }

    /// Closes where everything was written; says whether it did.
    pub fn close_if_done(&mut self, ids: bool) -> bool {
        let is_done = self.subscriber.as_ref().is_none_or(|subscriber| subscriber.is_closing);
        if is_done && self.subscriber.is_some() {
            assert!(self.socket.parser.is_closed() && self.socket.parser.is_between_events(), "the body is whole");
            // Without ids it could not say that it has everything, and would be told again.
            self.finished = !ids;
            self.disconnect();
        }
        is_done
    }

    /// Offers what is pending; returns how many bytes were taken.
    pub fn offer_pending(&mut self, world: &World, now: Tick) -> usize {
        let Some(subscriber) = self.subscriber.as_mut().filter(|subscriber| !subscriber.pending.is_empty()) else {
            return 0;
        };
        let taken = self.socket.take(world, &subscriber.pending);
        subscriber.pending.drain(..taken);
        subscriber.took(taken, subscriber.pending.is_empty(), now, world.state.newest());
        taken
    }

    /// Completes the opening, gap, heartbeat or frame that was half-written; says whether it could.
    pub fn finish_half_written(&mut self, world: &World, now: Tick) -> bool {
        self.offer_pending(world, now);
        let Some(subscriber) = self.subscriber.as_mut().filter(|subscriber| subscriber.pending.is_empty()) else {
            return false;
        };
        let Some(mut rest) = subscriber.rest.take() else { return true };
        let bytes = &rest.frame.bytes(subscriber.framing)[rest.written..];
        assert!(!bytes.is_empty(), "a frame that was taken whole leaves no rest");
        let taken = self.socket.take(world, bytes);
        let all = taken == bytes.len();
        subscriber.took(taken, all, now, world.state.newest());
        if !all {
            rest.written += taken;
            subscriber.rest = Some(rest);
        }
        all
    }

    /// Announces a gap and moves beyond it; says whether all of it was taken.
    pub fn announce(&mut self, world: &World, gap: Gap, target: u64, now: Tick) -> bool {
        let Some(subscriber) = &mut self.subscriber else { return false };
        subscriber.pending = world.gap_bytes(Some(gap), subscriber.framing);
        subscriber.cursor = target;
        subscriber.retry_waits = false;
        self.live_gaps += 1;
        self.offer_pending(world, now);
        self.subscriber.as_ref().is_some_and(|subscriber| subscriber.pending.is_empty())
    }

    /// Writes the frames from the cursor on, as far as one batch goes; says whether to go on.
    pub fn write_frames(&mut self, world: &World, batch: &mut Batch, now: Tick) -> bool {
        let Some(subscriber) = &mut self.subscriber else { return false };
        if subscriber.cursor > world.state.newest() {
            subscriber.pace = Pace::Ready;
            return subscriber.close_if(world.state.ended());
        }
        if batch.bytes_from(subscriber.cursor, subscriber.framing).is_none() {
            batch.fill(world.state.log(), subscriber.cursor, subscriber.framing);
        }
        let bytes = batch.bytes_from(subscriber.cursor, subscriber.framing).expect("it was just filled");
        assert!(bytes.len() <= MAX_BATCH_BYTES || batch.until() == batch.from() + 1, "a batch is bounded");
        let taken = self.socket.take(world, bytes);
        let all = taken == bytes.len();
        (subscriber.cursor, subscriber.rest) = batch.advance(subscriber.cursor, taken, subscriber.framing);
        if all {
            subscriber.pace = Pace::Ready;
        }
        subscriber.took(taken, all, now, world.state.newest());
        subscriber.retry_waits &= taken == 0;
        all
    }

    /// Writes a heartbeat; one of which no byte was taken was not begun.
    pub fn beat(&mut self, world: &World, now: Tick) {
        let Some(subscriber) = &mut self.subscriber else { return };
        assert!(self.socket.parser.is_between_events(), "a heartbeat would land inside a frame");
        let mut comment = Vec::new();
        // A blank line would make an event of a `retry:` that stands alone.
        let is_one_line = world.all.options.ids || subscriber.retry_waits;
        let blank_line = if is_one_line { wire::BlankLine::LeftOut } else { wire::BlankLine::Written };
        wire::heartbeat(&mut comment, "heartbeat", blank_line);
        subscriber.framing.put(&mut subscriber.pending, &comment);
        if self.offer_pending(world, now) > 0 {
            self.heartbeats += 1;
        } else if let Some(subscriber) = &mut self.subscriber {
            subscriber.pending.clear();
        }
    }
}

impl Subscriber {
    /// Notes what the socket did with an offer.
    fn took(&mut self, taken: usize, all: bool, now: Tick, newest: u64) {
        if taken > 0 {
            self.wrote_at = now;
        }
        if !all && self.pace == Pace::Ready {
            self.pace = Pace::Blocked { since: newest };
        }
    }

    /// Ends the body once the terminal event was written; says whether there is more to do.
    fn close_if(&mut self, ended: bool) -> bool {
        self.is_closing = ended;
        if ended && self.framing == Framing::Chunked {
            self.pending = wire::LAST_CHUNK.to_vec();
        }
        ended
    }
}
