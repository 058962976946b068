//! Keys and rules of tokens, from Python to the engine's.
//!
//! Owns: `TokenKey` and `KeySource`, which `_rights.py` makes and `_jwks.py` feeds. Must not know: claims, requests, how keys are
//! fetched. Invariants: a key that was made can be used; none of it is in a text. What waits, waits detached.
//! Changes together with `_rights.py` and the engine's `rights`.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use sse_fast_server::{Algorithm, FetchOrder, Key, KeyError, KeySource, Keys, TokenRules};

use crate::convert;
use crate::errors::setting_error;
use crate::gil::Detached;

/// A key that tokens are verified with.
#[pyclass(frozen, module = "sse_fast._core", name = "TokenKey")]
pub(crate) struct PyTokenKey(Key);

#[pymethods]
impl PyTokenKey {
    #[new]
    #[pyo3(signature = (algorithm, given, id))]
    fn new(algorithm: &str, given: &[u8], id: Option<&str>) -> PyResult<Self> {
        Key::new(named(algorithm)?, given, id).map(Self).map_err(|error| refused(&error))
    }

    /// The same of a JWK, as JSON.
    #[staticmethod]
    #[pyo3(signature = (algorithm, json, id))]
    fn from_jwk(algorithm: &str, json: &str, id: Option<&str>) -> PyResult<Self> {
        Key::from_jwk(named(algorithm)?, json, id).map(Self).map_err(|error| refused(&error))
    }
}

fn named(algorithm: &str) -> PyResult<Algorithm> {
    Algorithm::named(algorithm).ok_or_else(|| {
        setting_error(&format!("algorithm={algorithm:?} is not allowed: it is HS256, RS256, ES256 or EdDSA"))
    })
}

fn refused(error: &KeyError) -> PyErr {
    setting_error(&format!("key is not allowed: {error}"))
}

/// Keys that are fetched from the web by a thread of Python's.
#[pyclass(frozen, module = "sse_fast._core", name = "KeySource")]
pub(crate) struct PyKeySource(KeySource);

#[pymethods]
impl PyKeySource {
    #[new]
    fn new() -> Self {
        Self(KeySource::default())
    }

    /// Waits for a fetch: True where one is to be done now, False after `timeout` seconds, None at the end.
    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<bool>> {
        let (began, timeout) = (Instant::now(), convert::timeout(Some(timeout)).unwrap_or(Duration::MAX));
        let order = py.serve(|slice| match self.0.wait(slice.min(timeout.saturating_sub(began.elapsed()))) {
            FetchOrder::Fetch => Some(Some(true)),
            FetchOrder::Closed => Some(None),
            FetchOrder::Timeout => (began.elapsed() >= timeout).then_some(Some(false)),
        })?;
        Ok(order.flatten())
    }

    /// A fetch begins that no request waits for.
    fn begin(&self) {
        self.0.begin();
    }

    /// A fetch has ended, with a key set or without; how many keys it has, None where the old ones stay.
    #[pyo3(signature = (set))]
    fn fetched(&self, py: Python<'_>, set: Option<&[u8]>) -> PyResult<Option<usize>> {
        py.detached(|| self.0.fetched(set))
    }
}

/// The rules of tokens that `_rights.py` has checked; None takes none.
pub(crate) fn rules(given: &Bound<'_, PyAny>) -> PyResult<Option<TokenRules>> {
    if given.is_none() {
        return Ok(None);
    }
    let given = given.cast::<PyDict>()?;
    let item = |name: &str| given.get_item(name).map(|item| item.filter(|item| !item.is_none()));
    let keys = if let Some(source) = item("source")? {
        Keys::Fetched(source.cast::<PyKeySource>()?.get().0.clone())
    } else {
        let keys = item("keys")?.map(|keys| keys.extract::<Vec<Bound<'_, PyTokenKey>>>()).transpose()?;
        Keys::Given(keys.unwrap_or_default().iter().map(|key| key.get().0.clone()).collect())
    };
    let text = |name: &str| item(name)?.map(|value| value.extract::<String>()).transpose();
    let leeway = item("leeway")?.map(|value| value.extract::<f64>()).transpose()?.unwrap_or_default();
    Ok(Some(TokenRules { keys, issuer: text("issuer")?, audience: text("audience")?, leeway }))
}
