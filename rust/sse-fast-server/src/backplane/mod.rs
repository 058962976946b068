//! The backplane: streams that several processes share through one Redis or Valkey server.
//!
//! Owns: what the engine asks of the backplane ([`Ask`]), and what the backplane tells the engine ([`Copies`]).
//! Must not know: streams, shards, the directory. The log of a shared stream is on the server; what this process has of
//! it is a copy, which the engine keeps in its own `Log`.
//! Invariants: every ask is answered once, also where the backplane's thread ends (a dropped [`Answer`] answers). What is
//! told of one stream is told in the order of its log: [`Copies::begin`] first, then each position once, without a hole;
//! after another `begin` whatever was told before no longer counts.
//!
//! | file | owns |
//! |---|---|
//! | [`shared`] | an event, a snapshot and options as they travel |
//! | `hub`, `copy`, `outbox`, `presence` | the machine: stepped, without clock or I/O |
//! | [`protocol`] | what is asked of the server, and what comes back: the seam under the machine |
//! | `redis`, `lua/` | that seam on Redis and Valkey; its scripts |
//! | `memory` | the same in memory, for tests |
//! | `driver` | the machine over wires, in real time |
//! | `thread` | the thread that it runs in |
//! | `conformance`, `simulation` | tests: three servers answer alike; many processes, many faults |

#[cfg(all(test, not(loom)))]
mod conformance;
#[cfg(not(loom))]
mod copy;
#[cfg(not(loom))]
pub(crate) mod driver;
#[cfg(not(loom))]
pub(crate) mod hub;
#[cfg(all(test, not(loom)))]
pub(crate) mod memory;
#[cfg(not(loom))]
mod outbox;
#[cfg(not(loom))]
mod presence;
#[cfg(not(loom))]
pub(crate) mod protocol;
#[cfg(not(loom))]
pub(crate) mod redis;
pub(crate) mod shared;
#[cfg(all(test, not(loom)))]
mod simulation;
#[cfg(not(loom))]
pub(crate) mod thread;

use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::id::{Epoch, Position};

pub(crate) use shared::{SharedEvent, SharedOptions, SharedPatch, SharedSnapshot};

/// A stream's name.
pub(crate) type Name = Arc<str>;

/// What the engine asks, through [`Asks`]. Asks of one stream act in the order in which they were left.
pub(crate) enum Ask {
    /// Keep a copy of the stream here from now on, until [`Ask::Release`]. With `make` it is made where there is none, and
    /// the options that were given are put in force where there is one; without, this only looks, and a stream that is not
    /// there is answered [`Opened::Unknown`]; with `wait` it is kept in mind, and begins here as soon as any process makes
    /// it, without it is not. By the time of any other answer [`Copies::begin`] was called, and the copy is as new as the
    /// log was when it was read: an ask for what is open here already reads it once more.
    Open { name: Name, make: Option<Make>, wait: bool, answer: Answer<Opened> },
    /// The engine has dropped its copy: nothing is told of it any more until it is opened again, which brings a new
    /// [`Copies::begin`].
    Release { name: Name },
    /// Appends events, all in one step and next to each other; with `end` the last is the terminal one. A stream that the
    /// server does not have (any more) is made with `make`. The stream need not be open here. Where it is, the answer comes
    /// when the copy has the events, or after [`COPY_WAIT`].
    Publish { name: Name, publish: Publish, answer: Answer<Published> },
    /// Sets the snapshot, which stands for everything published so far.
    Snapshot { name: Name, snapshot: SharedSnapshot, make: Make, answer: Answer<Changed> },
    /// Puts options in force, in every process.
    Configure { name: Name, patch: SharedPatch, answer: Answer<Changed> },
    /// Forgets the name: readers everywhere get what was published, then their end.
    Remove { name: Name, answer: Answer<Changed> },
    /// Ends the connections of a reader in every process, of tokens issued before that time (microseconds of the Unix
    /// epoch); a process that starts or comes back within `keep` is told, too.
    Disconnect { reader: Arc<str>, before: u64, keep: Duration, answer: Answer<Changed> },
    /// How many connections each reader has here to a stream that is open here: `None` for those without a name. Those
    /// that have none are left out. Replaces what was said before.
    Present { name: Name, readers: Vec<(Option<Arc<str>>, u64)> },
    /// Gives back what this process holds (its lease), then closes; asks that wait are answered [`Unanswered`]'s way.
    Close { answer: Answer<Changed> },
}

