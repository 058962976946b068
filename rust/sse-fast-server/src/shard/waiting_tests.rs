//! Publishers that wait, on a shard that is stepped by hand: who goes first, who pays, who is charged.
//!
//! Owns: single cases with exact numbers; the simulation has all of them at once.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use sse_fast_core::event::{NewEvent, check};
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{Start, StreamOptions, StreamPatch};
use sse_fast_core::stream::Part;

use super::by_hand::{FRAME, LARGE, MS, Publisher, Stage, blocked, data_of, ids_of, publish};
use super::machine::{Next, Pacing};
use crate::delivery::Patience;
use crate::stream::{Caller, PublishError, Role};

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
fn what_its_thread_paid_elsewhere_while_it_was_away_is_no_longer_there() {
    let (mut stage, stream, _socket) = blocked(Patience::Within(2_000_000));
    let mut publisher = Publisher::ordinary("1");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some());
    stage.step(100 * MS, &[]);
    publisher.step_aside(&stream, stage.now);
    stage.step(10 * MS, &[]);
    publisher.account.add(stage.now, 1_850 * MS);
    let until = publisher.step(&stream, stage.now).expect("open");
    assert_eq!(until, Some(stage.now + 50 * MS), "two seconds are what it may pay");
    assert_eq!(publisher.step(&stream, stage.now + 50 * MS).expect("open"), None);
    assert_eq!(publisher.paid(stage.now + 50 * MS), 2_000 * MS);
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
fn who_waited_for_the_shard_does_not_wait_again_for_a_socket_that_was_full() {
    let (mut stage, stream, dead) = blocked(Patience::Within(2_000_000));
    let mut publisher = Publisher::ordinary("1");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some());
    stage.step(0, &[]);
    stage.step(250 * MS, &[]);
    assert_eq!(publisher.step(&stream, stage.now).expect("open"), None, "the dead one is slow now");
    // Another fills, and has everything again: what is known of it is old.
    let other = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    publish(&stream, b"2");
    stage.step(0, &[]);
    other.0.borrow_mut().room = LARGE;
    stage.step(0, &[&other]);
    publish(&stream, b"3");
    let mut publisher = Publisher::ordinary("4");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some(), "the shard has not offered the last one");
    stage.step(0, &[]);
    assert_eq!(publisher.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!((data_of(&dead).len(), data_of(&other)), (0, ["2", "3", "4"].map(str::to_owned).to_vec()));
}

#[test]
fn a_check_of_full_sockets_that_is_put_off_comes_as_soon_as_it_may() {
    let (mut stage, stream, _dead) = blocked(Patience::Within(2_000_000));
    // Sixty full sockets are checked every twenty microseconds at most.
    stream.configure(&StreamPatch { start: Some(Start::All), ..StreamPatch::default() }).expect("set");
    for _ in 0..59 {
        stage.subscribe(&stream, Framing::Chunked, 0);
    }
    stage.step(0, &[]);
    let mut publisher = Publisher::ordinary("1");
    assert!(publisher.step(&stream, stage.now).expect("open").is_some());
    assert_eq!(stage.step(0, &[]), Next::At(stage.now + 10 * MS), "nothing has changed since");
    assert_eq!(stage.step(5, &[]), Next::At(stage.now + 15), "something may have");
    assert_eq!(stage.step(15, &[]), Next::At(stage.now + 10 * MS));
}

/// Whether the thread that does the first thing is woken by the second, which another thread does.
fn is_woken<T: Send>(first: impl FnOnce() -> T + Send, second: impl FnOnce(T)) -> bool {
    std::thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let waits = scope.spawn(move || {
            let done = first();
            // What has woken it before does not count.
            std::thread::park_timeout(Duration::from_nanos(1));
            ready.send(done).expect("the other thread is there");
            let began = std::time::Instant::now();
            std::thread::park_timeout(Duration::from_secs(2));
            began.elapsed() < Duration::from_secs(1)
        });
        second(is_ready.recv().expect("it waits"));
        waits.join().expect("it ended")
    })
}

#[test]
fn who_pays_is_woken_when_another_comes_or_comes_back_who_may_pay_less() {
    for comes_back in [false, true] {
        let (stage, stream, _socket) = blocked(Patience::Within(2_000_000));
        let (mut pays, mut other) = (Publisher::ordinary("1"), Publisher::ordinary("2"));
        let now = stage.now;
        let wait = || {
            assert!(pays.step(&stream, now).expect("open").is_some());
            if comes_back {
                assert!(other.step(&stream, now).expect("open").is_some());
                other.step_aside(&stream, now);
            }
            other.account.add(now, 2_000 * MS);
            other
        };
        assert!(is_woken(wait, |mut other| assert!(other.step(&stream, now).is_ok())), "{comes_back}");
        assert_eq!(pays.step(&stream, now).expect("open"), None, "the other may pay nothing");
    }
}

