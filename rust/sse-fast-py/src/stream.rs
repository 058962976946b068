//! `Stream`, the object users publish through, and the heartbeat that a `with` block overrides.
//!
//! Owns: the path of a publish: convert, try attached (which does not wait for the stream's lock), and publish detached
//! only where the engine would have to wait.
//! Must not know: logs, shards, subscribers, Python threads.
//! Invariants: a batch is converted completely before its first event is published. A stream of another process (after
//! a fork) raises `ForkError` in every method.
//! Changes together with: `python/sse_fast/_core.pyi`, which has the same documentation word for word. Editors read it
//! there and `help` reads it here; a test compares the two.
//! This file is long because every method of `Stream` carries that documentation.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use sse_fast_server::{
    Appended, Caller, EmptyOutcome, KeptSoon, MAX_TOGETHER, NewEvent, OwnedEvent, Part as EventPart, PublishError,
    Published, Publishing, ReadFrom, Stream, UnderWay,
};

use crate::batch;
use crate::convert::{self, Data};
use crate::errors::{event_error, heartbeat_error, option_error, publish_error, setting_error};
use crate::fork::Guarded;
use crate::gil::{Detached, attached, calling_python};
use crate::json::Encoder;
use crate::once::{self, Once};
use crate::options;
use crate::publishing::{Part, PyPublishing};
use crate::reader::PyReader;
use crate::stats;
use crate::wakeups::{PyWakeups, PyWatch};

static EVENTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static APUBLISH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static APUBLISH_MANY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ASNAPSHOT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static AEND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static IS_RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static WARN_OF_WAITING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static WAIT_EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static AWAIT_EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A named, ordered, bounded log of events with its subscribers; made by `Server.stream`.
///
/// Every method may be called from any thread; publishing waits for subscribers as `publish` says, and no other does.
/// Handles are cheap; two handles on one name are the same stream, and equal, as long as it is not removed: the name's
/// next life is another stream. In a child of the process that started the server every use raises `ForkError`.
///
/// >>> import sse_fast
/// >>> server = sse_fast.serve(0)
/// >>> stream = server.stream("runs/42", start="all")
/// >>> _ = stream.publish({"status": "COMPILING"}, event="COMPILING")
/// >>> _ = stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED")
/// >>> stream
/// <sse_fast.Stream "runs/42", ended, 0 subscribers>
#[pyclass(frozen, weakref, module = "sse_fast", name = "Stream")]
pub(crate) struct PyStream {
    engine: Guarded<Stream>,
    of: Py<PyStreams>,
}

/// What all streams of a server have in common; one for all of them, since a program may hold tens of thousands.
#[pyclass(frozen, module = "sse_fast._core", name = "Streams")]
pub(crate) struct PyStreams {
    /// Where callbacks of the server are kept and called.
    callbacks: Py<PyAny>,
    /// What values are encoded with.
    encoder: Encoder,
}

impl PyStreams {
    pub(crate) fn new(callbacks: Py<PyAny>, encoder: Encoder) -> Self {
        Self { callbacks, encoder }
    }
}

#[pymethods]
impl PyStreams {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.callbacks)?;
        self.encoder.visit(&visit)
    }
}

impl PyStream {
    pub(crate) fn new(stream: Stream, of: Py<PyStreams>) -> Self {
        Self { engine: Guarded::new(stream), of }
    }

    fn encoder(&self) -> &Encoder {
        &self.of.get().encoder
    }

    /// What tells it from other streams while it is held; also in a forked child, which must not look at the stream.
    fn identity(&self) -> u64 {
        self.engine.handle().map_or(0, Stream::number)
    }

    /// A terminal event always carries data: clients ignore an event without any.
    fn terminal_data<'py>(&self, data: Option<&Bound<'py, PyAny>>) -> PyResult<Data<'py>> {
        data.map_or_else(|| Ok(Data::Owned(b"null".to_vec())), |data| Data::of("data", data, self.encoder()))
    }

    /// The stream, in its newest life where its log is elsewhere and was lost there.
    pub(crate) fn engine(&self) -> PyResult<&Stream> {
        self.engine.get().map(Stream::current)
    }
}

/// Publishes attached where that needs no wait, else detached.
fn publish(py: Python<'_>, stream: &Stream, event: &NewEvent<'_>) -> PyResult<Published> {
    match attached(|| stream.try_publish(event))? {
        Err(PublishError::WouldWait) => {
            let caller = caller_into(py, stream)?;
            wait(py, stream.publishing(event, caller))?
        }
        published_or_refused => published_or_refused,
    }
    .map_err(publish_error)
}

/// Who publishes into this stream. Where that waits for the backplane, or for the disk, an event loop is warned of it, once for
/// each server.
fn caller_into(py: Python<'_>, stream: &Stream) -> PyResult<Caller> {
    let caller = caller(py);
    if caller == Caller::EventLoop
        && let Some(what) = stream.waits_elsewhere()
        && stream.is_first_to_wait_in_a_loop()
    {
        let arguments = (stream.name(), what);
        calling_python(|| WARN_OF_WAITING.import(py, "sse_fast._publish", "warn_of_waiting")?.call1(arguments))?;
    }
    Ok(caller)
}