/// How long a publish that succeeded waits until its events have come here, too, so that its thread reads what it wrote.
pub(crate) const COPY_WAIT: Duration = Duration::from_millis(250);

/// What a stream is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Make {
    /// Every option, for a stream that is new.
    pub(crate) options: SharedOptions,
    /// Those that the caller gave, for one that exists.
    pub(crate) given: SharedPatch,
}

/// What is published in one step.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    /// At least one.
    pub(crate) events: Vec<SharedEvent>,
    /// A snapshot that is set with one of them: its index, and the data; the name is that of the last snapshot.
    pub(crate) snapshot: Option<(usize, bytes::Bytes)>,
    /// Whether the last of them ends the stream.
    pub(crate) end: bool,
    /// The caller's own idempotency key, where there is one, with a hash of what it stands for.
    pub(crate) key: Option<SharedKey>,
    /// What the stream is made with where there is none.
    pub(crate) make: Make,
}

/// A caller's idempotency key: within five minutes the same key gives the first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedKey {
    /// The key, with whatever scope it has; any text.
    pub(crate) key: Arc<str>,
    /// A hash of what was published under it; another one under the same key is [`Published::Conflict`].
    pub(crate) body: u64,
}

/// What came of [`Ask::Open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is open here, in this life; whether this ask made it.
    Open { epoch: Epoch, made: bool },
    /// There is none.
    Unknown,
    /// The server refused: what it said.
    Refused(Arc<str>),
    /// The backplane is away; `done` is whether anything was made or put in force, where that is known.
    Unavailable { done: Option<bool> },
}

/// What came of [`Ask::Publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The events have the positions from `first` on.
    New { epoch: Epoch, first: Position },
    /// They were published before under the same key, and had the positions from `first` on.
    Again { epoch: Epoch, first: Position },
    /// Something else was published under the same key.
    Conflict,
    /// The stream has ended.
    Ended,
    /// The server refused (it is out of memory, for instance): nothing was published; what it said.
    Refused(Arc<str>),
    /// The backplane is away. `Some(false)`: nothing was published, and will not be. `None`: the answer was lost.
    Unavailable { published: Option<bool> },
}

/// What came of an ask that changes something else than the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It is done.
    Done,
    /// There is no such stream.
    Unknown,
    /// The stream has ended, and takes no snapshot.
    Ended,
    /// The server refused: what it said.
    Refused(Arc<str>),
    /// The backplane is away. `Some(false)`: it was not done, and will not be. `None`: the answer was lost.
    Unavailable { done: Option<bool> },
}

/// What an ask is answered whose answer got lost on the way.
pub(crate) trait Unanswered {
    /// The answer.
    fn unanswered() -> Self;
}

impl Unanswered for Opened {
    fn unanswered() -> Self {
        Self::Unavailable { done: None }
    }
}

impl Unanswered for Published {
    fn unanswered() -> Self {
        Self::Unavailable { published: None }
    }
}

impl Unanswered for Changed {
    fn unanswered() -> Self {
        Self::Unavailable { done: None }
    }
}

/// Where one answer goes: a function that is called once, on the backplane's thread, and must not block. Dropping it calls
/// it with [`Unanswered::unanswered`].
pub(crate) struct Answer<T: Unanswered>(Option<Box<dyn FnOnce(T) + Send>>);

impl<T: Unanswered> Answer<T> {
    /// An answer that goes to `to`.
    pub(crate) fn new(to: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Some(Box::new(to)))
    }

    /// Gives it.
    pub(crate) fn give(mut self, answer: T) {
        if let Some(to) = self.0.take() {
            to(answer);
        }
    }
}

