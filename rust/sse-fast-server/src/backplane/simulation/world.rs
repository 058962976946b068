//! Time, connections and the server.
//!
//! Everything that is on its way is in one queue by the time of its arrival; what goes one way on one connection arrives in
//! order. A request that was on its way when its connection was cut may still be executed, late, as by a server that was
//! stopped for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::hub::{Input, Moment, Output};
use super::super::memory::Engine;
use super::super::protocol::{Line, Push, Reply, Request, RequestId, Wired};
use super::super::{Ask, Name};
use super::laws::Laws;
use super::process::Process;
use crate::simulation::random::Random;

/// The wall clock at the start.
const WALL: u64 = 1_700_000_000_000_000;

/// Something on its way.
enum Arrival {
    /// To the server; of which process, over which of its connections, of which server.
    Request(usize, u64, u64, RequestId, Request),
    Reply(usize, u64, RequestId, Reply),
    Subscribe(usize, u64, Vec<Name>, bool),
    Subscribed(usize, u64, Vec<Name>),
    Push(usize, u64, Push),
    Connect(usize, Line, u64),
    Due(usize),
}

/// A direction of a connection.
#[derive(Clone, Copy)]
enum Way {
    Requests,
    Replies,
    Subscriptions,
    Pushes,
}

impl Way {
    /// Those of one connection.
    fn of(line: Line) -> [Self; 2] {
        match line {
            Line::Command => [Self::Requests, Self::Replies],
            Line::Subscriber => [Self::Subscriptions, Self::Pushes],
        }
    }
}

/// See the module.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) random: Random,
    pub(super) laws: Laws,
    pub(super) engine: Engine,
    /// The server's replica, as it was when it was last in step.
    pub(super) replica: Engine,
    /// Counts restarts and failovers.
    pub(super) incarnation: u64,
    /// The server does nothing before that.
    pub(super) stopped_until: Duration,
    /// It is no master before that: it refuses everything, and who asks goes away.
    pub(super) replica_until: Duration,
    pub(super) processes: Vec<Option<Process>>,
    queue: BTreeMap<(Duration, u64), Arrival>,
    sequence: u64,
    /// How slow replies are, and how many in a hundred pushes are lost without a sign.
    pub(super) slowest: Duration,
    pub(super) lossy: u64,
    outputs: Vec<Output>,
    born: u64,
    /// Every connection has its own number: no process hears what was sent to the one before it in its place.
    connections: u64,
}

impl World {
    pub(super) fn new(seed: u64, processes: usize) -> Self {
        let engine = Engine::new("fence-0");
        let mut world = Self {
            now: Duration::ZERO,
            random: Random::new(seed),
            laws: Laws::default(),
            replica: engine.clone(),
            engine,
            incarnation: 0,
            stopped_until: Duration::ZERO,
            replica_until: Duration::ZERO,
            processes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            slowest: Duration::from_millis(5),
            lossy: 0,
            outputs: Vec::new(),
            born: 0,
            connections: 0,
        };
        for at in 0..processes {
            world.processes.push(None);
            world.start(at);
        }
        world
    }

    /// A process starts in a free place.
    pub(super) fn start(&mut self, at: usize) {
        self.born += 1;
        let skew = self.random.next() % 5_000_000;
        self.processes[at] = Some(Process::new(&format!("p{}", self.born), skew));
        self.connect(at, Line::Command);
        self.connect(at, Line::Subscriber);
    }

