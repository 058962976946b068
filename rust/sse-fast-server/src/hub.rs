//! What every part of a running server shares: the streams by name, the shards, the counters.
//!
//! Nothing here is global: a process may run several servers. The map's lock is held for a look
//! or an insert; whoever needs a stream clones its handle out.
//!
//! # Forgetting
//! An ended stream answers late readers for `linger`; an open one with `expire` is forgotten that
//! long after its last event or subscriber. Both are due times in a heap that `server` sweeps.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use sse_fast_core::error::OptionError;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{StreamOptions, StreamPatch};
use thiserror::Error;

use crate::clock::{coarse_ms, unix_us};
use crate::config::Config;
use crate::logs::Logs;
use crate::shard::ShardHandle;
use crate::stream::{Shared, Stream};
use crate::sync::lock;
use crate::waiting::Waiting;

/// The longest name a stream may have, in bytes: it travels in a request line.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// Why a stream could not be had.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The name cannot be one.
    #[error("a stream's name must be 1 to {MAX_NAME_BYTES} bytes without control characters: got {name:?}")]
    Name {
        /// What was given.
        name: String,
    },
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The server was closed.
    #[error("cannot open stream {name:?}: the server is closed")]
    Closed {
        /// The stream's name.
        name: String,
    },
}

pub(crate) struct Hub {
    pub(crate) config: Config,
    /// The default options, shared by every stream that is told nothing else.
    defaults: Arc<StreamOptions>,
    shards: Vec<ShardHandle>,
    /// The streams by name.
    streams: RwLock<HashSet<Named>>,
    /// Readers that wait for a name to appear.
    pub(crate) waiting: Waiting,
    /// When to look whether a stream is to be forgotten, soonest first, in coarse milliseconds.
    due: Mutex<BinaryHeap<Due>>,
    /// The newest epoch given; later lives get greater ones whatever the clock does.
    epoch: AtomicU64,
    /// Set once; publishing ends. Acquire and release, so that what follows sees it.
    closed: AtomicBool,
    pub(crate) logs: Logs,
    pub(crate) totals: Totals,
}

/// Counters that belong to no shard; relaxed: numbers for people.
#[derive(Default)]
pub(crate) struct Totals {
    /// Events of streams that were forgotten.
    pub(crate) forgotten: AtomicU64,
    pub(crate) publish_waits: AtomicU64,
    pub(crate) publish_wait_timeouts: AtomicU64,
    pub(crate) publish_wait_us: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Connections that HTTP still has.
    pub(crate) parsing: AtomicUsize,
    /// Connections given to shards, which take turns.
    pub(crate) handed_over: AtomicUsize,
}

/// A stream under its own name: the set needs no second copy of it.
struct Named(Stream);

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Named {}

/// A time to look at a stream.
struct Due(Reverse<u64>, Weak<Shared>);

impl Hub {
    pub(crate) fn new(config: Config, shards: Vec<ShardHandle>, logs: Logs) -> Self {
        Self {
            defaults: Arc::new(config.stream.clone()),
            config,
            shards,
            streams: RwLock::default(),
            waiting: Waiting::default(),
            due: Mutex::default(),
            epoch: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            logs,
            totals: Totals::default(),
        }
    }

    pub(crate) fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// A new life's epoch: the time in microseconds, and always greater than the last.
    pub(crate) fn next_epoch(&self) -> Epoch {
        let now = unix_us();
        let previous = self.epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        Epoch(now.max(previous.unwrap_or_else(|last| last) + 1))
    }

    /// Gets or creates a stream; options given are put in force either way.
    pub(crate) fn stream(self: &Arc<Self>, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        if let Some(stream) = self.find(name) {
            stream.configure(patch)?;
            return Ok(stream);
        }
        check_name(name)?;
        let options = self.options(patch)?;
        let mut streams = self.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.closed() {
            return Err(StreamError::Closed { name: name.to_owned() });
        }
        let found = streams.get(name).map(|named| named.0.clone());
        let stream = found.unwrap_or_else(|| {
            let stream = Stream::new(name, Arc::clone(self), options);
            streams.insert(Named(stream.clone()));
            stream
        });
        drop(streams);
        self.expire_later(&stream);
        self.waiting.appeared(name);
        Ok(stream)
    }

