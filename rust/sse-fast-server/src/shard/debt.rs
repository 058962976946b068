//! Whom publishers wait for: the floors of a shard's streams, and the accounts of subscribers whose sockets are full.
//!
//! Owns: the shard's changes of a floor, and who counts as slow. Must not know: bytes, walks.
//!
//! # Floors
//! A floor is never too high. `writable` is the lowest cursor of those whose sockets take bytes: what walks have reached
//! (`walked`), or the cursor of somebody who catches up. `held` is the lowest cursor of those whose sockets are full and
//! who are waited for. Both are lowered under the stream's lock: the first when somebody comes or recovers ([`Shard::owe`]), the second when a
//! socket fills that is waited for ([`Shard::fill`]), and by `Stream::configure`, where options may ask for more. They are raised when a walk
//! ends, when somebody has caught up or left, and when a publisher asks ([`Shard::answer_publishers`]).
//!
//! # Slow subscribers
//! With W = `publish_wait`: the time in which a publisher waits for sockets is charged to each full subscriber it waits
//! for. One that was charged its share in a minute (`Patience::is_share_spent`), or W/8 without taking a byte, is slow until
//! it has everything again, and is not waited for. Nor is one that is beyond `max_lag` (it will be skipped anyway), or that
//! wants the newest alone.

use sse_fast_core::budget::Micros;
use sse_fast_core::id::Position;
use sse_fast_core::lag::{self, Pace};
use sse_fast_core::options::{OnLag, StreamOptions};

use super::asked::Question;
use super::machine::Shard;
use super::net::Net;
use super::subscriber::{KEPT_UP, Progress, Subscriber};
use super::table::SubscriberKey;
use crate::delivery::{LocalKey, Patience};
use crate::stream::{Inner, Want};

/// Full subscribers that may be checked in a microsecond: one takes 20 ns, and checks may take a sixteenth of the shard's
/// time.
const CHECKS_IN_A_MICROSECOND: Micros = 3;

impl<N: Net> Shard<N> {
    /// A subscriber will be given what begins at its cursor, now that its socket takes bytes: it comes, or recovers. Under
    /// the stream's lock, and before it joins the writable ones.
    pub(super) fn owe(&mut self, key: SubscriberKey, inner: &Inner) {
        let subscriber = &self.subscribers[key];
        let (local, cursor) = (&mut self.locals[subscriber.local], subscriber.cursor());
        #[cfg(not(loom))]
        debug_assert!(local.stream.is_locked(), "a floor is lowered under the stream's lock");
        let link = local.stream.link(self.number);
        if local.roster.writable().is_empty() {
            // What was published while nobody here could take it is owed to nobody else.
            local.walked = inner.state.newest() + 1;
            link.offered(inner.state.log().appended());
        }
        link.lower_writable(cursor);
    }

    /// A subscriber's socket is full: publishers may wait for it, from another budget.
    pub(super) fn fill(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        let (local, connection) = (subscriber.local, subscriber.connection);
        let at_rest = subscriber.at_rest();
        let was = std::mem::replace(&mut subscriber.progress, at_rest);
        let stream = self.locals[local].stream.clone();
        let inner = stream.lock();
        let patience = self.settings.patience.with(inner.state.options());
        if let (Some(account), Patience::Within(limit)) = (&mut self.connections[connection].account, patience) {
            account.charged_until = self.now;
            // It may have had everything since its share of this minute was used up.
            account.slow |= account.is_share_spent(patience, self.now, inner.left_for_sockets(self.now, limit));
        }
        let subscriber = &mut self.subscribers[key];
        if subscriber.since == KEPT_UP {
            subscriber.since = inner.state.newest();
        }
        if self.is_held(key, &inner) {
            stream.link(self.number).lower_held(self.subscribers[key].cursor());
        }
        drop(inner);
        if was == Progress::CatchingUp {
            // A heartbeat filled it before its next share: it goes on when its socket takes bytes.
            self.agenda.forget(key);
        }
        self.locals[local].roster.fill(key, &mut self.subscribers);
        self.raise_writable(local);
    }

