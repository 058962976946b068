//! A stream as threads share it: its state under one short lock, and a link to each shard.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the handle, what it shares, its numbers |
//! | `publish` | publishing from a thread, and how it sleeps |
//! | `task` | publishing from a task of an event loop |
//! | `together` | publishing from a task of the engine's own, one event or several |
//! | `configure` | its options, changed |
//! | `elsewhere` | publishing where the log is elsewhere |
//! | `receive` | a stream as a copy of a log elsewhere |
//! | `attempt` | whether an event may be appended, and what it waits for |
//! | `what` | one event or several, encoded and appended |
//! | `outcome` | what that comes to |
//! | `kept`, `pending` | what of it the store has, and what the disk has not yet |
//! | `obstacle` | what stands in an event's way, and asking the shards to clear it |
//! | `role` | what an event is to its stream |
//! | `room` | who waits to append, and what that costs |
//! | `locked` | the lock while it is held |
//! | `wakes` | who is woken once it is free |
//! | `life` | claimed, handed out, left, removed, expired |
//! | `empty` | whether anybody reads it, and who is told that nobody does |
//! | `repeat` | publishing under a key |
//! | `readers` | who reads it, by name |
//! | `link` | what publishers and a shard tell each other |
//! | `silence` | its last signs of life, and whether it is stalled |
//! | `watch` | readers in this process that wait for news, and how all that wait sleep |
//! | `heartbeat` | the heartbeat in force: the options' or the innermost override |
//!
//! Must not know: shards, names, sockets; the way to all of them is `delivery`. A stream holds nothing that holds it. This file
//! is long because it declares what all of these share.
//!
//! # Locking
//! `inner` protects the state and who waits for it. Under it no socket is written to, nothing is logged, nothing is
//! waited for but the store's taking a batch (`kept`), nobody is woken, and no other stream's lock is taken.

mod attempt;
mod configure;
mod elsewhere;
mod empty;
mod heartbeat;
mod kept;
mod life;
mod link;
mod locked;
mod obstacle;
mod outcome;
mod pending;
mod publish;
mod readers;
mod receive;
mod repeat;
mod role;
mod room;
mod silence;
mod task;
mod together;
mod wakes;
mod watch;
mod what;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use compact_str::CompactString;
use smallvec::SmallVec;
use sse_fast_core::budget::Micros;
use sse_fast_core::id::{Epoch, Position};
use sse_fast_core::options::{StreamOptions, StreamPatch};
use sse_fast_core::stream::StreamState;
use sse_fast_core::wire::{self, Decoded};
use tokio::sync::oneshot;

pub use self::attempt::Caller;
#[cfg(test)]
pub(crate) use self::attempt::{Attempt, Progress};
pub use self::elsewhere::{MAX_TOGETHER, PublishingMany};
pub use self::empty::EmptyOutcome;
use self::empty::{Emptiness, WhenEmpty};
pub use self::heartbeat::HeartbeatError;
use self::heartbeat::HeartbeatOverride;
pub(crate) use self::heartbeat::{Heartbeat, HeartbeatForm};
pub(crate) use self::life::{Claim, Expired, HandedOut, WeakStream};
pub(crate) use self::link::Link;
pub(crate) use self::locked::Locked;
pub use self::outcome::{PublishError, Published};
pub use self::pending::{Appended, KeptSoon};
pub use self::publish::{Account, Publishing};
use self::readers::{Others, Readers};
pub(crate) use self::receive::resolved;
#[cfg(test)]
pub(crate) use self::role::Role;
use self::room::Room;
use self::silence::Signs;
pub(crate) use self::silence::Silence;
pub use self::task::{OwnedEvent, TaskHandOver, TaskProgress, TaskPublish};
pub(crate) use self::together::AppendedTogether;
use self::watch::Watchers;
pub use self::watch::{TaskSleep, Wakeups, Watch};
use crate::clock::{self, coarse_ms};
use crate::delivery::{Delivery, Notice, Ring, Since};
use crate::stats::StreamStats;
use crate::sync::Mutex;

/// A stream; a handle, cheap to clone.
#[derive(Clone)]
pub struct Stream(Arc<StreamShared>);

struct StreamShared {
    /// Held right here where it is short; empty where the stream has none.
    name: CompactString,
    kind: Kind,
    /// The way to the shards and the directory.
    delivery: Arc<Delivery>,
    /// See "Locking".
    inner: Mutex<Inner>,
    /// One for each shard, in the shards' order.
    links: SmallVec<[Link; 2]>,
    /// What `StreamState` says, for those who look a name up: they must not wait for the lock. Release and acquire: who
    /// sees it sees the stream complete.
    removed: AtomicBool,
    signs: Signs,
    /// What the directory knows this life by, among those of all its streams: its epoch, but for a copy's, whose epoch was
    /// given elsewhere, and may be another stream's as well.
    life: Epoch,
    /// Whether it is known that others read the copy than was told elsewhere. Relaxed: who is told reads the readers after.
    presence_told: AtomicBool,
    /// The next life of a copy whose log was lost elsewhere; set once, before this one is removed.
    successor: OnceLock<Stream>,
}

