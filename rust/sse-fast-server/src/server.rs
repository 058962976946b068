//! A running server: its threads from start to close.
//!
//! One control thread runs tokio (accepting, hyper, timers, runs); one thread for each shard.
//! Nothing is global; the threads are this value's, and [`Server::close`] joins them all.
//!
//! # Closing, in order
//! No new connections; runs are ended, with their terminal events; publishing ends; shards give
//! everybody what was published and close cleanly, until the drain is over; then the runtime stops.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sse_fast_core::options::StreamPatch;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::accept::{RESERVED_FILES, accept};
use crate::access::Access;
use crate::calls::Calls;
use crate::config::{Config, StartError};
use crate::hub::{Hub, StreamError};
use crate::listener;
use crate::logs::Logs;
use crate::respond::Context;
use crate::route::{Asset, HandlerSpec, RouteError, RouteSpec};
use crate::run::{Run, RunError, RunSpec, Runs};
use crate::shard::ShardHandle;
use crate::stats::{CLOSE_REASONS, Stats};
use crate::stream::Stream;
use crate::sync::lock;

/// How often the hub looks for streams to forget.
const SWEEP: Duration = Duration::from_millis(100);

/// A server; a handle, cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Core>);

struct Core {
    context: Arc<Context>,
    address: SocketAddr,
    runs: Runs,
    control: Handle,
    /// How far the closing is; the control thread watches it.
    stage: watch::Sender<Stage>,
    /// Turns true when the closing begins; connections watch it.
    closing: watch::Sender<bool>,
    /// The threads, until they are joined. Held through the whole of `close`, so that a second
    /// caller waits for the first.
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    control: JoinHandle<()>,
    shards: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    NotAccepting,
    Stopped,
}

impl Server {
    /// Binds and starts every thread. Requests for handlers are put into `calls`.
    pub fn start(config: Config, calls: Calls) -> Result<Self, StartError> {
        let listener = listener::bind(&config)?;
        let address = listener.local_addr().map_err(io_error("reading the bound address"))?;
        let access = Access::new(&config.host, address.ip(), &config.allowed_hosts, &config.cors);
        let max_connections = most_connections(config.max_connections);
        let (hub, shards) = start_shards(config)?;
        let (closing, closed) = watch::channel(false);
        let context = Arc::new(Context::new(hub, calls, access, max_connections, closed));
        let (stage, watch) = watch::channel(Stage::Serving);
        let (control, runs, thread) = start_control(&context, listener, watch)?;
        let threads = Mutex::new(Some(Threads { control: thread, shards }));
        Ok(Self(Arc::new(Core { context, address, runs, control, stage, closing, threads })))
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.0.address.port()
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.address
    }

    /// Gets or creates a stream; options given are put in force either way.
    pub fn stream(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        self.hub().stream(name, patch)
    }

    /// The stream of this name.
    pub fn find(&self, name: &str) -> Option<Stream> {
        self.hub().find(name)
    }

    /// Every stream, in no order.
    pub fn streams(&self) -> Vec<Stream> {
        self.hub().streams()
    }

    /// Maps a URL template to a stream's name.
    pub fn route(&self, mut spec: RouteSpec) -> Result<(), RouteError> {
        // A stream a stranger's request may make does not stay for ever.
        spec.options.expire.get_or_insert(Some(Duration::from_secs(300)));
        self.hub().config.stream.patched(&spec.options)?;
        self.0.context.routes.route(spec)
    }

    /// Maps a URL template to a handler of the application's.
    pub fn handler(&self, spec: HandlerSpec) -> Result<(), RouteError> {
        self.hub().config.stream.patched(&spec.options)?;
        self.0.context.routes.handler(spec)
    }

    /// Serves a fixed body at a path.
    pub fn asset(&self, path: &str, content_type: &str, body: Vec<u8>) -> Result<(), RouteError> {
        self.0.context.routes.asset(path, Asset { content_type: content_type.to_owned(), body: body.into() })
    }

