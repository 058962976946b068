//! Subscribers stepped by hand, in simulated time, exactly as a shard steps them.
//!
//! One pass over a subscriber: finish what is half-written, judge its lag, announce a gap, lay
//! frames end to end and write what the socket takes. Every verdict of the engine is held against
//! the oracle ([`Shard::check_verdict`]) and every opening too; what arrives is held against the
//! laws by each peer's reader.

use sse_fast_core::batch::Batch;
use sse_fast_core::cursor::{self, Gap, Opening};
use sse_fast_core::frame::Framing;
use sse_fast_core::heartbeat::{Tick, Wheel};
use sse_fast_core::lag::{self, Pace, Verdict};
use sse_fast_core::options::{OnLag, StreamPatch};
use sse_fast_core::wire;

use crate::everything::Expected;
use crate::parser::Parser;
use crate::peer::{Peer, Subscriber};
use crate::world::{Publish, World};

/// The interval of every heartbeat here, in ticks.
pub const HEARTBEAT: Tick = 40;

/// See the module.
#[derive(Debug)]
pub struct Shard {
    pub world: World,
    pub peers: Vec<Peer>,
    /// Whether a publish waits for what was not yet offered to writable subscribers.
    waits: bool,
    /// Whether options shrank the history under the readers: no publisher can wait for that.
    shrunk: bool,
    batch: Batch,
    wheel: Wheel,
    now: Tick,
}

impl Shard {
    pub fn new(world: World, peers: Vec<Peer>, waits: bool) -> Self {
        let (batch, wheel) = (Batch::default(), Wheel::default());
        Self { world, peers, waits, shrunk: false, batch, wheel, now: 0 }
    }

    /// A publish: before the log overwrites what a writable subscriber was not offered, it waits.
    pub fn publish(&mut self, publish: &Publish) {
        let prepared = self.world.prepare(publish);
        let first = self.world.state.first_after(&prepared);
        if self.waits && self.peers.iter().any(|peer| peer.is_overtaken_by(first)) {
            self.walk();
        }
        self.world.append(publish, prepared);
    }

    /// Publishes the terminal event.
    pub fn end(&mut self) {
        self.publish(&Publish::default());
        self.world.state.end();
        self.world.all.ended = true;
    }

    pub fn set_options(&mut self, patch: &StreamPatch) {
        self.shrunk = true;
        self.world.set_options(patch);
    }

    /// The peer's client reads: its socket has room for `bytes` more.
    pub fn drain(&mut self, at: usize, bytes: usize) {
        let socket = &mut self.peers[at].socket;
        socket.room = socket.room.saturating_add(bytes).min(socket.capacity);
    }

    /// The peer's socket takes everything from now on.
    pub fn unblock(&mut self, at: usize) {
        let socket = &mut self.peers[at].socket;
        (socket.room, socket.capacity) = (usize::MAX, usize::MAX);
    }

    /// Connects with the last id the client saw, or with `id` instead of it, and serves at once.
    pub fn connect(&mut self, at: usize, id: Option<&str>) {
        let Self { world, peers, wheel, now, .. } = self;
        let peer = &mut peers[at];
        let last_id = id.map(str::to_owned).or_else(|| peer.socket.reader.last_id.clone());
        let place = world.all.place(last_id.as_deref());
        let expected = world.all.must_see(last_id.as_deref(), None);
        let opening = cursor::open(&world.state, last_id.as_deref(), None);
        let Opening::Live { before, snapshot, after, cursor } = opening else {
            assert_eq!(expected, Expected::Nothing, "204 only to a reader that has the terminal event");
            peer.finished = true;
            return;
        };
        peer.socket.parser = Parser::new(peer.framing == Framing::Chunked, world.all.options.ids);
        peer.socket.is_fresh = true;
        peer.socket.reader.connect(place, &expected);
        let is_silent = before.is_none() && snapshot.is_none() && after.is_none();
        let mut pending = retry_bytes(world, peer.framing);
        pending.extend(world.gap_bytes(before, peer.framing));
        pending.extend(snapshot.iter().flat_map(|frame| frame.bytes(peer.framing).to_vec()));
        pending.extend(world.gap_bytes(after, peer.framing));
        peer.subscriber = Some(Subscriber {
            framing: peer.framing,
            cursor,
            pending,
            rest: None,
            pace: Pace::Ready,
            wrote_at: *now,
            slot: wheel.place(u32::try_from(at).unwrap(), *now + HEARTBEAT, HEARTBEAT),
            is_closing: false,
            retry_waits: world.all.options.retry.is_some() && is_silent,
        });
        self.serve(at);
    }

