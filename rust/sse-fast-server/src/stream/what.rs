//! What is appended in one step: one event, or several with nobody's between them.
//!
//! Owns: that both are encoded, measured and appended alike, and the buffers for it. Must not know: who publishes, what is waited
//! for (`attempt`). Changes together with the core's `stream`.

use std::cell::RefCell;

use sse_fast_core::event::CheckedEvent;
use sse_fast_core::id::{IdText, Position};
use sse_fast_core::stream::{Ahead, Part, Prepared, PreparedSnapshot, Scratch, Step, StreamState, Together};

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

/// One of them.
pub(super) enum Single<'a> {
    /// An event, with the snapshot that is set with it.
    Event(&'a Prepared),
    /// A snapshot that is set by itself.
    Snapshot(&'a PreparedSnapshot),
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

    /// Encodes it for the positions that come next, behind what will be appended before.
    pub(super) fn encode(&self, state: &StreamState, ahead: Ahead<'_>) -> Encoded {
        with_scratch(|scratch| match self {
            Self::One(event) => Encoded::One(state.prepare_behind(ahead, scratch, event)),
            Self::Several(parts) => Encoded::Several(state.prepare_together_behind(ahead, scratch, parts)),
        })
    }

    /// Whether it is encoded under the name of the last snapshot.
    pub(super) fn has_snapshot(&self) -> bool {
        match self {
            Self::One(event) => event.has_snapshot(),
            Self::Several(parts) => parts.iter().any(Part::has_snapshot),
        }
    }

    /// What it is published as, encoded; `last` is the id of the newest event before it.
    pub(super) fn published(&self, encoded: &Encoded, last: impl FnOnce() -> String) -> Published {
        let of = |event: &CheckedEvent<'_>, id: Option<IdText>| {
            id.map_or_else(|| Published::Custom(event.id().unwrap_or_default().into()), Published::Generated)
        };
        match (encoded, self) {
            (Encoded::One(prepared), Self::One(event)) => of(event, prepared.generated_id()),
            (Encoded::Several(together), Self::Several(parts)) => {
                let events = parts.iter().filter_map(|part| match part {
                    Part::Event(event) => Some(event),
                    Part::Snapshot(_) => None,
                });
                let covered = if together.events() == 0 { last() } else { String::new() };
                let ids = events.zip(together.ids()).map(|(event, id)| of(event, id)).collect();
                Published::Several { ids, covered }
            }
            (Encoded::One(_), Self::Several(_)) | (Encoded::Several(_), Self::One(_)) => {
                unreachable!("what was encoded is what is appended")
            }
        }
    }
}

impl Encoded {
    /// The newest position before it.
    pub(super) fn after(&self) -> Position {
        match self {
            Self::One(prepared) => prepared.position() - 1,
            Self::Several(together) => together.after(),
        }
    }

    /// How many events it is.
    pub(super) fn events(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Several(together) => together.events(),
        }
    }

    /// The bytes of their frames.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(prepared) => prepared.frame().len(),
            Self::Several(together) => together.bytes(),
        }
    }

    /// What it is made of, in its order.
    pub(super) fn singles(&self) -> impl DoubleEndedIterator<Item = Single<'_>> {
        let (one, several) = match self {
            Self::One(prepared) => (Some(prepared), &[][..]),
            Self::Several(together) => (None, together.steps()),
        };
        one.into_iter().map(Single::Event).chain(several.iter().map(|step| match step {
            Step::Event(prepared) => Single::Event(prepared),
            Step::Snapshot(prepared) => Single::Snapshot(prepared),
        }))
    }

    /// The name of the last snapshot that is set by itself.
    pub(super) fn snapshot_event(&self) -> Option<&str> {
        self.singles().rev().find_map(|single| match single {
            Single::Snapshot(snapshot) => Some(snapshot.event()),
            Single::Event(_) => None,
        })
    }

    /// The newest event.
    pub(super) fn last_event(&self) -> Option<&Prepared> {
        self.singles().rev().find_map(|single| match single {
            Single::Event(prepared) => Some(prepared),
            Single::Snapshot(_) => None,
        })
    }

    /// The oldest position that will remain once it is appended, behind what will be before.
    pub(super) fn first_after(&self, state: &StreamState, ahead: Ahead<'_>) -> Position {
        match self {
            Self::One(prepared) => state.first_behind(ahead, 1, prepared.frame().len()),
            Self::Several(together) => state.first_after_together(ahead, together),
        }
    }

    /// Appends it, in one step.
    pub(super) fn append(self, state: &mut StreamState) {
        match self {
            Self::One(prepared) => {
                state.append(prepared);
            }
            Self::Several(together) => state.append_together(together),
        }
    }
}
