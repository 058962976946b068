//! The sentences of the delivery promise (DESIGN section 5) that a stream keeps by itself, one test each.
//!
//! Those that take a socket are kept by the shard: the server's simulation has a test for each.

use sse_fast_core::options::{OnLag, Start, StreamPatch};
use sse_fast_oracle::content::Publish;
use sse_fast_oracle::everything::Item;

use crate::world::World;

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
fn the_terminal_event_outlives_every_bound() {
    let patch = StreamPatch {
        history: Some(3),
        history_bytes: Some(1),
        on_lag: Some(OnLag::Skip),
        start: Some(Start::All),
        ..StreamPatch::default()
    };
    let mut world = World::new(&patch);
    world.publish_many(5);
    world.end();
    world.set_options(&StreamPatch { history: Some(1), ..StreamPatch::default() });
    assert_eq!(world.sees(Some("s44we8-5")), [Item::Event(6)]);
    assert_eq!(world.sees(None), [Item::Gap(Some((1, 5))), Item::Event(6)]);
}