#[test]
fn the_next_is_woken_when_the_one_before_it_is_away_or_gone() {
    for is_gone in [false, true] {
        let (stage, stream, _socket) = blocked(Patience::Within(2_000_000));
        let (mut first, mut second) = (Publisher::ordinary("1"), Publisher::ordinary("2"));
        let now = stage.now;
        assert!(first.step(&stream, now).expect("open").is_some());
        let wait = || assert!(second.step(&stream, now).expect("open").is_some());
        let go = |()| if is_gone { first.leave(&stream, now) } else { first.step_aside(&stream, now) };
        assert!(is_woken(wait, go), "{is_gone}");
        let until = second.step(&stream, now).expect("open");
        assert_eq!(until == Some(now + 10 * MS), !is_gone, "its place is kept, or the next pays");
    }
}

#[test]
fn a_loop_behind_a_thread_that_begins_to_wait_for_sockets_is_woken_and_refused() {
    let mut stage = Stage::new(Pacing::default(), Patience::Lossless);
    let stream = stage.stream("s", StreamOptions { history: 2, heartbeat: None, ..StreamOptions::default() });
    let _full = stage.subscribe(&stream, Framing::Chunked, 0);
    let _healthy = stage.subscribe(&stream, Framing::Chunked, LARGE);
    stage.step(0, &[]);
    publish(&stream, b"0");
    stage.step(0, &[]);
    // So much that publishers do not run further ahead of the shard.
    publish(&stream, &vec![b'x'; 40_000]);
    let (mut thread, mut in_loop) = (Publisher::ordinary("2"), Publisher::new("3", Role::Ordinary, Caller::EventLoop));
    let now = stage.now;
    assert!(thread.step(&stream, now).expect("open").is_some(), "it waits for the shard");
    let wait = || assert!(in_loop.step(&stream, now).expect("open").is_some());
    let pay = |()| {
        stage.step(0, &[]);
        assert!(thread.step(&stream, now).expect("open").is_some(), "now it waits for a socket");
    };
    assert!(is_woken(wait, pay));
    assert!(matches!(in_loop.step(&stream, now), Err(PublishError::LoopWouldWait { .. })));
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

#[test]
fn a_stream_of_its_own_waits_for_its_reader_whatever_publishers_of_others_do() {
    for patience in [Patience::Within(0), Patience::Within(2_000_000), Patience::Lossless] {
        let mut stage = Stage::new(Pacing::default(), patience);
        let options = StreamOptions { history: 1, heartbeat: None, lossless: true, ..StreamOptions::default() };
        let stream = stage.stream("s", options);
        let socket = stage.subscribe(&stream, Framing::Chunked, 0);
        stage.step(0, &[]);
        publish(&stream, b"0");
        stage.step(0, &[]);
        let mut publisher = Publisher::ordinary("1");
        for _ in 0..100 {
            assert!(publisher.step(&stream, stage.now).expect("open").is_some(), "{patience:?}: it waits");
            // 25 s in all: more than publishers of other streams wait, and less than what has the reader cut.
            stage.step(250 * MS, &[]);
        }
        socket.0.borrow_mut().room = LARGE;
        stage.step(0, &[&socket]);
        assert_eq!(publisher.step(&stream, stage.now).expect("open"), None);
        stage.step(0, &[]);
        assert_eq!(data_of(&socket), ["0", "1"], "{patience:?}");
    }
}

#[test]
fn a_task_that_is_dropped_while_it_waits_leaves_its_place_to_others() {
    let (mut stage, stream, socket) = blocked(Patience::Lossless);
    let gone = NewEvent { data: b"gone", ..NewEvent::default() };
    let parts = [Part::Event(check(&gone).expect("an event"))];
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(async {
        let mut publishing = Box::pin(stream.publish_together(&parts, false, None));
        let polled = poll_fn(|cx| Poll::Ready(publishing.as_mut().poll(cx))).await;
        assert!(polled.is_pending() && stream.lock().is_paying(), "a socket is in its way");
        drop(publishing);
    });
    assert!(!stream.lock().is_paying(), "nobody waits for sockets any more");
    let mut other = Publisher::ordinary("1");
    assert!(other.step(&stream, stage.now).expect("open").is_some());
    assert!(stream.lock().is_paying(), "the next waits in its place");
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    assert_eq!(other.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!(data_of(&socket), ["0", "1"], "what was given up is not published");
}
