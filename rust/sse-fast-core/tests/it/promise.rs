//! The sentences of the delivery promise (DESIGN section 5), one test each.
//!
//! Scripts written out by hand where `delivery` draws them at random; sizes are the ones users
//! have. Every law of `reader`, `parser` and `shard` holds here too.

use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, Start, StreamPatch};

use crate::everything::Item;
use crate::peer::Peer;
use crate::shard::{HEARTBEAT, Shard};
use crate::world::{Publish, World};

const POLICIES: [OnLag; 3] = [OnLag::Skip, OnLag::Latest, OnLag::Disconnect];
const FRAMINGS: [Framing; 2] = [Framing::Chunked, Framing::Plain];

fn patch(history: usize, max_lag: u64, on_lag: OnLag) -> StreamPatch {
    StreamPatch {
        history: Some(history),
        max_lag: Some(max_lag),
        on_lag: Some(on_lag),
        start: Some(Start::All),
        ..StreamPatch::default()
    }
}

/// One reader, connected and served once, whose socket takes `capacity` bytes.
fn one_reader(patch: &StreamPatch, framing: Framing, capacity: usize, waits: bool) -> Shard {
    let mut shard = Shard::new(World::new(patch), vec![Peer::new(framing, capacity)], waits);
    shard.connect(0, None);
    shard.walk();
    shard
}

fn publish_many(shard: &mut Shard, count: usize, padding: usize) {
    for _ in 0..count {
        shard.publish(&Publish { padding, ..Publish::default() });
    }
}

fn received(shard: &Shard) -> &[u64] {
    &shard.peers[0].socket.reader.received
}

fn skipped(shard: &Shard) -> Vec<u64> {
    shard.peers[0].socket.reader.skipped.iter().copied().collect()
}

#[test]
fn within_history_every_subscriber_gets_every_event_once_in_order_across_reconnects() {
    for framing in FRAMINGS {
        let mut shard = one_reader(&patch(64, 64, OnLag::Skip), framing, 100, false);
        for round in 0..50 {
            publish_many(&mut shard, 1, round);
            shard.drain(0, 37);
            shard.walk();
            if round % 3 == 0 {
                shard.peers[0].disconnect();
                shard.connect(0, None);
            }
        }
        shard.unblock(0);
        shard.walk();
        assert_eq!(received(&shard), (1..=50).collect::<Vec<_>>());
        assert_eq!(skipped(&shard), []);
    }
}

#[test]
fn outside_history_a_subscriber_is_told_exactly_how_many_it_missed_before_anything_newer() {
    let mut shard = one_reader(&patch(5, 5, OnLag::Skip), Framing::Chunked, usize::MAX, false);
    publish_many(&mut shard, 3, 0);
    shard.walk();
    shard.peers[0].disconnect();
    publish_many(&mut shard, 17, 0);
    shard.connect(0, None);
    shard.walk();
    assert_eq!(received(&shard), [1, 2, 3, 16, 17, 18, 19, 20]);
    assert_eq!(skipped(&shard), (4..=15).collect::<Vec<_>>());
}

#[test]
fn a_blocked_subscriber_beyond_max_lag_is_told_and_goes_on_with_the_newest_max_lag_events() {
    let mut shard = one_reader(&patch(20, 4, OnLag::Skip), Framing::Chunked, 10, true);
    publish_many(&mut shard, 1, 0);
    shard.walk();
    publish_many(&mut shard, 17, 0);
    shard.unblock(0);
    shard.walk();
    // The first was half-written when the socket blocked.
    assert_eq!(received(&shard), [1, 15, 16, 17, 18]);
    assert_eq!(skipped(&shard), (2..=14).collect::<Vec<_>>());
}

#[test]
fn a_replay_that_fills_the_socket_is_no_lag() {
    for on_lag in POLICIES {
        let mut shard = one_reader(&patch(20, 4, on_lag), Framing::Chunked, 10, true);
        publish_many(&mut shard, 15, 0);
        shard.walk();
        publish_many(&mut shard, 4, 0);
        while received(&shard).len() < 19 {
            shard.drain(0, 7);
            shard.walk();
        }
        assert_eq!(received(&shard), (1..=19).collect::<Vec<_>>(), "{on_lag}");
    }
}

