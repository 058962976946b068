//! `Call`: one request of the engine to Python, for a handler, a check of rights or an `exists` check, with its answer.
//!
//! Owns: giving a call's parts to Python and taking its answer; which lane's calls a thread of Python takes.
//! Must not know: routes, handlers, threads; `_handlers.py` has them.
//! Invariants: a call is answered at most once; a second answer is an error of the package and says so. The engine
//! waits for the answer without a thread, and answers 500 where a call is dropped unanswered.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use sse_fast_server::{Call, ExistsReply, HandlerKind, Lane, Pairs, Reply, RequestParts, Watched};

use crate::convert;
use crate::errors::internal;
use crate::fork::Guarded;
use crate::gil::Detached;
use crate::stream::PyStream;

/// A request as `(method, path, params, query, headers, body, client)`.
type Parts<'py> = (String, String, Pairs, Pairs, Pairs, Bound<'py, PyBytes>, Option<(String, u16)>);

/// What Python is asked.
enum Question {
    Handler { request: RequestParts, watched: Watched },
    Check { names: Vec<String>, request: RequestParts },
    Exists { stream: String },
}

/// Where the answer goes.
enum AnswerTo {
    Response(Reply),
    Exists(ExistsReply),
}

/// A request of the engine to Python, a handler's, a check of rights or an ``exists`` check, to be answered once.
#[pyclass(frozen, module = "sse_fast._core", name = "Call")]
pub(crate) struct PyCall {
    /// Which callable is meant; its number was given to `route` or `handler`.
    #[pyo3(get)]
    key: u64,
    /// Its number in its lane.
    #[pyo3(get)]
    number: u64,
    question: Question,
    /// `None` once the call was answered. The lock lets one of several answering threads be the first.
    answer: Guarded<Mutex<Option<AnswerTo>>>,
}

impl PyCall {
    pub(crate) fn new(call: Call) -> Self {
        let (key, number, question, answer) = match call {
            Call::Handler { key, request, reply } => {
                let question = Question::Handler { request, watched: reply.watched() };
                (key, reply.number(), question, AnswerTo::Response(reply))
            }
            Call::Check { key, names, request, reply } => {
                (key, reply.number(), Question::Check { names, request }, AnswerTo::Response(reply))
            }
            Call::Exists { key, stream, reply } => (key, 0, Question::Exists { stream }, AnswerTo::Exists(reply)),
        };
        Self { key, number, question, answer: Guarded::new(Mutex::new(Some(answer))) }
    }

    fn take_answer(&self) -> PyResult<AnswerTo> {
        let answer = self.answer.get()?.lock().take();
        answer.ok_or_else(|| internal("a call was answered twice"))
    }

    fn reply(&self) -> PyResult<Reply> {
        match self.take_answer()? {
            AnswerTo::Response(reply) => Ok(reply),
            AnswerTo::Exists(_) => Err(internal("an exists check was answered with a response")),
        }
    }
}

/// The lane of this name.
pub(crate) fn lane(name: &str) -> PyResult<Lane> {
    match name {
        "threads" => Ok(Lane::Threads),
        "loop" => Ok(Lane::Loop),
        "generators" => Ok(Lane::Generators),
        "checks" => Ok(Lane::Checks),
        other => Err(internal(&format!("there is no lane {other:?}"))),
    }
}

/// The kind of callable of this name.
pub(crate) fn kind(name: &str) -> PyResult<HandlerKind> {
    match name {
        "function" => Ok(HandlerKind::Function),
        "coroutine" => Ok(HandlerKind::Coroutine),
        "generator" => Ok(HandlerKind::Generator),
        "async generator" => Ok(HandlerKind::AsyncGenerator),
        other => Err(internal(&format!("there is no kind of handler {other:?}"))),
    }
}

#[pymethods]
impl PyCall {
    /// The name an ``exists`` check asks for; None for a handler's call.
    #[getter]
    fn stream(&self) -> Option<&str> {
        match &self.question {
            Question::Handler { .. } | Question::Check { .. } => None,
            Question::Exists { stream } => Some(stream),
        }
    }

    /// The names of the streams that a request wants to read; None but for a check of its rights.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match &self.question {
            Question::Check { names, .. } => PyTuple::new(py, names).map(Some),
            Question::Handler { .. } | Question::Exists { .. } => Ok(None),
        }
    }

    /// Whether the answer is no longer wanted, nor the stream read that a generator was to fill.
    #[getter]
    fn lost(&self) -> bool {
        matches!(&self.question, Question::Handler { watched, .. } if watched.is_lost())
    }

    /// ``(method, path, params, query, headers, body, client)``; None for an ``exists`` check.
    fn request<'py>(&self, py: Python<'py>) -> Option<Parts<'py>> {
        let (Question::Handler { request, .. } | Question::Check { request, .. }) = &self.question else { return None };
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

    /// Answers with a stream, whose head has these headers, too; `generated` where a generator fills it, to be
    /// closed once nobody reads it.
    #[pyo3(signature = (stream, headers, *, generated=false))]
    fn answer_stream(
        &self,
        py: Python<'_>,
        stream: &Bound<'_, PyStream>,
        headers: Pairs,
        generated: bool,
    ) -> PyResult<()> {
        let stream = stream.get().engine()?;
        let reply = self.reply()?;
        py.detached(move || if generated { reply.generated(stream, headers) } else { reply.stream(stream, headers) })
    }

    /// Answers with a whole response.
    fn answer_response(&self, py: Python<'_>, status: u16, headers: Pairs, body: Vec<u8>) -> PyResult<()> {
        let reply = self.reply()?;
        py.detached(move || reply.response(status, headers, body))
    }

    /// Answers a check of rights: the request may read what it asked for, as this reader, for so many seconds.
    #[pyo3(signature = (reader, ttl))]
    fn admit(&self, py: Python<'_>, reader: Option<String>, ttl: Option<f64>) -> PyResult<()> {
        let ttl = convert::timeout(ttl);
        let reply = self.reply()?;
        py.detached(move || reply.admit(reader, ttl))
    }

    /// There is no answer: the engine has one for that.
    fn fail(&self) -> PyResult<()> {
        self.take_answer().map(drop)
    }

    /// Answers a check of rights: it may not.
    fn deny(&self, py: Python<'_>) -> PyResult<()> {
        let reply = self.reply()?;
        py.detached(move || reply.deny())
    }

    /// Answers an ``exists`` check.
    fn answer_exists(&self, py: Python<'_>, exists: bool) -> PyResult<()> {
        match self.take_answer()? {
            AnswerTo::Exists(reply) => py.detached(move || reply.answer(exists)),
            AnswerTo::Response(_) => Err(internal("a handler's call was answered as an exists check")),
        }
    }
}
