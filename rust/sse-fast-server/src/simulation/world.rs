//! A world of real shards, streams and clients in simulated time, in one thread.
//!
//! Owns: time, the order in which shards are stepped, and what must hold once they have nothing to do (`check`). Must not
//! know: what a script wants, what clients do (`acts`). A shard is stepped where its poll would return: a wake-up, an edge, a
//! time that has come.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::options::StreamOptions;

use super::client::Client;
use super::inside::InProcess;
use super::net::{SimNet, SimSocket};
use super::several::Several;
use super::stage::{Deed, Stage};
use super::times::{SECOND, STALL};
use super::wire::Edges;
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::presence::Presence;
use crate::shard::{Next, Pacing, Ready, Settings, Shard, ShardHandle};

/// Enough steps for anything that comes to an end.
const ENOUGH: usize = 20_000;

/// A state of a connection and its surroundings, for counting what was covered.
pub(super) type State = [u8; 7];

/// What a world is made with.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) shards: usize,
    pub(super) patience: Patience,
    pub(super) options: Vec<StreamOptions>,
    /// What a step takes.
    pub(super) cost: Micros,
    /// Whether publishers are not told that they may go on.
    pub(super) lazily: bool,
    pub(super) accounts: usize,
    /// Whether the first of them is an event loop's.
    pub(super) has_loop: bool,
}

/// The wake-up of a shard.
struct Flag(Arc<AtomicBool>);

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) struct SimShard {
    pub(super) shard: Option<Shard<SimNet>>,
    pub(super) handle: ShardHandle<SimSocket>,
    woken: Arc<AtomicBool>,
    pub(super) edges: Edges,
    next: Next,
    /// Events that are told again, however old they are.
    pub(super) late: Vec<Ready>,
    /// Every event there was.
    pub(super) told: Vec<Ready>,
    pub(super) failed: bool,
}

/// A move that is on its way.
pub(super) struct Moving {
    pub(super) client: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) id: Option<String>,
}

