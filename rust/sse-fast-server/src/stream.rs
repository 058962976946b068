//! A stream as threads share it: its state under one short lock, and a seat for each shard.
//!
//! # Publishing
//! Append under the lock, then wake each shard that has subscribers, at most once: a dirty flag
//! for this stream and shard, cleared before the log is read; a latch for the shard, cleared
//! before its list of dirty streams is taken.
//!
//! # Waiting for room
//! Before the log overwrites what a shard has not yet offered to its subscribers, publish waits,
//! at most `publish_wait`. A seat's `floor` is a position below which the shard owes nothing to
//! anybody it still waits for; it may be too low (then publish asks the shard to look), never too
//! high. Whom a shard waits for, and for how long, is decided in `shard::seat` alone.
//!
//! # Locking
//! `inner` protects the state and who waits for it. Under it nobody writes to a socket, logs,
//! waits (but on the condition variables, which release it) or takes another stream's lock.

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use sse_fast_core::error::{EventError, OptionError};
use sse_fast_core::event::{self, CheckedEvent, NewEvent};
use sse_fast_core::id::{IdText, Position};
use sse_fast_core::options::{MIN_HEARTBEAT, StreamOptions, StreamPatch};
use sse_fast_core::stream::{Scratch, StreamState};
use thiserror::Error;

use crate::clock::coarse_ms;
use crate::hub::Hub;
use crate::stats::StreamStats;
use crate::sync::lock;

/// A stream; a handle, cheap to clone.
#[derive(Clone)]
pub struct Stream(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) name: Box<str>,
    pub(crate) hub: Arc<Hub>,
    /// See "Locking".
    inner: Mutex<Inner>,
    /// Publishers that wait for room; with `inner`.
    room: Condvar,
    /// Readers in this process that wait for news; with `inner`.
    news: Condvar,
    /// One for each shard, in the shards' order.
    pub(crate) seats: Box<[Seat]>,
    /// When the last event was published, in coarse milliseconds; relaxed: a number for people.
    touched: AtomicU64,
}

/// What a shard and the publishers tell each other about this stream.
pub(crate) struct Seat {
    /// Subscribers of this shard; raised under the stream's lock, where a new one reads the log, so
    /// that whoever appends later sees it, and whoever saw it appends for it.
    pub(crate) subscribers: AtomicU32,
    /// Whether the stream is on the shard's list of dirty streams.
    pub(crate) dirty: AtomicBool,
    /// Whether heartbeats must be looked at anew.
    pub(crate) retuned: AtomicBool,
    /// Whether a publisher waits for the floor to rise.
    pub(crate) waiting: AtomicBool,
    /// See "Waiting for room".
    pub(crate) floor: AtomicU64,
    /// The shard's own key for this stream, `u32::MAX` for none; written by the shard's thread only.
    pub(crate) member: AtomicU32,
}

/// No member.
pub(crate) const NO_MEMBER: u32 = u32::MAX;

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

struct HeartbeatOverride {
    token: u64,
    every: Duration,
    comment: Box<str>,
}

/// The heartbeat in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heartbeat {
    pub(crate) every: Duration,
    pub(crate) form: HeartbeatForm,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HeartbeatForm {
    Comment { text: Box<str>, ids: bool },
    Event(Box<str>),
}

/// Why an event was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Something is wrong with the event itself.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The stream has its terminal event.
    #[error("cannot publish into {stream:?}: the stream has ended")]
    Ended {
        /// The stream's name.
        stream: String,
    },
    /// The name was removed or expired; this life of it is over.
    #[error("cannot publish into {stream:?}: the stream was removed")]
    Removed {
        /// The stream's name.
        stream: String,
    },
    /// The server was closed.
    #[error("cannot publish into {stream:?}: the server is closed")]
    Closed {
        /// The stream's name.
        stream: String,
    },
    /// Only from `try_publish`: it would have to wait.
    #[error("publishing would have to wait")]
    WouldWait,
}

/// What publishing gives back: the event's id.
#[derive(Clone, Debug)]
pub enum Published {
    /// `<epoch>-<n>`.
    Ours(IdText),
    /// The caller's own.
    Own(Box<str>),
}

