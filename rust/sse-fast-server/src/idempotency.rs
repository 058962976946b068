//! What is published under a key is published once: who repeats it is given the first answer.
//!
//! Owns: which keys there were, what they stood for, and for how long. Must not know: requests, streams, how an answer is
//! written. Time is an argument.
//! Rule 1: a key is under way from the moment it is begun until its answer is kept, or it fails; then it is as one never used.
//! Rule 2: an answer is kept for [`KEPT`], and no longer than there is room: at most [`MOST_KEYS`] of them with [`MOST_BYTES`]
//! together; the oldest goes first.
//! Rule 3: a key that stands for something else is refused, under way or kept.
//! Invariant: what was begun has ended once its [`UnderWay`] is gone.
//! The lock protects the table, is held for one look-up, and nothing else is done under it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use sse_fast_core::budget::Micros;

use crate::clock;

/// How long an answer is kept: longer than clients go on trying.
const KEPT: Micros = 5 * 60 * 1_000_000;

/// The same in milliseconds.
pub(crate) const KEPT_MS: u64 = KEPT / 1_000;

/// The most answers that are kept.
pub(crate) const MOST_KEYS: usize = 100_000;

/// The most bytes of ids that they have together.
const MOST_BYTES: usize = 64 << 20;

/// The longest key, in bytes: what is longer is no key, but a body.
pub const MAX_KEY_BYTES: usize = 255;

/// Whether it may be a key: printable characters of ASCII.
pub fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

type Digest = [u8; 32];

/// A key that several processes may share: digests alone, so that it has one size and holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedKey {
    /// Of the key and of what it belongs to: a stream and who publishes.
    pub place: Digest,
    /// Of what is published.
    pub content: Digest,
}

impl SharedKey {
    /// The key `key` of this scope, for this content. Each is a list of parts, and no two lists give the same.
    pub fn new(scope: &[&[u8]], key: &str, content: &[&[u8]]) -> Self {
        let place = digest(scope.iter().copied().chain([key.as_bytes()]));
        Self { place, content: digest(content.iter().copied()) }
    }

    /// Both, one after the other.
    pub(crate) fn digests(&self) -> [u8; 64] {
        let mut digests = [0; 64];
        digests[..32].copy_from_slice(&self.place);
        digests[32..].copy_from_slice(&self.content);
        digests
    }

    /// The key of both.
    fn of_digests(digests: &[u8; 64]) -> Self {
        let (mut place, mut content) = (Digest::default(), Digest::default());
        place.copy_from_slice(&digests[..32]);
        content.copy_from_slice(&digests[32..]);
        Self { place, content }
    }
}

fn digest<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The ids that a publish was answered with.
pub type Ids = Arc<[Box<str>]>;

/// What a key is found to be.
pub enum Begun {
    /// New: it is to be published, and [`UnderWay::done`] told.
    New(UnderWay),
    /// It was published before.
    Again(Ids),
    /// It stands for something else.
    OtherContent,
    /// The first is not answered yet.
    InProgress,
}

/// A key under way; dropped before it is done, it has failed.
pub struct UnderWay {
    table: Arc<Mutex<Table>>,
    /// Taken once it is done.
    key: Option<SharedKey>,
}

/// The keys of one server; a handle, cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Repeats(Arc<Mutex<Table>>);

impl Repeats {
    pub(crate) fn begin(&self, key: &SharedKey) -> Begun {
        match self.0.lock().begin(key, clock::now()) {
            Found::New => Begun::New(UnderWay { table: Arc::clone(&self.0), key: Some(*key) }),
            Found::Again(ids) => Begun::Again(ids),
            Found::OtherContent => Begun::OtherContent,
            Found::InProgress => Begun::InProgress,
        }
    }
}

impl Repeats {
    /// Keys that were answered before this process began, by their digests, the oldest first, with how long ago that was.
    pub(crate) fn restore(&self, keys: impl IntoIterator<Item = ([u8; 64], Ids, Micros)>) {
        let mut table = self.0.lock();
        let now = clock::now();
        for (digests, ids, age) in keys {
            drop(table.restore(&SharedKey::of_digests(&digests), ids, age, now));
        }
    }
}

