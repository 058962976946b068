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
use super::attempt::{Attempt, Caller, Progress};
use super::outcome::{PublishError, Published};
use super::pending::{Appended, KeptSoon};
use super::publish::Account;
use super::role::Role;
use super::watch::TaskSleep;
use super::what::What;
use crate::clock;
use crate::idempotency::{Ids, SharedKey, UnderWay};

/// Who waits for the disk looks by itself this often. Nothing depends on it: what is decided is told.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// See the module.
struct Going<'a> {
    stream: &'a Stream,
    attempt: Attempt<'a>,
    account: Account,
}

/// What was appended together, or will be once the disk has it.
pub(crate) struct AppendedTogether {
    published: Published,
    /// What is to be waited for until it counts as published, and who is told.
    soon: Option<(KeptSoon, Arc<Notify>)>,
}

impl AppendedTogether {
    fn at_once(published: Published) -> Self {
        Self { published, soon: None }
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// Once it is kept, who repeats it under this key is given these ids; also where nobody waits for that any more.
    pub(crate) fn keep_answer(&self, under_way: UnderWay, ids: Ids) {
        match &self.soon {
            Some((kept, _)) => kept.keep_answer(under_way, ids),
            None => under_way.done(ids),
        }
    }

    /// What was published, once the disk has it. Who stops waiting stops nothing.
    pub(crate) async fn kept(self) -> Result<Published, PublishError> {
        let Some((kept, told)) = self.soon else { return Ok(self.published) };
        loop {
            if let Some(outcome) = kept.outcome() {
                return outcome.map(|()| self.published);
            }
            // Told or not, it looks again.
            let _ = timeout(LOOK_AGAIN, told.notified()).await;
        }
    }
}

impl Stream {
    /// Appends these in one step, waiting as a thread does; `ends` where the last of them, an event, is the terminal one. The key
    /// is for other processes, where the log is elsewhere, and for those to come, where there is a store.
    pub(crate) async fn publish_together(
        &self,
        parts: &[Part<'_>],
        ends: bool,
        key: Option<&SharedKey>,
    ) -> Result<AppendedTogether, PublishError> {
        debug_assert!(!ends || matches!(parts.last(), Some(Part::Event(_))), "a stream ends with an event");
        if self.is_copy() {
            return self.publish_elsewhere(parts, ends, key).await.map(AppendedTogether::at_once);
        }
        let role = if ends { Role::Terminal } else { Role::Ordinary };
        let attempt = Attempt::of(What::of(parts), role, Caller::Thread).under(key);
        let mut going = Going { stream: self, attempt, account: Account::default() };
        // Where the disk is waited for, who is told of that is known before.
        let told = self.waits_for_disk().then(|| going.sleep());
        if let Some(Appended { published, kept }) = going.at_once()? {
            return Ok(AppendedTogether { published, soon: kept.zip(told) });
        }
        let (told, began) = (told.unwrap_or_else(|| going.sleep()), clock::now());
        let outcome = loop {
            match going.step() {
                Ok(Ok(Appended { published, kept })) => {
                    break Ok(AppendedTogether { published, soon: kept.map(|kept| (kept, told)) });
                }
                Ok(Err(at)) => {
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
    /// The task sleeps until this is told, from here on.
    fn sleep(&mut self) -> Arc<Notify> {
        let told = Arc::new(Notify::new());
        self.attempt.sleeps(TaskSleep::notified(&told));
        told
    }

    fn at_once(&mut self) -> Result<Option<Appended>, PublishError> {
        let mut inner = self.stream.lock();
        let published = self.attempt.at_once(self.stream, &mut inner)?;
        Ok(published.map(|published| self.attempt.finish(self.stream, inner, published)))
    }

    /// What was appended, or until when it waits.
    fn step(&mut self) -> Result<Result<Appended, Micros>, PublishError> {
        let (stream, mut inner, now) = (self.stream, self.stream.lock(), clock::now());
        let attempt = &mut self.attempt;
        let progress =
            self.account.with(&stream.0.delivery, now, |account| attempt.step(stream, &mut inner, now, account));
        Ok(match progress? {
            Progress::Published(published) => Ok(attempt.finish(stream, inner, published)),
            Progress::Wait(at) => Err(at),
        })
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
