//! The sentences of the delivery promise about what a reader gets, one test each, over real shards.
//!
//! Whom publishers wait for is in `patience`. Scripts are written out by hand here, where `script` draws them at random. Every law
//! of the oracle, of `client` and of `check` holds, too.

use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, StreamPatch};

use super::hand::{EVERYTHING, FRAMINGS, IMPATIENT, PATIENT, POLICIES, ms, patch, publish, world};
use super::stage::What;
use super::times::{MS, SECOND};
use crate::delivery::Patience;

#[test]
fn within_history_every_subscriber_gets_every_event_once_in_order_across_reconnects() {
    for framing in FRAMINGS {
        let mut world = world(&patch(64, 64, OnLag::Skip), IMPATIENT);
        let at = world.client(framing, 100);
        for round in 0..50 {
            world.publish(1, round);
            world.drains(at, 37);
            if round % 3 == 0 {
                world.leave(at);
                world.settle();
                world.connect(at, None, 0, false);
            }
        }
        world.takes_all(at);
        assert_eq!(world.received(at), (1..=50).collect::<Vec<_>>());
        assert!(world.skipped(at).is_empty());
    }
}

#[test]
fn outside_history_a_subscriber_is_told_exactly_how_many_it_missed_before_anything_newer() {
    let mut world = world(&patch(5, 5, OnLag::Skip), PATIENT);
    let at = world.client(Framing::Chunked, EVERYTHING);
    world.publish(3, 0);
    world.leave(at);
    world.settle();
    world.publish(17, 0);
    world.connect(at, None, 0, false);
    world.settle();
    assert_eq!(world.received(at), [1, 2, 3, 16, 17, 18, 19, 20]);
    assert_eq!(world.skipped(at), (4..=15).collect::<Vec<_>>());
}

#[test]
fn a_full_subscriber_beyond_max_lag_is_told_and_goes_on_with_the_newest_max_lag_events() {
    let mut world = world(&patch(20, 4, OnLag::Skip), IMPATIENT);
    let at = world.client(Framing::Chunked, 30);
    world.publish(18, 0);
    world.takes_all(at);
    // The first was half-written when the socket filled.
    assert_eq!(world.received(at), [1, 15, 16, 17, 18]);
    assert_eq!(world.skipped(at), (2..=14).collect::<Vec<_>>());
}

#[test]
fn a_full_subscriber_at_max_lag_is_left_alone() {
    for on_lag in POLICIES {
        let mut world = world(&patch(20, 4, on_lag), IMPATIENT);
        let at = world.client(Framing::Plain, 30);
        world.publish(5, 0);
        world.takes_all(at);
        assert_eq!(world.received(at), [1, 2, 3, 4, 5], "{on_lag}");
    }
}

#[test]
fn a_replay_that_fills_the_socket_is_no_lag() {
    for on_lag in POLICIES {
        let mut world = world(&patch(20, 4, on_lag), IMPATIENT);
        world.publish(15, 0);
        let at = world.client(Framing::Chunked, 30);
        world.publish(4, 0);
        for _ in 0..200 {
            world.drains(at, 7);
        }
        assert_eq!(world.received(at), (1..=19).collect::<Vec<_>>(), "{on_lag}");
    }
}

#[test]
fn with_latest_only_the_newest_follows_a_gap() {
    let mut world = world(&patch(20, 4, OnLag::Latest), PATIENT);
    let at = world.client(Framing::Chunked, 30);
    world.publish(12, 0);
    world.takes_all(at);
    world.publish(2, 0);
    assert_eq!(world.received(at), [1, 12, 13, 14]);
    assert_eq!(world.skipped(at), (2..=11).collect::<Vec<_>>());
}

#[test]
fn with_disconnect_the_connection_closes_also_one_that_takes_nothing_and_a_resume_gets_what_is_held() {
    let mut world = world(&patch(20, 4, OnLag::Disconnect), IMPATIENT);
    let at = world.client(Framing::Chunked, 30);
    world.publish(5, 0);
    world.drains(at, 0);
    assert!(world.is_connected(at), "its lag is max_lag");
    world.publish(1, 0);
    world.drains(at, EVERYTHING);
    assert!(!world.is_connected(at), "closed as soon as its lag is beyond max_lag");
    assert_eq!((world.received(at), world.clients[at].live_gaps), (&[][..], 0), "without a gap inside the connection");
    world.clients[at].capacity = EVERYTHING;
    world.connect(at, None, 0, false);
    world.settle();
    assert_eq!(world.received(at), (1..=6).collect::<Vec<_>>(), "within history nothing is lost");
}

