//! `Stream`, the object users publish through, and the heartbeat that a `with` block overrides.
//!
//! Owns: the path of a publish: convert, try attached (no lock is waited for), and only where the engine would have to
//! wait, publish detached. Must not know: logs, shards, subscribers, or any Python thread.
//!
//! Invariants: a batch is converted wholly before its first event is published; a stream of another process (after a
//! fork) only ever raises `ForkError`.
//!
//! Changes together with `python/sse_fast/_core.pyi`, which holds the documentation that users see.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use sse_fast_server::{NewEvent, PublishError, Published, ReadFrom, Stream};

use crate::batch;
use crate::convert::{self, Data};
use crate::errors::{heartbeat_error, publish_error, setting_error};
use crate::fork::Guarded;
use crate::gil::{Detached, quick};
use crate::options;
use crate::reader::PyReader;
use crate::stats;

static EVENTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A named, ordered, bounded log of events with its subscribers; made by `Server.stream`.
#[pyclass(frozen, weakref, module = "sse_fast", name = "Stream")]
pub(crate) struct PyStream {
    engine: Guarded<Stream>,
}

impl PyStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { engine: Guarded::new(stream) }
    }

    pub(crate) fn engine(&self) -> PyResult<&Stream> {
        self.engine.get()
    }
}

/// Publishes attached where that needs no waiting, else detached.
fn publish(py: Python<'_>, stream: &Stream, event: &NewEvent<'_>) -> PyResult<Published> {
    match quick(|| stream.try_publish(event))? {
        Err(PublishError::WouldWait) => py.aside(|| stream.publish(event))?,
        settled => settled,
    }
    .map_err(publish_error)
}

