//! JSON for events and responses: orjson encodes, this file makes its bytes safe for every client.
//!
//! Owns: the call of orjson, the escaping of U+0085, U+2028 and U+2029. These are legal in JSON strings, but clients built
//! on `str.splitlines` break lines there. Also the encoder that an application gives instead, whose text goes out as it is.
//! Must not know: events, frames, `data:`; how a value that orjson refuses is encoded or named, which
//! `python/sse_fast/_encode.py` does, in Python and from the beginning.
//! Invariants: orjson is imported when a server is made (`prepare`), not at `import sse_fast`: at the end of the
//! interpreter nothing can be imported, and at its recursion limit the import of orjson itself crashes. Python code that an
//! encoding calls has Rust frames below it, and counts as inside the gate (`gil::calling_python`); none of it runs inside
//! orjson, but what an enum's `value` or a time zone is made of. What orjson writes is what `sse_fast.runner.emit`, which has
//! no orjson, writes for the same value.
//! Changes together with: `python/sse_fast/_encode.py` and `python/sse_fast/runner.py`.

use std::borrow::Cow;

use memchr::{memchr_iter, memchr2_iter};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit};

use crate::gil::calling_python;

/// What encodes.
struct Encoders {
    /// orjson's function.
    dumps: Py<PyAny>,
    /// Its options, and the same for keys that are no str.
    options: Py<PyAny>,
    options_for_keys: Py<PyAny>,
    /// Whether a time may be written wrong.
    mistakes_times: bool,
    /// What makes of a dataclass or a model what orjson may take.
    nearer: Py<PyAny>,
    /// What encodes, or refuses in words, what orjson refuses.
    slow: Py<PyAny>,
    /// What calls the application's own encoder.
    encode_by: Py<PyAny>,
}

static ENCODERS: PyOnceLock<Encoders> = PyOnceLock::new();

/// Imports the encoders.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    encoders(py).map(|_| ())
}

fn encoders(py: Python<'_>) -> PyResult<&Encoders> {
    ENCODERS.get_or_try_init(py, || {
        let (orjson, ours) = (py.import("orjson")?, py.import("sse_fast._encode")?);
        // orjson takes a dataclass with a slot that is not set for one that is: the process ends.
        let options = orjson.getattr("OPT_PASSTHROUGH_DATACLASS")?;
        let options_for_keys = options.bitor(orjson.getattr("OPT_NON_STR_KEYS")?)?;
        let dumps = orjson.getattr("dumps")?;
        let ten_milliseconds = py.import("datetime")?.getattr("time")?.call1((0, 0, 0, 10_000))?;
        let written = dumps.call1((ten_milliseconds,))?.cast_into::<PyBytes>()?;
        Ok(Encoders {
            mistakes_times: written.as_bytes() != br#""00:00:00.010000""#,
            dumps: dumps.unbind(),
            options: options.unbind(),
            options_for_keys: options_for_keys.unbind(),
            nearer: ours.getattr("nearer")?.unbind(),
            slow: ours.getattr("encode")?.unbind(),
            encode_by: ours.getattr("encode_by")?.unbind(),
        })
    })
}

/// The application's own encoder, `serve(json=...)`, or none.
#[derive(Default)]
pub(crate) struct Encoder(Option<Py<PyAny>>);

impl Encoder {
    pub(crate) fn new(encoder: Option<Bound<'_, PyAny>>) -> Self {
        Self(encoder.map(Bound::unbind))
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self(self.0.as_ref().map(|encoder| encoder.clone_ref(py)))
    }

    /// For the garbage collector: an encoder may lead back to the server that it was given to.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }

    /// What the application's encoder makes of `value`, a str or bytes; `None` where there is none.
    pub(crate) fn own<'py>(&self, field: &str, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(encoder) = &self.0 else { return Ok(None) };
        let encode_by = encoders(value.py())?.encode_by.bind(value.py());
        calling_python(|| encode_by.call1((encoder, value, field))).map(Some)
    }
}

