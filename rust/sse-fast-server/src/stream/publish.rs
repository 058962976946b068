//! Publishing: append under the lock, then wake each shard that has subscribers, at most once.
//!
//! At most once: a dirty flag for this stream and shard, cleared before the log is read; a latch
//! for the shard, cleared before its list of dirty streams is taken.
//!
//! # Waiting for room
//! Publish waits for shards in two cases, at most `publish_wait` each time, and never for a socket
//! that takes nothing:
//! - before the log overwrites what a shard has not yet offered to its subscribers: or a plain
//!   loop of ten thousand publishes would not reach every healthy reader whole;
//! - while more than [`MAX_UNOFFERED_BYTES`] were appended since the walks last ended: running
//!   further ahead of the shards makes events old and nothing faster.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use sse_fast_core::error::EventError;
use sse_fast_core::event::{self, CheckedEvent, NewEvent};
use sse_fast_core::id::IdText;
use sse_fast_core::stream::{Prepared, Scratch, StreamState};
use thiserror::Error;

use super::{Inner, Stream};
use crate::clock::coarse_ms;

/// How far publishers may run ahead of the walks: what a socket takes unread twice over
/// (`TCP_NOTSENT_LOWAT`). A walk then carries 16 KiB in each `send()`, where a byte costs a tenth
/// of what it costs alone; more would only make the events older.
const MAX_UNOFFERED_BYTES: u64 = 32 * 1024;

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

    /// Tells publishers that a floor rose.
    pub(crate) fn room_rose(&self) {
        // The lock makes sure that a publisher is either before its look or already waiting.
        drop(self.inner());
        self.0.room.notify_all();
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
        if self.must_wait(&inner.state, &prepared) {
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
        prepared: &mut Prepared,
        event: &CheckedEvent<'_>,
        patience: Duration,
    ) -> Result<MutexGuard<'a, Inner>, PublishError> {
        let began = Instant::now();
        let outcome = loop {
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                break Ok(true);
            }
            self.announce_wait(&inner.state, prepared);
            // Looked at once more: a walk may have ended before the announcement was seen.
            if self.must_wait(&inner.state, prepared) {
                inner = self.0.room.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if let Err(error) = self.writable(&inner) {
                break Err(error);
            }
            // Others may have published meanwhile: this event's place, and so its id, is another.
            *prepared = SCRATCH.with_borrow_mut(|scratch| inner.state.prepare(scratch, event));
            if !self.must_wait(&inner.state, prepared) {
                break Ok(false);
            }
        };
        if !patience.is_zero() {
            self.0.hub.count_wait(began.elapsed(), matches!(outcome, Ok(true)));
        }
        outcome.map(|_| inner)
    }

    /// Whether a shard is to be waited for before `prepared` is appended.
    fn must_wait(&self, state: &StreamState, prepared: &Prepared) -> bool {
        let first_after = state.first_after(prepared);
        if self.0.hub.config.publish_wait.is_zero() {
            return false;
        }
        let overwrites = first_after > state.log().first();
        let appended = state.log().appended();
        self.0.seats.iter().zip(self.0.hub.shards()).any(|(seat, shard)| {
            let owes = overwrites && seat.owes(first_after);
            (owes || seat.behind(appended, MAX_UNOFFERED_BYTES)) && shard.works()
        })
    }

    /// Tells the shards that are waited for.
    fn announce_wait(&self, state: &StreamState, prepared: &Prepared) {
        let first_after = state.first_after(prepared);
        for (seat, shard) in self.0.seats.iter().zip(self.0.hub.shards()) {
            if seat.behind(state.log().appended(), MAX_UNOFFERED_BYTES) {
                seat.wait_for_walk();
            }
            if seat.owes(first_after) && !seat.waiting.swap(true, Ordering::AcqRel) {
                shard.ask_for_room(self);
            }
        }
    }
}
