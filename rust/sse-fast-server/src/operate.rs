//! What operators ask a server for: whether it is well, whether it takes requests, its numbers.
//!
//! | file | owns |
//! |---|---|
//! | `operate` | at which paths |
//! | `answers` | what is answered, and to whom |
//! | `health` | whether every shard answers |
//! | `metrics` | the numbers, by name |
//! | `text` | how they are written |
//! | `scraped` | the listener that metrics have of their own |
//!
//! Must not know: streams, handlers; none of this waits for Python. Invariants: the application's own routes win over
//! each of these paths. The answers about health are the same for everybody, whatever name the server was asked by, and
//! say nothing else; where there are too many connections they are given all the same. Numbers are for those who are
//! on this machine, and come through no proxy, or have the key.

mod answers;
mod health;
mod metrics;
mod scraped;
mod text;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use self::health::Health;
use self::metrics::Metrics;
pub(crate) use self::scraped::Scraped;
use crate::config::{Config, MetricsAt};
use crate::response::HttpResponse;

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

    /// Whether this path says how the server is.
    pub(crate) fn is_about_health(&self, path: &str) -> bool {
        self.asked_of_health(path).is_some()
    }

    fn asked_of_health(&self, path: &str) -> Option<Asked> {
        if self.health_at.as_deref() == Some(path) {
            Some(Asked::Health)
        } else {
            (self.ready_at.as_deref() == Some(path)).then_some(Asked::Readiness)
        }
    }
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// The name by which it is asked; an empty one where that cannot be told.
fn named_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().unwrap_or_default();
    Some(if hosts.next().is_none() { host } else { "" })
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
