//! A stream's news to all its subscribers.
//!
//! Everybody who is ready stands at the same or nearly the same place, so the frames are laid end
//! to end once and each subscriber gets one write of a slice. The newest position is read again
//! for each chunk of the walk: those who come late in it get what was published meanwhile in the
//! same write. A lone event is sent the moment it is seen; events pile up only while the shard is
//! busy, and that is what makes a burst cheap.
//!
//! # Rest
//! A long walk whose end finds news already rests before the next, for a quarter of the time it
//! took, unless a publisher waits: each send carries more then, and readers on the same machine
//! get to read (measured with 200 events/s to 5,000 subscribers on two cores: a tenth less
//! processor time, and the 99th percentile of the delays 85 ms and not 105).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sse_fast_core::frame::Framing;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::id::Position;

use super::hold;
use super::member::{Walk, Walking};
use super::subscriber::{Blocked, Taken, Unwritten};
use super::turn::{SENDS_PER_LOOK, Turn};
use crate::stats::{CloseReason, Counters};

/// A walk over fewer takes no time that would be worth a rest.
const LONG_WALK: usize = 256;

/// What a rest is of the walk before it, and its bounds: poll counts in milliseconds.
const REST: u32 = 4;
const SHORTEST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(10);

/// What a chunk of a walk knows about the stream.
struct View {
    /// The newest position.
    newest: Position,
    /// Whether nothing will follow it.
    closing: bool,
    /// The tick the chunk began in: reading the clock for each send would cost more than the walk.
    now: Tick,
}

impl Turn {
    /// Serves a chunk of the walk over a member; returns how many were served. The caller took the
    /// member off the list; it is put back while there is more to do.
    pub(super) fn walk(&mut self, mut walk: Walk) -> usize {
        self.retune(walk.member);
        let Some(view) = self.lay_out(&mut walk) else { return 0 };
        let mut served = 0;
        while served < SENDS_PER_LOOK {
            let Some(subscriber) = self.next_of(&mut walk) else { break };
            served += 1;
            self.serve(subscriber, &view);
        }
        self.end_of_chunk(walk, &view);
        served
    }

    /// Lays out the frames the member's subscribers have not been given.
    fn lay_out(&mut self, walk: &mut Walk) -> Option<View> {
        let (draining, now, key) = (self.draining(), self.now(), walk.member);
        let member = self.members.get_mut(key as usize)?;
        if member.walking == Walking::Queued {
            member.walking = Walking::Begun;
            member.dirty = false;
            walk.began = (member.subscribers.len() >= LONG_WALK).then(Instant::now);
        }
        let stream = member.stream.clone();
        let inner = stream.inner();
        let log = inner.state.log();
        let from = member.low.max(log.first());
        if self.batch_of == key && self.batch.from() == from {
            self.batch.extend(log);
        } else {
            self.batch.fill(log, from, Framing::Chunked);
            self.batch_of = key;
        }
        walk.low = walk.low.min(self.batch.until());
        walk.offered = walk.offered.min(log.appended_before(self.batch.until()));
        Some(View { newest: log.newest(), closing: draining || inner.state.ended() || inner.removed, now })
    }

    fn next_of(&mut self, walk: &mut Walk) -> Option<u32> {
        let member = self.members.get(walk.member as usize)?;
        walk.at = walk.at.min(member.subscribers.len()).checked_sub(1)?;
        member.subscribers.get(walk.at).copied()
    }

