//! Faults that the oracle found, each with the test that failed before it was mended.
//!
//! They are about the seams: between a snapshot and its tail, between two lives of a name, between
//! the terminal event and everything else, between a batch and the log it was laid out from.

use sse_fast_core::batch::Batch;
use sse_fast_core::cursor::{self, Opening};
use sse_fast_core::frame::Framing;
use sse_fast_oracle::content::Publish;
use sse_fast_oracle::everything::Item;
use sse_fast_oracle::parser::Parser;

use crate::world::World;

/// A stream whose snapshot at 2 is followed by more events than it retains: 3 to 10 of 12 are gone.
fn with_a_snapshot_long_ago() -> World {
    let mut world = World::with_history(2, 2);
    world.set_snapshot();
    world.publish_many(10);
    world
}

#[test]
fn a_reader_of_another_life_is_told_of_the_gap_between_snapshot_and_tail() {
    let world = with_a_snapshot_long_ago();
    let new = world.sees(None);
    assert_eq!(new, [Item::Snapshot(2), Item::Gap(Some((3, 10))), Item::Event(11), Item::Event(12)]);
    let lost: Vec<Item> = [Item::Gap(None)].into_iter().chain(new).collect();
    assert_eq!(world.sees(Some("elsewhere-5")), lost, "a gap, then what a new subscriber gets");
}

#[test]
fn a_resumed_reader_is_never_taken_back_in_time() {
    let world = with_a_snapshot_long_ago();
    let id = world.all.id_of(6);
    // The snapshot at 2 would undo 3 to 6, which the reader has and will not be given again.
    assert_eq!(world.sees(Some(&id)), [Item::Gap(Some((7, 10))), Item::Event(11), Item::Event(12)]);
}

#[test]
fn a_snapshot_does_not_hide_the_terminal_event() {
    for with_the_end in [true, false] {
        let mut world = World::with_history(8, 3);
        world.publish(&Publish { snapshot: with_the_end, ..Publish::default() });
        world.state.end();
        if !with_the_end {
            world.set_snapshot();
        }
        let Opening::Live { cursor, .. } = cursor::open(&world.state, None, None) else {
            panic!("a new reader lacks everything");
        };
        assert_eq!(cursor, 4, "the snapshot, then the terminal event: it is never skipped");
    }
}

#[test]
fn a_batch_never_hands_out_frames_at_another_position() {
    let mut world = World::with_history(2, 2);
    let mut batch = Batch::default();
    batch.fill(world.state.log(), 1, Framing::Plain);
    world.publish_many(7);
    batch.extend(world.state.log());
    // Positions 3 to 7 were evicted before they were added: at 3 stands nothing, not event 8.
    let given = batch.bytes_from(3, Framing::Plain).unwrap_or_default();
    let items: Vec<Item> = Parser::new(false, true).take(given).iter().map(|block| world.all.item(block)).collect();
    assert_ne!(items.first(), Some(&Item::Event(8)), "a hole without a gap");
}
