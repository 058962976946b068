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
use sse_fast_core::options::OnLag;
use sse_fast_core::vector::{Life, Sent};
use sse_fast_oracle::everything::{Expected, Item, Place};
use sse_fast_oracle::parser::{Block, Parser};
use sse_fast_oracle::reader::Reader;

use super::client::{BEAT, HEAD, check_gap};
use super::net::SimSocket;
use super::script::SeveralAct;
use super::stage::Stage;
use super::times::{MS, STALL, TICKS};
use super::told::{Opened, SimStream};
use super::wire::{self, Wire, edge};
use super::world::World;
use crate::addresses::AddressPlace;
use crate::admitted::Admitted;
use crate::shard::{Arrival, NamedReading, Reading, SeenSeveral};

/// See the module.
pub(super) struct Several {
    framing: Framing,
    capacity: usize,
    names: Vec<usize>,
    pub(super) wire: Option<Rc<RefCell<Wire>>>,
    shard: usize,
    parser: Parser,
    /// One for each name.
    readers: Vec<Reader>,
    /// The id of the last event that had one.
    last_id: Option<String>,
    /// Whether its present connection sent an id that nobody can read.
    is_from_elsewhere: bool,
    /// What ids say of each name until it was told what its opening brings.
    kept: Vec<String>,
    opened: Vec<Opened>,
    /// Whether anything of a name's opening was seen.
    begun: Vec<bool>,
    opened_at: Micros,
    head: usize,
    /// It has every terminal event, and stays away.
    finished: bool,
}

/// What ids know a stream by in this world: its number, as seven digits.
fn life(stream: usize) -> (Life, String) {
    let number = stream as u64 + 1;
    let digits = format!(
        "{}{}",
        char::from_digit(u32::try_from(number / 36).unwrap(), 36).unwrap(),
        char::from_digit(u32::try_from(number % 36).unwrap(), 36).unwrap()
    );
    (Life::of_hash(number.to_be_bytes()), format!("00000{digits}"))
}

