//! Running engine code attached to the interpreter or detached from it, and turning its panics into exceptions.
//!
//! Owns: detaching, cutting waits into slices so that signals are handled, catching panics.
//! Must not know: what the engine code does.
//! Invariants: code that can block runs detached. A wait of the thread that handles signals returns to the interpreter at
//! least every [`SLICE`]; one of another thread does not leave the engine for that; one of a greenlet looks and sleeps in
//! turn (`hub`). A panic becomes an ordinary exception; pyo3's `PanicException` derives from `BaseException`, which
//! `except Exception` does not catch.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::errors::panicked;
use crate::fork;
use crate::hub;

/// The longest time between two checks for signals: while Rust waits, Ctrl-C only sets a flag. A tenth of a second
/// feels immediate and costs ten wake-ups a second.
const SLICE: Duration = Duration::from_millis(100);

/// What a thread waits at a time that gets no signals; any value that can be added to a point in time would do.
const LONG_SLICE: Duration = Duration::from_secs(3600);

thread_local! {
    /// Whether this thread handles signals, and how many forks there had been when that was asked: four calls of Python.
    static HANDLES_SIGNALS: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// Whether Python runs signal handlers in this thread: its main thread, which is the process's, too, where nobody embeds
/// Python, and where greenlets have taken the part of threads.
fn handles_signals(py: Python<'_>) -> bool {
    if let Some((forks, known)) = HANDLES_SIGNALS.get()
        && forks == fork::forks()
    {
        return known;
    }
    let ask = || {
        let (os, threading) = (py.import("os")?, py.import("threading")?);
        if os.call_method0("getpid")?.eq(threading.call_method0("get_native_id")?)? {
            return PyResult::Ok(true);
        }
        threading.call_method0("main_thread")?.getattr("ident")?.eq(threading.call_method0("get_ident")?)
    };
    // Where it cannot be told a wait that can be interrupted costs least.
    let known = ask().unwrap_or(true);
    HANDLES_SIGNALS.set(Some((fork::forks(), known)));
    known
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
        let mut pauses = hub::pauses(self)?;
        let slice = match &pauses {
            Some(_) => Duration::ZERO,
            None if handles_signals(self) => SLICE,
            None => LONG_SLICE,
        };
        loop {
            let left = || deadline.map_or(LONG_SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if let Some(value) = self.detached(|| step(left().min(slice)))? {
                return Ok(Some(value));
            }
            self.check_signals()?;
            if let Some(pauses) = &mut pauses {
                pauses.pause(left())?;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }
}