#[test]
fn a_blocked_subscriber_at_max_lag_is_left_alone() {
    for on_lag in POLICIES {
        let mut shard = one_reader(&patch(20, 4, on_lag), Framing::Plain, 10, true);
        publish_many(&mut shard, 1, 0);
        shard.walk();
        publish_many(&mut shard, 4, 0);
        shard.unblock(0);
        shard.walk();
        assert_eq!(received(&shard), [1, 2, 3, 4, 5], "{on_lag}");
    }
}

#[test]
fn with_latest_only_the_newest_follows_a_gap() {
    let mut shard = one_reader(&patch(20, 4, OnLag::Latest), Framing::Chunked, 10, true);
    publish_many(&mut shard, 1, 0);
    shard.walk();
    publish_many(&mut shard, 11, 0);
    shard.unblock(0);
    shard.walk();
    publish_many(&mut shard, 2, 0);
    shard.walk();
    assert_eq!(received(&shard), [1, 12, 13, 14]);
    assert_eq!(skipped(&shard), (2..=11).collect::<Vec<_>>());
}

#[test]
fn with_disconnect_the_connection_closes_and_a_resume_gets_what_is_held() {
    let mut shard = one_reader(&patch(20, 4, OnLag::Disconnect), Framing::Chunked, 10, true);
    publish_many(&mut shard, 1, 0);
    shard.walk();
    publish_many(&mut shard, 11, 0);
    shard.unblock(0);
    shard.walk();
    assert!(shard.peers[0].subscriber.is_none(), "closed, without a gap inside the connection");
    assert_eq!((received(&shard), shard.peers[0].live_gaps), (&[1][..], 0));
    shard.connect(0, None);
    shard.walk();
    assert_eq!(received(&shard), (1..=12).collect::<Vec<_>>(), "within history nothing is lost");
}

#[test]
fn snapshot_and_tail_lose_and_double_nothing() {
    for with_publish in [true, false] {
        let mut world = World::with_history(8, 0);
        for count in 1..=20u64 {
            world.publish(&Publish { snapshot: with_publish && count % 5 == 0, ..Publish::default() });
            if !with_publish && count % 5 == 0 {
                world.set_snapshot();
            }
            let snapshot = count / 5 * 5;
            let tail = (snapshot + 1..=count).map(Item::Event);
            let expected: Vec<Item> =
                Some(Item::Snapshot(snapshot)).filter(|_| snapshot > 0).into_iter().chain(tail).collect();
            assert_eq!(world.sees(None), expected, "at {count}");
        }
    }
}

#[test]
fn a_snapshot_and_its_event_appear_in_one_step() {
    let mut world = World::with_history(8, 3);
    let publish = Publish { snapshot: true, ..Publish::default() };
    let prepared = world.prepare(&publish);
    assert!(world.state.snapshot().is_none() && world.state.newest() == 3, "nothing changes before");
    world.append(&publish, prepared);
    assert_eq!(world.state.snapshot().map(|snapshot| snapshot.position), Some(world.state.newest()));
}

#[test]
fn the_newest_event_is_never_skipped() {
    for on_lag in POLICIES {
        for framing in FRAMINGS {
            // Each event alone is beyond the bound in bytes: only the newest is ever held.
            let patch = StreamPatch { history_bytes: Some(100), ..patch(4, 2, on_lag) };
            let mut shard = one_reader(&patch, framing, 150, false);
            publish_many(&mut shard, 9, 300);
            shard.walk();
            publish_many(&mut shard, 9, 300);
            shard.unblock(0);
            shard.walk();
            if shard.peers[0].subscriber.is_none() {
                shard.connect(0, None);
                shard.walk();
            }
            assert_eq!(received(&shard).last(), Some(&18), "{on_lag}");
            shard.peers[0].socket.reader.check_account(18);
        }
    }
}

#[test]
fn the_terminal_event_outlives_every_bound() {
    let patch = StreamPatch { history_bytes: Some(1), ..patch(3, 3, OnLag::Skip) };
    let mut world = World::new(&patch);
    world.publish_many(5);
    world.end();
    world.set_options(&StreamPatch { history: Some(1), ..StreamPatch::default() });
    assert_eq!(world.sees(Some("s44we8-5")), [Item::Event(6)]);
    assert_eq!(world.sees(None), [Item::Gap(Some((1, 5))), Item::Event(6)]);
}

