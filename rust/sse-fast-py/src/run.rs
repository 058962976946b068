//! `Run`: a child process of the engine; `_run.py` makes the public class from it.
//!
//! Owns: conversion and waiting.
//! Must not know: pipes, markers, what a signal means; the engine has them.
//! Invariants: every wait is sliced, so that Ctrl-C interrupts `run.wait()`. The process itself goes on then.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use sse_fast_server::{Run, RunSpec};

use crate::convert;
use crate::errors::run_error;
use crate::fork::Guarded;
use crate::gil::Detached;

/// The arguments of `Server.run`, checked by `_run.py`; durations in seconds.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Spec {
    argv: Vec<OsString>,
    cwd: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    marker: Option<String>,
    lines: Option<String>,
    timeout: Option<f64>,
    grace: f64,
    drain: f64,
}

impl Spec {
    pub(crate) fn of_stream(self, name: &str) -> RunSpec {
        let bounded = |seconds| convert::timeout(Some(seconds)).unwrap_or(Duration::MAX);
        RunSpec {
            argv: self.argv,
            cwd: self.cwd,
            env: Some(self.env),
            stdin: self.stdin,
            marker: self.marker,
            lines: self.lines,
            timeout: convert::timeout(self.timeout),
            grace: bounded(self.grace),
            drain: bounded(self.drain),
            stream_name: name.to_owned(),
        }
    }
}

/// A child process of the engine; `sse_fast.Run` is made from it.
#[pyclass(frozen, module = "sse_fast._core", name = "Run")]
pub(crate) struct PyRun {
    engine: Guarded<Run>,
}

impl PyRun {
    pub(crate) fn new(run: Run) -> Self {
        Self { engine: Guarded::new(run) }
    }
}

#[pymethods]
impl PyRun {
    /// The process id.
    #[getter]
    fn pid(&self) -> PyResult<u32> {
        Ok(self.engine.get()?.pid())
    }

    /// The exit code, negative for a signal; None while it runs.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<i32>> {
        let run = self.engine.get()?;
        py.detached(|| run.poll())
    }

    /// Waits until the terminal event is published; False if `timeout` seconds passed before.
    #[pyo3(signature = (timeout=None))]
    fn wait_ended(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let run = self.engine.get()?;
        let ended = py.wait(convert::timeout(timeout), |slice| run.wait_ended(Some(slice)).then_some(()))?;
        Ok(ended.is_some())
    }

    /// Sends SIGTERM.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.engine.get()?;
        py.detached(|| run.terminate())?.map_err(run_error)
    }

    /// Sends SIGKILL.
    fn kill(&self, py: Python<'_>) -> PyResult<()> {
        let run = self.engine.get()?;
        py.detached(|| run.kill())?.map_err(run_error)
    }

    /// Sends a signal.
    fn signal(&self, py: Python<'_>, number: i32) -> PyResult<()> {
        let run = self.engine.get()?;
        py.detached(|| run.signal(number))?.map_err(run_error)
    }

    /// The name of the last event.
    #[getter]
    fn status(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let run = self.engine.get()?;
        py.detached(|| run.status())
    }

    /// The data of the last event that carried any.
    #[getter]
    fn result(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let run = self.engine.get()?;
        py.detached(|| run.result())
    }
}
