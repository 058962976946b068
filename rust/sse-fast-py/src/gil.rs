//! Running engine code attached to the interpreter or detached from it, and turning its panics into exceptions.
//!
//! Owns: detaching, cutting waits into slices so that signals are handled, catching panics.
//! Must not know: what the engine code does.
//! Invariants: code that can block runs detached. A wait of the thread that handles signals returns to the interpreter at
//! least every [`SLICE`]; one of another thread does not leave the engine for that. A panic becomes an ordinary exception; pyo3's `PanicException` derives from `BaseException`, which
//! `except Exception` does not catch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::panicked;

/// The longest time between two checks for signals: while Rust waits, Ctrl-C only sets a flag. A tenth of a second
/// feels immediate and costs ten wake-ups a second.
const SLICE: Duration = Duration::from_millis(100);

/// What a thread waits at a time that gets no signals; any value that can be added to a point in time would do.
const LONG_SLICE: Duration = Duration::from_secs(3600);

static THREAD_ID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static PROCESS_ID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static PYTHON_ID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static MAIN_THREAD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Whether Python runs signal handlers in this thread: its main thread, which is the process's, too, where nobody embeds
/// Python, and where greenlets have taken the part of threads.
fn handles_signals(py: Python<'_>) -> PyResult<bool> {
    let thread: u64 = THREAD_ID.import(py, "threading", "get_native_id")?.call0()?.extract()?;
    let process: u64 = PROCESS_ID.import(py, "os", "getpid")?.call0()?.extract()?;
    if thread == process {
        return Ok(true);
    }
    let main = MAIN_THREAD.import(py, "threading", "main_thread")?.call0()?.getattr("ident")?;
    main.eq(PYTHON_ID.import(py, "threading", "get_ident")?.call0()?)
}

/// Runs engine code that cannot block, without letting the interpreter go.
pub(crate) fn attached<T>(work: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(panic.as_ref()))
}

/// Runs engine code that may block.
pub(crate) trait Detached {
    /// Runs `work` without holding the interpreter. For work that ends soon, and for threads that get no signals.
    fn detached<T: Send>(self, work: impl FnOnce() -> T + Send) -> PyResult<T>;

    /// Waits detached, slice by slice, until `step` gives a value (`Ok(Some)`), `timeout` has passed (`Ok(None)`) or a
    /// signal handler raised (`Err`). `step` is given the longest time it may block, and returns `None` for "not yet".
    fn wait<T: Send>(
        self,
        timeout: Option<Duration>,
        step: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>>;
}

impl Detached for Python<'_> {
    fn detached<T: Send>(self, work: impl FnOnce() -> T + Send) -> PyResult<T> {
        self.detach(|| attached(work))
    }

    fn wait<T: Send>(
        self,
        timeout: Option<Duration>,
        mut step: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        // A timeout too long to be a point in time is no timeout.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let slice = if handles_signals(self).unwrap_or(true) { SLICE } else { LONG_SLICE };
        loop {
            let left = deadline.map_or(slice, |deadline| deadline.saturating_duration_since(Instant::now()));
            if let Some(value) = self.detached(|| step(left.min(slice)))? {
                return Ok(Some(value));
            }
            self.check_signals()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }
}