#[pymethods]
impl PyStream {
    /// Publishes one event and returns its id.
    #[pyo3(signature = (data, *, event=None, id=None, retry=None, snapshot=None))]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        event: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        retry: Option<&Bound<'py, PyAny>>,
        snapshot: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        let stream = self.engine.get()?;
        let data = Data::of("data", data)?;
        let snapshot = snapshot.map(|snapshot| Data::of("snapshot", snapshot)).transpose()?;
        let event = NewEvent {
            data: data.as_bytes("data")?,
            event: convert::text("event", event)?,
            id: convert::text("id", id)?,
            retry: convert::retry(retry)?,
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.as_bytes("snapshot")).transpose()?,
        };
        Ok(PyString::new(py, publish(py, stream, &event)?.id()))
    }

    /// Publishes several events, in order, crossing into the engine once.
    fn publish_many(&self, py: Python<'_>, events: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
        let stream = self.engine.get()?;
        let items = batch::items(events)?;
        let events = batch::events(py, &items)?;
        py.aside(|| {
            events.iter().map(|event| stream.publish(event).map(|done| done.id().to_owned())).collect::<Result<_, _>>()
        })?
        .map_err(publish_error)
    }

    /// Sets what a new subscriber gets first.
    #[pyo3(signature = (data, *, event=None), text_signature = "($self, data, *, event='snapshot')")]
    fn snapshot(&self, py: Python<'_>, data: &Bound<'_, PyAny>, event: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let stream = self.engine.get()?;
        let data = Data::of("data", data)?;
        let (bytes, event) = (data.as_bytes("data")?, convert::text("event", event)?.unwrap_or("snapshot"));
        py.aside(|| stream.snapshot(bytes, Some(event)))?.map_err(publish_error)
    }

    /// Publishes the terminal event; the stream takes no more.
    #[pyo3(signature = (data=None, *, event=None), text_signature = "($self, data=None, *, event='end')")]
    fn end<'py>(
        &self,
        py: Python<'py>,
        data: Option<&Bound<'py, PyAny>>,
        event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        let stream = self.engine.get()?;
        // A terminal event always carries data: clients ignore an event without any.
        let data = data.map_or_else(|| Ok(Data::Owned(b"null".to_vec())), |data| Data::of("data", data))?;
        let (bytes, event) = (data.as_bytes("data")?, convert::text("event", event)?.unwrap_or("end"));
        let done = py.aside(|| stream.end(bytes, event))?.map_err(publish_error)?;
        Ok(PyString::new(py, done.id()))
    }

    /// A context manager that overrides the heartbeat inside its block.
    #[pyo3(signature = (every=5.0, comment="prefill"))]
    fn heartbeat(slf: Bound<'_, Self>, every: f64, comment: &str) -> PyResult<PyHeartbeat> {
        let every = Duration::try_from_secs_f64(every)
            .map_err(|_| setting_error(&format!("every={every} is not allowed: it must be seconds from 0.001 up")))?;
        Ok(PyHeartbeat { stream: slf.unbind(), every, comment: comment.to_owned(), tokens: Mutex::new(Vec::new()) })
    }

    /// Iterates over the stream's events in this process.
    #[pyo3(signature = (*, start=None, last_event_id=None, timeout=None))]
    fn events<'py>(
        slf: &Bound<'py, Self>,
        start: Option<&Bound<'py, PyAny>>,
        last_event_id: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let reader = Py::new(py, slf.get().reader(py, start, last_event_id)?)?;
        EVENTS.import(py, "sse_fast._stream", "Events")?.call1((reader, slf.get().name()?, timeout))
    }

    /// The engine's reader below `events`.
    #[pyo3(name = "_reader", signature = (start=None, last_event_id=None))]
    fn reader(
        &self,
        py: Python<'_>,
        start: Option<&Bound<'_, PyAny>>,
        last_event_id: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyReader> {
        let stream = self.engine.get()?;
        let from = match (start, convert::text("last_event_id", last_event_id)?) {
            (Some(_), Some(_)) => return Err(setting_error("start and last_event_id exclude each other: give one")),
            (None, Some(id)) => ReadFrom::After(id.to_owned()),
            (start, None) => ReadFrom::Start(start.map(|start| options::choice("start", start)).transpose()?),
        };
        Ok(PyReader::new(py.aside(|| stream.reader(&from))?))
    }

    /// The stream's name.
    #[getter]
    fn name(&self) -> PyResult<&str> {
        Ok(self.engine.get()?.name())
    }

    /// How many subscribers it has now.
    #[getter]
    fn subscribers(&self, py: Python<'_>) -> PyResult<usize> {
        let stream = self.engine.get()?;
        py.aside(|| stream.subscribers())
    }

    /// The id of the newest event, or None.
    #[getter]
    fn last_id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let stream = self.engine.get()?;
        py.aside(|| stream.last_id())
    }

    /// Whether the terminal event was published.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        let stream = self.engine.get()?;
        py.aside(|| stream.ended())
    }

    /// What the stream has counted so far.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stream = self.engine.get()?;
        stats::of_stream(py, &py.aside(|| stream.stats())?)
    }

    /// Forgets the name at once.
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        let stream = self.engine.get()?;
        py.aside(|| stream.remove())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Some(stream) = self.engine.own() else { return Ok("<sse_fast.Stream of another process>".to_owned()) };
        let (ended, subscribers) = py.aside(|| (stream.ended(), stream.subscribers()))?;
        let state = if ended { "ended" } else { "open" };
        Ok(format!("<sse_fast.Stream {:?}, {state}, {subscribers} subscribers>", stream.name()))
    }
}

/// The `with stream.heartbeat(...)` block.
#[pyclass(frozen, module = "sse_fast._core", name = "Heartbeat")]
pub(crate) struct PyHeartbeat {
    stream: Py<PyStream>,
    every: Duration,
    comment: String,
    /// What the engine gave for each block that is entered and not yet left; an object may be entered again inside.
    tokens: Mutex<Vec<u64>>,
}

#[pymethods]
impl PyHeartbeat {
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyStream>> {
        let stream = self.stream.get().engine()?;
        let token = py.aside(|| stream.push_heartbeat(self.every, &self.comment))?.map_err(heartbeat_error)?;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        Ok(self.stream.clone_ref(py))
    }

    /// Restores the heartbeat that was in force outside the block, whatever ended the block.
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<bool> {
        let token = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let (Some(token), Ok(stream)) = (token, self.stream.get().engine()) {
            py.aside(|| stream.pop_heartbeat(token))?;
        }
        Ok(false)
    }
}