/// Publishes an event of a generator's, which has its stream to itself; `last` ends the stream. False where it would have
/// to wait and must not.
pub(crate) fn publish_generated(
    py: Python<'_>,
    stream: &Stream,
    event: &NewEvent<'_>,
    last: bool,
    may_wait: bool,
) -> PyResult<bool> {
    let tried = attached(|| if last { stream.try_end_with(event) } else { stream.try_publish(event) })?;
    let published = match tried {
        Err(PublishError::WouldWait) if !may_wait => return Ok(false),
        Err(PublishError::WouldWait) if last => wait(py, stream.ending_with(event, Caller::Thread))?,
        Err(PublishError::WouldWait) => wait(py, stream.publishing(event, Caller::Thread))?,
        published_or_refused => published_or_refused,
    };
    published.map(|_| true).map_err(publish_error)
}

/// Waits for a publish, slice by slice: a signal handler that raises ends the wait, and then nothing was published, but what
/// the store had taken.
fn wait(py: Python<'_>, publishing: Result<Publishing<'_>, PublishError>) -> PyResult<Result<Published, PublishError>> {
    waited(py, publishing, Publishing::wait)
}

/// The same, but for the disk's having it.
fn append(
    py: Python<'_>,
    publishing: Result<Publishing<'_>, PublishError>,
) -> PyResult<Result<Appended, PublishError>> {
    waited(py, publishing, Publishing::append)
}

fn waited<'a, T: Send>(
    py: Python<'_>,
    publishing: Result<Publishing<'a>, PublishError>,
    wait: impl Fn(&mut Publishing<'a>, Duration) -> Option<Result<T, PublishError>> + Sync,
) -> PyResult<Result<T, PublishError>> {
    let mut publishing = match publishing {
        Ok(publishing) => publishing,
        Err(error) => return Ok(Err(error)),
    };
    match py.wait(None, |slice| wait(&mut publishing, slice)) {
        Ok(Some(outcome)) => Ok(outcome),
        unfinished => {
            // Its place is given up without the interpreter: others may hold the stream's lock for a moment.
            py.detached(|| drop(publishing))?;
            unfinished.map(|_| Err(PublishError::WouldWait))
        }
    }
}