#[test]
fn the_newest_event_is_never_skipped() {
    for on_lag in POLICIES {
        for framing in FRAMINGS {
            // Each event alone is beyond the bound in bytes: only the newest is ever held.
            let patch = StreamPatch { history_bytes: Some(100), ..patch(4, 2, on_lag) };
            let mut world = world(&patch, IMPATIENT);
            let at = world.client(framing, 150);
            world.publish(18, 300);
            world.takes_all(at);
            if !world.is_connected(at) {
                world.connect(at, None, 0, false);
                world.settle();
            }
            assert_eq!(world.received(at).last(), Some(&18), "{on_lag}");
            world.clients[at].reader.check_account(18);
        }
    }
}

#[test]
fn the_terminal_event_reaches_whoever_comes_and_whoever_lags() {
    for on_lag in POLICIES {
        let mut world = world(&patch(4, 2, on_lag), IMPATIENT);
        let full = world.client(Framing::Chunked, 30);
        world.publish(9, 50);
        world.act(&What::End { account: 0 }.on(0));
        let late = world.client(Framing::Plain, EVERYTHING);
        world.takes_all(full);
        for at in [full, late] {
            // Where readers may be closed for their lag an end is no proof: it asks again.
            world.connect(at, None, 0, false);
        }
        world.settle();
        for at in [full, late] {
            assert_eq!(world.received(at).last(), Some(&10), "{on_lag}");
            assert!(world.clients[at].finished, "then its end");
        }
    }
}

#[test]
fn a_snapshot_and_its_tail_are_atomic_for_one_who_comes_between() {
    let mut world = world(&patch(8, 8, OnLag::Skip), PATIENT);
    let _other = world.client(Framing::Chunked, EVERYTHING);
    for _ in 0..12 {
        let at = world.add_client(Framing::Chunked, EVERYTHING, 0);
        world.stage.later(1, What::Snapshot.on(0));
        world.stage.later(2, publish(1, 10));
        world.connect(at, None, 0, false);
        world.publish(1, 0);
        // What each saw is held against the oracle of the moment in which it was opened.
        world.clients[at].reader.check_account(world.stage.streams.borrow()[0].all.newest());
    }
}

#[test]
fn a_writable_subscriber_gets_a_loop_of_ten_thousand_publishes_whole_whatever_the_patience() {
    for patience in [IMPATIENT, PATIENT, Patience::Lossless] {
        for on_lag in POLICIES {
            let mut world = world(&patch(256, 1, on_lag), patience);
            let at = world.client(Framing::Chunked, EVERYTHING);
            for _ in 0..10_000 {
                world.publish_by(0, 0);
                if world.is_waited() {
                    world.settle();
                }
            }
            world.settle();
            assert_eq!(world.received(at).len(), 10_000, "{on_lag}");
            assert_eq!((world.clients[at].live_gaps, world.paid()), (0, 0), "it costs no budget");
        }
    }
}

#[test]
fn a_full_subscriber_costs_the_rest_of_one_frame() {
    for framing in FRAMINGS {
        let mut world = world(&patch(64, 64, OnLag::Skip), PATIENT);
        let at = world.client(framing, EVERYTHING);
        world.publish(20, 0);
        // Its socket has room for a part of the first of those that one write carries.
        world.clients[at].capacity = 10;
        world.clients[at].wire.as_ref().unwrap().borrow_mut().capacity = 10;
        for account in 0..6 {
            world.publish_by(account, 0);
        }
        // `check` holds what is kept to the largest block.
        world.settle();
        world.takes_all(at);
        assert_eq!(world.received(at), (1..=26).collect::<Vec<_>>());
    }
}

#[test]
fn a_half_written_frame_is_completed_after_the_log_evicted_it() {
    for framing in FRAMINGS {
        let mut world = world(&patch(2, 2, OnLag::Skip), IMPATIENT);
        let at = world.client(framing, 45);
        world.publish(11, 90);
        assert!(world.stage.streams.borrow()[0].stream.lock().state.log().get(1).is_none(), "evicted");
        world.takes_all(at);
        assert_eq!(world.received(at), [1, 10, 11]);
        assert_eq!(world.skipped(at), (2..=9).collect::<Vec<_>>());
    }
}

