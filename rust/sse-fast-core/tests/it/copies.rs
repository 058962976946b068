//! A stream as a copy of a log elsewhere: it begins at any position, and may jump over what was lost.

use std::sync::Arc;

use proptest::prelude::*;
use sse_fast_core::cursor::{self, Opening};
use sse_fast_core::event::{NewEvent, check};
use sse_fast_core::follow::{Follower, Step};
use sse_fast_core::gap::Gap;
use sse_fast_core::id::Epoch;
use sse_fast_core::lag::Pace;
use sse_fast_core::options::{OnLag, StreamOptions};
use sse_fast_core::stream::{Scratch, StreamState};

fn copy(base: u64, on_lag: OnLag) -> StreamState {
    StreamState::after(Epoch(36), base, Arc::new(StreamOptions { on_lag, ..StreamOptions::default() }))
}

fn append(state: &mut StreamState, data: &str) {
    let event = NewEvent { data: data.as_bytes(), ..NewEvent::default() };
    let prepared = state.prepare(&mut Scratch::default(), &check(&event).unwrap());
    state.append(prepared);
}

/// What a reader that comes back with this id is given, as positions; a gap as its first and last.
fn resumed(state: &StreamState, id: &str) -> (Option<Gap>, Option<u64>) {
    match cursor::open(state, Some(id), None) {
        Opening::Live { before, cursor, .. } => (before, Some(cursor)),
        Opening::Finished => (None, None),
    }
}

#[test]
fn a_copy_has_the_positions_of_its_log() {
    let mut state = copy(41, OnLag::Skip);
    assert_eq!((state.newest(), state.log().first(), state.last_id().as_str()), (41, 42, "10-41"));
    append(&mut state, "a");
    assert_eq!((state.newest(), state.last_id().as_str()), (42, "10-42"));
    assert_eq!(resumed(&state, "10-41"), (None, Some(42)));
    assert_eq!(resumed(&state, "10-30"), (Some(Gap::Known { from: 31, to: 41 }), Some(42)));
    assert_eq!(resumed(&state, "10-43").0, Some(Gap::Unknown), "nothing is known of what is not here yet");
}

#[test]
fn who_has_everything_is_told_exactly_what_a_jump_lost_whatever_its_policy() {
    for on_lag in [OnLag::Skip, OnLag::Latest] {
        for (jump, then) in [(9, 0), (9, 2)] {
            let mut state = copy(3, on_lag);
            let mut follower = Follower::at(4);
            assert_eq!(follower.next(&state, Pace::Writable), Step::Pending);
            state.skip_to(jump);
            (0..then).for_each(|_| append(&mut state, "x"));
            let last = if on_lag == OnLag::Latest && then > 0 { jump + then - 1 } else { jump };
            assert_eq!(follower.next(&state, Pace::Writable), Step::Gap(Gap::Known { from: 4, to: last }));
            let after = if then > 0 { Step::Frames } else { Step::Pending };
            assert_eq!(follower.next(&state, Pace::Writable), after);
        }
    }
}

proptest! {
    /// Events received and events skipped are all that were published, through any appends and jumps.
    #[test]
    fn nothing_is_lost_unannounced(steps in prop::collection::vec((0u64..4, 0u64..6, any::<bool>()), 1..30)) {
        let mut state = copy(5, OnLag::Skip);
        let (mut follower, mut got, mut skipped) = (Follower::at(6), 0, 0);
        for (appends, jump, reads) in steps {
            state.skip_to(state.newest() + jump);
            (0..appends).for_each(|_| append(&mut state, "x"));
            if !reads {
                continue;
            }
            loop {
                match follower.next(&state, Pace::Writable) {
                    Step::Gap(gap) => skipped += gap.skipped().unwrap(),
                    Step::Frames => {
                        prop_assert!(follower.take(&state).is_some());
                        got += 1;
                    }
                    _ => break,
                }
            }
            prop_assert_eq!(got + skipped, state.newest() - 5);
        }
    }
}
