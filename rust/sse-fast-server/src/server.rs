//! A running server: its threads from start to close.
//!
//! Owns: the threads, and the order of closing. One control thread runs tokio (accepting, hyper, timers, runs); one thread
//! for each shard. Must not know: what any of them does. Nothing is global; the threads are this value's, and
//! [`Server::close`] joins them all. Ownership is a tree: once closed, dropping the last handle frees everything.
//!
//! # Closing, in order
//! What has connected is accepted, and the port shut. Every connection is looked at once more: what was asked is answered,
//! or refused, and it closes. Runs are ended, with their terminal events, and requests in flight answered, until three
//! quarters of the drain are over: what handlers publish on the way is published, and a stream that they answer is read.
//! From half of the drain on no handler is called any more: who waited is told to come back. Then publishing ends; shards
//! give everybody what was published, end, and close their mailboxes. Requests still in flight are answered until the drain
//! is over; who waits for a handler then is told so. The runtime stops, and with it what is left. This file is long because
//! the order in which all of a server begins and ends is one list.

mod kept;
mod rights;
mod shards;
mod sharing;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sse_fast_core::options::StreamPatch;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use self::kept::{end_run, open_store};
use self::shards::{Shards, start_shards, stop_shards};
use self::sharing::start_backplane;
use crate::accept::{accept, accept_rest};
use crate::access::Access;
use crate::addresses::Addresses;
use crate::admission::ConnectionLimits;
use crate::backplane::thread::BackplaneThread;
use crate::calls::Calls;
use crate::clock::{self, in_micros};
#[cfg(test)]
use crate::config::MetricsAt;
use crate::config::{Config, StartError};
use crate::cors::Cors;
use crate::directory::{ByPattern, Directory, StreamError};
use crate::forwarded::Proxies;
use crate::listener::{self, Bound};
use crate::logs::{Level, Logs};
use crate::operate::Scraped;
use crate::presence::Presence;
use crate::respond::{Context, Doors};
use crate::rights::{Rights, RightsConfig};
use crate::route::{Asset, HandlerSpec, RouteError, RouteSpec};
use crate::run::{Run, RunError, RunSpec, Runs};
use crate::stats::Stats;
use crate::stream::Stream;

/// How long requests whose time is over may take to be told so. A socket that takes bytes takes those at once; one that does
/// not is not waited for.
const CUT_OFF: Duration = Duration::from_millis(50);

/// A server; a handle, cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Core>);

struct Core {
    context: Arc<Context>,
    address: SocketAddr,
    /// Where metrics are, if they have a listener of their own.
    metrics_address: Option<SocketAddr>,
    /// The shards' polls, as numbers that a forked child closes; the shards own them.
    polls: Vec<RawFd>,
    runs: Runs,
    /// How far the closing is; the control thread watches it.
    stage: watch::Sender<Stage>,
    /// Turns true when the closing begins; connections watch it.
    closing: watch::Sender<bool>,
    /// The threads, until they are joined. Held through the whole of `close`, so that a second
    /// caller waits for the first.
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    /// Over when the control thread has shut the port.
    port_shut: oneshot::Receiver<()>,
    runtime: Handle,
    control: JoinHandle<()>,
    shards: Vec<JoinHandle<()>>,
    backplane: Option<BackplaneThread>,
}

/// How far a server is; it only goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// No new connections; everything else ends in its order.
    Draining,
    /// The shards have ended; requests in flight have until then.
    Stopping(Instant),
}

impl Server {
    /// Binds and starts every thread. Requests for handlers are put into `calls`. Everybody may read.
    pub fn start(config: Config, calls: Calls) -> Result<Self, StartError> {
        Self::start_with(config, &RightsConfig::default(), calls)
    }

