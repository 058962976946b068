//! Who comes and goes, on its way to the application's callbacks.
//!
//! Owns: one bounded queue for the whole server, and the count of what did not fit. Must not know: callbacks, shards, when a
//! stream counts as empty (`stream::presence`). Invariants: putting something in never waits for a callback. A stream's joins
//! and leaves are put in under that stream's lock, where its subscribers are counted: so they are in its order, and joins less
//! leaves are those present. The queue's own lock is a leaf: nothing is done under it but adding and taking; who waits is woken, and
//! losses are logged, once the stream's lock is free ([`Presence::ring`]). Nothing that waits here is held by a stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::logs::{Level, Logs};
use crate::stream::Stream;

/// Joins and leaves that may wait: a storm of readers, while a callback takes its time; 2 MB.
pub(crate) const MAX_WAITING: usize = 65_536;

/// The most that one `take` gives. The binding converts a batch while it holds the interpreter.
const BATCH: usize = 1024;

pub use crate::admitted::ReaderName;

/// What a callback is told.
#[derive(Clone, Debug)]
pub enum PresenceEvent {
    /// A subscriber came.
    Joined {
        /// To this stream.
        stream: Stream,
        /// Who it is.
        reader: ReaderName,
    },
    /// A subscriber left.
    Left {
        /// This stream.
        stream: Stream,
        /// Who it was.
        reader: ReaderName,
    },
    /// A stream has been empty for as long as was asked for under this key.
    Empty {
        /// The key given to `Stream::on_empty`.
        key: u64,
        /// Whether the key will not be told again.
        is_last: bool,
    },
    /// Under this key nothing more will be told.
    Forgotten {
        /// The key given to `Stream::on_empty`.
        key: u64,
    },
}

/// The queue; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct Presence(Arc<PresenceQueue>);

#[derive(Default)]
struct PresenceQueue {
    /// Held to add or take; see the module.
    waiting: Mutex<Waiting>,
    /// Notified when there is something, and at the end.
    arrived: Condvar,
    /// Whether anybody wants to be told of joins and leaves. Relaxed: who begins to want it is told of those who come later.
    is_wanted: AtomicBool,
    /// Joins and leaves that did not fit. Relaxed: a number for people.
    lost: AtomicU64,
    logs: Logs,
}

#[derive(Default)]
struct Waiting {
    /// Oldest first.
    events: VecDeque<PresenceEvent>,
    /// How many of them are joins and leaves. Those of empty streams are few: each key waits once.
    readers: usize,
    /// Joins and leaves that did not fit since the log last said so.
    unlogged: u64,
    /// Whether the queue has been full since it was last emptied: the log has said so.
    is_full: bool,
    closed: bool,
}

impl Presence {
    /// An empty queue whose losses are logged there.
    pub(crate) fn new(logs: Logs) -> Self {
        Self(Arc::new(PresenceQueue { logs, ..PresenceQueue::default() }))
    }

    /// Joins and leaves are wanted from now on.
    pub fn want(&self) {
        self.0.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether joins and leaves are wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_wanted.load(Ordering::Relaxed)
    }

    /// A subscriber came; under the stream's lock, and then [`Self::ring`] without it.
    pub(crate) fn joined(&self, stream: &Stream, reader: &ReaderName) {
        self.put_reader(stream, || PresenceEvent::Joined { stream: stream.clone(), reader: reader.clone() });
    }

    /// A subscriber left; likewise.
    pub(crate) fn left(&self, stream: &Stream, reader: &ReaderName) {
        self.put_reader(stream, || PresenceEvent::Left { stream: stream.clone(), reader: reader.clone() });
    }

