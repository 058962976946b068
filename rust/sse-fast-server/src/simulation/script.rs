//! What happens in a world, drawn from a seed.
//!
//! Owns: the actions, how often each is drawn, and how a script ends. Must not know: what must hold. A script is drawn whole
//! before it runs, so that it can be shortened and run again. Long: every action stands beside its odds.

use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, Start, StreamOptions, StreamPatch};
use sse_fast_oracle::content::Publish;

use super::client::BEAT;
use super::inside::InProcess;
use super::random::Random;
use super::stage::Deed;
use super::world::{MS, SECOND, Setup, World};
use crate::delivery::Patience;

#[derive(Clone, Debug)]
pub(super) enum Action {
    Deed(Deed),
    /// So many writes later, inside a step.
    Between(u32, Deed),
    Connect {
        client: usize,
        shard: usize,
        early: bool,
    },
    ConnectFromElsewhere {
        client: usize,
        shard: usize,
    },
    Answer {
        client: usize,
        from_elsewhere: bool,
    },
    HalfClose {
        client: usize,
    },
    Say {
        client: usize,
        bytes: usize,
    },
    Leave {
        client: usize,
    },
    Read {
        client: usize,
        bytes: usize,
    },
    NextTakes {
        client: usize,
        bytes: usize,
    },
    Repeat {
        shard: usize,
        ago: usize,
    },
    Fail {
        shard: usize,
    },
    /// A thread that waits does something else.
    StepAside {
        account: usize,
    },
    ComeBack {
        account: usize,
    },
    ReadInside {
        stream: usize,
        count: usize,
    },
    Step {
        shard: usize,
    },
    Settle,
    Wait {
        micros: Micros,
    },
    /// Time passes while the shards do something else.
    Jam {
        micros: Micros,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) setup: Setup,
    pub(super) clients: Vec<(Framing, usize, usize)>,
    pub(super) actions: Vec<Action>,
    /// How it ends: by a drain of so many microseconds, with sockets still full, or by everybody leaving.
    pub(super) drains: Option<Micros>,
}

fn options(random: &mut Random) -> StreamOptions {
    let history = random.pick(&[1, 2, 4, 8, 16, 24, 256]);
    let patch = StreamPatch {
        history: Some(history),
        history_bytes: Some(if random.percent(30) { random.between(60, 1500) } else { 1 << 20 }),
        max_lag: Some(1 + random.between(0, history) as u64),
        on_lag: Some(random.pick(&[OnLag::Skip, OnLag::Skip, OnLag::Latest, OnLag::Disconnect])),
        start: Some(random.pick(&[Start::New, Start::Last, Start::All, Start::All])),
        ids: Some(random.percent(85)),
        retry: Some(random.percent(30).then_some(Duration::from_secs(3))),
        heartbeat: Some(random.pick(&[Some(800), Some(800), Some(7000), None]).map(Duration::from_millis)),
        heartbeat_event: Some(random.percent(15).then(|| BEAT.to_owned())),
        ..StreamPatch::default()
    };
    StreamOptions::default().patched(&patch).expect("options in range")
}

/// What a script is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Anything,
    /// Many subscribers of one stream on one shard: walks take several steps, and rest.
    Crowd,
    /// Events so large that one who comes late needs more than one turn.
    Bulk,
}

fn deed(random: &mut Random, setup: &Setup, subject: Subject) -> Deed {
    let stream = random.between(0, setup.options.len());
    let account = random.between(0, setup.accounts);
    match random.between(0, 100) {
        0..72 => {
            let ids = setup.options[stream].ids;
            let padding = match random.between(0, 100) {
                0..40 if subject == Subject::Bulk => random.between(40_000, 120_000),
                0..94 => random.between(0, 160),
                94..99 => random.between(160, 3000),
                _ => random.between(20_000, 180_000),
            };
            let publish = Publish {
                padding,
                own_id: (ids && random.percent(8)).then(String::new),
                snapshot: random.percent(8),
                named: random.percent(20),
            };
            Deed::Publish { stream, account, publish }
        }
        72..75 => Deed::Snapshot { stream },
        75..83 => Deed::Configure { stream, patch: patch(random) },
        83..90 => Deed::Override { stream, every: Duration::from_millis(random.pick(&[60, 100, 300, 2000])) },
        90..95 => Deed::EndOverride { stream, which: random.between(0, 4) },
        95..97 => Deed::End { stream, account },
        97..98 => Deed::Remove { stream },
        _ => Deed::Expire { stream },
    }
}

