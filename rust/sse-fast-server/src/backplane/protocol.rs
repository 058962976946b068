//! What is asked of the backplane's server, and what comes back: the seam between the machine and the wires.
//!
//! Owns: requests (each is one script, or a command), their replies, and what is pushed.
//! Must not know: the redis protocol, keys, sockets; who asks, and why.
//! Invariants: requests are sent in the order given, on one connection, and a request is executed once or not at all; a
//! reply is lost with its connection, and then the machine does not know which. Pushes of one stream come in the order of
//! its log as long as their connection lasts; nothing says what a broken one did not bring.
//! Changes together with: the scripts in `lua/`, `memory.rs`, `redis/`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::id::{Epoch, Position};

use super::shared::{SharedEvent, SharedOptions, SharedPatch, SharedSnapshot};
use super::{Make, Name, SharedKey};

/// Tells the requests of one machine apart; rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(crate) u64);

/// How far a stream has come: any change makes it greater. A smaller one than was seen before means that the server has lost
/// something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    /// The life; 0 before the first.
    pub(crate) epoch: u64,
    /// The newest position.
    pub(crate) newest: Position,
    /// Counts every other change: options, snapshots, the end, a removal.
    pub(crate) version: u64,
}

impl Mark {
    /// Whether what this says was lost where the server says `now`.
    pub(crate) fn is_beyond(self, now: Self) -> bool {
        self.epoch > now.epoch || (self.epoch == now.epoch && (self.newest > now.newest || self.version > now.version))
    }
}

/// What is known of the server that answers: `master_replid`; the same as long as it has lost nothing.
pub(crate) type Fence = Arc<str>;

/// With every request that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// The fence as it was read on this connection; `None` where the server is trusted.
    pub(crate) fence: Option<Fence>,
    /// It was read just now, after a refusal: what differs is older, and its life is over.
    pub(crate) sure: bool,
    /// The epoch that a new life gets, unless it must be greater: the time.
    pub(crate) epoch: u64,
}

/// The epoch of a life that follows `last`: the candidate, or one that is greater than `last` by what the candidate makes
/// of it. Where clocks differ and servers lose lives, two processes may follow the same `last`, and their ids may not be the same.
pub(crate) fn later(candidate: u64, last: u64) -> u64 {
    if candidate > last { candidate } else { last + 1 + candidate % (1 << 20) }
}

/// One thing of a call of [`Request::Publish`]; each is done whole or not at all, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// None where only the snapshot is set.
    pub(crate) events: Vec<SharedEvent>,
    /// A snapshot set with the event of that index (or by itself, where there are none), its data, and its name; the name of
    /// the last snapshot where none is given.
    pub(crate) snapshot: Option<UnitSnapshot>,
    /// Whether the last event ends the stream.
    pub(crate) end: bool,
    /// The caller's own key.
    pub(crate) key: Option<SharedKey>,
}

/// See [`Unit::snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitSnapshot {
    /// The index of the event that it comes with.
    pub(crate) with: usize,
    /// Its name, where one is given.
    pub(crate) event: Option<Box<str>>,
    /// Its data.
    pub(crate) data: Bytes,
}

/// What a process has of a stream, so that only what follows is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Which stream.
    pub(crate) name: Name,
    /// For what it writes: a new life, other options.
    pub(crate) guard: Guard,
    /// Makes it where there is none.
    pub(crate) make: Option<Make>,
    /// Begins a new life where the one there is not greater than this epoch and has not ended: it has lost something. 0: never.
    pub(crate) above: u64,
    /// What is here already.
    pub(crate) from: Mark,
}

/// What is asked of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Appends. One call of a stream is in flight at a time; a call that was executed before is answered as it was, and one
    /// with a smaller number than the last of this process is [`Reply::Stale`] and does nothing.
    Publish { name: Name, guard: Guard, process: Arc<str>, call: u64, units: Arc<[Unit]>, make: Make },
    /// Reads a stream, and makes it on demand.
    Open(Box<Open>),
    /// How far streams have come; what is touched is not forgotten for want of readers during the next half minute.
    Compare { names: Arc<[(Name, bool)]> },
    /// Puts options in force.
    Configure { name: Name, guard: Guard, patch: SharedPatch },
    /// Forgets a name; what says so stays for a quarter of an hour, so that every process gets to know. A call that was
    /// executed before is answered as it was, and one with a smaller number is [`Reply::Stale`], as those of
    /// [`Request::Publish`]: no later life is removed for it.
    Remove { name: Name, process: Arc<str>, call: u64 },
    /// How many connections each reader has in a process; empty: none.
    Present { name: Name, process: Arc<str>, readers: Bytes },
    /// Renews this process's lease, or gives it back where `lease` is zero; the answer names all that have one.
    Lease { process: Arc<str>, lease: Duration },
    /// Tells every process that a reader was disconnected, and keeps it so long.
    Disconnect { reader: Arc<str>, before: u64, keep: Duration },
    /// Who was disconnected within the time kept.
    Disconnected,
    /// Publishes to this process's own channel.
    Probe { process: Arc<str>, number: u64 },
    /// Reads the fence.
    Fence,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Of [`Request::Publish`]: what came of each unit.
    Published(Vec<UnitOutcome>),
    /// Of [`Request::Open`].
    Opened(Box<Opening>),
    /// Of [`Request::Compare`], in the order of its names.
    Compared(Vec<Seen>),
    /// Of those that only do something.
    Done,
    /// Of [`Request::Remove`]: how far the stream had come by it.
    Removed(Mark),
    /// There is no such stream; whether one was removed within the last quarter of an hour, in which life.
    Unknown { removed: Option<Mark> },
    /// Of [`Request::Lease`].
    Leases(Vec<Arc<str>>),
    /// Of [`Request::Disconnected`].
    Disconnected(Vec<(Arc<str>, u64)>),
    /// Of [`Request::Fence`].
    Fence(Fence),
    /// The stream's life was begun under another fence than that of the request: nothing was written.
    Fenced,
    /// A later call of this process was executed before: nothing was written.
    Stale,
    /// The server does nothing now: it is no master any more, or not yet one. It has not executed the request; the connection
    /// is lost after this.
    NotNow,
    /// An error of the server; nothing was written, or what the states of eviction allow.
    Refused(Arc<str>),
}

