//! Who is served next: walks over streams with news, walks that rest, subscribers that catch up.
//!
//! Owns: that order, and how far each stream is with its walks ([`Stage`]). Must not know: sockets, cursors, the clock.
//! Invariants: a stream is on the list, or at rest, exactly while its stage is not `Idle`, and once; a walk takes its range
//! when it *begins*, for those who come before that are part of it; news that a walk under way may have missed is followed
//! by another walk. A subscriber is on the list of those that catch up once.

use std::collections::VecDeque;

use sse_fast_core::budget::Micros;
use sse_fast_core::id::Position;

use super::table::SubscriberKey;
use crate::delivery::{LocalKey, Since};

/// What a rest is of the walk before it, and its bounds: poll counts in milliseconds.
const REST: Micros = 4;
const SHORTEST_REST: Micros = 1000;
const LONGEST_REST: Micros = 10_000;

/// How far a stream is with its walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Everybody was given what there was.
    Idle,
    /// On the list.
    Queued,
    /// On the list again once it has rested.
    Resting,
    /// A walk is under way, and there may be news that it has missed.
    Walking { news: bool },
}

impl Stage {
    /// Its rest is over.
    pub(super) fn rested(&mut self) {
        debug_assert_eq!(*self, Self::Resting, "only what rests has rested");
        *self = Self::Queued;
    }
}

/// A walk under way, over the writable subscribers of a stream from the last to the first.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) local: LocalKey,
    /// Subscribers at and beyond this place were visited.
    pub(super) at: usize,
    /// The lowest position that any chunk of the walk reached.
    pub(super) low: Position,
    /// The least amount of bytes, of all ever appended, that any chunk reached.
    pub(super) offered: u64,
    /// When it began, where it is long enough to rest afterwards.
    pub(super) began: Option<Micros>,
    /// Since when there was the oldest of the news that it brings, where that is known.
    pub(super) news_since: Since,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Work {
    /// A subscriber that catches up gets its next share.
    CatchUp(SubscriberKey),
    /// A walk over this stream begins.
    Begin(LocalKey),
    /// A walk goes on.
    Continue(Walk),
}

/// See the module.
#[derive(Default)]
pub(super) struct Agenda {
    walks: VecDeque<Entry>,
    /// Streams at rest, and until when; few, for each follows a walk that took long.
    resting: Vec<(Micros, LocalKey)>,
    /// Subscribers that took everything they were offered and are not at the newest yet.
    catching_up: VecDeque<SubscriberKey>,
    /// Whether a walk comes next, if there is one: neither kind keeps the other waiting.
    walk_next: bool,
}

#[derive(Debug)]
enum Entry {
    Begin(LocalKey),
    Continue(Walk),
}

impl Agenda {
    /// A stream has news: it is walked, or walked again.
    pub(super) fn news(&mut self, local: LocalKey, stage: &mut Stage) {
        match stage {
            Stage::Idle => {
                *stage = Stage::Queued;
                self.walks.push_back(Entry::Begin(local));
            }
            // Its walk will see it when it begins.
            Stage::Queued | Stage::Resting => {}
            Stage::Walking { news } => *news = true,
        }
    }

    /// A publisher waits for this stream: it rests no longer.
    pub(super) fn hurry(&mut self, local: LocalKey, stage: &mut Stage) {
        if *stage == Stage::Resting {
            self.resting.retain(|&(_, resting)| resting != local);
            *stage = Stage::Queued;
            self.walks.push_back(Entry::Begin(local));
        }
    }

    /// A subscriber took everything it was offered and lacks more.
    pub(super) fn catch_up(&mut self, subscriber: SubscriberKey) {
        debug_assert!(!self.catching_up.contains(&subscriber), "it is on the list once");
        self.catching_up.push_back(subscriber);
    }

    /// A subscriber that was catching up has left.
    pub(super) fn forget(&mut self, subscriber: SubscriberKey) {
        self.catching_up.retain(|&other| other != subscriber);
    }

