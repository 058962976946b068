//! The judgement of those who fell behind, held against DESIGN section 5 by counting.
//!
//! A random script builds a stream whose bounds bite; then every cursor is judged at every pace under every policy. The
//! expectation lists events one by one where `lag` subtracts. Must not know: how a gap is announced (`opening`).

use proptest::prelude::*;
use sse_fast_core::gap::Gap;
use sse_fast_core::lag::{self, Pace, Verdict};
use sse_fast_core::options::{OnLag, StreamPatch};
use sse_fast_oracle::content::Publish;

use crate::world::World;

/// What the promise says of a reader that lacks everything from `cursor` on.
fn expected(world: &World, cursor: u64, pace: Pace) -> Verdict {
    let options = &world.all.options;
    let lacks: Vec<u64> = (cursor..=world.all.newest()).collect();
    let lost = lacks.iter().any(|&position| position < world.all.first);
    // Only what was published after its socket filled is lag.
    let lags_by = match pace {
        Pace::Full { since } => lacks.iter().filter(|&&position| position > since).count() as u64,
        Pace::Writable | Pace::InProcess => 0,
    };
    let is_beyond = lags_by > options.max_lag;
    if !lost && !is_beyond {
        return Verdict::Continue;
    }
    if options.on_lag == OnLag::Disconnect && pace != Pace::InProcess {
        return Verdict::Disconnect;
    }
    let most = match (options.on_lag, is_beyond) {
        (OnLag::Latest, _) => 1,
        (OnLag::Skip | OnLag::Disconnect, true) => options.max_lag,
        (OnLag::Skip | OnLag::Disconnect, false) => u64::MAX,
    };
    // The newest that are held, as many as it may have.
    let mut given: Vec<u64> = Vec::new();
    for &position in lacks.iter().rev().filter(|&&position| position >= world.all.first) {
        if (given.len() as u64) < most {
            given.insert(0, position);
        }
    }
    let next = *given.first().expect("the newest is never skipped");
    let skipped: Vec<u64> = lacks.into_iter().filter(|position| !given.contains(position)).collect();
    match (skipped.first(), skipped.last()) {
        (Some(&from), Some(&to)) => Verdict::Skip(Gap::Known { from, to }, next),
        _ => Verdict::Continue,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn whoever_falls_behind_is_treated_as_the_promise_says(
        count in 1u64..40, history in 1usize..24, history_bytes in 60usize..1500, max_lag in 1u64..24, paddings: Vec<u8>,
        on_lag in prop::sample::select(vec![OnLag::Skip, OnLag::Latest, OnLag::Disconnect]), shorter in 1usize..24,
    ) {
        let patch = StreamPatch {
            history: Some(history),
            history_bytes: Some(history_bytes),
            max_lag: Some(max_lag.min(history as u64)),
            on_lag: Some(on_lag),
            ..StreamPatch::default()
        };
        let mut world = World::new(&patch);
        for at in 0..count {
            let padding = paddings.get(usize::try_from(at).unwrap()).copied().unwrap_or_default();
            world.publish(&Publish { padding: usize::from(padding), ..Publish::default() });
        }
        let max_lag = Some(world.all.options.max_lag.min(shorter as u64));
        world.set_options(&StreamPatch { history: Some(shorter), max_lag, ..StreamPatch::default() });
        for cursor in 1..=count + 1 {
            for pace in [Pace::Writable, Pace::InProcess].into_iter().chain((0..=count).map(|since| Pace::Full { since })) {
                let judged = lag::judge(&world.state, cursor, pace);
                prop_assert_eq!(judged, expected(&world, cursor, pace), "at {} of {}, {:?}", cursor, count, pace);
            }
        }
    }
}
