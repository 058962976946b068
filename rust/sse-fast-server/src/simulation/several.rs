//! A client of the simulation that reads several streams over one connection: it keeps the laws of each.
//!
//! Owns: what it saw of each name, across its connections, and what ids must say. Must not know: the shard. Checked here,
//! beside the laws of every reader: each id says of every name exactly how far this client is with it, so that a cut after any
//! byte loses nothing and doubles nothing; a gap names its stream; a connection ends once every stream has, or one was
//! removed.

use std::cell::RefCell;
use std::rc::Rc;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::vector::Life;
use sse_fast_oracle::everything::{Expected, Item, Place};
use sse_fast_oracle::parser::{Block, Parser};
use sse_fast_oracle::reader::Reader;

use super::client::{BEAT, HEAD, check_gap};
use super::stage::Stage;
use super::times::{STALL, TICKS};
use super::told::{Opened, SimStream};
use super::wire::{self, Wire};

/// What a client of several streams does.
#[derive(Clone, Debug)]
pub(super) enum SeveralAct {
    Connect { shard: usize },
    ConnectFromElsewhere { shard: usize },
    Read { bytes: usize },
    NextTakes { bytes: usize },
    HalfClose,
    Leave,
}

/// See the module.
pub(super) struct Several {
    pub(super) framing: Framing,
    pub(super) capacity: usize,
    pub(super) names: Vec<usize>,
    pub(super) wire: Option<Rc<RefCell<Wire>>>,
    pub(super) shard: usize,
    pub(super) parser: Parser,
    /// One for each name.
    pub(super) readers: Vec<Reader>,
    /// The id of the last event that had one.
    pub(super) last_id: Option<String>,
    /// Whether its present connection sent an id that nobody can read.
    pub(super) is_from_elsewhere: bool,
    /// What ids say of each name until it was told what its opening brings.
    pub(super) kept: Vec<String>,
    pub(super) opened: Vec<Opened>,
    /// Whether anything of a name's opening was seen.
    pub(super) begun: Vec<bool>,
    pub(super) opened_at: Micros,
    pub(super) head: usize,
    /// It has every terminal event, and stays away.
    pub(super) finished: bool,
}

/// What ids know a stream by in this world: its number, as seven digits.
pub(super) fn life(stream: usize) -> (Life, String) {
    let number = stream as u64 + 1;
    let digits = format!(
        "{}{}",
        char::from_digit(u32::try_from(number / 36).unwrap(), 36).unwrap(),
        char::from_digit(u32::try_from(number % 36).unwrap(), 36).unwrap()
    );
    (Life::of_hash(number.to_be_bytes()), format!("00000{digits}"))
}

/// What an id says of the name at this place, whose stream's present life is this: naively, for names that never move.
pub(super) fn place_of(id: Option<&str>, at: usize, stream: usize, newest: u64) -> (Place, String) {
    let Some(id) = id else { return (Place::New, "-".to_owned()) };
    let Some((_, entries)) = id.split_once('_') else { return (Place::Lost, "0000000-0".to_owned()) };
    let entry = entries.split('~').nth(at).expect("one entry for each name").to_owned();
    let place = match entry.split_once('-').expect("an entry of ours") {
        ("", "") => Place::New,
        (digits, position) if digits == life(stream).1 => Place::After(position.parse().unwrap()),
        _ => Place::Lost,
    };
    assert!(!matches!(place, Place::After(position) if position > newest), "nobody has what was not published");
    (place, entry)
}

