//! What operators ask a server for: whether it is well, whether it takes requests, its numbers.
//!
//! | file | owns |
//! |---|---|
//! | `operate` | at which paths, and who may ask |
//! | `health` | whether every shard answers |
//! | `metrics` | the numbers, by name |
//! | `text` | how they are written |
//! | `scraped` | the listener that metrics have of their own |
//!
//! Must not know: streams, handlers; none of this waits for Python. Invariants: the application's own routes win over
//! each of these paths. The answers about health are the same for everybody, whatever name the server was asked by, and
//! say nothing else; where there are too many connections they are given all the same. Numbers are for those who are
//! on this machine, and come through no proxy, or have the key.

mod health;
mod metrics;
mod scraped;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use self::health::Health;
use self::metrics::Metrics;
pub(crate) use self::scraped::Scraped;
use crate::access::is_loopback_host;
use crate::config::{Config, MetricsAt};
use crate::dispatch::not_allowed;
use crate::request::decode;
use crate::respond::Context;
use crate::response::{HttpResponse, Refusal};

/// Where metrics are.
const METRICS: &str = "/metrics";

const METHODS: &str = "GET, HEAD";

/// What proxies add to a request.
const PROXIED: [HeaderName; 7] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// See the module.
pub(crate) struct Operated {
    health_at: Option<String>,
    ready_at: Option<String>,
    /// Whether metrics are at the main port, too.
    at_main_port: bool,
    metrics_key: Option<String>,
    /// Whether the server is about to close, and still serves. Set once. Relaxed: it orders nothing.
    leaving: AtomicBool,
    health: Health,
    metrics: Metrics,
}

/// What is asked for of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Whether the server is well.
    Health,
    /// Whether it is to be sent requests.
    Readiness,
}

impl Operated {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            health_at: config.health.clone(),
            ready_at: config.ready.clone(),
            at_main_port: config.metrics == MetricsAt::MainPort,
            metrics_key: config.metrics_key.clone(),
            leaving: AtomicBool::new(false),
            health: Health::default(),
            metrics: Metrics::new(SystemTime::now()),
        }
    }

    /// The server closes soon.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn asked_of_health(&self, path: &str) -> Option<Asked> {
        if self.health_at.as_deref() == Some(path) {
            Some(Asked::Health)
        } else {
            (self.ready_at.as_deref() == Some(path)).then_some(Asked::Readiness)
        }
    }
}

impl Context {
    /// The answer to an operator's request at the main port; `None` where it is none, or the application answers it.
    pub(crate) async fn operated(self: &Arc<Self>, head: &Parts, peer: SocketAddr) -> Option<HttpResponse> {
        let path = decode(head.uri.path())?;
        let asked = self.operated.asked_of_health(&path);
        let is_ours = asked.is_some() || self.operated.at_main_port && path == METRICS;
        if !is_ours || self.routes.find(&path).is_some() {
            return None;
        }
        Some(match asked {
            _ if !is_read(&head.method) => not_allowed(METHODS).into_response(),
            Some(asked) => said(self.health(asked, Instant::now()).await),
            None => match self.may_have_metrics(&head.headers, peer) {
                Ok(()) => self.metrics().await,
                Err(refusal) => refusal.into_response(),
            },
        })
    }

    /// The answer to who asked `at` that moment.
    async fn health(&self, asked: Asked, at: Instant) -> StatusCode {
        let yes = match asked {
            Asked::Health => self.operated.health.look(self.directory.shards(), at).await,
            Asked::Readiness => !self.is_closing() && !self.operated.leaving.load(Ordering::Relaxed),
        };
        if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    /// The numbers, in their text form. They are added up on another thread: a hundred thousand streams take some
    /// milliseconds, in which nothing would be accepted.
    async fn metrics(self: &Arc<Self>) -> HttpResponse {
        let reports = self.operated.health.reports(self.directory.shards()).await;
        let context = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            context.operated.metrics.written(&context.directory, &context.routes.requests(), &reports)
        })
        .await;
        // An error means that the server stops.
        let mut response = Response::new(written.unwrap_or_default().into());
        put(response.headers_mut(), text::CONTENT_TYPE);
        response
    }

    /// Who may have metrics at the main port: a client that has the key, or that is on this machine and asks it by a name of
    /// its own, so that no page of a stranger's can read them through a browser here.
    fn may_have_metrics(&self, headers: &HeaderMap, peer: SocketAddr) -> Result<(), Refusal> {
        let is_proxied = PROXIED.iter().any(|name| headers.contains_key(name));
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if is_local(peer.ip()) && !is_proxied && host.is_none_or(is_loopback_host) {
            return Ok(());
        }
        self.has_key(headers, peer)
    }

    /// Whether the key that is asked for is given.
    fn has_key(&self, headers: &HeaderMap, peer: SocketAddr) -> Result<(), Refusal> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = bearer.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
        let key = self.operated.metrics_key.as_deref();
        if let (Some(key), Some(given)) = (key, given)
            && is_equal(key.as_bytes(), given.as_bytes())
        {
            return Ok(());
        }
        self.directory.totals.refusals.metrics.add(&self.directory.logs, "sse_fast.access", || {
            let what = if given.is_some() { "with a wrong key" } else { "without a key" };
            format!("a request for metrics was refused: it came from {} {what}: see the setting metrics", peer.ip())
        });
        Err(if key.is_some() {
            let refusal = Refusal::new(401, "metrics_not_allowed", "this needs the key of the setting metrics_key");
            refusal.header(header::WWW_AUTHENTICATE, "Bearer")
        } else {
            let detail = "these are for clients on the server's machine that come through no proxy";
            Refusal::new(403, "metrics_not_allowed", detail)
        })
    }
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn is_local(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// Whether both are the same; how long it takes tells nothing of where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// An answer without detail.
fn said(status: StatusCode) -> HttpResponse {
    let mut response = Response::new(if status.is_success() { "ok\n" } else { "unavailable\n" }.into());
    *response.status_mut() = status;
    put(response.headers_mut(), "text/plain; charset=utf-8");
    response
}

fn put(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
