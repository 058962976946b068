//! From a request to what answers it.
//!
//! A response for hyper to write, or a subscription for a shard to take over. Nothing here touches
//! a socket. Dropping the future is the cancellation: a reader that went away while it waited for
//! a stream or a handler leaves nothing behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use sse_fast_core::cursor::{self, Opening};
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{Start, StreamPatch};
use tokio::sync::oneshot;

use crate::access::Access;
use crate::calls::{Answer, Call, Calls, ExistsReply, RequestParts};
use crate::directory::{Directory, check_name};
use crate::logs::Level;
use crate::request::{Asked, Wanted};
use crate::response::{self, Refusal, Reply};
use crate::route::{HandlerSpec, Match, Route, Routes, render};
use crate::stream::{Claim, Stream};
use crate::waiting::Name;

/// What requests are answered with.
pub(crate) struct Context {
    pub(crate) hub: Arc<Directory>,
    pub(crate) routes: Routes,
    pub(crate) calls: Calls,
    pub(crate) access: Access,
    /// The most connections at a time.
    pub(crate) max_connections: usize,
}

/// What answers a request.
pub(crate) enum Outcome {
    /// A response for hyper to write.
    Respond(Reply),
    /// A subscription: the socket goes to a shard.
    Subscribe(Subscription),
    /// Nothing: too many connections, and a browser that got a status would never come back.
    Shed,
}

/// A stream for one connection.
pub(crate) struct Subscription {
    pub(crate) claim: Claim,
    pub(crate) last_event_id: Option<Box<str>>,
    pub(crate) framing: Framing,
    pub(crate) head: Vec<u8>,
    /// Where the handler's answer comes from, if the head went out before it.
    pub(crate) later: Option<oneshot::Receiver<Answer>>,
}

