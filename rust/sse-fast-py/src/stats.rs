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
use sse_fast_server::{BackplaneStats, Stats, StreamStats};

use crate::gil::calling_python;

static SERVER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static STREAM: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static BACKPLANE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static CLOSED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static GAPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static RESUMES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

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
        addresses_refused,
        streams_refused,
        heads_refused,
        bodies_refused,
        late,
        malformed,
        unauthorized,
        forbidden,
        undecided,
        stalls,
        closed,
        gap_reasons,
        resumes,
        retained_bytes,
        metrics_refused,
        backplane,
        store_bytes,
        store_syncs,
        store_refused,
    } = stats;
    let (publish_wait_s, publish_socket_wait_s) = (seconds(publish_wait_us), seconds(publish_socket_wait_us));
    let closed = by_name(py, &CLOSED, "ClosedConnections", closed)?;
    let gap_reasons = by_name(py, &GAPS, "GapReasons", gap_reasons)?;
    let resumes = by_name(py, &RESUMES, "Resumes", resumes)?;
    let backplane = of_backplane(py, backplane)?;
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
        addresses_refused,
        streams_refused,
        heads_refused,
        bodies_refused,
        late,
        malformed,
        unauthorized,
        forbidden,
        undecided,
        stalls,
        closed,
        gap_reasons,
        resumes,
        retained_bytes,
        metrics_refused,
        backplane,
        store_bytes,
        store_syncs,
        store_refused,
    )
}

/// The backplane's, where there is one.
fn of_backplane(py: Python<'_>, stats: Option<BackplaneStats>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let Some(stats) = stats else { return Ok(None) };
    let BackplaneStats { up, requests, round_trip_us, reconnects, fills, lost_tails, pushed } = stats;
    let round_trip_s = seconds(round_trip_us);
    let class = BACKPLANE.import(py, "sse_fast._stats", "BackplaneStats")?;
    instance!(py, class, up, requests, round_trip_s, reconnects, fills, lost_tails, pushed).map(Some)
}

/// Counters of one kind, each under its own name.
fn by_name<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyAny>>,
    class: &str,
    counted: Vec<(&'static str, u64)>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = cell.import(py, "sse_fast._stats", class)?;
    let fields = counted.into_py_dict(py)?;
    calling_python(|| class.call((), Some(&fields)))
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
