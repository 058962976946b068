//! A request that the application answers: its body, the call, the answer.
//!
//! Owns what a handler is given and what becomes of its answer. Must not know: threads, sockets, hyper's
//! framing.
//! Invariants: a handler is called with the whole body or not at all. A call that no thread has taken
//! is dropped when its client is gone: at once where the connection was reset, and where the client has
//! shut its writing side a second after that, since it might still read; a call that a thread has
//! taken is answered in any case, but a generator's is given up like one that was not. A generator is told when nobody
//! reads its stream any more. A client that comes back with an id of a finished call is not answered by another one.
//! Changes together with `calls`, the queues, `resumable`, the streams of generators, and `connection`, where an early head
//! is followed up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, header};
use sse_fast_core::options::{Start, StreamPatch};

use crate::admitted::Admitted;
use crate::body::{self, BodyError};
use crate::calls::{Answer, Full, Interest, Pairs, Pending, RequestParts};
use crate::directory::{Counted, Directory};
use crate::logs::Level;
use crate::request::{ParsedRequest, Wanted};
use crate::respond::{Action, Context, RETRY_AFTER, Subscription, retry_later, while_closing};
use crate::response::{self, Refusal};
use crate::resumable::Left;
use crate::route::HandlerSpec;
use crate::shown;
use crate::socket::{RequestBody, Signals};
use crate::stream::Stream;

/// How waiting for a handler ended.
pub(crate) enum Waited {
    /// With its answer; `None` where it failed.
    Answered(Option<Answer>),
    /// The call was not begun, or is a generator's, and its client counts as gone.
    Abandoned,
    /// An early head is due; the answer comes later.
    HeadDue,
    /// The server has closed before the answer.
    CutOff,
}

impl Context {
    pub(crate) async fn call_handler(
        self: &Arc<Self>,
        request: &ParsedRequest,
        handler: &HandlerSpec,
        params: Pairs,
        body: RequestBody,
    ) -> Result<Action, Refusal> {
        if let Some(action) = self.without_a_call(request, handler).await? {
            return Ok(action);
        }
        let signals = Arc::clone(&body.signals);
        let body = tokio::select! {
            biased;
            body = self.whole_body(request, body, self.directory.config.max_body_bytes) => match body? {
                Some(body) => body,
                None => return Ok(self.no_room(request)),
            },
            () = self.calls.until_refused() => return Ok(while_closing(request)),
        };
        let early = handler.early_head && request.wanted == Wanted::Events && request.method != Method::HEAD;
        // The stream that an early head's heartbeats belong to, and the handler's error. That may be published before
        // the shard has opened its reader: it gets everything.
        let options = || StreamPatch { start: Some(Start::All), ..handler.options.clone() };
        let waiting = early.then(|| self.directory.stand_in(&request.path, &options())).transpose();
        let waiting = waiting.map_err(|error| Refusal::new(500, "internal", error.to_string()))?;
        let head_after = waiting.as_ref().map(|waiting| {
            waiting.heartbeat(&waiting.lock()).map_or(Duration::from_secs(3600), |heartbeat| heartbeat.every)
        });
        let lane = handler.kind.lane();
        let mut pending = match self.calls.ask_handler(lane, handler.key, parts(request, params, body)) {
            Ok(pending) => pending,
            Err(Full) => return Ok(self.too_busy(request)),
        };
        let gives_up = handler.kind.generates();
        let waited = tokio::select! {
            biased;
            waited = wait(&mut pending, head_after, &signals, gives_up) => waited,
            () = self.calls.until_cut_off() => Waited::CutOff,
        };
        match (waited, waiting) {
            (Waited::HeadDue, Some(waiting)) => {
                let subscription = self.subscription(request, waiting.claim().ok_or_else(failed)?, Admitted::default());
                Ok(Action::Subscribe(Subscription { later: Some(pending), ..subscription }))
            }
            (Waited::Answered(answer), _) => self.answered(request, answer).await,
            (Waited::CutOff, _) => Ok(self.cut_off(request)),
            (Waited::Abandoned | Waited::HeadDue, _) => {
                // The client may still read; it is told where it does.
                let detail = "there was no answer within a second after the client shut its writing side";
                Err(Refusal::new(503, "busy", detail).header(header::RETRY_AFTER, RETRY_AFTER))
            }
        }
    }

