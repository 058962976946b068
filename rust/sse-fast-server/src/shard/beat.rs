//! Heartbeats, stalled readers, lingering closes: everything a subscriber does because time passed.
//!
//! All three come up through the wheel, one entry a subscriber. A heartbeat is written only where
//! no frame is half-written; a blocked subscriber gets none, it has `stall_timeout` to take
//! something. A closed connection lingers a little, so that a reset does not destroy the last
//! bytes on their way.

use sse_fast_core::frame::Framing;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::wire;

use super::member::Body;
use super::subscriber::{NO_TICK, Phase, Taken, Unwritten};
use super::turn::Turn;
use crate::clock::unix_ms;
use crate::stats::{CloseReason, Counters};

/// How long a shut connection waits for the reader's end: two seconds, in ticks.
const LINGER: Tick = 100;

impl Turn {
    /// Looks at every subscriber that is due.
    pub(super) fn beat(&mut self) {
        let now = self.now();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.take_due(now, &mut due);
        // Looked at all together first: the reads overlap, where one between two sends waits for
        // memory (measured: 0.7 µs of the 14 of an idle subscriber's heartbeat).
        due.retain(|&(key, tick)| {
            let current = self.subscribers.get_mut(key as usize).filter(|subscriber| subscriber.beat == tick);
            current.map(|subscriber| subscriber.beat = NO_TICK).is_some()
        });
        for (key, _) in due.drain(..) {
            self.came_up(key, now);
        }
        self.due = due;
    }

    /// Tells the wheel when to bring a subscriber up next.
    pub(super) fn place_beat(&mut self, key: u32) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        let member = self.members.get(subscriber.member as usize);
        let interval = match subscriber.phase {
            Phase::Lingering => LINGER,
            Phase::Finishing => self.stall,
            Phase::Live if subscriber.blocked.is_some() => self.stall,
            Phase::Live => match member.and_then(|member| member.beat.as_ref()) {
                Some(beat) => beat.interval,
                None => return,
            },
        };
        let due = subscriber.last_write.saturating_add(interval);
        // Only heartbeats are spread: a stall or a linger comes up when it is over.
        let spread = if subscriber.ready() { interval } else { 0 };
        subscriber.beat = self.wheel.place(key, due, spread);
    }

    /// Makes sure that a blocked subscriber comes up.
    pub(super) fn watch_stall(&mut self, key: u32) {
        if self.subscribers.get(key as usize).is_some_and(|subscriber| subscriber.beat == NO_TICK) {
            self.place_beat(key);
        }
    }

    /// Makes sure that a subscriber whose stall was watched has its heartbeat in time again.
    pub(super) fn beat_in_time(&mut self, key: u32) {
        let Some(subscriber) = self.subscribers.get(key as usize) else { return };
        let beat = self.members.get(subscriber.member as usize).and_then(|member| member.beat.as_ref());
        if beat.is_some_and(|beat| subscriber.beat > subscriber.last_write.saturating_add(beat.interval)) {
            self.place_beat(key);
        }
    }

    fn came_up(&mut self, key: u32, now: Tick) {
        let Some(subscriber) = self.subscribers.get(key as usize) else { return };
        let idle = now.saturating_sub(subscriber.last_write);
        match subscriber.phase {
            Phase::Lingering => self.close(key, CloseReason::Ended),
            _ if subscriber.blocked.is_some() => {
                if idle >= self.stall {
                    self.close(key, CloseReason::Stalled);
                } else {
                    self.place_beat(key);
                }
            }
            Phase::Finishing => self.close(key, CloseReason::Ended),
            Phase::Live => {
                let member = self.members.get(subscriber.member as usize);
                let Some(beat) = member.and_then(|member| member.beat.clone()) else { return };
                // Written to since it was placed, or placed no further than the wheel reaches.
                let due = subscriber.last_write.saturating_add(beat.interval);
                if now < due && (idle < beat.interval / 2 || self.wheel.has_room(due, beat.interval)) {
                    self.place_beat(key);
                } else {
                    self.write_beat(key, beat.interval, &beat.body, now);
                }
            }
        }
    }

    fn write_beat(&mut self, key: u32, interval: Tick, body: &Body, now: Tick) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        let due = subscriber.last_write.saturating_add(interval);
        let mut event = Vec::new();
        let bytes = match body {
            Body::Frame(frame) => frame.bytes(subscriber.framing),
            Body::Event(name) => {
                let mut block = Vec::new();
                wire::heartbeat_event(&mut block, name, unix_ms());
                Framing::put(subscriber.framing, &mut event, &block);
                &event
            }
        };
        match subscriber.offer(bytes, now) {
            Taken::All => {
                if now >= due && now - due < interval / 2 {
                    // The next one is counted from when this one was due: being late by a tick
                    // each time would cost one heartbeat in a few hundred.
                    subscriber.last_write = due;
                }
                self.place_beat(key);
            }
            Taken::Some(0) => self.block(key, None),
            Taken::Some(taken) => self.block(key, Some(Unwritten::own(&bytes[taken..]))),
            Taken::Gone => return self.close(key, CloseReason::Gone),
        }
        Counters::add(&self.counters().heartbeats, 1);
    }
}
