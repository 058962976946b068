//! The shell of `sse_fast`: sockets, threads, HTTP and child processes around the pure core.
//!
//! Knows no Python. One control thread (tokio) accepts, parses with hyper, waits for streams and
//! handlers, and reads children; a connection that turns out to be a subscription goes to a shard,
//! a thread with its own poll, which keeps it until it ends.
//!
//! | module | owns |
//! |---|---|
//! | [`server`] | threads from start to close |
//! | `directory`, `expiry` | the streams by name, and when they are forgotten; what all parts share |
//! | `mailbox`, `delivery` | how threads leave things for shards |
//! | [`idempotency`] | what was published under a key, once |
//! | [`store`] | the folder in which streams are kept across restarts |
//! | [`stream`], [`reader`] | a stream under its lock; reading it in this process |
//! | [`presence`] | who comes and goes, on its way to callbacks |
//! | `shard` | subscribers: writing, catching up, heartbeats |
//! | [`rights`], `admitted`, `pattern` | who may read, as what, and names in patterns |
//! | `listener`, `accept`, `socket`, `connection`, `hand_over` | sockets before a shard has them |
//! | `admission`, `addresses` | how many connections there may be, in all and of one address |
//! | `forwarded`, `network` | who a request is from, where proxies pass it on |
//! | `unreadable` | what is answered to bytes that are no request |
//! | `request`, `access`, `respond`, [`route`], `dispatch` | from a request to the endpoint that answers it |
//! | `route_stream`, `several`, `body`, `handler_call`, `json_form`, `response` | what an endpoint answers |
//! | `publish_api` | publishing from elsewhere, over HTTP |
//! | `waiting`, `resumable` | readers that came before their stream; readers that come back to one without a name |
//! | `access_log` | a line for each request |
//! | `operate`, `durations` | health and metrics, for operators; how long things took |
//! | `backplane` | streams that several processes share through a server |
//! | [`run`] | child processes |
//! | [`calls`], [`logs`] | what the application's threads take from the engine |
//! | [`config`], [`stats`], `clock`, `sync` | settings, numbers, time, locks |
//!
//! A build with `--cfg loom` is for the models of what threads share (tests named `loom_…`): tokio has no sockets there,
//! so what stands before the shards is left out.

#![cfg_attr(loom, allow(dead_code, unused_imports, reason = "what is left out uses them"))]
#![cfg_attr(loom, allow(clippy::expect_used, reason = "a loom build is nothing but tests"))]

#[cfg(not(loom))]
mod accept;
#[cfg(not(loom))]
mod access;
mod access_log;
mod addresses;
#[cfg(not(loom))]
mod admission;
mod admitted;
mod backplane;
#[cfg(not(loom))]
mod body;
pub mod calls;
mod clock;
pub mod config;
#[cfg(not(loom))]
mod connection;
#[cfg(not(loom))]
mod cors;
mod delivery;
mod directory;
#[cfg(not(loom))]
mod dispatch;
mod durations;
mod expiry;
#[cfg(not(loom))]
mod forwarded;
#[cfg(not(loom))]
mod hand_over;
#[cfg(not(loom))]
mod handler_call;
pub mod idempotency;
#[cfg(not(loom))]
mod json_form;
#[cfg(not(loom))]
mod listener;
pub mod logs;
mod mailbox;
mod network;
#[cfg(not(loom))]
mod operate;
mod pattern;
pub mod presence;
#[cfg(not(loom))]
mod publish_api;
pub mod reader;
#[cfg(not(loom))]
mod reason;
#[cfg(not(loom))]
mod refusals;
#[cfg(not(loom))]
mod request;
#[cfg(not(loom))]
mod respond;
#[cfg(not(loom))]
mod response;
mod resumable;
pub mod rights;
#[cfg(not(loom))]
pub mod route;
#[cfg(not(loom))]
mod route_stream;
#[cfg(not(loom))]
pub mod run;
#[cfg(not(loom))]
pub mod server;
#[cfg(not(loom))]
mod several;
mod shard;
mod shown;
#[cfg(all(test, not(loom)))]
mod simulation;
#[cfg(not(loom))]
mod sink;
#[cfg(not(loom))]
mod socket;
pub mod stats;
pub mod store;
pub mod stream;
mod sync;
#[cfg(not(loom))]
mod transient;
#[cfg(not(loom))]
mod unreadable;
mod waiting;

#[cfg(not(loom))]
pub use calls::{Call, Calls, ExistsReply, Lane, Limits, Pairs, Received, Reply, RequestParts, Watched};
pub use config::{BackplaneConfig, Config, MetricsAt, StartError};
pub use directory::StreamError;
pub use idempotency::{Begun, Ids, MAX_KEY_BYTES, SharedKey, UnderWay, is_key};
pub use logs::{Level, LogRecord, Logs};
pub use network::{Family, Network, NoNetwork};
pub use pattern::PatternError;
pub use presence::{Presence, PresenceEvent, ReaderName};
pub use reader::{ReadFrom, ReadOutcome, Reader};
pub use rights::{
    Algorithm, FetchOrder, Key, KeyError, KeySource, Keys, MAX_KEYS, RightsConfig, TokenRules, check_secret,
};
#[cfg(not(loom))]
pub use route::{HandlerKind, HandlerSpec, RouteError, RouteSpec};
#[cfg(not(loom))]
pub use run::{Run, RunError, RunSpec};
#[cfg(not(loom))]
pub use server::Server;
pub use sse_fast_core::error::{EventError, OptionError};
pub use sse_fast_core::event::NewEvent;
pub use sse_fast_core::options::{OnLag, Start, StreamOptions, StreamPatch};
pub use sse_fast_core::stream::Part;
pub use sse_fast_core::wire::Decoded;
pub use stats::{BackplaneStats, Stats, StreamStats};
pub use store::{Durable, Export, OpenError, StoreError, read_folder};
pub use stream::{
    Account, Appended, Caller, EmptyOutcome, HeartbeatError, KeptSoon, MAX_TOGETHER, OwnedEvent, PublishError,
    Published, Publishing, PublishingMany, Stream, TaskHandOver, TaskProgress, TaskPublish, TaskSleep, Wakeups, Watch,
};
