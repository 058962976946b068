//! Shards: threads that own sockets, subscribers and timers.
//!
//! A connection belongs to one shard for its life; nothing per connection is shared or locked, and a subscriber costs an
//! entry in a list, not a task. Other threads reach a shard through its mailboxes only.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the handle that other threads hold: mailboxes, counters |
//! | `thread` | the thread: a poll around the steps |
//! | `net` | the door to the network, and the real one behind it |
//! | `machine` | a step: what is done in which order, and how much of it at a time |
//! | `membership` | who is here: arriving, moving, leaving |
//! | `joining` | how a connection of several streams begins |
//! | `checks` | what must hold after each step |
//! | `connection` | a socket, and what must be written to it first |
//! | `subscriber` | a cursor, and the list of those of one stream |
//! | `group`, `together` | the subscribers of a connection that reads several streams; serving them |
//! | `lay_out`, `pieces` | what such a connection is offered in one write |
//! | `local` | a stream as this shard sees it |
//! | `agenda` | who is served next |
//! | `walk` | a stream's news to all its subscribers |
//! | `feed` | one subscriber from where it is to the newest |
//! | `ahead` | what one subscriber gets before the frames of the log |
//! | `debt` | whom publishers wait for |
//! | `delays` | how long news took to the sockets |
//! | `report` | what a shard says of itself |
//! | `asked` | the streams whose publishers wait |
//! | `grants`, `departure` | who reads, until when; connections that end because of that |
//! | `timers` | heartbeats, readers that take nothing, connections that linger |
//! | `table` | lists, by keys of their own type |

mod agenda;
mod ahead;
mod asked;
#[cfg(all(test, not(loom)))]
mod by_hand;
#[cfg(all(test, not(loom)))]
mod catch_up_tests;
#[cfg(debug_assertions)]
mod checks;
mod connection;
#[cfg(all(test, not(loom)))]
mod counted_tests;
mod debt;
mod delays;
mod departure;
mod feed;
mod grants;
#[cfg(all(test, not(loom)))]
mod grants_tests;
mod group;
mod joining;
mod lay_out;
mod local;
#[cfg(all(test, loom))]
mod loom_tests;
mod machine;
mod membership;
mod net;
mod pieces;
#[cfg(test)]
mod probe;
mod report;
#[cfg(all(test, not(loom)))]
mod report_tests;
#[cfg(all(test, not(loom)))]
mod slow_tests;
mod subscriber;
mod table;
#[cfg(all(test, not(loom)))]
mod task_tests;
mod thread;
mod timers;
mod together;
#[cfg(all(test, not(loom)))]
mod together_tests;
#[cfg(all(test, not(loom)))]
mod waiting_tests;
mod walk;

use std::sync::Arc;
use std::sync::mpsc::Sender;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::vector::{Beginning, Life};

#[cfg(test)]
pub(crate) use self::machine::{Next, Shard};
pub(crate) use self::machine::{Pacing, Settings};
#[cfg(test)]
pub(crate) use self::net::{Net, Ready, Sink, Token};
#[cfg(test)]
pub(crate) use self::probe::{Seen, SeenSeveral};
pub(crate) use self::report::{LAG_BOUNDS, Question, Report};
pub(crate) use self::thread::{prepare, spawn};
use crate::access_log::Access;
use crate::addresses::AddressPlace;
use crate::admitted::Admitted;
use crate::delivery::{Doorbell, Ring};
use crate::mailbox::{Latch, Mailbox};
use crate::presence::Presence;
use crate::stats::Counters;
use crate::stream::{Claim, HandedOut, Stream};

/// The real network's handle.
pub(crate) type SocketShard = ShardHandle<mio::net::TcpStream>;

/// A shard as other threads see it, over sockets of type `S`; a handle, cheap to clone.
pub(crate) struct ShardHandle<S>(Arc<Post<S>>);

struct Post<S> {
    /// The shard's sleep: one for its three mailboxes.
    latch: Arc<Latch>,
    doorbell: Arc<Doorbell>,
    arrivals: Mailbox<Arrival<S>>,
    orders: Mailbox<Order>,
    /// Where it tells who comes and goes.
    presence: Presence,
    counters: Counters,
}

