//! What one client saw, and the laws it must have been seen by.
//!
//! Law 1: events are strictly increasing and none comes twice, across reconnects.
//! Law 2: received + skipped = published since the reader's start.
//! Law 3: a gap is announced before the next event, with exact ends.
//! Law 4: within a connection everything follows from its opening: what the oracle said, then the
//! next event or a gap that begins there.
//! A reader that starts anew (it has no id to resume with, or one of a foreign life) counts anew.

use std::collections::{BTreeSet, VecDeque};

use crate::everything::{Expected, Item, Place};

/// See the module.
#[derive(Debug, Default)]
pub struct Reader {
    /// The id of the last complete event that had one.
    pub last_id: Option<String>,
    /// The positions received since the start, in order of arrival.
    pub received: Vec<u64>,
    /// The positions that were announced as missing, or covered by a snapshot.
    pub skipped: BTreeSet<u64>,
    /// The first position it has to account for.
    pub from: u64,
    /// What the opening must still show.
    opening: VecDeque<Item>,
    /// The position that must come next on this connection.
    next: u64,
}

impl Reader {
    /// Connects: `expected` is what the oracle says it must see, from `place` on.
    pub fn connect(&mut self, place: Place, expected: &Expected) {
        let Expected::Items { items, cursor } = expected else { panic!("nothing to connect to") };
        let is_event = |item: &Item| matches!(item, Item::Event(_));
        self.opening = items.iter().take_while(|item| !is_event(item)).cloned().collect();
        self.next = *cursor;
        if let Place::After(position) = place {
            // What was announced beyond its place is announced again.
            self.skipped.retain(|&skipped| skipped <= position);
            assert!(self.received.last().is_none_or(|&last| last <= position), "its place is what it saw last");
        } else {
            self.last_id = None;
            self.received.clear();
            self.skipped.clear();
            self.from = self.start();
        }
    }

    /// Whether it saw its opening: what comes now is what is published, or a gap.
    pub fn is_open(&self) -> bool {
        self.opening.is_empty()
    }

    /// What its opening must still show.
    pub fn opening(&self) -> impl Iterator<Item = &Item> {
        self.opening.iter()
    }

    /// The position that must come next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes what came next.
    pub fn see(&mut self, item: &Item, id: Option<&String>) {
        if let Some(id) = id {
            self.last_id = Some(id.clone());
        }
        if let Some(expected) = self.opening.pop_front() {
            assert_eq!(item, &expected, "the opening");
            self.announce(item);
            return;
        }
        match *item {
            Item::Event(position) => {
                assert_eq!(position, self.next, "the next event, or a gap before it");
                assert!(self.received.last().is_none_or(|&last| last < position), "{position} came before");
                assert!(!self.skipped.contains(&position), "{position} was announced as missing");
                self.received.push(position);
                self.next += 1;
            }
            Item::Gap(Some((from, to))) => {
                assert_eq!(from, self.next, "a gap begins where the reader stands");
                assert!(from <= to, "a gap is never empty");
                self.announce(item);
                self.next = to + 1;
            }
            Item::Gap(None) | Item::Snapshot(_) => panic!("{item:?} belongs to an opening"),
        }
    }

    /// Law 2, once everything that will come has come.
    pub fn check_account(&self, newest: u64) {
        assert_eq!(self.next, newest + 1, "it was given everything up to the newest");
        let mut seen: Vec<u64> = self.received.iter().copied().chain(self.skipped.iter().copied()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (self.from..=newest).collect::<Vec<_>>(), "received + skipped = published");
    }

    fn announce(&mut self, item: &Item) {
        if let Item::Gap(Some((from, to))) = *item {
            self.skipped.extend(from..=to);
        }
    }

    /// Where a new reader's account begins: at what it is told first.
    fn start(&self) -> u64 {
        let known = self.opening.iter().find(|item| **item != Item::Gap(None));
        match known {
            Some(Item::Gap(Some((from, _)))) => *from,
            Some(Item::Snapshot(position)) => self.next.min(position + 1),
            _ => self.next,
        }
    }
}
