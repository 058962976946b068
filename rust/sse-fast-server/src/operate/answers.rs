//! The answers to operators at the main port.
//!
//! Owns: who may have the numbers there. Must not know: how they come about.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::{Asked, METHODS, METRICS, PROXIED, is_equal, is_local, is_read, named_host, put, said, text};
use crate::access::is_loopback_host;
use crate::directory::Sharing;
use crate::request::decode;
use crate::respond::Context;
use crate::response::{HttpResponse, Refusal, not_allowed};

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
    pub(super) async fn health(&self, asked: Asked, at: Instant) -> StatusCode {
        let yes = match asked {
            Asked::Health => self.operated.health.look(self.directory.shards(), at).await,
            Asked::Readiness => {
                let is_away = self.directory.sharing.as_ref().is_some_and(Sharing::is_away);
                let is_full = self.directory.delivery.store.as_ref().is_some_and(|store| !store.is_writable());
                !self.is_closing() && !self.operated.leaving.load(Ordering::Relaxed) && !is_away && !is_full
            }
        };
        if yes { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }

    /// The numbers, in their text form. They are added up on another thread: a hundred thousand streams take some
    /// milliseconds, in which nothing would be accepted.
    pub(super) async fn metrics(self: &Arc<Self>) -> HttpResponse {
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
        if is_local(peer.ip()) && !is_proxied && named_host(headers).is_none_or(is_loopback_host) {
            return Ok(());
        }
        self.has_key(headers, peer)
    }

    /// Whether the key that is asked for is given.
    pub(super) fn has_key(&self, headers: &HeaderMap, peer: SocketAddr) -> Result<(), Refusal> {
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
