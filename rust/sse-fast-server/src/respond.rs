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

use hyper::{HeaderMap, Method, Request, header};
use sse_fast_core::cursor::Opening;
use sse_fast_core::frame::Framing;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::Access;
use crate::access_log::{self, AccessLog};
use crate::addresses::AddressPlace;
use crate::admission::{ConnectionLimits, Over, is_reserved};
use crate::admitted::Admitted;
use crate::body::{self, BodyRoom};
use crate::calls::{Calls, Pending};
use crate::cors::Cors;
use crate::directory::{Directory, Looked};
use crate::forwarded::Proxies;
use crate::json_form::JsonForms;
use crate::operate::Operated;
use crate::request::{ParsedRequest, Wanted, decode};
use crate::response::{self, HttpResponse, Refusal};
use crate::rights::Rights;
use crate::route::Routes;
use crate::route_stream::backplane_away;
use crate::shard::Reading;
use crate::socket::RequestBody;
use crate::stream::{Claim, Stream};

/// How soon a client that met a passing limit may try again, in seconds.
pub(crate) const RETRY_AFTER: &str = "2";

/// How long the body of a request that is refused unread may take: a connection that is closed with unread bytes is
/// reset, and the answer may be lost with it. Bodies that came with their heads take nothing.
pub(crate) const UNWANTED_BODY: Duration = Duration::from_millis(500);

/// What is decided of a request by where it comes from and whom it is addressed to.
pub(crate) struct Doors {
    pub(crate) access: Access,
    pub(crate) cors: Cors,
    pub(crate) proxies: Proxies,
    pub(crate) rights: Rights,
    pub(crate) limits: ConnectionLimits,
}

