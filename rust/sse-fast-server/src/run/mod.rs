//! Runs: child processes whose marked output lines are a stream.
//!
//! Owns: starting a child, reading its pipes, ending it (timeout, shutdown), its terminal event.
//! Must not know: HTTP, shards, Python. It publishes through [`EventSink`] and logs through [`Logs`](crate::Logs).
//! Invariants: the events of one pipe are published in order; the terminal event comes after all of them and exactly
//! once; no signal goes to a pid that was reaped; a slow logger never blocks a child.
//!
//! **Threads.** A run is one task on the control runtime. It waits for both pipes, the exit and its timers, so hundreds
//! of idle runs cost no thread. Publishing may wait a second for shards, which must not happen on the runtime. So
//! `spawn_blocking` publishes the events that one read completed as one batch, and the pipe is read again only after
//! that. This keeps the order, bounds the memory, and lets a flood wait in the kernel's pipe. A reader thread for each
//! run would be simpler, but hundreds of children that are silent for minutes would each hold a stack. One more thread
//! starts the children, because on Linux they die with the thread that started them.

mod error;
mod handle;
mod launcher;
mod outcome;
mod parent_death;
mod pipe;
mod process;
mod publisher;
mod registry;
mod spec;
mod supervise;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use error::RunError;
pub use handle::Run;
pub(crate) use outcome::{END_EVENT, cut_off};
pub use registry::Runs;
pub use spec::RunSpec;

/// The stream that a run publishes into.
pub trait EventSink: Send + Sync + 'static {
    /// The stream's number: no other stream has it while this one is held.
    fn number(&self) -> u64;

    /// Publishes one event and returns its id. May wait for shards; never called on the runtime.
    ///
    /// # Errors
    /// The event was refused, or the stream takes no more events.
    fn publish(
        &self,
        data: &str,
        event: Option<&str>,
        id: Option<&str>,
        retry: Option<Duration>,
    ) -> Result<String, SinkError>;

    /// Ends the stream. May wait like `publish`.
    fn end(&self, data: &str, event: &str);
}

/// Why a sink refused an event, in words for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);
