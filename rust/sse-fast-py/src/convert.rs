//! From Python values to the engine's: data, names, durations.
//!
//! Owns: which Python types are accepted for an event's fields and what they mean.
//! Must not know: which texts a field may hold (the engine checks that), or any setting's default.
//! Invariants: `str` and bytes are sent as given, everything else as JSON. Nothing is guessed from a type's name.

use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};

use crate::errors::{argument_type_error, event_type_error, event_value_error, setting_error};
use crate::gil::attached;
use crate::json::{self, Encoder, Json};

/// The longest `retry`, in seconds: who gives more means milliseconds, as other libraries take them.
const MAX_RETRY: f64 = 3600.0;

/// The data of an event, borrowed from Python where that is possible without a copy.
pub(crate) enum Data<'py> {
    Text(Bound<'py, PyString>),
    Bytes(Bound<'py, PyBytes>),
    /// Copied, because a `bytearray` can change, or because JSON had to be escaped.
    Owned(Vec<u8>),
}

impl<'py> Data<'py> {
    /// The argument `field`; refusals name it.
    pub(crate) fn of(field: &str, value: &Bound<'py, PyAny>, encoder: &Encoder) -> PyResult<Self> {
        // First, because most JSON data is a dict, and this check costs less than a cast that fails.
        if value.is_exact_instance_of::<PyDict>() {
            return Self::of_json(field, value, encoder);
        }
        match Self::verbatim(value)? {
            Some(data) => Ok(data),
            None => Self::of_json(field, value, encoder),
        }
    }

    /// Text and bytes, which go out as they are; `None` for everything else.
    fn verbatim(value: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Some(Self::Text(text.clone())));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Some(Self::Bytes(bytes.clone())));
        }
        if let Ok(bytes) = value.cast::<PyByteArray>() {
            return Ok(Some(Self::Owned(bytes.to_vec())));
        }
        if value.is_instance_of::<PyMemoryView>() {
            let bytes = value.call_method0(pyo3::intern!(value.py(), "tobytes"))?;
            return Ok(Some(Self::Bytes(bytes.cast_into::<PyBytes>()?)));
        }
        Ok(None)
    }

    fn of_json(field: &str, value: &Bound<'py, PyAny>, encoder: &Encoder) -> PyResult<Self> {
        if let Some(own) = encoder.own(field, value)?
            && let Some(data) = Self::verbatim(&own)?
        {
            return Ok(data);
        }
        Ok(match json::encode(field, value)? {
            Json::Plain(json) => Self::Bytes(json),
            Json::Escaped(escaped) => Self::Owned(escaped),
        })
    }

    /// The bytes; fails for a `str` with a lone surrogate, which has no UTF-8.
    pub(crate) fn as_bytes(&self, field: &str) -> PyResult<&[u8]> {
        match self {
            Self::Text(text) => utf8(field, text).map(str::as_bytes),
            Self::Bytes(bytes) => Ok(bytes.as_bytes()),
            Self::Owned(bytes) => Ok(bytes),
        }
    }
}

fn utf8<'a>(field: &str, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().map_err(|error| {
        let refused = format!("has a lone surrogate{}, which UTF-8 cannot express", at(text.py(), &error));
        let refusal = event_value_error(field, &refused);
        refusal.set_cause(text.py(), Some(error));
        refusal
    })
}

/// Where a `UnicodeEncodeError` says that it failed, counted in characters as Python does.
fn at(py: Python<'_>, error: &PyErr) -> String {
    let start = error.value(py).getattr(pyo3::intern!(py, "start")).and_then(|start| start.extract::<usize>());
    start.map_or_else(|_| String::new(), |start| format!(" at position {start}"))
}

/// A text for Python. Where it does not fit into memory pyo3 panics.
pub(crate) fn new_text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    attached(|| PyString::new(py, text))
}

/// The name of a stream or a path, as text; `refuse` makes the error where it has no UTF-8.
pub(crate) fn name<'a>(
    what: &str,
    value: &'a Bound<'_, PyAny>,
    refuse: impl FnOnce(&str) -> PyErr,
) -> PyResult<&'a str> {
    string(what, value)?.to_str().map_err(|error| {
        let (repr, at) = (repr_or_type(value), at(value.py(), &error));
        let refusal = refuse(&format!("the {what} {repr} has a lone surrogate{at}, which no URL can carry"));
        refusal.set_cause(value.py(), Some(error));
        refusal
    })
}

/// A field that is `str` or absent: `event`, `id`.
pub(crate) fn text<'a>(field: &str, value: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<&'a str>> {
    let Some(value) = value else { return Ok(None) };
    match value.cast::<PyString>() {
        Ok(text) => utf8(field, text).map(Some),
        Err(_) => Err(event_type_error(field, &format!("must be str or None, not {}", type_name(value)))),
    }
}

/// `retry`: seconds from 0 to an hour.
pub(crate) fn retry(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    let wrong_type =
        || event_type_error("retry", &format!("must be seconds as a number or None, not {}", type_name(value)));
    // Not a bool, which Python would take for a number.
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type());
    }
    let seconds = value.extract::<f64>().map_err(|error| {
        if error.is_instance_of::<PyTypeError>(value.py()) {
            wrong_type()
        } else {
            event_value_error("retry", &format!("{} is too large", repr_or_type(value)))
        }
    })?;
    if seconds > MAX_RETRY {
        let refused = format!("{seconds} is above {MAX_RETRY}: it is in seconds, not milliseconds");
        return Err(event_value_error("retry", &refused));
    }
    Duration::try_from_secs_f64(seconds)
        .map(Some)
        .map_err(|_| event_value_error("retry", &format!("{seconds} is not a number of seconds from 0 up")))
}

/// An argument that is a number of seconds; `allowed` says in words which are accepted.
pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyResult<Duration> {
    let refused = || format!("{name}={} is not allowed: it must be {allowed}", repr_or_type(value));
    // Not a bool, which Python would take for a number.
    let number = (!value.is_instance_of::<PyBool>()).then(|| value.extract::<f64>().ok()).flatten();
    let number = number.ok_or_else(|| argument_type_error(&refused()))?;
    Duration::try_from_secs_f64(number).map_err(|_| setting_error(&refused()))
}

/// An argument that is a str; its text may be refused later.
pub(crate) fn string<'a, 'py>(name: &str, value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    value
        .cast::<PyString>()
        .map_err(|_| argument_type_error(&format!("{name}={} is not allowed: it must be a str", repr_or_type(value))))
}

/// Seconds that Python has already checked, as a timeout. A negative one is zero; an infinite one is none.
pub(crate) fn timeout(seconds: Option<f64>) -> Option<Duration> {
    let seconds = seconds?;
    if seconds <= 0.0 {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an unnamed type".to_owned(), |name| name.to_string())
}

fn repr_or_type(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| type_name(value), |text| text.to_string())
}