/// What leads to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its name.
    Named,
    /// No name: a handler hands it out.
    Nameless,
    /// The ids of its events, which its reader has: a generator fills it.
    Generated,
    /// It stands for another that is not known yet, or not made: the application is not told of it.
    StandIn,
}

/// What a stream's lock protects.
pub(crate) struct Inner {
    pub(crate) state: StreamState,
    /// What the first publisher that waits is waiting for.
    pub(crate) want: Want,
    /// Requests that will be subscribers in a moment.
    arriving: u32,
    /// Whether anybody reads it, or did.
    emptiness: Emptiness,
    /// What few streams have.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
struct Extra {
    /// Heartbeat overrides, outermost first.
    heartbeats: Vec<HeartbeatOverride>,
    next_override: u64,
    /// Publishers that wait.
    room: Room,
    /// Readers in this process that wait for news.
    watchers: Watchers,
    /// Subscribers of readers that have a name.
    readers: Readers,
    /// Those of other processes.
    others: Others,
    /// Told when the last subscriber has left.
    emptied: Vec<oneshot::Sender<()>>,
    /// Told when nobody has read it for a while.
    when_empty: WhenEmpty,
    /// The options that were given in this process to a copy, and do not live with its log.
    own_options: Option<Box<StreamPatch>>,
    /// What of it the store has.
    kept: Option<Box<kept::Kept>>,
    /// The newest position that this life took over from the one before.
    carried: Position,
    /// The newest event when it was last found stalled.
    stall_told: Option<Position>,
}

/// What a publisher waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// None waits.
    Nothing,
    /// That shards offer what was appended.
    Offers,
    /// That nobody is owed anything below this position.
    Floors(Position),
    /// To be told as soon as the shards have looked whether anybody is in its way.
    Answer,
}

impl Want {
    /// Whether a subscriber at `cursor` is in the way.
    pub(crate) fn is_above(self, cursor: Position) -> bool {
        matches!(self, Self::Floors(first) if cursor < first)
    }
}

impl Stream {
    /// A stream that its name leads to.
    pub(crate) fn new(name: &str, epoch: Epoch, delivery: &Arc<Delivery>, options: Arc<StreamOptions>) -> Self {
        Self::of_kind(Kind::Named, name, epoch, delivery, options)
    }

    pub(crate) fn of_kind(
        kind: Kind,
        name: &str,
        epoch: Epoch,
        delivery: &Arc<Delivery>,
        options: Arc<StreamOptions>,
    ) -> Self {
        Self::holding(kind, name, (StreamState::new(epoch, options), epoch), delivery)
    }

    /// A stream that its name leads to, and that was kept.
    pub(crate) fn of_state(name: &str, state: StreamState, delivery: &Arc<Delivery>) -> Self {
        let epoch = state.epoch();
        Self::holding(Kind::Named, name, (state, epoch), delivery)
    }

    /// The same with a state of its own, and what the directory is to know its life by.
    fn holding(kind: Kind, name: &str, (state, life): (StreamState, Epoch), delivery: &Arc<Delivery>) -> Self {
        debug_assert_eq!(kind == Kind::Nameless, name.is_empty(), "what has a name is known by it");
        let (want, emptiness) = (Want::Nothing, Emptiness::NOBODY_ASKED);
        Self(Arc::new(StreamShared {
            name: name.into(),
            kind,
            delivery: Arc::clone(delivery),
            inner: Mutex::new(Inner { state, want, arriving: 0, emptiness, extra: None }),
            links: delivery.doorbells.iter().map(|_| Link::new()).collect(),
            removed: AtomicBool::new(false),
            signs: Signs::new(coarse_ms()),
            life,
            presence_told: AtomicBool::new(true),
            successor: OnceLock::new(),
        }))
    }

    /// The stream's name; empty where it has none.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The stream in an error's text.
    pub(crate) fn shown(&self) -> String {
        if self.is_nameless() { "a nameless stream".to_owned() } else { format!("{:?}", self.name()) }
    }

    /// Whether only a handler can hand it out.
    pub fn is_nameless(&self) -> bool {
        self.0.kind == Kind::Nameless
    }