impl Context {
    /// Answers a request.
    pub(crate) async fn respond(self: Arc<Self>, request: Request<Incoming>, peer: std::net::SocketAddr) -> Outcome {
        self.hub.totals.requests.fetch_add(1, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        let asked = match Asked::parse(head, peer, &self.access) {
            Ok(asked) => asked,
            Err(refusal) => return Outcome::Respond(refusal.into_reply()),
        };
        if self.hub.connections() > self.max_connections {
            self.hub.totals.refused.fetch_add(1, Ordering::Relaxed);
            return if asked.wanted == Wanted::Events && asked.reads() {
                Outcome::Shed
            } else {
                let refusal =
                    Refusal::new(503, "too_many_connections", "the server holds as many connections as it may");
                Outcome::Respond(refusal.header(header::RETRY_AFTER, "2").into_reply())
            };
        }
        let origin = self.access.allow_origin(&asked.headers);
        match self.route(&asked, body).await {
            Ok(Outcome::Respond(reply)) => Outcome::Respond(response::with_origin(reply, origin)),
            Ok(outcome) => outcome,
            Err(refusal) => Outcome::Respond(response::with_origin(refusal.into_reply(), origin)),
        }
    }

    async fn route(self: &Arc<Self>, asked: &Asked, body: Incoming) -> Result<Outcome, Refusal> {
        if asked.method == Method::OPTIONS && asked.uri.path() == "*" {
            return Ok(Outcome::Respond(response::options("GET, HEAD, POST, OPTIONS")));
        }
        if let Some(found) = self.routes.find(&asked.path, asked.uri.path()) {
            return self.matched(asked, found, body).await;
        }
        let Some(name) = asked.path.strip_prefix("/streams/").filter(|name| !name.is_empty()) else {
            return Err(Refusal::new(404, "not_found", "there is nothing at this path"));
        };
        allowed(asked, "GET, HEAD, OPTIONS")?;
        if asked.method == Method::OPTIONS {
            return Ok(Outcome::Respond(response::options("GET, HEAD, OPTIONS")));
        }
        check_name(name).map_err(|error| Refusal::new(400, "bad_stream_name", error.to_string()))?;
        match self.hub.find(name) {
            Some(stream) => Ok(self.read(asked, &stream)),
            None => Err(unknown_stream(name, Duration::ZERO)),
        }
    }

    async fn matched(self: &Arc<Self>, asked: &Asked, found: Match, body: Incoming) -> Result<Outcome, Refusal> {
        allowed(asked, found.allow())?;
        if asked.method == Method::OPTIONS {
            return Ok(Outcome::Respond(response::options(found.allow())));
        }
        if asked.method == Method::POST {
            if !self.access.may_change(&asked.headers) {
                let detail = "this request comes from another site; see the setting cors";
                return Err(Refusal::new(403, "origin_not_allowed", detail));
            }
            return match found.post {
                Some(handler) => self.handle(asked, &handler, found.params, body).await,
                None => Err(not_allowed(found_allow_read())),
            };
        }
        if let Some(handler) = found.get {
            self.handle(asked, &handler, found.params, body).await
        } else if let Some(asset) = found.asset {
            let mut reply = Response::new(asset.body.clone().into());
            let content_type = HeaderValue::from_str(&asset.content_type);
            reply.headers_mut().extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
            reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            Ok(Outcome::Respond(reply))
        } else if let Some(route) = found.route {
            self.follow(asked, &route, &found.params).await
        } else {
            Err(not_allowed("POST, OPTIONS"))
        }
    }

    /// A route: the stream its template names, waited for where it does not exist yet.
    async fn follow(
        self: &Arc<Self>,
        asked: &Asked,
        route: &Arc<Route>,
        params: &[(String, String)],
    ) -> Result<Outcome, Refusal> {
        let name = render(&route.name, params, &asked.query).map_err(|missing| {
            Refusal::new(400, "missing_parameter", format!("the parameter {missing:?} is missing"))
                .with("parameter", missing)
        })?;
        let bad_name = |error: crate::directory::StreamError| Refusal::new(400, "bad_stream_name", error.to_string());
        check_name(&name).map_err(bad_name)?;
        let spec = &route.spec;
        if spec.create {
            let stream = match self.hub.find(&name) {
                Some(stream) => Ok(stream),
                None if asked.reads_a_stream() => self.hub.stream(&name, &spec.options),
                // Who is refused or wants the head only makes nothing: the answer is that of a stream just made.
                None => self.hub.unnamed(&name, &spec.options),
            };
            return stream.map(|stream| self.read(asked, &stream)).map_err(bad_name);
        }
        match self.hub.find(&name) {
            Some(stream) => Ok(self.read(asked, &stream)),
            None => self.await_stream(asked, route, &name).await,
        }
    }

    async fn await_stream(self: &Arc<Self>, asked: &Asked, route: &Arc<Route>, name: &str) -> Result<Outcome, Refusal> {
        let began = Instant::now();
        let place = self.hub.waiting.enter(name);
        if place.first && route.spec.exists.is_some() {
            let entry = Arc::clone(&place.entry);
            tokio::spawn(Arc::clone(self).check_until_it_exists(Arc::clone(route), name.to_owned(), entry));
        }
        let deadline = tokio::time::Instant::now() + route.spec.wait;
        let found = loop {
            let bell = place.entry.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            // Looked for after the bell was enabled: what appears from here on rings it.
            if let Some(stream) = self.hub.find(name) {
                break Some(stream);
            }
            if self.hub.closed() || tokio::time::timeout_at(deadline, bell).await.is_err() {
                break self.hub.find(name);
            }
        };
        let (waited, checks) = (began.elapsed(), place.entry.attempts.load(Ordering::Relaxed));
        let attempts =
            checks.max(1 + u32::try_from(waited.as_millis() / route.spec.retry_delay.as_millis().max(1)).unwrap_or(0));
        let seconds = waited.as_secs_f64();
        if let Some(stream) = found {
            let text = format!("stream {name:?} appeared after {attempts} attempts, {seconds:.3} s");
            self.hub.logs.put(Level::Info, "sse_fast.route", text);
            Ok(self.read(asked, &stream))
        } else {
            let text = format!("stream {name:?} did not appear within {seconds:.3} s ({attempts} attempts): 404");
            self.hub.logs.put(Level::Warning, "sse_fast.route", text);
            Err(unknown_stream(name, waited).with("attempts", attempts))
        }
    }

    /// Asks the application whether a stream exists, once an interval, for everybody who waits. When nobody does
    /// any more the question is dropped, and with it the call that no thread has taken yet.
    async fn check_until_it_exists(self: Arc<Self>, route: Arc<Route>, name: String, entry: Arc<Name>) {
        let Some(key) = route.spec.exists else { return };
        loop {
            let permit = self.calls.may_check().await;
            let bell = entry.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            // Looked at after the bell was enabled: what changes from here on rings it.
            if !entry.wanted() || self.hub.find(&name).is_some() || self.hub.closed() {
                return;
            }
            entry.attempts.fetch_add(1, Ordering::Relaxed);
            let (sender, answer) = oneshot::channel();
            self.calls.put(Call::Exists { key, stream: name.clone(), reply: ExistsReply::new(sender, permit) });
            let exists = tokio::select! {
                answer = answer => answer.unwrap_or(false),
                () = bell => continue,
            };
            if exists {
                // The name was checked; an option that is wrong was refused with the route.
                let _ = self.hub.stream(&name, &route.spec.options);
                return;
            }
            tokio::time::sleep(route.spec.retry_delay).await;
        }
    }

    async fn handle(
        self: &Arc<Self>,
        asked: &Asked,
        handler: &Arc<HandlerSpec>,
        params: Vec<(String, String)>,
        body: Incoming,
    ) -> Result<Outcome, Refusal> {
        let limit = self.hub.config.max_body_bytes;
        let too_large = || {
            Refusal::new(413, "body_too_large", format!("a body may have at most {limit} bytes")).with("limit", limit)
        };
        let declared =
            asked.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let body = match tokio::time::timeout(self.body_timeout(), Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) => return Err(Refusal::new(400, "bad_request", "the body ended early or is not well framed")),
            Err(_) => {
                let refusal = Refusal::new(408, "body_timeout", "the body did not come in time");
                return Err(refusal.header(header::CONNECTION, "close"));
            }
        };
        let headers = asked
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let request = RequestParts {
            method: if asked.method == Method::HEAD { "GET".to_owned() } else { asked.method.as_str().to_owned() },
            path: asked.path.clone(),
            params,
            query: asked.query.clone(),
            headers: headers.collect(),
            body,
            client: Some(asked.peer),
        };
        let (sender, mut answer) = oneshot::channel();
        self.calls.put(Call::Handler { key: handler.key, request, reply: crate::calls::Reply(sender) });
        if handler.early_head && asked.wanted == Wanted::Events && asked.method != Method::HEAD {
            // Whoever comes first, reader or answer, the answer is given.
            let options = StreamPatch { start: Some(Start::All), ..handler.options.clone() };
            let waiting = self
                .hub
                .unnamed(&asked.path, &options)
                .map_err(|error| Refusal::new(500, "internal", error.to_string()))?;
            let interval = Stream::heartbeat(&waiting.lock()).map_or(Duration::from_secs(3600), |beat| beat.every);
            match tokio::time::timeout(interval, &mut answer).await {
                Ok(answer) => Ok(self.answered(asked, answer.ok())),
                Err(_) => {
                    let claim = waiting.claim().ok_or_else(failed)?;
                    Ok(Outcome::Subscribe(Subscription { later: Some(answer), ..self.subscription(asked, claim) }))
                }
            }
        } else {
            let answer = answer.await.ok();
            Ok(self.answered(asked, answer))
        }
    }

