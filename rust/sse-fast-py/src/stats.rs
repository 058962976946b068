//! The engine's counters as Python dicts, key by key.
//!
//! Owns: the copying. Keys are the names of the engine's fields.
//! Must not know: what is counted when.
//! Invariants: the structs are taken apart without `..`, so a new counter does not compile until it is in the dict.
//! Changes together with: the engine's `Stats` and `StreamStats`.

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use sse_fast_server::{Stats, StreamStats};

/// A dict of the fields named, each under its own name.
macro_rules! dict {
    ($py:expr, $($field:ident),+ $(,)?) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(stringify!($field), $field)?;)+
        dict
    }};
}

pub(crate) fn of_server(py: Python<'_>, stats: Stats) -> PyResult<Bound<'_, PyDict>> {
    let Stats {
        streams,
        subscribers,
        connections,
        accepted,
        requests,
        refused,
        calls_refused,
        published,
        delivered,
        bytes,
        writes,
        heartbeats,
        gaps,
        skipped,
        blocked,
        publish_waits,
        publish_wait_timeouts,
        publish_wait_us,
        publish_socket_wait_us,
        presence_missed,
        closed,
    } = stats;
    let closed = closed.into_py_dict(py)?;
    let dict = dict!(
        py,
        streams,
        subscribers,
        connections,
        accepted,
        requests,
        refused,
        calls_refused,
        published,
        delivered,
        bytes,
        writes,
        heartbeats,
        gaps,
        skipped,
        blocked,
        publish_waits,
        publish_wait_timeouts,
        publish_wait_us,
        publish_socket_wait_us,
        presence_missed,
        closed,
    );
    Ok(dict)
}

pub(crate) fn of_stream<'py>(py: Python<'py>, stats: &StreamStats) -> PyResult<Bound<'py, PyDict>> {
    let &StreamStats { subscribers, published, retained, retained_bytes, ended, silent_s } = stats;
    Ok(dict!(py, subscribers, published, retained, retained_bytes, ended, silent_s))
}
