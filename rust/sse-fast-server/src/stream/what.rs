//! What is appended in one step: one event, or several with nobody's between them.
//!
//! Owns: that both are encoded, measured and appended alike, and the buffers for it. Must not know: who publishes, what is waited
//! for (`attempt`). Changes together with the core's `stream`.

use std::cell::RefCell;

use sse_fast_core::event::CheckedEvent;
use sse_fast_core::id::{IdText, Position};
use sse_fast_core::stream::{Part, Prepared, Scratch, StreamState, Together};

use super::outcome::Published;

thread_local! {
    /// Encoding buffers; reused, so that a publish allocates its frame and nothing else.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Works with the calling thread's encoding buffers.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(work)
}

/// What is appended in one step.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    /// One event.
    One(CheckedEvent<'a>),
    /// Several, with nobody's between them; at least one.
    Several(&'a [Part<'a>]),
}

/// The same, encoded.
pub(super) enum Encoded {
    One(Prepared),
    Several(Together),
}

impl<'a> What<'a> {
    /// These parts.
    pub(super) fn of(parts: &'a [Part<'a>]) -> Self {
        debug_assert!(!parts.is_empty(), "there is something to append");
        match parts {
            [Part::Event(event)] => Self::One(*event),
            parts => Self::Several(parts),
        }
    }

    pub(super) fn encode(&self, state: &StreamState) -> Encoded {
        with_scratch(|scratch| match self {
            Self::One(event) => Encoded::One(state.prepare(scratch, event)),
            Self::Several(parts) => Encoded::Several(state.prepare_together(scratch, parts)),
        })
    }

    /// Whether it is encoded under the name of the last snapshot.
    pub(super) fn has_snapshot(&self) -> bool {
        match self {
            Self::One(event) => event.has_snapshot(),
            Self::Several(parts) => parts.iter().any(Part::has_snapshot),
        }
    }

    /// Appends it, encoded.
    pub(super) fn append(&self, state: &mut StreamState, encoded: Encoded) -> Published {
        let of = |event: &CheckedEvent<'_>, id: Option<IdText>| {
            id.map_or_else(|| Published::Custom(event.id().unwrap_or_default().into()), Published::Generated)
        };
        match (encoded, self) {
            (Encoded::One(prepared), Self::One(event)) => of(event, state.append(prepared)),
            (Encoded::Several(together), Self::Several(parts)) => {
                let events = parts.iter().filter_map(|part| match part {
                    Part::Event(event) => Some(event),
                    Part::Snapshot(_) => None,
                });
                let ids = state.append_together(together);
                let covered = if ids.is_empty() { state.last_id() } else { String::new() };
                Published::Several { ids: events.zip(ids).map(|(event, id)| of(event, id)).collect(), covered }
            }
            (Encoded::One(_), Self::Several(_)) | (Encoded::Several(_), Self::One(_)) => {
                unreachable!("what was encoded is what is appended")
            }
        }
    }
}

impl Encoded {
    pub(super) fn is_next(&self, state: &StreamState) -> bool {
        match self {
            Self::One(prepared) => state.is_next(prepared),
            Self::Several(together) => state.are_next(together),
        }
    }

    pub(super) fn first_after(&self, state: &StreamState) -> Position {
        match self {
            Self::One(prepared) => state.first_after(prepared),
            Self::Several(together) => state.first_after_together(together),
        }
    }
}