    /// A body may take as long as its head, and a second more for each 64 KiB that it may have.
    fn body_timeout(&self) -> Duration {
        let config = &self.hub.config;
        config.header_timeout + Duration::from_secs(config.max_body_bytes as u64 / (64 * 1024))
    }

    fn answered(&self, asked: &Asked, answer: Option<Answer>) -> Outcome {
        match answer {
            Some(Answer::Stream(stream)) if self.owns(&stream) => self.read(asked, &stream),
            Some(Answer::Response { status, headers, body }) => {
                let reply = response::of_handler(status, headers, body).unwrap_or_else(|why| {
                    let text =
                        format!("the response of {} {:?} cannot be written: {why}: 500", asked.method, asked.path);
                    self.hub.logs.put(Level::Error, "sse_fast.handler", text);
                    failed().into_reply()
                });
                Outcome::Respond(reply)
            }
            Some(Answer::Stream(_)) | None => Outcome::Respond(failed().into_reply()),
        }
    }

    /// Whether a handler's stream is this server's: another's shards know nothing of our sockets.
    pub(crate) fn owns(&self, stream: &Stream) -> bool {
        let owns = stream.belongs_to(&self.hub.delivery);
        if !owns {
            let text = format!("a handler returned the stream {:?} of another server: 500", stream.name());
            self.hub.logs.put(Level::Error, "sse_fast.handler", text);
        }
        owns
    }

