//! One subscriber from where it is to the newest: its beginning, its socket taking bytes again, its catching up.
//!
//! Owns: what is written to one subscriber alone, and in which order: what was begun, then a gap where it fell behind,
//! then frames. Must not know: walks. Invariant: while it is fed its floor is owed (`debt`); afterwards it is walked, or
//! catches up, or its socket is full, or it is gone. One that is far behind and takes everything is put off after a few
//! rounds, so that others are served.

use sse_fast_core::batch::MAX_BATCH_BYTES;
use sse_fast_core::cursor::Opening;
use sse_fast_core::follow::{Follower, Step};
use sse_fast_core::gap::Gap;
use sse_fast_core::id::Position;
use sse_fast_core::wire;

use super::ahead::Ahead;
use super::connection::{Flow, Phase, Reads, Taken, Unwritten};
use super::machine::Shard;
use super::net::{Net, Token};
use super::subscriber::{KEPT_UP, Progress};
use super::table::{ConnectionKey, SubscriberKey};
use crate::stats::{CloseReason, Counters, GapReason, Resumed};
use crate::stream::Inner;

/// What is done about one subscriber.
enum Decision {
    /// It is given what was laid out for it.
    Feed { newest: Position, complete: bool },
    /// It lagged, and is closed for it.
    Disconnect,
}

impl<N: Net> Shard<N> {
    /// Begins a stream for a subscriber that was just made, whose stream's lock is `inner`: what it gets before the log,
    /// after `out`.
    pub(super) fn begin_with(
        &mut self,
        key: SubscriberKey,
        inner: &Inner,
        last_event_id: Option<&str>,
        out: Vec<u8>,
    ) -> Ahead {
        let subscriber = &mut self.subscribers[key];
        let framing = self.connections[subscriber.connection].framing;
        let mut ahead = Ahead::of(out);
        if let Some(wait) = inner.state.options().retry {
            ahead.put(framing, |block| wire::retry(block, wait));
        }
        subscriber.follower = Follower::at(inner.state.newest() + 1);
        if let Opening::Live { before, snapshot, after, cursor } = inner.open(last_event_id, None) {
            subscriber.follower = Follower::at(cursor);
            if last_event_id.is_some_and(|id| !id.is_empty()) {
                self.counters().resume(resumed(before));
            }
            let put_gap = |ahead: &mut Ahead, gap: Gap| {
                ahead.put(framing, |block| inner.state.write_gap(block, gap));
                self.count_gap(gap, GapReason::of_opening(gap));
            };
            if let Some(gap) = before {
                put_gap(&mut ahead, gap);
            }
            if let Some(frame) = snapshot {
                ahead.put_frame(framing, frame);
            }
            if let Some(gap) = after {
                put_gap(&mut ahead, gap);
            }
        }
        ahead
    }

    /// A socket that was full takes bytes again.
    pub(super) fn recover(&mut self, key: ConnectionKey) {
        match self.connections[key].reads() {
            Reads::Nothing => {}
            Reads::One(subscriber) => self.charge_until_now(subscriber),
            Reads::Several(group) => {
                let subscribers: Vec<_> = self.groups[group].subscribers().map(|(_, subscriber)| subscriber).collect();
                for subscriber in subscribers {
                    self.charge_until_now(subscriber);
                }
            }
        }
        let (taken, written) = self.connections[key].offer_unwritten(self.tick);
        if written > 0 {
            self.count(written, 0);
        }
        match (taken, self.connections[key].phase) {
            (Taken::Gone, _) => self.close(key, CloseReason::Gone),
            (Taken::Some(_), _) => {}
            (Taken::All, Phase::Open) => match self.connections[key].reads() {
                Reads::Nothing => debug_assert!(false, "over an open connection somebody reads"),
                Reads::One(subscriber) => {
                    self.feed(subscriber, Ahead::default());
                }
                Reads::Several(_) => {
                    self.feed_together(key, None, self.names_at_rest(key), &[]);
                }
            },
            (Taken::All, Phase::Finishing) => self.shut(key),
            (Taken::All, Phase::Lingering) => debug_assert!(false, "nothing is written to who lingers"),
        }
    }

