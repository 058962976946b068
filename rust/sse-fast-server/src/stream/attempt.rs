//! One event on its way into a stream: whether it may be appended, and what it waits for.
//!
//! Owns: that decision. Must not know: how a thread sleeps, sockets, subscribers one by one. It never blocks and reads no
//! clock, so that the simulation steps it as threads do (`publish`). Invariants: an event is appended only by the next of
//! those who wait, and only if nothing stands in its way or the budget is used up; who is told to wait is woken. Changes
//! together with `obstacle` (what stands in the way) and `room` (who waits). This file is long because each thing that may
//! stand in the way is met in its own way.
//!
//! # Waiting
//! Publishers append in the order they came (`room` says what becomes of one that is away). Let `first` be the oldest
//! position that will be left. An event is appended
//! - once every *writable* subscriber was given what lies below `first`, and the shards are not too many bytes behind
//!   (`link`): these are the engine's own pace, and use up no budget;
//! - and once every subscriber whose socket is *full* and who is waited for was given it, or the budget is used up:
//!   `publish_wait`, W, is what a stream's publishers wait for sockets in a minute, and what one thread does; one call
//!   waits half of it at most. Whom a shard still counts as waited for is decided in `shard::debt`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::event::CheckedEvent;
use sse_fast_core::id::Position;
use sse_fast_core::options::StreamOptions;

use super::obstacle::{Asking, Obstacle};
use super::outcome::{PublishError, Published};
use super::pending::{Appended, Fate, Held, KeptSoon, Pending};
use super::role::{Hurry, Role};
use super::room::Ticket;
use super::watch::{Sleeper, TaskSleep};
use super::what::{Encoded, What};
use super::{Inner, Locked, Stream, Want};
use crate::delivery::Patience;
use crate::idempotency::SharedKey;

/// A publisher that waits tries again by itself this often. It is for a shard that fails in the middle of something:
/// every other change wakes it (the loom models of `shard` have no time).
const TRY_AGAIN: Micros = 1_000_000;

/// How long an event loop's publisher waits for the shards' answer whether a reader's socket is still full.
const ANSWER: Micros = 10_000;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A thread that may wait.
    Thread,
    /// The thread of an event loop: it waits for shards, which is short, and never for a subscriber's socket.
    EventLoop,
    /// What brings the events of a log elsewhere: it waits for shards alone, and whatever may be skipped is.
    Copying,
}

/// What is appended in one step, on its way into a stream.
pub(crate) struct Attempt<'a> {
    what: What<'a>,
    role: Role,
    caller: Caller,
    hurry: Hurry,
    /// What it is published under.
    key: Option<&'a SharedKey>,
    waiting: Waiting,
}

/// An attempt without its event: what is kept of it between two steps.
#[derive(Default)]
pub(super) struct Waiting {
    /// How it sleeps; `None` is as the calling thread does.
    sleep: Option<TaskSleep>,
    /// Its place among those who wait, once it has to.
    ticket: Option<Ticket>,
    /// When an event loop's publisher gives up, once it has asked the shards: what they said before may be old.
    refused_at: Option<Micros>,
    /// Encoded under these options.
    prepared: Option<(Arc<StreamOptions>, Encoded)>,
    /// What becomes of it, where the disk does not have it yet.
    kept: Option<KeptSoon>,
}

impl Waiting {
    /// Of a task, which sleeps so.
    pub(super) fn of_task(sleep: TaskSleep) -> Self {
        Self { sleep: Some(sleep), ..Self::default() }
    }

    /// What becomes of it, where the disk does not have it yet.
    pub(super) fn take_kept(&mut self) -> Option<KeptSoon> {
        self.kept.take()
    }

    /// What wakes the task from here on brings its token again.
    fn rearm(&self) {
        if let Some(sleep) = &self.sleep {
            sleep.rearm();
        }
    }
}

/// What an attempt came to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Appended; [`Stream::finish_publish`] comes next.
    Published(Published),
    /// To be tried again when woken, or at this moment.
    Wait(Micros),
}

