//! What clients of handlers come back to: streams that have no name to be found by.
//!
//! Owns: the streams of generators by the ids that their readers have, and the ids of finished calls. Must not know: HTTP,
//! handlers, time (`directory` says when one is forgotten). Such an id is all that its reader needs to read on, so nobody
//! can guess it: the epoch is random, where that of a named stream is the time.
//! Invariants: a stream is here from before its first event until it is forgotten; of those that have ended no more are kept
//! than [`MAX_ENDED`], with [`MAX_ENDED_BYTES`] of events, whatever strangers ask for. The last event of a call has an id of
//! the server's epoch of finished calls: it is known as such without anything being kept for it.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use sse_fast_core::id::{self, Epoch, IdText};

use crate::stream::Stream;

/// The most ended streams that are kept for readers that lost their connection before the end.
const MAX_ENDED: usize = 1024;

/// The most bytes of events that those may hold.
const MAX_ENDED_BYTES: usize = 64 << 20;

/// What an id leads to.
pub(crate) enum Left {
    /// Its call is finished, and its reader has everything.
    Nothing,
    Stream(Stream),
}

/// See the module.
pub(crate) struct Resumable {
    /// Of the last events of calls.
    finished: Epoch,
    /// Held for a look-up or a change; no stream's lock is taken under it.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// With the key of the handler whose generator fills it.
    streams: HashMap<Epoch, (Stream, u64)>,
    /// Those that have ended, oldest first, with the bytes they hold; some may be forgotten.
    ended: VecDeque<(Epoch, usize)>,
    /// The sum of those bytes.
    bytes: usize,
}

impl Resumable {
    pub(crate) fn new() -> Self {
        // One that could be guessed would tell a stranger nothing: its only answer is that there is nothing.
        Self { finished: random_epoch().unwrap_or(Epoch(0)), table: Mutex::default() }
    }

    /// The id of a call's last event.
    pub(crate) fn finished_id(&self) -> IdText {
        IdText::new(self.finished, 1)
    }

    /// A stream that the generator of the handler with this key will fill.
    pub(crate) fn add(&self, stream: &Stream, handler: u64) {
        let epoch = stream.life();
        self.table.lock().streams.insert(epoch, (stream.clone(), handler));
    }

    /// What a client of this handler comes back to with this id.
    pub(crate) fn find(&self, id: &str, handler: u64) -> Option<Left> {
        let (epoch, _) = id::parse(id)?;
        if epoch == self.finished {
            return Some(Left::Nothing);
        }
        let table = self.table.lock();
        let (stream, key) = table.streams.get(&epoch)?;
        (*key == handler).then(|| Left::Stream(stream.clone()))
    }

    /// The stream of this life.
    pub(crate) fn of(&self, epoch: Epoch) -> Option<Stream> {
        self.table.lock().streams.get(&epoch).map(|(stream, _)| stream.clone())
    }

    /// Every stream.
    pub(crate) fn all(&self) -> Vec<Stream> {
        self.table.lock().streams.values().map(|(stream, _)| stream.clone()).collect()
    }

    /// A stream has ended and holds so many bytes; returns those that are forgotten in its favour.
    pub(crate) fn ended(&self, epoch: Epoch, bytes: usize) -> Vec<Stream> {
        let mut table = self.table.lock();
        let mut forgotten = Vec::new();
        if !table.streams.contains_key(&epoch) || table.ended.iter().any(|(other, _)| *other == epoch) {
            return forgotten;
        }
        table.ended.push_back((epoch, bytes));
        table.bytes += bytes;
        while table.ended.len() > MAX_ENDED || table.bytes > MAX_ENDED_BYTES {
            let Some((oldest, held)) = table.ended.pop_front() else { break };
            table.bytes -= held;
            forgotten.extend(table.streams.remove(&oldest).map(|(stream, _)| stream));
        }
        forgotten
    }

    /// The stream of this life is forgotten; says whether it was here.
    pub(crate) fn forget(&self, epoch: Epoch) -> bool {
        let mut table = self.table.lock();
        let stream = table.streams.remove(&epoch);
        if let Some(at) = table.ended.iter().position(|(other, _)| *other == epoch) {
            let held = table.ended.remove(at).map_or(0, |(_, bytes)| bytes);
            table.bytes -= held;
        }
        // What was here is dropped without the lock.
        drop(table);
        stream.is_some()
    }

    pub(crate) fn clear(&self) {
        let table = std::mem::take(&mut *self.table.lock());
        drop(table);
    }
}

/// An epoch that nobody can guess, where the system has randomness.
pub(crate) fn random_epoch() -> Option<Epoch> {
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).ok().map(|()| Epoch(u64::from_le_bytes(bits)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sse_fast_core::options::StreamOptions;

    use super::*;
    use crate::delivery::{Delivery, Patience};
    use crate::mailbox::{Latch, Mailbox, Wake};

    struct Quiet;

    impl Wake for Quiet {
        fn wake(&self) {}
    }

    fn stream(epoch: u64) -> Stream {
        let notices = Mailbox::new(&Latch::new(Quiet));
        let delivery = Arc::new(Delivery::new(Box::new([]), notices, Patience::Lossless));
        Stream::new("/chat", Epoch(epoch), &delivery, Arc::new(StreamOptions::default()))
    }

    fn finds(resumable: &Resumable, epoch: u64, handler: u64) -> bool {
        let id = IdText::new(Epoch(epoch), 3);
        matches!(resumable.find(id.as_str(), handler), Some(Left::Stream(stream)) if stream.life() == Epoch(epoch))
    }

    #[test]
    fn a_reader_finds_its_stream_at_its_handler_until_it_is_forgotten() {
        let resumable = Resumable::new();
        resumable.add(&stream(7), 1);
        assert!(finds(&resumable, 7, 1) && !finds(&resumable, 7, 2) && !finds(&resumable, 8, 1));
        assert!(resumable.find("mine", 1).is_none());
        assert!(resumable.ended(Epoch(7), 100).is_empty() && finds(&resumable, 7, 1));
        assert!(resumable.forget(Epoch(7)) && !resumable.forget(Epoch(7)));
        assert!(!finds(&resumable, 7, 1));
        assert_eq!(resumable.table.lock().bytes, 0);
    }

    #[test]
    fn a_finished_call_is_known_by_its_id_alone() {
        let (resumable, other) = (Resumable::new(), Resumable::new());
        let id = resumable.finished_id();
        assert!(matches!(resumable.find(id.as_str(), 1), Some(Left::Nothing)));
        assert!(other.find(id.as_str(), 1).is_none(), "another server's");
    }

    #[test]
    fn no_more_ended_streams_are_kept_than_may_be() {
        let resumable = Resumable::new();
        for epoch in 0..=MAX_ENDED as u64 {
            resumable.add(&stream(epoch), 1);
            let forgotten = resumable.ended(Epoch(epoch), 1);
            assert!(resumable.ended(Epoch(epoch), 1).is_empty(), "told twice");
            assert_eq!(forgotten.len(), usize::from(epoch == MAX_ENDED as u64));
        }
        assert!(!finds(&resumable, 0, 1) && finds(&resumable, 1, 1));
        resumable.add(&stream(5000), 1);
        assert_eq!(resumable.ended(Epoch(5000), MAX_ENDED_BYTES).len(), MAX_ENDED, "all the others");
    }
}