/// What an id says of the name at this place, whose stream's present life is this: naively, for names that never move.
fn place_of(id: Option<&str>, at: usize, stream: usize, newest: u64) -> (Place, String) {
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

    fn read(&mut self, stage: &Stage, bytes: usize) {
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

    fn open(&mut self, opened: Vec<Opened>, now: Micros) {
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

    fn see(&mut self, stage: &Stage, block: &Block, was_short: bool) {
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
    fn entry(&self, at: usize) -> String {
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
    fn end(&mut self, stage: &Stage, failed: bool, drain: Option<Micros>) {
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

impl World {
    pub(super) fn act_several(&mut self, at: usize, act: &SeveralAct) {
        match act {
            SeveralAct::Connect { shard } => self.connect_several(at, false, *shard),
            SeveralAct::ConnectFromElsewhere { shard } => self.connect_several(at, true, *shard),
            SeveralAct::Read { bytes } => self.read_several(at, *bytes),
            SeveralAct::NextTakes { bytes } => {
                if let Some(wire) = &self.several[at].wire {
                    wire.borrow_mut().next_takes = Some(*bytes);
                }
            }
            SeveralAct::HalfClose => {
                if let Some(wire) = self.several[at].wire.clone() {
                    wire.borrow_mut().fin = true;
                    edge(&wire);
                }
            }
            SeveralAct::Leave => self.leave_several(at),
        }
    }

    /// A client connects to its names, with the last id it saw, or with one that nobody can read.
    pub(super) fn connect_several(&mut self, at: usize, from_elsewhere: bool, shard: usize) {
        if self.several[at].wire.is_some() || self.several[at].finished {
            return;
        }
        let streams: Vec<usize> = self.several[at].names.clone().into_iter().map(|name| self.live(name)).collect();
        let now = self.now();
        let client = &mut self.several[at];
        let id = if from_elsewhere { Some("elsewhere-7".to_owned()) } else { client.last_id.clone() };
        let newest = |stream: usize| self.stage.streams.borrow()[stream].all.newest();
        let places =
            streams.iter().enumerate().map(|(name, &stream)| place_of(id.as_deref(), name, stream, newest(stream)));
        let places: Vec<(Place, String)> = places.collect();
        let several: Vec<_> = streams.iter().copied().zip(places.iter().map(|(place, _)| *place)).collect();
        let is_finished = |&(stream, place)| self.stage.opened_at(stream, place).expected == Expected::Nothing;
        let finished: Vec<bool> = several.iter().map(is_finished).collect();
        if finished.iter().all(|finished| *finished) {
            client.finished = true;
            return;
        }
        let lives: Vec<_> = streams.iter().map(|&stream| Some(life(stream).0)).collect();
        let mut names = Vec::new();
        for ((&stream, beginning), finished) in
            streams.iter().zip(Sent::of(id.as_deref()).beginnings(&lives)).zip(finished)
        {
            let claim = if finished { None } else { self.stage.streams.borrow()[stream].stream.claim() };
            if claim.is_none() && !finished {
                return assert!(self.stage.delivery.is_closed(), "a stream that was not removed is claimed");
            }
            names.push(NamedReading { claim, life: life(stream).0, beginning });
        }
        let edges = &self.shards[shard].edges;
        let wire = Wire::of_several(client.capacity, several, now, edges);
        self.stage.wires.borrow_mut().push(Rc::downgrade(&wire));
        let socket = SimSocket { wire: Rc::clone(&wire), stage: Rc::clone(&self.stage) };
        let reading = Reading::Several(names);
        let arrival = Arrival {
            socket,
            reading,
            framing: client.framing,
            head: HEAD.to_vec(),
            admitted: Admitted::default(),
            place: AddressPlace::free(),
            logged: None,
        };
        let handle = &self.shards[shard].handle;
        match handle.subscribe(arrival) {
            Ok(true) => handle.ring(),
            Ok(false) => {}
            Err(_) => return assert!(!handle.is_open(), "a shard that lives takes connections"),
        }
        client.wire = Some(wire);
        client.is_from_elsewhere = from_elsewhere;
        client.shard = shard;
        client.parser = Parser::of_several(client.framing == Framing::Chunked);
        client.kept = places.into_iter().map(|(_, entry)| entry).collect();
        client.opened.clear();
        client.head = 0;
    }

    pub(super) fn read_several(&mut self, at: usize, bytes: usize) {
        let failed = self.shards[self.several[at].shard].failed;
        self.several[at].read(&self.stage, bytes);
        self.several[at].end(&self.stage, failed, self.draining);
    }

    pub(super) fn unblock_several(&mut self, at: usize) {
        self.several[at].capacity = usize::MAX;
        if let Some(wire) = &self.several[at].wire {
            wire.borrow_mut().capacity = usize::MAX;
        }
        self.read_several(at, usize::MAX);
    }

    /// A client goes away without a word; what it has not read is lost.
    pub(super) fn leave_several(&mut self, at: usize) {
        let Some(wire) = self.several[at].wire.take() else { return };
        {
            let mut wire = wire.borrow_mut();
            wire.fin = true;
            wire.gone = true;
            wire.reset |= !wire.unread.is_empty();
            wire.unread.clear();
        }
        edge(&wire);
    }

    pub(super) fn check_several(&self, shard: usize, seen: &SeenSeveral, streams: &[SimStream]) {
        let several = self.several.iter().find(|several| {
            let token = several.wire.as_ref().and_then(|wire| wire.borrow().registered);
            several.shard == shard && token == Some(seen.token)
        });
        let Some((several, wire)) = several.and_then(|several| Some((several, several.wire.as_ref()?))) else { return };
        let (mut wire, now) = (wire.borrow_mut(), self.now());
        if wire.is_short {
            assert!(now < wire.last_taken + STALL + TICKS, "a reader that takes nothing is closed after stall_timeout");
        }
        let of = |member: u8| &streams[wire.several[usize::from(member)].0];
        let largest = wire.several.iter().map(|&(stream, _)| streams[stream].largest).max().unwrap_or(0);
        assert!(seen.unwritten <= largest + 500, "{} bytes are kept for one reader of several streams", seen.unwritten);
        let mut has_everything = seen.unwritten == 0;
        for &(member, cursor, rests, is_beyond) in &seen.members {
            let stream = of(member);
            has_everything &= cursor == stream.all.newest() + 1;
            if seen.is_full {
                let lags = is_beyond || cursor < stream.all.first;
                let disconnects = stream.all.options.on_lag == OnLag::Disconnect;
                assert!(rests || !disconnects || !lags, "on_lag=disconnect closes who lags");
            } else {
                assert!(rests || cursor == stream.all.newest() + 1, "whose socket takes bytes has everything");
                assert!(rests || !stream.is_complete(), "a stream that has ended drops out");
            }
        }
        let rests = seen.members.iter().any(|&(_, _, rests, _)| rests);
        let was_removed = |&(stream, _): &(usize, Place)| streams[stream].removed && !streams[stream].all.ended;
        let may_stay = seen.is_full || rests || !wire.several.iter().any(was_removed);
        assert!(may_stay, "where a stream was removed the connection ends, so that its reader comes back");
        let heartbeats = seen.members.iter().filter_map(|&(member, ..)| of(member).heartbeat());
        let retuned = seen.members.iter().map(|&(member, ..)| of(member).retuned).max().unwrap_or(0);
        if let Some(every) = heartbeats.min().filter(|_| !seen.is_full && !wire.is_short) {
            let every = u64::try_from(every.as_micros()).unwrap();
            let due = (wire.last_taken + every).max(retuned).max(several.opened_at).max(self.jammed) + TICKS;
            assert!(now <= due, "a heartbeat is {} ms late", (now - due) / MS);
        }
        if has_everything && !seen.is_full && wire.unread.is_empty() {
            // Whatever it lacks from now on has another reason.
            wire.was_short = false;
        }
    }
}
