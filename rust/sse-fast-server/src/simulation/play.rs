//! Plays a script: every action in its turn, then its end.
//!
//! Owns: what each action does, and how a script ends. Must not know: how actions are drawn. Checked here: at the end
//! everybody who came has everything, and nothing is left of those who have gone. Changes together with `script`.

use sse_fast_core::budget::Micros;

use super::inside::InProcess;
use super::script::{Action, Script};
use super::several::Several;
use super::stage::Deed;
use super::times::{MS, SECOND};
use super::world::World;

impl Script {
    /// Runs it; panics where a law is broken.
    pub(super) fn run(&self) -> World {
        let mut world = World::new(self.setup.clone());
        for &(framing, capacity, name) in &self.clients {
            world.add_client(framing, capacity, name);
        }
        for (framing, capacity, names) in &self.several {
            world.several.push(Several::new(*framing, *capacity, names.clone()));
        }
        for action in &self.actions {
            world.take(action);
        }
        world.finish(self.drains);
        world
    }
}

impl World {
    /// A deed at the present life of its name.
    fn live_deed(&mut self, deed: &Deed) -> Deed {
        Deed { stream: self.live(deed.stream), ..deed.clone() }
    }

    fn take(&mut self, action: &Action) {
        match action {
            Action::Deed(deed) => {
                let deed = self.live_deed(deed);
                self.act(&deed);
            }
            Action::Between(writes, deed) => {
                let deed = self.live_deed(deed);
                self.stage.later(*writes, deed);
            }
            Action::Connect { client, shard, early } => self.connect(*client, None, *shard, *early),
            Action::ConnectFromElsewhere { client, shard } => {
                self.connect(*client, Some(Some("elsewhere-7")), *shard, false);
            }
            Action::Answer { client, from_elsewhere } => self.answer(*client, from_elsewhere.then_some("elsewhere-7")),
            Action::HalfClose { client } => self.half_close(*client),
            Action::Say { client, bytes } => self.say(*client, *bytes),
            Action::Leave { client } => self.leave(*client),
            Action::NextRight { client, micros } => self.clients[*client].next_right = Some(*micros),
            Action::Disconnect { client } => self.disconnect(*client),
            Action::Read { client, bytes } => self.read(*client, *bytes),
            Action::NextTakes { client, bytes } => {
                if let Some(wire) = &self.clients[*client].wire {
                    wire.borrow_mut().next_takes = Some(*bytes);
                }
            }
            Action::Repeat { shard, ago } => self.repeat(*shard, *ago),
            Action::Fail { shard } => self.fail(*shard),
            Action::StepAside { account } => {
                self.stage.publishers.borrow_mut().step_aside(&self.stage.streams.borrow(), *account, self.now());
            }
            Action::GiveUp { account } => {
                let now = self.now();
                self.stage.publishers.borrow_mut().give_up(&self.stage.streams.borrow(), *account, now);
            }
            Action::ComeBack { account } => {
                self.stage.publishers.borrow_mut().come_back(*account, self.now());
                self.stage.step_publishers(self.setup.lazily);
            }
            Action::ReadInside { stream, count } => self.read_inside(*stream, *count),
            Action::Step { shard } => {
                self.step(*shard);
                self.stage.step_publishers(self.setup.lazily);
            }
            Action::Several { client, act } => self.act_several(*client, act),
            Action::Settle => self.settle(),
            Action::Wait { micros } => self.advance(*micros),
            Action::Jam { micros } => self.jam(*micros),
        }
    }

    fn read_inside(&mut self, name: usize, count: usize) {
        let stream = self.live(name);
        if !self.inside.iter().any(|inside| inside.stream == stream) {
            self.inside.extend(InProcess::new(&self.stage, stream));
        }
        for inside in self.inside.iter_mut().filter(|inside| inside.stream == stream) {
            inside.read(&self.stage, count);
        }
    }

    /// Every reader in the process reads to the newest.
    fn read_all_inside(&mut self) {
        for inside in &mut self.inside {
            assert!(inside.read(&self.stage, 100_000), "it comes to the newest");
        }
    }

