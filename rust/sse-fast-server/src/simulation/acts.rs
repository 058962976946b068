//! What clients and shards' threads do in a world, one call each.
//!
//! Owns: connecting, reading, saying, leaving; an event of the poll told again, a thread that panics, a server that closes.
//! Must not know: when a script does it (`play`), how time passes (`world`), moves (`moves`).

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::rc::Rc;
use std::sync::Once;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{Start, StreamOptions};
use sse_fast_oracle::everything::Expected;

use super::client::{Client, HEAD};
use super::net::SimSocket;
use super::right::Right;
use super::wire::{Wire, edge};
use super::world::World;
use crate::addresses::AddressPlace;
use crate::admitted::Admitted;
use crate::shard::{Arrival, Order, Reading};

/// What a client may say unasked, all at once.
const UNASKED: usize = 64 * 1024;

impl World {
    /// A client connects to its name, with the last id it saw or with `id` instead; early where a handler has not answered.
    pub(super) fn connect(&mut self, at: usize, id: Option<Option<&str>>, shard: usize, early: bool) {
        let name = self.clients[at].name;
        let stream = self.live(name);
        let client = &self.clients[at];
        if client.wire.is_some() || client.finished {
            return;
        }
        let id = id.map_or_else(|| client.reader.last_id.clone(), |id| id.map(str::to_owned));
        if !early && self.stage.opened(stream, id.as_deref()).expected == Expected::Nothing {
            self.clients[at].finish(&self.stage.streams.borrow()[stream]);
            return;
        }
        let options = self.stage.streams.borrow()[stream].all.options.clone();
        let opens = if early { self.stage.add(StreamOptions { start: Start::All, ..options.clone() }) } else { stream };
        let claim = self.stage.streams.borrow()[opens].stream.claim();
        assert!(claim.is_some() || self.stage.delivery.is_closed(), "a stream that was not removed is claimed");
        let Some(claim) = claim else { return };
        let id = id.filter(|_| !early);
        let (edges, now) = (&self.shards[shard].edges, self.now());
        let wire = Wire::new(self.clients[at].capacity, (opens, id.clone()), now, edges);
        self.stage.wires.borrow_mut().push(Rc::downgrade(&wire));
        let socket = SimSocket { wire: Rc::clone(&wire), stage: Rc::clone(&self.stage) };
        let framing = self.clients[at].framing;
        let last_event_id = id.map(String::into_boxed_str);
        let admitted = if early { Admitted::default() } else { self.admitted(at) };
        let right = Right::of(&admitted);
        let arrival = Arrival {
            socket,
            reading: Reading::One { claim, last_event_id },
            admitted,
            framing,
            head: HEAD.to_vec(),
            place: AddressPlace::free(),
            logged: None,
        };
        let handle = &self.shards[shard].handle;
        match handle.subscribe(arrival) {
            Ok(true) => handle.ring(),
            Ok(false) => {}
            Err(_) => return assert!(!handle.is_open(), "a shard that lives takes connections"),
        }
        self.clients[at].begin(wire, shard, options.ids, early.then_some(opens), now);
        self.clients[at].right = right;
    }

    pub(super) fn half_close(&mut self, at: usize) {
        if self.clients[at].wire.as_ref().is_some_and(|wire| !wire.borrow().fin) {
            self.clients[at].owed = self.clients[at].newest(&self.stage);
        }
        self.on_wire(at, |wire| wire.fin = true);
    }

    pub(super) fn say(&mut self, at: usize, bytes: usize) {
        self.on_wire(at, |wire| {
            wire.incoming += if wire.fin { 0 } else { bytes };
            wire.is_attack |= wire.incoming > UNASKED;
        });
    }

    fn on_wire(&mut self, at: usize, change: impl FnOnce(&mut Wire)) {
        let Some(wire) = self.clients[at].wire.clone() else { return };
        change(&mut wire.borrow_mut());
        edge(&wire);
    }

    /// A client goes away without a word; what it has not read is lost.
    pub(super) fn leave(&mut self, at: usize) {
        let Some(wire) = self.clients[at].wire.take() else { return };
        self.clients[at].early = None;
        self.clients[at].moves.clear();
        {
            let mut wire = wire.borrow_mut();
            wire.fin = true;
            wire.gone = true;
            wire.reset |= !wire.unread.is_empty();
            wire.unread.clear();
        }
        edge(&wire);
    }

    /// The event of the poll that came so many events ago is told again.
    pub(super) fn repeat(&mut self, shard: usize, ago: usize) {
        let shard = &mut self.shards[shard];
        if !shard.told.is_empty() {
            let at = shard.told.len() - 1 - ago % shard.told.len();
            shard.late.push(shard.told[at]);
        }
    }

    /// The shard's thread panics.
    pub(super) fn fail(&mut self, at: usize) {
        if self.shards[at].shard.is_none() {
            return;
        }
        keep_quiet_about_told_panics();
        self.shards[at].handle.order(Order::Fail);
        self.stage.set_failing(true);
        let openings = self.freeze(at);
        while let Some(mut shard) = self.shards[at].shard.take() {
            let now = self.now();
            if catch_unwind(AssertUnwindSafe(|| shard.step(now, std::iter::empty()))).is_ok() {
                self.shards[at].shard = Some(shard);
            } else {
                shard.fail();
                break;
            }
        }
        self.stage.set_failing(false);
        self.moved(at, openings);
        let shard = &mut self.shards[at];
        shard.failed = true;
        shard.edges.borrow_mut().clear();
    }

    /// The server closes: publishing ends, shards give everybody what there is.
    pub(super) fn drain(&mut self, for_how_long: Micros) {
        let until = self.now() + for_how_long;
        self.draining = Some(until);
        self.stage.delivery.close();
        for stream in self.stage.streams.borrow().iter() {
            stream.stream.wake_all();
        }
        for shard in &self.shards {
            shard.handle.order(Order::Drain { until });
        }
    }

    /// Healthy clients read whatever there is.
    pub(super) fn read_healthy(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].is_healthy() {
                self.read(at, usize::MAX);
            }
        }
        for at in 0..self.several.len() {
            if self.several[at].is_healthy() {
                self.read_several(at, usize::MAX);
            }
        }
    }

    pub(super) fn read(&mut self, at: usize, bytes: usize) {
        let failed = self.shards[self.clients[at].shard].failed;
        self.clients[at].read(&self.stage, bytes);
        self.clients[at].end(&self.stage, failed, self.draining);
    }

    /// A client's socket takes everything from now on.
    pub(super) fn unblock(&mut self, at: usize) {
        self.clients[at].capacity = usize::MAX;
        if let Some(wire) = &self.clients[at].wire {
            wire.borrow_mut().capacity = usize::MAX;
        }
        self.read(at, usize::MAX);
    }

    /// A client with a socket of so many bytes.
    pub(super) fn add_client(&mut self, framing: Framing, capacity: usize, name: usize) -> usize {
        self.clients.push(Client::new(framing, capacity, name));
        self.clients.len() - 1
    }
}

/// A shard that was told to panic need not say so.
fn keep_quiet_about_told_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"told to") {
                hook(info);
            }
        }));
    });
}
