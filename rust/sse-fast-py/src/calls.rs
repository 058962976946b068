//! `Call`: one request of the engine to Python, a handler's or an `exists` check, with its answer.
//!
//! Owns: showing a call's parts to Python and taking its answer once. Must not know: routes, handlers, threads;
//! `_request.py` has them. The engine waits for the answer without a thread; a call that is dropped unanswered is a 500.
//!
//! Invariant: a call is answered at most once; a second answer is an error of the package and says so.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sse_fast_server::{Call, ExistsReply, Reply, RequestParts};

use crate::errors::internal;
use crate::fork::Guarded;
use crate::gil::Detached;
use crate::stream::PyStream;

/// Names with their values, in the order of the request.
type Pairs = Vec<(String, String)>;

/// A request as `(method, path, params, query, headers, body, client)`.
type Parts<'py> = (String, String, Pairs, Pairs, Pairs, Bound<'py, PyBytes>, Option<(String, u16)>);

enum Asked {
    Handler(RequestParts),
    Exists { stream: String },
}

enum Answer {
    Response(Reply),
    Exists(ExistsReply),
}

/// A request of the engine to Python, a handler's or an ``exists`` check, to be answered once.
#[pyclass(frozen, module = "sse_fast._core", name = "Call")]
pub(crate) struct PyCall {
    /// Which callable is meant; its number was given to `route` or `handler`.
    #[pyo3(get)]
    key: u64,
    asked: Asked,
    /// Protects the answer's channel; taken by the first answer.
    answer: Guarded<Mutex<Option<Answer>>>,
}

impl PyCall {
    pub(crate) fn new(call: Call) -> Self {
        let (key, asked, answer) = match call {
            Call::Handler { key, request, reply } => (key, Asked::Handler(request), Answer::Response(reply)),
            Call::Exists { key, stream, reply } => (key, Asked::Exists { stream }, Answer::Exists(reply)),
        };
        Self { key, asked, answer: Guarded::new(Mutex::new(Some(answer))) }
    }

    fn take(&self) -> PyResult<Answer> {
        let answer = self.answer.get()?.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.ok_or_else(|| internal("a call was answered twice"))
    }

    fn reply(&self) -> PyResult<Reply> {
        match self.take()? {
            Answer::Response(reply) => Ok(reply),
            Answer::Exists(_) => Err(internal("an exists check was answered with a response")),
        }
    }
}

#[pymethods]
impl PyCall {
    /// The name an ``exists`` check asks for; None for a handler's call.
    #[getter]
    fn stream(&self) -> Option<&str> {
        match &self.asked {
            Asked::Handler(_) => None,
            Asked::Exists { stream } => Some(stream),
        }
    }

    /// ``(method, path, params, query, headers, body, client)``; None for an ``exists`` check.
    fn request<'py>(&self, py: Python<'py>) -> Option<Parts<'py>> {
        let Asked::Handler(request) = &self.asked else { return None };
        let client = request.client.map(|client| (client.ip().to_string(), client.port()));
        Some((
            request.method.clone(),
            request.path.clone(),
            request.params.clone(),
            request.query.clone(),
            request.headers.clone(),
            PyBytes::new(py, &request.body),
            client,
        ))
    }

    /// Answers with a stream: the response then is that stream.
    fn answer_stream(&self, py: Python<'_>, stream: &Bound<'_, PyStream>) -> PyResult<()> {
        let stream = stream.get().engine()?;
        let reply = self.reply()?;
        py.aside(move || reply.stream(stream))
    }

    /// Answers with a whole response.
    fn answer_response(&self, py: Python<'_>, status: u16, headers: Pairs, body: Vec<u8>) -> PyResult<()> {
        let reply = self.reply()?;
        py.aside(move || reply.response(status, headers, body))
    }

    /// Answers an ``exists`` check.
    fn answer_exists(&self, py: Python<'_>, exists: bool) -> PyResult<()> {
        match self.take()? {
            Answer::Exists(reply) => py.aside(move || reply.answer(exists)),
            Answer::Response(_) => Err(internal("a handler's call was answered as an exists check")),
        }
    }
}
