//! The Python module `sse_fast._core`: Python objects over the engine of `sse-fast-server`.
//!
//! Owns: the conversion of arguments, the policy for the GIL, the mapping of errors; one file each (`convert`, `gil`,
//! `errors`).
//! Must not know: sockets, HTTP, framing, timers, any setting's default (`_settings.py` has those).
//!
//! Invariants:
//! 1. No engine thread ever attaches to the interpreter, and none is ever given a `Py<T>`.
//! 2. Code that can block runs detached. Every call of the engine goes through `gil`, which catches panics.
//! 3. Every class is frozen; every use of the engine passes the fork guard (`fork`).
//! 4. What is needed of Python later, exception classes above all, is resolved when the module or a server is made: at the
//!    interpreter's end and at the recursion limit nothing can be imported.
//!
//! Changes together with: `python/sse_fast/_core.pyi`, which has the same names and the same texts.

#![allow(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "the doc comments of what Python sees are docstrings, in Python's form"
)]

mod batch;
mod calls;
mod convert;
mod errors;
mod fork;
mod gate;
mod gil;
mod hub;
mod json;
mod once;
mod options;
mod presence;
mod publishing;
mod reader;
mod rights;
mod run;
mod server;
mod stats;
mod store;
mod stream;
mod wakeups;

use pyo3::prelude::*;

/// The engine of `sse_fast`; private to the package.
#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::calls::PyCall;
    #[pymodule_export]
    use crate::go_on_above_rust;
    #[pymodule_export]
    use crate::hub::use_hub_sleep;
    #[pymodule_export]
    use crate::interpreter_ends;
    #[pymodule_export]
    use crate::json::json_dumps;
    #[pymodule_export]
    use crate::presence::PyPresence;
    #[pymodule_export]
    use crate::publishing::{PyAccount, PyPublishing};
    #[pymodule_export]
    use crate::reader::PyReader;
    #[pymodule_export]
    use crate::rights::{PyKeySource, PyTokenKey};
    #[pymodule_export]
    use crate::run::PyRun;
    #[pymodule_export]
    use crate::server::PyServer;
    #[pymodule_export]
    use crate::store::read_store;
    #[pymodule_export]
    use crate::stream::{PyHeartbeat, PyStream};
    #[pymodule_export]
    use crate::wakeups::{PyWakeups, PyWatch};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::errors::resolve(py)?;
        let forked = wrap_pyfunction!(super::after_fork, py)?;
        crate::fork::watch(py, &forked)
    }
}

/// Called in every forked child, before any other use of this module there.
#[pyfunction(name = "_after_fork")]
fn after_fork() {
    fork::count();
    gate::begin_anew();
}

/// Asked by Python code that runs long above Rust frames: the interpreter's end waits a second for it.
///
/// Raises:
///     ServerClosed: the interpreter ends.
#[pyfunction]
fn go_on_above_rust() -> PyResult<()> {
    if gate::is_closing() { Err(errors::interpreter_ends()) } else { Ok(()) }
}

/// Called once, in the thread that ends the interpreter, when every server is closed; see `gate`.
#[pyfunction]
fn interpreter_ends(py: Python<'_>) {
    gate::shut(py);
}