impl Stream {
    /// Refuses more than the stream's log holds at once.
    fn check_held(&self, inner: &Inner, encoded: &Encoded) -> Result<(), PublishError> {
        match encoded {
            Encoded::Several(together) if !inner.state.holds(together) => {
                let (events, bytes) = (together.events(), together.bytes());
                let StreamOptions { history, history_bytes, .. } = **inner.state.options();
                Err(PublishError::TooMuchTogether { stream: self.shown(), events, bytes, history, history_bytes })
            }
            Encoded::One(_) | Encoded::Several(_) => Ok(()),
        }
    }

    pub(super) fn check_open(&self, inner: &Inner) -> Result<(), PublishError> {
        let stream = || self.shown();
        if inner.state.ended() || inner.pending().is_some_and(Pending::ends) {
            Err(PublishError::Ended { stream: stream() })
        } else if self.0.delivery.is_closed() {
            Err(PublishError::Closed { stream: stream() })
        } else if inner.state.removed() {
            Err(PublishError::Removed { stream: stream() })
        } else {
            Ok(())
        }
    }

    /// The next publisher waits for full sockets; until when, or no longer: they are not in the way any more, or there is
    /// nothing left to pay with.
    fn pay_for_sockets(
        &self,
        inner: &mut Locked<'_>,
        (ticket, first): (Ticket, Position),
        limit: Option<Micros>,
        now: Micros,
    ) -> Option<Micros> {
        let (room, wakes) = inner.room_and_wakes();
        if room.pay(ticket, now) && limit.is_none() {
            room.wake_those_who_may_not_pay(wakes);
        }
        let allowance = limit.map_or(TRY_AGAIN, |limit| room.allowance(now, limit));
        // Also where nobody is waited for: the shards say anew whom the next publisher would wait for.
        let any = self.ask_shards(inner, first, Asking::OnceFree);
        if allowance == 0 && any {
            self.0.delivery.waits.gave_up.fetch_add(1, Ordering::Relaxed);
        }
        (any && allowance > 0).then(|| now + allowance.min(TRY_AGAIN))
    }

    /// A thread pays what it owes.
    fn book(&self, inner: &mut Inner, owed: Micros, now: Micros, account: &mut Spent) {
        self.0.delivery.waits.sockets.fetch_add(inner.room_mut().take_uncounted(), Ordering::Relaxed);
        if owed > 0 {
            account.add(now, owed);
        }
    }
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(event: &CheckedEvent<'a>, role: Role, caller: Caller) -> Self {
        Self::going_on(What::One(*event), role, caller, Waiting::default())
    }

    /// Of what is appended in one step; a task says how it sleeps once it has to.
    pub(super) fn of(what: What<'a>, role: Role, caller: Caller) -> Self {
        Self::going_on(what, role, caller, Waiting::default())
    }

    /// It is published under this key, where there is one: a store keeps it, too.
    pub(super) fn under(mut self, key: Option<&'a SharedKey>) -> Self {
        self.key = key;
        self
    }

    /// It sleeps so from here on.
    pub(super) fn sleeps(&mut self, sleep: TaskSleep) {
        self.waiting.sleep = Some(sleep);
    }

