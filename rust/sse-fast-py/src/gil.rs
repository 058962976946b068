//! Running engine code attached to the interpreter or detached from it, and turning its panics into exceptions.
//!
//! Owns: detaching, cutting waits into slices so that signals are handled, catching panics.
//! Must not know: what the engine code does, or when the gate is shut (`gate`).
//! Invariants: code that can block runs detached. A wait of the thread that handles signals returns to the interpreter at
//! least every [`SLICE`]; one of another thread does not leave the engine for that; one of a greenlet looks and sleeps in
//! turn (`hub`). A panic becomes an ordinary exception; pyo3's `PanicException` derives from `BaseException`, which
//! `except Exception` does not catch. A thread that the interpreter's end keeps out does not detach: work that ends soon
//! is done attached, and a wait is refused unless it is over already. Nobody then holds a lock of the engine while it
//! waits for the interpreter.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::{interpreter_ends, panicked};
use crate::{fork, gate, hub};

/// The longest time between two checks for signals: while Rust waits, Ctrl-C only sets a flag. A tenth of a second
/// feels immediate and costs ten wake-ups a second.
const SLICE: Duration = Duration::from_millis(100);

/// What a thread waits at a time that gets no signals; any value that can be added to a point in time would do.
const LONG_SLICE: Duration = Duration::from_secs(3600);

thread_local! {
    /// Whether this thread handles signals, and how many forks there had been when that was asked: four calls of Python.
    static HANDLES_SIGNALS: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

/// What says which thread this is, and which is the main one.
struct Asked {
    getpid: Py<PyAny>,
    get_native_id: Py<PyAny>,
    get_ident: Py<PyAny>,
    main_thread: Py<PyAny>,
}

static ASKED: PyOnceLock<Asked> = PyOnceLock::new();

/// Resolves what waits need later.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    asked(py).map(|_| ())
}

fn asked(py: Python<'_>) -> PyResult<&Asked> {
    ASKED.get_or_try_init(py, || {
        let (os, threading) = (py.import("os")?, py.import("threading")?);
        Ok(Asked {
            getpid: os.getattr("getpid")?.unbind(),
            get_native_id: threading.getattr("get_native_id")?.unbind(),
            get_ident: threading.getattr("get_ident")?.unbind(),
            main_thread: threading.getattr("main_thread")?.unbind(),
        })
    })
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
        let asked = asked(py)?;
        if asked.getpid.call0(py)?.bind(py).eq(asked.get_native_id.call0(py)?)? {
            return PyResult::Ok(true);
        }
        asked.main_thread.call0(py)?.getattr(py, "ident")?.bind(py).eq(asked.get_ident.call0(py)?)
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

/// Runs Python code from Rust frames, which the interpreter's end waits for; refused once it no longer would.
pub(crate) fn calling_python<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let _inside = gate::enter_to_call().ok_or_else(interpreter_ends)?;
    work()
}

/// Runs engine code that may block.
pub(crate) trait Detached {
    /// Runs `work` without holding the interpreter. Only for work that ends soon: what waits for something to happen uses
    /// `wait`.
    fn detached<T: Send>(self, work: impl FnOnce() -> T + Send) -> PyResult<T>;

    /// Waits detached, slice by slice, until `step` gives a value (`Ok(Some)`), `timeout` has passed (`Ok(None)`) or a
    /// signal handler raised (`Err`). `step` is given the longest time it may block, and returns `None` for "not yet".
    fn wait<T: Send>(
        self,
        timeout: Option<Duration>,
        step: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>>;

    /// The same without a timeout, for threads of this package that do nothing else: `Ok(None)` where the interpreter
    /// ends, so that they end, too.
    fn serve<T: Send>(self, step: impl FnMut(Duration) -> Option<T> + Send) -> PyResult<Option<T>>;
}

/// Runs `work` detached, as a thread inside the gate.
fn away<T: Send>(py: Python<'_>, inside: gate::Inside, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    let (done, _returning) = py.detach(|| {
        let done = catch_unwind(AssertUnwindSafe(work));
        (done, inside.come_back())
    });
    done.map_err(|panic| panicked(panic.as_ref()))
}

impl Detached for Python<'_> {
    fn detached<T: Send>(self, work: impl FnOnce() -> T + Send) -> PyResult<T> {
        match gate::enter() {
            Some(inside) => away(self, inside, work),
            None => attached(work),
        }
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
            let Some(inside) = gate::enter() else {
                return attached(|| step(Duration::ZERO))?.map(Some).ok_or_else(interpreter_ends);
            };
            let left = || deadline.map_or(LONG_SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if let Some(value) = away(self, inside, || step(left().min(slice)))? {
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

    fn serve<T: Send>(self, step: impl FnMut(Duration) -> Option<T> + Send) -> PyResult<Option<T>> {
        self.wait(None, step).or_else(|error| if gate::has_shut() { Ok(None) } else { Err(error) })
    }
}