    /// A stream in the form the reader wants.
    fn read(&self, asked: &Asked, stream: &Stream) -> Outcome {
        let last_event_id = asked.last_event_id.as_deref();
        match asked.wanted {
            Wanted::Neither => {
                let detail = "a stream is text/event-stream, or application/json once";
                Outcome::Respond(Refusal::new(406, "not_acceptable", detail).into_reply())
            }
            Wanted::Json => Outcome::Respond(response::json_reply(200, &response::stream_json(stream, last_event_id))),
            Wanted::Events if finished(stream, last_event_id) => Outcome::Respond(response::empty(204)),
            Wanted::Events if asked.method == Method::HEAD => {
                let mut reply = response::empty(200);
                response::stream_headers(reply.headers_mut());
                Outcome::Respond(reply)
            }
            Wanted::Events => match stream.claim() {
                Some(claim) => Outcome::Subscribe(self.subscription(asked, claim)),
                // It expired in this very moment.
                None => Outcome::Respond(unknown_stream(stream.name(), Duration::ZERO).into_reply()),
            },
        }
    }

    fn subscription(&self, asked: &Asked, claim: Claim) -> Subscription {
        let framing = if asked.old || !self.hub.config.chunked { Framing::Plain } else { Framing::Chunked };
        Subscription {
            claim,
            last_event_id: asked.last_event_id.clone(),
            framing,
            head: response::stream_head(framing, self.access.allow_origin(&asked.headers).as_ref()),
            later: None,
        }
    }
}

/// The error of a handler that failed; its traceback is in the application's log.
pub(crate) fn failed() -> Refusal {
    Refusal::new(500, "internal", "the handler failed; see the server's log")
}

fn finished(stream: &Stream, last_event_id: Option<&str>) -> bool {
    matches!(cursor::open(&stream.lock().state, last_event_id, None), Opening::Finished)
}

fn unknown_stream(name: &str, waited: Duration) -> Refusal {
    let seconds = (waited.as_secs_f64() * 1000.0).round() / 1000.0;
    let shown: String = name.chars().take(200).collect();
    Refusal::new(404, "unknown_stream", format!("no stream {shown:?} after waiting {seconds} s"))
        .with("waited", seconds)
}

fn allowed(asked: &Asked, allow: &'static str) -> Result<(), Refusal> {
    let named = |method: &str| allow.split(", ").any(|allowed| allowed == method);
    if named(asked.method.as_str()) { Ok(()) } else { Err(not_allowed(allow)) }
}

fn not_allowed(allow: &'static str) -> Refusal {
    Refusal::new(405, "method_not_allowed", format!("allowed here: {allow}")).header(header::ALLOW, allow)
}

fn found_allow_read() -> &'static str {
    "GET, HEAD, OPTIONS"
}
