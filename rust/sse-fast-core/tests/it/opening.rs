//! Every way to start or resume, at every place, against the oracle.
//!
//! A random script builds a stream (bounds that bite, snapshots, callers' own ids, changed
//! options, an end); then every id a reader could bring is tried with every start.

use proptest::prelude::*;
use sse_fast_core::options::{Start, StreamPatch};
use sse_fast_oracle::content::Publish;

use crate::world::World;

#[derive(Clone, Debug)]
enum Step {
    Publish(Publish),
    Snapshot,
    Bounds(usize, usize),
}

const STARTS: [Option<Start>; 4] = [None, Some(Start::New), Some(Start::Last), Some(Start::All)];

fn publish() -> impl Strategy<Value = Publish> {
    // Few own ids, so that some come twice; one looks like an id of another life.
    let own = prop_oneof![8 => Just(None), 1 => Just(Some("b")), 1 => Just(Some("ü b")), 1 => Just(Some("a-3"))];
    (0usize..60, own, prop::bool::weighted(0.1), any::<bool>()).prop_map(|(padding, own, snapshot, named)| Publish {
        padding,
        own_id: own.map(str::to_owned),
        snapshot,
        named,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => publish().prop_map(Step::Publish),
        1 => Just(Step::Snapshot),
        1 => (1usize..10, 40usize..900).prop_map(|(history, bytes)| Step::Bounds(history, bytes)),
    ]
}

fn bounds(history: usize, history_bytes: usize) -> StreamPatch {
    StreamPatch { history: Some(history), history_bytes: Some(history_bytes), ..StreamPatch::default() }
}

/// Every id a reader of this stream could bring, and some that none should.
fn ids(world: &World) -> Vec<String> {
    let newest = world.all.newest();
    let ours = (0..=newest + 2).map(|position| world.all.id_of(position));
    let written = world.all.events.iter().filter_map(|event| event.id.clone());
    let strange = ["elsewhere-1", "s44we8", "s44we8-", "S44WE8-1", "s44we8-01", "s44we8--1", "s44we8-1 ", "ü", "\0"];
    ours.chain(written).chain(strange.map(str::to_owned)).collect()
}

fn check(world: &World) {
    for start in STARTS {
        for id in [None, Some("")] {
            assert_eq!(world.opens(id, start), world.all.must_see(id, start), "a new reader, {start:?}");
        }
        for id in &ids(world) {
            let (opened, expected) = (world.opens(Some(id), start), world.all.must_see(Some(id), start));
            assert_eq!(opened, expected, "resumed with {id:?}, {start:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_reader_sees_what_the_oracle_says(
        steps in prop::collection::vec(step(), 0..40), history in 1usize..12, history_bytes in 40usize..1200,
        start in prop::sample::select(vec![Start::New, Start::Last, Start::All]), ids: bool, ends: bool,
    ) {
        let patch = StreamPatch { start: Some(start), ids: Some(ids), ..bounds(history, history_bytes) };
        let mut world = World::new(&patch);
        for step in &steps {
            match step {
                Step::Publish(publish) => world.publish(publish),
                Step::Snapshot => world.set_snapshot(),
                Step::Bounds(history, bytes) => world.set_options(&bounds(*history, *bytes)),
            }
        }
        check(&world);
        if ends {
            world.end();
            check(&world);
        }
    }

    #[test]
    fn no_id_is_an_error(id in "\\PC{0,50}", history in 1usize..5, count in 0u64..9) {
        let world = World::with_history(history, count);
        prop_assert_eq!(world.opens(Some(&id), None), world.all.must_see(Some(&id), None));
    }
}
