//! What happens because time passed: heartbeats, readers that take nothing, connections that linger.
//!
//! Owns: a connection's one due time, and what is done when it comes. Must not know: why a connection is in its phase.
//! All three are one timer: its phase and its socket say what it is for. A heartbeat is written only where no frame is
//! half-written; one whose socket is full gets none, it has `stall_timeout` to take something.
//! Invariant: what the wheel brings up for another tick than the connection remembers is stale.

use std::rc::Rc;

use sse_fast_core::heartbeat::Tick;

use super::connection::{Flow, NO_TICK, Phase, Reads, Taken, Unwritten};
use super::local::HeartbeatFrame;
use super::machine::Shard;
use super::net::Net;
use super::subscriber::Progress;
use super::table::{ConnectionKey, GroupKey, SubscriberKey};
use crate::delivery::LocalKey;
use crate::stats::{CloseReason, Counters};
use crate::stream::Inner;

/// How long a shut connection waits for the reader's end: two seconds, in ticks.
const HALF_CLOSE: Tick = 100;

impl<N: Net> Shard<N> {
    /// Serves every connection that is due.
    pub(super) fn run_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.take_due(self.tick, &mut due);
        // All are read first: the reads overlap, where one between two sends waits for memory (measured: 0.7 µs of the
        // 14 of an idle subscriber's heartbeat).
        due.retain(|&(key, tick)| {
            let is_current = self.connections.get(ConnectionKey(key)).is_some_and(|connection| connection.due == tick);
            if is_current {
                self.connections[ConnectionKey(key)].due = NO_TICK;
            }
            is_current
        });
        for (key, _) in due.drain(..) {
            // One that was served before it may have closed others.
            if self.connections.get(ConnectionKey(key)).is_some_and(|connection| connection.due == NO_TICK) {
                self.on_due(ConnectionKey(key));
            }
        }
        self.due = due;
    }

    /// Tells the wheel when to bring a connection up next.
    pub(super) fn schedule(&mut self, key: ConnectionKey) {
        let connection = &self.connections[key];
        let (since, interval, spread) = match (connection.phase, connection.flow) {
            (Phase::Lingering, _) => (self.tick, HALF_CLOSE, 0),
            // A stall comes up when it is over; only heartbeats are spread.
            (Phase::Finishing, _) | (Phase::Open, Flow::Full) => (connection.last_write, self.stall, 0),
            (Phase::Open, Flow::Writable) => match self.heartbeat_of(key) {
                Some(heartbeat) => (connection.last_write, heartbeat.interval, heartbeat.interval),
                None => return,
            },
        };
        let due = since.saturating_add(interval);
        self.connections[key].due = self.wheel.place(key.0, due, spread);
    }

    /// Makes sure that a connection whose socket is full comes up.
    pub(super) fn watch_stall(&mut self, key: ConnectionKey) {
        let connection = &self.connections[key];
        if connection.due == NO_TICK || connection.due > connection.last_write.saturating_add(self.stall) {
            self.schedule(key);
        }
    }

    /// Makes sure that a connection whose stall was watched has its heartbeat in time again.
    pub(super) fn heartbeat_in_time(&mut self, key: ConnectionKey) {
        let Some(heartbeat) = self.heartbeat_of(key) else { return };
        let connection = &self.connections[key];
        if connection.due > connection.last_write.saturating_add(heartbeat.interval) {
            self.schedule(key);
        }
    }

    /// The heartbeat of what a connection reads.
    fn heartbeat_of(&self, key: ConnectionKey) -> Option<&Rc<HeartbeatFrame>> {
        match self.connections[key].reads() {
            Reads::Nothing => None,
            Reads::One(subscriber) => self.locals[self.subscribers[subscriber].local].heartbeat.as_ref(),
            Reads::Several(group) => self.groups[group].heartbeat.as_ref(),
        }
    }

    /// Finds the heartbeat of a connection of several streams: the most frequent of theirs, and while it waits for names
    /// alone that of what stands in for them. Says whether it has changed.
    pub(super) fn tune(&mut self, group: GroupKey) -> bool {
        let local_of = |(_, key): (u8, SubscriberKey)| &self.locals[self.subscribers[key].local];
        let waits_alone = self.groups[group].subscribers().all(|reads| local_of(reads).stream.is_stand_in());
        let locals = self.groups[group].subscribers().map(local_of);
        let counting = locals.filter(|local| waits_alone || !local.stream.is_stand_in());
        let all = counting.filter_map(|local| local.heartbeat.as_ref());
        let found = all.min_by_key(|heartbeat| heartbeat.interval).map(HeartbeatFrame::after_ids);
        let group = &mut self.groups[group];
        let interval = |heartbeat: &Option<Rc<HeartbeatFrame>>| heartbeat.as_ref().map(|heartbeat| heartbeat.interval);
        let has_changed = interval(&found) != interval(&group.heartbeat);
        group.heartbeat = found;
        has_changed
    }

    /// Finds the heartbeat in force where it has changed, before somebody comes; under the stream's lock.
    pub(super) fn find_heartbeat(&mut self, key: LocalKey, inner: &Inner) -> bool {
        let local = &mut self.locals[key];
        #[cfg(not(loom))]
        debug_assert!(local.stream.is_locked(), "a heartbeat is found under the stream's lock");
        if !local.stream.link(self.number).see_retuned() {
            return false;
        }
        local.heartbeat = HeartbeatFrame::of(local.stream.heartbeat(inner), self.last_heartbeat.as_ref());
        if local.heartbeat.is_some() {
            self.last_heartbeat.clone_from(&local.heartbeat);
        }
        true
    }

    /// Puts a heartbeat that has changed in force for everybody.
    pub(super) fn retune(&mut self, key: LocalKey) {
        if !self.locals[key].stream.link(self.number).is_retuned() {
            return;
        }
        let stream = self.locals[key].stream.clone();
        let found = self.find_heartbeat(key, &stream.lock());
        if found {
            self.reschedule(key);
        }
    }

    /// Brings everybody's due time in line with the heartbeat that was found.
    pub(super) fn reschedule(&mut self, key: LocalKey) {
        for subscriber in self.locals[key].roster.all().to_vec() {
            let connection = self.subscribers[subscriber].connection;
            if let Reads::Several(group) = self.connections[connection].reads() {
                self.tune(group);
            }
            self.schedule(connection);
        }
    }

    /// A connection's time has come.
    fn on_due(&mut self, key: ConnectionKey) {
        let connection = &self.connections[key];
        let idle = self.tick.saturating_sub(connection.last_write);
        match (connection.phase, connection.flow) {
            (Phase::Lingering, _) => self.close(key, CloseReason::Ended),
            (Phase::Finishing, _) | (Phase::Open, Flow::Full) => {
                if idle >= self.stall {
                    self.close(key, CloseReason::Stalled);
                } else {
                    self.schedule(key);
                }
            }
            (Phase::Open, Flow::Writable) => {
                let Some(heartbeat) = self.heartbeat_of(key).cloned() else { return };
                let due = connection.last_write.saturating_add(heartbeat.interval);
                // Written to since it was placed, or placed no further than the wheel reaches.
                let is_early = self.tick < due;
                if is_early && (idle < heartbeat.interval / 2 || self.wheel.has_room(due, heartbeat.interval)) {
                    self.schedule(key);
                } else {
                    self.write_heartbeat(key, &heartbeat);
                }
            }
        }
    }

    /// Whether nobody who reads over a connection catches up.
    fn is_at_rest(&self, key: ConnectionKey) -> bool {
        match self.connections[key].reads() {
            Reads::Nothing => false,
            Reads::One(subscriber) => self.subscribers[subscriber].progress == Progress::Walked,
            Reads::Several(group) => self.is_settled(group),
        }
    }

    fn write_heartbeat(&mut self, key: ConnectionKey, heartbeat: &HeartbeatFrame) {
        let (interval, now) = (heartbeat.interval, self.tick);
        let connection = &mut self.connections[key];
        let due = connection.last_write.saturating_add(interval);
        let frame = heartbeat.frame(self.now);
        let bytes = frame.bytes(connection.framing);
        match connection.offer(bytes, now) {
            Taken::All => {
                if now >= due && now - due < interval / 2 {
                    // The next one is counted from when this one was due: being late by a tick each time would cost
                    // one heartbeat in a few hundred.
                    connection.last_write = due;
                }
                // One that catches up has not.
                if connection.account.is_some() && self.is_at_rest(key) {
                    self.connections[key].has_everything(self.now);
                }
                self.schedule(key);
            }
            Taken::Some(0) => return self.block(key, None),
            Taken::Some(taken) => self.block(key, Some(Unwritten::own(&bytes[taken..]))),
            Taken::Gone => return self.close(key, CloseReason::Gone),
        }
        Counters::add(&self.counters().heartbeats, 1);
    }
}