/// Publishes events one after another as `wait` does; those before a signal or an error stay published.
fn wait_for_all(
    py: Python<'_>,
    stream: &Stream,
    events: &[NewEvent<'_>],
    caller: Caller,
) -> PyResult<Result<Vec<String>, PublishError>> {
    if stream.is_copy() {
        return hand_over(py, stream, events);
    }
    let mut ids = Vec::with_capacity(events.len());
    let mut current: Option<Publishing<'_>> = None;
    // Where events are to be on the disk that is waited for once, for the last of them.
    let mut last: Option<KeptSoon> = None;
    let done = py.wait(None, |slice| {
        let until = Instant::now() + slice;
        while let Some(event) = events.get(ids.len()) {
            let mut publishing = match current.take().map_or_else(|| stream.publishing(event, caller), Ok) {
                Ok(publishing) => publishing,
                Err(error) => return Some(Err(error)),
            };
            match publishing.append(until.saturating_duration_since(Instant::now())) {
                Some(Ok(Appended { published, kept })) => {
                    ids.push(published.id().to_owned());
                    last = kept.or_else(|| last.take());
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    current = Some(publishing);
                    return None;
                }
            }
        }
        last.as_ref().map_or(Some(Ok(())), |last| last.wait(until.saturating_duration_since(Instant::now())))
    });
    if current.is_some() {
        py.detached(|| drop(current))?;
    }
    Ok(done?.unwrap_or(Ok(())).map(|()| ids))
}

/// Publishes all of them in one step, or none, under this key.
fn publish_together(
    py: Python<'_>,
    stream: &Stream,
    events: &[NewEvent<'_>],
    under_way: UnderWay,
) -> PyResult<Published> {
    let checked = |event| stream.check(event).map(EventPart::Event);
    let parts = events.iter().map(checked).collect::<Result<Vec<_>, _>>().map_err(|error| event_error(&error))?;
    let caller = caller_into(py, stream)?;
    let publishing = stream.publishing_together(&parts, under_way.key(), caller);
    let appended = append(py, publishing)?.map_err(publish_error)?;
    once::done_once_kept(under_way, &appended);
    if let Some(kept) = &appended.kept {
        py.wait(None, |slice| kept.wait(slice))?.unwrap_or(Ok(())).map_err(publish_error)?;
    }
    Ok(appended.published)
}

/// Hands events over to where the log is, as many together as may be; those before a signal or an error stay published.
fn hand_over(py: Python<'_>, stream: &Stream, events: &[NewEvent<'_>]) -> PyResult<Result<Vec<String>, PublishError>> {
    let mut ids = Vec::with_capacity(events.len());
    for together in events.chunks(MAX_TOGETHER) {
        let mut publishing = match py.detached(|| stream.publishing_many(together))? {
            Ok(publishing) => publishing,
            Err(error) => return Ok(Err(error)),
        };
        match py.wait(None, |slice| publishing.wait(slice))? {
            Some(Ok(published)) => ids.extend(published.iter().map(|published| published.id().to_owned())),
            Some(Err(error)) => return Ok(Err(error)),
            None => return Ok(Err(PublishError::WouldWait)),
        }
    }
    Ok(Ok(ids))
}

/// Seconds that Python has already checked.
fn after_seconds(after: f64) -> Duration {
    convert::timeout(Some(after)).unwrap_or(Duration::MAX)
}

/// Whether this is the thread of a running event loop, or of a hub of greenlets. Asked only before a wait.
fn caller(py: Python<'_>) -> Caller {
    let running = || calling_python(|| IS_RUNNING.import(py, "sse_fast._loops", "is_running")?.call0())?.is_truthy();
    if running().unwrap_or(false) { Caller::EventLoop } else { Caller::Thread }
}

#[pymethods]
impl PyStream {
    /// Publishes one event and returns its id, a str such as ``"hodg0s4tjq-1"``.
    ///
    /// Under load: it appends and returns. In a flood, before the log would overwrite what a healthy subscriber has not
    /// been sent, it waits for the engine; for readers whose sockets are full it waits from a budget: all publishers of
    /// a stream together ``publish_wait`` seconds in a minute, one call half of it. It waits without the interpreter;
    /// others that publish during that time go on in the order they came. In the thread of a running event loop it
    /// never waits for a reader. At shutdown it raises `ServerClosed`.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example", start="all")
    /// >>> stream.publish({"n": 1}, event="progress") == stream.last_id
    /// True
    ///
    /// Args:
    ///     data: str goes out as it is, with a ``data:`` line for each of its lines; bytes likewise, they must be
    ///         UTF-8; everything else as compact JSON: dataclasses, datetimes, UUIDs, enums, pydantic models, Decimals,
    ///         paths, sets and numpy's numbers and arrays too. Keys may be numbers, None, dates, UUIDs and enums. A NaN
    ///         or an infinity is ``null``, as in browsers. The README has a table; ``serve(json=...)`` takes an encoder
    ///         of one's own instead.
    ///     event: the event's name; None is what readers call ``message``.
    ///     id: an id of the caller's own instead of ``<epoch>-<n>``; readers can resume from it.
    ///     retry: seconds that readers are to wait before they reconnect, up to an hour.
    ///     snapshot: data that replaces everything up to and including this event, set in the same atomic step; a new
    ///         subscriber gets it first. None leaves the snapshot as it is.
    ///     idempotency_key: makes the call repeatable: within five minutes one with the same key publishes nothing and
    ///         returns the first one's id. 1 to 255 printable characters of ASCII, of this stream alone. The server
    ///         remembers 100,000 of them, the newest.
    ///
    /// Raises:
    ///     EventError: a value the wire cannot carry: CR, LF or NUL in `event` or `id`, an empty `id`, data above
    ///         ``max_event_bytes`` or not UTF-8, a negative `retry` or one above an hour. Nothing was published.
    ///     EventTypeError: `event` or `id` is not a str, `retry` is not a number, or the data is not JSON-able; the
    ///         text names the place in it, such as ``data['runs'][3]``. Nothing was published.
    ///     StreamEnded: the stream has ended, or was removed.
    ///     PublishWouldWait: with ``publish_wait=None``, in the thread of a running event loop: a reader's socket is
    ///         full. Nothing was published.
    ///     KeyReused: `idempotency_key` was used for something else. Nothing was published.
    ///     PublishInProgress: another call with this `idempotency_key` has not returned yet. Nothing was published.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed.
    #[pyo3(signature = (data, *, event=None, id=None, retry=None, snapshot=None, idempotency_key=None))]
    #[expect(clippy::too_many_arguments, reason = "they are Python's")]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        event: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        retry: Option<&Bound<'py, PyAny>>,
        snapshot: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        let stream = self.engine()?;
        let data = Data::of("data", data, self.encoder())?;
        let snapshot = snapshot.map(|snapshot| Data::of("snapshot", snapshot, self.encoder())).transpose()?;
        let event = NewEvent {
            data: data.as_bytes("data")?,
            event: convert::text("event", event)?,
            id: convert::text("id", id)?,
            retry: convert::retry(retry)?,
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.as_bytes("snapshot")).transpose()?,
        };
        let Some(key) = once::key(idempotency_key)? else {
            return convert::new_text(py, publish(py, stream, &event)?.id());
        };
        match once::begin(stream, key, [event])? {
            Once::Again(ids) => convert::new_text(py, ids.last().map_or("", AsRef::as_ref)),
            Once::First(under_way) => {
                if stream.hands_keys_on() {
                    return convert::new_text(py, publish_together(py, stream, &[event], under_way)?.id());
                }
                let published = publish(py, stream, &event)?;
                once::done(under_way, [published.id()]);
                convert::new_text(py, published.id())
            }
        }
    }

    /// Publishes several events, in order, crossing into the engine once; returns their ids.
    ///
    /// Under load and at shutdown it behaves as `publish` does, event by event; it does not hold the interpreter.
    ///
    /// Each is an `Event`, a ``(data, event)`` tuple, or a mapping with the names of `publish`'s arguments. All are
    /// converted and checked before the first is published, so that a wrong one publishes nothing; readers may see
    /// other publishers' events in between.
    ///
    /// Args:
    ///     events: any iterable of them. It is read to its end first, and an exception that it raises is passed on.
    ///     idempotency_key: as for `publish`, for all of them together. With a key they are appended in one step, with
    ///         nobody's in between, all or none; the stream's ``history`` and ``history_bytes`` must hold them.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example")
    /// >>> len(stream.publish_many([("a", "line"), {"data": {"n": 1}, "retry": 2.0}, sse_fast.Event("b")]))
    /// 3
    ///
    /// Raises:
    ///     EventError: as for `publish`; the text says which item. Nothing was published. With a key also where the
    ///         stream does not hold so many.
    ///     EventTypeError: likewise; also where `events` is not an iterable of events.
    ///     StreamEnded: the stream has ended. Where that happens in between, the events before it were published.
    ///     KeyReused: `idempotency_key` was used for something else. Nothing was published.
    ///     PublishInProgress: another call with this `idempotency_key` has not returned yet. Nothing was published.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed; likewise.
    #[pyo3(signature = (events, *, idempotency_key=None))]
    fn publish_many(
        &self,
        py: Python<'_>,
        events: &Bound<'_, PyAny>,
        idempotency_key: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<String>> {
        let stream = self.engine()?;
        let items = batch::items(events, 0, self.encoder())?;
        let events = batch::events(py, &items, 0, stream)?;
        let Some(key) = once::key(idempotency_key)?.filter(|_| !events.is_empty()) else {
            let caller = caller_into(py, stream)?;
            return wait_for_all(py, stream, &events, caller)?.map_err(publish_error);
        };
        match once::begin(stream, key, events.iter().copied())? {
            Once::Again(ids) => Ok(ids.iter().map(|id| String::from(&**id)).collect()),
            Once::First(under_way) => {
                let published = publish_together(py, stream, &events, under_way)?;
                Ok(published.ids().map(str::to_owned).collect())
            }
        }
    }

    /// Sets the snapshot: a new subscriber gets it first, in place of everything published so far.
    ///
    /// Nothing is sent to present subscribers. The engine keeps one snapshot, the newest, whatever the load, and gives
    /// it with the id of the last event that it covers, so that no event is lost or doubled between it and what
    /// follows. To set it and publish an event in one step, give `publish` its ``snapshot=``.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example")
    /// >>> stream.snapshot({"step": 7, "status": "RUNNING"})
    /// >>> next(stream.events(timeout=5.0)).event
    /// 'snapshot'
    ///
    /// Args:
    ///     data: as for `publish`.
    ///     event: the name of the event that carries it; by default ``"snapshot"``.
    ///
    /// Raises:
    ///     EventError: as for `publish`.
    ///     EventTypeError: as for `publish`.
    ///     StreamEnded: the stream has ended.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed.
    #[pyo3(signature = (data, *, event=None), text_signature = "($self, data, *, event='snapshot')")]
    fn snapshot(&self, py: Python<'_>, data: &Bound<'_, PyAny>, event: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let stream = self.engine()?;
        let data = Data::of("data", data, self.encoder())?;
        let (bytes, event) = (data.as_bytes("data")?, convert::text("event", event)?.unwrap_or("snapshot"));
        if stream.waits_elsewhere().is_some() {
            caller_into(py, stream)?;
        }
        py.detached(|| stream.snapshot(bytes, Some(event)))?.map_err(publish_error)
    }

    /// Publishes the terminal event and returns its id; the stream takes no more.
    ///
    /// Every subscriber gets it, however slow, and is then disconnected; one that takes nothing for ``stall_timeout``
    /// seconds is cut off before. For ``linger`` seconds a late reader still gets what it lacks; a reader that has the
    /// terminal event gets 204, which tells a browser not to return. At shutdown subscribers still get it, within the
    /// ``drain`` of `Server.close`.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example", start="all")
    /// >>> stream.end({"status": "BENCHMARKED"}, event="BENCHMARKED") == stream.last_id
    /// True
    ///
    /// Args:
    ///     data: as for `publish`; None is ``null``, because clients ignore an event without data.
    ///     event: its name; by default ``"end"``.
    ///
    /// Raises:
    ///     EventError: as for `publish`.
    ///     EventTypeError: as for `publish`.
    ///     StreamEnded: the stream has ended already.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed.
    #[pyo3(signature = (data=None, *, event=None), text_signature = "($self, data=None, *, event='end')")]
    fn end<'py>(
        &self,
        py: Python<'py>,
        data: Option<&Bound<'py, PyAny>>,
        event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        let stream = self.engine()?;
        let data = self.terminal_data(data)?;
        let (bytes, event) = (data.as_bytes("data")?, convert::text("event", event)?.unwrap_or("end"));
        let caller = caller_into(py, stream)?;
        let done = wait(py, stream.ending(bytes, event, caller))?.map_err(publish_error)?;
        convert::new_text(py, done.id())
    }

    /// `publish` for coroutines: it never holds up its event loop, and lets others run every 64 events.
    ///
    /// Where `publish` would wait its task waits, from the same budget and in the same order, while the loop goes on;
    /// it costs no thread. Cancelled before it was appended, it has published nothing. The loop may be asyncio's, also
    /// uvloop's, or trio's.
    ///
    /// >>> import asyncio, sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example")
    /// >>> asyncio.run(stream.apublish({"n": 1}, event="progress")) == stream.last_id
    /// True
    ///
    /// Args:
    ///     data: as for `publish`.
    ///     event: as for `publish`.
    ///     id: as for `publish`.
    ///     retry: as for `publish`.
    ///     snapshot: as for `publish`.
    ///     idempotency_key: as for `publish`.
    ///
    /// Raises:
    ///     EventError: as for `publish`.
    ///     EventTypeError: as for `publish`.
    ///     StreamEnded: the stream has ended.
    ///     KeyReused: as for `publish`.
    ///     PublishInProgress: as for `publish`.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed.
    ///     RuntimeError: it has to wait, and runs on no event loop of these kinds.
    #[pyo3(signature = (data, *, event=None, id=None, retry=None, snapshot=None, idempotency_key=None))]
    fn apublish<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        event: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        retry: Option<&Bound<'py, PyAny>>,
        snapshot: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let apublish = APUBLISH.import(slf.py(), "sse_fast._publish", "apublish")?;
        apublish.call1((slf, data, event, id, retry, snapshot, idempotency_key))
    }

    /// `publish_many` for coroutines, as `apublish` is for `publish`; returns the ids.
    ///
    /// All events are converted and checked before the first is published, and others run after each 64 of either.
    /// Where it is cancelled in between, or the stream ends, the events before that stay published.
    ///
    /// >>> import asyncio, sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example")
    /// >>> len(asyncio.run(stream.apublish_many([("a", "line"), {"data": {"n": 1}}, sse_fast.Event("b")])))
    /// 3
    ///
    /// Args:
    ///     events: as for `publish_many`.
    ///     idempotency_key: as for `publish_many`.
    ///
    /// Raises:
    ///     EventError: as for `publish_many`. Nothing was published.
    ///     EventTypeError: likewise.
    ///     StreamEnded: the stream has ended. Where that happens in between, the events before it were published.
    ///     KeyReused: as for `publish`.
    ///     PublishInProgress: as for `publish`.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed; likewise.
    ///     RuntimeError: it runs on no event loop of these kinds.
    #[pyo3(signature = (events, *, idempotency_key=None))]
    fn apublish_many<'py>(
        slf: &Bound<'py, Self>,
        events: &Bound<'py, PyAny>,
        idempotency_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let apublish_many = APUBLISH_MANY.import(slf.py(), "sse_fast._publish", "apublish_many")?;
        apublish_many.call1((slf, events, idempotency_key))
    }

    /// `snapshot` for coroutines: it never waits, and lets others run every 64 calls.
    ///
    /// >>> import asyncio, sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> asyncio.run(server.stream("example").asnapshot({"step": 7}))
    ///
    /// Args:
    ///     data: as for `publish`.
    ///     event: the name of the event that carries it; by default ``"snapshot"``.
    ///
    /// Raises:
    ///     EventError: as for `publish`.
    ///     EventTypeError: as for `publish`.
    ///     StreamEnded: the stream has ended.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed.
    #[pyo3(signature = (data, *, event=None), text_signature = "($self, data, *, event='snapshot')")]
    fn asnapshot<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ASNAPSHOT.import(slf.py(), "sse_fast._publish", "asnapshot")?.call1((slf, data, event))
    }

    /// `end` for coroutines, as `apublish` is for `publish`.
    ///
    /// >>> import asyncio, sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example")
    /// >>> asyncio.run(stream.aend({"status": "BENCHMARKED"})) == stream.last_id
    /// True
    ///
    /// Args:
    ///     data: as for `publish`; None is ``null``, because clients ignore an event without data.
    ///     event: its name; by default ``"end"``.
    ///
    /// Raises:
    ///     EventError: as for `publish`.
    ///     EventTypeError: as for `publish`.
    ///     StreamEnded: the stream has ended already.
    ///     BackplaneError: with a backplane: it refused, or was away (`BackplaneUnavailable`).
    ///     ServerClosed: the server was closed.
    ///     RuntimeError: it runs on no event loop of these kinds.
    #[pyo3(signature = (data=None, *, event=None), text_signature = "($self, data=None, *, event='end')")]
    fn aend<'py>(
        slf: &Bound<'py, Self>,
        data: Option<&Bound<'py, PyAny>>,
        event: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        AEND.import(slf.py(), "sse_fast._publish", "aend")?.call1((slf, data, event))
    }

    /// Overrides the heartbeat inside a ``with`` block, by the engine's clock, even while Python is busy.
    ///
    /// Blocks nest: leaving one restores what was in force outside it, also when an exception leaves it. The block is
    /// given the stream. Heartbeats end with the stream and with the server; the block then changes nothing.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> with server.stream("completion", ids=False).heartbeat(every=5.0, comment="computing") as stream:
    /// ...     stream.name
    /// 'completion'
    ///
    /// Args:
    ///     every: seconds since the last write to a subscriber after which it gets a heartbeat, from 0.001 up.
    ///     comment: the text of the heartbeat, which no reader sees as an event.
    ///
    /// Raises:
    ///     SettingError: `every` is not allowed.
    ///     ArgumentTypeError: `every` is not a number.
    ///     EventTypeError: `comment` is not a str.
    ///     EventError: the comment has a CR, LF or NUL; raised on entering.
    #[pyo3(signature = (every=None, comment=None), text_signature = "($self, every=5.0, comment='heartbeat')")]
    fn heartbeat(
        slf: Bound<'_, Self>,
        every: Option<&Bound<'_, PyAny>>,
        comment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyHeartbeat> {
        let seconds = |every| convert::seconds("every", every, "seconds from 0.001 up");
        let every = every.map_or(Ok(Duration::from_secs(5)), seconds)?;
        let comment = convert::text("comment", comment)?.unwrap_or("heartbeat").to_owned();
        Ok(PyHeartbeat { stream: slf.unbind(), every, comment, tokens: Mutex::new(Vec::new()) })
    }

    /// Iterates over the events in this process, with ``for`` or ``async for``, until the terminal event.
    ///
    /// A reader that falls out of the stream's history gets a ``gap`` event; it never slows a publisher. When the
    /// server closes, or the stream is removed, the iteration ends. It waits without holding the interpreter, and
    /// Ctrl-C interrupts it; with ``async for`` it costs no thread.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example", start="all")
    /// >>> _ = stream.publish({"n": 1})
    /// >>> _ = stream.end()
    /// >>> [(event.event, event.data) for event in stream.events(timeout=5.0)]
    /// [('message', '{"n":1}'), ('end', 'null')]
    ///
    /// Args:
    ///     start: what comes first: ``"new"``, ``"last"`` or ``"all"``; by default the stream's own ``start``.
    ///     last_event_id: goes on right after this event instead, as a reconnecting client does.
    ///     timeout: seconds of silence after which `WaitTimeout` is raised; None waits without limit.
    ///
    /// Raises:
    ///     SettingError: `start` and `last_event_id` were both given, or a value is not allowed.
    ///     EventTypeError: `last_event_id` is not a str.
    ///     WaitTimeout: in the iteration, after `timeout` silent seconds; it may be continued.
    #[pyo3(signature = (*, start=None, last_event_id=None, timeout=None))]
    fn events<'py>(
        slf: &Bound<'py, Self>,
        start: Option<&Bound<'py, PyAny>>,
        last_event_id: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let reader = Py::new(py, slf.get().reader(py, start, last_event_id)?)?;
        let name = slf.get().name()?;
        calling_python(|| EVENTS.import(py, "sse_fast._stream", "Events")?.call1((reader, name, timeout)))
    }

    /// The engine's reader below `events`.
    #[pyo3(name = "_reader", signature = (start=None, last_event_id=None))]
    fn reader(
        &self,
        py: Python<'_>,
        start: Option<&Bound<'_, PyAny>>,
        last_event_id: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyReader> {
        let stream = self.engine()?;
        let from = match (start, convert::text("last_event_id", last_event_id)?) {
            (Some(_), Some(_)) => return Err(setting_error("start and last_event_id exclude each other: give one")),
            (None, Some(id)) => ReadFrom::After(id.to_owned()),
            (start, None) => ReadFrom::Start(start.map(|start| options::choice("start", start)).transpose()?),
        };
        Ok(PyReader::new(py.detached(|| stream.reader(&from))?))
    }

    /// Its name: what follows ``/streams/`` in its URL; empty where it has none.
    #[getter]
    fn name(&self) -> PyResult<&str> {
        Ok(self.engine()?.name())
    }

    /// How many subscribers it has now, in all processes that share it; readers in this process are not counted.
    #[getter]
    fn subscribers(&self, py: Python<'_>) -> PyResult<usize> {
        let stream = self.engine()?;
        py.detached(|| stream.subscribers_everywhere())
    }

    /// How many connections each present reader has, by its name; None is those without one.
    ///
    /// A reader's name is what `authorize`, a token's ``sub`` or a ticket gave it. Readers in this process are not
    /// counted. It costs a copy of the names, whatever the load; after shutdown nobody is here.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> server.stream("room").readers()
    /// {}
    fn readers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stream = self.engine()?;
        let readers = PyDict::new(py);
        for (reader, count) in py.detached(|| stream.readers())? {
            readers.set_item(reader.as_deref(), count)?;
        }
        Ok(readers)
    }

    /// Calls `callback`, without arguments, each time nobody has read the stream for a while; returns the callback.
    ///
    /// That is once for each time that its last subscriber has been gone for `after` seconds, or that the client of the
    /// handler which returned the stream left before it read. A stream that nobody has asked for is not empty in this
    /// sense, and a reader that comes back in time was never gone. Readers in this process do not count. Once the
    /// stream has ended or was removed the callback is called a last time and let go of.
    ///
    /// Callbacks run one after another on a thread of the server's own, never on the engine's: none delays a reader,
    /// and one that waits delays the others. An exception in one is logged. At shutdown, when every reader leaves, it
    /// is not called any more.
    ///
    /// >>> import sse_fast, threading
    /// >>> server = sse_fast.serve(0)
    /// >>> hung_up = threading.Event()
    /// >>> _ = server.stream(None).on_empty(hung_up.set)
    ///
    /// Args:
    ///     callback: what is called; what it holds is kept as long as the stream may call it.
    ///     after: seconds; None is 1 for a nameless stream, and 10 for one with a name, whose EventSource comes back
    ///         after three.
    ///
    /// Raises:
    ///     ArgumentTypeError: `callback` cannot be called, or is an ``async def`` function: use `await_empty` there.
    ///     SettingError: `after` is not allowed.
    ///     ServerClosed: the server was closed.
    #[pyo3(signature = (callback, after=None))]
    fn on_empty<'py>(
        slf: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        after: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().engine()?;
        let callbacks = slf.get().of.get().callbacks.bind(slf.py());
        calling_python(|| callbacks.call_method1("on_empty", (slf, callback, after)))
    }

    /// Waits until nobody has read the stream for a while; see `on_empty` for what that is.
    ///
    /// It returns at once where that is so already, and as soon as nobody is left where the stream was removed. It
    /// waits without holding the interpreter, and Ctrl-C interrupts it.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> server.stream("room").wait_empty(timeout=0.01)
    /// Traceback (most recent call last):
    ///     ...
    /// sse_fast.WaitTimeout: stream 'room' was not empty within 0.01 s
    ///
    /// Args:
    ///     timeout: the most seconds to wait; None waits without limit.
    ///     after: as for `on_empty`.
    ///
    /// Raises:
    ///     WaitTimeout: it was not within `timeout`.
    ///     ServerClosed: the server was closed.
    ///     SettingError: `timeout` or `after` is not allowed.
    #[pyo3(signature = (timeout=None, *, after=None))]
    fn wait_empty(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        slf.get().engine()?;
        let wait_empty = WAIT_EMPTY.import(slf.py(), "sse_fast._presence", "wait_empty")?;
        calling_python(|| wait_empty.call1((slf, timeout, after))).map(drop)
    }

    /// The same for coroutines: it leaves the event loop to others, and costs no thread.
    ///
    /// >>> import asyncio, sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> asyncio.run(server.stream("room").await_empty(timeout=0.01))
    /// Traceback (most recent call last):
    ///     ...
    /// sse_fast.WaitTimeout: stream 'room' was not empty within 0.01 s
    ///
    /// Args:
    ///     timeout: as for `wait_empty`.
    ///     after: as for `on_empty`.
    ///
    /// Raises:
    ///     WaitTimeout: it was not within `timeout`.
    ///     ServerClosed: the server was closed.
    ///     SettingError: `timeout` or `after` is not allowed.
    #[pyo3(signature = (timeout=None, *, after=None))]
    fn await_empty<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
        after: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().engine()?;
        AWAIT_EMPTY.import(slf.py(), "sse_fast._presence", "await_empty")?.call1((slf, timeout, after))
    }

    /// The id where it was published at once, else what is to be stepped.
    #[pyo3(name = "_begin", signature = (data, event, id, retry, snapshot, idempotency_key))]
    #[expect(clippy::too_many_arguments, reason = "they are Python's")]
    fn begin<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        event: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        retry: Option<&Bound<'py, PyAny>>,
        snapshot: Option<&Bound<'py, PyAny>>,
        idempotency_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let stream = self.engine()?;
        let data = Data::of("data", data, self.encoder())?;
        let snapshot = snapshot.map(|snapshot| Data::of("snapshot", snapshot, self.encoder())).transpose()?;
        let event = NewEvent {
            data: data.as_bytes("data")?,
            event: convert::text("event", event)?,
            id: convert::text("id", id)?,
            retry: convert::retry(retry)?,
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.as_bytes("snapshot")).transpose()?,
        };
        let key = once::key(idempotency_key)?;
        let tried = if key.is_none() { attached(|| stream.try_publish(&event))? } else { Err(PublishError::WouldWait) };
        match tried {
            Err(PublishError::WouldWait) => {
                let event = OwnedEvent::of(&event, stream).map_err(|error| event_error(&error))?;
                Bound::new(py, PyPublishing::new(stream, self.encoder().clone_ref(py), Part::Event, [event]))
                    .map(Bound::into_any)
            }
            Ok(published) => Ok(PyString::new(py, published.id()).into_any()),
            Err(refused) => Err(publish_error(refused)),
        }
    }

    /// What is to be stepped to publish events, which are added to it; checks that `events` is an iterable.
    #[pyo3(name = "_begin_many")]
    fn begin_many(&self, events: &Bound<'_, PyAny>) -> PyResult<PyPublishing> {
        batch::check(events)?;
        Ok(PyPublishing::new(self.engine()?, self.encoder().clone_ref(events.py()), Part::Event, []))
    }

    /// What is to be stepped to set the snapshot; None where that was done at once.
    #[pyo3(name = "_begin_snapshot", signature = (data, event))]
    fn begin_snapshot(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        event: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<PyPublishing>> {
        let stream = self.engine()?;
        let data = Data::of("data", data, self.encoder())?;
        let (bytes, event) = (data.as_bytes("data")?, convert::text("event", event)?.unwrap_or("snapshot"));
        if !stream.is_copy() && !stream.waits_for_disk() {
            py.detached(|| stream.snapshot(bytes, Some(event)))?.map_err(publish_error)?;
            return Ok(None);
        }
        let event = NewEvent { data: bytes, event: Some(event), ..NewEvent::default() };
        let event = OwnedEvent::of(&event, stream).map_err(|error| event_error(&error))?;
        Ok(Some(PyPublishing::new(stream, self.encoder().clone_ref(py), Part::Snapshot, [event])))
    }

    /// What is to be stepped to end the stream.
    #[pyo3(name = "_begin_end", signature = (data, event))]
    fn begin_end(
        &self,
        py: Python<'_>,
        data: Option<&Bound<'_, PyAny>>,
        event: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyPublishing> {
        let stream = self.engine()?;
        let data = self.terminal_data(data)?;
        let event = Some(convert::text("event", event)?.unwrap_or("end"));
        let event = NewEvent { data: data.as_bytes("data")?, event, ..NewEvent::default() };
        let event = OwnedEvent::of(&event, stream).map_err(|error| event_error(&error))?;
        Ok(PyPublishing::new(stream, self.encoder().clone_ref(py), Part::End, [event]))
    }

    /// From now on `key` is told once for each time that the stream has been empty for `after` seconds.
    #[pyo3(name = "_on_empty")]
    fn tell_empty(&self, py: Python<'_>, key: u64, after: f64) -> PyResult<()> {
        let stream = self.engine()?;
        py.detached(|| stream.on_empty(key, after_seconds(after)))
    }

    /// Waits until it was empty for `after` seconds, at most `timeout`: ``"empty"``, ``"timeout"``, ``"closed"``.
    #[pyo3(name = "_wait_empty")]
    fn wait_until_empty(&self, py: Python<'_>, after: f64, timeout: Option<f64>) -> PyResult<&'static str> {
        let stream = self.engine()?;
        let after = after_seconds(after);
        let waited = py.wait(convert::timeout(timeout), |slice| match stream.wait_empty(after, Some(slice)) {
            EmptyOutcome::Timeout => None,
            outcome => Some(outcome),
        })?;
        Ok(match waited {
            Some(EmptyOutcome::Empty) => "empty",
            Some(EmptyOutcome::Closed) => "closed",
            Some(EmptyOutcome::Timeout) | None => "timeout",
        })
    }

    /// In how many seconds it will have been empty for `after` seconds if nobody comes; 0.0 where it has, None where
    /// somebody reads it or is on the way, or nobody has asked for it.
    #[pyo3(name = "_empty_in")]
    fn empty_in(&self, py: Python<'_>, after: f64) -> PyResult<Option<f64>> {
        let stream = self.engine()?;
        let left = py.detached(|| stream.empty_in(after_seconds(after)))?;
        Ok(left.map(|left| left.as_secs_f64()))
    }

    /// Watches it: `number` is among the wake-ups once nobody reads the stream any more.
    #[pyo3(name = "_watch_empty")]
    fn watch_empty(&self, py: Python<'_>, wakeups: &PyWakeups, number: u64) -> PyResult<PyWatch> {
        let (stream, wakeups) = (self.engine()?, wakeups.engine()?);
        Ok(PyWatch::new(py.detached(|| stream.watch_empty(wakeups, number))?))
    }

    /// Sets options on it, whatever leads to it.
    #[pyo3(name = "_configure")]
    fn configure(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<()> {
        let stream = self.engine()?;
        let patch = options::patch(Some(options))?;
        py.detached(|| stream.configure(&patch))?.map_err(|error| option_error(&error))
    }

    /// Whether the server was closed.
    #[getter(_closed)]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.engine()?.is_closed())
    }

    /// A number that is the stream's as long as this is held.
    #[getter(_number)]
    fn number(&self) -> PyResult<u64> {
        Ok(self.engine()?.number())
    }

    /// The id of the newest event, the terminal one included; None before the first.
    ///
    /// A reader that is given it as ``last_event_id`` goes on with what is published after it.
    #[getter]
    fn last_id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let stream = self.engine()?;
        py.detached(|| stream.last_id())
    }

    /// Whether the terminal event was published; `publish` then raises `StreamEnded`.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        let stream = self.engine()?;
        py.detached(|| stream.ended())
    }

    /// The stream's counters and present numbers; cheap enough to be asked every second.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> stream = server.stream("example")
    /// >>> _ = stream.publish("x")
    /// >>> stream.stats().published
    /// 1
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stream = self.engine()?;
        stats::of_stream(py, &py.detached(|| stream.stats())?)
    }

    /// The bytes that `publish` would send for this data.
    #[pyo3(name = "_encode")]
    fn encode<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let encoded = Data::of("data", data, self.encoder())?;
        Ok(PyBytes::new(data.py(), encoded.as_bytes("data")?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.of)
    }

    /// Forgets the name at once; a later stream of that name has a new epoch.
    ///
    /// Subscribers get what was published before, then they are disconnected, without a terminal event. To tell them
    /// that the stream is over, `end` it instead; it is then forgotten ``linger`` seconds later, and this forgets it
    /// sooner, so that the name can begin anew. A handle that is still held raises `StreamEnded` where it publishes.
    /// Does nothing to a stream that was removed before.
    ///
    /// >>> import sse_fast
    /// >>> server = sse_fast.serve(0)
    /// >>> server.stream("example").remove()
    /// >>> server.streams()
    /// []
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        let stream = self.engine()?;
        py.detached(|| stream.remove_everywhere())?.map_err(publish_error)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| other.get().identity() == self.identity())
    }

    fn __hash__(&self) -> u64 {
        self.identity()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Some(stream) = self.engine.own() else { return Ok("<sse_fast.Stream of another process>".to_owned()) };
        let (ended, subscribers) = py.detached(|| (stream.ended(), stream.subscribers()))?;
        let state = if ended { "ended" } else { "open" };
        let name = if stream.is_nameless() { "without a name".to_owned() } else { format!("{:?}", stream.name()) };
        Ok(format!("<sse_fast.Stream {name}, {state}, {subscribers} subscribers>"))
    }
}

/// The ``with stream.heartbeat(...)`` block.
#[pyclass(frozen, module = "sse_fast", name = "Heartbeat")]
pub(crate) struct PyHeartbeat {
    stream: Py<PyStream>,
    every: Duration,
    comment: String,
    /// The engine's token for each block that was entered and not left yet; one object may be entered several times.
    tokens: Mutex<Vec<u64>>,
}

#[pymethods]
impl PyHeartbeat {
    /// The stream, with the heartbeat overridden.
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyStream>> {
        let stream = self.stream.get().engine()?;
        let token = py.detached(|| stream.push_heartbeat(self.every, &self.comment))?.map_err(heartbeat_error)?;
        self.tokens.lock().push(token);
        Ok(self.stream.clone_ref(py))
    }

    /// Restores the heartbeat that was in force outside.
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<bool> {
        let token = self.tokens.lock().pop();
        if let (Some(token), Ok(stream)) = (token, self.stream.get().engine()) {
            py.detached(|| stream.pop_heartbeat(token))?;
        }
        Ok(false)
    }
}
