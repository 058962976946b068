//! The one place that says when the interpreter is let go, and that keeps panics inside.
//!
//! Owns: detaching, the slicing of waits so that signals are seen, the catching of panics. Must not know: what is
//! waited for.
//!
//! Invariants: nothing that can block runs attached; a wait that a user's thread asked for returns to the interpreter
//! at least every [`SLICE`]; a panic becomes an ordinary exception (`PanicException` derives from `BaseException`, which
//! `except Exception` lets through).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::errors::panicked;

/// While Rust waits Ctrl-C only sets a flag; this is how late it may be seen. A tenth of a second feels immediate and
/// costs ten wake-ups a second per waiting thread.
const SLICE: Duration = Duration::from_millis(100);

/// Runs engine code that cannot block, attached.
pub(crate) fn quick<T>(work: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(panic.as_ref()))
}

/// How engine code that may block is run.
pub(crate) trait Detached {
    /// Runs `work` detached. For what ends by itself soon, or runs on a thread that never sees signals.
    fn aside<T: Send>(self, work: impl FnOnce() -> T + Send) -> PyResult<T>;

    /// Waits detached, slice by slice, until `step` gives a value (`Ok(Some)`), `timeout` has passed (`Ok(None)`) or a
    /// signal handler raised (`Err`). `step` gets the longest it may block; `None` is "not yet".
    fn wait<T: Send>(
        self,
        timeout: Option<Duration>,
        step: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>>;
}

impl Detached for Python<'_> {
    fn aside<T: Send>(self, work: impl FnOnce() -> T + Send) -> PyResult<T> {
        self.detach(|| quick(work))
    }

    fn wait<T: Send>(
        self,
        timeout: Option<Duration>,
        mut step: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        // A timeout too long to be a point in time is no timeout.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if let Some(value) = self.aside(|| step(left.min(SLICE)))? {
                return Ok(Some(value));
            }
            self.check_signals()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }
}
