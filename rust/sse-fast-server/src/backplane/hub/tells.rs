//! What the engine is told, and the answers that it is given.
//!
//! Owns: the order in which both leave the machine: with everything else that it wants done. Must not know: why.

use std::sync::Arc;

use super::super::copy::Told;
use super::super::outbox::UnitAnswer;
use super::super::protocol::UnitOutcome;
use super::super::{Answer, Copies, Life, Name, SharedOptions, Tail, Totals, Unanswered};
use super::Output;

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Tell {
    Begin(Name, Life),
    Append(Name, Tail),
    Options(Name, SharedOptions),
    Removed(Name),
    Present(Name, Totals),
    Disconnect(Arc<str>, u64),
    Away(bool),
    Answer(Answered),
}

impl Tell {
    /// Tells it.
    pub(crate) fn give(self, copies: &dyn Copies) {
        match self {
            Self::Begin(name, life) => copies.begin(&name, life),
            Self::Append(name, tail) => copies.append(&name, tail),
            Self::Options(name, options) => copies.options(&name, options),
            Self::Removed(name) => copies.removed(&name),
            Self::Present(name, totals) => copies.present(&name, totals),
            Self::Disconnect(reader, before) => copies.disconnect(&reader, before),
            Self::Away(away) => copies.away(away),
            Self::Answer(answered) => answered.deliver(),
        }
    }
}

/// An answer with where it goes.
pub(crate) struct Answered(pub(super) Box<dyn FnOnce() + Send>);

impl Answered {
    pub(crate) fn deliver(self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered")
    }
}

pub(super) fn give<T: Unanswered + Send + 'static>(out: &mut Vec<Output>, answer: Answer<T>, value: T) {
    out.push(Output::Tell(Tell::Answer(Answered(Box::new(move || answer.give(value))))));
}

pub(super) fn give_unit(out: &mut Vec<Output>, answer: UnitAnswer, outcome: UnitOutcome) {
    out.push(Output::Tell(Tell::Answer(Answered(Box::new(move || answer.give(&outcome))))));
}

pub(super) fn tell(out: &mut Vec<Output>, name: &Name, told: Vec<Told>) {
    out.extend(told.into_iter().map(|told| {
        let name = Arc::clone(name);
        Output::Tell(match told {
            Told::Begin(life) => Tell::Begin(name, life),
            Told::Append(tail) => Tell::Append(name, tail),
            Told::Options(options) => Tell::Options(name, options),
            Told::Removed => Tell::Removed(name),
        })
    }));
}
