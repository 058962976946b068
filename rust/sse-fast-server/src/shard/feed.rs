//! One subscriber from where it is to the newest: its arrival, its socket taking bytes again.
//!
//! In order: what was begun, then a gap where it fell behind, then frames. Only frames come from
//! the log; everything else is the subscriber's own bytes. A subscriber that is far behind and
//! whose socket takes everything is put off after a few rounds, so that others get their turn.

use std::sync::atomic::Ordering;

use sse_fast_core::cursor::{self, Gap, Opening};
use sse_fast_core::frame::Framing;
use sse_fast_core::id::Position;
use sse_fast_core::lag::{self, Pace, Verdict};
use sse_fast_core::wire;

use super::hold::{self, Hold};
use super::subscriber::{Phase, Taken, Unwritten};
use super::turn::Turn;
use crate::reader::put_gap;
use crate::stats::{CloseReason, Counters};
use crate::stream::{Inner, Stream};

/// Batches one subscriber is given before others get their turn: about a megabyte.
const ROUNDS: usize = 8;

/// What one look at the stream told about one subscriber.
struct Look {
    newest: Position,
    closing: bool,
    disconnect: bool,
}

impl Turn {
    /// Begins a stream for a subscriber: head, retry, gap, snapshot, then the log.
    pub(super) fn open(&mut self, key: u32, stream: &Stream, last_event_id: Option<&str>, head: Vec<u8>) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        let framing = subscriber.framing;
        let mut out = head;
        if let Some(begun) = subscriber.blocked.as_mut().and_then(|blocked| blocked.rest.take()) {
            // It comes from another stream and stopped inside a frame there: that is ended first.
            out.splice(0..0, begun.bytes(framing).iter().copied());
        }
        let inner = stream.inner();
        // Counted under the lock: whoever sees the count and publishes then is read from here on.
        stream.0.seats[self.number].subscribers.fetch_add(1, Ordering::AcqRel);
        if let Some(wait) = inner.state.options().retry {
            put(&mut out, framing, |block| wire::retry(block, wait));
        }
        let mut gaps = [None, None];
        subscriber.cursor = inner.state.newest() + 1;
        if let Opening::Live { before, snapshot, after, cursor } = cursor::open(&inner.state, last_event_id, None) {
            subscriber.cursor = cursor;
            gaps = [before, after];
            let gap = |gap: Option<Gap>, out: &mut Vec<u8>| {
                if let Some(gap) = gap {
                    put(out, framing, |block| put_gap(block, &inner, gap));
                }
            };
            gap(before, &mut out);
            if let Some(frame) = snapshot {
                out.extend_from_slice(frame.bytes(framing));
            }
            gap(after, &mut out);
        }
        self.begin_at_newest(stream, &inner);
        let newest = inner.state.newest();
        drop(inner);
        gaps.into_iter().flatten().for_each(|gap| self.count_gap(gap));
        let cursor = subscriber_cursor(self, key);
        if let Some(subscriber) = self.subscribers.get_mut(key as usize) {
            subscriber.hold = Hold::at(cursor);
            if let Some(blocked) = &mut subscriber.blocked {
                blocked.since = newest;
            }
        }
        if let Some(member) = self.members.get(stream.0.seats[self.number].member.load(Ordering::Relaxed) as usize) {
            member.lower_floor(self.number, cursor);
        }
        self.rounds(key, Pace::Ready, out);
        self.place_beat(key);
    }

    /// What was published while a stream had nobody here is owed to nobody: publishers must not
    /// wait for it. Under the stream's lock, so that nothing is appended meanwhile.
    fn begin_at_newest(&mut self, stream: &Stream, inner: &Inner) {
        let seat = &stream.0.seats[self.number];
        let member = self.members.get_mut(seat.member.load(Ordering::Relaxed) as usize);
        if let Some(member) = member.filter(|member| member.subscribers.len() == 1) {
            member.low = inner.state.newest() + 1;
            seat.offered(inner.state.log().appended());
        }
    }

    /// A socket takes bytes again.
    pub(super) fn unblock(&mut self, key: u32) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        if subscriber.blocked.is_some() && self.write_rest(key) {
            match self.subscribers.get(key as usize).map(|subscriber| subscriber.phase) {
                Some(Phase::Live) => {
                    let since = self.subscribers.get(key as usize).and_then(|subscriber| subscriber.blocked.as_ref());
                    let pace = since.map_or(Pace::Ready, |blocked| Pace::Blocked { since: blocked.since });
                    self.rounds(key, pace, Vec::new());
                }
                Some(Phase::Finishing) => self.shut(key),
                Some(Phase::Lingering) | None => {}
            }
        }
    }

    /// Gives a ready subscriber what there is; returns how many writes that took.
    pub(super) fn feed(&mut self, key: u32) -> usize {
        match self.subscribers.get(key as usize) {
            Some(subscriber) if subscriber.ready() => self.rounds(key, Pace::Ready, Vec::new()),
            _ => 0,
        }
    }

    /// Writes what was begun; says whether all of it was taken.
    fn write_rest(&mut self, key: u32) -> bool {
        let now = self.now();
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return false };
        let Some(mut rest) = subscriber.blocked.as_mut().and_then(|blocked| blocked.rest.take()) else { return true };
        let bytes = rest.bytes(subscriber.framing);
        let length = bytes.len();
        match subscriber.offer(bytes, now) {
            Taken::All => {
                self.count(length, 0);
                true
            }
            Taken::Some(taken) => {
                rest.advance(taken);
                self.block(key, Some(rest));
                self.count(taken, 0);
                false
            }
            Taken::Gone => {
                self.close(key, CloseReason::Gone);
                false
            }
        }
    }

    /// `out` first, then batch after batch until the socket is full or nothing is left.
    fn rounds(&mut self, key: u32, mut pace: Pace, mut out: Vec<u8>) -> usize {
        for round in 0..ROUNDS {
            let Some(look) = self.look(key, pace, &mut out) else { return round };
            if look.disconnect {
                self.finish(key, CloseReason::Lagged);
                return round;
            }
            match self.give(key, &out) {
                Taken::All => {
                    pace = Pace::Ready;
                    self.kept_up(key, look.newest);
                }
                Taken::Some(_) => return round + 1,
                Taken::Gone => {
                    self.close(key, CloseReason::Gone);
                    return round + 1;
                }
            }
            out.clear();
            let cursor = subscriber_cursor(self, key);
            if cursor > look.newest {
                self.unmark(key);
                self.finish_if_done(key, look.newest, look.closing);
                return round + 1;
            }
        }
        self.unmark(key);
        self.again.push_back(key);
        ROUNDS
    }

    /// Judges the subscriber, puts a gap into `out` where it fell behind, and lays out the frames
    /// it is given next.
    fn look(&mut self, key: u32, pace: Pace, out: &mut Vec<u8>) -> Option<Look> {
        let draining = self.draining();
        let subscriber = self.subscribers.get_mut(key as usize)?;
        let stream = self.members.get(subscriber.member as usize)?.stream.clone();
        let inner = stream.inner();
        let mut gap = None;
        match lag::judge(&inner.state, subscriber.cursor, pace) {
            Verdict::Continue => {}
            Verdict::Skip(skipped, target) => {
                put(out, subscriber.framing, |block| put_gap(block, &inner, skipped));
                subscriber.cursor = target;
                subscriber.hold.skip_to(target);
                gap = Some(skipped);
            }
            Verdict::Disconnect => {
                return Some(Look { newest: inner.state.newest(), closing: true, disconnect: true });
            }
        }
        let look = self.lay_out_from(key, &inner, draining);
        if let Some(gap) = gap {
            self.count_gap(gap);
        }
        look
    }

    fn lay_out_from(&mut self, key: u32, inner: &Inner, draining: bool) -> Option<Look> {
        let subscriber = self.subscribers.get_mut(key as usize)?;
        let log = inner.state.log();
        subscriber.cursor = subscriber.cursor.max(log.first());
        if subscriber.blocked.is_some() {
            let worth = hold::worth(log, inner.state.options());
            subscriber.hold.earn(subscriber.cursor, worth, self.ticks.now(), self.patience);
        }
        self.single.fill(log, subscriber.cursor, subscriber.framing);
        let closing = draining || inner.state.ended() || inner.removed;
        Some(Look { newest: inner.state.newest(), closing, disconnect: false })
    }

    /// Writes `own` and then the frames laid out.
    fn give(&mut self, key: u32, own: &[u8]) -> Taken {
        let now = self.now();
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return Taken::Gone };
        let (cursor, framing) = (subscriber.cursor, subscriber.framing);
        let frames = self.single.bytes_from(cursor, framing).unwrap_or_default();
        if own.is_empty() && frames.is_empty() {
            return Taken::All;
        }
        let (taken, length) = if own.is_empty() {
            (subscriber.offer(frames, now), frames.len())
        } else {
            self.out.clear();
            self.out.extend_from_slice(own);
            self.out.extend_from_slice(frames);
            (subscriber.offer(&self.out, now), self.out.len())
        };
        let written = match taken {
            Taken::All => length,
            Taken::Some(written) => written,
            Taken::Gone => return Taken::Gone,
        };
        let rest = if written < own.len() {
            Some(Unwritten::own(&own[written..]))
        } else if frames.is_empty() {
            None
        } else {
            let (next, rest) = self.single.advance(cursor, written - own.len(), framing);
            subscriber.cursor = next;
            rest.map(Unwritten::Frame)
        };
        let delivered = subscriber.cursor - cursor;
        self.count(written, delivered);
        if let Taken::Some(_) = taken {
            self.block(key, rest);
        }
        if self.out.capacity() > sse_fast_core::batch::MAX_BATCH_BYTES {
            self.out = Vec::new();
        }
        taken
    }

    /// The socket took all that was offered: should it fill again, its lag begins there.
    fn kept_up(&mut self, key: u32, newest: Position) {
        let blocked = self.subscribers.get_mut(key as usize).and_then(|subscriber| subscriber.blocked.as_mut());
        if let Some(blocked) = blocked {
            blocked.since = newest;
        }
    }

    /// The socket took everything there was.
    fn unmark(&mut self, key: u32) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        if subscriber.blocked.take().is_some() {
            subscriber.hold.rest(self.ticks.now());
            if let Some(member) = self.members.get_mut(subscriber.member as usize) {
                member.blocked -= 1;
            }
        }
        self.beat_in_time(key);
    }

    /// Ends a subscriber that has everything there will be.
    pub(super) fn finish_if_done(&mut self, key: u32, newest: Position, closing: bool) {
        let done = |subscriber: &super::subscriber::Subscriber| subscriber.ready() && subscriber.cursor > newest;
        if closing && self.subscribers.get(key as usize).is_some_and(done) {
            let reason = if self.draining() { CloseReason::Shutdown } else { CloseReason::Ended };
            self.finish(key, reason);
        }
    }

    /// Writes the last chunk and shuts our end; the subscriber leaves its stream at once.
    fn finish(&mut self, key: u32, reason: CloseReason) {
        self.detach(key);
        self.counters().close(reason);
        let now = self.now();
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        subscriber.phase = Phase::Finishing;
        subscriber.blocked = None;
        let taken = match subscriber.framing {
            // Who is cut off must see a cut: the last chunk would say that this was all.
            Framing::Chunked if reason != CloseReason::Lagged => subscriber.offer(wire::LAST_CHUNK, now),
            Framing::Chunked | Framing::Plain => Taken::All,
        };
        match taken {
            Taken::All => self.shut(key),
            Taken::Some(taken) => self.block(key, Some(Unwritten::own(&wire::LAST_CHUNK[taken..]))),
            Taken::Gone => self.close(key, CloseReason::Gone),
        }
    }

    fn count_gap(&self, gap: Gap) {
        let counters = self.counters();
        Counters::add(&counters.gaps, 1);
        Counters::add(&counters.skipped, gap.skipped().unwrap_or(0));
    }
}

fn subscriber_cursor(turn: &Turn, key: u32) -> Position {
    turn.subscribers.get(key as usize).map_or(0, |subscriber| subscriber.cursor)
}

fn put(out: &mut Vec<u8>, framing: Framing, write: impl FnOnce(&mut Vec<u8>)) {
    let mut block = Vec::new();
    write(&mut block);
    framing.put(out, &block);
}