fn patch(random: &mut Random) -> StreamPatch {
    let mut patch = StreamPatch::default();
    match random.between(0, 8) {
        0 => patch.history = Some(random.between(1, 20)),
        1 => patch.history_bytes = Some(random.between(60, 3000)),
        2 => patch.max_lag = Some(random.between(1, 12) as u64),
        3 => patch.on_lag = Some(random.pick(&[OnLag::Skip, OnLag::Latest, OnLag::Disconnect])),
        4 => patch.start = Some(random.pick(&[Start::New, Start::Last, Start::All])),
        5 => patch.retry = Some(random.percent(50).then_some(Duration::from_secs(2))),
        6 => patch.heartbeat_event = Some(random.percent(50).then(|| BEAT.to_owned())),
        _ => patch.heartbeat = Some(random.pick(&[Some(100), Some(500), Some(9000), None]).map(Duration::from_millis)),
    }
    patch
}

fn action(random: &mut Random, setup: &Setup, clients: usize, subject: Subject) -> Action {
    let (client, shard) = (random.between(0, clients), random.between(0, setup.shards));
    let stream = random.between(0, setup.options.len());
    if subject != Subject::Anything && random.percent(35) {
        // Little is done at a time, and time passes.
        return match random.between(0, 3) {
            0 => Action::Jam { micros: random.pick(&[1, 6, 6, 25]) * MS },
            _ => Action::Step { shard },
        };
    }
    match random.between(0, 100) {
        0..30 => Action::Deed(deed(random, setup, subject)),
        30..38 => Action::Between(u32::try_from(random.between(0, 6)).unwrap_or(0), deed(random, setup, subject)),
        38..48 => Action::Connect { client, shard, early: random.percent(20) },
        48 => Action::ConnectFromElsewhere { client, shard },
        49..52 => Action::Answer { client, from_elsewhere: random.percent(20) },
        52..54 => Action::HalfClose { client },
        54 => Action::Say { client, bytes: random.pick(&[1, 100, 70_000]) },
        55..58 => Action::Leave { client },
        58..70 => Action::Read { client, bytes: random.pick(&[1, 7, 40, 200, 5000, usize::MAX]) },
        70..74 => Action::NextTakes { client, bytes: random.pick(&[0, 1, 3, 10, 30, 60]) },
        74..77 => Action::Repeat { shard, ago: random.between(0, 12) },
        77 => match random.between(0, 12) {
            0 => Action::Fail { shard },
            1..6 => Action::StepAside { account: random.between(0, setup.accounts) },
            _ => Action::ComeBack { account: random.between(0, setup.accounts) },
        },
        78..81 => Action::ReadInside { stream, count: random.between(1, 9) },
        81..89 => Action::Step { shard },
        89..94 => Action::Settle,
        94..97 => Action::Wait { micros: random.pick(&[1, 15, 130, 400, 2500]) * MS },
        _ => Action::Jam { micros: random.pick(&[1, 6, 25, 90]) * MS },
    }
}

