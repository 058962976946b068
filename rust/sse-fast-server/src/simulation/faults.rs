//! Faults that were found, each with the test that fails where it comes back.
//!
//! They lie between threads and between steps: what the simulation draws at random is written out here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, StreamPatch};
use sse_fast_oracle::content::Publish;

use super::hand::{EVERYTHING, IMPATIENT, PATIENT, W, ms, patch, publish, world};
use super::inside::InProcess;
use super::stage::What;
use super::times::{MS, SECOND, STALL};
use crate::delivery::Patience;
use crate::mailbox::Wake;
use crate::stream::{Stream, Wakeups};

#[test]
fn one_that_comes_while_a_walk_is_queued_gets_what_is_published_before_it_begins() {
    for is_last in [false, true] {
        let mut world = world(&patch(64, 64, OnLag::Skip), PATIENT);
        for _ in 0..6 {
            world.client(Framing::Chunked, EVERYTHING);
        }
        let late = world.add_client(Framing::Chunked, EVERYTHING, 0);
        // Two sends are between two takings of the mail: the walk that is queued at the end of the step has begun over six.
        for _ in 0..20 {
            world.publish_by(0, 0);
            world.step(0);
            world.connect(late, None, 0, false);
            world.publish_by(1, 0);
        }
        if is_last {
            world.act(&What::End { account: 2 }.on(0));
        }
        world.settle();
        let newest = world.stage.streams.borrow()[0].all.newest();
        assert_eq!(world.received(late).last(), Some(&newest));
        assert_eq!(world.clients[late].finished, is_last);
    }
}

#[test]
fn one_that_comes_while_its_stream_rests_gets_the_terminal_event() {
    let mut world = world(&patch(64, 64, OnLag::Skip), PATIENT);
    for _ in 0..7 {
        world.client(Framing::Chunked, EVERYTHING);
    }
    world.publish_by(0, 0);
    world.step(0);
    // The walk is under way for six milliseconds, and finds news at its end.
    world.jam(6 * MS);
    world.publish_by(1, 0);
    world.settle();
    let late = world.add_client(Framing::Chunked, EVERYTHING, 0);
    world.connect(late, None, 0, false);
    world.settle();
    world.act(&What::End { account: 0 }.on(0));
    world.advance(11 * MS);
    assert!(world.clients.iter().all(|client| client.finished));
}

#[test]
fn one_that_was_full_is_waited_for_from_the_moment_it_recovers() {
    // Without patience nobody is waited for whose socket is full: what is owed to one that recovers shows alone.
    let mut world = world(&patch(2, 2, OnLag::Skip), IMPATIENT);
    let at = world.client(Framing::Chunked, 40);
    world.publish(3, 60);
    // The first write ends what was begun. While the second gives it 2 and 3, four threads publish.
    for account in 1..5 {
        world.stage.later(1, publish(account, 0));
    }
    world.takes_all(at);
    world.wait_for_publishers();
    world.settle();
    assert_eq!(world.received(at), (1..=7).collect::<Vec<_>>());
    assert_eq!(world.clients[at].live_gaps, 0);
}

#[test]
fn one_that_was_full_is_waited_for_beside_another_that_stays_full() {
    let mut world = world(&patch(4, 4, OnLag::Skip), PATIENT);
    let at = world.client(Framing::Chunked, 200);
    let _dead = world.client(Framing::Chunked, 25);
    world.publish(3, 60);
    world.takes_all(at);
    for _ in 0..500 {
        world.publish_by(0, 0);
        if world.is_waited() {
            world.wait_for_publishers();
        }
    }
    world.settle();
    assert_eq!((world.received(at).len(), world.clients[at].live_gaps), (503, 0));
}

#[test]
fn one_that_comes_is_owed_everything_while_it_is_given_the_beginning() {
    let mut world = world(&patch(3, 3, OnLag::Skip), PATIENT);
    world.publish(3, 40);
    for account in 0..4 {
        world.stage.later(0, publish(account, 0));
    }
    let at = world.client(Framing::Chunked, EVERYTHING);
    world.wait_for_publishers();
    world.settle();
    assert_eq!(world.received(at), (1..=7).collect::<Vec<_>>());
}

