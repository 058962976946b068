//! The engine's counters as the dataclasses of `sse_fast._stats`, field by field.
//!
//! Owns: the copying, and microseconds becoming seconds. Names are those of the engine's fields.
//! Must not know: what is counted when.
//! Invariants: the structs are taken apart without `..`, so a new counter does not compile until it is here; Python's
//! class then refuses it until it is documented there.
//! Changes together with: the engine's `Stats` and `StreamStats`, and `python/sse_fast/_stats.py`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict};
use sse_fast_server::{Stats, StreamStats};

use crate::gil::calling_python;

static SERVER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static STREAM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static CLOSED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// An instance of the class with the fields named, each under its own name.
macro_rules! instance {
    ($py:expr, $class:expr, $($field:ident),+ $(,)?) => {{
        let fields = PyDict::new($py);
        $(fields.set_item(stringify!($field), $field)?;)+
        calling_python(|| $class.call((), Some(&fields)))
    }};
}

/// A server's. Long because it names every field twice.
pub(crate) fn of_server(py: Python<'_>, stats: Stats) -> PyResult<Bound<'_, PyAny>> {
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
        hosts_refused,
        origins_refused,
        unauthorized,
        forbidden,
        undecided,
        stalls,
        closed,
    } = stats;
    let (publish_wait_s, publish_socket_wait_s) = (seconds(publish_wait_us), seconds(publish_socket_wait_us));
    let closed_class = CLOSED.import(py, "sse_fast._stats", "ClosedConnections")?;
    let fields = closed.into_py_dict(py)?;
    let closed = calling_python(|| closed_class.call((), Some(&fields)))?;
    let class = SERVER.import(py, "sse_fast._stats", "ServerStats")?;
    instance!(
        py,
        class,
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
        publish_wait_s,
        publish_socket_wait_s,
        presence_missed,
        hosts_refused,
        origins_refused,
        unauthorized,
        forbidden,
        undecided,
        stalls,
        closed,
    )
}

pub(crate) fn of_stream<'py>(py: Python<'py>, stats: &StreamStats) -> PyResult<Bound<'py, PyAny>> {
    let &StreamStats { subscribers, published, retained, retained_bytes, ended, silent_s, stalled } = stats;
    let class = STREAM.import(py, "sse_fast._stats", "StreamStats")?;
    instance!(py, class, subscribers, published, retained, retained_bytes, ended, silent_s, stalled)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