    /// A stream without a name that leads to it.
    pub(crate) fn unnamed(self: &Arc<Self>, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        Ok(Stream::new(name, Arc::clone(self), self.options(patch)?))
    }

    /// The stream of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Stream> {
        self.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(name).map(|named| named.0.clone())
    }

    /// Every stream, in no order.
    pub(crate) fn streams(&self) -> Vec<Stream> {
        self.streams
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .iter()
            .map(|named| named.0.clone())
            .collect()
    }

    /// Takes the name away from a stream, if it still leads to it.
    pub(crate) fn remove(&self, stream: &Stream) {
        let mut streams = self.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if streams.get(stream.name()).is_some_and(|named| named.0.same(stream)) {
            streams.remove(stream.name());
            drop(streams);
            let published = stream.inner().state.newest();
            self.totals.forgotten.fetch_add(published, Ordering::Relaxed);
        }
    }

    /// An ended stream is forgotten after its linger.
    pub(crate) fn forget_later(&self, stream: &Stream) {
        let linger = stream.inner().state.options().linger;
        self.look_again(stream, coarse_ms() + millis(linger));
    }

    fn expire_later(&self, stream: &Stream) {
        if let Some(expire) = stream.inner().state.options().expire {
            self.look_again(stream, coarse_ms() + millis(expire));
        }
    }

    fn look_again(&self, stream: &Stream, at: u64) {
        lock(&self.due).push(Due(Reverse(at), Arc::downgrade(&stream.0)));
    }

    /// Forgets the streams that are due.
    pub(crate) fn sweep(&self) {
        let now = coarse_ms();
        loop {
            let mut due = lock(&self.due);
            if due.peek().is_none_or(|next| next.0.0 > now) {
                return;
            }
            let next = due.pop();
            drop(due);
            if let Some(stream) = next.and_then(|next| next.1.upgrade()).map(Stream) {
                self.forget_or_look_again(&stream, now);
            }
        }
    }

    fn forget_or_look_again(&self, stream: &Stream, now: u64) {
        let (ended, linger, expire) = {
            let inner = stream.inner();
            let options = inner.state.options();
            (inner.state.ended(), millis(options.linger), options.expire.map(millis))
        };
        let idle_since = if stream.subscribers() > 0 && !ended { now } else { stream.touched() };
        match (if ended { Some(linger) } else { expire }).map(|wait| idle_since + wait) {
            Some(at) if at > now => self.look_again(stream, at),
            Some(_) => stream.remove(),
            None => {}
        }
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends publishing and wakes whoever waits.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for stream in self.streams() {
            stream.wake_all();
        }
        self.waiting.close();
    }

    /// Forgets every stream: nothing of the server is left but what the application holds.
    pub(crate) fn clear(&self) {
        self.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        lock(&self.due).clear();
    }

    pub(crate) fn count_wait(&self, waited: Duration, timed_out: bool) {
        let totals = &self.totals;
        totals.publish_waits.fetch_add(1, Ordering::Relaxed);
        totals.publish_wait_timeouts.fetch_add(u64::from(timed_out), Ordering::Relaxed);
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        totals.publish_wait_us.fetch_add(waited, Ordering::Relaxed);
    }

    fn options(&self, patch: &StreamPatch) -> Result<Arc<StreamOptions>, OptionError> {
        if *patch == StreamPatch::default() {
            return Ok(Arc::clone(&self.defaults));
        }
        self.defaults.patched(patch).map(Arc::new)
    }
}

/// Whether a name may be a stream's.
pub(crate) fn check_name(name: &str) -> Result<(), StreamError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(StreamError::Name { name: name.chars().take(80).collect() });
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
