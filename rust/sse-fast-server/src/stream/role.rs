//! What an event is to its stream, and how long it may wait for the store.
//!
//! Owns: the words. Must not know: who acts on them (`attempt`, `kept`, `pending`).

/// What an event is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of many.
    Ordinary,
    /// The last.
    Terminal,
}

/// Whether an event may wait for the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurry {
    /// It is refused rather than wait.
    NoWait,
    /// It may wait a moment.
    MayWait,
}
