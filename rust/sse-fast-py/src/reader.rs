//! `Reader`: a stream read inside the process, for iteration and for a run's `on_event`.
//!
//! Owns: handing the engine's events to Python as tuples. Must not know: asyncio, iteration, silence; `_stream.py` makes
//! those from `next` and `try_next`, and `wakeups` says when to try.
//!
//! Invariant: the reader's lock is only ever waited for detached.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::prelude::*;
use sse_fast_server::{Decoded, ReadOutcome, Reader, Stream};

use crate::convert;
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
    /// What it reads, without that lock.
    stream: Guarded<Stream>,
}

impl PyReader {
    pub(crate) fn new(reader: Reader) -> Self {
        let stream = Guarded::new(reader.stream().clone());
        Self { engine: Guarded::new(Mutex::new(reader)), stream }
    }

    pub(crate) fn stream(&self) -> PyResult<&Stream> {
        self.stream.get()
    }

    /// Works on the reader; a panic inside it has left nothing half-done that a later read could not see past.
    fn locked<T>(reader: &Mutex<Reader>, work: impl FnOnce(&mut Reader) -> T) -> T {
        work(&mut reader.lock())
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

    /// The same without a timeout, for threads of this package that do nothing else.
    fn next_parked(&self, py: Python<'_>) -> PyResult<Read> {
        let reader = self.engine.get()?;
        let read = py.serve(|slice| match Self::locked(reader, |reader| reader.next(Some(slice))) {
            ReadOutcome::Timeout => None,
            outcome => Some(outcome),
        })?;
        Ok(row(read.unwrap_or(ReadOutcome::Closed)))
    }

    /// The next event if there is one already.
    fn try_next(&self, py: Python<'_>) -> PyResult<Read> {
        let reader = self.engine.get()?;
        py.detached(|| Self::locked(reader, Reader::try_next)).map(row)
    }

    /// A number that is the stream's as long as somebody reads it: two readers of one stream have the same.
    #[getter]
    fn stream_number(&self) -> PyResult<u64> {
        Ok(self.stream()?.number())
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
