//! Publishers that wait, on a shard that is stepped by hand: who goes first, who pays, who is charged.
//!
//! Owns: single cases with exact numbers; the simulation has all of them at once.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::time::Duration;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{Start, StreamOptions, StreamPatch};

use super::by_hand::{Socket, Stage, publish};
use super::machine::{Next, Pacing};
use crate::delivery::Patience;
use crate::stream::{Attempt, Caller, Progress, PublishError, Role, Stream};

const MS: Micros = 1000;
const LARGE: usize = usize::MAX / 2;

/// The bytes of an event with one digit as its data.
const FRAME: usize = "11\r\nid: 1-1\ndata: 0\n\n\r\n".len();

/// A thread that publishes one event.
struct Publisher {
    attempt: Attempt<'static>,
    account: Spent,
}

impl Publisher {
    fn new(data: &'static str, role: Role, caller: Caller) -> Self {
        let event = event::check(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }).expect("an event");
        Self { attempt: Attempt::new(&event, role, caller), account: Spent::default() }
    }

    fn ordinary(data: &'static str) -> Self {
        Self::new(data, Role::Ordinary, Caller::Thread)
    }

    /// Until when it waits; `None` where it has published.
    fn step(&mut self, stream: &Stream, now: Micros) -> Result<Option<Micros>, PublishError> {
        let mut inner = stream.lock();
        match self.attempt.step(stream, &mut inner, now, &mut self.account)? {
            Progress::Wait(until) => Ok(Some(until)),
            Progress::Published(_) => {
                stream.finish_publish(inner);
                Ok(None)
            }
        }
    }

    fn step_aside(&mut self, stream: &Stream, now: Micros) {
        self.attempt.step_aside(stream, &mut stream.lock(), now, &mut self.account);
    }

    fn paid(&self, now: Micros) -> Micros {
        self.account.within_a_minute(now)
    }
}

/// A stream that keeps one event, with a subscriber whose socket took nothing of it.
fn blocked(patience: Patience) -> (Stage, Stream, Socket) {
    let mut stage = Stage::new(Pacing::default(), patience);
    let stream = stage.stream("s", StreamOptions { history: 1, heartbeat: None, ..StreamOptions::default() });
    let socket = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    publish(&stream, b"0");
    stage.step(0, &[]);
    (stage, stream, socket)
}

