//! `Reader`: a stream read inside the process, for iteration and for a run's `on_event`.
//!
//! Owns: handing the engine's events to Python as tuples. Must not know: asyncio, iteration, silence; `_stream.py` makes
//! those from `next`, `try_next` and `wake_fd`.
//!
//! Invariant: the reader's lock is only ever waited for detached.

#[cfg(unix)]
use std::os::fd::IntoRawFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use sse_fast_server::{Decoded, ReadOutcome, Reader};

use crate::convert;
use crate::errors::io_error;
use crate::fork::Guarded;
use crate::gil::Detached;

/// An event as `(data, event, id, retry)`; `event` is `None` for the default, `retry` in seconds.
type Row = (String, Option<String>, Option<String>, Option<f64>);

/// What a read gave: an event, or the reason why there is none: `"timeout"`, `"ended"`, `"closed"`.
type Read = (Option<Row>, Option<&'static str>);

/// A stream read in this process: an event as ``(data, event, id, retry)``, or the reason why there is none.
#[pyclass(frozen, module = "sse_fast._core", name = "Reader")]
pub(crate) struct PyReader {
    /// Protects the reader's place in the stream: one thread reads at a time, others wait their turn.
    engine: Guarded<Mutex<Reader>>,
}

impl PyReader {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { engine: Guarded::new(Mutex::new(reader)) }
    }

    /// Works on the reader; a panic inside it has left nothing half-done that a later read could not see past.
    fn locked<T>(reader: &Mutex<Reader>, work: impl FnOnce(&mut Reader) -> T) -> T {
        work(&mut reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl PyReader {
    /// Waits for an event, at most `timeout` seconds (None: without limit), and handles signals during the wait.
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Read> {
        let reader = self.engine.get()?;
        let read = py.wait(convert::timeout(timeout), |slice| {
            match Self::locked(reader, |reader| reader.next(Some(slice))) {
                ReadOutcome::Timeout => None,
                outcome => Some(outcome),
            }
        })?;
        Ok(row(read.unwrap_or(ReadOutcome::Timeout)))
    }

    /// The same without interruption, for threads that do nothing else and get no signals.
    #[pyo3(signature = (timeout=None))]
    fn next_parked(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Read> {
        let reader = self.engine.get()?;
        let timeout: Option<Duration> = convert::timeout(timeout);
        py.detached(|| Self::locked(reader, |reader| reader.next(timeout))).map(row)
    }

    /// The next event if there is one already.
    fn try_next(&self, py: Python<'_>) -> PyResult<Read> {
        let reader = self.engine.get()?;
        py.detached(|| Self::locked(reader, Reader::try_next)).map(row)
    }

    /// A new descriptor of a socket that becomes readable when there may be an event; the caller closes it.
    #[cfg(unix)]
    fn wake_fd(&self, py: Python<'_>) -> PyResult<i32> {
        let reader = self.engine.get()?;
        let socket = py.detached(|| Self::locked(reader, Reader::wake_fd))?;
        socket.map(IntoRawFd::into_raw_fd).map_err(|error| io_error(&error))
    }
}

fn row(outcome: ReadOutcome) -> Read {
    match outcome {
        ReadOutcome::Event(Decoded { event, id, retry, data }) => {
            (Some((data, event, id, retry.map(|milliseconds| Duration::from_millis(milliseconds).as_secs_f64()))), None)
        }
        ReadOutcome::Timeout => (None, Some("timeout")),
        ReadOutcome::Ended => (None, Some("ended")),
        ReadOutcome::Closed => (None, Some("closed")),
    }
}
