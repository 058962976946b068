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
    Account, Appended, KeptSoon, OwnedEvent, PublishError, Stream, TaskProgress, TaskPublish, TaskSleep,
};

use crate::batch;
use crate::errors::{event_error, publish_error};
use crate::fork::Guarded;
use crate::gil::Detached;
use crate::json::Encoder;
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
    /// The first event, once it was tried.
    current: Option<TaskPublish>,
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
        let state = State { events, part, sleep: None, current: None, appended: Vec::new(), put_off: None, last: None };
        Self { stream: Guarded::new(stream.clone()), state: Guarded::new(Mutex::new(state)), encoder }
    }
}

impl State {
    fn left(&self) -> usize {
        self.events.len() + self.appended.len() + usize::from(self.current.is_some() || self.last.is_some())
    }

    /// Publishes until there is something to wait for, or enough for one turn: ids, and seconds to wait.
    fn step(&mut self, stream: &Stream, sleep: &TaskSleep, account: &mut Account) -> Stepped {
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
            state.appended.clear();
            (state.put_off, state.last) = (None, None);
            if let Some(mut current) = state.current.take() {
                current.give_up(&mut account.lock());
            }
        })
    }
}