    /// The same, where tokens and tickets may be asked for.
    pub fn start_with(config: Config, rights: &RightsConfig, calls: Calls) -> Result<Self, StartError> {
        let Bound { listener, lacking } = listener::bind(&config)?;
        let address = listener.local_addr().map_err(io_error("reading the bound address"))?;
        let access = Access::new(&config.host, address.ip(), &config.allowed_hosts);
        let cors = Cors::new(&config.cors, &config.cors_headers);
        let by_pattern = ByPattern::new(&config.streams, &config.stream)?;
        let is_exposed = !address.ip().is_loopback() && !config.stream.private && !by_pattern.has_private();
        let rights = Rights::new(rights, is_exposed);
        let rights =
            rights.map_err(|error| io_error("reading randomness")(std::io::Error::other(error.to_string())))?;
        let proxies = Proxies::new(&config.trusted_proxies, config.forwarded);
        let addresses = Addresses::new(config.max_connections_per_address);
        let limits = ConnectionLimits::of(config.max_connections, addresses);
        let doors = Doors { access, cors, proxies, rights, limits };
        let scraped = Scraped::bind(&config)?;
        let metrics_address = scraped.as_ref().map(|scraped| scraped.address);
        let logs = Logs::default();
        let (store, kept) = open_store(&config, &logs)?;
        let (directory, Shards { threads: shards, polls }) = start_shards(config, by_pattern, (logs, store))?;
        for stream in directory.restore(kept.streams, kept.keys, kept.epoch) {
            end_run(&stream);
        }
        for text in lacking {
            directory.logs.put(Level::Warning, "sse_fast", text);
        }
        let (closing, closed) = watch::channel(false);
        let context = Arc::new(Context::new(directory, calls, doors, closed));
        let backplane = match start_backplane(&context, polls.first().copied()) {
            Ok(started) => started,
            Err(error) => {
                stop_shards(&context.directory, shards, clock::now());
                return Err(error);
            }
        };
        let (stage, watch) = watch::channel(Stage::Serving);
        let (shuts, port_shut) = oneshot::channel();
        let (runtime, runs, control) = match start_control(&context, (listener, scraped), watch, shuts) {
            Ok(started) => started,
            Err(error) => {
                if let Some(backplane) = backplane {
                    backplane.close();
                }
                stop_shards(&context.directory, shards, clock::now());
                return Err(error);
            }
        };
        let threads = Mutex::new(Some(Threads { port_shut, runtime, control, shards, backplane }));
        Ok(Self(Arc::new(Core { context, address, metrics_address, polls, runs, stage, closing, threads })))
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.0.address.port()
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.address
    }

