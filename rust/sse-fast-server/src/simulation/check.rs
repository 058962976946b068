//! What must hold once nobody has anything to do, and once everybody has gone.
//!
//! Owns: those laws. Must not know: how it came about. Times are exact but for the wheel's ticks.

use std::sync::atomic::Ordering;

use sse_fast_core::id::Position;
use sse_fast_core::options::OnLag;

use super::times::{MS, SECOND, STALL, TICKS};
use super::told::SimStream;
use super::world::World;
use crate::delivery::Patience;
use crate::shard::Seen;
use crate::stream::Want;

/// What may come before events: what a move found half-written, a head, `retry`, two gaps, a snapshot.
const OPENING: usize = 500;

/// What may stand between events: a gap or a heartbeat.
const OWN_BLOCK: usize = 120;

impl World {
    /// After everything that was to be done now was done.
    pub(super) fn check(&self) {
        self.stage.check_faults();
        self.stage.hear_presence();
        let streams = self.stage.streams.borrow();
        for (number, shard) in self.shards.iter().enumerate() {
            for seen in shard.shard.iter().flat_map(crate::shard::Shard::seen) {
                self.check_connection(number, &seen, &streams);
            }
        }
        for (number, shard) in self.shards.iter().enumerate() {
            for seen in shard.shard.iter().flat_map(crate::shard::Shard::seen_several) {
                self.check_several(number, &seen, &streams);
            }
        }
        self.check_publishers(&streams);
    }

    fn check_connection(&self, shard: usize, seen: &Seen, streams: &[SimStream]) {
        let client = self.clients.iter().find(|client| {
            let token = client.wire.as_ref().and_then(|wire| wire.borrow().registered);
            client.shard == shard && token == Some(seen.token)
        });
        let Some(client) = client else { return };
        let (Some(wire), now) = (&client.wire, self.now()) else { return };
        let mut wire = wire.borrow_mut();
        if wire.is_short {
            assert!(now < wire.last_taken + STALL + TICKS, "a reader that takes nothing is closed after stall_timeout");
        }
        if let Some(shut) = wire.shut {
            assert!(now <= shut + 2 * SECOND + TICKS, "a connection that was shut is closed after a little");
        }
        let opened = client.moves.back().or(client.opened.as_ref()).or(wire.opened.as_ref());
        let (Some(opened), Some(cursor)) = (opened, seen.cursor) else { return };
        let stream = &streams[opened.stream];
        let own = if wire.taken < OPENING { OPENING } else { OWN_BLOCK };
        let (kept, largest) = (seen.unwritten, stream.largest);
        assert!(
            kept <= largest.max(own),
            "{kept} bytes are kept for one reader, where the largest block has {largest}"
        );
        // A stream that rests goes on within ten milliseconds.
        let rests = seen.state[4] == 2;
        if seen.is_full {
            let disconnects = stream.all.options.on_lag == OnLag::Disconnect;
            let lags = seen.is_beyond || cursor < stream.all.first;
            assert!(rests || !disconnects || !lags, "on_lag=disconnect closes who lags, also one that takes nothing");
            return;
        }
        assert!(rests || cursor == stream.all.newest() + 1, "a subscriber whose socket takes bytes has everything");
        assert!(rests || !stream.is_complete(), "who has everything there will be is given the end");
        if cursor == stream.all.newest() + 1 && seen.unwritten == 0 && wire.unread.is_empty() {
            // Whatever it lacks from now on has another reason.
            wire.was_short = false;
        }
        // An event that came late may say that a full socket takes bytes: the next heartbeat finds out.
        if let Some(every) = stream.heartbeat().filter(|_| !wire.is_short) {
            let every = u64::try_from(every.as_micros()).unwrap();
            let due = (wire.last_taken + every).max(stream.retuned).max(client.opened_at).max(self.jammed) + TICKS;
            assert!(now <= due, "a heartbeat is {} ms late", (now - due) / MS);
        }
    }

    fn check_publishers(&self, streams: &[SimStream]) {
        let publishers = self.stage.publishers.borrow();
        for (at, stream) in streams.iter().enumerate() {
            let Some((next, is_kept)) = publishers.next_of(at, self.now()) else { continue };
            let (is_paying, asks) = {
                let inner = stream.stream.lock();
                (inner.is_paying(), inner.want == Want::Answer)
            };
            if self.setup.lazily {
                assert!(next.until > self.now(), "who waits looks again in time");
            } else {
                // A shard that has just checked does so again a few microseconds later.
                assert!(is_paying || asks || is_kept, "a publisher waits for shards that have nothing to do");
            }
            assert!(
                !is_paying || self.setup.patience != Patience::Within(0),
                "without patience no socket is waited for"
            );
        }
        let Patience::Within(limit) = self.setup.patience else { return };
        for stream in streams {
            let [paid, late] = [&stream.paid, &stream.late].map(|times| times.within_a_minute(self.now()));
            assert!(paid <= limit + late, "a stream's publishers waited {paid} of {limit} in a minute");
        }
    }

    /// After everybody has gone: nothing is left of them.
    pub(super) fn check_nothing_is_left(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            if let Some(machine) = &shard.shard {
                assert_eq!(machine.kept(), (0, 0), "streams and connections that are kept for nobody");
            }
            let counters = shard.handle.counters();
            assert_eq!(counters.subscribers.load(Ordering::Relaxed), 0, "subscribers");
            assert_eq!(counters.sockets.load(Ordering::Relaxed), 0, "sockets");
            for stream in self.stage.streams.borrow().iter() {
                assert_eq!(stream.stream.link(number).subscribers(), 0, "subscribers of a stream");
                if shard.shard.is_some() {
                    let floors = stream.stream.link(number).floors();
                    assert_eq!(floors, (Position::MAX, Position::MAX), "nothing is owed to nobody");
                }
            }
        }
    }
}
