//! `Publishing`: what a coroutine publishes, step by step, and `Account`, what its task has waited.
//!
//! Owns: events that were converted and are not published yet. Must not know: event loops; `_publish.py` waits between the
//! steps. Invariants: a step publishes at most [`TURN`] events and never waits but for a stream's lock, detached. What was not
//! appended when it is given up, or forgotten, is never published.

use std::collections::VecDeque;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use sse_fast_server::{
    Account, Appended, KeptSoon, MAX_TOGETHER, OwnedEvent, PublishError, Stream, TaskHandOver, TaskProgress,
    TaskPublish, TaskSleep, UnderWay,
};

use crate::batch;
use crate::errors::{event_error, publish_error};
use crate::fork::Guarded;
use crate::gil::Detached;
use crate::json::Encoder;
use crate::once::{self, Once};
use crate::wakeups::PyWakeups;

/// Events that a step publishes at most: others of the loop get their turn after that.
const TURN: usize = 64;

/// Seconds after which one that waits for the disk looks by itself: it is woken before.
const LOOK_AGAIN: f64 = 1.0;

/// What a task has waited for readers' sockets in the last minute.
#[pyclass(frozen, module = "sse_fast._core", name = "Account")]
pub(crate) struct PyAccount {
    /// Protects the account; the task's steps alone use it.
    engine: Guarded<Mutex<Account>>,
}

#[pymethods]
impl PyAccount {
    #[new]
    fn new() -> Self {
        Self { engine: Guarded::new(Mutex::new(Account::default())) }
    }
}

/// What an event is to its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Event,
    End,
    Snapshot,
}

struct State {
    events: VecDeque<OwnedEvent>,
    part: Part,
    /// Made with the first step.
    sleep: Option<TaskSleep>,
    /// The first event, or all of them, once it was tried.
    current: Option<TaskPublish>,
    /// The key that they are published under, in one step.
    under_way: Option<UnderWay>,
    /// How many were handed over to a log elsewhere and are not answered yet, and what waits for that.
    handed_over: Option<(usize, TaskHandOver)>,
    /// The ids of those that the disk may not have yet.
    appended: Vec<String>,
    /// The last of them.
    put_off: Option<KeptSoon>,
    /// What is waited for before anything else.
    last: Option<KeptSoon>,
}

/// Events that are being published for a coroutine.
#[pyclass(frozen, module = "sse_fast._core", name = "Publishing")]
pub(crate) struct PyPublishing {
    stream: Guarded<Stream>,
    /// Protects what is left; one task steps it.
    state: Guarded<Mutex<State>>,
    /// The stream's.
    encoder: Encoder,
}

impl PyPublishing {
    pub(crate) fn new(
        stream: &Stream,
        encoder: Encoder,
        part: Part,
        events: impl IntoIterator<Item = OwnedEvent>,
    ) -> Self {
        let events = events.into_iter().collect();
        let state = State {
            events,
            part,
            sleep: None,
            current: None,
            under_way: None,
            handed_over: None,
            appended: Vec::new(),
            put_off: None,
            last: None,
        };
        Self { stream: Guarded::new(stream.clone()), state: Guarded::new(Mutex::new(state)), encoder }
    }
}

impl State {
    fn left(&self) -> usize {
        let handed_over = self.handed_over.as_ref().map_or(0, |(count, _)| *count);
        let waits = usize::from(self.current.is_some() || self.last.is_some());
        self.events.len() + self.appended.len() + waits + handed_over
    }

    /// The same where the log is elsewhere: as many events as may be travel together.
    fn step_elsewhere(&mut self, stream: &Stream, sleep: &TaskSleep) -> Stepped {
        if self.handed_over.is_none() {
            // What is published under a key is published in one step.
            let key = self.under_way.as_ref().and_then(UnderWay::key).copied();
            let count = if key.is_some() { self.events.len() } else { self.events.len().min(MAX_TOGETHER) };
            let events: Vec<_> = self.events.drain(..count).collect();
            if events.is_empty() {
                return Ok((Vec::new(), None));
            }
            let handed_over = match self.part {
                Part::Snapshot => stream.task_snapshot_elsewhere(events, sleep.clone()),
                Part::Event | Part::End => stream.task_hand_over(events, self.part == Part::End, key, sleep.clone()),
            };
            self.handed_over = Some((count, handed_over));
        }
        let Some((_, handed_over)) = &mut self.handed_over else { return Ok((Vec::new(), None)) };
        let stepped = handed_over.step();
        if !matches!(stepped, Ok(Err(_))) {
            self.handed_over = None;
        }
        match stepped? {
            Ok(published) => {
                let ids: Vec<_> = published.iter().map(|published| published.id().to_owned()).collect();
                if let Some(under_way) = self.under_way.take() {
                    once::done(under_way, ids.iter().map(String::as_str));
                }
                Ok((ids, None))
            }
            Err(longest) => Ok((Vec::new(), Some(longest.as_secs_f64()))),
        }
    }

