//! What happens to processes, connections and the server.
//!
//! Owns: each fault, done at once. Must not know: when, which is drawn or written by who plays.

use std::time::Duration;

use super::super::Name;
use super::super::hub::Input;
use super::super::memory::Engine;
use super::super::protocol::{Line, Request, Wired};
use super::world::World;

impl World {
    /// A process is killed.
    pub(super) fn kill(&mut self, at: usize) {
        if let Some(process) = self.processes[at].take() {
            self.laws.count("kills");
            // What it asked is answered to nobody; what is on its way may still be executed.
            drop(process);
        }
    }

    /// A connection is cut.
    pub(super) fn cut(&mut self, at: usize, line: Line) {
        let Some(process) = &mut self.processes[at] else { return };
        let up = if line == Line::Command { &mut process.command_up } else { &mut process.subscriber_up };
        if !std::mem::replace(up, false) {
            return;
        }
        if line == Line::Subscriber {
            process.channels.clear();
            process.deaf = false;
        }
        self.connect(at, line);
        self.step(at, Input::Wired(Wired::Down(line)));
    }

    /// A connection is lost, and none is made until [`World::connect`].
    pub(super) fn part(&mut self, at: usize, line: Line) {
        self.cut(at, line);
        let process = self.processes[at].as_mut().expect("it lives");
        process.generation[line as usize] = u64::MAX;
    }

    pub(super) fn cut_all(&mut self) {
        for at in 0..self.processes.len() {
            self.cut(at, Line::Command);
            self.cut(at, Line::Subscriber);
        }
    }

    /// The replica comes into step.
    pub(super) fn replicate(&mut self) {
        self.replica = self.engine.clone();
    }

    /// Another server, or the same started anew, with that data.
    pub(super) fn replace(&mut self, with: Engine) {
        self.incarnation += 1;
        self.engine = with;
        self.engine.fence = format!("fence-{}", self.incarnation).into();
        self.replica = self.engine.clone();
        self.laws.lost = true;
        self.cut_all();
    }

    pub(super) fn replica(&self) -> Engine {
        self.replica.clone()
    }

    /// The server evicts a log, and its replica is told: where the log came back with the same mark, copies would not know.
    pub(super) fn evict_log(&mut self, name: &Name) {
        self.engine.evict_log(name);
        self.replica.evict_log(name);
    }

    /// Somebody else asks the server for that, and is answered at once.
    pub(super) fn execute(&mut self, request: &Request) {
        let mut pushes = Vec::new();
        self.engine.execute(self.now, request, &mut pushes);
        for push in pushes {
            self.push(usize::MAX, &push);
        }
    }

    /// The server does nothing for a while, its connections stay.
    pub(super) fn stop(&mut self, long: Duration) {
        self.stopped_until = self.stopped_until.max(self.now + long);
    }

    /// The server is a replica for a while.
    pub(super) fn demote(&mut self, long: Duration) {
        self.replica_until = self.replica_until.max(self.now + long);
    }
}
