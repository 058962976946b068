//! Connections of several streams, on a shard that is stepped by hand: what the simulation cannot see from outside.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::time::Duration;

use sse_fast_core::event::NewEvent;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::StreamOptions;

use super::Order;
use super::by_hand::{LARGE, MS, Publisher, Socket, Stage, data_of, publish};
use super::machine::Pacing;
use crate::delivery::Patience;
use crate::stream::Stream;

fn streams(stage: &Stage, count: usize, history: usize) -> Vec<Stream> {
    let options = StreamOptions { history, max_lag: history as u64, heartbeat: None, ..StreamOptions::default() };
    (0..count).map(|name| stage.stream(&format!("s{name}"), options.clone())).collect()
}

fn subscribe(stage: &mut Stage, streams: &[Stream], room: usize) -> Socket {
    let socket = stage.subscribe_to_several(&streams.iter().collect::<Vec<_>>(), room);
    stage.step(0, &[]);
    socket
}

#[test]
fn news_of_all_streams_of_a_connection_goes_out_in_one_write() {
    let mut stage = Stage::new(Pacing::default(), Patience::Within(0));
    let streams = streams(&stage, 32, 256);
    let sockets: Vec<_> = (0..3).map(|_| subscribe(&mut stage, &streams, LARGE)).collect();
    let before: Vec<_> = sockets.iter().map(|socket| socket.0.borrow().writes).collect();
    for (number, stream) in streams.iter().enumerate() {
        publish(stream, number.to_string().as_bytes());
    }
    stage.step(0, &[]);
    for (socket, before) in sockets.iter().zip(before) {
        assert_eq!(socket.0.borrow().writes, before + 1);
        let mut got: Vec<usize> = data_of(socket).iter().map(|data| data.parse().expect("a number")).collect();
        got.sort_unstable();
        assert_eq!(got, (0..32).collect::<Vec<_>>());
    }
}

#[test]
fn a_lone_event_is_one_write_and_nothing_follows() {
    let mut stage = Stage::new(Pacing::default(), Patience::Within(0));
    let streams = streams(&stage, 4, 256);
    let socket = subscribe(&mut stage, &streams, LARGE);
    let before = socket.0.borrow().writes;
    publish(&streams[2], b"2");
    stage.step(0, &[]);
    stage.step(MS, &[]);
    assert_eq!((socket.0.borrow().writes, data_of(&socket)), (before + 1, vec!["2".to_owned()]));
}

#[test]
fn a_full_connection_is_charged_once_for_publishers_of_two_streams_that_wait_at_the_same_time() {
    let mut stage = Stage::new(Pacing::default(), Patience::Within(2_000_000));
    let streams = streams(&stage, 2, 1);
    let socket = subscribe(&mut stage, &streams, 0);
    for stream in &streams {
        publish(stream, b"0");
    }
    stage.step(0, &[]);
    let mut waiting: Vec<_> = streams.iter().map(|stream| (Publisher::ordinary("1"), stream)).collect();
    let mut waits = |stage: &Stage| {
        let waits = waiting.iter_mut().map(|(publisher, stream)| publisher.step(stream, stage.now).expect("open"));
        waits.flatten().count()
    };
    assert_eq!(waits(&stage), 2);
    stage.step(0, &[]);
    for _ in 0..10 {
        stage.step(10 * MS, &[]);
        assert_eq!(waits(&stage), 2);
    }
    assert_eq!(stage.charged().collect::<Vec<_>>(), [100 * MS], "not for each stream by itself");
    // Once it takes bytes both go on.
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    assert_eq!(waits(&stage), 0);
}

#[test]
fn its_neighbours_of_one_stream_alone_are_served_by_the_walk_that_serves_it() {
    let mut stage = Stage::new(Pacing::default(), Patience::Within(0));
    let streams = streams(&stage, 2, 256);
    let alone = stage.subscribe(&streams[0], Framing::Chunked, LARGE);
    let together = subscribe(&mut stage, &streams, LARGE);
    let other = stage.subscribe(&streams[1], Framing::Plain, LARGE);
    stage.step(0, &[]);
    for number in ["1", "2", "3"] {
        publish(&streams[0], number.as_bytes());
        publish(&streams[1], number.as_bytes());
        stage.step(0, &[]);
    }
    assert_eq!(data_of(&alone), ["1", "2", "3"]);
    assert_eq!(data_of(&other), ["1", "2", "3"]);
    assert_eq!(data_of(&together).len(), 6);
}

#[test]
fn a_connection_is_behind_until_all_of_its_streams_have_caught_up() {
    let pacing = Pacing { sends_per_mail: 1, sends_per_step: 1, long_walk: 256, rounds: 1, batch_bytes: 100 };
    let mut stage = Stage::new(pacing, Patience::Within(0));
    let streams = streams(&stage, 2, 256);
    let socket = subscribe(&mut stage, &streams, 0);
    for (stream, events) in streams.iter().zip([1, 50]) {
        for _ in 0..events {
            publish(stream, b"0");
        }
    }
    stage.step(0, &[]);
    let is_behind = |stage: &Stage| {
        stage.shard.connections.iter().any(|(_, it)| it.account.as_ref().is_some_and(|account| account.behind))
    };
    assert!(is_behind(&stage));
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    for _ in 0..200 {
        let has_everything = data_of(&socket).len() == 51;
        assert_eq!(is_behind(&stage), !has_everything);
        stage.step(0, &[]);
    }
    assert_eq!(data_of(&socket).len(), 51);
}

#[test]
fn a_name_that_is_waited_for_keeps_the_connection_when_all_others_have_ended() {
    let every = |seconds| StreamOptions { heartbeat: Some(Duration::from_secs(seconds)), ..StreamOptions::default() };
    let mut stage = Stage::new(Pacing::default(), Patience::Within(0));
    let (known, unknown) = (stage.stream("known", every(3600)), stage.stand_in("unknown", every(5)));
    let socket = stage.subscribe_to_several(&[&known, &unknown], LARGE);
    stage.step(0, &[]);
    let beats = |socket: &Socket| String::from_utf8_lossy(&socket.0.borrow().taken).matches(": heartbeat").count();
    stage.step(60_000 * MS, &[]);
    assert_eq!(beats(&socket), 0, "what stands in has no part in it");
    known.end_with(&NewEvent { data: b"bye", ..NewEvent::default() }).expect("open");
    stage.step(0, &[]);
    assert_eq!((data_of(&socket), socket.0.borrow().is_shut), (vec!["bye".to_owned()], false));
    for _ in 0..4 {
        stage.step(5_000 * MS, &[]);
    }
    assert!(beats(&socket) >= 2, "its reader is not left in silence");
    unknown.remove();
    stage.step(0, &[]);
    assert!(socket.0.borrow().is_shut, "it was made");
}

#[test]
fn what_only_waits_for_a_name_ends_with_the_server_and_with_its_reader_s_side() {
    for closes in [true, false] {
        let mut stage = Stage::new(Pacing::default(), Patience::Within(0));
        let unknown = stage.stand_in("unknown", StreamOptions::default());
        let socket = stage.subscribe_to_several(&[&unknown], LARGE);
        stage.step(0, &[]);
        assert!(!socket.0.borrow().is_shut);
        if closes {
            stage.handle.order(Order::Drain { until: stage.now + 60_000 * MS });
        } else {
            let key = stage.shard.connections.keys().into_iter().next().expect("a connection");
            stage.shard.half_close(key);
        }
        stage.step(0, &[]);
        assert!(socket.0.borrow().is_shut);
    }
}
