//! Several that are appended together: the same as one after another, but for those who come between.

use proptest::prelude::*;
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::frame::{Frame, Framing};
use sse_fast_core::id::Epoch;
use sse_fast_core::options::StreamOptions;
use sse_fast_core::stream::{Ahead, Part, Scratch, StreamState};

/// One of several, as it is drawn.
#[derive(Clone, Debug)]
struct Drawn {
    data: String,
    id: Option<String>,
    snapshot: Option<String>,
    /// A snapshot alone, under this name.
    alone: Option<String>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let text = "[a-z]{0,40}";
    let name = prop_oneof![Just("snapshot".to_owned()), Just("state".to_owned()), Just(String::new())];
    let alone = prop::option::weighted(0.2, name);
    (text, prop::option::of("[a-z]{1,4}"), prop::option::of(text), alone)
        .prop_map(|(data, id, snapshot, alone)| Drawn { data, id, snapshot, alone })
}

fn part_of(one: &Drawn) -> Part<'_> {
    let data = one.data.as_bytes();
    let snapshot = one.snapshot.as_ref().map(String::as_bytes);
    let (new, is_alone) = match &one.alone {
        Some(name) => (NewEvent { data, event: Some(name), ..NewEvent::default() }, true),
        None => (NewEvent { data, id: one.id.as_deref(), snapshot, ..NewEvent::default() }, false),
    };
    let checked = event::check(&new).expect("an event");
    if is_alone { Part::Snapshot(checked) } else { Part::Event(checked) }
}

/// Everything that readers can see of a stream.
#[derive(Debug, PartialEq)]
struct Seen {
    first: u64,
    newest: u64,
    last_id: String,
    frames: Vec<Vec<u8>>,
    snapshot: Option<(Vec<u8>, u64)>,
}

fn seen(state: &StreamState) -> Seen {
    let bytes = |frame: &Frame| frame.bytes(Framing::Plain).to_vec();
    Seen {
        first: state.log().first(),
        newest: state.newest(),
        last_id: state.last_id(),
        frames: state.log().from(0).map(bytes).collect(),
        snapshot: state.snapshot().map(|kept| (bytes(&kept.frame), kept.position)),
    }
}

fn state(history: usize, history_bytes: usize) -> StreamState {
    let options = StreamOptions { history, history_bytes, max_lag: 1, ..StreamOptions::default() };
    StreamState::new(Epoch(7), options.into())
}

fn append_one(state: &mut StreamState, scratch: &mut Scratch, part: &Part<'_>) {
    match part {
        Part::Event(event) => {
            let prepared = state.prepare(scratch, event);
            state.append(prepared);
        }
        Part::Snapshot(event) => state.set_snapshot(scratch, event),
    }
}

proptest! {
    #[test]
    fn together_is_the_same_as_one_after_another(
        before in prop::collection::vec(drawn(), 0..8),
        several in prop::collection::vec(drawn(), 1..8),
        history in 1..10_usize,
        history_bytes in 1..800_usize,
    ) {
        let scratch = &mut Scratch::default();
        let (mut one_by_one, mut at_once) = (state(history, history_bytes), state(history, history_bytes));
        for part in before.iter().map(part_of) {
            append_one(&mut one_by_one, scratch, &part);
            append_one(&mut at_once, scratch, &part);
        }
        let several: Vec<_> = several.iter().map(part_of).collect();
        let together = at_once.prepare_together(scratch, &several);
        let unchanged = seen(&at_once);
        prop_assert_eq!(&unchanged, &seen(&one_by_one), "preparing changes nothing");
        let first = at_once.first_after_together(Ahead::default(), &together);
        if !at_once.holds(&together) {
            prop_assert!(together.events() > history || together.bytes() > history_bytes);
            return Ok(());
        }
        for part in &several {
            append_one(&mut one_by_one, scratch, part);
        }
        let events = several.iter().filter(|part| matches!(part, Part::Event(_))).count();
        prop_assert_eq!(together.ids().count(), events);
        at_once.append_together(together);
        prop_assert_eq!(seen(&at_once), seen(&one_by_one));
        prop_assert_eq!(at_once.log().first(), first, "what was waited for is what is left");
    }
}