#[test]
fn a_reader_in_the_process_is_told_of_every_gap_under_every_policy() {
    for on_lag in [OnLag::Skip, OnLag::Latest, OnLag::Disconnect] {
        let mut world = world(&patch(10, 4, on_lag), PATIENT);
        let mut inside = InProcess::new(&world.stage, 0).unwrap();
        world.publish(100, 0);
        assert!(inside.read(&world.stage, 200), "it comes to the newest");
        assert_eq!(inside.laws.received.last(), Some(&100), "{on_lag}");
        assert!(!inside.laws.skipped.is_empty() && inside.laws.skipped.contains(&1));
    }
}

#[test]
fn a_heartbeat_given_later_is_in_force_for_those_who_are_there() {
    let mut world = world(&StreamPatch { heartbeat: ms(15_000), ..patch(4, 4, OnLag::Skip) }, PATIENT);
    let at = world.client(Framing::Chunked, EVERYTHING);
    world.configure(StreamPatch { heartbeat: ms(500), ..StreamPatch::default() });
    world.advance(2 * SECOND);
    assert!(world.clients[at].parser.comments >= 3);
    world.configure(StreamPatch { heartbeat: Some(None), ..StreamPatch::default() });
    world.advance(100 * MS);
    let before = world.clients[at].parser.comments;
    world.advance(20 * SECOND);
    assert_eq!(world.clients[at].parser.comments, before, "switched off");
}

#[test]
fn an_override_is_in_force_for_a_first_subscriber() {
    for is_before in [true, false] {
        let mut world = world(&StreamPatch { heartbeat: ms(15_000), ..patch(4, 4, OnLag::Skip) }, PATIENT);
        let at = world.add_client(Framing::Chunked, EVERYTHING, 0);
        let deed = What::Override { every: Duration::from_millis(100) }.on(0);
        if is_before {
            world.act(&deed);
        } else {
            // While its head is written: it was counted, and its heartbeat was found, a moment ago.
            world.stage.later(0, deed);
        }
        world.connect(at, None, 0, false);
        world.settle();
        world.advance(SECOND);
        assert!(world.clients[at].parser.comments >= 9, "{}", world.clients[at].parser.comments);
    }
}

#[test]
fn an_override_beside_an_arrival_is_in_force_for_those_who_were_there() {
    let mut world = world(&StreamPatch { heartbeat: ms(15_000), ..patch(4, 4, OnLag::Skip) }, PATIENT);
    let at = world.client(Framing::Chunked, EVERYTHING);
    world.act(&What::Override { every: Duration::from_millis(100) }.on(0));
    world.client(Framing::Plain, EVERYTHING);
    world.advance(SECOND);
    assert!(world.clients[at].parser.comments >= 9);
}

#[test]
fn an_event_of_a_connection_that_is_closed_never_reaches_the_next_one_in_its_place() {
    let mut world = world(&patch(4, 4, OnLag::Skip), PATIENT);
    let gone = world.client(Framing::Chunked, 30);
    let token = |world: &super::world::World, at: usize| {
        world.clients[at].wire.as_ref().and_then(|wire| wire.borrow().registered).unwrap()
    };
    world.publish(1, 100);
    let old = token(&world, gone);
    // With bytes that nobody will read: a reset, and the event says so.
    world.leave(gone);
    world.settle();
    let next = world.client(Framing::Chunked, EVERYTHING);
    assert_eq!(token(&world, next).index, old.index, "the place is taken again");
    for ago in 0..6 {
        world.repeat(0, ago);
        world.settle();
    }
    assert!(world.is_connected(next));
    world.publish(3, 0);
    assert_eq!(world.received(next), [1, 2, 3, 4]);
}