    /// A walk has reached everybody it visits.
    pub(super) fn walked(&mut self, key: LocalKey, low: Position, offered: u64) {
        let local = &mut self.locals[key];
        // It may have been raised since the walk began: somebody came while nobody's socket took bytes.
        local.walked = local.walked.max(low);
        local.stream.link(self.number).offered(offered);
        self.raise_writable(key);
    }

    /// Some of those who held the writable floor down do so no longer.
    pub(super) fn raise_writable(&self, key: LocalKey) {
        self.locals[key].stream.link(self.number).set_writable(self.writable_floor(key));
    }

    fn writable_floor(&self, key: LocalKey) -> Position {
        let local = &self.locals[key];
        if local.roster.writable().is_empty() {
            return Position::MAX;
        }
        let catching_up = self.agenda.catching_up().map(|subscriber| &self.subscribers[subscriber]);
        let cursors = catching_up.filter(|subscriber| subscriber.local == key).map(Subscriber::cursor);
        cursors.fold(local.walked, Position::min)
    }

    /// A publisher waits for this stream.
    pub(super) fn asked(&mut self, key: LocalKey) {
        let local = &mut self.locals[key];
        self.agenda.hurry(key, &mut local.stage);
        self.asked.add(key, self.now);
    }

    /// Tells publishers that wait whether they may go on.
    pub(super) fn answer_publishers(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let mut open = self.asked.take();
        open.retain_mut(|question| !self.answer(question));
        self.asked.put_back(open);
    }

    /// Answers a publisher if it may go on; says whether it did, or nobody asks any more.
    fn answer(&mut self, question: &mut Question) -> bool {
        let stream = self.locals[question.local].stream.clone();
        let link = stream.link(self.number);
        let inner = stream.lock();
        let writable = self.writable_floor(question.local);
        link.set_writable(writable);
        let for_sockets = inner.is_paying() || inner.want == Want::Answer;
        question.begin_check(self.now);
        let next_check = self.asked.may_check_at(question.local);
        if for_sockets && self.now < next_check {
            question.put_off_until(next_check);
            return false;
        }
        // One that waits for the shards alone goes on, and sees for itself whether sockets are in its way.
        let floor = if for_sockets {
            writable.min(self.check_sockets(question, &inner))
        } else {
            question.charged_until = self.now;
            writable
        };
        let is_behind = link.is_behind(inner.state.log().appended());
        let is_answered = match inner.want {
            // It did not wait for the answer.
            Want::Nothing | Want::Answer => true,
            Want::Offers => !is_behind,
            Want::Floors(wanted) => floor >= wanted && !is_behind,
        };
        if is_answered {
            if !for_sockets && self.now >= next_check {
                // It would pay for what is only old.
                self.check_sockets(question, &inner);
            }
            link.see_waiting();
            drop(inner);
            stream.wake_publisher(self.now);
        }
        is_answered
    }

    /// Charges those whose full sockets a publisher pays for, and finds the floor of those it still waits for.
    fn check_sockets(&mut self, question: &mut Question, inner: &Inner) -> Position {
        let since = std::mem::replace(&mut question.charged_until, self.now);
        let (key, mut held) = (question.local, Position::MAX);
        let left = self.left_for_sockets(inner);
        for at in 0..self.locals[key].roster.full().len() {
            let full = self.locals[key].roster.full()[at];
            if inner.is_paying() {
                self.charge(full, inner, since, left);
            }
            if self.is_held(full, inner) {
                held = held.min(self.subscribers[full].cursor());
            }
        }
        let local = &self.locals[key];
        let rest = local.roster.full().len() as Micros / CHECKS_IN_A_MICROSECOND;
        self.asked.rest(key, self.now, self.now + rest);
        local.stream.link(self.number).set_held(held);
        held
    }

