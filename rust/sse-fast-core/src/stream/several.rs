//! Several events that are appended together: nobody's come between them.
//!
//! Owns: how they are encoded, one after another, before any of them is appended. Must not know: who publishes, what waits.
//! Invariants: what is appended together is in the log together: more than its bounds hold is not held (`holds`), and is not
//! appended. As with one event, nothing changes between the two steps. Changes together with `stream`, which prepares one.

use super::{Prepared, Scratch, Snapshot, StreamState, kept_name};
use crate::event::CheckedEvent;
use crate::frame::Frame;
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
    steps: Vec<Step>,
    /// How many of them are events.
    events: usize,
    /// The bytes of their frames.
    bytes: usize,
}

#[derive(Debug)]
enum Step {
    Event(Prepared),
    Snapshot(Snapshot),
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
}

impl StreamState {
    /// Encodes several for the next positions under the options in force. Nothing changes until
    /// [`Self::append_together`]; neither may change between the two.
    pub fn prepare_together(&self, scratch: &mut Scratch, parts: &[Part<'_>]) -> Together {
        let mut together =
            Together { after: self.newest(), steps: Vec::with_capacity(parts.len()), events: 0, bytes: 0 };
        let mut position = together.after;
        let mut name: Option<Box<str>> = self.snapshot_name().map(Box::from);
        for part in parts {
            let step = match part {
                Part::Event(event) => {
                    position += 1;
                    let prepared = self.prepare_at(scratch, event, position, name.as_deref());
                    together.events += 1;
                    together.bytes += prepared.frame.len();
                    Step::Event(prepared)
                }
                Part::Snapshot(event) => {
                    let given = event.event.unwrap_or_default();
                    let frame: Frame = self.encode_snapshot(scratch, given, position, event.data);
                    name = kept_name(given);
                    Step::Snapshot(Snapshot { frame, position, event: name.clone() })
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

    /// The oldest position that will remain once they are appended.
    pub fn first_after_together(&self, together: &Together) -> Position {
        let options = self.options();
        if together.events == 0 {
            return self.log.first();
        }
        self.log.first_after_several(together.events, together.bytes, options.history, options.history_bytes)
    }

    /// Appends what was prepared, in one step; an id for each event, `None` for a caller's own.
    pub fn append_together(&mut self, together: Together) -> Vec<Option<IdText>> {
        debug_assert!(self.are_next(&together), "nobody else has appended since");
        debug_assert!(self.holds(&together), "what does not fit was refused");
        let mut ids = Vec::with_capacity(together.events);
        for step in together.steps {
            match step {
                Step::Event(prepared) => ids.push(self.append(prepared)),
                Step::Snapshot(snapshot) => self.snapshot = Some(Box::new(snapshot)),
            }
        }
        debug_assert!(self.log.first() <= self.newest() + 1 - ids.len() as Position, "all of them are held");
        ids
    }
}
