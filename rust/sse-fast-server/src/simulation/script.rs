//! What happens in a world, drawn from a seed.
//!
//! Owns: the actions, and how often each is drawn. Must not know: how a script is played, what must hold. A script is drawn
//! whole before it runs, so that it can be shortened and run again. Changes together with `play`.

use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, Start, StreamOptions, StreamPatch};
use sse_fast_oracle::content::Publish;

use super::client::BEAT;
use super::random::Random;
use super::several::SeveralAct;
use super::stage::{Deed, What};
use super::times::{MS, SECOND};
use super::world::Setup;
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
    /// The right of its next connection lasts so long.
    NextRight {
        client: usize,
        micros: Micros,
    },
    /// The application disconnects its reader.
    Disconnect {
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
    /// It publishes nothing.
    GiveUp {
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
    /// One of those that read several streams does something.
    Several {
        client: usize,
        act: SeveralAct,
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
    /// Those that read several streams: which.
    pub(super) several: Vec<(Framing, usize, Vec<usize>)>,
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
    let what = match random.between(0, 100) {
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
            What::Publish { account, publish }
        }
        72..75 => What::Snapshot,
        75..83 => What::Configure { patch: patch(random) },
        83..90 => What::Override { every: Duration::from_millis(random.pick(&[60, 100, 300, 2000])) },
        90..95 => What::EndOverride { which: random.between(0, 4) },
        95..97 => What::End { account },
        97..98 => What::Remove,
        _ => What::Expire,
    };
    what.on(stream)
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
            1 | 2 => Action::GiveUp { account: random.between(0, setup.accounts) },
            3..7 => Action::StepAside { account: random.between(0, setup.accounts) },
            _ => Action::ComeBack { account: random.between(0, setup.accounts) },
        },
        78..81 => Action::ReadInside { stream, count: random.between(1, 9) },
        81..89 => Action::Step { shard },
        89..94 => Action::Settle,
        94..97 => Action::Wait { micros: random.pick(&[1, 15, 130, 400, 2500]) * MS },
        _ => Action::Jam { micros: random.pick(&[1, 6, 25, 90]) * MS },
    }
}

/// Clients that read several streams, and what they do among the other actions. Drawn by themselves, so that the rest of a
/// script is the same without them.
fn several(seed: u64, setup: &Setup, subject: Subject, actions: &mut Vec<Action>) -> Vec<(Framing, usize, Vec<usize>)> {
    let random = &mut Random::new(seed ^ 0x5eed_5eed_5eed);
    if random.percent(40) {
        return Vec::new();
    }
    let streams = setup.options.len();
    let clients: Vec<_> = (0..random.between(1, if subject == Subject::Crowd { 7 } else { 4 }))
        .map(|_| {
            let mut names: Vec<usize> = (0..streams).filter(|_| random.percent(75)).collect();
            if names.is_empty() {
                names.push(random.between(0, streams));
            }
            if random.percent(50) {
                names.reverse();
            }
            let capacity = if random.percent(40) { usize::MAX } else { random.between(30, 900) };
            (random.pick(&[Framing::Chunked, Framing::Chunked, Framing::Plain]), capacity, names)
        })
        .collect();
    for _ in 0..random.between(10, 120) {
        let (client, shard) = (random.between(0, clients.len()), random.between(0, setup.shards));
        let act = match random.between(0, 100) {
            0..30 => SeveralAct::Connect { shard },
            30..33 => SeveralAct::ConnectFromElsewhere { shard },
            33..70 => SeveralAct::Read { bytes: random.pick(&[1, 7, 40, 200, 5000, usize::MAX]) },
            70..82 => SeveralAct::NextTakes { bytes: random.pick(&[0, 1, 3, 10, 30, 60]) },
            82..85 => SeveralAct::HalfClose,
            _ => SeveralAct::Leave,
        };
        let at = random.between(0, actions.len() + 1);
        actions.insert(at, Action::Several { client, act });
    }
    clients
}

/// In a third of all scripts: rights that end and readers that are disconnected, in the middle of what happens anyway.
fn add_rights(seed: u64, clients: usize, actions: &mut Vec<Action>) {
    let random = &mut Random::new(!seed);
    let count = if seed % 3 == 1 { actions.len() / 10 + 1 } else { 0 };
    for _ in 0..count {
        let client = random.between(0, clients);
        let action = if random.percent(40) {
            Action::Disconnect { client }
        } else {
            Action::NextRight { client, micros: random.pick(&[1, 20, 150, 700, 3000]) * MS }
        };
        actions.insert(random.between(0, actions.len() + 1), action);
    }
}

/// A client's framing, how much its socket takes, and its stream.
fn client(random: &mut Random, at: usize, subject: Subject, streams: usize) -> (Framing, usize, usize) {
    let capacity = match subject {
        _ if at.is_multiple_of(3) => usize::MAX,
        Subject::Bulk if random.percent(70) => usize::MAX,
        Subject::Bulk => random.between(30, 300_000),
        _ => random.between(30, 700),
    };
    (random.pick(&[Framing::Chunked, Framing::Chunked, Framing::Plain]), capacity, random.between(0, streams))
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
            .map(|at| client(random, at, subject, streams))
            .collect();
        let count = random.between(20, if subject == Subject::Bulk { 70 } else { 220 });
        let mut actions = Vec::new();
        if subject == Subject::Bulk {
            for _ in 0..12 {
                let publish = Publish { padding: random.between(50_000, 120_000), ..Publish::default() };
                actions.push(Action::Deed(What::Publish { account: 0, publish }.on(0)));
            }
        }
        let connects: Vec<_> = (0..clients.len())
            .filter(|_| random.percent(if subject == Subject::Anything { 30 } else { 90 }))
            .map(|client| Action::Connect { client, shard: 0, early: false })
            .collect();
        actions.extend(connects);
        actions.extend((0..count).map(|_| action(random, &setup, clients.len(), subject)));
        add_rights(seed, clients.len(), &mut actions);
        let drains = random.percent(40).then(|| random.pick(&[0, 500 * MS, 2 * SECOND]));
        let several = several(seed, &setup, subject, &mut actions);
        Self { setup, clients, several, actions, drains }
    }
}