    fn put(&mut self, at: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), arrival);
    }

    fn latency(&mut self) -> Duration {
        let most = usize::try_from(self.slowest.as_micros()).unwrap();
        Duration::from_micros(self.random.between(50, most.max(51)) as u64)
    }

    /// When something arrives that goes this way: after what went before on this connection.
    fn arrival(&mut self, at: usize, way: Way) -> Duration {
        let arrives = self.now + self.latency();
        let process = self.processes[at].as_mut().expect("it lives");
        let last = &mut process.arrives[way as usize];
        *last = (*last).max(arrives);
        *last
    }

    pub(super) fn connect(&mut self, at: usize, line: Line) {
        self.connections += 1;
        let generation = self.connections;
        let process = self.processes[at].as_mut().expect("it lives");
        process.generation[line as usize] = generation;
        for way in Way::of(line) {
            process.arrives[way as usize] = Duration::ZERO;
        }
        let rest = Duration::from_millis(self.random.between(1, 400) as u64);
        let ready = (self.now + rest).max(self.stopped_until);
        self.put(ready, Arrival::Connect(at, line, generation));
    }

    pub(super) fn ask(&mut self, at: usize, ask: Ask) {
        self.step(at, Input::Ask(ask));
    }

    /// Steps one machine, and carries out what it wants.
    pub(super) fn step(&mut self, at: usize, input: Input) {
        let Some(process) = &mut self.processes[at] else { return };
        let wall = WALL + u64::try_from(self.now.as_micros()).unwrap() + process.skew;
        let mut outputs = std::mem::take(&mut self.outputs);
        process.hub.step(Moment { at: self.now, wall }, input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out(at, output);
        }
        self.outputs = outputs;
        let process = self.processes[at].as_mut().expect("it lives");
        process.answered(self.now, &mut self.laws);
        let after = std::mem::take(&mut process.after);
        if let Some(due) = process.hub.due() {
            let due = due.max(self.now + Duration::from_micros(1));
            self.put(due, Arrival::Due(at));
        }
        for ask in after {
            self.step(at, Input::Ask(ask));
        }
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        let process = self.processes[at].as_mut().expect("it lives");
        let [command, subscriber] = process.generation;
        match output {
            Output::Request(id, request) if process.command_up => {
                if let Some((name, epoch)) = may_begin(&request) {
                    self.laws.brings(&process.id, name, epoch);
                }
                let when = self.arrival(at, Way::Requests);
                self.put(when, Arrival::Request(at, command, self.incarnation, id, request));
            }
            Output::Subscribe(names) if process.subscriber_up => {
                let when = self.arrival(at, Way::Subscriptions);
                self.put(when, Arrival::Subscribe(at, subscriber, names, true));
            }
            Output::Unsubscribe(names) if process.subscriber_up => {
                let when = self.arrival(at, Way::Subscriptions);
                self.put(when, Arrival::Subscribe(at, subscriber, names, false));
            }
            Output::Request(..) | Output::Subscribe(_) | Output::Unsubscribe(_) => {}
            Output::Reconnect(line) => {
                self.laws.count(if line == Line::Command { "silent commands" } else { "probes without echo" });
                match line {
                    Line::Command => process.command_up = false,
                    Line::Subscriber => {
                        process.subscriber_up = false;
                        process.deaf = false;
                        process.channels.clear();
                    }
                }
                self.connect(at, line);
            }
            Output::Tell(tell) => process.tell(self.now, tell, &self.engine, &mut self.laws),
        }
    }

    /// Lets time pass until then.
    pub(super) fn until(&mut self, end: Duration) {
        while let Some((&(at, sequence), _)) = self.queue.first_key_value().filter(|((at, _), _)| *at <= end) {
            let Some(arrival) = self.queue.remove(&(at, sequence)) else { break };
            self.now = self.now.max(at);
            self.arrive(arrival);
        }
        self.now = end;
    }

    /// A long list of what there is.
    fn arrive(&mut self, arrival: Arrival) {
        let current = |world: &Self, at: usize, line: Line, generation: u64| {
            world.processes[at].as_ref().is_some_and(|process| {
                let up = if line == Line::Command { process.command_up } else { process.subscriber_up };
                up && process.generation[line as usize] == generation
            })
        };
        match arrival {
            Arrival::Request(at, generation, incarnation, id, request) => {
                if self.now < self.stopped_until {
                    let again = self.stopped_until;
                    self.put(again, Arrival::Request(at, generation, incarnation, id, request));
                    return;
                }
                let alive = current(self, at, Line::Command, generation);
                // Its connection is gone, and it was not read from it; or it was.
                if incarnation != self.incarnation || (!alive && self.random.percent(50)) {
                    return;
                }
                let mut pushes = Vec::new();
                if alive && self.now < self.replica_until {
                    let when = self.arrival(at, Way::Replies);
                    self.put(when, Arrival::Reply(at, generation, id, Reply::NotNow));
                    return;
                }
                let reply = self.engine.execute(self.now, &request, &mut pushes);
                for push in pushes {
                    self.push(at, &push);
                }
                if let (Request::Remove { process, call, .. }, Reply::Removed(mark)) = (&request, &reply) {
                    self.laws.removes(process, *call, *mark);
                }
                if alive {
                    let when = self.arrival(at, Way::Replies);
                    self.put(when, Arrival::Reply(at, generation, id, reply));
                } else {
                    self.laws.count("replies lost");
                }
            }
            Arrival::Reply(at, generation, id, reply) if current(self, at, Line::Command, generation) => {
                let ends = reply == Reply::NotNow;
                self.step(at, Input::Wired(Wired::Reply(id, reply)));
                if ends {
                    self.cut(at, Line::Command);
                }
            }
            Arrival::Subscribe(at, generation, names, begins) if current(self, at, Line::Subscriber, generation) => {
                let process = self.processes[at].as_mut().expect("it lives");
                if begins {
                    process.channels.extend(names.iter().cloned());
                    if !process.deaf {
                        let when = self.arrival(at, Way::Pushes);
                        self.put(when, Arrival::Subscribed(at, generation, names));
                    }
                } else {
                    for name in &names {
                        process.channels.remove(name);
                    }
                }
            }
            Arrival::Subscribed(at, generation, names) if current(self, at, Line::Subscriber, generation) => {
                self.step(at, Input::Wired(Wired::Subscribed(names)));
            }
            Arrival::Push(at, generation, push) if current(self, at, Line::Subscriber, generation) => {
                self.step(at, Input::Wired(Wired::Push(push)));
            }
            Arrival::Connect(at, line, generation) => self.connected(at, line, generation),
            Arrival::Due(at) if self.is_due(at) => self.step(at, Input::Tick),
            _ => {}
        }
    }

    fn is_due(&self, at: usize) -> bool {
        self.processes[at].as_ref().and_then(|process| process.hub.due()).is_some_and(|due| due <= self.now)
    }

    fn connected(&mut self, at: usize, line: Line, generation: u64) {
        let Some(process) = &mut self.processes[at] else { return };
        if process.generation[line as usize] != generation {
            return;
        }
        if self.now < self.stopped_until.max(self.replica_until) {
            let again = self.stopped_until.max(self.replica_until);
            self.put(again, Arrival::Connect(at, line, generation));
            return;
        }
        let up = match line {
            Line::Command if process.command_up => return,
            Line::Subscriber if process.subscriber_up => return,
            Line::Command => {
                process.command_up = true;
                Wired::CommandUp(Arc::clone(&self.engine.fence))
            }
            Line::Subscriber => {
                process.subscriber_up = true;
                Wired::SubscriberUp
            }
        };
        self.step(at, Input::Wired(up));
    }

    pub(super) fn push(&mut self, from: usize, push: &Push) {
        for at in 0..self.processes.len() {
            let lost = self.random.percent(self.lossy);
            let Some(process) = &self.processes[at] else { continue };
            let hears = match push {
                Push::Stream(name, _) => process.channels.contains(name),
                Push::Echo { .. } => at == from,
                Push::Disconnect { .. } => true,
            };
            if !process.subscriber_up || process.deaf || !hears {
                continue;
            }
            if lost {
                self.laws.count("pushes lost");
                continue;
            }
            let generation = process.generation[Line::Subscriber as usize];
            let when = self.arrival(at, Way::Pushes);
            self.put(when, Arrival::Push(at, generation, push.clone()));
        }
    }

    /// Who lives.
    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|at| self.processes[*at].is_some()).collect()
    }
}

/// The life that a request may begin.
fn may_begin(request: &Request) -> Option<(&Name, u64)> {
    match request {
        Request::Publish { name, guard, .. } | Request::Configure { name, guard, .. } => Some((name, guard.epoch)),
        Request::Open(open) => Some((&open.name, open.guard.epoch)),
        _ => None,
    }
}
