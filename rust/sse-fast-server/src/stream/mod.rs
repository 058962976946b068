//! A stream as threads share it: its state under one short lock, and a seat for each shard.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the handle, what it shares, its options, its numbers, its readers in this process |
//! | `publish` | appending, and waiting for room before it |
//! | `seat` | what a shard and the publishers tell each other |
//! | `heartbeat` | the heartbeat in force: the options' or the innermost override |
//!
//! # Locking
//! `inner` protects the state and who waits for it. Under it nobody writes to a socket, logs,
//! waits (but on the condition variables, which release it) or takes another stream's lock.

mod heartbeat;
mod publish;
mod seat;

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use compact_str::CompactString;
use smallvec::SmallVec;
use sse_fast_core::error::OptionError;
use sse_fast_core::options::{StreamOptions, StreamPatch};
use sse_fast_core::stream::StreamState;

pub use self::heartbeat::HeartbeatError;
use self::heartbeat::HeartbeatOverride;
pub(crate) use self::heartbeat::{Heartbeat, HeartbeatForm};
pub use self::publish::{PublishError, Published};
pub(crate) use self::seat::{NO_MEMBER, Seat};
use crate::clock::coarse_ms;
use crate::hub::Hub;
use crate::stats::StreamStats;
use crate::sync::lock;

/// A stream; a handle, cheap to clone.
#[derive(Clone)]
pub struct Stream(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    /// Held right here where it is short.
    pub(crate) name: CompactString,
    pub(crate) hub: Arc<Hub>,
    /// See "Locking".
    inner: Mutex<Inner>,
    /// Publishers that wait for room; with `inner`.
    room: Condvar,
    /// Readers in this process that wait for news; with `inner`.
    news: Condvar,
    /// One for each shard, in the shards' order.
    pub(crate) seats: SmallVec<[Seat; 2]>,
    /// When the last event was published, in coarse milliseconds; relaxed: a number for people.
    touched: AtomicU64,
}

pub(crate) struct Inner {
    pub(crate) state: StreamState,
    /// Whether the name no longer leads here.
    pub(crate) removed: bool,
    /// Readers in this process that wait on `news` right now.
    readers: u32,
    /// What few streams have.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    /// Heartbeat overrides, outermost first.
    heartbeats: Vec<HeartbeatOverride>,
    next_token: u64,
    /// Write ends of asyncio readers; one byte wakes each.
    wakers: Vec<UnixStream>,
}

impl Stream {
    pub(crate) fn new(name: &str, hub: Arc<Hub>, options: Arc<StreamOptions>) -> Self {
        let state = StreamState::new(hub.next_epoch(), options);
        let seats = hub.shards().iter().map(|_| Seat::new()).collect();
        Self(Arc::new(Shared {
            name: name.into(),
            hub,
            inner: Mutex::new(Inner { state, removed: false, readers: 0, extra: None }),
            room: Condvar::new(),
            news: Condvar::new(),
            seats,
            touched: AtomicU64::new(coarse_ms()),
        }))
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Puts other options in force.
    pub(crate) fn configure(&self, patch: &StreamPatch) -> Result<(), OptionError> {
        if *patch == StreamPatch::default() {
            return Ok(());
        }
        let mut inner = self.inner();
        let options = inner.state.options().patched(patch)?;
        inner.state.set_options(Arc::new(options));
        drop(inner);
        self.retune();
        Ok(())
    }

    /// Subscribers on sockets now.
    pub fn subscribers(&self) -> usize {
        self.0.seats.iter().map(|seat| seat.subscribers.load(Ordering::Relaxed) as usize).sum()
    }

    /// The id of the newest event; `None` where nothing was published.
    pub fn last_id(&self) -> Option<String> {
        let inner = self.inner();
        let newest = inner.state.newest();
        let frame = inner.state.log().get(newest)?;
        match sse_fast_core::wire::id_of(frame.plain()) {
            Some(id) => Some(String::from_utf8_lossy(id).into_owned()),
            None => Some(inner.state.id_at(newest).as_str().to_owned()),
        }
    }

    /// Whether the terminal event was published.
    pub fn ended(&self) -> bool {
        self.inner().state.ended()
    }

    /// Forgets the name at once; subscribers get what was published, then their end. The name's
    /// next life has a new epoch.
    pub fn remove(&self) {
        self.0.hub.remove(self);
        self.inner().removed = true;
        self.mark_dirty();
        self.wake_readers(&mut self.inner());
    }

    /// What the stream is doing.
    pub fn stats(&self) -> StreamStats {
        let inner = self.inner();
        let (log, touched) = (inner.state.log(), self.0.touched.load(Ordering::Relaxed));
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of uptime are far below 2^52")]
        let silent_s = coarse_ms().saturating_sub(touched) as f64 / 1000.0;
        StreamStats {
            subscribers: self.subscribers() as u64,
            published: log.newest(),
            retained: log.newest() + 1 - log.first(),
            retained_bytes: log.bytes() as u64,
            ended: inner.state.ended(),
            silent_s,
        }
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0.inner)
    }

    /// Whether two handles lead to the same stream.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Coarse milliseconds of the last event, or of the stream's making.
    pub(crate) fn touched(&self) -> u64 {
        self.0.touched.load(Ordering::Relaxed)
    }

    /// A reader's end of a pair whose other end gets a byte when there is news.
    pub(crate) fn add_waker(&self) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.inner().extra.get_or_insert_default().wakers.push(ours);
        Ok(theirs)
    }

    /// Waits for news until `until`; the caller looks again either way.
    pub(crate) fn wait_for_news<'a>(&self, mut inner: MutexGuard<'a, Inner>, limit: Duration) -> MutexGuard<'a, Inner> {
        inner.readers += 1;
        let (mut inner, _) = self.0.news.wait_timeout(inner, limit).unwrap_or_else(PoisonError::into_inner);
        inner.readers -= 1;
        inner
    }

    /// Wakes everything that waits for this stream: the server is closing.
    pub(crate) fn wake_all(&self) {
        self.wake_readers(&mut self.inner());
        self.0.room.notify_all();
        self.mark_dirty();
    }

    fn mark_dirty(&self) {
        for (seat, shard) in self.0.seats.iter().zip(self.0.hub.shards()) {
            if seat.subscribers.load(Ordering::Acquire) > 0 && !seat.dirty.swap(true, Ordering::AcqRel) {
                shard.mark_dirty(self);
            }
        }
    }

    fn wake_readers(&self, inner: &mut Inner) {
        if inner.readers > 0 {
            self.0.news.notify_all();
        }
        if let Some(extra) = &mut inner.extra {
            // A full pair already says that there is news; a broken one has no reader any more.
            extra.wakers.retain_mut(|waker| match std::io::Write::write(waker, &[1]) {
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            });
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({:?})", self.name())
    }
}