/// What requests are answered with.
pub(crate) struct Context {
    pub(crate) directory: Arc<Directory>,
    pub(crate) routes: Routes,
    pub(crate) calls: Calls,
    pub(crate) access: Access,
    pub(crate) cors: Cors,
    pub(crate) proxies: Proxies,
    pub(crate) rights: Rights,
    pub(crate) limits: ConnectionLimits,
    pub(crate) json_forms: JsonForms,
    /// Room for the bodies of requests.
    pub(crate) bodies: BodyRoom,
    /// What operators ask for.
    pub(crate) operated: Operated,
    pub(crate) access_log: AccessLog,
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

/// What one connection reads.
pub(crate) struct Subscription {
    pub(crate) reading: Reading,
    pub(crate) admitted: Admitted,
    pub(crate) framing: Framing,
    pub(crate) head: Vec<u8>,
    /// Its client's, where a proxy has passed the request on.
    pub(crate) place: AddressPlace,
    /// Where the handler's answer comes from, if the head went out before it.
    pub(crate) later: Option<Pending>,
    /// Its request in the access log.
    pub(crate) logged: Option<Box<access_log::Access>>,
}

impl Context {
    /// `closing` turns true when the server begins to close.
    pub(crate) fn new(directory: Arc<Directory>, calls: Calls, doors: Doors, closing: watch::Receiver<bool>) -> Self {
        let (routes, json_forms) = (Routes::default(), JsonForms::default());
        let operated = Operated::new(&directory.config);
        let access_log = AccessLog::new(directory.config.access_log, &directory.logs);
        let bodies = BodyRoom::of(&directory.config);
        let started = Instant::now();
        let Doors { access, cors, proxies, rights, limits } = doors;
        Self {
            directory,
            routes,
            calls,
            access,
            cors,
            proxies,
            rights,
            limits,
            json_forms,
            bodies,
            operated,
            access_log,
            started,
            closing,
        }
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

    /// Answers a request of a connection with this other end, which is over that limit, if any.
    pub(crate) async fn respond(
        self: Arc<Self>,
        request: Request<RequestBody>,
        peer: SocketAddr,
        over: Option<Over>,
    ) -> Action {
        self.directory.totals.requests.fetch_add(1, Ordering::Relaxed);
        match self.answer(request, peer, over).await {
            // The connection's task may not have been told yet; and one that is over a limit gets one answer.
            Action::Respond(response) if self.is_closing() || over.is_some() => {
                Action::Respond(response::last(response))
            }
            action => action,
        }
    }

    async fn answer(self: &Arc<Self>, request: Request<RequestBody>, peer: SocketAddr, over: Option<Over>) -> Action {
        let (head, body) = request.into_parts();
        if let Some(response) = self.operated(&head, peer).await {
            // The same for every origin: no page of another site is let in.
            return Action::Respond(response::with_cors(response, &self.cors.headers(&HeaderMap::new())));
        }
        let cors = self.cors.headers(&head.headers);
        let request = match self.parse(head, peer) {
            Ok(request) => ParsedRequest { signals: Some(Arc::clone(&body.signals)), ..request },
            Err(refusal) => return Action::Respond(response::with_cors(refusal.into_response(), &cors)),
        };
        let (place, over) = self.place_of(&request, over);
        let answered = match self.unavailable(&request, over) {
            Some(action) => {
                let _ = timeout(UNWANTED_BODY, body::discard(body)).await;
                Ok(action)
            }
            None => self.dispatch(&request, body).await,
        };
        match answered {
            // A reserved path is for an answer, not for a stream.
            Ok(Action::Subscribe(_)) if let Some(over) = over => {
                Action::Respond(response::with_cors(self.refuse_over(&request, over), &cors))
            }
            Ok(Action::Subscribe(subscription)) => Action::Subscribe(Subscription { place, ..subscription }),
            Ok(Action::Respond(response)) => Action::Respond(response::with_cors(response, &cors)),
            Err(refusal) => Action::Respond(response::with_cors(refusal.into_response(), &cors)),
        }
    }

    /// The place of a client behind a trusted proxy, and the limit that it is over; who comes by itself has one with the
    /// connection.
    fn place_of(&self, request: &ParsedRequest, over: Option<Over>) -> (AddressPlace, Option<Over>) {
        if over.is_some() || !self.proxies.trusts(request.peer.ip()) {
            return (AddressPlace::free(), over);
        }
        match self.limits.admit_request(request.client()) {
            Some(place) => (place, None),
            None => (AddressPlace::free(), Some(Over::Address)),
        }
    }

    /// What answers every request for now, if anything does; preflights are let through, for one that fails ends what a page
    /// would have been told to try again.
    fn unavailable(&self, request: &ParsedRequest, over: Option<Over>) -> Option<Action> {
        if request.method == Method::OPTIONS || (request.is_read() && is_reserved(&request.path)) {
            return None;
        }
        if self.is_closing() {
            return Some(while_closing(request));
        }
        over.map(|over| Action::Respond(self.refuse_over(request, over)))
    }

    /// Whether everybody is answered this, also beyond the limits of connections.
    pub(crate) fn is_open_to_all<B>(&self, request: &Request<B>) -> bool {
        let is_read = *request.method() == Method::GET || *request.method() == Method::HEAD;
        let path = is_read.then(|| decode(request.uri().path())).flatten();
        path.is_some_and(|path| is_reserved(&path) || self.operated.is_about_health(&path))
    }

    fn refuse_over(&self, request: &ParsedRequest, over: Over) -> HttpResponse {
        self.too_many(over, request.client().ip());
        let detail = match over {
            Over::Connections => "the server holds as many connections as it may",
            Over::Address => "your address has as many connections as it may",
        };
        retry_later(request, "too_many_connections", detail)
    }

    /// A stream in the form that its reader wants, who was let in so.
    pub(crate) async fn read(
        &self,
        request: &ParsedRequest,
        stream: &Stream,
        admitted: Admitted,
    ) -> Result<Action, Refusal> {
        let last_event_id = request.last_event_id.as_deref();
        if stream.is_copy()
            && last_event_id.is_some_and(|id| stream.is_behind(id))
            && self.directory.catch_up_elsewhere(stream.name()).await == Looked::Away
        {
            // It was read in another process, which is ahead, and nobody can say how far: here it would begin anew.
            return Ok(Action::Respond(backplane_away(request)));
        }
        let stream = stream.current();
        Ok(match request.wanted {
            Wanted::Neither => return Err(response::not_acceptable()),
            Wanted::Json => Action::Respond(self.json_forms.respond(stream, last_event_id).await?),
            Wanted::Events if finished(stream, last_event_id) => {
                self.directory.totals.finished.fetch_add(1, Ordering::Relaxed);
                Action::Respond(response::empty(204))
            }
            Wanted::Events if request.method == Method::HEAD => Action::Respond(response::head_of_stream()),
            Wanted::Events => match stream.claim() {
                Some(claim) => Action::Subscribe(self.subscription(request, claim, admitted)),
                // It was removed, or expired, in this very moment.
                None => return Err(response::unknown_stream(stream.name(), Duration::ZERO)),
            },
        })
    }

    pub(crate) fn subscription(&self, request: &ParsedRequest, claim: Claim, admitted: Admitted) -> Subscription {
        let reading = Reading::One { claim, last_event_id: request.last_event_id.clone() };
        self.subscription_to(request, reading, admitted)
    }

    pub(crate) fn subscription_to(
        &self,
        request: &ParsedRequest,
        reading: Reading,
        admitted: Admitted,
    ) -> Subscription {
        let framing = if request.http10 || !self.directory.config.chunked { Framing::Plain } else { Framing::Chunked };
        Subscription {
            reading,
            admitted,
            framing,
            head: response::stream_head(framing, &self.cors.headers(&request.headers)),
            place: AddressPlace::free(),
            later: None,
            logged: None,
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
    matches!(stream.lock().open(last_event_id, None), Opening::Finished)
}
