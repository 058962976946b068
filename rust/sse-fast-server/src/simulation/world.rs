//! A world of real shards, streams and clients in simulated time, in one thread.
//!
//! Owns: time, the order in which shards are stepped, and what must hold once they have nothing to do (`check`). Must not
//! know: what a script wants. A shard is stepped where its poll would return: a wake-up, an edge, a time that has come.
//! Long: what happens to time and what clients do are one order of events.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::options::StreamOptions;

use super::client::{Client, HEAD};
use super::inside::InProcess;
use super::net::{Edges, SimNet, SimSocket, Wire, edge};
use super::stage::{Deed, Opened, Stage};
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::shard::{Arrival, Next, Order, Pacing, Ready, Settings, Shard, ShardHandle};

pub(super) const MS: Micros = 1000;
pub(super) const SECOND: Micros = 1000 * MS;
pub(super) const STALL: Micros = 3 * SECOND;

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
    edges: Edges,
    next: Next,
    /// Events that are told again, however old they are.
    late: Vec<Ready>,
    /// Every event there was.
    told: Vec<Ready>,
    pub(super) failed: bool,
}

/// A move that is on its way.
struct Moving {
    client: usize,
    from: usize,
    to: usize,
    id: Option<String>,
}

/// See the module.
pub(super) struct World {
    pub(super) stage: Rc<Stage>,
    pub(super) shards: Vec<SimShard>,
    pub(super) clients: Vec<Client>,
    pub(super) inside: Vec<InProcess>,
    /// The present life of each name.
    pub(super) names: Vec<usize>,
    pub(super) setup: Setup,
    moving: Vec<Moving>,
    pub(super) draining: Option<Micros>,
    /// Until when the shards were last kept from doing anything.
    pub(super) jammed: Micros,
    /// Which states were followed by which.
    pub(super) covered: HashSet<(State, State)>,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let now = 10 * SECOND;
        let flags: Vec<_> = (0..setup.shards).map(|_| Arc::new(AtomicBool::new(true))).collect();
        let handles: Vec<_> =
            flags.iter().map(|flag| ShardHandle::<SimSocket>::new(&Latch::new(Flag(Arc::clone(flag))))).collect();
        let notices = Mailbox::new(&Latch::new(Flag(Arc::default())));
        let doorbells = handles.iter().map(ShardHandle::doorbell).collect();
        let delivery = Arc::new(Delivery::new(doorbells, notices, setup.patience));
        let stage = Stage::new(&delivery, now, setup.accounts);
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
        let (clients, inside, moving, covered) = Default::default();
        Self { stage, shards, clients, inside, names, setup, moving, draining: None, jammed: now, covered }
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

    /// A client connects to its name, with the last id it saw or with `id` instead; early where a handler has not answered.
    pub(super) fn connect(&mut self, at: usize, id: Option<Option<&str>>, shard: usize, early: bool) {
        let name = self.clients[at].name;
        let stream = self.live(name);
        let client = &self.clients[at];
        if client.wire.is_some() || client.finished {
            return;
        }
        let id = id.map_or_else(|| client.reader.last_id.clone(), |id| id.map(str::to_owned));
        if !early && self.stage.opened(stream, id.as_deref()).expected == sse_fast_oracle::everything::Expected::Nothing
        {
            self.clients[at].finish(&self.stage.streams.borrow()[stream]);
            return;
        }
        let options = self.stage.streams.borrow()[stream].all.options.clone();
        let opens = if early {
            self.stage.add(StreamOptions { start: sse_fast_core::options::Start::All, ..options.clone() })
        } else {
            stream
        };
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
        let arrival = Arrival { socket, claim, last_event_id, framing, head: HEAD.to_vec() };
        let handle = &self.shards[shard].handle;
        match handle.subscribe(arrival) {
            Ok(true) => handle.ring(),
            Ok(false) => {}
            Err(_) => return assert!(!handle.is_open(), "a shard that lives takes connections"),
        }
        self.clients[at].begin(wire, shard, options.ids, early.then_some(opens), now);
    }

    /// A handler has answered: its early client moves to its name, with the last id it saw or with `id` instead. One that
    /// has everything is given the end there.
    pub(super) fn answer(&mut self, at: usize, id: Option<&str>) {
        let name = self.clients[at].name;
        let Some((from, _)) = self.clients[at].early else { return };
        let to = self.live(name);
        let is_moving = self.moving.iter().any(|moving| moving.client == at) || !self.clients[at].moves.is_empty();
        if is_moving || self.clients[at].wire.is_none() {
            return;
        }
        let id = id.map(str::to_owned).or_else(|| self.clients[at].reader.last_id.clone());
        let stream = |index: usize| self.stage.streams.borrow()[index].stream.clone();
        let last_event_id = id.clone().map(String::into_boxed_str);
        self.shards[self.clients[at].shard].handle.order(Order::Move {
            from: stream(from),
            to: stream(to),
            last_event_id,
        });
        self.moving.push(Moving { client: at, from, to, id });
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
            wire.has_spoken = true;
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

    // ---- Time ----

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

    /// What the oracle says of the moves that a shard obeys in this step: it takes its mail first. Nobody touches their
    /// streams during that time.
    fn freeze(&self, shard: usize) -> Vec<(usize, Opened)> {
        let is_there = |moving: &&Moving| {
            let wire = self.clients[moving.client].wire.as_ref();
            let comes = wire.is_some_and(|wire| wire.borrow().registered.is_none() && wire.borrow().closed.is_none());
            comes || self.stage.streams.borrow()[moving.from].stream.subscribers() > 0
        };
        let here = self.moving.iter().filter(|moving| self.clients[moving.client].shard == shard).filter(is_there);
        let openings: Vec<_> =
            here.map(|moving| (moving.client, self.stage.opened(moving.to, moving.id.as_deref()))).collect();
        *self.stage.frozen.borrow_mut() = openings.iter().map(|(_, opened)| opened.stream).collect();
        openings
    }

    /// The shard has obeyed.
    fn moved(&mut self, shard: usize, openings: Vec<(usize, Opened)>) {
        self.stage.frozen.borrow_mut().clear();
        let froms: Vec<_> = self.moving.iter().map(|moving| (moving.client, moving.from)).collect();
        self.moving.retain(|moving| self.clients[moving.client].shard != shard);
        for (client, opened) in openings {
            let is_same = |early: usize| froms.contains(&(client, early));
            let now = self.now();
            let client = &mut self.clients[client];
            if client.wire.is_some() && client.early.as_ref().is_some_and(|(early, _)| is_same(*early)) {
                client.opened_at = now;
                if let Some(wire) = &client.wire {
                    let mut wire = wire.borrow_mut();
                    (wire.taken, wire.stream) = (0, opened.stream);
                }
                client.moves.push_back(opened);
            }
        }
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

    /// Healthy clients read whatever there is.
    pub(super) fn read_healthy(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].is_healthy() {
                self.read(at, usize::MAX);
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
    pub(super) fn add_client(&mut self, framing: sse_fast_core::frame::Framing, capacity: usize, name: usize) -> usize {
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
