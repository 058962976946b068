//! The sentences of "Resuming" in the wire contract (DESIGN section 4), and of ended streams
//! (section 3), one test each. The oracle is not asked here: what must be seen is written out.

use sse_fast_core::options::{Start, StreamPatch};
use sse_fast_oracle::content::Publish;
use sse_fast_oracle::everything::{Expected, Item};

use crate::world::World;

fn events(range: std::ops::RangeInclusive<u64>) -> Vec<Item> {
    range.map(Item::Event).collect()
}

fn after(item: Item, rest: Vec<Item>) -> Vec<Item> {
    [vec![item], rest].concat()
}

fn ours(world: &World, position: u64) -> String {
    world.all.id_of(position)
}

/// Events 1 to 10, the snapshot at 7; 6 to 10 are retained.
fn with_a_snapshot_within_history() -> World {
    let mut world = World::with_history(5, 7);
    world.set_snapshot();
    world.publish_many(3);
    world
}

#[test]
fn the_epoch_is_written_in_base_36() {
    let world = World::with_history(1, 1);
    assert_eq!(world.state.id_at(1).as_str(), "s44we8-1");
}

#[test]
fn an_id_within_history_continues_right_after_it() {
    let world = World::with_history(5, 10);
    for (position, rest) in [(5, 6..=10), (6, 7..=10), (9, 10..=10)] {
        assert_eq!(world.sees(Some(&ours(&world, position))), events(rest), "after {position}");
    }
}

#[test]
fn an_id_within_history_continues_right_after_it_snapshot_or_not() {
    let world = with_a_snapshot_within_history();
    for (position, rest) in [(5, 6..=10), (6, 7..=10), (7, 8..=10), (9, 10..=10)] {
        assert_eq!(world.sees(Some(&ours(&world, position))), events(rest), "after {position}");
    }
}

#[test]
fn the_newest_id_of_an_open_stream_waits_for_what_comes() {
    let world = World::with_history(5, 10);
    assert_eq!(world.opens(Some("s44we8-10"), None), Expected::Items { items: Vec::new(), cursor: 11 });
}

#[test]
fn the_place_before_the_first_event_is_a_place() {
    let mut world = World::with_history(5, 0);
    world.set_snapshot();
    assert_eq!(world.sees(None), [Item::Snapshot(0)], "a snapshot of nothing carries <epoch>-0");
    world.publish_many(3);
    assert_eq!(world.sees(Some("s44we8-0")), events(1..=3));
}

#[test]
fn an_older_id_gets_a_gap_then_the_tail() {
    let world = World::with_history(5, 10);
    for position in 0..=4 {
        let expected = after(Item::Gap(Some((position + 1, 5))), events(6..=10));
        assert_eq!(world.sees(Some(&ours(&world, position))), expected, "after {position}");
    }
}

#[test]
fn an_older_id_gets_a_gap_then_the_snapshot_then_the_tail() {
    let world = with_a_snapshot_within_history();
    for position in 0..=4 {
        let expected = after(Item::Gap(Some((position + 1, 7))), after(Item::Snapshot(7), events(8..=10)));
        assert_eq!(world.sees(Some(&ours(&world, position))), expected, "after {position}");
    }
}

#[test]
fn an_older_id_is_told_of_everything_missing_around_an_old_snapshot() {
    let mut world = World::with_history(2, 4);
    world.set_snapshot();
    world.publish_many(6);
    let expected = after(Item::Gap(Some((2, 8))), after(Item::Snapshot(4), events(9..=10)));
    assert_eq!(world.sees(Some("s44we8-1")), expected);
}

#[test]
fn an_id_of_another_epoch_or_an_unreadable_one_gets_an_unknown_gap_then_what_a_new_subscriber_gets() {
    let strange = ["elsewhere-3", "s44we7-3", "s44we8-11", "S44WE8-3", "s44we8-03", "3", "-", "null", "ü", "a-1-1"];
    for start in [Start::New, Start::Last, Start::All] {
        let mut world = World::with_history(5, 0);
        world.set_options(&StreamPatch { start: Some(start), ..StreamPatch::default() });
        world.publish_many(5);
        let snapshot = with_a_snapshot_within_history();
        for id in strange {
            assert_eq!(world.sees(Some(id)), after(Item::Gap(None), world.sees(None)), "{id:?}, {start}");
            assert_eq!(snapshot.sees(Some(id)), after(Item::Gap(None), snapshot.sees(None)), "{id:?}");
        }
    }
}

#[test]
fn nothing_a_client_sends_is_an_error() {
    let world = World::with_history(5, 10);
    let long = "9".repeat(10_000);
    for id in [long.as_str(), "\0", "s44we8-18446744073709551615", "s44we8-18446744073709551616", "\u{feff}", "a\r\nb"]
    {
        assert_eq!(world.sees(Some(id))[0], Item::Gap(None), "{id:.20?}");
    }
}

