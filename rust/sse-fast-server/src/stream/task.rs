//! Publishing from a task of an event loop: it never blocks, and its task sleeps in between.
//!
//! Owns: events that outlive the call, and the steps of its publishing. Must not know: what an event loop is, when an event
//! may be appended (`attempt`). It waits as a thread does, in the same order and from the same budget, but for one thing: once
//! it is woken its place is kept as long as that of a thread that is away (`room`), since its loop may be busy. Invariant: one
//! that is dropped before it was appended publishes nothing and gives its place up.

use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::error::EventError;
use sse_fast_core::event::NewEvent;
use sse_fast_core::stream::Part;

use super::attempt::{Attempt, Caller, Progress, Waiting};
use super::elsewhere::{ChangeAwaited, HandedOver};
use super::outcome::{PublishError, Published};
use super::pending::{Appended, KeptSoon};
use super::publish::Account;
use super::role::Role;
use super::watch::{Sleeper, TaskSleep};
use super::what::What;
use super::{Locked, Stream};
use crate::clock;
use crate::idempotency::SharedKey;

/// A task that waits for an answer from elsewhere looks by itself this often. Nothing depends on it: the answer wakes it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

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

    /// The same, borrowed.
    pub fn as_new(&self) -> NewEvent<'_> {
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

/// What a task publishes.
enum Owned {
    One(OwnedEvent),
    /// In one step.
    Several(Box<[OwnedEvent]>),
}

impl Owned {
    /// The events, borrowed.
    fn as_new(&self) -> Vec<NewEvent<'_>> {
        match self {
            Self::One(event) => vec![event.as_new()],
            Self::Several(events) => events.iter().map(OwnedEvent::as_new).collect(),
        }
    }

    /// Works on it as it is appended.
    fn with<T>(&self, stream: &Stream, work: impl FnOnce(What<'_>) -> T) -> Result<T, EventError> {
        match self {
            Self::One(event) => Ok(work(What::One(stream.check(&event.as_new())?))),
            Self::Several(events) => {
                let parts = events.iter().map(|event| stream.check(&event.as_new()).map(Part::Event));
                Ok(work(What::of(&parts.collect::<Result<Vec<_>, _>>()?)))
            }
        }
    }
}

/// See the module.
pub struct TaskPublish {
    stream: Stream,
    event: Owned,
    role: Role,
    /// What it is published under.
    key: Option<SharedKey>,
    /// Taken out while it is stepped.
    waiting: Option<Waiting>,
    /// How the task sleeps.
    sleep: TaskSleep,
    /// Once it was handed over, where the log is elsewhere.
    handed_over: Option<HandedOver>,
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
        TaskPublish::new(self, Owned::One(event), Role::Ordinary, sleep)
    }

    /// The same of several, at least one, which are appended in one step, under this key.
    pub fn task_publish_together(
        &self,
        events: Vec<OwnedEvent>,
        key: Option<SharedKey>,
        sleep: TaskSleep,
    ) -> TaskPublish {
        let mut publish = TaskPublish::new(self, Owned::Several(events.into()), Role::Ordinary, sleep);
        publish.key = key;
        publish
    }

    /// Begins to end the stream, likewise; `event` is the terminal event.
    pub fn task_end(&self, event: OwnedEvent, sleep: TaskSleep) -> TaskPublish {
        TaskPublish::new(self, Owned::One(event), Role::Terminal, sleep)
    }
}

impl TaskPublish {
    fn new(stream: &Stream, event: Owned, role: Role, sleep: TaskSleep) -> Self {
        let waiting = Some(Waiting::of_task(sleep.clone()));
        let stream = stream.current().clone();
        Self { stream, event, role, key: None, waiting, sleep, handed_over: None, began: None, is_over: false }
    }

