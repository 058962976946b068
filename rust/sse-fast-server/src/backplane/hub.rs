//! The machine of the backplane: without clock, without I/O.
use std::time::Duration;

use super::protocol::{Line, Request, RequestId, Wired};
use super::{Ask, Copies, Counts, Name, Rules};

/// What the machine takes.
pub(crate) enum Input {
    Ask(Ask),
    Wired(Wired),
    /// Time has passed.
    Tick,
}

/// What the machine wants done, in this order.
pub(crate) enum Output {
    Request(RequestId, Request),
    Subscribe(Vec<Name>),
    Unsubscribe(Vec<Name>),
    Reconnect(Line),
    Tell(Box<dyn FnOnce(&dyn Copies)>),
}

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since the start.
    pub(crate) at: Duration,
    /// Microseconds of the Unix epoch.
    pub(crate) wall: u64,
}

pub(crate) struct Hub {
    rules: Rules,
    counts: Counts,
    closed: bool,
}

impl Hub {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, counts: Counts::default(), closed: false }
    }

    pub(crate) fn step(&mut self, _now: Moment, _input: Input, _out: &mut Vec<Output>) {}

    /// When [`Input::Tick`] is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        None
    }

    /// Whether [`Ask::Close`] is done.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}