#[test]
fn a_shard_that_has_ended_gives_connections_back_and_nobody_is_counted_on_it() {
    for fails in [true, false] {
        let mut world = world(&patch(1, 1, OnLag::Skip), PATIENT);
        let at = world.client(Framing::Chunked, EVERYTHING);
        let emptied = world.stage.streams.borrow()[0].stream.emptied();
        if fails {
            world.client(Framing::Chunked, 30);
            world.publish(1, 50);
            world.publish_by(0, 0);
            world.publish_by(1, 0);
            assert!(world.is_waited());
            world.fail(0);
            world.stage.step_publishers(false);
            assert!(!world.is_waited(), "nobody is left to wait for");
        } else {
            world.drain(SECOND);
        }
        world.settle();
        world.read(at, EVERYTHING);
        assert!(!world.shards[0].handle.is_open());
        world.clients[at].finished = false;
        world.connect(at, None, 0, false);
        assert!(!world.is_connected(at), "it was given back and closed");
        let stream = world.stage.streams.borrow()[0].stream.clone();
        assert_eq!(stream.subscribers(), 0);
        assert!({ emptied }.try_recv().is_ok(), "the last subscriber has left");
        assert!(stream.remove_if_idle(), "nobody is on the way");
        world.check_nothing_is_left();
    }
}

/// A wake-up that looks whether the lock is held.
struct Heard {
    stream: Arc<std::sync::OnceLock<Stream>>,
    count: Arc<AtomicU32>,
    was_locked: Arc<AtomicBool>,
}

impl Wake for Heard {
    fn wake(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let is_locked = self.stream.get().is_some_and(Stream::is_locked);
        self.was_locked.fetch_or(is_locked, Ordering::Relaxed);
    }
}

#[test]
fn an_event_loop_is_woken_once_and_never_under_the_streams_lock() {
    let mut world = world(&patch(4, 4, OnLag::Skip), PATIENT);
    let stream = world.stage.streams.borrow()[0].stream.clone();
    let (count, was_locked) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let heard = Arc::new(std::sync::OnceLock::from(stream.clone()));
    let wake = Heard { stream: heard, count: Arc::clone(&count), was_locked: Arc::clone(&was_locked) };
    let wakeups = Wakeups::waking(wake).unwrap();
    let watches: Vec<_> = (0..5).map(|token| stream.watch(&wakeups, token)).collect();
    world.publish(20, 0);
    assert_eq!(count.load(Ordering::Relaxed), 1, "one wake-up for all of them");
    let mut tokens = wakeups.take();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3, 4]);
    watches.iter().for_each(crate::stream::Watch::rearm);
    for deed in [publish(0, 0), What::End { account: 0 }.on(0)] {
        world.act(&deed);
        assert_eq!(wakeups.take().len(), 5);
        watches.iter().for_each(crate::stream::Watch::rearm);
    }
    assert_eq!(count.load(Ordering::Relaxed), 3);
    assert!(!was_locked.load(Ordering::Relaxed), "a wake-up is written without the lock");
}

#[test]
fn a_terminal_event_that_a_snapshot_covers_is_given_all_the_same() {
    let mut world = world(&patch(8, 8, OnLag::Skip), PATIENT);
    world.publish(3, 0);
    world.stage.publish(0, 0, &Publish { snapshot: true, ..Publish::default() }, true);
    let at = world.client(Framing::Chunked, EVERYTHING);
    assert_eq!(world.received(at), [4]);
    assert!(world.clients[at].finished);
}

#[test]
fn publishers_do_not_wait_for_a_shard_that_can_offer_nothing_to_anybody() {
    let mut world = world(&patch(256, 256, OnLag::Skip), PATIENT);
    let _full = world.client(Framing::Chunked, 25);
    world.publish(1, 100);
    // Together more than one batch, before the shard looks; a walk lays out the first alone.
    world.publish_by(0, 20_000);
    world.publish_by(1, 140_000);
    let began = world.now();
    world.publish(1, 0);
    assert!(world.now() - began <= W, "{}", world.now() - began);
}