    fn put_reader(&self, stream: &Stream, event: impl FnOnce() -> PresenceEvent) {
        if !self.is_wanted() || stream.is_stand_in() {
            return;
        }
        #[cfg(not(loom))]
        debug_assert!(stream.is_locked(), "joins and leaves are told in the stream's order");
        let mut waiting = self.0.waiting.lock();
        if waiting.closed {
            return;
        }
        if waiting.readers < MAX_WAITING {
            waiting.readers += 1;
            waiting.events.push_back(event());
        } else {
            waiting.unlogged += 1;
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something was put in: who waits for it is woken, and what did not fit is logged. Without a stream's lock.
    pub(crate) fn ring(&self) {
        let mut waiting = self.0.waiting.lock();
        let overflows = waiting.unlogged > 0 && !std::mem::replace(&mut waiting.is_full, true);
        drop(waiting);
        self.0.arrived.notify_one();
        if overflows {
            let text =
                format!("{MAX_WAITING} joins and leaves wait for their callbacks: more are lost until those return");
            self.0.logs.put(Level::Warning, "sse_fast", text);
        }
    }

    /// A stream has been empty for as long as was asked for under this key.
    pub(crate) fn empty(&self, key: u64, is_last: bool) {
        self.put(PresenceEvent::Empty { key, is_last });
    }

    /// Nothing more will be told under this key.
    pub(crate) fn forgotten(&self, key: u64) {
        self.put(PresenceEvent::Forgotten { key });
    }

    fn put(&self, event: PresenceEvent) {
        let mut waiting = self.0.waiting.lock();
        if !waiting.closed {
            waiting.events.push_back(event);
            drop(waiting);
            self.0.arrived.notify_one();
        }
    }

    /// Takes the oldest, waiting up to `timeout` for the first; `None` once closed and empty.
    pub fn take(&self, timeout: Duration) -> Option<Vec<PresenceEvent>> {
        let mut waiting = self.0.waiting.lock();
        let nothing = |waiting: &mut Waiting| waiting.events.is_empty() && !waiting.closed;
        // Whether the time is over does not matter: what counts is what is there now.
        let _ = self.0.arrived.wait_while_for(&mut waiting, nothing, timeout);
        let count = waiting.events.len().min(BATCH);
        let events: Vec<_> = waiting.events.drain(..count).collect();
        let is_reader =
            |event: &&PresenceEvent| matches!(event, PresenceEvent::Joined { .. } | PresenceEvent::Left { .. });
        waiting.readers -= events.iter().filter(is_reader).count();
        let lost = if waiting.readers == 0 {
            waiting.is_full = false;
            std::mem::take(&mut waiting.unlogged)
        } else {
            0
        };
        let is_over = events.is_empty() && waiting.closed;
        drop(waiting);
        if lost > 0 {
            let text = format!("{lost} joins and leaves were lost: callbacks took longer than readers came and went");
            self.0.logs.put(Level::Warning, "sse_fast", text);
        }
        if is_over { None } else { Some(events) }
    }

    /// Joins and leaves that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Takes nothing more; what waits can still be taken.
    pub fn close(&self) {
        self.0.waiting.lock().closed = true;
        self.0.arrived.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use sse_fast_core::id::Epoch;
    use sse_fast_core::options::StreamOptions;

    use super::*;
    use crate::delivery::{Delivery, Patience};
    use crate::mailbox::{Latch, Mailbox, Wake};

    struct Quiet;

    impl Wake for Quiet {
        fn wake(&self) {}
    }

    fn stream() -> Stream {
        let delivery = Delivery::new(Box::new([]), Mailbox::new(&Latch::new(Quiet)), Patience::Lossless);
        Stream::new("s", Epoch(1), &Arc::new(delivery), Arc::new(StreamOptions::default()))
    }

    fn join(presence: &Presence, stream: &Stream, times: usize) {
        let inner = stream.lock();
        (0..times).for_each(|_| presence.joined(stream, &None));
        drop(inner);
        presence.ring();
    }

    fn taken(presence: &Presence) -> Vec<PresenceEvent> {
        let mut all = Vec::new();
        while let Some(batch) = presence.take(Duration::ZERO).filter(|batch| !batch.is_empty()) {
            all.extend(batch);
        }
        all
    }

    fn logged(logs: &Logs) -> Vec<String> {
        logs.take(Duration::ZERO).unwrap_or_default().into_iter().map(|record| record.text).collect()
    }

    #[test]
    fn nothing_is_kept_where_nobody_wants_it() {
        let presence = Presence::default();
        join(&presence, &stream(), 1);
        assert!(taken(&presence).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_counted_and_logged_twice_and_an_empty_stream_is_told_all_the_same() {
        let logs = Logs::default();
        let (presence, stream) = (Presence::new(logs.clone()), stream());
        presence.want();
        join(&presence, &stream, MAX_WAITING + 2);
        join(&presence, &stream, 1);
        presence.empty(7, false);
        assert_eq!(presence.lost(), 3);
        assert_eq!(logged(&logs).len(), 1, "once, however many are lost");
        let all = taken(&presence);
        assert_eq!(all.len(), MAX_WAITING + 1);
        assert!(matches!(all.last(), Some(PresenceEvent::Empty { key: 7, is_last: false })));
        let text = logged(&logs);
        assert!(text.len() == 1 && text[0].starts_with("3 joins and leaves were lost"), "{text:?}");
        join(&presence, &stream, 1);
        assert_eq!((taken(&presence).len(), presence.lost()), (1, 3), "and it goes on");
    }

    #[test]
    fn what_waits_at_the_end_can_still_be_taken() {
        let (presence, stream) = (Presence::default(), stream());
        presence.want();
        join(&presence, &stream, 2);
        presence.close();
        join(&presence, &stream, 1);
        assert_eq!(presence.take(Duration::ZERO).map(|events| events.len()), Some(2));
        assert!(presence.take(Duration::from_secs(60)).is_none());
    }
}