/// What came of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnitOutcome {
    /// Its events have the positions from `first` on (a snapshot alone: the position it stands for).
    New { epoch: Epoch, first: Position },
    /// They had, when it was done under the same key.
    Again { epoch: Epoch, first: Position },
    /// Something else was done under the same key.
    Conflict,
    /// The stream has ended.
    Ended,
}

/// How far one stream of [`Request::Compare`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// So far; and which count of readers is the last.
    There { mark: Mark, presence: u64 },
    /// It was removed.
    Removed(Mark),
    /// The server knows nothing of it.
    Gone,
}

/// A stream as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// How far it has come.
    pub(crate) mark: Mark,
    /// The newest position that this life took over from the one before; 0 where it began empty.
    pub(crate) carried: Position,
    /// Whether this request made it.
    pub(crate) made: bool,
    /// Whether the newest event is the terminal one.
    pub(crate) ended: bool,
    /// How long it will stay there, where nothing happens.
    pub(crate) left: Option<Duration>,
    /// The options in force.
    pub(crate) options: SharedOptions,
    /// The position before the first of `entries`.
    pub(crate) base: Position,
    /// What follows [`Open::from`], as far as it is retained; everything, where that is of another life.
    pub(crate) entries: Vec<SharedEvent>,
    /// The snapshot, where there is one and anything but the log differs from [`Open::from`], or `base` lies beyond it.
    pub(crate) snapshot: Option<SharedSnapshot>,
    /// How many connections each reader has, for each process.
    pub(crate) readers: Vec<(Arc<str>, Bytes)>,
    /// Which count that is: rises, never says the same of two states.
    pub(crate) presence: u64,
}

/// What the server pushes to who has subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// Of one stream.
    Stream(Name, News),
    /// A reader was disconnected.
    Disconnect { reader: Arc<str>, before: u64 },
    /// Of [`Request::Probe`].
    Echo { number: u64 },
}

/// What happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Events were appended, a snapshot was set, or both. The mark is the one after it.
    Tail { mark: Mark, first: Position, events: Vec<SharedEvent>, snapshot: Option<SharedSnapshot>, ended: bool },
    /// Other options are in force.
    Options { mark: Mark, options: SharedOptions },
    /// A life began without an event.
    Begun { mark: Mark },
    /// The name was removed.
    Removed { mark: Mark },
    /// A process counted its readers anew: after that count, and as this.
    Present { process: Arc<str>, readers: Bytes, after: u64, presence: u64 },
}

/// One of the two connections to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Requests and replies.
    Command,
    /// Pushes.
    Subscriber,
}

/// What the wires tell the machine.
#[derive(Debug)]
pub(crate) enum Wired {
    /// A connection is up; the fence was read on it, where it is the one for commands.
    CommandUp(Fence),
    /// Nothing is subscribed on it yet but what every process is subscribed to.
    SubscriberUp,
    /// A connection is lost, with what was under way on it.
    Down(Line),
    /// A request was answered.
    Reply(RequestId, Reply),
    /// From now on everything that happens to these streams is pushed.
    Subscribed(Vec<Name>),
    /// Something was pushed.
    Push(Push),
}

/// What a machine runs over: the redis implementation, or the one in memory.
pub(crate) trait Wires {
    /// Sends a request after all others; where the connection is down it is dropped, because its loss was told.
    fn request(&mut self, id: RequestId, request: Request);
    /// Subscribes; [`Wired::Subscribed`] answers, unless the connection is lost before.
    fn subscribe(&mut self, names: Vec<Name>);
    /// Ends subscriptions.
    fn unsubscribe(&mut self, names: Vec<Name>);
    /// Ends a connection and makes it anew; [`Wired::Down`] is not told of it.
    fn reconnect(&mut self, line: Line);
    /// What comes next; may be dropped before it is ready, and loses nothing.
    fn next(&mut self) -> impl Future<Output = Wired>;
}
