//! Publishers of one stream that wait for room in its log: their order, and what waiting for full sockets costs.
//!
//! Owns: the queue, and the account of the stream. Must not know: events, shards, how a thread sleeps. It lives under the
//! stream's lock; time comes in. Invariants: the next alone may append, so publishers append in the order they
//! came; while it waits for sockets the time is paid once by the stream and by every thread in the queue; none of
//! them pays more than it had left when it came.
//!
//! # Away
//! A thread that waits leaves the engine now and then, to see whether a signal came (`Publishing::wait` gives `None`). Its
//! handler may run for a long time, wait for the interpreter, or publish here itself. So a thread that is *away* pays
//! nothing, and its place is kept for [`KEPT`]; after that the next goes before it. A task of an event loop is away from the
//! moment it is woken until it comes: its loop may be busy with something else.

use std::collections::VecDeque;

use sse_fast_core::budget::{Micros, Spent};

use super::wakes::Wakes;
use super::watch::Sleeper;

/// How long the place of one that is away is kept: longer than the interpreter takes to change threads (5 ms by default).
pub(super) const KEPT: Micros = 10_000;

/// See the module. Boxed: few streams ever have one.
#[derive(Default)]
pub(super) struct Room {
    /// Oldest first.
    queue: VecDeque<Waiter>,
    next_ticket: u64,
    /// Who waits for sockets, and what of it is not paid yet.
    paying: Option<Paying>,
    /// Microseconds that were waited for sockets, ever.
    paid: Micros,
    /// Of them, those of the last minute.
    spent: Spent,
    /// Of them, those that are not in the server's statistics yet.
    uncounted: Micros,
}

#[derive(Clone, Copy)]
struct Paying {
    ticket: Ticket,
    since: Micros,
}

struct Waiter {
    ticket: Ticket,
    sleeper: Sleeper,
    /// `paid` when it came, and what was paid while it was away.
    paid_before: Micros,
    /// What its thread had left when it came; of it, what was paid since is used up.
    left: Micros,
    /// What its thread has paid of this already.
    debited: Micros,
    away: Option<Away>,
}

/// Since when a waiter is away, and `paid` then.
#[derive(Clone, Copy)]
struct Away {
    since: Micros,
    paid: Micros,
}

/// A publisher's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Waiter {
    /// Until when others wait behind it: always, where it is not away.
    fn kept_until(&self) -> Micros {
        self.away.map_or(Micros::MAX, |away| away.since + KEPT)
    }
}

impl Room {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether one waits for sockets.
    pub(super) fn is_paying(&self) -> bool {
        self.paying.is_some()
    }

    /// Whether this publisher is the next, which alone may append; else until when it is another, `Micros::MAX` where that
    /// is not known: it is woken then.
    pub(super) fn check_next(&self, ticket: Ticket, now: Micros) -> Result<(), Micros> {
        let before = self.queue.iter().take_while(|waiter| waiter.ticket != ticket);
        let until = before.map(Waiter::kept_until).max().unwrap_or(0);
        if until <= now { Ok(()) } else { Err(until) }
    }

    /// One that sleeps so takes its place behind all others; it may pay `left` microseconds.
    pub(super) fn join(&mut self, sleeper: Sleeper, left: Micros, now: Micros, wakes: &mut Wakes<'_>) -> Ticket {
        // What was waited before it came is not its debt.
        self.settle(now);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let paid_before = self.paid;
        self.queue.push_back(Waiter { ticket, sleeper, paid_before, left, debited: 0, away: None });
        self.count_in(now, wakes);
        ticket
    }

    /// Who pays must not wait longer than another may pay that has just come.
    fn count_in(&mut self, now: Micros, wakes: &mut Wakes<'_>) {
        if self.is_paying() {
            self.wake_next(Some(now), wakes);
        }
    }

    /// The publisher is away from now on, until it [comes back](Self::come_back). Returns what its thread owes.
    pub(super) fn step_aside(&mut self, ticket: Ticket, now: Micros, wakes: &mut Wakes<'_>) -> Micros {
        self.stop(ticket, now);
        let paid = self.paid;
        let Some(waiter) = self.waiter(ticket) else { return 0 };
        waiter.away = Some(Away { since: now, paid });
        let owed = paid - waiter.paid_before - waiter.debited;
        waiter.debited += owed;
        // From now on the one behind it counts the time.
        self.wake_next(Some(now), wakes);
        owed
    }

    /// It is here again, if it was away, and may pay `left` microseconds: it may have paid elsewhere. What others paid
    /// without it is not its debt.
    pub(super) fn come_back(&mut self, ticket: Ticket, left: Micros, now: Micros, wakes: &mut Wakes<'_>) {
        self.settle(now);
        let paid = self.paid;
        if let Some(waiter) = self.waiter(ticket)
            && let Some(away) = waiter.away.take()
        {
            waiter.paid_before += paid - away.paid;
            waiter.left = left.saturating_add(paid - waiter.paid_before);
            self.count_in(now, wakes);
        }
    }