impl Published {
    /// The id as it stands on the wire.
    pub fn id(&self) -> &str {
        match self {
            Self::Ours(id) => id.as_str(),
            Self::Own(id) => id,
        }
    }
}

thread_local! {
    /// Encoding buffers; reused, so that a publish allocates its frame and nothing else.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
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

    /// Publishes without ever waiting: [`PublishError::WouldWait`] where it would have to.
    pub fn try_publish(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        let event = event::check(event)?;
        let inner = match self.0.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(PublishError::WouldWait),
        };
        self.append(inner, &event, None, false)
    }

    /// Publishes, waiting for shards for at most `publish_wait`; never for a socket that takes
    /// nothing.
    pub fn publish(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        let event = event::check(event)?;
        self.append(self.inner(), &event, Some(self.0.hub.config.publish_wait), false)
    }

    /// Publishes the terminal event and ends the stream.
    pub fn end(&self, data: &[u8], event: &str) -> Result<Published, PublishError> {
        let event = NewEvent { data, event: Some(event), ..NewEvent::default() };
        let event = event::check(&event)?;
        let published = self.append(self.inner(), &event, Some(self.0.hub.config.publish_wait), true)?;
        self.0.hub.forget_later(self);
        Ok(published)
    }

    /// Sets the snapshot: it stands for everything published so far. Subscribers of now get
    /// nothing; those to come get it first.
    pub fn snapshot(&self, data: &[u8], event: Option<&str>) -> Result<(), PublishError> {
        let name = event.unwrap_or("snapshot");
        event::check(&NewEvent { data, event: Some(name), ..NewEvent::default() })?;
        let Ok(text) = std::str::from_utf8(data) else { return Ok(()) };
        let mut inner = self.inner();
        self.writable(&inner)?;
        SCRATCH.with_borrow_mut(|scratch| inner.state.set_snapshot(scratch, name, text));
        Ok(())
    }

    /// Overrides the heartbeat until [`Stream::pop_heartbeat`] with the token returned; the
    /// innermost override is in force.
    pub fn push_heartbeat(&self, every: Duration, comment: &str) -> Result<u64, HeartbeatError> {
        event::one_line("comment", comment)?;
        if every < MIN_HEARTBEAT {
            return Err(HeartbeatError::TooShort { every });
        }
        let mut inner = self.inner();
        let extra = inner.extra.get_or_insert_default();
        let token = extra.next_token;
        extra.next_token += 1;
        extra.heartbeats.push(HeartbeatOverride { token, every, comment: comment.into() });
        drop(inner);
        self.retune();
        Ok(token)
    }

    /// Takes an override back, whichever it is.
    pub fn pop_heartbeat(&self, token: u64) {
        if let Some(extra) = &mut self.inner().extra {
            extra.heartbeats.retain(|heartbeat| heartbeat.token != token);
        }
        self.retune();
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

    /// The heartbeat in force; `None` where it is switched off.
    pub(crate) fn heartbeat(inner: &Inner) -> Option<Heartbeat> {
        let options = inner.state.options();
        // A blank line would make an event of a `retry:` that waits for its first event.
        let ids = options.ids || options.retry.is_some();
        if let Some(innermost) = inner.extra.as_ref().and_then(|extra| extra.heartbeats.last()) {
            let form = HeartbeatForm::Comment { text: innermost.comment.clone(), ids };
            return Some(Heartbeat { every: innermost.every, form });
        }
        let form = match &options.heartbeat_event {
            Some(name) => HeartbeatForm::Event(name.as_str().into()),
            None => HeartbeatForm::Comment { text: "heartbeat".into(), ids },
        };
        options.heartbeat.map(|every| Heartbeat { every, form })
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

    /// Tells publishers that a floor rose.
    pub(crate) fn room_rose(&self) {
        // The lock makes sure that a publisher is either before its look or already waiting.
        drop(self.inner());
        self.0.room.notify_all();
    }

    fn retune(&self) {
        for seat in &self.0.seats {
            seat.retuned.store(true, Ordering::Release);
        }
        self.mark_dirty();
    }

    fn writable(&self, inner: &Inner) -> Result<(), PublishError> {
        let stream = || self.name().to_owned();
        if inner.state.ended() {
            Err(PublishError::Ended { stream: stream() })
        } else if self.0.hub.closed() {
            Err(PublishError::Closed { stream: stream() })
        } else if inner.removed {
            Err(PublishError::Removed { stream: stream() })
        } else {
            Ok(())
        }
    }

    /// Appends once there is room, or once `patience` is over; without patience it does not wait.
    fn append(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        event: &CheckedEvent<'_>,
        patience: Option<Duration>,
        terminal: bool,
    ) -> Result<Published, PublishError> {
        self.writable(&inner)?;
        let mut prepared = SCRATCH.with_borrow_mut(|scratch| inner.state.prepare(scratch, event));
        if self.owed(&inner.state, inner.state.first_after(&prepared)) {
            let Some(patience) = patience else { return Err(PublishError::WouldWait) };
            inner = self.wait_for_room(inner, &mut prepared, event, patience)?;
        }
        let id = inner.state.append(prepared);
        if terminal {
            inner.state.end();
        }
        self.0.touched.store(coarse_ms(), Ordering::Relaxed);
        self.wake_readers(&mut inner);
        drop(inner);
        self.mark_dirty();
        Ok(match id {
            Some(id) => Published::Ours(id),
            None => Published::Own(event.id().unwrap_or_default().into()),
        })
    }

    fn wait_for_room<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner>,
        prepared: &mut sse_fast_core::stream::Prepared,
        event: &CheckedEvent<'_>,
        patience: Duration,
    ) -> Result<MutexGuard<'a, Inner>, PublishError> {
        let began = Instant::now();
        let mut first_after = inner.state.first_after(prepared);
        let outcome = loop {
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                break Ok(true);
            }
            self.ask_for_room(first_after);
            inner = self.0.room.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            if let Err(error) = self.writable(&inner) {
                break Err(error);
            }
            // Others may have published meanwhile: this event's place, and so its id, is another.
            *prepared = SCRATCH.with_borrow_mut(|scratch| inner.state.prepare(scratch, event));
            first_after = inner.state.first_after(prepared);
            if !self.owed(&inner.state, first_after) {
                break Ok(false);
            }
        };
        if !patience.is_zero() {
            self.0.hub.count_wait(began.elapsed(), matches!(outcome, Ok(true)));
        }
        outcome.map(|_| inner)
    }

    /// Whether appending, which leaves `first_after` the oldest, overwrites what a shard still owes.
    fn owed(&self, state: &StreamState, first_after: Position) -> bool {
        first_after > state.log().first() && self.0.seats.iter().any(|seat| seat.owes(first_after))
    }

    fn ask_for_room(&self, first_after: Position) {
        for (seat, shard) in self.0.seats.iter().zip(self.0.hub.shards()) {
            if seat.owes(first_after) && !seat.waiting.swap(true, Ordering::AcqRel) {
                shard.ask_for_room(self);
            }
        }
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

/// Why a heartbeat cannot be overridden so.
#[derive(Debug, Error)]
pub enum HeartbeatError {
    /// The comment cannot stand on one line.
    #[error(transparent)]
    Comment(#[from] EventError),
    /// More often than a heartbeat may be.
    #[error("every must be at least 0.001 s: got {} s", every.as_secs_f64())]
    TooShort {
        /// What was given.
        every: Duration,
    },
}

impl Seat {
    fn new() -> Self {
        Self {
            subscribers: AtomicU32::new(0),
            dirty: AtomicBool::new(false),
            retuned: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            floor: AtomicU64::new(Position::MAX),
            member: AtomicU32::new(NO_MEMBER),
        }
    }

    /// Acquire pairs with the shard's release: a floor is seen only after what it says was done.
    fn owes(&self, first_after: Position) -> bool {
        self.subscribers.load(Ordering::Acquire) > 0 && self.floor.load(Ordering::Acquire) < first_after
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({:?})", self.name())
    }
}
