//! Slow readers, on a shard that is stepped by hand: who counts as one, what they cost, when they are served.
//!
//! Owns: single cases with exact numbers; the simulation has all of them at once.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;

use super::by_hand::{
    FRAME, LARGE, MS, Publisher, Socket, Stage, blocked, blocked_with, data_of, publish, publish_in_time,
};
use super::machine::{Next, Pacing};
use crate::delivery::Patience;
use crate::stream::{Caller, Role, Stream};

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
    for data in ["6", "7"] {
        let mut publisher = Publisher::ordinary(data);
        assert_eq!(publisher.step(&stream, stage.now).expect("open"), None, "not even for the shard's answer");
        assert_eq!(publisher.paid(stage.now), 0);
        stage.step(0, &[]);
    }
    assert_eq!(stage.charged().max(), Some(1000 * MS));
    assert_eq!(data_of(&socket), ["0", "1", "2", "3", "4"]);
}

/// A reader that takes an event every hundred milliseconds, until publishers do not wait for it any more: how long they did.
fn cost_of_a_slow_reader(stage: &mut Stage, stream: &Stream) -> Micros {
    let (reader, mut cost) = (stage.subscribe(stream, Framing::Chunked, 0), 0);
    stage.step(0, &[]);
    publish_in_time(stage, stream, "a");
    loop {
        let mut publisher = Publisher::ordinary("b");
        while publisher.step(stream, stage.now).expect("open").is_some() {
            stage.step(5 * MS, &[]);
            cost += 5 * MS;
            reader.0.borrow_mut().room = if cost % (100 * MS) == 0 { 100 } else { 0 };
            stage.step(0, &[&reader]);
            reader.0.borrow_mut().room = 0;
        }
        stage.step(0, &[]);
        if publisher.paid(stage.now) == 0 {
            return cost;
        }
    }
}

#[test]
fn something_is_left_for_a_reader_that_is_full_for_a_moment_however_many_slow_ones_there_were() {
    let (mut stage, stream, _dead) = blocked(Patience::Within(2_000_000));
    publish_in_time(&mut stage, &stream, "1");
    let costs: Vec<_> = (0..8).map(|_| cost_of_a_slow_reader(&mut stage, &stream)).collect();
    assert!((1000 * MS..1100 * MS).contains(&costs[0]), "half of W: {costs:?}");
    // With the dead one's share three quarters of W are gone now.
    assert!(costs[1..].iter().all(|cost| *cost <= 50 * MS), "{costs:?}");
    let healthy = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    publish_in_time(&mut stage, &stream, "2");
    let mut publisher = Publisher::ordinary("3");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some());
    stage.step(10 * MS, &[]);
    assert!(publisher.step(&stream, stage.now).expect("open").is_some(), "it is waited for");
    healthy.0.borrow_mut().room = LARGE;
    stage.step(MS, &[&healthy]);
    assert_eq!(publisher.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!(data_of(&healthy), ["2", "3"]);
    // One that was skipped within the minute has had its share of what is left, although nobody waited for it.
    let skipped = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    for data in ["4", "5"] {
        let mut in_loop = Publisher::new(data, Role::Ordinary, Caller::EventLoop);
        while in_loop.step(&stream, stage.now).expect("open").is_some() {
            stage.step(MS, &[]);
        }
        stage.step(MS, &[]);
    }
    skipped.0.borrow_mut().room = LARGE;
    stage.step(0, &[&skipped]);
    assert_eq!(data_of(&skipped).len(), 2, "a gap, and the newest");
    skipped.0.borrow_mut().room = 0;
    publish(&stream, b"6");
    stage.step(MS, &[]);
    assert_eq!(Publisher::ordinary("7").step(&stream, stage.now).expect("open"), None, "it is not waited for");
}

#[test]
fn slow_readers_that_take_bytes_again_come_after_everybody_else() {
    let pacing = Pacing { sends_per_mail: 4, ..Pacing::default() };
    let (mut stage, stream, _dead) = blocked_with(pacing, Patience::Within(2_000_000));
    let slow: Vec<_> = (0..10).map(|_| stage.subscribe(&stream, Framing::Chunked, 0)).collect();
    stage.step(0, &[]);
    publish_in_time(&mut stage, &stream, "1");
    publish_in_time(&mut stage, &stream, "2");
    let healthy = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    publish(&stream, b"3");
    stage.step(0, &[]);
    let writable: Vec<_> = slow.iter().chain([&healthy]).collect();
    for socket in &writable {
        socket.0.borrow_mut().room = LARGE;
    }
    let served = |sockets: &[Socket], data: &str| {
        sockets.iter().filter(|socket| data_of(socket).iter().any(|given| given == data)).count()
    };
    assert_eq!(stage.step(0, &writable), Next::Now);
    assert_eq!((data_of(&healthy), served(&slow, "3")), (vec!["3".to_owned()], 4), "first the healthy one, then a few");
    // The poll may say it again: each has one place.
    let again: Vec<_> = writable.iter().copied().cycle().take(100).collect();
    stage.step(0, &again);
    assert_eq!(served(&slow, "3"), 8);
    stage.step(0, &[]);
    assert_eq!(served(&slow, "3"), 10);
    assert_ne!(stage.step(0, &[]), Next::Now);
    // They fill again, and have their places again.
    for socket in &slow {
        socket.0.borrow_mut().room = 0;
    }
    publish(&stream, b"4");
    stage.step(0, &[]);
    publish_in_time(&mut stage, &stream, "5");
    for socket in &slow {
        socket.0.borrow_mut().room = LARGE;
    }
    for _ in 0..3 {
        stage.step(0, &writable);
    }
    assert_eq!(served(&slow, "5"), 10);
}