    /// The publisher is done; returns what its thread owes. If it was the next, the one behind it is woken.
    pub(super) fn leave(&mut self, ticket: Ticket, now: Micros, wakes: &mut Wakes<'_>) -> Micros {
        let was_next = self.check_next(ticket, now).is_ok();
        self.stop(ticket, now);
        self.come_back(ticket, 0, now, wakes);
        let place = self.queue.iter().position(|waiter| waiter.ticket == ticket);
        debug_assert!(place.is_some(), "only who joined leaves");
        let owed = |waiter: Waiter| self.paid - waiter.paid_before - waiter.debited;
        let owed = place.and_then(|place| self.queue.remove(place)).map_or(0, owed);
        if was_next {
            self.wake_next(Some(now), wakes);
        }
        owed
    }

    /// The next waits for sockets from now on, or still does; says whether it begins to.
    pub(super) fn pay(&mut self, ticket: Ticket, now: Micros) -> bool {
        debug_assert_eq!(self.check_next(ticket, now), Ok(()), "the next alone waits for sockets");
        let begins = self.paying.is_none();
        self.settle(now);
        self.paying = Some(Paying { ticket, since: now });
        begins
    }

    /// Wakes those that may pay nothing: they must not stay behind one that waits for sockets as long as it takes.
    pub(super) fn wake_those_who_may_not_pay(&self, wakes: &mut Wakes<'_>) {
        self.queue.iter().filter(|waiter| waiter.left == 0).for_each(|waiter| wakes.publisher(&waiter.sleeper));
    }

    /// It does no longer.
    pub(super) fn stop_paying(&mut self, now: Micros) {
        self.settle(now);
        self.paying = None;
    }

    /// What was paid since this was last asked.
    pub(super) fn take_uncounted(&mut self) -> Micros {
        std::mem::take(&mut self.uncounted)
    }

    /// How long sockets may go on being waited for: as long as the stream, each thread in the queue that is not away, and
    /// its own call have something left of `limit` (a call may pay half of it).
    pub(super) fn allowance(&self, now: Micros, limit: Micros) -> Micros {
        let stream = limit.saturating_sub(self.spent.within_a_minute(now));
        let left = |waiter: &Waiter| waiter.left.min(limit / 2).saturating_sub(self.paid - waiter.paid_before);
        self.queue.iter().filter(|waiter| waiter.away.is_none()).map(left).fold(stream, Micros::min)
    }

    /// What of `limit` may still be waited for sockets in this minute: by the stream, and by each thread in the queue that
    /// is not away.
    pub(super) fn left(&self, now: Micros, limit: Micros) -> Micros {
        let unpaid = self.paying.map_or(0, |paying| now.saturating_sub(paying.since));
        let stream = limit.saturating_sub(self.spent.within_a_minute(now));
        let left = |waiter: &Waiter| waiter.left.saturating_sub(self.paid - waiter.paid_before);
        let least = self.queue.iter().filter(|waiter| waiter.away.is_none()).map(left).fold(stream, Micros::min);
        least.saturating_sub(unpaid)
    }

    /// Wakes the next publisher that is not away. A task is, from `now` on, until it comes: the first thread behind it is
    /// woken, too, to count that time. (Where the time is not known a task that is woken is waited for like a thread.)
    pub(super) fn wake_next(&mut self, now: Option<Micros>, wakes: &mut Wakes<'_>) {
        let Some(next) = self.queue.iter().find(|waiter| waiter.away.is_none()) else { return };
        wakes.publisher(&next.sleeper);
        if let Some(now) = now.filter(|_| next.sleeper.is_task()) {
            let ticket = next.ticket;
            self.stop(ticket, now);
            let paid = self.paid;
            if let Some(task) = self.waiter(ticket) {
                task.away = Some(Away { since: now, paid });
            }
            let mut others = self.queue.iter().filter(|waiter| waiter.away.is_none());
            if let Some(thread) = others.find(|waiter| !waiter.sleeper.is_task()) {
                wakes.publisher(&thread.sleeper);
            }
        }
    }

    /// Wakes all of them.
    pub(super) fn wake_all(&self, wakes: &mut Wakes<'_>) {
        self.queue.iter().for_each(|waiter| wakes.publisher(&waiter.sleeper));
    }

    fn waiter(&mut self, ticket: Ticket) -> Option<&mut Waiter> {
        self.queue.iter_mut().find(|waiter| waiter.ticket == ticket)
    }

    /// This publisher pays no longer, if it did.
    fn stop(&mut self, ticket: Ticket, now: Micros) {
        self.settle(now);
        self.paying = self.paying.filter(|paying| paying.ticket != ticket);
    }

    /// What was waited until now is paid.
    fn settle(&mut self, now: Micros) {
        if let Some(paying) = &mut self.paying {
            let elapsed = now.saturating_sub(std::mem::replace(&mut paying.since, now));
            self.paid += elapsed;
            self.spent.add(now, elapsed);
            self.uncounted += elapsed;
        }
    }
}