    /// A full socket takes bytes: what publishers waited for it until now is charged before it is no longer full.
    pub(super) fn charge_until_now(&mut self, key: SubscriberKey) {
        let local = self.subscribers[key].local;
        let Some(since) = self.asked.uncharged_since(local) else { return };
        let stream = self.locals[local].stream.clone();
        let inner = stream.lock();
        if inner.is_paying() {
            self.charge(key, &inner, since, self.left_for_sockets(&inner));
        }
    }

    /// What publishers of a stream may still wait for sockets in this minute.
    fn left_for_sockets(&self, inner: &Inner) -> Micros {
        match self.settings.patience.with(inner.state.options()) {
            Patience::Within(limit) => inner.left_for_sockets(self.now, limit),
            Patience::Lossless => Micros::MAX,
        }
    }

    /// Charges a subscriber whose socket is full, if a publisher waits for it, for the time since then that it was not
    /// charged for; they may wait for `left` more.
    fn charge(&mut self, key: SubscriberKey, inner: &Inner, since: Micros, left: Micros) {
        let patience = self.settings.patience.with(inner.state.options());
        let Patience::Within(limit) = patience else { return };
        if !self.is_held(key, inner) || !inner.want.is_above(self.subscribers[key].cursor()) {
            return;
        }
        let connection = &mut self.connections[self.subscribers[key].connection];
        let account = connection.account.get_or_insert_default();
        let amount = self.now.saturating_sub(since.max(account.charged_until));
        account.charged_until = self.now;
        account.spent.add(self.now, amount);
        account.idle += amount;
        account.slow = account.idle >= limit / 8 || account.is_share_spent(patience, self.now, left);
    }

    /// One whose socket was full recovered or left: where it was the last, publishers wait for no socket here.
    pub(super) fn raise_held(&self, key: LocalKey) {
        let local = &self.locals[key];
        if local.roster.full().is_empty() {
            local.stream.link(self.number).set_held(Position::MAX);
        }
    }

    /// Whether publishers wait for a subscriber whose socket is full. One that has lost something already is skipped until
    /// it has everything again.
    pub(super) fn is_held(&self, key: SubscriberKey, inner: &Inner) -> bool {
        let subscriber = &self.subscribers[key];
        let account = &self.connections[subscriber.connection].account;
        let options = inner.state.options();
        options.on_lag != OnLag::Latest
            && !account.as_ref().is_some_and(|account| account.slow)
            && subscriber.cursor() >= inner.state.log().first()
            && !lag::is_beyond_max_lag(&inner.state, subscriber.cursor(), self.pace_of(subscriber, options))
    }

    /// How a subscriber's lag is counted. Where publishers wait as long as it takes nothing is skipped, so none is.
    pub(super) fn pace_of(&self, subscriber: &Subscriber, options: &StreamOptions) -> Pace {
        let patience = self.settings.patience.with(options);
        let lossless = patience == Patience::Lossless && options.on_lag == OnLag::Skip;
        if subscriber.since == KEPT_UP || lossless { Pace::Writable } else { Pace::Full { since: subscriber.since } }
    }

    /// What must hold after each step: no floor is above what is owed.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn check_floors(&self, key: LocalKey) {
        let local = &self.locals[key];
        let inner = local.stream.lock();
        let (writable, held) = local.stream.link(self.number).floors();
        for &writes in local.roster.writable() {
            let cursor = self.subscribers[writes].cursor();
            debug_assert!(writable <= cursor, "the writable floor {writable} is above the cursor {cursor}");
        }
        for &full in local.roster.full().iter().filter(|&&full| self.is_held(full, &inner)) {
            let cursor = self.subscribers[full].cursor();
            debug_assert!(held <= cursor, "the held floor {held} is above the cursor {cursor}");
        }
    }
}
