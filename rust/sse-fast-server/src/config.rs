//! What a server is told: [`Config`], with every default; and why it could not start.
//!
//! Memory consequences: a stream retains at most `history_bytes`, a stalled reader costs what
//! `listener` bounds in the kernel plus one frame, a request in parsing about 10 KB.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sse_fast_core::error::OptionError;
use sse_fast_core::event::MAX_EVENT_BYTES;
use sse_fast_core::options::{StreamOptions, StreamPatch};
use thiserror::Error;

use crate::network::{Family, Network};
use crate::pattern::PatternError;
use crate::store::{Durable, OpenError};

/// Everything a server is told. Values are checked by its author, ranges by `Server::start`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address or name to bind.
    pub host: String,
    /// The port; 0 picks a free one.
    pub port: u16,
    /// Host names a request may carry besides the loopback's own; without a loopback address and
    /// without names given, every name is allowed.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://example.org`, or `*`) that may read from another site's page.
    pub cors: Vec<String>,
    /// Headers that such pages may send besides the usual ones.
    pub cors_headers: Vec<String>,
    /// The most connections at a time; 0 takes what the limit of open files leaves.
    pub max_connections: usize,
    /// The most connections of one client's address at a time, of IPv6 of its first 64 bits; `None` is as many as there
    /// may be in all.
    pub max_connections_per_address: Option<usize>,
    /// Proxies whose word counts for who a request is from.
    pub trusted_proxies: Vec<Network>,
    /// Which headers they say it by.
    pub forwarded: Family,
    /// The most bytes of a request's head, from 8 KiB up.
    pub max_head_bytes: usize,
    /// The most bytes that an event's name and data may have together.
    pub max_event_bytes: usize,
    /// The most streams there may be.
    pub max_streams: usize,
    /// The most of them that requests made, by routes that create.
    pub max_created_streams: usize,
    /// The most bytes of a request's body.
    pub max_body_bytes: usize,
    /// The most requests that wait for a handler of one kind, and that asynchronous handlers work on at a time.
    pub handler_queue: usize,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a request for an unknown stream at `/streams/` waits for it.
    pub wait: Duration,
    /// How long after its start a server takes what it does not know for something that is still to come: who reads as
    /// an `EventSource` is told to come back, not 404, after which it never would.
    pub settle: Duration,
    /// How long a reader may take nothing, or not acknowledge, before its connection is closed.
    pub stall_timeout: Duration,
    /// W of the delivery promise: how long publishers of a stream wait, in a minute, for subscribers whose sockets are
    /// full. `None` is as long as it takes: nothing is skipped.
    pub publish_wait: Option<Duration>,
    /// How many times as fast the time between heartbeats passes, for tests of applications that have long ones.
    pub heartbeat_pace: u32,
    /// Shard threads; 0 is one for each core.
    pub shards: usize,
    /// Whether HTTP/1.1 bodies are chunked; otherwise they end with the connection.
    pub chunked: bool,
    /// Whether other processes of the same user may listen on the port, too: the kernel spreads
    /// connections among them. Off, so that a second server is told that the port is taken.
    pub reuse_port: bool,
    /// The path at which it says whether it is well.
    pub health: Option<String>,
    /// The path at which it says whether it is to be sent requests.
    pub ready: Option<String>,
    /// Where its numbers are.
    pub metrics: MetricsAt,
    /// What gives access to them where being here does not.
    pub metrics_key: Option<String>,
    /// Whether each request is logged.
    pub access_log: bool,
    /// What shares streams with other processes, if anything does.
    pub backplane: Option<BackplaneConfig>,
    /// The options of streams that are told nothing else.
    pub stream: StreamOptions,
    /// The folder in which streams are kept across restarts.
    pub store: Option<PathBuf>,
    /// What a publish there outlives once it has returned.
    pub durable: Durable,
    /// Options by patterns of names, which beat those above; of two patterns that match the later one counts.
    pub streams: Vec<(String, StreamPatch)>,
}

