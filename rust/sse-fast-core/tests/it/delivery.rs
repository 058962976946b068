//! The delivery promise under random scripts: fast and slow sockets, reconnects, heartbeats.
//!
//! The laws are checked while a script runs (by `reader`, `parser` and `shard`); at the end every
//! socket takes bytes again, everybody reconnects, and everything published must be accounted for.

use std::time::Duration;

use proptest::prelude::*;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, Start, StreamPatch};

use crate::peer::Peer;
use crate::shard::Shard;
use crate::world::{Publish, World};

const PEERS: usize = 4;

#[derive(Clone, Debug)]
enum Action {
    Publish { count: usize, publish: Publish },
    Snapshot,
    Connect(usize),
    ConnectFromElsewhere(usize),
    Disconnect(usize),
    Bounds(usize, usize),
    End,
    Idle,
}

/// What happens, then what each socket takes, then how much time passes.
#[derive(Clone, Debug)]
struct Step {
    action: Action,
    takes: [usize; PEERS],
    ticks: u32,
    /// Whether the shard walks its subscribers before the next step.
    walks: bool,
}

#[derive(Clone, Debug)]
struct Setup {
    patch: StreamPatch,
    capacities: [usize; PEERS],
    waits: bool,
    /// Whether callers give their own ids now and then.
    own_ids: bool,
}

fn action() -> impl Strategy<Value = Action> {
    let publish = (0usize..160, prop::bool::weighted(0.08), any::<bool>());
    let publish = publish.prop_map(|(padding, snapshot, named)| Publish { padding, snapshot, named, own_id: None });
    prop_oneof![
        24 => (1usize..7, publish).prop_map(|(count, publish)| Action::Publish { count, publish }),
        1 => Just(Action::Snapshot),
        6 => (0..PEERS).prop_map(Action::Connect),
        1 => (0..PEERS).prop_map(Action::ConnectFromElsewhere),
        3 => (0..PEERS).prop_map(Action::Disconnect),
        1 => (1usize..12, 60usize..1500).prop_map(|(history, bytes)| Action::Bounds(history, bytes)),
        1 => Just(Action::End),
        8 => Just(Action::Idle),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let take = prop_oneof![3 => Just(0usize), 2 => 1usize..12, 3 => 12usize..400];
    let takes = [take.clone(), take.clone(), take.clone(), take];
    (action(), takes, 0u32..16, prop::bool::weighted(0.8)).prop_map(|(action, takes, ticks, walks)| Step {
        action,
        takes,
        ticks,
        walks,
    })
}

fn options() -> impl Strategy<Value = StreamPatch> {
    let bounds = (1usize..24, prop_oneof![1 => 60usize..1500, 1 => Just(1usize << 20)], any::<prop::sample::Index>());
    let on_lag = prop::sample::select(vec![OnLag::Skip, OnLag::Latest, OnLag::Disconnect]);
    let start = prop::sample::select(vec![Start::New, Start::Last, Start::All]);
    (bounds, on_lag, start, prop::bool::weighted(0.8), any::<bool>()).prop_map(
        |((history, history_bytes, lag), on_lag, start, ids, retry)| StreamPatch {
            history: Some(history),
            history_bytes: Some(history_bytes),
            max_lag: Some(1 + lag.index(history) as u64),
            on_lag: Some(on_lag),
            start: Some(start),
            ids: Some(ids),
            retry: Some(retry.then_some(Duration::from_secs(3))),
            ..StreamPatch::default()
        },
    )
}

fn setup() -> impl Strategy<Value = Setup> {
    // The first reader is healthy: its socket takes whatever it is offered.
    let capacity = 30usize..700;
    let capacities = [Just(usize::MAX).boxed(), capacity.clone().boxed(), capacity.clone().boxed(), capacity.boxed()];
    (options(), capacities, any::<bool>(), any::<bool>()).prop_map(|(patch, capacities, waits, own_ids)| Setup {
        // A reader of a stream without ids that was given one id resumes there: not a promise.
        own_ids: own_ids && patch.ids == Some(true),
        patch,
        capacities,
        waits,
    })
}

fn start(setup: &Setup) -> Shard {
    let framing = |at| if at % 2 == 0 { Framing::Chunked } else { Framing::Plain };
    let peers = setup.capacities.iter().enumerate().map(|(at, &capacity)| Peer::new(framing(at), capacity));
    let mut shard = Shard::new(World::new(&setup.patch), peers.collect(), setup.waits);
    for at in 0..PEERS {
        shard.connect(at, None);
    }
    shard
}

fn act(shard: &mut Shard, action: &Action, own_ids: bool) {
    let is_away = |shard: &Shard, at: usize| shard.peers[at].subscriber.is_none() && !shard.peers[at].finished;
    match action {
        Action::Publish { count, publish } if !shard.world.all.ended => {
            for _ in 0..*count {
                let next = shard.world.all.newest() + 1;
                let own_id = (own_ids && next.is_multiple_of(3)).then(|| format!("own {next}"));
                shard.publish(&Publish { own_id, ..publish.clone() });
            }
        }
        Action::Snapshot if !shard.world.all.ended => shard.world.set_snapshot(),
        Action::End if !shard.world.all.ended => shard.end(),
        Action::Connect(at) if is_away(shard, *at) => shard.connect(*at, None),
        Action::ConnectFromElsewhere(at) if is_away(shard, *at) => shard.connect(*at, Some("elsewhere-7")),
        Action::Disconnect(at) => shard.peers[*at].disconnect(),
        Action::Bounds(history, bytes) => shard.set_options(&StreamPatch {
            history: Some(*history),
            history_bytes: Some(*bytes),
            ..StreamPatch::default()
        }),
        _ => {}
    }
}

fn run(shard: &mut Shard, step: &Step, own_ids: bool) {
    act(shard, &step.action, own_ids);
    for (at, &bytes) in step.takes.iter().enumerate() {
        shard.drain(at, bytes);
    }
    if step.walks {
        shard.walk();
    }
    for _ in 0..step.ticks {
        shard.tick();
    }
    let largest = 1200;
    assert!(shard.peers.iter().all(|peer| peer.held_bytes() < largest), "a subscriber costs a bounded number of bytes");
}

/// Every socket takes bytes again and everybody comes back, until nothing more happens.
fn settle(shard: &mut Shard) {
    for at in 0..PEERS {
        shard.unblock(at);
        // Being disconnected, having the terminal event and being told so are three visits.
        for _ in 0..3 {
            if shard.peers[at].subscriber.is_none() && !shard.peers[at].finished {
                shard.connect(at, None);
            }
            shard.walk();
        }
    }
    let all = &shard.world.all;
    for peer in &shard.peers {
        peer.socket.reader.check_account(all.newest());
        assert_eq!(peer.finished, all.ended, "an ended stream lets its readers go, an open one does not");
        let received = peer.socket.reader.received.last();
        assert!(!all.ended || received == Some(&all.newest()), "the terminal event reaches everybody");
        assert!(all.options.on_lag != OnLag::Disconnect || peer.live_gaps == 0, "a gap inside a connection");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn every_reader_gets_everything_or_is_told(
        setup in setup(), steps in prop::collection::vec(step(), 1..90),
    ) {
        let mut shard = start(&setup);
        for step in &steps {
            run(&mut shard, step, setup.own_ids);
        }
        settle(&mut shard);
    }
}
