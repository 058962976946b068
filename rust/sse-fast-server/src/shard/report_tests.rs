//! What a shard says of itself and of the delays, on sockets by hand.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{Start, StreamOptions};
use tokio::sync::oneshot;

use super::by_hand::{FRAME, LARGE, MS, Stage, publish};
use super::machine::{Next, Pacing};
use super::report::{Question, Report};
use crate::clock;
use crate::delivery::Patience;
use crate::durations::{BOUNDS, Distribution};

fn options() -> StreamOptions {
    StreamOptions { heartbeat: None, start: Start::All, ..StreamOptions::default() }
}

fn report(stage: &Stage) -> Report {
    let (answer, mut answered) = oneshot::channel();
    stage.shard.say(Question::Report(answer));
    answered.try_recv().expect("an answer")
}

/// A stage whose time is that of the clock, which publishers read.
fn stage_in_time(pacing: Pacing) -> Stage {
    let mut stage = Stage::new(pacing, Patience::Lossless);
    stage.now = clock::now();
    stage
}

/// Steps until nothing is to be done, all of it `later`; how many took between five and ten seconds, and how many any time.
fn delays(stage: &mut Stage, later: Micros) -> (u64, u64) {
    let mut next = stage.step(later, &[]);
    while next == Next::Now {
        next = stage.step(0, &[]);
    }
    // The end of a step is told to the next where nobody tells it before.
    stage.step(0, &[]);
    let measured = Distribution::default().with(&stage.shard.counters().delivery);
    let bucket = BOUNDS.iter().position(|&bound| bound == 10_000_000).expect("a bound");
    (measured.counts[bucket], measured.count())
}

#[test]
fn every_write_of_a_walk_counts_from_when_its_oldest_event_was_news() {
    let mut stage = stage_in_time(Pacing::default());
    let stream = stage.stream("s", options());
    let _sockets = [0; 3].map(|_| stage.subscribe(&stream, Framing::Chunked, LARGE));
    assert_eq!(delays(&mut stage, 0), (0, 0), "who arrives is no news");
    publish(&stream, b"0");
    publish(&stream, b"1");
    // Between the two clock readings of this test three seconds may pass.
    assert_eq!(delays(&mut stage, 8_000 * MS), (3, 3));
    assert_eq!(delays(&mut stage, 8_000 * MS), (3, 3), "nothing was written");
}

#[test]
fn what_a_walk_has_no_room_for_is_as_old_in_the_next() {
    let mut stage = stage_in_time(Pacing { batch_bytes: 2 * FRAME, ..Pacing::default() });
    let stream = stage.stream("s", options());
    let _sockets = [0; 3].map(|_| stage.subscribe(&stream, Framing::Chunked, LARGE));
    assert_eq!(delays(&mut stage, 0), (0, 0));
    for _ in 0..6 {
        publish(&stream, b"0");
    }
    assert_eq!(delays(&mut stage, 8_000 * MS), (9, 9), "three walks to three readers");
}

#[test]
fn lags_are_those_of_who_is_full_who_catches_up_and_who_has_everything() {
    let mut stage = Stage::new(Pacing { rounds: 1, batch_bytes: 2 * FRAME, ..Pacing::default() }, Patience::Within(0));
    let (stream, idle) = (stage.stream("s", options()), stage.stream("idle", options()));
    let _idle = stage.subscribe(&idle, Framing::Chunked, LARGE);
    let full = stage.subscribe(&stream, Framing::Chunked, 0);
    let _quick = stage.subscribe(&stream, Framing::Chunked, LARGE);
    stage.step(0, &[]);
    assert_eq!(report(&stage), Report { lags: [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], lag: 0, blocked: 0 });
    for _ in 0..8 {
        publish(&stream, b"0");
    }
    while stage.step(0, &[]) == Next::Now {}
    // Eight events: beyond four, and no more than sixteen.
    assert_eq!(report(&stage), Report { lags: [2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], lag: 8, blocked: 1 });
    full.0.borrow_mut().room = LARGE;
    stage.step(0, &[&full]);
    let midway = report(&stage);
    assert_eq!((midway.blocked, midway.lags.iter().sum::<u64>()), (0, 3));
    assert!(midway.lag > 0 && midway.lag < 8, "it catches up two events at a time: {midway:?}");
    while stage.step(0, &[]) == Next::Now {}
    assert_eq!(report(&stage).lag, 0);
}
