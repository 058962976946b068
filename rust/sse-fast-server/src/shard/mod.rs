//! Shards: threads that own sockets, subscribers and timers.
//!
//! A subscriber belongs to one shard for its life; nothing per connection is shared or locked, and
//! a subscriber costs a slab entry, not a task. Other threads reach a shard through its inbox only.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the handle other threads hold: inbox, latch, wake-up, counters |
//! | `turn` | the thread's loop: what is done in which order, and how much of it at a time |
//! | `roll` | who is here: arriving, moving, leaving |
//! | `subscriber` | what a subscriber is |
//! | `member` | a stream as this shard sees it, and whom a publisher is made to wait for |
//! | `hold` | for how long publishers are made to wait for a subscriber whose socket is full |
//! | `walk` | a stream's news to all its subscribers |
//! | `feed` | one subscriber from where it is to the newest: arrival, resume, catching up |
//! | `beat` | heartbeats, stalled readers, lingering closes |

mod beat;
mod feed;
mod hold;
mod member;
mod roll;
mod subscriber;
mod turn;
mod walk;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Token, Waker};
use sse_fast_core::frame::Framing;

use crate::logs::{Level, Logs};
use crate::stats::Counters;
use crate::stream::Stream;
use crate::sync::lock;

/// The token of the wake-up; every other token is a subscriber's key.
const WAKE: Token = Token(usize::MAX);

/// A shard as other threads see it; a handle, cheap to clone.
#[derive(Clone)]
pub(crate) struct ShardHandle(Arc<Shared>);

struct Shared {
    /// Protects what others left for the shard; held for a push or a swap.
    inbox: Mutex<Inbox>,
    /// Whether the shard was already woken for what is in the inbox. Cleared before the inbox is
    /// taken, set after something was put in: nothing can be put in unseen.
    latch: AtomicBool,
    waker: Waker,
    counters: Counters,
    /// Whether the thread panicked. That must not happen; if it does, connections go to the other
    /// shards and nobody waits for this one. Relaxed: seen a little later is soon enough.
    failed: AtomicBool,
}

/// What others leave for a shard.
#[derive(Default)]
struct Inbox {
    arrivals: Vec<Arrival>,
    dirty: Vec<Stream>,
    room: Vec<Stream>,
    orders: Vec<Order>,
}

/// Entries an empty inbox keeps memory for.
const INBOX_ROOM: usize = 1024;

impl Inbox {
    /// Gives back what a storm needed.
    fn shrink(&mut self) {
        self.arrivals.shrink_to(INBOX_ROOM / 8);
        self.dirty.shrink_to(INBOX_ROOM);
        self.room.shrink_to(INBOX_ROOM);
    }
}

/// A connection whose request was a subscription.
pub(crate) struct Arrival {
    pub(crate) socket: TcpStream,
    pub(crate) stream: Stream,
    pub(crate) last_event_id: Option<Box<str>>,
    pub(crate) framing: Framing,
    /// The response head, to be written first.
    pub(crate) head: Vec<u8>,
}

/// What a shard is told to do.
enum Order {
    /// The subscribers of one stream become another's; their heads were written.
    Move { from: Stream, to: Stream, last_event_id: Option<Box<str>> },
    /// Give everybody what was published and end; whoever is not done by then is cut.
    Drain { until: Instant },
    /// Panic, so that a test can see what becomes of the rest.
    #[cfg(test)]
    Fail,
}

impl ShardHandle {
    /// A shard that does not run yet, and what its thread will need.
    pub(crate) fn new() -> io::Result<(Self, Poll)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let shared = Shared {
            inbox: Mutex::default(),
            latch: AtomicBool::new(false),
            waker,
            counters: Counters::default(),
            failed: AtomicBool::new(false),
        };
        Ok((Self(Arc::new(shared)), poll))
    }

    /// Starts the thread.
    pub(crate) fn spawn(
        &self,
        number: usize,
        poll: Poll,
        stall_timeout: Duration,
        publish_wait: Duration,
        logs: Logs,
    ) -> io::Result<JoinHandle<()>> {
        let handle = self.clone();
        std::thread::Builder::new().name(format!("sse-fast-{number}")).spawn(move || {
            let turn = || turn::Turn::new(handle.clone(), number, poll, stall_timeout, publish_wait).run();
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).is_err() {
                handle.0.failed.store(true, Ordering::Relaxed);
                // Connections left meanwhile are closed as the others were.
                drop(std::mem::take(&mut *lock(&handle.0.inbox)));
                logs.put(Level::Error, "sse_fast", format!("shard {number} failed; its connections are closed"));
            }
        })
    }

    /// Whether the thread runs; see `failed`.
    pub(crate) fn works(&self) -> bool {
        !self.0.failed.load(Ordering::Relaxed)
    }

    /// Makes the thread panic.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.put(|inbox| inbox.orders.push(Order::Fail));
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Leaves a connection without waking the shard; says whether the caller must see to it that
    /// [`ShardHandle::look_at_arrivals`] is called.
    #[must_use]
    pub(crate) fn subscribe(&self, arrival: Arrival) -> bool {
        let arrivals = &mut lock(&self.0.inbox).arrivals;
        arrivals.push(arrival);
        arrivals.len() == 1
    }

    /// The connections left are to be looked at.
    pub(crate) fn look_at_arrivals(&self) {
        self.put(|_| {});
    }

    /// The stream has news; called at most once until the shard took it.
    pub(crate) fn mark_dirty(&self, stream: &Stream) {
        self.put(|inbox| inbox.dirty.push(stream.clone()));
    }

    /// A publisher waits for this stream's floor to rise.
    pub(crate) fn ask_for_room(&self, stream: &Stream) {
        self.put(|inbox| inbox.room.push(stream.clone()));
    }

    pub(crate) fn move_subscribers(&self, from: &Stream, to: &Stream, last_event_id: Option<Box<str>>) {
        let order = Order::Move { from: from.clone(), to: to.clone(), last_event_id };
        self.put(|inbox| inbox.orders.push(order));
    }

    pub(crate) fn drain(&self, until: Instant) {
        self.put(|inbox| inbox.orders.push(Order::Drain { until }));
    }

    fn put(&self, put: impl FnOnce(&mut Inbox)) {
        put(&mut lock(&self.0.inbox));
        if !self.0.latch.swap(true, Ordering::AcqRel) {
            // Waking fails only where the counter of an eventfd is full: the shard wakes anyway.
            let _ = self.0.waker.wake();
        }
    }

    fn has_mail(&self) -> bool {
        self.0.latch.load(Ordering::Acquire)
    }

    /// Takes what was left; `empty` takes its place.
    fn swap_inbox(&self, empty: &mut Inbox) {
        self.0.latch.store(false, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
        std::mem::swap(&mut *lock(&self.0.inbox), empty);
    }
}
