//! Connections that end because of who reads: their right is over, or the application disconnects them.
//!
//! Owns: the beginning of such an end, and what is said with it. Must not know: who decided. Invariants: who leaves gets what
//! was published until then, as far as its socket takes it, then its end; it is never walked again. Changes together with
//! `grants` (who and until when) and `feed` (which serves it to its end).

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::wire;

use super::ahead::Ahead;
use super::connection::{Flow, Phase};
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
        let connection = &self.connections[key];
        let (subscriber, flow) = (connection.subscriber, connection.flow);
        debug_assert_eq!(connection.phase, Phase::Open, "what is kept is of an open connection");
        debug_assert_ne!(subscriber, SubscriberKey::NONE, "an open connection reads");
        let newest = self.locals[self.subscribers[subscriber].local].stream.lock().state.newest();
        if !self.grants.leave(key, reason, [(subscriber, newest)].into_iter().collect()) {
            return false;
        }
        // One whose socket is full goes on when that takes bytes, one that catches up when it is its turn.
        if flow == Flow::Writable && self.subscribers[subscriber].progress == Progress::Walked {
            self.feed(subscriber, Ahead::default());
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