#[test]
fn a_healthy_subscriber_gets_a_loop_of_ten_thousand_publishes_whole() {
    for on_lag in POLICIES {
        let mut shard = one_reader(&patch(256, 256, on_lag), Framing::Chunked, usize::MAX, true);
        publish_many(&mut shard, 10_000, 0);
        shard.walk();
        assert_eq!(received(&shard).len(), 10_000, "{on_lag}");
        assert_eq!((skipped(&shard), shard.peers[0].live_gaps), (Vec::new(), 0));
    }
}

#[test]
fn a_publish_that_never_waits_overtakes_and_tells() {
    let mut shard = one_reader(&patch(256, 16, OnLag::Skip), Framing::Chunked, usize::MAX, false);
    publish_many(&mut shard, 1000, 0);
    shard.walk();
    // Everything the log still holds is given: max_lag is for the blocked.
    assert_eq!(received(&shard), (745..=1000).collect::<Vec<_>>());
    assert_eq!(skipped(&shard), (1..=744).collect::<Vec<_>>());
}

#[test]
fn a_dead_subscriber_delays_nobody_and_costs_a_bounded_number_of_bytes() {
    let peers = vec![Peer::new(Framing::Chunked, usize::MAX), Peer::new(Framing::Chunked, 20)];
    let mut shard = Shard::new(World::new(&patch(16, 16, OnLag::Skip)), peers, true);
    shard.connect(0, None);
    shard.connect(1, None);
    for count in 1..=2000 {
        publish_many(&mut shard, 1, 100);
        shard.walk();
        assert_eq!(received(&shard).len(), count, "the other has it at once");
        assert!(shard.peers[1].held_bytes() < 200, "what is half-written, and no more");
    }
}

#[test]
fn a_half_written_frame_is_completed_after_the_log_evicted_it() {
    for framing in FRAMINGS {
        let mut shard = one_reader(&patch(2, 2, OnLag::Skip), framing, 25, false);
        publish_many(&mut shard, 1, 90);
        shard.walk();
        publish_many(&mut shard, 10, 90);
        assert!(shard.world.state.log().get(1).is_none(), "evicted");
        shard.unblock(0);
        shard.walk();
        assert_eq!(received(&shard), [1, 10, 11]);
        assert_eq!(skipped(&shard), (2..=9).collect::<Vec<_>>());
    }
}

#[test]
fn events_larger_than_a_batch_arrive_whole_through_any_socket() {
    for (framing, room) in [(Framing::Chunked, usize::MAX), (Framing::Plain, 70_001)] {
        let mut shard = one_reader(&patch(16, 16, OnLag::Skip), framing, room, false);
        for padding in [200_000, 10, 60_000, 60_000, 60_000, 0, 131_000] {
            publish_many(&mut shard, 1, padding);
        }
        for _ in 0..12 {
            shard.walk();
            shard.drain(0, room);
        }
        assert_eq!(received(&shard), [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn a_publisher_that_is_silent_does_not_silence_heartbeats() {
    let peers = vec![Peer::new(Framing::Chunked, usize::MAX), Peer::new(Framing::Plain, usize::MAX)];
    let mut shard = Shard::new(World::new(&patch(16, 16, OnLag::Skip)), peers, true);
    shard.connect(0, None);
    shard.connect(1, None);
    for _ in 0..10 * HEARTBEAT {
        shard.tick();
    }
    let beats: Vec<_> = shard.peers.iter().map(|peer| (peer.heartbeats, peer.socket.parser.comments)).collect();
    assert_eq!(beats, [(10, 10), (10, 10)]);
}

#[test]
fn a_stalled_subscriber_gets_no_heartbeat_inside_its_frame() {
    let mut shard = one_reader(&patch(16, 16, OnLag::Skip), Framing::Plain, 30, true);
    publish_many(&mut shard, 1, 100);
    shard.walk();
    for _ in 0..3 * HEARTBEAT {
        shard.drain(0, 1);
        shard.tick();
    }
    assert_eq!(shard.peers[0].heartbeats, 0);
    shard.unblock(0);
    shard.walk();
    assert_eq!(received(&shard), [1]);
}