    /// What is answered without calling the handler, if anything is: a client that comes back, a queue that is full, a
    /// request that wants something else than the events of a generator.
    async fn without_a_call(&self, request: &ParsedRequest, handler: &HandlerSpec) -> Result<Option<Action>, Refusal> {
        if let Some(id) = request.last_event_id.as_deref() {
            match self.directory.resumable.find(id, handler.key) {
                Some(Left::Nothing) => {
                    self.directory.totals.finished.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some(Action::Respond(response::empty(204))));
                }
                Some(Left::Stream(stream)) => {
                    return self.read(request, &stream, Admitted::default()).await.map(Some);
                }
                None => {}
            }
        }
        if handler.kind.generates() {
            if request.wanted != Wanted::Events {
                return Err(Refusal::new(406, "not_acceptable", "these events are text/event-stream alone"));
            }
            if request.method == Method::HEAD {
                return Ok(Some(Action::Respond(response::head_of_stream())));
            }
        }
        // Before the body is read: that need not be kept.
        Ok(self.calls.is_full(handler.kind.lane()).then(|| self.too_busy(request)))
    }

    /// As many requests wait for a handler as may.
    fn too_busy(&self, request: &ParsedRequest) -> Action {
        self.directory.totals.refusals.calls.add(&self.directory.logs, "sse_fast.handler", || {
            let (method, path, queue) =
                (&request.method, shown::path(&request.path), self.directory.config.handler_queue);
            format!("{method} {path:?} was refused: handler_queue={queue} requests wait")
        });
        Action::Respond(retry_later(request, "busy", "as many requests wait for a handler as may; try again"))
    }

    /// There is no room for its body; the rest of that is not read.
    pub(crate) fn no_room(&self, request: &ParsedRequest) -> Action {
        self.directory.totals.refusals.calls.add(&self.directory.logs, "sse_fast.handler", || {
            let (method, path, most) = (&request.method, &request.path, self.bodies.most());
            format!("{method} {path:?} was refused: bodies that come, or wait for a handler, have {most} bytes in all")
        });
        let response = retry_later(request, "busy", "the server holds as many bytes of bodies as it may; try again");
        Action::Respond(response::last(response))
    }

    /// A handler has not answered when the drain is over. It is not said when to try again: what was asked may have been done.
    fn cut_off(&self, request: &ParsedRequest) -> Action {
        let (method, path) = (&request.method, shown::path(&request.path));
        let text = format!("{method} {path:?} was cut off: its handler had not answered when the drain was over: 503");
        // No warning: its client is told, and a program that ends is to say nothing of itself.
        self.directory.logs.put(Level::Info, "sse_fast.handler", text);
        if request.is_event_source() {
            return Action::Respond(response::come_back());
        }
        let detail = "the server closed before the handler had answered; what was asked may have been done, or not";
        Action::Respond(Refusal::new(503, "cut_off", detail).into_response())
    }

    /// The body of `limit` bytes at most; `None` where there is no room for it.
    pub(crate) async fn whole_body(
        &self,
        request: &ParsedRequest,
        body: RequestBody,
        limit: usize,
    ) -> Result<Option<Bytes>, Refusal> {
        let declared = request.headers.get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let whole = body::read_whole(body, declared, limit, &self.bodies);
        match tokio::time::timeout(self.body_timeout(limit), whole).await {
            Ok(Ok(body)) => Ok(Some(body)),
            Ok(Err(BodyError::NoRoom)) => Ok(None),
            Ok(Err(BodyError::TooLarge)) => Err(self.body_too_large(&request.path, limit)),
            Ok(Err(BodyError::Incomplete)) => {
                let refusal = Refusal::new(400, "bad_request", "the body ended early or is not well framed");
                Err(self.malformed(request.client(), refusal))
            }
            Err(_) => Err(self.body_late(&request.path)),
        }
    }

    /// A body may take as long as its head, and a second more for each 64 KiB that it may have.
    fn body_timeout(&self, limit: usize) -> Duration {
        self.directory.config.header_timeout + Duration::from_secs(limit as u64 / (64 * 1024))
    }

    async fn answered(&self, request: &ParsedRequest, answer: Option<Answer>) -> Result<Action, Refusal> {
        let unwritable = |why: String| {
            let (method, path) = (&request.method, shown::path(&request.path));
            let text = format!("the response of {method} {path:?} cannot be written: {why}: 500");
            self.directory.logs.put(Level::Error, "sse_fast.handler", text);
            failed()
        };
        match answer {
            Some(Answer::Stream { stream, headers, reading }) if self.owns(&stream) => {
                let headers = response::handler_headers(&headers).map_err(unwritable)?;
                let mut action = self.read(request, &stream, Admitted::default()).await;
                match &mut action {
                    Ok(Action::Subscribe(subscription)) => {
                        response::extend_head(&mut subscription.head, &headers);
                        hold_while_read(&self.directory, &stream, reading);
                    }
                    Ok(Action::Respond(response)) => {
                        for (name, value) in headers {
                            response.headers_mut().append(name, value);
                        }
                    }
                    Err(_) => {}
                }
                // A client that leaves before this has left before it read.
                stream.answered();
                action
            }
            Some(Answer::Response { status, headers, body }) => {
                response::of_handler(status, &headers, body).map(Action::Respond).map_err(unwritable)
            }
            Some(Answer::NotBegun) => Ok(while_closing(request)),
            Some(Answer::Stream { .. } | Answer::Admitted { .. } | Answer::Denied) | None => Err(failed()),
        }
    }

    /// Whether a handler's stream is this server's: another's shards know nothing of our sockets.
    pub(crate) fn owns(&self, stream: &Stream) -> bool {
        let owns = stream.belongs_to(&self.directory.delivery);
        if !owns {
            let text = format!("a handler returned the stream {:?} of another server: 500", stream.name());
            self.directory.logs.put(Level::Error, "sse_fast.handler", text);
        }
        owns
    }
}

