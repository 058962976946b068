//! What clients of several streams do to a world.
//!
//! Owns: their connections' beginnings and ends. Must not know: what they make of what they read (`several`).

use std::rc::Rc;

use sse_fast_core::frame::Framing;
use sse_fast_core::options::OnLag;
use sse_fast_core::vector::Sent;
use sse_fast_oracle::everything::{Expected, Place};
use sse_fast_oracle::parser::Parser;

use super::client::HEAD;
use super::net::SimSocket;
use super::several::{SeveralAct, life, place_of};
use super::times::{MS, STALL, TICKS};
use super::told::SimStream;
use super::wire::{Wire, edge};
use super::world::World;
use crate::addresses::AddressPlace;
use crate::admitted::Admitted;
use crate::shard::{Arrival, NamedReading, Reading, SeenSeveral};

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
