//! From a request to the action that answers it.
//!
//! Owns [`Context`], what requests are answered with, and what holds for every request before its path
//! matters: the limit of connections, the closing server, CORS. Must not know: sockets.
//! Invariant: dropping the future is the cancellation: a client that goes away while it waits for a
//! stream or a handler leaves nothing behind.
//! Changes together with `dispatch`, `route_stream`, `handler_call` and `json_form`, which are further
//! parts of [`Context`]: which endpoint, a route's stream, a handler's answer, a stream once as JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::{Method, Request, header};
use sse_fast_core::cursor::{self, Opening};
use sse_fast_core::frame::Framing;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::accept::ConnectionLimits;
use crate::access::Access;
use crate::admitted::Admitted;
use crate::body;
use crate::calls::{Calls, Pending};
use crate::clock;
use crate::cors::Cors;
use crate::directory::Directory;
use crate::json_form::JsonForms;
use crate::request::{ParsedRequest, Wanted};
use crate::response::{self, HttpResponse, Refusal};
use crate::rights::Rights;
use crate::route::Routes;
use crate::socket::RequestBody;
use crate::stream::{Claim, Stream};

/// How soon a client that met a passing limit may try again, in seconds.
pub(crate) const RETRY_AFTER: &str = "2";

/// How long the body of a request that is refused unread may take: a connection that is closed with unread bytes is
/// reset, and the answer may be lost with it. Bodies that came with their heads take nothing.
const UNWANTED_BODY: Duration = Duration::from_millis(500);

/// What requests are answered with.
pub(crate) struct Context {
    pub(crate) directory: Arc<Directory>,
    pub(crate) routes: Routes,
    pub(crate) calls: Calls,
    pub(crate) access: Access,
    pub(crate) cors: Cors,
    pub(crate) rights: Rights,
    pub(crate) limits: ConnectionLimits,
    pub(crate) json_forms: JsonForms,
    /// When the server started.
    pub(crate) started: Instant,
    /// Whether the server is closing; set once.
    pub(crate) closing: watch::Receiver<bool>,
}

/// What is done about a request.
pub(crate) enum Action {
    /// A response for hyper to write.
    Respond(HttpResponse),
    /// A subscription: the socket goes to a shard.
    Subscribe(Subscription),
}

/// A stream for one connection.
pub(crate) struct Subscription {
    pub(crate) claim: Claim,
    pub(crate) admitted: Admitted,
    pub(crate) last_event_id: Option<Box<str>>,
    pub(crate) framing: Framing,
    pub(crate) head: Vec<u8>,
    /// Where the handler's answer comes from, if the head went out before it.
    pub(crate) later: Option<Pending>,
}

impl Context {
    /// `closing` turns true when the server begins to close.
    pub(crate) fn new(
        directory: Arc<Directory>,
        calls: Calls,
        access: Access,
        cors: Cors,
        rights: Rights,
        limits: ConnectionLimits,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (routes, json_forms) = (Routes::default(), JsonForms::default());
        let started = Instant::now();
        Self { directory, routes, calls, access, cors, rights, limits, json_forms, started, closing }
    }

