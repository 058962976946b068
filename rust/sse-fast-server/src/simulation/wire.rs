//! A connection of the simulation between a shard's socket and a client.
//!
//! Owns: the bytes under way, and the edges of the poll. Must not know: when anything happens (`net`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use sse_fast_core::budget::Micros;
use sse_fast_oracle::everything::Place;

use super::told::Opened;
use crate::shard::{Ready, Token};

/// Sockets with an edge, of one shard's poll.
pub(super) type Edges = Rc<RefCell<Vec<Rc<RefCell<Wire>>>>>;

/// A connection between a shard and a client.
pub(super) struct Wire {
    /// Taken from the shard, not yet read by the client.
    pub(super) unread: VecDeque<u8>,
    /// How much of it there may be.
    pub(super) capacity: usize,
    /// Whether it was short, and a writable edge is owed.
    pub(super) is_short: bool,
    /// Whether it was since its reader last had everything (`check`).
    pub(super) was_short: bool,
    /// The next write takes at most so many bytes, though there is room.
    pub(super) next_takes: Option<usize>,
    /// How many bytes it has taken since its stream began.
    pub(super) taken: usize,
    /// When bytes were last taken.
    pub(super) last_taken: Micros,
    /// Bytes from the client that the shard has not read.
    pub(super) incoming: usize,
    /// So many of them lay there at once that a shard may take it for an attack.
    pub(super) is_attack: bool,
    /// The client has shut its side.
    pub(super) fin: bool,
    /// The client is gone: the next bytes are answered by a reset.
    pub(super) gone: bool,
    pub(super) reset: bool,
    /// When the shard shut its side.
    pub(super) shut: Option<Micros>,
    /// When the shard's socket was closed.
    pub(super) closed: Option<Micros>,
    pub(super) registered: Option<Token>,
    /// How it will be opened: which client's, what it lacks.
    pub(super) claim: Option<(usize, Option<String>)>,
    /// The stream that is read over it.
    pub(super) stream: usize,
    /// The streams that are, and each one's place, where it is several.
    pub(super) several: Vec<(usize, Place)>,
    /// What the oracle said when they were opened.
    pub(super) opened_several: Option<Vec<Opened>>,
    /// What the oracle said when it was.
    pub(super) opened: Option<Opened>,
    edges: Edges,
}

impl Wire {
    pub(super) fn new(
        capacity: usize,
        (stream, id): (usize, Option<String>),
        now: Micros,
        edges: &Edges,
    ) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            unread: VecDeque::new(),
            capacity,
            is_short: false,
            was_short: false,
            next_takes: None,
            taken: 0,
            last_taken: now,
            incoming: 0,
            is_attack: false,
            fin: false,
            gone: false,
            reset: false,
            shut: None,
            closed: None,
            registered: None,
            claim: Some((stream, id)),
            stream,
            several: Vec::new(),
            opened_several: None,
            opened: None,
            edges: Rc::clone(edges),
        }))
    }

    /// A connection that reads several streams, from these places.
    pub(super) fn of_several(
        capacity: usize,
        several: Vec<(usize, Place)>,
        now: Micros,
        edges: &Edges,
    ) -> Rc<RefCell<Self>> {
        let wire = Self::new(capacity, (usize::MAX, None), now, edges);
        wire.borrow_mut().claim = None;
        wire.borrow_mut().several = several;
        wire
    }

    /// Whether this stream is read over it.
    pub(super) fn reads(&self, stream: usize) -> bool {
        self.stream == stream || self.several.iter().any(|(other, _)| *other == stream)
    }

    /// Whether it is a subscriber's, on its way or there: not one that is given the end, or is closed.
    pub(super) fn is_live(&self) -> bool {
        self.closed.is_none() && self.shut.is_none() && !self.fin
    }

    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.unread.len())
    }

    /// What an event says that is fetched now.
    pub(super) fn ready(&self) -> Option<Ready> {
        let token = self.registered?;
        let readable = self.incoming > 0 || self.fin || self.reset;
        let broken = self.reset || self.fin && self.shut.is_some();
        let writable = self.room() > 0 || broken;
        (readable || writable).then_some(Ready { token, readable, writable, broken })
    }
}

/// Something has changed: the poll brings it up.
pub(super) fn edge(wire: &Rc<RefCell<Wire>>) {
    let edges = Rc::clone(&wire.borrow().edges);
    if wire.borrow().registered.is_some() && !edges.borrow().iter().any(|other| Rc::ptr_eq(other, wire)) {
        edges.borrow_mut().push(Rc::clone(wire));
    }
}

/// The client reads up to `bytes`; what it got.
pub(super) fn read(wire: &Rc<RefCell<Wire>>, bytes: usize) -> Vec<u8> {
    let mut borrowed = wire.borrow_mut();
    let taken = bytes.min(borrowed.unread.len());
    let got: Vec<u8> = borrowed.unread.drain(..taken).collect();
    let owed = borrowed.is_short && borrowed.room() > 0;
    if owed {
        borrowed.is_short = false;
    }
    drop(borrowed);
    if owed {
        edge(wire);
    }
    got
}
