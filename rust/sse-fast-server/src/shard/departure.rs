//! Connections that end because of who reads: their right is over, or the application disconnects them.
//!
//! Owns: the beginning of such an end, and what is said with it. Must not know: who decided. Invariants: who leaves gets what
//! was published until then, as far as its socket takes it, then its end; it is never walked again. Changes together with
//! `grants` (who and until when) and `feed` (which serves it to its end).

use smallvec::SmallVec;
use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::wire;

use super::ahead::Ahead;
use super::connection::{Flow, Phase, Reads};
use super::machine::Shard;
use super::net::Net;
use super::subscriber::Progress;
use super::table::{ConnectionKey, SubscriberKey};
use crate::stats::CloseReason;

impl<N: Net> Shard<N> {
    /// Ends connections whose rights are over, a few at a time: a crowd may have got its tickets in one moment.
    pub(super) fn expire(&mut self) {
        for _ in 0..self.settings.pacing.sends_per_mail {
            let Some(key) = self.grants.take_due(self.now) else { return };
            self.depart(key, CloseReason::Expired);
        }
    }

    /// Ends every connection of a reader that was let in until then; says how many that were.
    pub(super) fn disconnect(&mut self, reader: &str, until: Micros) -> usize {
        let own = self.grants.of_reader(reader, until);
        own.into_iter().filter(|&key| self.depart(key, CloseReason::Disconnected)).count()
    }

    /// Begins the end of a connection; false where it is about to end already.
    fn depart(&mut self, key: ConnectionKey, reason: CloseReason) -> bool {
        debug_assert_eq!(self.connections[key].phase, Phase::Open, "what is kept is of an open connection");
        let subscribers: SmallVec<[SubscriberKey; 1]> = match self.connections[key].reads() {
            Reads::Nothing => SmallVec::new(),
            Reads::One(subscriber) => [subscriber].into_iter().collect(),
            Reads::Several(group) => self.groups[group].subscribers().map(|(_, subscriber)| subscriber).collect(),
        };
        debug_assert!(!subscribers.is_empty(), "an open connection reads");
        let newest = |subscriber| self.locals[self.subscribers[subscriber].local].stream.lock().state.newest();
        let until = subscribers.iter().map(|&subscriber| (subscriber, newest(subscriber)));
        if !self.grants.leave(key, reason, until.collect()) {
            return false;
        }
        // One whose socket is full goes on when that takes bytes, one that catches up when it is its turn.
        if self.connections[key].flow == Flow::Writable {
            match self.connections[key].reads() {
                Reads::One(subscriber) if self.subscribers[subscriber].progress == Progress::Walked => {
                    self.feed(subscriber, Ahead::default());
                }
                Reads::Several(_) => {
                    self.feed_together(key, None, self.names_at_rest(key), &[]);
                }
                Reads::Nothing | Reads::One(_) => {}
            }
        }
        true
    }
}

/// The last bytes of a connection that ends for this reason.
pub(super) fn last_bytes(framing: Framing, reason: CloseReason) -> Vec<u8> {
    let mut bytes = Vec::new();
    if reason == CloseReason::Expired {
        let mut block = Vec::new();
        wire::expired(&mut block);
        framing.put(&mut bytes, &block);
    }
    match framing {
        // Who is cut off must see a cut: the last chunk would say that this was all.
        Framing::Chunked if reason != CloseReason::Lagged => bytes.extend_from_slice(wire::LAST_CHUNK),
        Framing::Chunked | Framing::Plain => {}
    }
    bytes
}
