//! A stream as one shard sees it: its subscribers here, and how far they have been walked.
//!
//! # Whom a publisher waits for
//! Before a log overwrites an event, `publish` waits until each shard has offered it to everybody
//! who is *held*: a subscriber whose socket takes bytes; and one whose socket is full, for as long
//! as `hold` says, while its lag is within `max_lag`, and unless its policy is to get the newest
//! alone. So a reader that is merely slower than a tight loop gets everything, and one that stalls
//! costs the publisher one wait, once in a while.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use slab::Slab;
use smallvec::SmallVec;
use sse_fast_core::frame::Frame;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::id::Position;
use sse_fast_core::lag;
use sse_fast_core::options::OnLag;
use sse_fast_core::stream::StreamState;
use sse_fast_core::wire;

use super::subscriber::Subscriber;
use crate::clock::in_ticks;
use crate::stream::{Heartbeat, HeartbeatForm, Seat, Stream};

pub(super) struct Member {
    pub(super) stream: Stream,
    /// The keys of its subscribers here, in no order; the few of a small stream lie right here.
    pub(super) subscribers: SmallVec<[u32; 4]>,
    /// Every ready subscriber has been given everything below this position.
    pub(super) low: Position,
    /// How many of them are blocked.
    pub(super) blocked: u32,
    /// The heartbeat in force.
    pub(super) beat: Option<Rc<Beat>>,
    /// Whether it is on the list of those to be walked.
    pub(super) walking: Walking,
    /// Whether there is news that the walk under way may have missed.
    pub(super) dirty: bool,
}

/// Where a member is with its walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walking {
    /// Not on the list.
    No,
    /// On the list, or at rest; the walk will see all that is there when it begins.
    Queued,
    /// Under way.
    Begun,
}

/// A walk over a member's subscribers, from the last to the first: leaving moves the last one
/// into the hole, and that one was visited already.
pub(super) struct Walk {
    /// Whose subscribers.
    pub(super) member: u32,
    /// Subscribers at and beyond this index were visited.
    pub(super) at: usize,
    /// The lowest position any chunk of the walk reached.
    pub(super) low: Position,
    /// The least amount of bytes any chunk of the walk reached, of all ever appended.
    pub(super) offered: u64,
    /// When it began, where that is worth a look at the clock.
    pub(super) began: Option<Instant>,
}

impl Walk {
    /// A walk over a member's `count` subscribers that has not begun.
    pub(super) fn over(member: u32, count: usize) -> Self {
        Self { member, at: count, low: Position::MAX, offered: u64::MAX, began: None }
    }
}

/// A heartbeat made ready for writing; shared by every member that has the same.
pub(super) struct Beat {
    heartbeat: Heartbeat,
    pub(super) interval: Tick,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// Always the same bytes.
    Frame(Frame),
    /// An event that tells the time.
    Event(Box<str>),
}

impl Member {
    pub(super) fn new(stream: Stream, low: Position, beat: Option<Rc<Beat>>) -> Self {
        Self { stream, subscribers: SmallVec::new(), low, blocked: 0, beat, walking: Walking::No, dirty: false }
    }

    pub(super) fn seat(&self, shard: usize) -> &Seat {
        &self.stream.0.seats[shard]
    }

    /// Raises the floor after a walk where nobody is blocked: the usual case costs one store.
    pub(super) fn walked(&self, shard: usize) {
        if self.blocked == 0 {
            self.seat(shard).floor.store(self.low, Ordering::Release);
        }
    }

    /// A subscriber at `cursor` must be given what follows.
    pub(super) fn lower_floor(&self, shard: usize, cursor: Position) {
        let floor = &self.seat(shard).floor;
        if floor.load(Ordering::Relaxed) > cursor {
            floor.store(cursor, Ordering::Release);
        }
    }

    /// The position below which nobody who is held is owed anything.
    pub(super) fn floor(&self, subscribers: &Slab<Subscriber>, state: &StreamState, now: Tick) -> Position {
        let (newest, options) = (state.newest(), state.options());
        let lag_is_tighter = options.max_lag < options.history as u64;
        let held = |subscriber: &&Subscriber| match &subscriber.blocked {
            None => true,
            // Who will be skipped anyway, or wants the newest alone, is not waited for.
            Some(blocked) => {
                options.on_lag != OnLag::Latest
                    && subscriber.hold.lasts(now)
                    && !(lag_is_tighter && lag::behind(newest, subscriber.cursor, blocked.since) > options.max_lag)
            }
        };
        let keys = self.subscribers.iter();
        let cursors = keys.filter_map(|&key| subscribers.get(key as usize)).filter(held).map(|held| held.cursor);
        cursors.min().unwrap_or(Position::MAX)
    }
}

impl Beat {
    /// The heartbeat made ready; `like` is reused where it is the same.
    pub(super) fn of(heartbeat: Option<Heartbeat>, like: Option<&Rc<Self>>) -> Option<Rc<Self>> {
        let heartbeat = heartbeat?;
        if let Some(like) = like.filter(|like| like.heartbeat == heartbeat) {
            return Some(Rc::clone(like));
        }
        let body = match &heartbeat.form {
            HeartbeatForm::Comment { text, ids } => {
                let mut block = Vec::new();
                let blank_line = if *ids { wire::BlankLine::LeftOut } else { wire::BlankLine::Written };
                wire::heartbeat(&mut block, text, blank_line);
                Body::Frame(Frame::of(&block))
            }
            HeartbeatForm::Event(name) => Body::Event(name.clone()),
        };
        Some(Rc::new(Self { interval: in_ticks(heartbeat.every), heartbeat, body }))
    }
}