fn data_of(socket: &Socket) -> Vec<String> {
    let text = String::from_utf8(socket.0.borrow().taken.clone()).expect("text");
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

fn ids_of(socket: &Socket) -> Vec<String> {
    let text = String::from_utf8(socket.0.borrow().taken.clone()).expect("text");
    text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
}

#[test]
fn one_that_is_away_pays_nothing_and_its_place_is_kept_for_ten_milliseconds() {
    let (mut stage, stream, socket) = blocked(Patience::Within(2_000_000));
    let (mut first, mut second) = (Publisher::ordinary("1"), Publisher::ordinary("2"));
    assert!(first.step(&stream, stage.now).expect("open").is_some(), "the socket is in its way");
    assert!(second.step(&stream, stage.now).expect("open").is_some());
    stage.step(100 * MS, &[]);
    let away = stage.now;
    first.step_aside(&stream, away);
    assert_eq!(first.paid(away), 100 * MS, "its thread may publish elsewhere, and has this much less");
    assert_eq!(second.step(&stream, away + 9 * MS).expect("open"), Some(away + 10 * MS), "its place is kept so long");
    assert!(!stream.lock().is_paying(), "and nobody pays for sockets then");
    stage.step(10 * MS, &[]);
    assert!(second.step(&stream, stage.now).expect("open").is_some());
    assert!(stream.lock().is_paying(), "now the next pays");
    stage.step(50 * MS, &[]);
    assert!(first.step(&stream, stage.now).expect("open").is_some(), "it comes back, and is the next again");
    assert!(second.step(&stream, stage.now).expect("open").is_some());
    stage.step(20 * MS, &[]);
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    assert!(second.step(&stream, stage.now).expect("open").is_some(), "not before it");
    assert_eq!(first.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!(second.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!(data_of(&socket), ["0", "1", "2"]);
    assert_eq!(first.paid(stage.now), 120 * MS, "what was paid while it was away is not its debt");
    assert_eq!(second.paid(stage.now), 170 * MS, "all that was paid since it came");
}

#[test]
fn what_was_encoded_for_a_place_that_another_took_is_encoded_again() {
    let (mut stage, stream, socket) = blocked(Patience::Within(2_000_000));
    let (mut first, mut second) = (Publisher::ordinary("1"), Publisher::ordinary("2"));
    assert!(first.step(&stream, stage.now).expect("open").is_some());
    first.step_aside(&stream, stage.now);
    assert!(second.step(&stream, stage.now + 10 * MS).expect("open").is_some());
    socket.0.borrow_mut().room = LARGE;
    stage.step(10 * MS, &[&socket]);
    assert_eq!(second.step(&stream, stage.now).expect("open"), None, "it goes first");
    stage.step(0, &[]);
    assert_eq!(first.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!(data_of(&socket), ["0", "2", "1"]);
    assert_eq!(ids_of(&socket), ["1-1", "1-2", "1-3"]);
}

#[test]
fn a_signal_handler_that_ends_the_stream_whose_publish_it_interrupted_gets_through() {
    let (stage, stream, _socket) = blocked(Patience::Within(2_000_000));
    let mut outer = Publisher::ordinary("1");
    assert!(outer.step(&stream, stage.now).expect("open").is_some());
    outer.step_aside(&stream, stage.now);
    let mut nested = Publisher::new("over", Role::Terminal, Caller::Thread);
    let (mut now, mut tries) = (stage.now, 0);
    while let Some(until) = nested.step(&stream, now).expect("open") {
        (now, tries) = (until, tries + 1);
        assert!(tries < 10, "it waits for itself");
    }
    assert_eq!(now - stage.now, (10 + 1000) * MS, "its place, and half of what its thread may wait for sockets");
    assert!(matches!(outer.step(&stream, now), Err(PublishError::Ended { .. })));
}

#[test]
fn a_loop_is_refused_as_soon_as_the_shard_has_looked_and_not_for_what_was() {
    let (mut stage, stream, socket) = blocked(Patience::Lossless);
    let mut refused = Publisher::new("1", Role::Ordinary, Caller::EventLoop);
    assert!(refused.step(&stream, stage.now).expect("open").is_some(), "what the shard said last may be old");
    stage.step(0, &[]);
    assert!(matches!(refused.step(&stream, stage.now), Err(PublishError::LoopWouldWait { .. })));
    // Its socket takes everything, and the floor is old: options have changed that may ask for more.
    let mut thread = Publisher::ordinary("2");
    assert!(thread.step(&stream, stage.now).expect("open").is_some());
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    assert_eq!(thread.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    stream
        .configure(&StreamPatch { retry: Some(Some(Duration::from_secs(1))), ..StreamPatch::default() })
        .expect("set");
    let mut taken = Publisher::new("3", Role::Ordinary, Caller::EventLoop);
    assert!(taken.step(&stream, stage.now).expect("open").is_some());
    assert!(taken.step(&stream, stage.now + 9 * MS).expect("open").is_some(), "the shard has not looked");
    stage.step(0, &[]);
    assert_eq!(taken.step(&stream, stage.now).expect("open"), None);
}

#[test]
fn every_socket_that_is_waited_for_is_charged_also_those_of_the_rest_of_the_quarter() {
    let mut stage = Stage::new(Pacing::default(), Patience::Within(8_000_000));
    let options = StreamOptions { history: 40, heartbeat: None, start: Start::All, ..StreamOptions::default() };
    let stream = stage.stream("s", options);
    // The second lacks what comes five events later.
    let first = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    for number in 0..5 {
        publish(&stream, number.to_string().as_bytes());
        stage.step(0, &[]);
    }
    let second = stage.subscribe(&stream, Framing::Chunked, 0);
    second.0.borrow_mut().room += 5 * FRAME;
    stage.step(0, &[]);
    for number in 5..40 {
        publish(&stream, number.to_string().as_bytes());
        stage.step(0, &[]);
    }
    assert_eq!((data_of(&first).len(), data_of(&second).len()), (0, 5));
    let mut publisher = Publisher::ordinary("40");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some());
    stage.step(0, &[]);
    stage.step(20 * MS, &[]);
    let charged: Vec<_> = stage.charged().collect();
    assert_eq!(charged, [20 * MS, 20 * MS]);
}

#[test]
fn one_that_fills_while_others_are_waited_for_is_charged_from_then_on() {
    let (mut stage, stream, _first) = blocked(Patience::Within(8_000_000));
    let mut publisher = Publisher::ordinary("1");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some());
    stage.step(0, &[]);
    // It takes its head and nothing of what it is to have from the start on.
    let later = StreamPatch { start: Some(Start::All), ..StreamPatch::default() };
    stream.configure(&later).expect("set");
    stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(9 * MS, &[]);
    stage.step(3 * MS, &[]);
    stage.step(8 * MS, &[]);
    let mut charged: Vec<_> = stage.charged().collect();
    charged.sort_unstable();
    assert_eq!(charged, [11 * MS, 20 * MS]);
}

#[test]
fn one_that_used_up_its_share_of_the_minute_is_not_waited_for_when_it_fills_again() {
    let (mut stage, stream, socket) = blocked(Patience::Within(2_000_000));
    for data in ["1", "2", "3", "4", "5"] {
        let mut publisher = Publisher::ordinary(data);
        assert!(publisher.step(&stream, stage.now).expect("open").is_some());
        stage.step(0, &[]);
        // It takes one event each time, and is never idle for an eighth of the time.
        socket.0.borrow_mut().room = FRAME;
        stage.step(200 * MS, &[&socket]);
        assert_eq!(publisher.step(&stream, stage.now).expect("open"), None);
        assert_eq!(publisher.paid(stage.now), 200 * MS);
        stage.step(0, &[]);
    }
    for (data, asks) in [("6", true), ("7", false)] {
        let mut publisher = Publisher::ordinary(data);
        if asks {
            assert!(publisher.step(&stream, stage.now).expect("open").is_some(), "the shard says whom it waits for");
            stage.step(0, &[]);
        }
        assert_eq!(publisher.step(&stream, stage.now).expect("open"), None);
        assert_eq!(publisher.paid(stage.now), 0);
        stage.step(0, &[]);
    }
    assert_eq!(stage.charged().max(), Some(1000 * MS));
    assert_eq!(data_of(&socket), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_connection_lingers_for_two_seconds_whenever_it_was_written_to_last() {
    let mut stage = Stage::new(Pacing::default(), Patience::Within(0));
    let stream = stage.stream("s", StreamOptions { heartbeat: None, ..StreamOptions::default() });
    let socket = stage.subscribe(&stream, Framing::Plain, LARGE);
    stage.step(0, &[]);
    stage.step(10_000 * MS, &[]);
    stream.remove();
    let next = stage.step(0, &[]);
    assert!(socket.0.borrow().is_shut);
    assert!(matches!(next, Next::At(at) if (1_900 * MS..2_100 * MS).contains(&(at - stage.now))), "{next:?}");
    assert_eq!(stage.step(1_500 * MS, &[]), next);
    stage.step(600 * MS, &[]);
    assert_eq!(stage.connections(), 0);
}
