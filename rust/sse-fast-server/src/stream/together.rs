//! Publishing from a task of the engine's own: one event, or several with nobody's between them.
//!
//! Owns: the steps of it, and how the task sleeps in between. Must not know: what an event is made from, when it may be appended
//! (`attempt`). It waits as a thread does, in the same order; each task has a budget of its own. Invariant: dropped before it
//! has ended, it publishes nothing and gives its place up.

use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::stream::Part;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Stream;
use super::attempt::{Attempt, Caller, Progress, Role};
use super::outcome::{PublishError, Published};
use super::publish::Account;
use super::watch::TaskSleep;
use super::what::What;
use crate::clock;
use crate::idempotency::SharedKey;

/// See the module.
struct Going<'a> {
    stream: &'a Stream,
    attempt: Attempt<'a>,
    account: Account,
}

impl Stream {
    /// Appends these in one step, waiting as a thread does; `ends` where the last of them, an event, is the terminal one. The key
    /// is for other processes, where the log is elsewhere.
    pub(crate) async fn publish_together(
        &self,
        parts: &[Part<'_>],
        ends: bool,
        key: Option<&SharedKey>,
    ) -> Result<Published, PublishError> {
        debug_assert!(!ends || matches!(parts.last(), Some(Part::Event(_))), "a stream ends with an event");
        if self.is_copy() {
            return self.publish_elsewhere(parts, ends, key).await;
        }
        let role = if ends { Role::Terminal } else { Role::Ordinary };
        let attempt = Attempt::of(What::of(parts), role, Caller::Thread);
        let mut going = Going { stream: self, attempt, account: Account::default() };
        if let Some(published) = going.at_once()? {
            return Ok(published);
        }
        let (told, began) = (Arc::new(Notify::new()), clock::now());
        going.attempt.sleeps(TaskSleep::notified(&told));
        let outcome = loop {
            match going.step() {
                Ok(Progress::Published(published)) => break Ok(published),
                Ok(Progress::Wait(at)) => {
                    let longest = Duration::from_micros(at.saturating_sub(clock::now()));
                    // Woken or not, it looks again.
                    let _ = timeout(longest, told.notified()).await;
                }
                Err(error) => break Err(error),
            }
        };
        self.count_wait(began);
        outcome
    }
}

impl Going<'_> {
    fn at_once(&mut self) -> Result<Option<Published>, PublishError> {
        let mut inner = self.stream.lock();
        let published = self.attempt.at_once(self.stream, &mut inner)?;
        if published.is_some() {
            self.stream.appended(inner, self.attempt.role());
        }
        Ok(published)
    }

    fn step(&mut self) -> Result<Progress, PublishError> {
        let (stream, mut inner, now) = (self.stream, self.stream.lock(), clock::now());
        let attempt = &mut self.attempt;
        let progress =
            self.account.with(&stream.0.delivery, now, |account| attempt.step(stream, &mut inner, now, account));
        if matches!(progress, Ok(Progress::Published(_))) {
            stream.appended(inner, attempt.role());
        }
        progress
    }

    fn leave(&mut self, now: Micros) {
        let (stream, attempt) = (self.stream, &mut self.attempt);
        let mut inner = stream.lock();
        self.account.with(&stream.0.delivery, now, |account| attempt.leave(stream, &mut inner, now, account));
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if self.attempt.is_waiting() {
            self.leave(clock::now());
        }
    }
}
