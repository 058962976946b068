//! The fork guard: after `os.fork()` the child has the engine's memory but none of its threads, so that any use of it
//! could wait for ever. Every engine value that Python can reach is kept in a [`Guarded`].
//!
//! Invariants: in the child a `Guarded` from before the fork only ever gives `ForkError`, and is leaked instead of
//! dropped, because dropping it could join a thread that does not exist there. The child may start a server of its own.
//!
//! A counter that Python's fork hook raises is used instead of comparing process ids: `getpid` is a system call, and
//! this check is on the path of every publish.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors::fork_error;

/// How many forks lie between the process that imported the module and this one. Relaxed suffices: it changes only in
/// a child that has a single thread at that moment.
static FORKS: AtomicU32 = AtomicU32::new(0);

fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Has Python call `after_fork` in every child from now on.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    if !os.hasattr("register_at_fork")? {
        return Ok(()); // A system without fork.
    }
    let hooks = pyo3::types::PyDict::new(py);
    hooks.set_item("after_in_child", wrap_pyfunction!(after_fork, py)?)?;
    os.call_method("register_at_fork", (), Some(&hooks))?;
    Ok(())
}

#[pyfunction(name = "_after_fork")]
fn after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A value of the engine that only the process that made it may use or drop.
pub(crate) struct Guarded<T> {
    /// `None` only while being dropped.
    inner: Option<T>,
    /// `forks()` when it was made.
    made_at: u32,
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner: Some(inner), made_at: forks() }
    }

    /// The value, or `ForkError` in a process that did not make it.
    pub(crate) fn get(&self) -> PyResult<&T> {
        match &self.inner {
            Some(inner) if self.made_at == forks() => Ok(inner),
            _ => Err(fork_error()),
        }
    }

    /// The value, or `None` in a process that did not make it; for what must not fail, such as a `repr`.
    pub(crate) fn own(&self) -> Option<&T> {
        self.get().ok()
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if self.made_at != forks() {
            std::mem::forget(self.inner.take());
        }
    }
}
