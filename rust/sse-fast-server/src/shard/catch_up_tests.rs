//! Subscribers that catch up beside everything else, on a shard that is stepped by hand.
//!
//! Owns: what the simulation draws too seldom, because its events are small: replays above a batch.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::time::Duration;

use sse_fast_core::frame::Framing;
use sse_fast_core::options::{Start, StreamOptions};

use super::by_hand::{HEAD, LARGE, Socket, Stage, publish};
use super::machine::Pacing;
use crate::delivery::Patience;
use crate::stream::Stream;

fn stage(pacing: Pacing) -> Stage {
    Stage::new(pacing, Patience::Within(2_000_000))
}

/// A stream that keeps megabytes, with so many events of 100 KB.
fn long_stream(stage: &Stage, events: usize, heartbeat: Option<Duration>) -> Stream {
    let options = StreamOptions {
        history: 1000,
        history_bytes: 64 << 20,
        start: Start::All,
        heartbeat,
        ..StreamOptions::default()
    };
    let stream = stage.stream("long", options);
    for _ in 0..events {
        publish(&stream, &vec![b'x'; 100_000]);
    }
    stream
}

fn subscribe(stage: &Stage, stream: &Stream) -> Socket {
    stage.subscribe(stream, Framing::Chunked, LARGE)
}

/// How many whole chunks there are behind the head; every byte must be one's.
fn chunks(taken: &[u8]) -> usize {
    let (mut rest, mut count) = (&taken[HEAD.len()..], 0);
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a size line");
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| usize::from_str_radix(line, 16).ok());
        let size = size.unwrap_or_else(|| panic!("no size line after {count} chunks"));
        assert_eq!(&rest[end + 2 + size..end + 4 + size], b"\r\n", "chunk {count} ends where it says");
        rest = &rest[end + 4 + size..];
        count += 1;
    }
    count
}

#[test]
fn a_heartbeat_that_fills_the_socket_of_one_that_catches_up_is_ended_before_a_frame_begins() {
    let mut stage = stage(Pacing { sends_per_mail: 1, sends_per_step: 1, rounds: 1, ..Pacing::default() });
    let stream = long_stream(&stage, 40, Some(Duration::from_millis(20)));
    let sockets: Vec<_> = (0..3).map(|_| subscribe(&stage, &stream)).collect();
    for step in 0..400 {
        if step == 2 {
            // Each takes the first half of a heartbeat.
            for socket in &sockets {
                socket.0.borrow_mut().room = b"c\r\n: heartbeat\n\r\n".len() / 2;
            }
        }
        let writable: Vec<_> = if step > 6 { sockets.iter().collect() } else { Vec::new() };
        for socket in &writable {
            socket.0.borrow_mut().room = LARGE;
        }
        stage.step(25_000, &writable);
    }
    for socket in &sockets {
        let wire = socket.0.borrow();
        assert!(chunks(&wire.taken) > 40, "the replay and heartbeats");
    }
}

#[test]
fn a_live_event_does_not_wait_for_those_who_catch_up() {
    let mut stage = stage(Pacing::default());
    let long = long_stream(&stage, 600, None);
    let live = stage.stream("live", StreamOptions::default());
    let reader = subscribe(&stage, &live);
    let replays: Vec<_> = (0..20).map(|_| subscribe(&stage, &long)).collect();
    stage.step(1000, &[]);
    publish(&live, b"news");
    stage.step(1000, &[]);
    assert!(reader.0.borrow().taken.ends_with(b"data: news\n\n\r\n"), "it is written in the next step");
    let unfinished = replays.iter().filter(|socket| socket.0.borrow().taken.len() < 60_000_000).count();
    assert!(unfinished > 0, "while others catch up");
}