#[test]
fn an_empty_id_is_no_id() {
    let world = World::with_history(5, 3);
    assert_eq!(world.sees(Some("")), world.sees(None));
}

#[test]
fn a_caller_s_own_id_is_resumable() {
    let mut world = World::with_history(5, 2);
    for id in ["first", "ü/2 =", "s44we7-1"] {
        world.publish(&Publish { own_id: Some(id.to_owned()), ..Publish::default() });
    }
    for (id, rest) in [("first", 4..=5), ("ü/2 =", 5..=5), ("s44we8-2", 3..=5), ("s44we8-3", 4..=5)] {
        assert_eq!(world.sees(Some(id)), events(rest), "{id:?}");
    }
    assert_eq!(world.opens(Some("s44we7-1"), None), Expected::Items { items: Vec::new(), cursor: 6 });
}

#[test]
fn of_equal_own_ids_the_newest_counts() {
    let mut world = World::with_history(9, 0);
    for id in ["a", "b", "a", "c"] {
        world.publish(&Publish { own_id: Some(id.to_owned()), ..Publish::default() });
    }
    assert_eq!(world.sees(Some("a")), events(4..=4));
}

#[test]
fn an_own_id_that_is_no_longer_held_cannot_be_read() {
    let mut world = World::with_history(2, 0);
    world.publish(&Publish { own_id: Some("gone".to_owned()), ..Publish::default() });
    world.publish_many(4);
    let expected = after(Item::Gap(None), after(Item::Gap(Some((1, 3))), events(4..=5)));
    // What a new subscriber that asked for everything is told lies within what nobody knows.
    assert_eq!(world.sees(None), expected[1..]);
    assert_eq!(world.sees(Some("gone")), after(Item::Gap(None), events(4..=5)));
}

#[test]
fn a_new_subscriber_gets_what_start_says() {
    for (start, items, cursor) in [
        (Start::New, Vec::new(), 11),
        (Start::Last, events(10..=10), 10),
        (Start::All, after(Item::Gap(Some((1, 5))), events(6..=10)), 6),
    ] {
        let world = World::with_history(5, 10);
        assert_eq!(world.opens(None, Some(start)), Expected::Items { items, cursor }, "{start}");
    }
}

#[test]
fn a_snapshot_comes_first_and_covers_what_precedes_it_whatever_start_says() {
    let world = with_a_snapshot_within_history();
    for start in [Start::New, Start::Last, Start::All] {
        let items = after(Item::Snapshot(7), events(8..=10));
        assert_eq!(world.opens(None, Some(start)), Expected::Items { items, cursor: 8 }, "{start}");
    }
}

#[test]
fn what_was_overwritten_after_a_snapshot_is_announced_after_it() {
    let mut world = with_a_snapshot_within_history();
    world.publish_many(6);
    assert_eq!(world.sees(None), after(Item::Snapshot(7), after(Item::Gap(Some((8, 11))), events(12..=16))));
}

#[test]
fn an_ended_stream_replays_what_a_reader_lacks() {
    let mut world = World::with_history(5, 9);
    world.end();
    for (position, expected) in
        [(9, events(10..=10)), (5, events(6..=10)), (2, after(Item::Gap(Some((3, 5))), events(6..=10)))]
    {
        assert_eq!(world.sees(Some(&ours(&world, position))), expected, "after {position}");
    }
}

#[test]
fn a_new_reader_of_an_ended_stream_gets_at_least_the_terminal_event() {
    let mut world = World::with_history(5, 9);
    world.end();
    for (start, items) in [
        (Start::New, events(10..=10)),
        (Start::Last, events(10..=10)),
        (Start::All, after(Item::Gap(Some((1, 5))), events(6..=10))),
    ] {
        assert_eq!(
            world.opens(None, Some(start)),
            Expected::Items { cursor: if start == Start::All { 6 } else { 10 }, items }
        );
    }
    assert_eq!(
        world.opens(Some("elsewhere-10"), Some(Start::New)),
        Expected::Items { items: after(Item::Gap(None), events(10..=10)), cursor: 10 }
    );
}

#[test]
fn a_reader_that_has_the_terminal_event_gets_nothing() {
    let mut world = World::with_history(5, 9);
    world.publish(&Publish { own_id: Some("the end".to_owned()), ..Publish::default() });
    world.state.end();
    world.all.ended = true;
    for id in ["the end", "s44we8-10"] {
        assert_eq!(world.opens(Some(id), None), Expected::Nothing, "{id:?}");
    }
}
