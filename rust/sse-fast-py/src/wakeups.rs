//! `Wakeups`: what one event loop waits on for news of all the streams that its tasks read.
//!
//! Owns: handing the engine's wake-ups to Python by number. Must not know: asyncio, futures; `_wakeups.py` makes those.
//!
//! Invariant: a stream's lock is only ever waited for detached, but where a watching is forgotten without `stop`; no
//! holder of that lock waits for the interpreter.

use std::os::fd::{AsFd, AsRawFd};

use parking_lot::Mutex;
use pyo3::prelude::*;
use sse_fast_server::{Wakeups, Watch};

use crate::errors::io_error;
use crate::fork::Guarded;
use crate::gil::Detached;
use crate::reader::PyReader;

/// One event loop's wake-ups: a descriptor that becomes readable when streams that are watched have news.
#[pyclass(frozen, module = "sse_fast._core", name = "Wakeups")]
pub(crate) struct PyWakeups {
    engine: Guarded<Wakeups>,
}

/// The watching of one stream; it ends with `stop`, or when it is forgotten.
#[pyclass(frozen, module = "sse_fast._core", name = "Watch")]
pub(crate) struct PyWatch {
    /// `None` once stopped. Protects the watching itself: it is stopped once.
    engine: Guarded<Mutex<Option<Watch>>>,
}

impl PyWakeups {
    pub(crate) fn engine(&self) -> PyResult<&Wakeups> {
        self.engine.get()
    }
}

#[pymethods]
impl PyWakeups {
    #[new]
    fn new() -> PyResult<Self> {
        Wakeups::new().map(|wakeups| Self { engine: Guarded::new(wakeups) }).map_err(|error| io_error(&error))
    }

    /// The descriptor; it is closed with this object.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.engine.get()?.as_fd().as_raw_fd())
    }

    /// The numbers of the streams that have news, each once; the descriptor is quiet then until there is more.
    fn take(&self) -> PyResult<Vec<u64>> {
        Ok(self.engine.get()?.take())
    }

    /// Watches the stream of a reader: `number` is among those that `take` gives after each piece of news.
    fn watch(&self, py: Python<'_>, reader: &PyReader, number: u64) -> PyResult<PyWatch> {
        let wakeups = self.engine.get()?;
        let stream = reader.stream()?;
        let watch = py.detached(|| stream.watch(wakeups, number))?;
        Ok(PyWatch::new(watch))
    }
}

impl PyWatch {
    pub(crate) fn new(watch: Watch) -> Self {
        Self { engine: Guarded::new(Mutex::new(Some(watch))) }
    }
}

#[pymethods]
impl PyWatch {
    /// The number was taken: what is published from here on brings it again. Readers look after this.
    fn rearm(&self) -> PyResult<()> {
        if let Some(watch) = &*self.engine.get()?.lock() {
            watch.rearm();
        }
        Ok(())
    }

    /// Stops watching.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let watch = self.engine.get()?.lock().take();
        py.detached(|| drop(watch))
    }
}
