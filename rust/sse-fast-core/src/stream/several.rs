//! Several events that are appended together: nobody's come between them.
//!
//! Owns: how they are encoded, one after another, before any of them is appended. Must not know: who publishes, what waits.
//! Invariants: what is appended together is in the log together: more than its bounds hold is not held (`holds`), and is not
//! appended. As with one event, nothing changes between the two steps. Changes together with `stream`, which prepares one.

use super::{Ahead, Prepared, PreparedSnapshot, Scratch, StreamState};
use crate::event::CheckedEvent;
use crate::id::{IdText, Position};

/// One of several.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// An event, which may set the snapshot with it.
    Event(CheckedEvent<'a>),
    /// A snapshot alone: it stands for everything before it.
    Snapshot(CheckedEvent<'a>),
}

impl Part<'_> {
    /// Whether it sets the snapshot.
    pub fn has_snapshot(&self) -> bool {
        match self {
            Self::Event(event) => event.has_snapshot(),
            Self::Snapshot(_) => true,
        }
    }
}

/// What appending several events would do to the log; made before, so that a publisher can wait first.
#[derive(Debug)]
pub struct Together {
    /// The newest position before them.
    after: Position,
    /// What each of them adds, in its order.
    steps: Vec<Step>,
    /// How many of them are events.
    events: usize,
    /// The bytes of their frames.
    bytes: usize,
}

/// One of several, prepared.
#[derive(Debug)]
pub enum Step {
    /// An event, with the snapshot that is set with it.
    Event(Prepared),
    /// A snapshot alone.
    Snapshot(PreparedSnapshot),
}

impl Together {
    /// How many of them are events.
    pub fn events(&self) -> usize {
        self.events
    }

    /// The bytes of the events' frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest position before them.
    pub fn after(&self) -> Position {
        self.after
    }

    /// What they are, in their order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// An id for each event, `None` for a caller's own.
    pub fn ids(&self) -> impl Iterator<Item = Option<IdText>> {
        self.steps.iter().filter_map(|step| match step {
            Step::Event(prepared) => Some(prepared.generated_id()),
            Step::Snapshot(_) => None,
        })
    }
}

impl StreamState {
    /// Encodes several for the next positions under the options in force. Nothing changes until
    /// [`Self::append_together`]; neither may change between the two.
    pub fn prepare_together(&self, scratch: &mut Scratch, parts: &[Part<'_>]) -> Together {
        self.prepare_together_behind(Ahead::default(), scratch, parts)
    }

    /// The same behind what was prepared and will be appended before.
    pub fn prepare_together_behind(&self, ahead: Ahead<'_>, scratch: &mut Scratch, parts: &[Part<'_>]) -> Together {
        let after = self.newest() + ahead.events as Position;
        let mut together = Together { after, steps: Vec::with_capacity(parts.len()), events: 0, bytes: 0 };
        let (mut position, mut name) = (after, ahead.snapshot.unwrap_or_else(|| self.snapshot_event()));
        for part in parts {
            let step = match part {
                Part::Event(event) => {
                    position += 1;
                    let prepared = self.prepare_at(position, name, scratch, event);
                    together.events += 1;
                    together.bytes += prepared.frame.len();
                    Step::Event(prepared)
                }
                Part::Snapshot(event) => {
                    name = event.event.unwrap_or_default();
                    Step::Snapshot(self.prepare_snapshot(position, scratch, event))
                }
            };
            together.steps.push(step);
        }
        together
    }

    /// Whether they are for the positions that come next.
    pub fn are_next(&self, together: &Together) -> bool {
        together.after == self.newest()
    }

    /// Whether the log holds all of them at once; one event fits whatever its size.
    pub fn holds(&self, together: &Together) -> bool {
        let options = self.options();
        together.events <= 1 || (together.events <= options.history && together.bytes <= options.history_bytes)
    }

    /// The oldest position that will remain once they are appended, behind what will be before; beyond the next position
    /// where that would not all remain.
    pub fn first_after_together(&self, ahead: Ahead<'_>, together: &Together) -> Position {
        if together.events == 0 {
            return self.log.first();
        }
        self.first_behind(ahead, together.events, together.bytes)
    }

    /// Appends what was prepared, in one step.
    pub fn append_together(&mut self, together: Together) {
        debug_assert!(self.are_next(&together), "nobody else has appended since");
        debug_assert!(self.holds(&together), "what does not fit was refused");
        let count = together.events;
        for step in together.steps {
            match step {
                Step::Event(prepared) => {
                    self.append(prepared);
                }
                Step::Snapshot(prepared) => self.put_snapshot(prepared),
            }
        }
        debug_assert!(self.log.first() <= self.newest() + 1 - count as Position, "all of them are held");
    }
}