    /// Publishes until there is something to wait for, or enough for one turn: ids, and seconds to wait.
    fn step(&mut self, stream: &Stream, sleep: &TaskSleep, account: &mut Account) -> Stepped {
        if stream.is_copy() {
            return self.step_elsewhere(stream, sleep);
        }
        if self.under_way.is_some() {
            return self.step_together(stream, sleep, account);
        }
        while self.appended.len() < TURN && self.last.is_none() {
            let Some(event) = self.current.take().map(Next::Current).or_else(|| self.events.pop_front().map(Next::New))
            else {
                break;
            };
            let mut current = match (event, self.part) {
                (Next::Current(current), _) => current,
                (Next::New(event), Part::Event) => stream.task_publish(event, sleep.clone()),
                (Next::New(event), Part::End) => stream.task_end(event, sleep.clone()),
                (Next::New(event), Part::Snapshot) => {
                    self.last = stream.task_snapshot(&event, sleep)?;
                    break;
                }
            };
            match current.step(account)? {
                TaskProgress::Appended(Appended { published, kept }) => {
                    self.appended.push(published.id().to_owned());
                    self.put_off = kept.or_else(|| self.put_off.take());
                }
                TaskProgress::Wait(longest) => {
                    self.current = Some(current);
                    if self.put_off.is_none() {
                        return Ok((std::mem::take(&mut self.appended), Some(longest.as_secs_f64())));
                    }
                    break;
                }
            }
        }
        self.last = self.last.take().or_else(|| self.put_off.take());
        self.once_kept()
    }

    /// The same where all of them are published in one step.
    fn step_together(&mut self, stream: &Stream, sleep: &TaskSleep, account: &mut Account) -> Stepped {
        let events = &mut self.events;
        let key = self.under_way.as_ref().and_then(UnderWay::key).copied();
        let begin = || stream.task_publish_together(std::mem::take(events).into(), key, sleep.clone());
        let mut current = self.current.take().unwrap_or_else(begin);
        match current.step(account)? {
            TaskProgress::Appended(appended) => {
                if let Some(under_way) = self.under_way.take() {
                    once::done_once_kept(under_way, &appended);
                }
                self.appended.extend(appended.published.ids().map(str::to_owned));
                self.last = appended.kept;
                self.once_kept()
            }
            TaskProgress::Wait(longest) => {
                self.current = Some(current);
                Ok((Vec::new(), Some(longest.as_secs_f64())))
            }
        }
    }

    /// The ids of those that were appended, once the disk has the last of them.
    fn once_kept(&mut self) -> Stepped {
        match self.last.as_ref().map(KeptSoon::outcome) {
            Some(None) => return Ok((Vec::new(), Some(LOOK_AGAIN))),
            Some(Some(Err(error))) => {
                self.last = None;
                return Err(error);
            }
            Some(Some(Ok(()))) => self.last = None,
            None => {}
        }
        Ok((std::mem::take(&mut self.appended), None))
    }
}

/// An event that was tried before, or is now.
#[expect(clippy::large_enum_variant, reason = "it lies on the stack, for one step")]
enum Next {
    Current(TaskPublish),
    New(OwnedEvent),
}

type Stepped = Result<(Vec<String>, Option<f64>), PublishError>;

#[pymethods]
impl PyPublishing {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.encoder.visit(&visit)
    }

    /// How many events are not published yet.
    #[getter]
    fn left(&self) -> PyResult<usize> {
        Ok(self.state.get()?.lock().left())
    }

    /// Adds events behind the others, in the forms of `Stream.publish_many`; `first` is the first one's number.
    fn add(&self, py: Python<'_>, events: &Bound<'_, PyAny>, first: usize) -> PyResult<()> {
        let items = batch::items(events, first, &self.encoder)?;
        let stream = self.stream.get()?;
        let events = batch::events(py, &items, first, stream)?;
        let owned = events.iter().map(|event| OwnedEvent::of(event, stream)).collect::<Result<Vec<_>, _>>();
        self.state.get()?.lock().events.extend(owned.map_err(|error| event_error(&error))?);
        Ok(())
    }

    /// What was added is published under this key, in one step: None, or the ids where it was published before.
    fn once(&self, idempotency_key: &Bound<'_, PyAny>) -> PyResult<Option<Vec<String>>> {
        let Some(key) = once::key(Some(idempotency_key))? else { return Ok(None) };
        let mut state = self.state.get()?.lock();
        if state.events.is_empty() {
            return Ok(None);
        }
        match once::begin(self.stream.get()?, key, state.events.iter().map(OwnedEvent::as_new))? {
            Once::Again(ids) => {
                state.events.clear();
                Ok(Some(ids.iter().map(|id| String::from(&**id)).collect()))
            }
            Once::First(under_way) => {
                state.under_way = Some(under_way);
                Ok(None)
            }
        }
    }

    /// Publishes for one turn at most: the ids, and seconds where it waits. Then it is to be stepped again, after
    /// those or once `number` is among the loop's wake-ups.
    fn step(
        &self,
        py: Python<'_>,
        wakeups: &PyWakeups,
        number: u64,
        account: &PyAccount,
    ) -> PyResult<(Vec<String>, Option<f64>)> {
        let (stream, state, account) = (self.stream.get()?, self.state.get()?, account.engine.get()?);
        let wakeups = wakeups.engine()?;
        py.detached(|| {
            let state = &mut *state.lock();
            let sleep = state.sleep.get_or_insert_with(|| wakeups.task(number)).clone();
            state.step(stream, &sleep, &mut account.lock())
        })?
        .map_err(publish_error)
    }

    /// Publishes nothing more.
    fn give_up(&self, py: Python<'_>, account: &PyAccount) -> PyResult<()> {
        let (state, account) = (self.state.get()?, account.engine.get()?);
        py.detached(|| {
            let mut state = state.lock();
            state.events.clear();
            state.under_way = None;
            // They are on their way, and with the store; nobody waits for the answer any more.
            state.handed_over = None;
            state.appended.clear();
            (state.put_off, state.last) = (None, None);
            if let Some(mut current) = state.current.take() {
                current.give_up(&mut account.lock());
            }
        })
    }
}