    /// Those that catch up.
    pub(super) fn catching_up(&self) -> impl Iterator<Item = SubscriberKey> {
        self.catching_up.iter().copied()
    }

    /// What is to be done next; the caller does it, and says how a walk ended.
    pub(super) fn next(&mut self) -> Option<Work> {
        let walk_first = self.walk_next && !self.walks.is_empty();
        self.walk_next = !self.walk_next;
        if !walk_first && let Some(subscriber) = self.catching_up.pop_front() {
            return Some(Work::CatchUp(subscriber));
        }
        self.walks.pop_front().map(|entry| match entry {
            Entry::Begin(local) => Work::Begin(local),
            Entry::Continue(walk) => Work::Continue(walk),
        })
    }

    /// A walk begins over so many writable subscribers.
    pub(super) fn begin(local: LocalKey, stage: &mut Stage, writable: usize, began: Option<Micros>) -> Walk {
        debug_assert_eq!(*stage, Stage::Queued, "only what is on the list begins");
        *stage = Stage::Walking { news: false };
        Walk { local, at: writable, low: Position::MAX, offered: u64::MAX, began, news_since: Since::default() }
    }

    /// A walk has more to visit; others come first.
    pub(super) fn pause(&mut self, walk: Walk) {
        self.walks.push_back(Entry::Continue(walk));
    }

    /// A walk has visited everybody. Where there is more (`unread`, or news since) the stream is walked again, after a
    /// rest if the walk took long: until when, if so.
    pub(super) fn finish(&mut self, walk: &Walk, stage: &mut Stage, unread: bool, rest_until: Option<Micros>) {
        debug_assert!(matches!(stage, Stage::Walking { .. }), "only a walk under way ends");
        let news = *stage == Stage::Walking { news: true };
        *stage = match rest_until {
            _ if !unread && !news => Stage::Idle,
            Some(until) => {
                self.resting.push((until, walk.local));
                Stage::Resting
            }
            None => {
                self.walks.push_back(Entry::Begin(walk.local));
                Stage::Queued
            }
        };
    }

    /// Puts streams that have rested back on the list; `rested` says so at the stream.
    pub(super) fn end_rests(&mut self, now: Micros, mut rested: impl FnMut(LocalKey)) {
        for (_, local) in self.resting.extract_if(.., |(until, _)| *until <= now) {
            rested(local);
            self.walks.push_back(Entry::Begin(local));
        }
    }

    /// Whether a stream rests.
    pub(super) fn rests(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Whether something is to be done at once.
    pub(super) fn is_busy(&self) -> bool {
        !self.walks.is_empty() || !self.catching_up.is_empty()
    }

    /// When the next rest ends.
    pub(super) fn next_rest(&self) -> Option<Micros> {
        self.resting.iter().map(|&(until, _)| until).min()
    }

    /// How often a stream is on the list or at rest, for assertions.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn count(&self, local: LocalKey) -> usize {
        let of = |entry: &Entry| match entry {
            Entry::Begin(key) => *key,
            Entry::Continue(walk) => walk.local,
        };
        let listed = self.walks.iter().filter(|entry| of(entry) == local).count();
        listed + self.resting.iter().filter(|(_, key)| *key == local).count()
    }
}

/// Until when a stream rests after a walk that ended `now`, where that took long.
pub(super) fn rest_after(began: Micros, now: Micros) -> Option<Micros> {
    let rest = now.saturating_sub(began) / REST;
    (rest >= SHORTEST_REST).then(|| now + rest.min(LONGEST_REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_took_long_rests_and_never_for_long() {
        for (took, rest) in [(0, None), (3, None), (4, Some(1)), (20, Some(5)), (40, Some(10)), (5000, Some(10))] {
            assert_eq!(rest_after(7, 7 + took * 1000), rest.map(|rest: u64| 7 + (took + rest) * 1000), "{took} ms");
        }
    }
}