/// Keeps who fills a stream interested until its last subscriber has left; one is on its way now. That long the request is
/// in flight.
pub(crate) fn hold_while_read(directory: &Arc<Directory>, stream: &Stream, reading: Option<Interest>) {
    let Some(reading) = reading else { return };
    let (emptied, counted) = (stream.emptied(), Counted::new(directory, |totals| &totals.followed));
    tokio::spawn(async move {
        // An error means that the stream is gone: nobody reads it either.
        let _ = emptied.await;
        drop((reading, counted));
    });
}

/// Waits for the answer of a call, for the early head where `head_after` says when that is due, or until the call is
/// not worth keeping; `gives_up` where that is so also of one that was begun.
pub(crate) async fn wait(
    pending: &mut Pending,
    head_after: Option<Duration>,
    signals: &Signals,
    gives_up: bool,
) -> Waited {
    let head_due = async {
        match head_after {
            Some(interval) => tokio::time::sleep(interval).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(head_due);
    let half_closed = signals.half_closed_for_a_second();
    tokio::pin!(half_closed);
    let mut begun = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut *pending => return Waited::Answered(answer.ok()),
            () = &mut head_due => return Waited::HeadDue,
            () = &mut half_closed, if !begun => {
                if pending.withdraw() || gives_up {
                    return Waited::Abandoned;
                }
                begun = true;
            }
        }
    }
}

/// A request as its handler sees it.
pub(crate) fn parts(request: &ParsedRequest, params: Pairs, body: Bytes) -> RequestParts {
    let method = if request.method == Method::HEAD { Method::GET } else { request.method.clone() };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = request.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
    RequestParts {
        method: method.as_str().to_owned(),
        path: request.path.clone(),
        params,
        query: request.query.clone(),
        headers: headers.collect(),
        body,
        client: Some(request.client()),
    }
}

/// The error of a handler that failed; its traceback is in the application's log.
fn failed() -> Refusal {
    Refusal::new(500, "internal", "the handler failed; see the server's log")
}