/// The server that streams are shared through.
#[derive(Clone)]
pub struct BackplaneConfig {
    /// Where it is: `redis://`, `rediss://` or `redis+sentinel://`; may have a password, and is shown nowhere.
    pub url: String,
    /// What its keys and channels begin with.
    pub prefix: String,
    /// How long what is asked of it may wait.
    pub timeout: Duration,
    /// Whether it never loses what it has confirmed.
    pub trust: bool,
}

impl Default for BackplaneConfig {
    fn default() -> Self {
        Self { url: String::new(), prefix: "sse_fast".to_owned(), timeout: Duration::from_secs(1), trust: false }
    }
}

impl std::fmt::Debug for BackplaneConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, prefix, timeout, trust } = self;
        f.debug_struct("BackplaneConfig")
            .field("prefix", prefix)
            .field("timeout", timeout)
            .field("trust", trust)
            .finish_non_exhaustive()
    }
}

/// Where a server's numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAt {
    /// Nowhere.
    Nowhere,
    /// At the port that everything is at.
    MainPort,
    /// On a listener of their own.
    Address {
        /// The address or name to bind.
        host: String,
        /// The port; 0 picks a free one.
        port: u16,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            allowed_hosts: Vec::new(),
            cors: Vec::new(),
            cors_headers: Vec::new(),
            max_connections: 0,
            max_connections_per_address: None,
            trusted_proxies: Vec::new(),
            forwarded: Family::X,
            max_head_bytes: 16 * 1024,
            max_event_bytes: MAX_EVENT_BYTES,
            max_streams: 1_000_000,
            max_created_streams: 16_384,
            max_body_bytes: 1 << 20,
            handler_queue: 1024,
            header_timeout: Duration::from_secs(10),
            wait: Duration::ZERO,
            settle: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            publish_wait: Some(Duration::from_secs(2)),
            heartbeat_pace: 1,
            shards: 0,
            chunked: true,
            reuse_port: false,
            health: Some("/healthz".to_owned()),
            ready: Some("/readyz".to_owned()),
            metrics: MetricsAt::Nowhere,
            metrics_key: None,
            access_log: false,
            backplane: None,
            stream: StreamOptions::default(),
            store: None,
            durable: Durable::Process,
            streams: Vec::new(),
        }
    }
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Somebody listens there already.
    #[error("cannot listen on {address}: {occupant}")]
    AddressInUse {
        /// The address asked for.
        address: String,
        /// Who that is, as far as it can be told, and what to do.
        occupant: String,
    },
    /// The host can be no name and no address.
    #[error("host={host:?} is not allowed: it must be a name or an address; 0.0.0.0 is every address of this machine")]
    BadHost {
        /// The host asked for.
        host: String,
    },
    /// The system does not allow it.
    #[error("cannot listen on {address}: no permission; ports below 1024 need privileges")]
    NoPermission {
        /// The address asked for.
        address: String,
    },
    /// The host is not an address of this machine.
    #[error("cannot listen on {address}: {reason}")]
    BadAddress {
        /// The address asked for.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// A pattern that options are given by is none.
    #[error("streams: {0}")]
    BadPattern(#[from] PatternError),
    /// An option that is given by a pattern is wrong.
    #[error("streams[{pattern:?}]: {error}")]
    BadOption {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        error: OptionError,
    },
    /// The backplane's server cannot be reached, or is none that can be used.
    #[error("cannot reach the backplane: {reason}")]
    Backplane {
        /// What happened, with the server's address and without a password, and what to do.
        reason: String,
    },
    /// What the backplane is told is wrong.
    #[error("backplane: {reason}")]
    BadBackplane {
        /// What is wrong.
        reason: String,
    },
    /// The folder cannot be the store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Anything else the system refused.
    #[error("cannot start: {attempt}: {source}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