    /// Whether the server is closing.
    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the server is closing.
    pub(crate) fn until_closing(&self) -> impl Future<Output = ()> + use<> {
        let mut closing = self.closing.clone();
        async move {
            // An error means that the server's handle is gone: that is closing, too.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }

    /// Answers a request.
    pub(crate) async fn respond(self: Arc<Self>, request: Request<RequestBody>, peer: SocketAddr) -> Action {
        self.directory.totals.requests.fetch_add(1, Ordering::Relaxed);
        match self.answer(request, peer).await {
            // The connection's task may not have been told yet.
            Action::Respond(response) if self.is_closing() => Action::Respond(response::last(response)),
            action => action,
        }
    }

    async fn answer(self: &Arc<Self>, request: Request<RequestBody>, peer: SocketAddr) -> Action {
        let (head, body) = request.into_parts();
        let cors = self.cors.headers(&head.headers);
        let request = match self.parse(head, peer) {
            Ok(request) => ParsedRequest { signals: Some(Arc::clone(&body.signals)), ..request },
            Err(refusal) => return Action::Respond(response::with_cors(refusal.into_response(), &cors)),
        };
        let answered = match self.unavailable(&request) {
            Some(action) => {
                let _ = timeout(UNWANTED_BODY, body::discard(body)).await;
                Ok(action)
            }
            None => self.dispatch(&request, body).await,
        };
        match answered {
            Ok(Action::Respond(response)) => Action::Respond(response::with_cors(response, &cors)),
            Ok(action) => action,
            Err(refusal) => Action::Respond(response::with_cors(refusal.into_response(), &cors)),
        }
    }

    /// What answers every request for now, if anything does; preflights are let through, for one that fails ends what a page
    /// would have been told to try again.
    fn unavailable(&self, request: &ParsedRequest) -> Option<Action> {
        if request.method == Method::OPTIONS {
            return None;
        }
        if self.is_closing() {
            return Some(while_closing(request));
        }
        if self.directory.connections() > self.limits.connections {
            self.too_many();
            let detail = "the server holds as many connections as it may";
            // Kept, it would be one of those that are too many.
            return Some(Action::Respond(response::last(retry_later(request, "too_many_connections", detail))));
        }
        None
    }

    /// A stream in the form that its reader wants, who was let in so.
    pub(crate) async fn read(
        &self,
        request: &ParsedRequest,
        stream: &Stream,
        admitted: Admitted,
    ) -> Result<Action, Refusal> {
        if admitted.expires.is_some_and(|at| at <= clock::now()) {
            // While it waited for the stream.
            return Err(Refusal::new(401, "invalid_token", "the right to read this has expired"));
        }
        let last_event_id = request.last_event_id.as_deref();
        Ok(match request.wanted {
            Wanted::Neither => {
                let detail = "a stream is text/event-stream, or application/json once";
                return Err(Refusal::new(406, "not_acceptable", detail));
            }
            Wanted::Json => Action::Respond(self.json_forms.respond(stream, last_event_id).await?),
            Wanted::Events if finished(stream, last_event_id) => Action::Respond(response::empty(204)),
            Wanted::Events if request.method == Method::HEAD => Action::Respond(response::head_of_stream()),
            Wanted::Events => match stream.claim() {
                Some(claim) => Action::Subscribe(self.subscription(request, claim, admitted)),
                // It was removed, or expired, in this very moment.
                None => return Err(response::unknown_stream(stream.name(), Duration::ZERO)),
            },
        })
    }

    pub(crate) fn subscription(&self, request: &ParsedRequest, claim: Claim, admitted: Admitted) -> Subscription {
        let framing = if request.http10 || !self.directory.config.chunked { Framing::Plain } else { Framing::Chunked };
        Subscription {
            claim,
            admitted,
            last_event_id: request.last_event_id.clone(),
            framing,
            head: response::stream_head(framing, &self.cors.headers(&request.headers)),
            later: None,
        }
    }
}

/// What a request gets while the server closes.
pub(crate) fn while_closing(request: &ParsedRequest) -> Action {
    Action::Respond(retry_later(request, "closing", "the server closes; the request was not begun"))
}

/// What a request gets that something passing is in the way of: that must not end a page's `EventSource` for good.
pub(crate) fn retry_later(request: &ParsedRequest, error: &'static str, detail: &str) -> HttpResponse {
    if request.is_event_source() {
        return response::come_back();
    }
    Refusal::new(503, error, detail).header(header::RETRY_AFTER, RETRY_AFTER).into_response()
}

fn finished(stream: &Stream, last_event_id: Option<&str>) -> bool {
    matches!(cursor::open(&stream.lock().state, last_event_id, None), Opening::Finished)
}
