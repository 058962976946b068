//! `Server`: the engine as `_server.py` needs it below the public class.
//!
//! Owns: one engine's life as Python sees it: start, close, the wait for its end, the two queues that Python threads
//! wait on (calls and log records). Must not know: signals, threads, settings' defaults, callables.
//!
//! Invariants: closing runs on a thread of its own, so that Ctrl-C can leave it and it still completes; it is idempotent.
//!
//! Changes together with `_server.py` and the engine's `Server`. It is long because every call of the engine stands here.

use std::iter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{PyTraverseError, PyVisit};
use sse_fast_server::{Calls, HandlerSpec, Lane, Level, Limits, Logs, NewEvent, Received, RouteSpec, Server, Stream};

use crate::calls::{self, PyCall};
use crate::convert::{self, Data};
use crate::errors::{
    cannot_start_at_the_end, internal, malformed_route, route_error, run_error, server_closed, setting_error,
    start_error, stream_error,
};
use crate::fork::Guarded;
use crate::gil::{self, Detached};
use crate::json::{self, Encoder};
use crate::presence::PyPresence;
use crate::run::{PyRun, Spec};
use crate::stats;
use crate::stream::{PyStream, PyStreams, publish_generated};
use crate::{gate, options};

/// A log record as `(level, logger, text)`, the level as a number of Python's `logging`.
type Record = (u8, &'static str, String);

/// What a thread that waits for calls is given.
#[derive(IntoPyObject)]
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Taken {
    Call(PyCall),
    Lost(u64),
}

/// Whether the engine has wholly stopped, and how to wait for it.
#[derive(Default)]
struct Stopped {
    /// Set once, by the thread that closed the engine; nothing else happens under this lock.
    done: Mutex<bool>,
    changed: Condvar,
}

impl Stopped {
    fn set(&self) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits at most `timeout`; true once stopped.
    fn wait(&self, timeout: Duration) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(done, timeout, |done| !*done);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

struct Engine {
    server: Server,
    calls: Calls,
    logs: Logs,
    stopped: Arc<Stopped>,
}

/// An engine; `sse_fast.Server` is made from it.
#[pyclass(frozen, module = "sse_fast._core", name = "Server")]
pub(crate) struct PyServer {
    engine: Guarded<Engine>,
    /// What its streams have in common, with their callbacks; set once, before the first of them is made.
    streams: OnceLock<Py<PyStreams>>,
    /// What its streams encode values with.
    encoder: Encoder,
}

impl PyServer {
    /// The engine while it is open: routes of a closed one would never be asked for.
    fn open(&self, py: Python<'_>) -> PyResult<&Server> {
        let server = &self.engine.get()?.server;
        if py.detached(|| server.streams_closed())? { Err(server_closed()) } else { Ok(server) }
    }

    /// The stream as Python sees it.
    fn shown(&self, py: Python<'_>, stream: Stream) -> PyResult<PyStream> {
        let of = self.streams.get().ok_or_else(|| internal("there is a stream before there are callbacks"))?;
        Ok(PyStream::new(stream, of.clone_ref(py)))
    }
}

#[pymethods]
impl PyServer {
    #[new]
    #[pyo3(signature = (settings, stream, json=None))]
    fn new(
        py: Python<'_>,
        settings: &Bound<'_, PyDict>,
        stream: &Bound<'_, PyDict>,
        json: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        if gate::has_shut() {
            return Err(cannot_start_at_the_end());
        }
        // What is needed later; at the interpreter's end nothing can be imported.
        gil::prepare(py)?;
        json::prepare(py)?;
        let (config, rights) = options::config(settings, stream)?;
        let calls = Calls::new(Limits::of(&config));
        let server =
            py.detached(|| Server::start_with(config, &rights, calls.clone()))?.map_err(|error| start_error(&error))?;
        let logs = server.logs();
        let engine = Guarded::new(Engine { server, calls, logs, stopped: Arc::default() });
        Ok(Self { engine, streams: OnceLock::new(), encoder: Encoder::new(json) })
    }

    /// The port it listens on.
    #[getter]
    fn port(&self) -> PyResult<u16> {
        Ok(self.engine.get()?.server.port())
    }

    /// What a forked child has of it.
    ///
    /// Of each listener address and port of its sockets, and descriptors of polls; and once the folder of its store.
    #[expect(clippy::type_complexity, reason = "a row of what Python's Held is made of")]
    fn held(&self) -> PyResult<Vec<(String, u16, Vec<i32>, Option<PathBuf>)>> {
        let server = &self.engine.get()?.server;
        let of = |address: SocketAddr, polls, folder| (address.ip().to_string(), address.port(), polls, folder);
        let main = of(server.local_addr(), server.polls().to_vec(), server.store_folder().map(Path::to_owned));
        let metrics = server.metrics_addr().map(|address| of(address, Vec::new(), None));
        Ok(iter::once(main).chain(metrics).collect())
    }

    /// Address and port of the listener that metrics have of their own, if they have.
    fn metrics_address(&self) -> PyResult<Option<(String, u16)>> {
        let address = self.engine.get()?.server.metrics_addr();
        Ok(address.map(|address| (address.ip().to_string(), address.port())))
    }

    /// From now on it says that it is to be sent no more requests, and serves as before.
    fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let server = &self.engine.get()?.server;
        py.detached(|| server.leave())
    }

    /// What its streams ask for their callbacks; to be given once.
    fn set_callbacks(&self, py: Python<'_>, callbacks: Py<PyAny>) -> PyResult<()> {
        let streams = Py::new(py, PyStreams::new(callbacks, self.encoder.clone_ref(py)))?;
        self.streams.set(streams).map_err(|_| internal("the callbacks were given twice"))
    }

    /// The queue of who comes and goes.
    fn presence(&self, py: Python<'_>) -> PyResult<PyPresence> {
        Ok(PyPresence::new(self.engine.get()?.server.presence(), self.encoder.clone_ref(py)))
    }

    /// A stream without a name, which only a handler can hand out.
    fn nameless_stream(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<PyStream> {
        let server = &self.engine.get()?.server;
        let patch = options::patch(Some(options))?;
        let stream = py.detached(|| server.nameless_stream(&patch))?.map_err(stream_error)?;
        self.shown(py, stream)
    }

    /// The stream of that name, made if there is none; `options` are applied to it.
    #[pyo3(signature = (name, options=None))]
    fn stream(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyStream> {
        let server = &self.engine.get()?.server;
        let name = convert::name("stream name", name, setting_error)?;
        let patch = options::patch(options)?;
        let stream = py.detached(|| server.stream(name, &patch))?.map_err(stream_error)?;
        self.shown(py, stream)
    }

    /// The stream of that name, if there is one.
    fn find(&self, py: Python<'_>, name: &Bound<'_, PyAny>) -> PyResult<Option<PyStream>> {
        let server = &self.engine.get()?.server;
        let name = convert::name("stream name", name, setting_error)?;
        let found = py.detached(|| server.find(name))?.map_err(stream_error)?;
        found.map(|stream| self.shown(py, stream)).transpose()
    }

    /// Every stream there is now.
    fn streams(&self, py: Python<'_>) -> PyResult<Vec<PyStream>> {
        let server = &self.engine.get()?.server;
        py.detached(|| server.streams())?.into_iter().map(|stream| self.shown(py, stream)).collect()
    }

    /// What it has counted so far.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let server = &self.engine.get()?.server;
        stats::of_server(py, py.detached(|| server.stats())?)
    }

    /// A value as this server's events carry it as JSON: a str is a JSON string here.
    fn json<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        json::of_response(value, &self.encoder)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(streams) = self.streams.get() {
            visit.call(streams)?;
        }
        self.encoder.visit(&visit)
    }

    /// Maps a URL template to a stream's name; `exists` is the key of a callable.
    #[pyo3(signature = (template, stream, *, wait, retry_delay, exists, create, options))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of Server.route, by name")]
    fn route(
        &self,
        py: Python<'_>,
        template: &Bound<'_, PyAny>,
        stream: &Bound<'_, PyAny>,
        wait: f64,
        retry_delay: f64,
        exists: Option<u64>,
        create: bool,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let server = self.open(py)?;
        let seconds = |seconds| convert::timeout(Some(seconds)).unwrap_or(Duration::MAX);
        let spec = RouteSpec {
            template: convert::name("path", template, malformed_route)?.to_owned(),
            stream: convert::name("stream name", stream, malformed_route)?.to_owned(),
            wait: seconds(wait),
            retry_delay: seconds(retry_delay),
            exists,
            create,
            options: options::patch(Some(options))?,
        };
        py.detached(|| server.route(spec))?.map_err(route_error)
    }

    /// Maps a method and a URL template to the callable with that key, which is of that kind: ``"function"``,
    /// ``"coroutine"``, ``"generator"`` or ``"async generator"``.
    #[pyo3(signature = (method, template, key, *, kind, early_head, options))]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a handler, by name")]
    fn handler(
        &self,
        py: Python<'_>,
        method: String,
        template: &Bound<'_, PyAny>,
        key: u64,
        kind: &str,
        early_head: bool,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let server = self.open(py)?;
        let template = convert::name("path", template, malformed_route)?.to_owned();
        let (kind, options) = (calls::kind(kind)?, options::patch(Some(options))?);
        let spec = HandlerSpec { method, template, key, kind, early_head, options };
        py.detached(|| server.handler(spec))?.map_err(route_error)
    }

    /// The callable with that key, of that kind, decides who may read; False where another does already.
    fn authorize(&self, py: Python<'_>, key: u64, kind: &str) -> PyResult<bool> {
        let server = self.open(py)?;
        let lane = if kind == "function" { Lane::Checks } else { Lane::Loop };
        py.detached(|| server.authorize(lane, key))
    }

    /// A ticket for the streams that these patterns match, which is good for `ttl` seconds.
    #[pyo3(signature = (subscribe, reader, ttl))]
    #[expect(clippy::needless_pass_by_value, reason = "a list of Python's is no slice")]
    fn ticket(&self, py: Python<'_>, subscribe: Vec<String>, reader: Option<&str>, ttl: f64) -> PyResult<String> {
        let server = &self.engine.get()?.server;
        if py.detached(|| server.tickets_need_a_key())? {
            return Err(setting_error(
                "ticket_key is not given: with a backplane tickets must be signed with a key that every process has; \
                 give ticket_key=, or an HS256 key in tokens=",
            ));
        }
        let ttl = convert::timeout(Some(ttl)).unwrap_or_default();
        py.detached(|| server.ticket(&subscribe, reader, ttl))?
            .map_err(|error| setting_error(&format!("subscribe: {error}")))
    }

    /// Ends every connection of that reader; how many there were.
    fn disconnect(&self, py: Python<'_>, reader: &str) -> PyResult<usize> {
        let server = &self.engine.get()?.server;
        py.detached(|| server.disconnect(reader))
    }

    /// A stream for a generator of the handler with that key to fill; `path` is its request's.
    fn generated(
        &self,
        py: Python<'_>,
        path: &str,
        key: u64,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyStream> {
        let server = &self.engine.get()?.server;
        let options = options::patch(options)?;
        let stream = py.detached(|| server.generated(path, key, &options))?.map_err(stream_error)?;
        self.shown(py, stream)
    }

    /// Publishes what a generator yielded into its stream; `last` ends that. Waits for the reader, or, unless
    /// `wait`, returns False where it would have to.
    #[pyo3(signature = (stream, data, *, event, id, retry, last, wait))]
    #[expect(clippy::too_many_arguments, reason = "the fields of an event, by name")]
    fn feed(
        &self,
        py: Python<'_>,
        stream: &Bound<'_, PyStream>,
        data: &Bound<'_, PyAny>,
        event: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
        retry: Option<&Bound<'_, PyAny>>,
        last: bool,
        wait: bool,
    ) -> PyResult<bool> {
        let (server, stream) = (&self.engine.get()?.server, stream.get().engine()?);
        let data = Data::of("data", data, &self.encoder)?;
        let finished = if last { py.detached(|| server.finished_id(stream))? } else { None };
        let id = convert::text("id", id)?.or(finished.as_deref());
        let (event, retry) = (convert::text("event", event)?, convert::retry(retry)?);
        let event = NewEvent { data: data.as_bytes("data")?, event, id, retry, snapshot: None };
        publish_generated(py, stream, &event, last, wait)
    }

    /// Serves fixed bytes at `path`.
    fn asset(&self, py: Python<'_>, path: &str, content_type: &str, body: Vec<u8>) -> PyResult<()> {
        let server = self.open(py)?;
        py.detached(|| server.asset(path, content_type, body))?.map_err(route_error)
    }

    /// Refuses where a run writes into the stream.
    fn check_no_run(&self, py: Python<'_>, stream: &Bound<'_, PyStream>) -> PyResult<()> {
        let server = &self.engine.get()?.server;
        let stream = stream.get().engine()?;
        py.detached(|| server.check_no_run(stream))?.map_err(run_error)
    }

    /// Starts a child process whose events go to that stream.
    fn run(&self, py: Python<'_>, stream: &Bound<'_, PyStream>, spec: Spec) -> PyResult<PyRun> {
        let server = &self.engine.get()?.server;
        let stream = stream.get().engine()?;
        let spec = spec.of_stream(stream.name());
        Ok(PyRun::new(py.detached(|| server.run(&spec, stream))?.map_err(run_error)?))
    }

    /// Waits for the next call of a lane: ``"threads"``, ``"loop"``, ``"generators"`` or ``"checks"``. None once the
    /// engine has stopped; in the lane ``"loop"`` also the number of a call whose answer is no longer wanted.
    fn next_call(&self, py: Python<'_>, lane: &str) -> PyResult<Option<Taken>> {
        let (calls, lane) = (&self.engine.get()?.calls, calls::lane(lane)?);
        let taken = py.serve(|slice| match calls.receive(lane, slice) {
            Received::Call(call) => Some(Some(Taken::Call(PyCall::new(call)))),
            Received::Lost(number) => Some(Some(Taken::Lost(number))),
            Received::Timeout => None,
            Received::Closed => Some(None),
        })?;
        Ok(taken.flatten())
    }

    /// Waits for ``(level, logger, text)`` records; None once it has stopped and all were given.
    fn next_logs(&self, py: Python<'_>) -> PyResult<Option<Vec<Record>>> {
        let logs = &self.engine.get()?.logs;
        // An empty batch is none yet.
        let batch = py.serve(|slice| match logs.take(slice) {
            Some(batch) if batch.is_empty() => None,
            batch_or_end => Some(batch_or_end),
        })?;
        Ok(batch
            .flatten()
            .map(|batch| batch.into_iter().map(|record| (level(record.level), record.logger, record.text)).collect()))
    }

    /// Drains for at most `drain` seconds and stops; an exception of a signal handler leaves only the wait.
    fn close(&self, py: Python<'_>, drain: f64) -> PyResult<()> {
        // A process that did not start the engine has nothing to close: leaving a `with` block there is no error.
        let Some(engine) = self.engine.own() else { return Ok(()) };
        let drain = convert::timeout(Some(drain)).unwrap_or(Duration::MAX);
        let (server, stopped) = (engine.server.clone(), Arc::clone(&engine.stopped));
        let closing = thread::Builder::new()
            .name("sse-fast-close".to_owned())
            .spawn(move || {
                server.close(drain);
                stopped.set();
            })
            .map_err(|error| internal(&format!("no thread to close the engine on: {error}")))?;
        py.wait(None, |slice| engine.stopped.wait(slice).then_some(()))?;
        // It ends in a moment; a panic in it was its last word.
        py.detached(|| drop(closing.join()))
    }

    /// Waits at most `timeout` seconds; True once the engine has stopped.
    fn wait_stopped(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let stopped = &self.engine.get()?.stopped;
        Ok(py.wait(convert::timeout(Some(timeout)), |slice| stopped.wait(slice).then_some(()))?.is_some())
    }

    /// Whether closing has begun; also true in a process that did not start it.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        match self.engine.own() {
            Some(engine) => py.detached(|| engine.server.closed()),
            None => Ok(true),
        }
    }
}

/// The engine's level as a number of Python's `logging`.
fn level(level: Level) -> u8 {
    match level {
        Level::Debug => 10,
        Level::Info => 20,
        Level::Warning => 30,
        Level::Error => 40,
    }
}