    fn serve(&mut self, key: u32, view: &View) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        if !subscriber.ready() {
            return;
        }
        let (cursor, framing) = (subscriber.cursor, subscriber.framing);
        if cursor <= view.newest {
            let Some(bytes) = self.batch.bytes_from(cursor, framing) else {
                // Overtaken by the publisher, of the other framing, or beyond this batch.
                self.feed(key);
                return;
            };
            let (length, taken) = (bytes.len(), subscriber.offer(bytes, view.now));
            self.took(key, cursor, taken, length);
        }
        self.finish_if_done(key, view.newest, view.closing);
    }

    /// Books what a socket took of the batch.
    fn took(&mut self, key: u32, cursor: Position, taken: Taken, length: usize) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        let written = match taken {
            Taken::All => length,
            Taken::Some(written) => written,
            Taken::Gone => return self.close(key, CloseReason::Gone),
        };
        let rest = if taken == Taken::All {
            subscriber.cursor = self.batch.until();
            None
        } else {
            let (next, rest) = self.batch.advance(cursor, written, subscriber.framing);
            subscriber.cursor = next;
            rest
        };
        let delivered = subscriber.cursor - cursor;
        if taken != Taken::All {
            self.block(key, rest.map(Unwritten::Frame));
        }
        self.count(written, delivered);
    }

    /// A socket is full: it will say when it is not.
    pub(super) fn block(&mut self, key: u32, rest: Option<Unwritten>) {
        let (now, patience) = (self.now(), self.patience);
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        if let Some(blocked) = &mut subscriber.blocked {
            blocked.rest = rest;
            return;
        }
        let cursor = subscriber.cursor;
        let mut since = cursor;
        if let Some(member) = self.members.get_mut(subscriber.member as usize) {
            let inner = member.stream.inner();
            since = inner.state.newest();
            subscriber.hold.begin(cursor, hold::worth(inner.state.log(), inner.state.options()), now, patience);
            drop(inner);
            member.blocked += 1;
            member.lower_floor(self.number, cursor);
        }
        subscriber.blocked = Some(Box::new(Blocked { rest, since }));
        Counters::add(&self.counters().blocked, 1);
        self.watch_stall(key);
    }

    pub(super) fn count(&self, bytes: usize, events: u64) {
        let counters = self.counters();
        Counters::add(&counters.bytes, bytes as u64);
        Counters::add(&counters.writes, 1);
        Counters::add(&counters.delivered, events);
    }

    fn end_of_chunk(&mut self, walk: Walk, view: &View) {
        let (number, key) = (self.number, walk.member);
        let Some(member) = self.members.get_mut(key as usize) else { return };
        if walk.at > 0 && !member.subscribers.is_empty() {
            self.walks.push_back(walk);
            return;
        }
        member.low = walk.low;
        let mut waited_for = member.seat(number).waiting.load(Ordering::Relaxed);
        if member.seat(number).walked(walk.offered) {
            waited_for = true;
            member.stream.room_rose();
        }
        if self.again.is_empty() {
            member.walked(number);
        }
        let unread = member.low <= view.newest;
        if !member.subscribers.is_empty() && (unread || std::mem::take(&mut member.dirty)) {
            member.walking = Walking::Queued;
            let next = Walk::over(key, member.subscribers.len());
            let took = walk.began.filter(|_| !waited_for).map(|began| began.elapsed());
            match took.and_then(rest_after) {
                Some(rest) => self.resting.push((Instant::now() + rest, next)),
                None => self.walks.push_back(next),
            }
        } else {
            member.walking = Walking::No;
            member.dirty = false;
            if self.batch_of == key && self.walks.is_empty() {
                self.batch.clear();
                self.batch_of = super::subscriber::NO_MEMBER;
            }
            self.forget_if_unused(key);
        }
    }
}

/// How long a member rests after a walk that `took` so long.
fn rest_after(took: Duration) -> Option<Duration> {
    let rest = took / REST;
    (rest >= SHORTEST_REST).then_some(rest.min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_took_long_rests_and_never_for_long() {
        for (took, rest) in [(0, None), (3, None), (4, Some(1)), (20, Some(5)), (40, Some(10)), (5000, Some(10))] {
            assert_eq!(rest_after(Duration::from_millis(took)), rest.map(Duration::from_millis), "{took} ms");
        }
    }
}