    /// Whether it stands for another, and the application is not told of it.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.0.kind == Kind::StandIn
    }

    /// Subscribers on sockets of this server now.
    pub fn subscribers(&self) -> usize {
        self.0.links.iter().map(|link| link.subscribers() as usize).sum()
    }

    /// The id of the newest event; `None` where nothing was published.
    pub fn last_id(&self) -> Option<String> {
        let inner = self.lock();
        (inner.state.newest() > 0).then(|| inner.state.last_id())
    }

    /// The newest event, where one was published.
    pub(crate) fn last_event(&self) -> Option<Decoded> {
        let inner = self.lock();
        inner.state.log().get(inner.state.newest()).map(|frame| wire::decode(frame.plain()))
    }

    /// Whether the terminal event was published.
    pub fn ended(&self) -> bool {
        self.lock().state.ended()
    }

    /// What the stream is doing.
    pub fn stats(&self) -> StreamStats {
        let inner = self.lock();
        let log = inner.state.log();
        let now = coarse_ms();
        StreamStats {
            subscribers: self.subscribers() as u64,
            published: log.newest(),
            retained: log.newest() + 1 - log.first(),
            retained_bytes: log.bytes() as u64,
            ended: inner.state.ended(),
            silent_s: self.silent(now).as_secs_f64(),
            stalled: self.is_stalled(&inner, now),
        }
    }

    /// Whether two handles lead to the same stream.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A number that no other stream has while this one is held: what event loops know it by.
    pub fn number(&self) -> u64 {
        Arc::as_ptr(&self.0).addr() as u64
    }

    /// Whether the stream is of the server whose delivery this is.
    pub(crate) fn belongs_to(&self, delivery: &Arc<Delivery>) -> bool {
        Arc::ptr_eq(&self.0.delivery, delivery)
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked::new(self, self.0.inner.lock())
    }

    fn try_lock(&self) -> Option<Locked<'_>> {
        self.0.inner.try_lock().map(|inner| Locked::new(self, inner))
    }

    /// Whether somebody holds the lock, for assertions.
    #[cfg(not(loom))]
    pub(crate) fn is_locked(&self) -> bool {
        self.0.inner.is_locked()
    }

    pub(crate) fn link(&self, shard: usize) -> &Link {
        &self.0.links[shard]
    }

    /// Whether the server was closed.
    pub fn is_closed(&self) -> bool {
        self.0.delivery.is_closed()
    }

    /// Wakes everything that waits for this stream: the server is closing.
    pub(crate) fn wake_all(&self) {
        let mut inner = self.lock();
        inner.wake_all();
        let (listening, for_empty) = (inner.listening(), inner.listening_for_empty());
        drop(inner);
        self.announce(listening);
        if let Some(listening) = for_empty {
            watch::wake(&listening);
        }
    }

    /// There is news: shards and readers in this process look at the stream.
    fn announce(&self, listening: Option<watch::Listening>) {
        self.tell_shards();
        if let Some(listening) = listening {
            watch::wake(&listening);
        }
    }

    fn tell_shards(&self) {
        // Read where a shard is woken, not for each event: those that come until it looks are younger.
        let mut since = None;
        for (link, doorbell) in self.0.links.iter().zip(&self.0.delivery.doorbells) {
            if let Some(key) = link.bring_news() {
                // A shard that is gone has no subscribers.
                let _ = doorbell.push(Ring::News(key, *since.get_or_insert_with(|| Since::at(clock::now()))));
            }
        }
    }

    /// The times of this stream have changed, or it is over.
    fn notify_directory(&self) {
        if matches!(self.0.kind, Kind::Named | Kind::Generated) {
            let (name, epoch) = (self.0.name.clone(), self.0.life);
            // Once the server is closed nothing is forgotten any more: everything is.
            let _ = self.0.delivery.notices.push(Notice::Life { name, epoch });
        }
        self.look_if_asked();
    }
}

impl Inner {
    /// Whether a publisher waits for sockets.
    pub(crate) fn is_paying(&self) -> bool {
        self.room().is_some_and(Room::is_paying)
    }

    /// What of `limit` publishers may still wait for sockets in this minute.
    pub(crate) fn left_for_sockets(&self, now: Micros, limit: Micros) -> Micros {
        self.room().map_or(limit, |room| room.left(now, limit))
    }

    /// The calling thread is to be woken by the next news.
    pub(crate) fn park_me(&mut self) {
        self.extra.get_or_insert_default().watchers.park_me();
    }

    /// The calling thread no longer waits for news.
    pub(crate) fn forget_me(&mut self) {
        if let Some(extra) = &mut self.extra {
            extra.watchers.forget_me();
        }
    }

    fn room(&self) -> Option<&Room> {
        self.extra.as_ref().map(|extra| &extra.room)
    }

    fn room_if_any(&mut self) -> Option<&mut Room> {
        self.extra.as_mut().map(|extra| &mut extra.room)
    }

    fn room_mut(&mut self) -> &mut Room {
        &mut self.extra.get_or_insert_default().room
    }

    fn listening(&mut self) -> Option<watch::Listening> {
        self.extra.as_mut().and_then(|extra| extra.watchers.listening())
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream({})", self.shown())
    }
}
