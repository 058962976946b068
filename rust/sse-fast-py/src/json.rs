//! JSON for events and responses: orjson encodes, this file makes its bytes safe for every client.
//!
//! Owns: the call of orjson, the hook for types that orjson does not know, the escaping of U+0085, U+2028 and U+2029.
//! These are legal in JSON strings, but clients built on `str.splitlines` break lines there.
//! Must not know: events, frames, `data:`; how a value that orjson refuses is encoded or named, which
//! `python/sse_fast/_encode.py` does.
//! Invariants: orjson is imported when a server is made (`prepare`), not at `import sse_fast`: at the end of the
//! interpreter nothing can be imported, and at its recursion limit the import of orjson itself crashes. Python code that an
//! encoding calls has Rust frames below it, orjson's too, and counts as inside the gate (`gil::calling_python`).
//! Changes together with: `python/sse_fast/_encode.py`.

use std::borrow::Cow;

use memchr::memchr2_iter;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyTuple};

use crate::errors::{event_type_error, is_event_type_error};
use crate::gil::calling_python;

/// What encodes.
struct Encoder {
    /// orjson's function.
    dumps: Py<PyAny>,
    /// The hook for what orjson does not know.
    default: Py<PyAny>,
    /// orjson's option for keys that are no str.
    non_str_keys: Py<PyAny>,
    /// What encodes, or refuses in words, what orjson refuses.
    slow: Py<PyAny>,
}

static ENCODER: PyOnceLock<Encoder> = PyOnceLock::new();

/// Imports the encoders.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    encoder(py).map(|_| ())
}

fn encoder(py: Python<'_>) -> PyResult<&Encoder> {
    ENCODER.get_or_try_init(py, || {
        let orjson = py.import("orjson")?;
        Ok(Encoder {
            dumps: orjson.getattr("dumps")?.unbind(),
            default: wrap_pyfunction!(json_default, py)?.into_any().unbind(),
            non_str_keys: orjson.getattr("OPT_NON_STR_KEYS")?.unbind(),
            slow: py.import("sse_fast._encode")?.getattr("encode")?.unbind(),
        })
    })
}

/// A value as compact JSON: orjson's own bytes, or a copy where a character had to be escaped.
pub(crate) enum Json<'py> {
    Plain(Bound<'py, PyBytes>),
    Escaped(Vec<u8>),
}

/// Encodes `value`, the argument `field`; `EventTypeError` names the place and the type of what cannot be encoded.
pub(crate) fn encode<'py>(field: &str, value: &Bound<'py, PyAny>) -> PyResult<Json<'py>> {
    let py = value.py();
    let Encoder { dumps, default, non_str_keys, slow } = encoder(py)?;
    let dumps = dumps.bind(py);
    let mut encoded = dumps.call1((value, default));
    if encoded.as_ref().is_err_and(|error| is_about_keys(py, error)) {
        encoded = dumps.call1((value, default, non_str_keys));
    }
    if let Err(error) = &encoded
        && error.is_instance_of::<PyTypeError>(py)
    {
        if let Some(interruption) = interruption(py, error) {
            return Err(interruption);
        }
        encoded = calling_python(|| slow.bind(py).call1((value, field)));
    }
    let encoded = encoded.map_err(|error| refused(py, field, error))?.cast_into::<PyBytes>()?;
    match escape(encoded.as_bytes()) {
        Cow::Borrowed(_) => Ok(Json::Plain(encoded)),
        Cow::Owned(escaped) => Ok(Json::Escaped(escaped)),
    }
}

/// Compact JSON, encoded as `Stream.publish` would.
///
/// Raises:
///     EventTypeError: the value is not JSON-able; the text names the place and the type.
///     EventError: a text in it has no UTF-8.
#[pyfunction]
pub(crate) fn json_dumps<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(match encode("data", value)? {
        Json::Plain(encoded) => encoded,
        Json::Escaped(escaped) => PyBytes::new(value.py(), &escaped),
    })
}

/// orjson's `default` hook: pydantic models by their `model_dump`, subclasses of float (such as numpy's) and of tuple
/// as float and list. Any other type is refused.
#[pyfunction]
fn json_default<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(PyFloat::new(py, number.value()).into_any());
    }
    if let Ok(items) = value.cast::<PyTuple>() {
        return Ok(items.to_list().into_any());
    }
    match value.getattr_opt(pyo3::intern!(py, "model_dump"))? {
        Some(model_dump) => {
            let arguments = PyDict::new(py);
            arguments.set_item("mode", "json")?;
            calling_python(|| model_dump.call((), Some(&arguments)))
        }
        None => {
            Err(PyTypeError::new_err(format!("cannot encode {} as JSON", value.get_type().fully_qualified_name()?)))
        }
    }
}

/// Whether orjson found a key that is not a str. An option makes it write numbers, dates and the like as `json.dumps`
/// does, but slows every dict down, so only values that need it are encoded with it.
fn is_about_keys(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyTypeError>(py) && error.value(py).to_string().contains("key must be str")
}

/// `KeyboardInterrupt`, `SystemExit` and the like from inside the hook: orjson turns every exception there into a
/// `TypeError` whose cause is the exception itself.
fn interruption(py: Python<'_>, error: &PyErr) -> Option<PyErr> {
    error.cause(py).filter(|cause| !cause.is_instance_of::<PyException>(py))
}

/// A refusal as an `EventTypeError`; other exceptions (`RecursionError`, `MemoryError`) unchanged.
fn refused(py: Python<'_>, field: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(py) && !is_event_type_error(py, &error) {
        let refusal = event_type_error(field, &error.value(py).to_string());
        refusal.set_cause(py, Some(error));
        return refusal;
    }
    error
}

/// Escapes the three characters; copies only where there is one.
///
/// Outside strings JSON is ASCII, so each of them is inside a string, where `\uXXXX` means the same.
fn escape(json: &[u8]) -> Cow<'_, [u8]> {
    let mut escaped: Vec<u8> = Vec::new();
    let mut copied = 0;
    // The lead bytes of U+0085 and of U+2028 and U+2029; ASCII text and most others have neither.
    for at in memchr2_iter(0xC2, 0xE2, json) {
        let (length, text) = match json.get(at..) {
            Some([0xC2, 0x85, ..]) => (2, b"\\u0085"),
            Some([0xE2, 0x80, 0xA8, ..]) => (3, b"\\u2028"),
            Some([0xE2, 0x80, 0xA9, ..]) => (3, b"\\u2029"),
            _ => continue,
        };
        escaped.extend_from_slice(&json[copied..at]);
        escaped.extend_from_slice(text);
        copied = at + length;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    escaped.extend_from_slice(&json[copied..]);
    Cow::Owned(escaped)
}