    /// Where metrics are, if they have a listener of their own.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.0.metrics_address
    }

    /// From now on it says that it is to be sent no more requests, and serves as before: `close` comes later.
    pub fn leave(&self) {
        self.0.context.operated.leave();
    }

    /// Descriptors of the shards' polls; they are open until the server is closed. A forked child has them, too.
    pub fn polls(&self) -> &[RawFd] {
        &self.0.polls
    }

    /// The folder of its store; a forked child has descriptors of files there, too.
    pub fn store_folder(&self) -> Option<&Path> {
        self.directory().config.store.as_deref()
    }

    /// Gets or creates a stream; options given are put in force either way.
    pub fn stream(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        if patch.private == Some(true) {
            self.0.context.rights.never_warn();
        }
        self.directory().stream(name, patch)
    }

    /// A stream without a name, which only a handler can hand out.
    pub fn nameless_stream(&self, patch: &StreamPatch) -> Result<Stream, StreamError> {
        self.directory().nameless(patch)
    }

    /// The stream of this name, wherever its log is.
    pub fn find(&self, name: &str) -> Result<Option<Stream>, StreamError> {
        self.directory().find_anywhere(name)
    }

    /// Every stream, in no order.
    pub fn streams(&self) -> Vec<Stream> {
        self.directory().streams()
    }

    /// Maps a URL template to a stream's name.
    pub fn route(&self, mut spec: RouteSpec) -> Result<(), RouteError> {
        // A stream that a stranger's request may make is forgotten after a while.
        spec.options.expire.get_or_insert(Some(Duration::from_secs(300)));
        self.directory().config.stream.patched(&spec.options)?;
        self.0.context.routes.route(spec)
    }

    /// Maps a URL template to a handler of the application's.
    pub fn handler(&self, spec: HandlerSpec) -> Result<(), RouteError> {
        self.directory().config.stream.patched(&spec.options)?;
        self.0.context.routes.handler(spec)
    }

    /// A stream for the generator of the handler with this key, to be answered with [`Reply::generated`]; `path` is the
    /// request's.
    ///
    /// [`Reply::generated`]: crate::calls::Reply::generated
    pub fn generated(&self, path: &str, key: u64, options: &StreamPatch) -> Result<Stream, StreamError> {
        self.directory().generated(path, key, options)
    }

    /// The id that the last event of such a stream has: who comes back to the handler with it is told that there is
    /// nothing more. `None` where the stream sends no ids.
    pub fn finished_id(&self, stream: &Stream) -> Option<String> {
        let ids = stream.lock().state.options().ids;
        ids.then(|| self.directory().resumable.finished_id().as_str().to_owned())
    }

    /// Serves a fixed body at a path.
    pub fn asset(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<(), RouteError> {
        self.0.context.routes.asset(path, Asset { content_type: content_type.to_owned(), body: body.into() })
    }

    /// Whether a run may be started that publishes into `stream`: another one that does so still would end it.
    pub fn check_no_run(&self, stream: &Stream) -> Result<(), RunError> {
        self.0.runs.check_free(stream.number(), stream.name())
    }

    /// Starts a child process whose marked lines are published into `stream`.
    pub fn run(&self, spec: &RunSpec, stream: &Stream) -> Result<Run, RunError> {
        self.0.runs.check_free(stream.number(), stream.name())?;
        stream.written_by_run(true);
        let run = self.0.runs.start(spec, Arc::new(stream.clone()));
        if run.is_err() && self.0.runs.check_free(stream.number(), stream.name()).is_ok() {
            stream.written_by_run(false);
        }
        run
    }

    /// Totals.
    pub fn stats(&self) -> Stats {
        self.directory().stats()
    }

    /// Where log records are taken.
    pub fn logs(&self) -> Logs {
        self.directory().logs.clone()
    }

    /// What callbacks are told of who comes and goes.
    pub fn presence(&self) -> Presence {
        self.directory().presence.clone()
    }

    /// Whether closing has begun.
    pub fn closed(&self) -> bool {
        *self.0.closing.borrow()
    }

    /// Whether streams are closed, too; requests in flight have been answered then, or their time is over.
    pub fn streams_closed(&self) -> bool {
        self.directory().closed()
    }

    /// Closes; see the module. Blocks for at most about `drain`; a second call waits for the first.
    pub fn close(&self, drain: Duration) {
        let mut threads = self.0.threads.lock();
        let Some(Threads { port_shut, runtime, control, shards, backplane }) = threads.take() else { return };
        let (now, began) = (clock::now(), Instant::now());
        self.0.stage.send_replace(Stage::Draining);
        self.0.closing.send_replace(true);
        // Before requests in flight are counted: those of the last connections are among them.
        let _ = runtime.block_on(port_shut);
        runtime.spawn(refuse_calls(Arc::clone(&self.0.context), began + drain / 2));
        let directory = Arc::clone(self.directory());
        runtime.block_on(async {
            let first = drain.mul_f64(0.75);
            let answered = tokio::time::timeout_at((began + first).into(), directory.requests_answered());
            // Runs and requests that were not ready are cut off later.
            let _ = tokio::join!(self.0.runs.stop_all(first), answered);
        });
        self.0.context.rights.close();
        self.directory().close();
        if let Some(store) = &self.directory().delivery.store {
            // What was accepted is published: subscribers are to have it, too.
            store.flush();
        }
        if let Some(backplane) = backplane {
            // What was published has come here by now; readers are given it below.
            backplane.close();
        }
        stop_shards(self.directory(), shards, now.saturating_add(in_micros(drain)));
        self.0.stage.send_replace(Stage::Stopping(began + drain));
        let _ = control.join();
        self.0.runs.let_go();
        self.0.context.calls.close();
        if let Some(store) = &self.directory().delivery.store {
            store.close();
        }
        self.directory().logs.close();
        self.directory().clear();
    }

    fn directory(&self) -> &Arc<Directory> {
        &self.0.context.directory
    }
}