/// See the module.
pub(super) struct World {
    pub(super) stage: Rc<Stage>,
    pub(super) shards: Vec<SimShard>,
    pub(super) clients: Vec<Client>,
    /// Those that read several streams over one connection.
    pub(super) several: Vec<Several>,
    pub(super) inside: Vec<InProcess>,
    /// The present life of each name.
    pub(super) names: Vec<usize>,
    pub(super) setup: Setup,
    pub(super) moving: Vec<Moving>,
    pub(super) draining: Option<Micros>,
    /// How many moments were told apart in which somebody was let in, or disconnected.
    pub(super) moments: Micros,
    /// Until when the shards were last kept from doing anything.
    pub(super) jammed: Micros,
    /// Which states were followed by which.
    pub(super) covered: HashSet<(State, State)>,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let now = 10 * SECOND;
        let flags: Vec<_> = (0..setup.shards).map(|_| Arc::new(AtomicBool::new(true))).collect();
        let presence = Presence::default();
        presence.want();
        let latches = flags.iter().map(|flag| Latch::new(Flag(Arc::clone(flag))));
        let handles: Vec<_> = latches.map(|latch| ShardHandle::<SimSocket>::new(&latch, presence.clone())).collect();
        let notices = Mailbox::new(&Latch::new(Flag(Arc::default())));
        let doorbells = handles.iter().map(ShardHandle::doorbell).collect();
        let delivery = Arc::new(Delivery::new(doorbells, notices, setup.patience));
        let stage = Stage::new(&delivery, presence, now, setup.accounts);
        stage.publishers.borrow_mut().patience = setup.patience;
        stage.publishers.borrow_mut().has_loop = setup.has_loop;
        stage.publishers.borrow_mut().loses_wakeups = setup.lazily;
        let settings = Settings {
            stall_timeout: Duration::from_micros(STALL),
            patience: setup.patience,
            pacing: Pacing { sends_per_mail: 2, sends_per_step: 5, long_walk: 3, rounds: 2, batch_bytes: 200 },
        };
        let shards = handles.into_iter().zip(flags).enumerate().map(|(number, (handle, woken))| {
            let edges = Edges::default();
            let net = SimNet { edges: Rc::clone(&edges), stage: Rc::clone(&stage) };
            let shard = Some(Shard::new(handle.clone(), number, net, settings, now));
            SimShard { shard, handle, woken, edges, next: Next::Now, late: Vec::new(), told: Vec::new(), failed: false }
        });
        let shards = shards.collect();
        let names = setup.options.iter().map(|options| stage.add(options.clone())).collect();
        let (clients, several, inside, moving, covered) = Default::default();
        Self {
            stage,
            shards,
            clients,
            several,
            inside,
            names,
            setup,
            moving,
            draining: None,
            moments: 0,
            jammed: now,
            covered,
        }
    }

    pub(super) fn now(&self) -> Micros {
        self.stage.now()
    }

    /// The present life of a name; a new one where it was removed.
    pub(super) fn live(&mut self, name: usize) -> usize {
        let index = self.names[name];
        if self.stage.streams.borrow()[index].removed && !self.stage.delivery.is_closed() {
            self.names[name] = self.stage.add(self.setup.options[name].clone());
        }
        self.names[name]
    }

    pub(super) fn act(&mut self, deed: &Deed) {
        self.stage.act(deed);
    }

    /// Whether a shard's poll would return.
    fn is_due(&self, at: usize) -> bool {
        let shard = &self.shards[at];
        let comes = match shard.next {
            Next::Now => true,
            Next::At(due) => due <= self.now(),
            Next::Whenever | Next::Stopped => false,
        };
        let told = !shard.edges.borrow().is_empty() || !shard.late.is_empty();
        shard.shard.is_some() && (comes || told || shard.woken.load(Ordering::Relaxed))
    }

    /// Steps one shard once, if it is due.
    pub(super) fn step(&mut self, at: usize) -> bool {
        if !self.is_due(at) {
            return false;
        }
        let openings = self.freeze(at);
        let before = self.states(at);
        let now = self.now();
        let shard = &mut self.shards[at];
        shard.woken.store(false, Ordering::Relaxed);
        let edges = std::mem::take(&mut *shard.edges.borrow_mut());
        let mut ready: Vec<Ready> = edges.iter().filter_map(|wire| wire.borrow().ready()).collect();
        shard.told.extend(&ready);
        ready.append(&mut shard.late);
        let Some(machine) = &mut shard.shard else { return false };
        shard.next = machine.step(now, ready.into_iter());
        if shard.next == Next::Stopped {
            assert_eq!(machine.kept().1, 0, "a shard stops once everybody is gone");
            shard.shard = None;
        }
        self.moved(at, openings);
        self.stage.hear_presence();
        let after = self.states(at);
        for (token, state) in &after {
            let was = before.iter().find(|(other, _)| other == token).map_or([9; 7], |(_, state)| *state);
            self.covered.insert((was, *state));
        }
        // Publishers' threads run while the shard's does.
        self.stage.step_publishers(self.setup.lazily);
        self.pass(self.setup.cost);
        true
    }

    fn states(&self, shard: usize) -> Vec<(crate::shard::Token, State)> {
        let Some(machine) = &self.shards[shard].shard else { return Vec::new() };
        let patience = match self.setup.patience {
            Patience::Lossless => 2,
            Patience::Within(limit) => u8::from(limit > 0),
        };
        let streams = self.stage.streams.borrow();
        let states = machine.seen().into_iter().map(|seen| {
            let [phase, flow, half_closed, progress, stage] = seen.state;
            let client = self.clients.iter().find(|client| {
                let token = client.wire.as_ref().and_then(|wire| wire.borrow().registered);
                client.shard == shard && token == Some(seen.token)
            });
            let stream = client.and_then(|client| {
                let unseen = || Some(client.wire.as_ref()?.borrow().opened.as_ref()?.stream);
                client.stream().or_else(unseen)
            });
            let on_lag = stream.map_or(3, |stream| streams[stream].all.options.on_lag as u8);
            (seen.token, [phase, flow, half_closed, progress, stage, on_lag, patience])
        });
        states.collect()
    }

    /// Time passes; nobody does anything.
    pub(super) fn pass(&self, micros: Micros) {
        let now = self.now();
        for (at, stream) in self.stage.streams.borrow_mut().iter_mut().enumerate() {
            if micros > 0 && stream.stream.lock().is_paying() {
                stream.paid.add(now + micros, micros);
                self.stage.publishers.borrow_mut().charge(at, now + micros, micros);
            }
        }
        self.stage.set_now(now + micros);
    }

    /// Time passes while the shards' threads do not run.
    pub(super) fn jam(&mut self, micros: Micros) {
        self.stage.step_publishers(self.setup.lazily);
        self.pass(micros);
        self.jammed = self.now();
    }

    /// Steps everybody until nobody has anything to do now.
    pub(super) fn settle(&mut self) {
        for _ in 0..ENOUGH {
            let mut stepped = false;
            for at in 0..self.shards.len() {
                stepped |= self.step(at);
            }
            self.stage.step_publishers(self.setup.lazily);
            self.read_healthy();
            if !stepped && !(0..self.shards.len()).any(|at| self.is_due(at)) {
                self.limit_who_leaves();
                return self.check();
            }
        }
        panic!("there is always something to do: {:?}", self.shards.iter().map(|shard| shard.next).collect::<Vec<_>>());
    }

    /// Lets time pass until `micros` from now, with everything that comes until then.
    pub(super) fn advance(&mut self, micros: Micros) {
        let until = self.now() + micros;
        loop {
            self.settle();
            if self.now() >= until {
                return;
            }
            let due = self.shards.iter().filter(|shard| shard.shard.is_some()).filter_map(|shard| match shard.next {
                Next::At(at) => Some(at),
                _ => None,
            });
            let publishers = self.stage.publishers.borrow();
            let next = due.chain(publishers.looks()).fold(until, Micros::min);
            drop(publishers);
            self.pass(next.max(self.now() + 1) - self.now());
        }
    }
}