    /// A full socket takes bytes again. A slow reader's comes after everybody else's: two hundred of them at once take ten
    /// milliseconds, in which a healthy one whose socket is full for a moment may be overtaken.
    pub(super) fn on_writable(&mut self, key: ConnectionKey, token: Token) {
        match self.connections[key].account.as_mut().filter(|account| account.slow) {
            None => self.recover(key),
            Some(account) => {
                if !std::mem::replace(&mut account.put_off, true) {
                    self.slow.push_back(token);
                }
            }
        }
    }

    /// Slow readers whose sockets take bytes get what there is, so few that others are not kept waiting.
    pub(super) fn recover_slow(&mut self) {
        for _ in 0..self.settings.pacing.sends_per_mail {
            let Some(token) = self.slow.pop_front() else { return };
            let Some(key) = self.current(token) else { continue };
            if let Some(account) = &mut self.connections[key].account {
                account.put_off = false;
            }
            if self.connections[key].flow == Flow::Full {
                self.recover(key);
            }
        }
    }

    /// A subscriber that catches up gets its next share; returns how many writes that took.
    pub(super) fn catch_up(&mut self, key: SubscriberKey) -> usize {
        debug_assert_eq!(self.subscribers[key].progress, Progress::CatchingUp, "it is on the list");
        let subscriber = &mut self.subscribers[key];
        subscriber.progress = subscriber.at_rest();
        let (connection, member) = (subscriber.connection, subscriber.member());
        match member {
            None => self.feed(key, Ahead::default()),
            Some(member) => self.feed_together(connection, None, 1 << member, &[]),
        }
    }

    /// Writes `ahead` first, then batch after batch, until the socket is full or nothing is left; returns the writes.
    pub(super) fn feed(&mut self, key: SubscriberKey, mut ahead: Ahead) -> usize {
        let connection = self.subscribers[key].connection;
        for round in 0..self.settings.pacing.rounds {
            let (newest, complete) = match self.decide(key, &mut ahead) {
                Decision::Feed { newest, complete } => (newest, complete),
                Decision::Disconnect => {
                    self.finish(connection, CloseReason::Lagged);
                    return round;
                }
            };
            match self.give(key, &ahead) {
                Taken::All => self.subscribers[key].since = KEPT_UP,
                Taken::Some(_) => return round + 1,
                Taken::Gone => {
                    self.close(connection, CloseReason::Gone);
                    return round + 1;
                }
            }
            ahead.clear();
            if self.subscribers[key].cursor() > newest {
                self.has_everything(key);
                self.finish_if_done(key, newest, complete);
                return round + 1;
            }
        }
        self.subscribers[key].progress = Progress::CatchingUp;
        self.agenda.catch_up(key);
        self.settings.pacing.rounds
    }

    /// Decides what a subscriber gets next: a gap goes into `ahead`, frames are laid out. It is owed what follows.
    fn decide(&mut self, key: SubscriberKey, ahead: &mut Ahead) -> Decision {
        let subscriber = &self.subscribers[key];
        let (local, connection) = (subscriber.local, subscriber.connection);
        let stream = self.locals[local].stream.clone();
        let inner = stream.lock();
        let framing = self.connections[connection].framing;
        let mut pace = self.pace_of(subscriber, inner.state.options());
        // Who leaves gets nothing that was published later.
        let until = self.grants.until(connection, key);
        loop {
            if until.is_some_and(|until| self.subscribers[key].cursor() > until) {
                self.single.clear();
                break;
            }
            match self.subscribers[key].follower.next(&inner.state, pace) {
                Step::Gap(gap) => {
                    ahead.put(framing, |block| inner.state.write_gap(block, gap));
                    self.count_gap(gap, GapReason::Lag);
                    self.logged(connection, |logged| logged.skipped(gap.skipped().unwrap_or(0)));
                    if let Some(account) = &mut self.connections[connection].account {
                        account.skipped_at = Some(self.now);
                    }
                    // The judgement was made: what is left is given.
                    pace = sse_fast_core::lag::Pace::Writable;
                }
                Step::Disconnect => return Decision::Disconnect,
                Step::Frames => {
                    let last = until.unwrap_or(Position::MAX);
                    self.single.fill_up_to(inner.state.log(), self.subscribers[key].cursor(), last, framing);
                    break;
                }
                Step::End | Step::Pending => {
                    self.single.clear();
                    break;
                }
            }
        }
        self.owe(key, &inner);
        let complete = self.draining.is_some()
            || inner.state.is_complete()
            || self.connections[connection].half_closed
            || until.is_some();
        let newest = inner.state.newest().min(until.unwrap_or(Position::MAX));
        drop(inner);
        if self.connections[connection].flow == Flow::Full {
            self.connections[connection].flows();
            self.locals[local].roster.recover(key, &mut self.subscribers);
            self.raise_held(local);
        }
        Decision::Feed { newest, complete }
    }