#[test]
fn a_full_socket_is_closed_in_time_though_its_heartbeat_is_longer_than_a_stall() {
    let mut world = world(&StreamPatch { heartbeat: ms(60_000), ..patch(4, 4, OnLag::Skip) }, IMPATIENT);
    let at = world.client(Framing::Chunked, 30);
    world.publish(1, 100);
    world.advance(STALL + 60 * MS);
    world.read(at, EVERYTHING);
    assert!(!world.is_connected(at));
}

#[test]
fn a_policy_given_later_makes_publishers_wait_for_those_whose_sockets_are_full() {
    let mut world = world(&patch(1, 1, OnLag::Latest), Patience::Lossless);
    let at = world.client(Framing::Chunked, 30);
    world.publish(1, 60);
    // A publisher asks, and hears that nobody is waited for.
    world.publish(2, 0);
    world.settle();
    world.publish_by(0, 0);
    assert!(!world.is_waited(), "it wants the newest alone");
    world.settle();
    world.configure(StreamPatch {
        history: Some(4),
        max_lag: Some(4),
        on_lag: Some(OnLag::Skip),
        ..StreamPatch::default()
    });
    world.settle();
    for account in 0..6 {
        world.publish_by(account, 0);
    }
    assert!(world.is_waited(), "now it wants them all");
    world.takes_all(at);
    world.wait_for_publishers();
    world.settle();
    let newest = world.stage.streams.borrow()[0].all.newest();
    assert_eq!(world.received(at).last(), Some(&newest));
}

#[test]
fn a_move_takes_over_a_connection_that_stopped_inside_a_frame() {
    for framing in super::hand::FRAMINGS {
        let mut world = world(&StreamPatch { heartbeat: ms(100), ..patch(8, 8, OnLag::Skip) }, PATIENT);
        world.publish(3, 0);
        let at = world.add_client(framing, 42, 0);
        world.connect(at, None, 0, true);
        // Its heartbeats fill the socket, and stop within one.
        world.advance(SECOND);
        world.answer(at, None);
        world.settle();
        for _ in 0..40 {
            world.drains(at, 11);
        }
        assert_eq!(world.received(at), [1, 2, 3]);
        assert!(world.clients[at].parser.comments >= 1);
    }
}

#[test]
fn the_end_comes_whole_wherever_the_socket_stops() {
    for framing in super::hand::FRAMINGS {
        for capacity in 20..130 {
            let mut world = world(&patch(8, 8, OnLag::Skip), PATIENT);
            let at = world.client(framing, capacity);
            world.publish(1, 0);
            world.act(&What::End { account: 0 }.on(0));
            for _ in 0..140 {
                world.drains(at, 1);
            }
            assert_eq!(world.received(at), [1, 2], "{capacity}");
            assert!(world.clients[at].finished);
        }
    }
}

#[test]
fn a_publisher_that_joins_others_pays_from_then_on() {
    let mut world = world(&patch(1, 1, OnLag::Skip), PATIENT);
    for _ in 0..8 {
        world.client(Framing::Chunked, 40);
    }
    world.publish(1, 100);
    world.publish_by(0, 100);
    world.publish_by(1, 100);
    world.settle();
    world.pass(30 * MS);
    world.publish_by(2, 100);
    world.wait_for_publishers();
    let now = world.now();
    let [first, third] = [1, 2].map(|account| world.stage.publishers.borrow().paid_by(account, now));
    assert!(third + 30 * MS <= first, "{third} and {first}");
}

#[test]
fn one_that_has_used_up_its_share_of_a_minute_is_not_waited_for_though_it_had_everything_between() {
    let mut world = world(&patch(1, 1, OnLag::Skip), PATIENT);
    let at = world.client(Framing::Chunked, 60);
    for _ in 0..60 {
        for account in 0..3 {
            world.publish_by(account, 100);
            world.settle();
        }
        world.advance(12 * MS);
        for _ in 0..20 {
            world.drains(at, EVERYTHING);
        }
        world.wait_for_publishers();
    }
    let paid = world.paid();
    assert!((W / 2 - 20 * MS..=W / 2 + 30 * MS).contains(&paid), "{paid} of {W}");
}