#[test]
fn events_larger_than_a_batch_arrive_whole_through_any_socket() {
    for (framing, room) in [(Framing::Chunked, EVERYTHING), (Framing::Plain, 70_001)] {
        let mut world = world(&patch(16, 16, OnLag::Skip), PATIENT);
        let at = world.client(framing, room);
        for padding in [200_000, 10, 60_000, 60_000, 60_000, 0, 131_000] {
            world.publish_by(0, padding);
            for _ in 0..5 {
                world.drains(at, room);
            }
        }
        world.takes_all(at);
        assert_eq!(world.received(at), [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn a_publisher_that_is_silent_does_not_silence_heartbeats() {
    let mut world = world(&StreamPatch { heartbeat: ms(800), ..patch(16, 16, OnLag::Skip) }, PATIENT);
    let at = FRAMINGS.map(|framing| world.client(framing, EVERYTHING));
    world.advance(8 * SECOND + 30 * MS);
    for at in at {
        assert_eq!(world.clients[at].parser.comments, 10, "one every 800 ms, and no more");
    }
}

#[test]
fn a_full_subscriber_gets_no_heartbeat_inside_its_frame() {
    let mut world = world(&StreamPatch { heartbeat: ms(100), ..patch(16, 16, OnLag::Skip) }, PATIENT);
    let at = world.client(Framing::Plain, 40);
    world.publish(1, 200);
    for _ in 0..100 {
        world.advance(40 * MS);
        world.drains(at, 1);
    }
    assert_eq!(world.clients[at].parser.comments, 0);
    world.takes_all(at);
    assert_eq!(world.received(at), [1]);
}

#[test]
fn the_innermost_override_is_the_heartbeat_whatever_the_order_in_which_they_end() {
    let mut world = world(&StreamPatch { heartbeat: ms(15_000), ..patch(16, 16, OnLag::Skip) }, PATIENT);
    let at = world.client(Framing::Chunked, EVERYTHING);
    let beats = |world: &mut super::world::World, seconds| {
        let before = world.clients[at].parser.comments;
        world.advance(seconds * SECOND + 50 * MS);
        world.clients[at].parser.comments - before
    };
    world.act(&What::Override { every: std::time::Duration::from_secs(1) }.on(0));
    assert_eq!(beats(&mut world, 4), 4);
    world.act(&What::Override { every: std::time::Duration::from_millis(100) }.on(0));
    assert!(beats(&mut world, 1) >= 9);
    assert_eq!(world.clients[at].parser.comment, ": overridden");
    world.act(&What::EndOverride { which: 0 }.on(0));
    assert!(beats(&mut world, 1) >= 9, "the inner one is still in force");
    world.act(&What::EndOverride { which: 0 }.on(0));
    assert_eq!(beats(&mut world, 10), 0, "fifteen seconds again");
}

#[test]
fn one_that_has_shut_its_side_gets_what_there_is_then_the_end() {
    for capacity in [EVERYTHING, 60] {
        let mut world = world(&patch(16, 16, OnLag::Skip), PATIENT);
        let at = world.client(Framing::Chunked, capacity);
        world.publish(5, 50);
        world.half_close(at);
        for _ in 0..60 {
            world.drains(at, 20);
        }
        assert_eq!(world.received(at), [1, 2, 3, 4, 5]);
        assert!(!world.is_connected(at) && world.clients[at].parser.is_closed(), "the last chunk came");
    }
}

#[test]
fn one_that_spoke_unasked_and_shut_its_side_gets_the_last_bytes_of_an_ended_stream() {
    let mut world = world(&patch(16, 16, OnLag::Skip), PATIENT);
    world.publish(5, 0);
    world.act(&What::End { account: 0 }.on(0));
    let at = world.add_client(Framing::Chunked, 4000, 0);
    world.connect(at, None, 0, false);
    // What a shard has not read when it closes the socket destroys what its reader has not read.
    world.say(at, 2);
    world.half_close(at);
    world.settle();
    world.read(at, EVERYTHING);
    assert_eq!(world.received(at), [1, 2, 3, 4, 5, 6]);
    assert!(world.clients[at].parser.is_closed(), "the last chunk came");
}

#[test]
fn one_that_speaks_while_its_end_is_under_way_gets_it_whole_in_a_drain() {
    let mut world = world(&patch(16, 16, OnLag::Skip), PATIENT);
    let at = world.client(Framing::Chunked, 4000);
    world.publish(5, 0);
    world.act(&What::End { account: 0 }.on(0));
    world.settle();
    world.say(at, 2);
    world.drain(SECOND);
    world.settle();
    world.read(at, EVERYTHING);
    assert_eq!(world.received(at), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_drain_gives_everybody_what_was_published_then_the_end_and_cuts_the_others_in_time() {
    let mut world = world(&patch(64, 64, OnLag::Skip), PATIENT);
    let at = [EVERYTHING, 60, 60].map(|capacity| world.client(Framing::Chunked, capacity));
    for _ in 0..20 {
        world.publish_by(0, 50);
    }
    world.drain(SECOND);
    for _ in 0..100 {
        world.advance(5 * MS);
        world.drains(at[1], 60);
    }
    for reader in [at[0], at[1]] {
        assert_eq!(world.received(reader).len(), 20);
        assert!(!world.is_connected(reader) && world.clients[reader].parser.is_closed());
    }
    world.advance(SECOND);
    world.read(at[2], EVERYTHING);
    assert!(!world.is_connected(at[2]) && !world.clients[at[2]].parser.is_closed(), "it sees a cut, which it is");
    assert!(world.shards[0].shard.is_none(), "and the shard stops");
    world.check_nothing_is_left();
}