    /// Writes what comes ahead and then the frames laid out.
    fn give(&mut self, key: SubscriberKey, ahead: &Ahead) -> Taken {
        let own = ahead.bytes();
        let subscriber = &mut self.subscribers[key];
        let (cursor, connection_key) = (subscriber.cursor(), subscriber.connection);
        let connection = &mut self.connections[connection_key];
        let framing = connection.framing;
        let frames = self.single.bytes_from(cursor, framing).unwrap_or_default();
        let (taken, length) = match (own.is_empty(), frames.is_empty()) {
            (true, true) => return Taken::All,
            (true, false) => (connection.offer(frames, self.tick), frames.len()),
            (false, true) => (connection.offer(own, self.tick), own.len()),
            (false, false) => {
                self.out.clear();
                self.out.extend_from_slice(own);
                self.out.extend_from_slice(frames);
                (connection.offer(&self.out, self.tick), self.out.len())
            }
        };
        let written = match taken {
            Taken::All => length,
            Taken::Some(some) => some,
            Taken::Gone => return Taken::Gone,
        };
        let mut unwritten = None;
        if written < own.len() {
            unwritten = ahead.after(written, framing);
        } else if !frames.is_empty() {
            let (next, partial) = self.single.advance(cursor, written - own.len(), framing);
            subscriber.follower.advance(next);
            unwritten = partial.map(Unwritten::frame);
        }
        let delivered = subscriber.cursor() - cursor;
        self.count(written, delivered);
        if let Taken::Some(_) = taken {
            self.block(connection_key, unwritten);
        }
        if self.out.capacity() > MAX_BATCH_BYTES {
            self.out = Vec::new();
        }
        taken
    }

    /// A socket that took bytes is full: the poll will say when it is not. `unwritten` comes first then.
    pub(super) fn block(&mut self, key: ConnectionKey, unwritten: Option<Unwritten>) {
        let connection = &mut self.connections[key];
        debug_assert_eq!(connection.flow, Flow::Writable, "it fills once");
        let had_everything = connection.keep(unwritten);
        if connection.phase == Phase::Open {
            match connection.reads() {
                Reads::Nothing => debug_assert!(false, "over an open connection somebody reads"),
                Reads::One(subscriber) => self.fill(subscriber),
                Reads::Several(group) => self.fill_together(group),
            }
            Counters::add(&self.counters().blocked, u64::from(had_everything));
        }
        self.watch_stall(key);
    }

    /// The socket took everything there was.
    fn has_everything(&mut self, key: SubscriberKey) {
        let subscriber = &mut self.subscribers[key];
        subscriber.progress = Progress::Walked;
        let (local, connection) = (subscriber.local, subscriber.connection);
        self.connections[connection].has_everything(self.now);
        self.raise_writable(local);
        self.heartbeat_in_time(connection);
    }

    /// Ends a subscriber that has everything there will be.
    pub(super) fn finish_if_done(&mut self, key: SubscriberKey, newest: Position, complete: bool) {
        let subscriber = &self.subscribers[key];
        if !complete || subscriber.cursor() <= newest {
            return;
        }
        let connection = subscriber.connection;
        self.finish(connection, self.reason_of_completion(connection));
    }

    pub(super) fn count_gap(&self, gap: Gap, reason: GapReason) {
        let counters = self.counters();
        counters.gap(reason);
        Counters::add(&counters.skipped, gap.skipped().unwrap_or(0));
    }
}

/// What a reader is given that came back, by the gap that it is told of first.
fn resumed(before: Option<Gap>) -> Resumed {
    match before {
        None => Resumed::Tail,
        Some(Gap::Known { .. }) => Resumed::Gap,
        Some(Gap::Unknown) => Resumed::Epoch,
    }
}
