//! `read_store`: what a store's folder has, for `sse-fast export`.
//!
//! Owns: the tuples that Python is given. Must not know: files, their format. Changes together with `_export.py`.

use std::path::PathBuf;

use pyo3::prelude::*;
use sse_fast_server::{Decoded, Export, read_folder};

use crate::errors::open_error;
use crate::gil::Detached;

/// An event as `(id, event, retry in milliseconds, data)`.
type Row = (String, Option<String>, Option<u64>, String);

/// A stream as `(name, epoch, ended, private, forgotten, snapshot, events)`.
type Stream = (String, String, bool, bool, u64, Option<Row>, Vec<Row>);

fn row((id, event): (String, Decoded)) -> Row {
    (id, event.event, event.retry, event.data)
}

/// Reads a folder, which a server may be using: its streams, and what is damaged in it, in words.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "a path of Python's is no borrowed one")]
pub(crate) fn read_store(py: Python<'_>, folder: PathBuf) -> PyResult<(Vec<Stream>, Vec<String>)> {
    let (streams, damage) = py.detached(|| read_folder(&folder))?.map_err(|error| open_error(&error))?;
    let streams = streams.into_iter().map(|stream| {
        let Export { name, epoch, ended, private, forgotten, snapshot, events } = stream;
        (name, epoch, ended, private, forgotten, snapshot.map(row), events.into_iter().map(row).collect())
    });
    Ok((streams.collect(), damage))
}