/// A value as compact JSON: orjson's own bytes, or a copy where a character had to be escaped.
pub(crate) enum Json<'py> {
    Plain(Bound<'py, PyBytes>),
    Escaped(Vec<u8>),
}

/// Encodes `value`, the argument `field`; `EventTypeError` names the place and the type of what cannot be encoded.
pub(crate) fn encode<'py>(field: &str, value: &Bound<'py, PyAny>) -> PyResult<Json<'py>> {
    let encoders = encoders(value.py())?;
    let encoded = match quickly(encoders, &nearer(encoders, field, value)?)? {
        Some(encoded) => encoded,
        None => calling_python(|| encoders.slow.bind(value.py()).call1((value, field)))?,
    };
    let encoded = encoded.cast_into::<PyBytes>()?;
    match escape(encoded.as_bytes()) {
        Cow::Borrowed(_) => Ok(Json::Plain(encoded)),
        Cow::Owned(escaped) => Ok(Json::Escaped(escaped)),
    }
}

/// `value`, or in the place of a dataclass its fields, of a model what it dumps: orjson refuses both, and takes those.
fn nearer<'py>(encoders: &Encoders, field: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // What is neither in nearly every call; others only cost a call more.
    if value.is_exact_instance_of::<PyDict>() || value.is_exact_instance_of::<PyList>() {
        return Ok(value.clone());
    }
    let nearer = calling_python(|| encoders.nearer.bind(value.py()).call1((value, field)))?;
    Ok(if nearer.is_none() { value.clone() } else { nearer })
}

/// What orjson makes of `value`; `None` where it does not take it, or may have written a time wrong.
fn quickly<'py>(encoders: &Encoders, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = value.py();
    let Encoders { dumps, options, options_for_keys, mistakes_times, .. } = encoders;
    let (dumps, none) = (dumps.bind(py), py.None());
    // Without a hook: while one runs another thread may change what orjson is about to read, and the process ends.
    let mut encoded = dumps.call1((value, &none, options));
    if encoded.as_ref().is_err_and(|error| is_about_keys(py, error)) {
        encoded = dumps.call1((value, &none, options_for_keys));
    }
    match encoded {
        Ok(encoded) => Ok((!*mistakes_times || !may_hold_a_wrong_time(&encoded)).then_some(encoded)),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The body of a response: JSON by the server's encoder, a str being a JSON string.
pub(crate) fn of_response<'py>(value: &Bound<'py, PyAny>, encoder: &Encoder) -> PyResult<Bound<'py, PyBytes>> {
    match encoder.own("the answer", value)? {
        None => json_dumps(value),
        Some(own) => match own.cast::<PyString>() {
            Ok(text) => Ok(PyBytes::new(value.py(), text.to_str()?.as_bytes())),
            Err(_) => Ok(own.cast_into::<PyBytes>()?),
        },
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

/// Whether orjson found a key that is not a str. An option makes it write numbers, dates and the like as `json.dumps`
/// does, but slows every dict down, so only values that need it are encoded with it.
fn is_about_keys(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyTypeError>(py) && error.value(py).to_string().contains("key must be str")
}

/// Whether there may be a time that orjson wrote wrong: from 3.11.8 to 3.13.0 it leaves out the zero that the fraction of
/// 10 to 99 milliseconds begins with, so that five digits are left. Then Python's encoder does the whole, and a text that
/// only looks so stays as it is.
fn may_hold_a_wrong_time(encoded: &Bound<'_, PyAny>) -> bool {
    let Ok(json) = encoded.cast::<PyBytes>() else { return false };
    let json = json.as_bytes();
    memchr_iter(b'.', json).any(|point| {
        let quoted = point.checked_sub(9).and_then(|start| json.get(start..point + 7));
        matches!(quoted, Some([b'"', _, _, b':', _, _, b':', _, _, b'.', digits @ .., b'"']) if digits.iter().all(u8::is_ascii_digit))
    })
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