fn start_control(
    context: &Arc<Context>,
    (listener, scraped): (TcpListener, Option<Scraped>),
    stage: watch::Receiver<Stage>,
    port_shut: oneshot::Sender<()>,
) -> Result<(Handle, Runs, JoinHandle<()>), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("sse-fast-blocking")
        .build()
        .map_err(io_error("making the control runtime"))?;
    let handle = runtime.handle().clone();
    let runs =
        Runs::with_limit(handle.clone(), context.directory.logs.clone(), context.directory.config.max_event_bytes);
    let listener = {
        let _inside = runtime.enter();
        #[allow(
            deprecated,
            reason = "sound for a listener, whose descriptor stays its own; what replaces it is unsafe"
        )]
        AsyncFd::with_interest(listener, Interest::READABLE).map_err(io_error("listening"))?
    };
    let context = Arc::clone(context);
    let thread = std::thread::Builder::new().name("sse-fast-control".to_owned()).spawn(move || {
        let scraping = scraped.map(|scraped| runtime.spawn(scraped.serve(Arc::clone(&context))));
        runtime.block_on(control(context, listener, stage, port_shut));
        drop(scraping);
        // Requests that still wait for a handler are cut off; a publish under way ends by itself.
        runtime.shutdown_background();
    });
    Ok((handle, runs, thread.map_err(io_error("starting the control thread"))?))
}

/// Accepts until told not to, then keeps the runtime alive until everything else has ended. Dropping `port_shut` tells
/// that nothing is accepted any more.
async fn control(
    context: Arc<Context>,
    listener: AsyncFd<TcpListener>,
    mut stage: watch::Receiver<Stage>,
    port_shut: oneshot::Sender<()>,
) {
    let tending = tokio::spawn(Arc::clone(&context.directory).tend());
    let warning = tokio::spawn(rights::warn_if_open(Arc::clone(&context)));
    tokio::select! {
        _ = stage.wait_for(|stage| *stage != Stage::Serving) => {}
        () = accept(&context, &listener) => {}
    }
    accept_rest(&context, listener.get_ref()).await;
    // Dropping it would not do where a forked child holds it, too.
    listener::stop(listener.get_ref());
    drop((listener, port_shut));
    // An error means that the server's handle is gone: nothing more will be asked for.
    let stopping = stage.wait_for(|stage| matches!(stage, Stage::Stopping(_))).await.map(|stage| *stage);
    if let Ok(Stage::Stopping(until)) = stopping {
        let in_time = tokio::time::timeout_at(until.into(), context.directory.requests_answered()).await;
        if in_time.is_err() {
            context.calls.cut_off();
            let _ = tokio::time::timeout(CUT_OFF, context.directory.requests_answered()).await;
        }
    }
    tending.abort();
    warning.abort();
}

/// Calls no more handlers from that moment on.
async fn refuse_calls(context: Arc<Context>, from: Instant) {
    tokio::time::sleep_until(from.into()).await;
    let count = context.calls.refuse();
    if count > 0 {
        let text = format!("{count} requests had not been begun when half of the drain was over, and were refused");
        context.directory.logs.put(Level::Warning, "sse_fast.handler", text);
    }
}

fn io_error(attempt: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Io { attempt, source }
}

#[cfg(test)]
mod health_tests;
#[cfg(test)]
mod tests;