    /// Starts a child process whose marked lines are published into `stream`.
    pub fn run(&self, spec: &RunSpec, stream: &Stream) -> Result<Run, RunError> {
        self.0.runs.start(spec, Arc::new(stream.clone()))
    }

    /// Totals.
    pub fn stats(&self) -> Stats {
        self.hub().stats()
    }

    /// Where log records are taken.
    pub fn logs(&self) -> Logs {
        self.hub().logs.clone()
    }

    /// Whether the server was closed.
    pub fn closed(&self) -> bool {
        self.hub().closed()
    }

    /// Closes; see the module. Blocks for at most about `drain`; a second call waits for the first.
    pub fn close(&self, drain: Duration) {
        let mut threads = lock(&self.0.threads);
        let Some(Threads { control, shards }) = threads.take() else { return };
        let until = Instant::now() + drain;
        self.0.stage.send_replace(Stage::NotAccepting);
        self.0.closing.send_replace(true);
        self.0.control.block_on(self.0.runs.stop_all(drain.mul_f64(0.75)));
        self.hub().close();
        for shard in self.hub().shards() {
            shard.drain(until);
        }
        for shard in shards {
            // A shard that panicked has said so in the log.
            let _ = shard.join();
        }
        self.0.stage.send_replace(Stage::Stopped);
        let _ = control.join();
        self.0.context.calls.close();
        self.hub().logs.close();
        self.hub().clear();
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.0.context.hub
    }
}

fn start_shards(config: Config) -> Result<(Arc<Hub>, Vec<JoinHandle<()>>), StartError> {
    let logs = Logs::default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if config.shards == 0 { cores } else { config.shards };
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        made.push(ShardHandle::new().map_err(io_error("making a shard"))?);
    }
    let handles = made.iter().map(|(handle, _)| handle.clone()).collect();
    let (stall, wait) = (config.stall_timeout, config.publish_wait);
    let hub = Arc::new(Hub::new(config, handles, logs.clone()));
    let mut threads = Vec::with_capacity(count);
    for (number, (handle, poll)) in made.into_iter().enumerate() {
        let thread = handle.spawn(number, poll, stall, wait, logs.clone());
        threads.push(thread.map_err(io_error("starting a shard's thread"))?);
    }
    Ok((hub, threads))
}

fn start_control(
    context: &Arc<Context>,
    listener: TcpListener,
    stage: watch::Receiver<Stage>,
) -> Result<(Handle, Runs, JoinHandle<()>), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("sse-fast-blocking")
        .build()
        .map_err(io_error("making the control runtime"))?;
    let handle = runtime.handle().clone();
    let runs = Runs::new(handle.clone(), Arc::new(context.hub.logs.clone())).map_err(io_error("making the run log"))?;
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
        runtime.block_on(control(context, listener, stage));
        // Whoever still waits for a handler is cut off; a publish under way ends by itself.
        runtime.shutdown_background();
    });
    Ok((handle, runs, thread.map_err(io_error("starting the control thread"))?))
}

/// Accepts until told not to, then keeps the runtime alive until told to stop.
async fn control(context: Arc<Context>, listener: AsyncFd<TcpListener>, mut stage: watch::Receiver<Stage>) {
    let sweeping = tokio::spawn(sweep(Arc::clone(&context.hub)));
    tokio::select! {
        () = accept(&context, &listener) => {}
        _ = stage.wait_for(|stage| *stage >= Stage::NotAccepting) => {}
    }
    // An error means that the server's handle is gone: nothing more will be asked for.
    let _ = stage.wait_for(|stage| *stage == Stage::Stopped).await;
    sweeping.abort();
}

async fn sweep(hub: Arc<Hub>) {
    let mut interval = tokio::time::interval(SWEEP);
    loop {
        interval.tick().await;
        hub.sweep();
    }
}

fn most_connections(asked: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let files = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let possible = files.saturating_sub(RESERVED_FILES).max(1);
    if asked == 0 { possible } else { asked.min(possible) }
}

fn io_error(attempt: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Io { attempt, source }
}

