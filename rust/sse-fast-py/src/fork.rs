//! The fork guard: after `os.fork()` the child has the engine's memory but none of its threads, so a use of the engine
//! there could wait without end.
//!
//! Owns: [`Guarded`], which holds every engine value that Python can reach, and the count of forks.
//! Must not know: what the values are.
//! Invariants: in the child a `Guarded` from before the fork gives only `ForkError`. It is leaked and not dropped
//! there, because dropping it could join a thread that does not exist. The child may start a server of its own.
//! Forks are counted by Python's fork hook instead of comparing process ids, because `getpid` is a system call and
//! every publish makes this check. The count is the one global of this crate; it says nothing about any server.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::errors::fork_error;

/// How many forks lie between the process that imported the module and this one. Relaxed suffices, because the count
/// changes only in a child that has a single thread at that moment.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The count; what is known of threads holds until it changes.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Makes Python call `forked`, which ends with [`count`], in every child from now on.
pub(crate) fn watch(py: Python<'_>, forked: &Bound<'_, PyAny>) -> PyResult<()> {
    let os = py.import("os")?;
    if !os.hasattr("register_at_fork")? {
        return Ok(()); // A system without fork.
    }
    let hooks = pyo3::types::PyDict::new(py);
    hooks.set_item("after_in_child", forked)?;
    os.call_method("register_at_fork", (), Some(&hooks))?;
    Ok(())
}

/// This process is a child that was forked just now.
pub(crate) fn count() {
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

    /// The value also in a process that did not make it: only for what tells handles apart, without a look inside.
    pub(crate) fn handle(&self) -> Option<&T> {
        self.inner.as_ref()
    }

    /// The value, or `None` in a process that did not make it; for code that must not fail, such as a `repr`.
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