impl Script {
    pub(super) fn draw(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let subject = match seed % 10 {
            0..3 => Subject::Crowd,
            3 if seed % 20 == 3 => Subject::Bulk,
            _ => Subject::Anything,
        };
        let is_crowd = subject == Subject::Crowd;
        let mut setup = Setup {
            shards: if subject == Subject::Anything { random.between(1, 4) } else { 1 },
            patience: random.pick(&[
                Patience::Within(0),
                Patience::Within(400 * MS),
                Patience::Within(400 * MS),
                Patience::Lossless,
            ]),
            options: (0..if is_crowd { 1 } else { random.between(1, 4) }).map(|_| options(random)).collect(),
            cost: random.pick(&[0, 0, 300, 2500]),
            lazily: random.percent(25),
            accounts: random.between(1, 6),
            has_loop: random.percent(30),
        };
        if subject == Subject::Bulk {
            setup.options[0] =
                StreamOptions { history: 16, history_bytes: 1 << 20, start: Start::All, ..setup.options[0].clone() };
        }
        let streams = setup.options.len();
        let clients: Vec<_> = (0..if is_crowd { random.between(7, 14) } else { random.between(2, 9) })
            .map(|at| {
                let capacity = match subject {
                    _ if at % 3 == 0 => usize::MAX,
                    Subject::Bulk if random.percent(70) => usize::MAX,
                    Subject::Bulk => random.between(30, 300_000),
                    _ => random.between(30, 700),
                };
                (
                    random.pick(&[Framing::Chunked, Framing::Chunked, Framing::Plain]),
                    capacity,
                    random.between(0, streams),
                )
            })
            .collect();
        let count = random.between(20, if subject == Subject::Bulk { 70 } else { 220 });
        let mut actions = Vec::new();
        if subject == Subject::Bulk {
            for _ in 0..12 {
                let publish = Publish { padding: random.between(50_000, 120_000), ..Publish::default() };
                actions.push(Action::Deed(Deed::Publish { stream: 0, account: 0, publish }));
            }
        }
        let connects: Vec<_> = (0..clients.len())
            .filter(|_| random.percent(if subject == Subject::Anything { 30 } else { 90 }))
            .map(|client| Action::Connect { client, shard: 0, early: false })
            .collect();
        actions.extend(connects);
        actions.extend((0..count).map(|_| action(random, &setup, clients.len(), subject)));
        let drains = random.percent(40).then(|| random.pick(&[0, 500 * MS, 2 * SECOND]));
        Self { setup, clients, actions, drains }
    }

    /// Runs it; panics where a law is broken.
    pub(super) fn run(&self) -> World {
        let mut world = World::new(self.setup.clone());
        for &(framing, capacity, name) in &self.clients {
            world.add_client(framing, capacity, name);
        }
        for action in &self.actions {
            world.take(action);
        }
        world.finish(self.drains);
        world
    }
}

impl World {
    fn live_deed(&mut self, deed: &Deed) -> Deed {
        let mut deed = deed.clone();
        match &mut deed {
            Deed::Publish { stream, .. }
            | Deed::End { stream, .. }
            | Deed::Remove { stream }
            | Deed::Snapshot { stream }
            | Deed::Configure { stream, .. }
            | Deed::Override { stream, .. }
            | Deed::EndOverride { stream, .. }
            | Deed::Expire { stream } => *stream = self.live(*stream),
        }
        deed
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
            Action::ComeBack { account } => {
                self.stage.publishers.borrow_mut().come_back(*account, self.now());
                self.stage.step_publishers(self.setup.lazily);
            }
            Action::ReadInside { stream, count } => self.read_inside(*stream, *count),
            Action::Step { shard } => {
                self.step(*shard);
                self.stage.step_publishers(self.setup.lazily);
            }
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
            self.settle();
        }
        self.check_accounts();
        self.read_all_inside();
        if let Some(drain) = drains {
            return self.close(drain);
        }
        (0..self.clients.len()).for_each(|at| self.leave(at));
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
            let is_silent = client.moves.back().is_some_and(super::stage::Opened::expected_is_silent);
            assert!(client.early.is_none() || is_silent, "its handler has answered");
            assert!(client.parser.is_between_events(), "what was begun is ended");
            if client.early.is_none() {
                client.reader.check_account(streams[stream].all.newest());
            }
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
        self.settle();
        for client in &self.clients {
            assert!(client.wire.is_none(), "everybody was given the end, or cut");
        }
        assert!(self.shards.iter().all(|shard| shard.shard.is_none()), "every shard has stopped");
        while self.calls_back_publishers() {}
        assert!(self.stage.publishers.borrow().waiting.is_empty(), "publishers are told that the server is closed");
        self.read_all_inside();
        self.check_nothing_is_left();
    }
}

impl super::stage::Opened {
    /// Whether nothing is to be seen of it before something is published.
    fn expected_is_silent(&self) -> bool {
        matches!(&self.expected, sse_fast_oracle::everything::Expected::Items { items, .. } if items.is_empty())
    }
}