    /// Time goes on: every tick's heartbeats are written where nothing is half-written.
    pub fn tick(&mut self) {
        self.now += 1;
        let mut due = Vec::new();
        self.wheel.take_due(self.now, &mut due);
        for (key, tick) in due {
            self.look_at(key, tick);
        }
        for peer in self.peers.iter().filter(|peer| peer.is_healthy()) {
            let idle = peer.subscriber.as_ref().map_or(0, |subscriber| self.now - subscriber.wrote_at);
            assert!(idle < HEARTBEAT, "idle for {idle} ticks and no heartbeat");
        }
    }

    /// One walk over every subscriber; the batch serves any of them. It is kept from walk to walk
    /// while the log still continues it, and begun anew every few ticks.
    pub fn walk(&mut self) {
        let is_continued = self.batch.until() >= self.world.state.log().first();
        if is_continued && !self.now.is_multiple_of(4) && self.batch.until() > self.batch.from() {
            self.batch.extend(self.world.state.log());
        } else {
            self.batch.clear();
        }
        for at in 0..self.peers.len() {
            self.serve(at);
        }
    }

    /// A subscriber whose slot came up: beats where it was idle, and is placed anew.
    fn look_at(&mut self, key: u32, tick: Tick) {
        let Self { world, peers, wheel, now, .. } = self;
        let peer = &mut peers[key as usize];
        let Some(subscriber) = peer.subscriber.as_ref().filter(|subscriber| subscriber.slot == tick) else { return };
        let is_whole = subscriber.pending.is_empty() && subscriber.rest.is_none();
        // Up to half an interval early is the wheel's way to spread a crowd.
        let is_idle = 2 * (*now - subscriber.wrote_at) >= HEARTBEAT;
        if is_whole && is_idle && subscriber.pace == Pace::Ready {
            peer.beat(world, *now);
        }
        if let Some(subscriber) = &mut peer.subscriber {
            let last = if subscriber.pace == Pace::Ready { subscriber.wrote_at } else { *now };
            subscriber.slot = wheel.place(key, last + HEARTBEAT, HEARTBEAT);
        }
    }

    fn serve(&mut self, at: usize) {
        let peer = &self.peers[at];
        let is_stuck = |subscriber: &Subscriber| subscriber.pace != Pace::Ready && peer.socket.room == 0;
        // A blocked socket without room is not reported as writable.
        if !peer.subscriber.as_ref().is_none_or(is_stuck) {
            while self.serve_once(at) {}
        }
    }

    /// Writes one batch; says whether there may be more to do.
    fn serve_once(&mut self, at: usize) -> bool {
        let Self { world, peers, now, .. } = self;
        let peer = &mut peers[at];
        if !peer.finish_half_written(world, *now) || peer.close_if_done(world.all.options.ids) {
            return false;
        }
        let Some(subscriber) = &peer.subscriber else { return false };
        let (cursor, pace) = (subscriber.cursor, subscriber.pace);
        let verdict = lag::judge(&world.state, cursor, pace);
        self.check_verdict(cursor, pace, verdict);
        let Self { world, peers, batch, now, .. } = self;
        let peer = &mut peers[at];
        match verdict {
            Verdict::Continue => peer.write_frames(world, batch, *now),
            Verdict::Skip(gap, target) => {
                peer.announce(world, gap, target, *now) && peer.write_frames(world, batch, *now)
            }
            Verdict::Disconnect => {
                peer.disconnect();
                false
            }
        }
    }

    /// A subscriber is skipped only where the log overwrote its place, or where it was blocked and
    /// is beyond `max_lag`; where either is so it is never left alone; and the policy says how far.
    fn check_verdict(&self, cursor: u64, pace: Pace, verdict: Verdict) {
        let all = &self.world.all;
        let is_overwritten = cursor < all.first;
        // What was published before its socket filled it is still being given.
        let is_beyond = match pace {
            Pace::Ready => false,
            Pace::Blocked { since } => {
                (cursor..=all.newest()).filter(|&n| n > since).count() as u64 > all.options.max_lag
            }
        };
        let may_overtake = pace != Pace::Ready || !self.waits || self.shrunk;
        assert!(!is_overwritten || may_overtake, "a publish did not wait for a writable subscriber");
        let to = |target| Verdict::Skip(Gap::Known { from: cursor, to: target - 1 }, target);
        let expected = match all.options.on_lag {
            _ if !is_overwritten && !is_beyond => Verdict::Continue,
            OnLag::Disconnect => Verdict::Disconnect,
            OnLag::Latest => to(all.newest()),
            OnLag::Skip if is_beyond => to(all.first.max(all.newest() + 1 - all.options.max_lag)),
            OnLag::Skip => to(all.first),
        };
        assert_eq!(verdict, expected, "cursor {cursor}, {pace:?}, {}..={}", all.first, all.newest());
    }
}

fn retry_bytes(world: &World, framing: Framing) -> Vec<u8> {
    let (mut line, mut bytes) = (Vec::new(), Vec::new());
    if let Some(wait) = world.all.options.retry {
        wire::retry(&mut line, wait);
        framing.put(&mut bytes, &line);
    }
    bytes
}