/// A connection whose request was a subscription.
pub(crate) struct Arrival<S> {
    pub(crate) socket: S,
    pub(crate) reading: Reading,
    /// Who its reader is, and until when it may read.
    pub(crate) admitted: Admitted,
    pub(crate) framing: Framing,
    /// The response head, to be written first.
    pub(crate) head: Vec<u8>,
    /// Its client's, kept as long as the connection.
    pub(crate) place: AddressPlace,
    /// Its request in the access log.
    pub(crate) logged: Option<Box<Access>>,
}

/// What a connection will read.
pub(crate) enum Reading {
    One {
        claim: Claim,
        last_event_id: Option<Box<str>>,
    },
    /// The names of the request, in its order; one of them has a stream at least.
    Several(Vec<NamedReading>),
}

impl Reading {
    /// What the reader of one stream came with.
    pub(crate) fn last_event_id(&self) -> Option<&str> {
        match self {
            Self::One { last_event_id, .. } => last_event_id.as_deref(),
            Self::Several(_) => None,
        }
    }
}

/// One name of a request for several streams.
pub(crate) struct NamedReading {
    /// Its stream; none where it has ended and the reader has everything.
    pub(crate) claim: Option<Claim>,
    /// The stream's present life.
    pub(crate) life: Life,
    pub(crate) beginning: Beginning,
}

/// What a shard is told to do.
pub(crate) enum Order {
    /// The subscribers of one stream become another's; their heads were written.
    Move { from: Stream, to: HandedOut, last_event_id: Option<Box<str>> },
    /// End every connection of this reader that was let in until then, and say how many that were.
    Disconnect { reader: Arc<str>, until: Micros, told: Sender<usize> },
    /// Give everybody what was published and end; those who are not done by then are cut.
    Drain { until: Micros },
    /// Say how it is.
    Ask(Question),
    /// Panic, so that a test can see what becomes of the rest.
    #[cfg(test)]
    Fail,
    /// Do nothing until the other end is dropped, so that a test can see who notices.
    #[cfg(test)]
    Hang(std::sync::mpsc::Receiver<()>),
}

impl<S> ShardHandle<S> {
    pub(crate) fn new(latch: &Arc<Latch>, presence: Presence) -> Self {
        Self(Arc::new(Post {
            latch: Arc::clone(latch),
            doorbell: Arc::new(Mailbox::new(latch)),
            arrivals: Mailbox::new(latch),
            orders: Mailbox::new(latch),
            presence,
            counters: Counters::default(),
        }))
    }

    /// What publishers ring.
    pub(crate) fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.0.doorbell)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.0.presence
    }

    /// Whether its thread takes connections.
    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.0.arrivals.is_open()
    }

    /// Leaves a connection without waking the shard: where this is `true` the caller does, by [`ShardHandle::ring`].
    /// A shard that has ended gives it back.
    #[allow(clippy::result_large_err, reason = "what is given back is the connection itself")]
    pub(crate) fn subscribe(&self, arrival: Arrival<S>) -> Result<bool, Arrival<S>> {
        self.0.arrivals.push_quietly(arrival)
    }

    /// There are connections to be looked at.
    pub(crate) fn ring(&self) {
        self.0.latch.ring();
    }

    /// Tells the shard something; one that has ended has nobody left it could be about.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.0.orders.push(order);
    }

    /// Asks the shard; one that has ended drops the question.
    pub(crate) fn ask(&self, question: Question) {
        self.order(Order::Ask(question));
    }

    /// Orders that it has not taken.
    #[cfg(test)]
    pub(crate) fn orders(&self) -> usize {
        self.0.orders.len()
    }

    /// Whether something was left.
    pub(crate) fn has_mail(&self) -> bool {
        self.0.latch.is_set()
    }

    /// Takes what was left; the lists must be empty.
    fn take(&self, rings: &mut Vec<Ring>, arrivals: &mut Vec<Arrival<S>>, orders: &mut Vec<Order>) {
        self.0.latch.clear();
        // Orders first, though they are obeyed last: an order may be about a connection that was left before it.
        self.0.orders.take(orders);
        self.0.arrivals.take(arrivals);
        self.0.doorbell.take(rings);
    }

    /// Takes nothing more; connections that were left are closed.
    fn close(&self) {
        drop(self.0.arrivals.close());
        self.0.doorbell.close();
        self.0.orders.close();
        self.0.latch.silence();
    }
}

impl<S> Clone for ShardHandle<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
