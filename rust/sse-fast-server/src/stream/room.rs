//! Publishers of one stream that wait for room in its log: their order, and what waiting for full sockets costs.
//!
//! Owns: the queue, and the account of the stream. Must not know: events, shards, how a thread sleeps. It lives under the
//! stream's lock; time comes in. Invariants: the first in the queue alone may append, so publishers append in the order
//! they came; while it waits for sockets the time is paid once by the stream and by every thread in the queue; none of
//! them pays more than it had left when it came.

use std::collections::VecDeque;

use sse_fast_core::budget::{Micros, Spent};

use crate::sync::{Thread, current};

/// See the module. Boxed: few streams ever have one.
#[derive(Default)]
pub(super) struct Room {
    /// Oldest first.
    queue: VecDeque<Waiter>,
    next_ticket: u64,
    /// Since when the first waits for sockets, where it does.
    paying_since: Option<Micros>,
    /// Microseconds that were waited for sockets, ever.
    paid: Micros,
    /// Of them, those of the last minute.
    spent: Spent,
    /// Of them, those that are not in the server's statistics yet.
    uncounted: Micros,
}

struct Waiter {
    ticket: Ticket,
    thread: Thread,
    /// `paid` when it came.
    paid_before: Micros,
    /// What its thread had left then.
    left: Micros,
}

/// A publisher's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Room {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the first waits for sockets.
    pub(super) fn is_paying(&self) -> bool {
        self.paying_since.is_some()
    }

    /// Whether this publisher is the next that may append.
    pub(super) fn is_first(&self, ticket: Ticket) -> bool {
        self.queue.front().is_some_and(|first| first.ticket == ticket)
    }

    /// The calling thread takes its place behind all others; it may pay `left` microseconds.
    pub(super) fn join(&mut self, left: Micros, now: Micros) -> Ticket {
        if self.is_paying() {
            // What was waited before it came is not its debt.
            self.settle(now);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.queue.push_back(Waiter { ticket, thread: current(), paid_before: self.paid, left });
        if self.paying_since.is_some() {
            // The first must not wait longer than this one may pay.
            self.wake_first();
        }
        ticket
    }

    /// The publisher is done; returns what its thread has paid. The next one is woken if it was the first.
    pub(super) fn leave(&mut self, ticket: Ticket, now: Micros) -> Micros {
        let was_first = self.is_first(ticket);
        if was_first {
            self.stop_paying(now);
        }
        let place = self.queue.iter().position(|waiter| waiter.ticket == ticket);
        debug_assert!(place.is_some(), "only who joined leaves");
        let paid = place.and_then(|place| self.queue.remove(place)).map_or(0, |waiter| self.paid - waiter.paid_before);
        if was_first {
            self.wake_first();
        }
        paid
    }

    /// The first waits for sockets from now on, or still does.
    pub(super) fn pay(&mut self, now: Micros) {
        debug_assert!(!self.queue.is_empty(), "somebody waits");
        let begins = self.paying_since.is_none();
        self.settle(now);
        self.paying_since = Some(now);
        if begins {
            // Those that may not pay must not stay behind one that does.
            self.queue.iter().filter(|waiter| waiter.left == 0).for_each(|waiter| waiter.thread.unpark());
        }
    }

    /// It does no longer.
    pub(super) fn stop_paying(&mut self, now: Micros) {
        self.settle(now);
        self.paying_since = None;
    }

    /// What was paid since this was last asked.
    pub(super) fn take_uncounted(&mut self) -> Micros {
        std::mem::take(&mut self.uncounted)
    }

    /// How long the first may go on waiting for sockets: as long as the stream, each thread in the queue, and its own
    /// call have something left of `limit` (a call may pay half of it).
    pub(super) fn allowance(&self, now: Micros, limit: Micros) -> Micros {
        let stream = limit.saturating_sub(self.spent.within_a_minute(now));
        let left = |waiter: &Waiter| waiter.left.min(limit / 2).saturating_sub(self.paid - waiter.paid_before);
        self.queue.iter().map(left).fold(stream, Micros::min)
    }

    /// Wakes the publisher that is next: something it waits for may have happened.
    pub(super) fn wake_first(&self) {
        if let Some(first) = self.queue.front() {
            first.thread.unpark();
        }
    }

    /// Wakes all of them: they may not publish any more.
    pub(super) fn wake_all(&self) {
        self.queue.iter().for_each(|waiter| waiter.thread.unpark());
    }

    fn settle(&mut self, now: Micros) {
        if let Some(since) = self.paying_since.replace(now) {
            let elapsed = now.saturating_sub(since);
            self.paid += elapsed;
            self.spent.add(now, elapsed);
            self.uncounted += elapsed;
        }
    }
}
