//! Waiting in a program of greenlets (gevent, eventlet), where one thread is the hub of all of them.
//!
//! Owns: whether the calling thread is a hub's, and the sleep that leaves the hub to other greenlets. Must not know: what is
//! waited for. A wait inside the engine would stop the hub, and with it the program, so `gil` looks now and then instead.
//! Invariant: a program without greenlets pays for one look at a flag. It is a flag of the process, since patching is one.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::interpreter_ends;
use crate::gate;

/// The first pause between two looks, and the longest: a greenlet sees what it waits for that much later at most.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// `_threads.hub_sleep`, once a server was made in a process of greenlets.
static HUB_SLEEP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// From now on a wait asks `hub_sleep` for the sleep of the calling thread's hub, if it has one.
#[pyfunction]
pub(crate) fn use_hub_sleep(py: Python<'_>, hub_sleep: Py<PyAny>) {
    // Given by each server; the first is as good as any.
    let _ = HUB_SLEEP.set(py, hub_sleep);
}

/// The pauses of one wait.
pub(crate) struct Pauses<'py> {
    sleep: Bound<'py, PyAny>,
    next: Duration,
}

/// The pauses of a wait in the calling thread, where it is a hub's.
pub(crate) fn pauses(py: Python<'_>) -> PyResult<Option<Pauses<'_>>> {
    let Some(hub_sleep) = HUB_SLEEP.get(py) else { return Ok(None) };
    let _inside = gate::enter_to_call().ok_or_else(interpreter_ends)?;
    let sleep = hub_sleep.bind(py).call0()?;
    Ok((!sleep.is_none()).then_some(Pauses { sleep, next: FIRST_PAUSE }))
}

impl Pauses<'_> {
    /// Leaves the hub to others for a while, `longest` at most.
    pub(crate) fn pause(&mut self, longest: Duration) -> PyResult<()> {
        let _inside = gate::enter_to_call().ok_or_else(interpreter_ends)?;
        self.sleep.call1((self.next.min(longest).as_secs_f64(),))?;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