impl UnderWay {
    /// The key that is under way.
    pub fn key(&self) -> Option<&SharedKey> {
        self.key.as_ref()
    }

    /// It was answered with these ids.
    pub fn done(mut self, ids: Ids) {
        if let Some(key) = self.key.take() {
            let dropped = self.table.lock().done(&key, ids, clock::now());
            drop(dropped);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.table.lock().failed(&key);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    New,
    Again(Ids),
    OtherContent,
    InProgress,
}

struct Place {
    content: Digest,
    /// `None` while it is under way.
    answer: Option<Ids>,
}

/// See the module.
#[derive(Default)]
struct Table {
    places: HashMap<Digest, Place>,
    /// Answers, the oldest first, with the time at which each is forgotten.
    kept: VecDeque<(Micros, Digest)>,
    /// Of the ids of all answers.
    bytes: usize,
}

impl Table {
    fn begin(&mut self, key: &SharedKey, now: Micros) -> Found {
        drop(self.forget(now, MOST_KEYS, MOST_BYTES));
        match self.places.get(&key.place) {
            None => {
                self.places.insert(key.place, Place { content: key.content, answer: None });
                Found::New
            }
            Some(place) if place.content != key.content => Found::OtherContent,
            Some(Place { answer: Some(ids), .. }) => Found::Again(Arc::clone(ids)),
            Some(Place { answer: None, .. }) => Found::InProgress,
        }
    }

    /// Keeps an answer; what gave way to it is returned, to be dropped elsewhere.
    fn done(&mut self, key: &SharedKey, ids: Ids, now: Micros) -> Vec<Place> {
        let size = weight(&ids);
        let Some(place) = self.places.get_mut(&key.place) else { return Vec::new() };
        debug_assert!(place.answer.is_none() && place.content == key.content, "it was under way");
        place.answer = Some(ids);
        self.bytes += size;
        self.kept.push_back((now.saturating_add(KEPT), key.place));
        self.forget(now, MOST_KEYS, MOST_BYTES)
    }

    /// An answer of so long ago, which is younger than those before it.
    fn restore(&mut self, key: &SharedKey, ids: Ids, age: Micros, now: Micros) -> Vec<Place> {
        let Some(left) = KEPT.checked_sub(age).filter(|&left| left > 0) else { return Vec::new() };
        let size = weight(&ids);
        let was = self.places.insert(key.place, Place { content: key.content, answer: Some(ids) });
        debug_assert!(was.is_none(), "each is there once, and none is under way yet");
        self.bytes += size;
        let until = now.saturating_add(left);
        debug_assert!(self.kept.back().is_none_or(|&(before, _)| before <= until), "the oldest first");
        self.kept.push_back((until, key.place));
        self.forget(now, MOST_KEYS, MOST_BYTES)
    }

    fn failed(&mut self, key: &SharedKey) {
        let was = self.places.remove(&key.place);
        debug_assert!(was.is_some_and(|place| place.answer.is_none()), "it was under way");
    }

    /// Forgets what is too old, and the oldest of what is too much.
    fn forget(&mut self, now: Micros, keys: usize, bytes: usize) -> Vec<Place> {
        let mut forgotten = Vec::new();
        while let Some(&(until, oldest)) = self.kept.front() {
            if until > now && self.kept.len() <= keys && self.bytes <= bytes {
                break;
            }
            self.kept.pop_front();
            if let Some(place) = self.places.remove(&oldest) {
                self.bytes -= place.answer.as_ref().map_or(0, weight);
                forgotten.push(place);
            }
        }
        debug_assert!(self.kept.len() <= self.places.len(), "each answer has its place");
        forgotten
    }
}

/// What an answer counts: its texts, and what holds them.
fn weight(ids: &Ids) -> usize {
    ids.iter().map(|id| id.len() + size_of::<Box<str>>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn key(name: &str, content: &str) -> SharedKey {
        SharedKey::new(&[b"stream", b"who"], name, &[content.as_bytes()])
    }

    fn ids(id: &str) -> Ids {
        Arc::from([Box::from(id)])
    }

    fn published(table: &mut Table, name: &str, now: Micros) {
        assert_eq!(table.begin(&key(name, "x"), now), Found::New, "{name}");
        table.done(&key(name, "x"), ids(name), now);
    }

    #[test]
    fn a_key_is_answered_once_it_is_done_and_for_five_minutes() {
        let mut table = Table::default();
        let (first, other) = (key("k", "x"), key("k", "y"));
        assert_eq!(table.begin(&first, 0), Found::New);
        assert_eq!(
            (table.begin(&first, SECOND), table.begin(&other, SECOND)),
            (Found::InProgress, Found::OtherContent)
        );
        table.done(&first, ids("a-1"), 10 * SECOND);
        for at in [10 * SECOND, 310 * SECOND - 1] {
            assert_eq!(
                (table.begin(&first, at), table.begin(&other, at)),
                (Found::Again(ids("a-1")), Found::OtherContent)
            );
        }
        assert_eq!(table.begin(&other, 310 * SECOND), Found::New, "its five minutes are over");
        assert_eq!(table.bytes, 0);
    }

    #[test]
    fn what_fails_is_as_never_begun() {
        let mut table = Table::default();
        assert_eq!(table.begin(&key("k", "x"), 0), Found::New);
        table.failed(&key("k", "x"));
        assert_eq!(table.begin(&key("k", "y"), 0), Found::New);
        assert!(table.kept.is_empty() && table.places.len() == 1);
    }

    #[test]
    fn the_oldest_answers_give_way_and_those_under_way_never() {
        let mut table = Table::default();
        assert_eq!(table.begin(&key("under way", "x"), 0), Found::New);
        for (name, at) in [("a", 1), ("b", 2), ("c", 3)] {
            published(&mut table, name, at);
        }
        table.forget(4, 2, usize::MAX);
        assert_eq!(table.begin(&key("b", "x"), 4), Found::Again(ids("b")));
        table.forget(4, usize::MAX, weight(&ids("c")));
        assert_eq!(table.begin(&key("c", "x"), 4), Found::Again(ids("c")));
        assert_eq!(table.begin(&key("under way", "x"), 4), Found::InProgress);
        for name in ["a", "b"] {
            assert_eq!(table.begin(&key(name, "x"), 4), Found::New, "{name} gave way");
        }
    }

    #[test]
    fn a_key_under_way_ends_with_what_holds_it() {
        let repeats = Repeats::default();
        let begin = || repeats.begin(&key("k", "x"));
        let Begun::New(first) = begin() else { panic!("it is new") };
        assert!(matches!(begin(), Begun::InProgress));
        drop(first);
        let Begun::New(second) = begin() else { panic!("the first failed") };
        second.done(ids("a-1"));
        assert!(matches!(begin(), Begun::Again(answer) if answer == ids("a-1")));
    }

    #[test]
    fn what_another_process_answered_is_kept_for_what_is_left_of_its_time() {
        let (mut table, now) = (Table::default(), 50 * SECOND);
        for (name, age) in [("over", 300), ("old", 299), ("young", 0)] {
            drop(table.restore(&key(name, "x"), ids(name), age * SECOND, now));
        }
        assert_eq!(table.begin(&key("over", "y"), now), Found::New);
        for name in ["old", "young"] {
            assert_eq!(table.begin(&key(name, "x"), now), Found::Again(ids(name)));
            assert_eq!(table.begin(&key(name, "y"), now), Found::OtherContent);
        }
        assert_eq!(table.begin(&key("old", "y"), now + SECOND), Found::New, "its five minutes are over");
        assert_eq!(table.begin(&key("young", "x"), now + 300 * SECOND - 1), Found::Again(ids("young")));
        assert_eq!(table.begin(&key("young", "x"), now + 300 * SECOND), Found::New);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |scope: &[&[u8]], key: &str| SharedKey::new(scope, key, &[]).place;
        assert_ne!(of(&[b"ab", b"c"], "k"), of(&[b"a", b"bc"], "k"));
        assert_ne!(of(&[b"a"], "bk"), of(&[b"ab"], "k"));
        assert_ne!(SharedKey::new(&[], "", &[b"a", b""]).content, SharedKey::new(&[], "", &[b"a"]).content);
    }
}