impl<T: Unanswered> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            to(T::unanswered());
        }
    }
}

/// One life of a stream as a copy begins it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Life {
    /// Which life.
    pub(crate) epoch: Epoch,
    /// The options in force; those that do not travel are this process's own.
    pub(crate) options: SharedOptions,
    /// The newest position that it took over from the life before, where that was the same stream's; 0 where it began
    /// empty.
    pub(crate) carried: Position,
    /// The position before the first of `entries`.
    pub(crate) base: Position,
    /// The retained events.
    pub(crate) entries: Vec<SharedEvent>,
    /// The snapshot, where one is set.
    pub(crate) snapshot: Option<SharedSnapshot>,
    /// Whether the last event is the terminal one (which may be gone from the log, as any other may).
    pub(crate) ended: bool,
}

/// Events that follow what a copy has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tail {
    /// The position of the first.
    pub(crate) first: Position,
    /// In order, without a hole; empty where only the snapshot is new.
    pub(crate) events: Vec<SharedEvent>,
    /// The snapshot that came with them; its position is at most that of the last event.
    pub(crate) snapshot: Option<SharedSnapshot>,
    /// Whether the last of them is the terminal one.
    pub(crate) ended: bool,
}

/// Who reads a stream, in all processes.
pub(crate) type Totals = Vec<(Option<Arc<str>>, u64)>;

/// What the backplane tells the engine, on the backplane's thread. A call may wait for shards, 250 ms at most: what comes in
/// during that time waits in the server's buffer for this connection.
pub(crate) trait Copies: Send + Sync {
    /// A copy begins: the first of a name, or another life of it, or the same life from a later position, where what lay
    /// between was lost.
    fn begin(&self, name: &Name, life: Life);
    /// What follows.
    fn append(&self, name: &Name, tail: Tail);
    /// Other options are in force.
    fn options(&self, name: &Name, options: SharedOptions);
    /// The name was removed, or is not known to the server any more and nobody here reads it; nothing follows but a `begin`.
    fn removed(&self, name: &Name);
    /// Who reads it in all processes, this one included.
    fn present(&self, name: &Name, totals: Totals);
    /// A reader was disconnected, here or elsewhere; may come more than once.
    fn disconnect(&self, reader: &Arc<str>, before: u64);
    /// Whether the backplane is away: first said when both connections are up, then whenever it changes.
    fn away(&self, away: bool);
}

/// Leaves asks for the backplane's thread. Without it (it has ended) an ask is answered as one whose answer was lost.
#[derive(Clone)]
pub(crate) struct Asks(tokio::sync::mpsc::UnboundedSender<Ask>);

impl Asks {
    /// The two ends.
    pub(crate) fn new() -> (Self, tokio::sync::mpsc::UnboundedReceiver<Ask>) {
        let (asks, received) = tokio::sync::mpsc::unbounded_channel();
        (Self(asks), received)
    }

    /// Leaves one; never blocks.
    pub(crate) fn ask(&self, ask: Ask) {
        // A refused ask is dropped with its answer, which says so.
        let _ = self.0.send(ask);
    }
}

/// What a backplane is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Who this process is to the others: random, new at each start.
    pub(crate) process: Arc<str>,
    /// How long an ask may wait: `backplane_timeout`.
    pub(crate) timeout: Duration,
    /// Whether the server never loses what it has confirmed: `engine_loss="trust"`.
    pub(crate) trust: bool,
}

/// What the backplane counts, for `stats()` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Whether both connections are up.
    pub(crate) up: bool,
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// How long the last of them took.
    pub(crate) round_trip: Duration,
    /// Connections made anew after the first two.
    pub(crate) reconnects: u64,
    /// Holes in what was pushed that were read from the log.
    pub(crate) fills: u64,
    /// Ends of logs whose loss was seen: the copy had more than the server has.
    pub(crate) lost_tails: u64,
    /// Events pushed to this process.
    pub(crate) pushed: u64,
}

/// The two connections to a server, for [`drive`](driver::drive).
#[cfg(not(loom))]
pub(crate) use driver::drive;