    /// Everybody takes everything; then the server closes, or everybody leaves.
    pub(super) fn finish(&mut self, drains: Option<Micros>) {
        self.settle();
        if let Some(drain) = drains.filter(|drain| *drain < SECOND) {
            // With whatever is full: who takes bytes gets everything, the others are cut in time.
            return self.close(drain);
        }
        for at in 0..self.clients.len() {
            self.unblock(at);
        }
        for at in 0..self.several.len() {
            self.unblock_several(at);
        }
        while self.calls_back_publishers() {
            self.advance(1500 * MS);
        }
        // Where wake-ups are lost each publisher looks again by itself, one after the other.
        self.advance(1500 * MS);
        for _ in 0..if self.setup.lazily { 30 } else { 0 } {
            self.advance(SECOND);
        }
        assert!(self.stage.publishers.borrow().waiting.is_empty(), "nobody is left to wait for");
        for _ in 0..3 {
            for at in 0..self.clients.len() {
                if self.clients[at].early.is_some() {
                    self.answer(at, None);
                }
                let shard = (0..self.shards.len()).find(|&shard| self.shards[shard].shard.is_some());
                if let Some(shard) = shard {
                    self.connect(at, None, shard, false);
                }
            }
            let shard = (0..self.shards.len()).find(|&shard| self.shards[shard].shard.is_some());
            for at in 0..self.several.len() {
                if let Some(shard) = shard {
                    self.connect_several(at, false, shard);
                }
            }
            self.settle();
        }
        self.check_accounts();
        self.read_all_inside();
        if let Some(drain) = drains {
            return self.close(drain);
        }
        (0..self.clients.len()).for_each(|at| self.leave(at));
        (0..self.several.len()).for_each(|at| self.leave_several(at));
        // Whom we shut is waited for a little.
        self.advance(4 * SECOND);
        self.check_nothing_is_left();
    }

    /// Every thread that does something else comes back, one call within another at a time; says whether any did.
    fn calls_back_publishers(&mut self) -> bool {
        let was_away = self.stage.publishers.borrow_mut().all_come_back(self.now());
        self.stage.step_publishers(self.setup.lazily);
        was_away
    }

    /// Everybody who came has everything: over a connection, or with the end of its stream.
    fn check_accounts(&self) {
        let streams = self.stage.streams.borrow();
        let lives = self.shards.iter().any(|shard| shard.shard.is_some());
        for client in self.clients.iter().filter(|_| lives) {
            assert!(client.finished || client.wire.is_some(), "a client was left without an answer");
            let Some(stream) = client.stream().filter(|_| !client.finished) else { continue };
            let is_silent = client.moves.back().is_some_and(super::told::Opened::expected_is_silent);
            assert!(client.early.is_none() || is_silent, "its handler has answered");
            assert!(client.parser.is_between_events(), "what was begun is ended");
            if client.early.is_none() {
                client.reader.check_account(streams[stream].all.newest());
            }
        }
        for several in self.several.iter().filter(|_| lives) {
            several.check_account(&streams);
        }
    }

    fn close(&mut self, drain: Micros) {
        // Nothing is lost of the wake-up that tells publishers.
        self.setup.lazily = false;
        self.drain(drain);
        self.advance(drain);
        for at in 0..self.clients.len() {
            self.read(at, usize::MAX);
        }
        for at in 0..self.several.len() {
            self.read_several(at, usize::MAX);
        }
        self.settle();
        for client in &self.clients {
            assert!(client.wire.is_none(), "everybody was given the end, or cut");
        }
        assert!(self.several.iter().all(|several| several.wire.is_none()), "those of several streams, too");
        assert!(self.shards.iter().all(|shard| shard.shard.is_none()), "every shard has stopped");
        while self.calls_back_publishers() {}
        assert!(self.stage.publishers.borrow().waiting.is_empty(), "publishers are told that the server is closed");
        self.read_all_inside();
        self.check_nothing_is_left();
    }
}

impl super::told::Opened {
    /// Whether nothing is to be seen of it before something is published.
    fn expected_is_silent(&self) -> bool {
        matches!(&self.expected, sse_fast_oracle::everything::Expected::Items { items, .. } if items.is_empty())
    }
}