impl Several {
    pub(super) fn new(framing: Framing, capacity: usize, names: Vec<usize>) -> Self {
        let readers = names.iter().map(|_| Reader::default()).collect();
        Self {
            framing,
            capacity,
            names,
            wire: None,
            shard: 0,
            parser: Parser::of_several(false),
            readers,
            last_id: None,
            is_from_elsewhere: false,
            kept: Vec::new(),
            opened: Vec::new(),
            begun: Vec::new(),
            opened_at: 0,
            head: 0,
            finished: false,
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.capacity == usize::MAX
    }

    pub(super) fn read(&mut self, stage: &Stage, bytes: usize) {
        let Some(wire) = self.wire.clone() else { return };
        if let Some(opened) = wire.borrow_mut().opened_several.take() {
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

    pub(super) fn open(&mut self, opened: Vec<Opened>, now: Micros) {
        for (at, opened) in opened.iter().enumerate() {
            let reader = &mut self.readers[at];
            let has_none = reader.received.is_empty() || self.last_id.is_none();
            assert!(opened.place != Place::New || has_none, "what has begun is not new");
            if opened.expected != Expected::Nothing {
                reader.connect(opened.place, &opened.expected);
            }
        }
        if self.is_from_elsewhere {
            // It counts anew: what it has forgotten it cannot resume from.
            self.last_id = None;
        }
        self.begun = vec![false; opened.len()];
        self.opened = opened;
        self.opened_at = now;
    }

    pub(super) fn see(&mut self, stage: &Stage, block: &Block, was_short: bool) {
        if block.event.as_deref() == Some(BEAT) {
            assert_eq!(block.id, None, "a heartbeat moves nobody's place");
            return;
        }
        let streams = stage.streams.borrow();
        let owned = |opened: &Opened| streams[opened.stream].all.owns_of_several(block);
        let at = self.opened.iter().position(owned).unwrap_or_else(|| panic!("of no stream that is read: {block:?}"));
        let (opened, stream) = (&self.opened[at], &streams[self.opened[at].stream]);
        let item = stream.all.item_of_several(block);
        if let (Item::Gap(range), true) = (&item, self.readers[at].is_open()) {
            let patience = stage.publishers.borrow().patience;
            check_gap(stream, opened, was_short, patience);
            stream.check_end_of_gap(*range, patience);
        }
        self.readers[at].see(&item, None);
        self.begun[at] = true;
        if let Some(id) = &block.id {
            let entries: Vec<_> = (0..self.names.len()).map(|name| self.entry(name)).collect();
            assert_eq!(*id, format!("{at}_{}", entries.join("~")), "an id says how far its reader is with each name");
            self.last_id = Some(id.clone());
        }
    }

    /// What an id must say of a name now.
    pub(super) fn entry(&self, at: usize) -> String {
        let (reader, opened) = (&self.readers[at], &self.opened[at]);
        if opened.expected == Expected::Nothing {
            return self.kept[at].clone();
        }
        let position = match reader.opening().next() {
            None => reader.next() - 1,
            Some(Item::Gap(Some((from, _)))) if self.begun[at] => from - 1,
            Some(_) => return self.kept[at].clone(),
        };
        format!("{}-{position}", life(opened.stream).1)
    }

    /// Whether everything was read of a connection that has ended; what must hold then.
    pub(super) fn end(&mut self, stage: &Stage, failed: bool, drain: Option<Micros>) {
        let Some(wire) = self.wire.clone() else { return };
        let wire = wire.borrow();
        if !wire.unread.is_empty() || wire.shut.is_none() && wire.closed.is_none() && !wire.reset {
            return;
        }
        let streams = stage.streams.borrow();
        let of = |opened: &Opened| &streams[opened.stream];
        let shrunk = self.opened.iter().any(|opened| of(opened).shrunk != opened.shrunk);
        let may_lag = self.opened.iter().any(|opened| of(opened).disconnects) && (wire.was_short || shrunk);
        let is_clean = wire.shut.is_some() && !wire.reset && self.parser.is_closed();
        let is_whole = is_clean && (self.framing == Framing::Chunked || !may_lag);
        let has_everything = |(opened, reader): (&Opened, &Reader)| reader.next() == of(opened).all.newest() + 1;
        let each = || self.opened.iter().zip(&self.readers);
        if is_whole {
            assert!(self.parser.is_between_events(), "the body is whole");
            let was_removed = each().any(|it| of(it.0).removed && !of(it.0).all.ended && has_everything(it));
            let have_ended = self.opened.iter().all(|opened| of(opened).all.ended);
            assert!(
                was_removed || have_ended || wire.fin || drain.is_some(),
                "an open connection was ended for no reason"
            );
            if !was_removed && !wire.fin {
                for (opened, reader) in each().filter(|(opened, _)| opened.expected != Expected::Nothing) {
                    reader.check_account(of(opened).all.newest());
                }
                self.finished = have_ended;
            }
        } else if !is_clean {
            let is_over = drain.is_some_and(|until| wire.closed.is_some_and(|at| at >= until));
            let stalled = wire.was_short && wire.closed.is_some_and(|at| at + TICKS >= wire.last_taken + STALL);
            assert!(failed || is_over || stalled || may_lag, "a connection was cut for no reason");
        }
        self.wire = None;
    }

    /// Once everybody has everything.
    pub(super) fn check_account(&self, streams: &[SimStream]) {
        assert!(self.finished || self.wire.is_some(), "a client was left without an answer");
        assert!(self.finished || self.parser.is_between_events(), "what was begun is ended");
        for (opened, reader) in self.opened.iter().zip(&self.readers).filter(|_| !self.finished) {
            if opened.expected != Expected::Nothing {
                reader.check_account(streams[opened.stream].all.newest());
            }
        }
    }
}
