//! The listener that metrics have of their own.
//!
//! Owns: its socket, and the few connections there. Must not know: what metrics are. Health is answered here, too, for
//! probes that should not come through the door of the public. Invariants: no more than [`PLACES`] connections are open, and
//! none for longer than [`LONGEST`]. A newcomer always finds a place: the oldest that is not being answered gives way, so that
//! connections that are silent, or kept, keep no probe out. It listens until the server has wholly closed, so that its end can be
//! watched.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use super::{METHODS, METRICS, is_local, is_read, named_host, said};
use crate::access::is_loopback_host;
use crate::config::{Config, MetricsAt, StartError};
use crate::listener;
use crate::request::decode;
use crate::respond::Context;
use crate::response::{HttpResponse, Refusal, not_allowed};
use crate::transient::{Transient, Transients};

/// Connections at a time: a metrics server has one, a person two or three.
const PLACES: usize = 32;

/// How long a connection may last; who scrapes opens another.
const LONGEST: Duration = Duration::from_secs(300);

/// How long accepting rests when the system has no more files to give.
const PAUSE: Duration = Duration::from_millis(50);

/// The listener, before its thread runs.
pub(crate) struct Scraped {
    listener: TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Scraped {
    /// Binds, where the settings ask for it.
    pub(crate) fn bind(config: &Config) -> Result<Option<Self>, StartError> {
        let MetricsAt::Address { host, port } = &config.metrics else { return Ok(None) };
        let listener = listener::bind_plain(host, *port)?;
        let address = listener.local_addr();
        let address = address.map_err(|source| StartError::Io { attempt: "reading the metrics address", source })?;
        Ok(Some(Self { listener, address }))
    }

    /// Answers until the task is dropped; on the runtime's thread.
    pub(crate) async fn serve(self, context: Arc<Context>) {
        let Ok(listener) = tokio::net::TcpListener::from_std(self.listener).map(Stopped) else { return };
        let (places, bound) = (Transients::<()>::new(PLACES), self.address);
        loop {
            match listener.0.accept().await {
                Ok((socket, peer)) => {
                    let ((place, stay), context) = (places.enter(None), Arc::clone(&context));
                    tokio::spawn(async move {
                        let crowded = Arc::clone(&context);
                        tokio::select! {
                            // First, so that who has asked by now is answered.
                            biased;
                            _ = timeout(LONGEST, answer_all(context, socket, peer, bound, Arc::new(place))) => {}
                            _ = stay => crowded.scrapers_crowd(peer),
                        }
                    });
                    // Whose place it took closes before another is taken.
                    tokio::task::yield_now().await;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// A listener that refuses connections once it is dropped, also where a forked child holds it.
struct Stopped(tokio::net::TcpListener);

impl Drop for Stopped {
    fn drop(&mut self) {
        listener::stop(&self.0);
    }
}

async fn answer_all(
    context: Arc<Context>,
    socket: tokio::net::TcpStream,
    peer: SocketAddr,
    bound: SocketAddr,
    place: Arc<Transient<()>>,
) {
    let header_timeout = context.directory.config.header_timeout;
    let service = service_fn(move |request: Request<Incoming>| {
        let (context, place) = (Arc::clone(&context), Arc::clone(&place));
        async move {
            place.set_answering(true);
            let answer = context.scraped(&request, peer, bound).await;
            place.set_answering(false);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut served = http1::Builder::new();
    served.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    // A client that breaks off is no news.
    let _ = served.serve_connection(TokioIo::new(socket), service).await;
}

impl Context {
    async fn scraped(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        peer: SocketAddr,
        bound: SocketAddr,
    ) -> HttpResponse {
        let Some(path) = decode(request.uri().path()) else { return said(StatusCode::BAD_REQUEST) };
        if !is_read(request.method()) {
            return not_allowed(METHODS).into_response();
        }
        if path != METRICS {
            return match self.operated.asked_of_health(&path) {
                Some(asked) => said(self.health(asked, Instant::now()).await),
                None => Refusal::new(404, "not_found", format!("the numbers are at {METRICS}")).into_response(),
            };
        }
        match self.may_scrape(request, peer, bound) {
            Ok(()) => self.metrics().await,
            Err(refusal) => refusal.into_response(),
        }
    }

    /// A connection gave way to a newcomer, not being answered.
    fn scrapers_crowd(&self, peer: SocketAddr) {
        self.directory.totals.refusals.metrics.add(&self.directory.logs, "sse_fast.access", || {
            format!("a connection from {} to the metrics' listener gave way to another: {PLACES} are open", peer.ip())
        });
    }

    /// Everybody that comes here may have them, but where there is a key; and no page of a stranger's that a browser of
    /// this machine shows.
    fn may_scrape(&self, request: &Request<Incoming>, peer: SocketAddr, bound: SocketAddr) -> Result<(), Refusal> {
        let is_foreign = bound.ip().is_loopback() && !named_host(request.headers()).is_none_or(is_loopback_host);
        let needs_key = self.operated.metrics_key.is_some() && !is_local(peer.ip());
        if is_foreign || needs_key { self.has_key(request.headers(), peer) } else { Ok(()) }
    }
}