impl Hub {
    /// Connections now: HTTP's and the shards'.
    pub(crate) fn connections(&self) -> usize {
        let sockets: u64 = self.shards().iter().map(|shard| shard.counters().sockets.load(Ordering::Relaxed)).sum();
        self.totals.parsing.load(Ordering::Relaxed) + usize::try_from(sockets).unwrap_or(0)
    }

    fn stats(&self) -> Stats {
        let streams = self.streams();
        let totals = &self.totals;
        let mut stats = Stats {
            streams: streams.len() as u64,
            connections: self.connections() as u64,
            accepted: totals.accepted.load(Ordering::Relaxed),
            requests: totals.requests.load(Ordering::Relaxed),
            refused: totals.refused.load(Ordering::Relaxed),
            publish_waits: totals.publish_waits.load(Ordering::Relaxed),
            publish_wait_timeouts: totals.publish_wait_timeouts.load(Ordering::Relaxed),
            publish_wait_us: totals.publish_wait_us.load(Ordering::Relaxed),
            published: totals.forgotten.load(Ordering::Relaxed),
            closed: CLOSE_REASONS.map(|reason| (reason, 0)).to_vec(),
            ..Stats::default()
        };
        stats.published += streams.iter().map(|stream| stream.inner().state.newest()).sum::<u64>();
        for counters in self.shards().iter().map(ShardHandle::counters) {
            for (total, counter) in [
                (&mut stats.subscribers, &counters.subscribers),
                (&mut stats.delivered, &counters.delivered),
                (&mut stats.bytes, &counters.bytes),
                (&mut stats.writes, &counters.writes),
                (&mut stats.heartbeats, &counters.heartbeats),
                (&mut stats.gaps, &counters.gaps),
                (&mut stats.skipped, &counters.skipped),
                (&mut stats.blocked, &counters.blocked),
            ] {
                *total += counter.load(Ordering::Relaxed);
            }
            for ((_, total), counter) in stats.closed.iter_mut().zip(&counters.closed) {
                *total += counter.load(Ordering::Relaxed);
            }
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;

    use sse_fast_core::event::NewEvent;

    use super::*;

    fn subscribe(server: &Server) -> BufReader<TcpStream> {
        let mut socket = TcpStream::connect(server.local_addr()).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
        socket.write_all(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        BufReader::new(socket)
    }

    /// Reads until a line ends with `wanted`; false where the connection ended before.
    fn reads(reader: &mut BufReader<TcpStream>, wanted: &str) -> bool {
        reader.lines().map_while(Result::ok).any(|line| line.trim_end() == wanted)
    }

    #[test]
    fn a_shard_that_failed_takes_its_connections_with_it_and_holds_nobody_up() {
        let config = Config { port: 0, shards: 2, ..Config::default() };
        let server = Server::start(config, Calls::default()).expect("a server");
        let stream = server.stream("s", &StreamPatch::default()).expect("a stream");
        let mut readers: Vec<_> = (0..2).map(|_| subscribe(&server)).collect();
        assert!(readers.iter_mut().all(|reader| reads(reader, "")), "both have their heads");
        server.hub().shards()[0].fail();
        while server.hub().shards()[0].works() {
            std::thread::yield_now();
        }
        // More than the history holds and more than publishers may run ahead.
        for _ in 0..1000 {
            stream.publish(&NewEvent { data: &[b'x'; 100], ..NewEvent::default() }).expect("published");
        }
        assert_eq!(server.stats().publish_wait_timeouts, 0);
        let mut later: Vec<_> = (0..4).map(|_| subscribe(&server)).collect();
        assert!(later.iter_mut().all(|reader| reads(reader, "")), "the other shard takes them all");
        stream.end(b"over", "end").expect("ended");
        assert!(later.iter_mut().all(|reader| reads(reader, "data: over")));
        assert_eq!(readers.iter_mut().filter_map(|reader| reads(reader, "data: over").then_some(())).count(), 1);
        server.close(Duration::from_secs(5));
    }
}
