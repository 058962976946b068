//! `Presence`: what callbacks are told of who comes and goes, and of streams that nobody reads any more.
//!
//! Owns: handing the engine's queue to Python, row by row. Must not know: callbacks, threads; `_presence.py` has them.
//! Invariant: it is waited for detached.

use pyo3::prelude::*;
use pyo3::types::{PyAny, PyString};
use pyo3::{PyTraverseError, PyVisit};
use sse_fast_server::{Presence, PresenceEvent};

use crate::fork::Guarded;
use crate::gil::Detached;
use crate::json::Encoder;
use crate::stream::{PyStream, PyStreams};

/// What happened, to what, and whose doing it was: `("join", stream, reader)`, `("leave", stream, reader)`,
/// `("empty", key, None)`, `("last", key, None)`, `("forgotten", key, None)`.
type PresenceRow<'py> = (&'static str, Bound<'py, PyAny>, Option<Bound<'py, PyString>>);

/// A server's queue of who comes and goes.
#[pyclass(frozen, module = "sse_fast._core", name = "Presence")]
pub(crate) struct PyPresence {
    engine: Guarded<Presence>,
    /// What the streams that are told of encode values with.
    encoder: Encoder,
}

impl PyPresence {
    pub(crate) fn new(presence: Presence, encoder: Encoder) -> Self {
        Self { engine: Guarded::new(presence), encoder }
    }
}

#[pymethods]
impl PyPresence {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.encoder.visit(&visit)
    }

    /// Joins and leaves are told from now on.
    fn want(&self) -> PyResult<()> {
        self.engine.get()?.want();
        Ok(())
    }

    /// Waits for ``(kind, stream or key, reader)`` rows; None once the engine has stopped and all were given.
    ///
    /// `callbacks` is what the streams in them ask for theirs.
    fn take<'py>(&self, py: Python<'py>, callbacks: &Bound<'py, PyAny>) -> PyResult<Option<Vec<PresenceRow<'py>>>> {
        let presence = self.engine.get()?;
        // An empty batch is none yet.
        let events = py.serve(|slice| match presence.take(slice) {
            Some(events) if events.is_empty() => None,
            events => Some(events),
        })?;
        let Some(events) = events.flatten() else { return Ok(None) };
        let of = Py::new(py, PyStreams::new(callbacks.clone().unbind(), self.encoder.clone_ref(py)))?;
        let stream = |stream| {
            let shown = PyStream::new(stream, of.clone_ref(py));
            Bound::new(py, shown).map(Bound::into_any)
        };
        let name = |reader: Option<std::sync::Arc<str>>| reader.map(|reader| PyString::new(py, &reader));
        let key = |key: u64| key.into_pyobject(py).map(Bound::into_any);
        let rows = events.into_iter().map(|event| {
            Ok(match event {
                PresenceEvent::Joined { stream: joined, reader } => ("join", stream(joined)?, name(reader)),
                PresenceEvent::Left { stream: left, reader } => ("leave", stream(left)?, name(reader)),
                PresenceEvent::Empty { key: told, is_last: false } => ("empty", key(told)?, None),
                PresenceEvent::Empty { key: told, is_last: true } => ("last", key(told)?, None),
                PresenceEvent::Forgotten { key: forgotten } => ("forgotten", key(forgotten)?, None),
            })
        });
        rows.collect::<PyResult<Vec<_>>>().map(Some)
    }
}