    /// A task's, which sleeps so.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn of_task(event: &CheckedEvent<'a>, sleep: TaskSleep) -> Self {
        Self::going_on(What::One(*event), Role::Ordinary, Caller::Thread, Waiting::of_task(sleep))
    }

    /// The same attempt, with the same event.
    pub(super) fn going_on(what: What<'a>, role: Role, caller: Caller, waiting: Waiting) -> Self {
        Self { what, role, caller, hurry: Hurry::MayWait, key: None, waiting }
    }

    /// It will go on later.
    pub(super) fn put_off(self) -> Waiting {
        self.waiting
    }

    /// Appends if nobody and nothing is waited for: the usual case, in which no clock is read.
    pub(crate) fn at_once(
        &mut self,
        stream: &Stream,
        inner: &mut Locked<'_>,
    ) -> Result<Option<Published>, PublishError> {
        debug_assert!(self.waiting.ticket.is_none(), "once it waits it is stepped");
        stream.check_open(inner)?;
        if inner.room().is_some_and(|room| !room.is_empty()) {
            return Ok(None);
        }
        let prepared = self.encode(inner);
        stream.check_held(inner, &prepared)?;
        if stream.obstacle(inner, inner.first_after(&prepared)) == Obstacle::None {
            return self.append(stream, inner, prepared).map(Some);
        }
        self.waiting.prepared = Some((Arc::clone(inner.state.options()), prepared));
        Ok(None)
    }

    /// Goes as far as it can at `now`. `account` is what the calling thread has waited for sockets in the last minute.
    /// Long because each thing that stands in the way is met in its own way.
    pub(crate) fn step(
        &mut self,
        stream: &Stream,
        inner: &mut Locked<'_>,
        now: Micros,
        account: &mut Spent,
    ) -> Result<Progress, PublishError> {
        self.waiting.rearm();
        if let Err(error) = stream.check_open(inner) {
            self.leave(stream, inner, now, account);
            return Err(error);
        }
        let limit = match stream.0.delivery.patience.with(inner.state.options()) {
            Patience::Lossless if self.caller == Caller::EventLoop && inner.is_paying() => {
                return Err(self.refuse_loop(stream, inner, now, account));
            }
            Patience::Lossless if self.caller == Caller::Copying => Some(0),
            Patience::Lossless => None,
            Patience::Within(limit) => Some(limit),
        };
        let left = match self.caller {
            Caller::Thread => limit.map_or(Micros::MAX, |limit| limit.saturating_sub(account.within_a_minute(now))),
            Caller::EventLoop | Caller::Copying => 0,
        };
        let (room, wakes) = inner.room_and_wakes();
        let sleep = &self.waiting.sleep;
        let sleeper = || sleep.clone().map_or_else(Sleeper::this_thread, Sleeper::Task);
        let ticket = *self.waiting.ticket.get_or_insert_with(|| room.join(sleeper(), left, now, wakes));
        room.come_back(ticket, left, now, wakes);
        if let Err(until) = room.check_next(ticket, now) {
            return Ok(Progress::Wait(until.min(now + TRY_AGAIN)));
        }
        let prepared = self.prepare(stream, inner);
        let first = prepared.inspect_err(|_| self.leave(stream, inner, now, account))?;
        match stream.obstacle(inner, first) {
            Obstacle::None => {}
            Obstacle::Disk => {
                inner.room_mut().stop_paying(now);
                return Ok(Progress::Wait(now + TRY_AGAIN));
            }
            Obstacle::Shards => {
                inner.room_mut().stop_paying(now);
                if stream.ask_shards(inner, first, Asking::OnceFree) {
                    return Ok(Progress::Wait(now + TRY_AGAIN));
                }
            }
            Obstacle::Sockets if limit.is_none() && self.caller == Caller::EventLoop => {
                if let Some(until) = self.wait_for_answer(stream, inner, first, now) {
                    return Ok(Progress::Wait(until));
                }
                if stream.obstacle(inner, first) != Obstacle::None {
                    return Err(self.refuse_loop(stream, inner, now, account));
                }
            }
            Obstacle::Sockets => {
                if let Some(until) = stream.pay_for_sockets(inner, (ticket, first), limit, now) {
                    return Ok(Progress::Wait(until));
                }
            }
        }
        self.append_now(stream, inner, now, account).map(Progress::Published)
    }

    /// Appends whatever stands in the way, and gives the place up.
    pub(super) fn append_now(
        &mut self,
        stream: &Stream,
        inner: &mut Locked<'_>,
        now: Micros,
        account: &mut Spent,
    ) -> Result<Published, PublishError> {
        let prepared = self.take_prepared(inner);
        let published = self.append(stream, inner, prepared);
        self.leave(stream, inner, now, account);
        published
    }

    /// An event loop's publisher asks the shards once, for what they said last may be old: until when it waits for their
    /// answer, or `None` once they have given it, or have taken too long.
    fn wait_for_answer(
        &mut self,
        stream: &Stream,
        inner: &mut Locked<'_>,
        first: Position,
        now: Micros,
    ) -> Option<Micros> {
        let is_due = match self.waiting.refused_at {
            Some(_) => stream.is_asking(inner, first),
            None => stream.ask_shards(inner, first, Asking::AtOnce),
        };
        let until = *self.waiting.refused_at.get_or_insert(now + ANSWER);
        (is_due && now < until).then_some(until)
    }

    /// Nothing may be skipped, and an event loop's thread must not wait for sockets.
    fn refuse_loop(
        &mut self,
        stream: &Stream,
        inner: &mut Locked<'_>,
        now: Micros,
        account: &mut Spent,
    ) -> PublishError {
        self.leave(stream, inner, now, account);
        PublishError::LoopWouldWait { stream: stream.shown() }
    }

    /// Encodes it, again only if the options have changed or another went before it; returns the oldest position that
    /// appending would leave.
    fn prepare(&mut self, stream: &Stream, inner: &Inner) -> Result<Position, PublishError> {
        let current = self.waiting.prepared.take().filter(|(options, prepared)| {
            // A snapshot is encoded under the name of the last one, which may have changed.
            let is_next = prepared.after() == inner.last_position();
            Arc::ptr_eq(options, inner.state.options()) && is_next && !self.what.has_snapshot()
        });
        let (options, prepared) = current.unwrap_or_else(|| (Arc::clone(inner.state.options()), self.encode(inner)));
        stream.check_held(inner, &prepared)?;
        let first = inner.first_after(&prepared);
        self.waiting.prepared = Some((options, prepared));
        Ok(first)
    }

    fn take_prepared(&mut self, inner: &Inner) -> Encoded {
        let prepared = self.waiting.prepared.take().map(|(_, prepared)| prepared);
        prepared.unwrap_or_else(|| self.encode(inner))
    }

    /// Encoded for the positions that come next.
    fn encode(&self, inner: &Inner) -> Encoded {
        self.what.encode(&inner.state, inner.ahead())
    }

    /// Appends it, and has the store keep it before, where there is one. Where that waits for the disk it is appended once
    /// the disk has it.
    fn append(&mut self, stream: &Stream, inner: &mut Inner, encoded: Encoded) -> Result<Published, PublishError> {
        let published = self.what.published(&encoded, || inner.last_id());
        if stream.store_of(inner).is_some()
            && let Some(at) =
                stream.keep_encoded(inner, &encoded, self.role, (self.hurry, self.key.zip(Some(&published))))?
        {
            let fate = Fate::new(self.waiting.sleep.as_ref());
            inner.put_off(at, Held::Events(encoded, self.role), &fate);
            self.waiting.kept = Some(KeptSoon::new(stream, fate));
            return Ok(published);
        }
        encoded.append(&mut inner.state);
        if self.role == Role::Terminal {
            inner.state.end();
        }
        Ok(published)
    }

    /// It was appended, or will be once the disk has it: lets the lock go, and tells everybody who is to see it now.
    pub(super) fn finish(&mut self, stream: &Stream, inner: Locked<'_>, published: Published) -> Appended {
        let kept = self.waiting.kept.take();
        if kept.is_some() {
            drop(inner);
        } else {
            stream.appended(inner, self.role);
        }
        Appended { published, kept }
    }

    /// It is refused rather than wait for the store.
    pub(super) fn in_a_hurry(mut self) -> Self {
        self.hurry = Hurry::NoWait;
        self
    }

    /// Whether it has a place among those who wait.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.ticket.is_some()
    }

    /// Its thread does something else until it steps again.
    pub(crate) fn step_aside(&mut self, stream: &Stream, inner: &mut Locked<'_>, now: Micros, account: &mut Spent) {
        if let Some(ticket) = self.waiting.ticket {
            let (room, wakes) = inner.room_and_wakes();
            let owed = room.step_aside(ticket, now, wakes);
            stream.book(inner, owed, now, account);
        }
    }

    /// Gives its place up, and has the thread pay for it.
    pub(crate) fn leave(&mut self, stream: &Stream, inner: &mut Locked<'_>, now: Micros, account: &mut Spent) {
        if let Some(ticket) = self.waiting.ticket.take() {
            let (room, wakes) = inner.room_and_wakes();
            let was_next = room.check_next(ticket, now).is_ok();
            let owed = room.leave(ticket, now, wakes);
            if was_next {
                inner.want = Want::Nothing;
            }
            stream.book(inner, owed, now, account);
        }
    }
}
