//! Publishing from a task of an event loop: it never blocks, and its task sleeps in between.
//!
//! Owns: an event that outlives the call, and the steps of its publishing. Must not know: what an event loop is, when an event
//! may be appended (`attempt`). It waits as a thread does, in the same order and from the same budget, but for one thing: once
//! it is woken its place is kept as long as that of a thread that is away (`room`), since its loop may be busy. Invariant: one
//! that is dropped before it was appended publishes nothing and gives its place up.

use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::error::EventError;
use sse_fast_core::event::NewEvent;

use super::attempt::{Attempt, Caller, Progress, Waiting};
use super::outcome::PublishError;
use super::pending::{Appended, KeptSoon};
use super::publish::Account;
use super::role::Role;
use super::watch::TaskSleep;
use super::{Locked, Stream};
use crate::clock;

/// An event with texts of its own.
#[derive(Clone, Debug, Default)]
pub struct OwnedEvent {
    data: Vec<u8>,
    event: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
    snapshot: Option<Vec<u8>>,
}

impl OwnedEvent {
    /// A copy of what `stream` may be given.
    pub fn of(event: &NewEvent<'_>, stream: &Stream) -> Result<Self, EventError> {
        stream.check(event)?;
        Ok(Self {
            data: event.data.to_vec(),
            event: event.event.map(str::to_owned),
            id: event.id.map(str::to_owned),
            retry: event.retry,
            snapshot: event.snapshot.map(<[u8]>::to_vec),
        })
    }

    fn as_new(&self) -> NewEvent<'_> {
        NewEvent {
            data: &self.data,
            event: self.event.as_deref(),
            id: self.id.as_deref(),
            retry: self.retry,
            snapshot: self.snapshot.as_deref(),
        }
    }
}

/// What a step came to.
#[derive(Debug)]
pub enum TaskProgress {
    /// It was appended; where the disk does not have it yet, it counts as published once that is said.
    Appended(Appended),
    /// To be stepped again when the task is woken, or after so long.
    Wait(Duration),
}

/// See the module.
pub struct TaskPublish {
    stream: Stream,
    event: OwnedEvent,
    role: Role,
    /// Taken out while it is stepped.
    waiting: Option<Waiting>,
    /// When it began to wait, if it did.
    began: Option<Micros>,
    /// Whether it was appended, or refused: it has no place any more.
    is_over: bool,
}

impl Stream {
    /// Sets the snapshot from a task; where the disk does not have it yet, what is to be waited for.
    pub fn task_snapshot(&self, event: &OwnedEvent, sleep: &TaskSleep) -> Result<Option<KeptSoon>, PublishError> {
        self.set_snapshot(&event.as_new(), Some(sleep))
    }

    /// Begins to publish from a task, which sleeps so.
    pub fn task_publish(&self, event: OwnedEvent, sleep: TaskSleep) -> TaskPublish {
        TaskPublish::new(self, event, Role::Ordinary, sleep)
    }

    /// Begins to end the stream, likewise; `event` is the terminal event.
    pub fn task_end(&self, event: OwnedEvent, sleep: TaskSleep) -> TaskPublish {
        TaskPublish::new(self, event, Role::Terminal, sleep)
    }
}

impl TaskPublish {
    fn new(stream: &Stream, event: OwnedEvent, role: Role, sleep: TaskSleep) -> Self {
        let waiting = Waiting::of_task(sleep);
        Self { stream: stream.clone(), event, role, waiting: Some(waiting), began: None, is_over: false }
    }

    /// Goes as far as it can; `account` is what the task has waited for sockets.
    pub fn step(&mut self, account: &mut Account) -> Result<TaskProgress, PublishError> {
        let event = self.event.as_new();
        let event = self.stream.check(&event)?;
        let waiting = self.waiting.take().unwrap_or_default();
        let mut attempt = Attempt::going_on(&event, self.role, Caller::Thread, waiting);
        let stream = self.stream.clone();
        let mut inner = stream.lock();
        let progress = Self::advance(&stream, &mut attempt, &mut inner, &mut self.began, account);
        self.waiting = Some(attempt.put_off());
        match progress {
            Ok(Progress::Wait(at)) => {
                drop(inner);
                Ok(TaskProgress::Wait(Duration::from_micros(at.saturating_sub(clock::now()))))
            }
            Ok(Progress::Published(published)) => {
                self.is_over = true;
                let kept = self.waiting.as_mut().and_then(Waiting::take_kept);
                if kept.is_some() {
                    drop(inner);
                } else {
                    stream.appended(inner, self.role);
                }
                self.count();
                Ok(TaskProgress::Appended(Appended { published, kept }))
            }
            Err(error) => {
                self.is_over = true;
                drop(inner);
                self.count();
                Err(error)
            }
        }
    }

    fn advance(
        stream: &Stream,
        attempt: &mut Attempt<'_>,
        inner: &mut Locked<'_>,
        began: &mut Option<Micros>,
        account: &mut Account,
    ) -> Result<Progress, PublishError> {
        if began.is_none()
            && let Some(published) = attempt.at_once(stream, inner)?
        {
            return Ok(Progress::Published(published));
        }
        let now = clock::now();
        began.get_or_insert(now);
        account.with(&stream.0.delivery, now, |account| attempt.step(stream, inner, now, account))
    }

    fn count(&self) {
        if let Some(began) = self.began {
            self.stream.count_wait(began);
        }
    }

    /// Gives its place up, and has the task pay for it.
    pub fn give_up(&mut self, account: &mut Account) {
        let Some(waiting) = self.waiting.take().filter(|_| !std::mem::replace(&mut self.is_over, true)) else { return };
        let event = self.event.as_new();
        let Ok(event) = self.stream.check(&event) else { return };
        let mut attempt = Attempt::going_on(&event, self.role, Caller::Thread, waiting);
        let (mut inner, now) = (self.stream.lock(), clock::now());
        account.with(&self.stream.0.delivery, now, |account| attempt.leave(&self.stream, &mut inner, now, account));
    }
}

impl Drop for TaskPublish {
    fn drop(&mut self) {
        self.give_up(&mut Account::default());
    }
}