    /// Goes as far as it can; `account` is what the task has waited for sockets.
    pub fn step(&mut self, account: &mut Account) -> Result<TaskProgress, PublishError> {
        if self.stream.is_copy() {
            return self.step_elsewhere();
        }
        let waiting = self.waiting.take().unwrap_or_default();
        let stream = self.stream.clone();
        let mut inner = stream.lock();
        let (role, key, began) = (self.role, self.key.as_ref(), &mut self.began);
        let stepped = self.event.with(&stream, |what| {
            let mut attempt = Attempt::going_on(what, role, Caller::Thread, waiting).under(key);
            let progress = Self::advance(&stream, &mut attempt, &mut inner, began, account);
            (progress, attempt.put_off())
        });
        let (progress, waiting) = stepped?;
        self.waiting = Some(waiting);
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

    /// The same where the log is elsewhere: the event is handed over once, and the answer waited for.
    fn step_elsewhere(&mut self) -> Result<TaskProgress, PublishError> {
        self.sleep.rearm();
        let stream = &self.stream;
        if self.handed_over.is_none() {
            self.handed_over = Some(stream.hand_over(&self.event.as_new(), self.role == Role::Terminal)?);
        }
        let sleeper = || Sleeper::Task(self.sleep.clone());
        let answer = self.handed_over.as_mut().and_then(|handed_over| handed_over.take_or_sleep(stream, sleeper));
        let Some(answer) = answer else { return Ok(TaskProgress::Wait(LOOK_AGAIN)) };
        self.is_over = true;
        answer.map(|ids| {
            let published = match &self.event {
                Owned::One(_) => Published::one(ids),
                Owned::Several(_) => Published::several(ids),
            };
            TaskProgress::Appended(Appended { published, kept: None })
        })
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
        let stream = &self.stream;
        if stream.is_copy() {
            // It is on its way; nobody waits for its answer any more.
            return;
        }
        // It was found in order when it began.
        let _ = self.event.with(stream, |what| {
            let mut attempt = Attempt::going_on(what, self.role, Caller::Thread, waiting);
            let (mut inner, now) = (stream.lock(), clock::now());
            account.with(&stream.0.delivery, now, |account| attempt.leave(stream, &mut inner, now, account));
        });
    }
}

/// Several events of a task's on their way to a log elsewhere, appended next to each other; or a snapshot.
pub struct TaskHandOver {
    stream: Stream,
    events: Vec<OwnedEvent>,
    what: Handed,
    /// For other processes.
    key: Option<SharedKey>,
    sleep: TaskSleep,
    asked: Option<Asked>,
}

/// What is handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handed {
    Events,
    End,
    Snapshot,
}

enum Asked {
    Events(HandedOver),
    Snapshot(ChangeAwaited),
}

impl Stream {
    /// Begins to hand events over from a task, without a key at most [`MAX_TOGETHER`](super::MAX_TOGETHER), where the log is
    /// elsewhere; with `end` the last is the terminal event.
    pub fn task_hand_over(
        &self,
        events: Vec<OwnedEvent>,
        end: bool,
        key: Option<SharedKey>,
        sleep: TaskSleep,
    ) -> TaskHandOver {
        let what = if end { Handed::End } else { Handed::Events };
        TaskHandOver { stream: self.current().clone(), events, what, key, sleep, asked: None }
    }

    /// Begins to set the snapshot from a task, likewise: to the last of these events.
    pub fn task_snapshot_elsewhere(&self, events: Vec<OwnedEvent>, sleep: TaskSleep) -> TaskHandOver {
        TaskHandOver { stream: self.current().clone(), events, what: Handed::Snapshot, key: None, sleep, asked: None }
    }
}

impl TaskHandOver {
    /// Goes as far as it can: what was published once it was, else for how long to wait before it is stepped again.
    pub fn step(&mut self) -> Result<Result<Vec<Published>, Duration>, PublishError> {
        self.sleep.rearm();
        let stream = &self.stream;
        if self.asked.is_none() {
            let events: Vec<_> = self.events.iter().map(OwnedEvent::as_new).collect();
            self.asked = Some(match (self.what, events.last()) {
                (Handed::Snapshot, Some(last)) => {
                    Asked::Snapshot(stream.hand_over_snapshot(last.data, last.event.unwrap_or("snapshot"))?)
                }
                (what, _) => Asked::Events(stream.hand_over_under(&events, what == Handed::End, self.key.as_ref())?),
            });
        }
        let answer = match &mut self.asked {
            Some(Asked::Events(handed_over)) => handed_over.take_or_sleep(stream, || Sleeper::Task(self.sleep.clone())),
            Some(Asked::Snapshot(change)) => {
                change.take_or_sleep(stream, &self.sleep).map(|done| done.map(|()| Vec::new()))
            }
            None => None,
        };
        answer.map_or(Ok(Err(LOOK_AGAIN)), |answer| answer.map(Ok))
    }
}

impl Drop for TaskPublish {
    fn drop(&mut self) {
        self.give_up(&mut Account::default());
    }
}
