//! What is kept of a key that something was published under.
//!
//! Owns: this as the body of a `Key` record: the key's digests, then JSON; and which of them there still are. Must not know:
//! records, files, what a key stands for. Invariants: a key is in one batch with what was published under it, before it, so that
//! neither is kept without the other. It counts for five minutes, however soon its events are forgotten, and whether its stream
//! is there or not.
//! Changes together with: `idempotency`, whose rules these are; `stream/kept` holds both to one.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sse_fast_core::id::{Epoch, IdText, Position};

/// For how many milliseconds a key counts.
pub(crate) const KEPT_MS: u64 = 5 * 60 * 1_000;

/// How many keys count at most.
pub(crate) const MOST_KEYS: usize = 100_000;

/// How long both digests of a key are.
const DIGESTS: usize = 64;

/// Of a key in its scope, then of what was published under it.
pub(crate) type Digests = [u8; DIGESTS];

/// Ids of events, as they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Run {
    /// Of one after another: the first position, and how many.
    Ours(Position, u64),
    /// The application's own.
    Own(String),
}

/// The ids that a publish was answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptIds {
    epoch: u64,
    ids: Vec<Run>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptKey {
    pub(crate) digests: Digests,
    pub(crate) ids: KeptIds,
    /// The stream's number in its folder.
    pub(crate) stream: u32,
    /// The last event's position.
    pub(crate) position: Position,
    /// When it was published, in milliseconds since the Unix epoch.
    pub(crate) time: u64,
}

impl KeptKey {
    /// What tells it from others, whatever was published under it.
    pub(super) fn place(&self) -> [u8; DIGESTS / 2] {
        let mut place = [0; DIGESTS / 2];
        place.copy_from_slice(&self.digests[..DIGESTS / 2]);
        place
    }
}

impl KeptIds {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch: epoch.0, ids: Vec::new() }
    }

    /// The next event's: at this position, with an id of its own where it has one.
    pub(crate) fn push(&mut self, position: Position, own: Option<String>) {
        match (own, self.ids.last_mut()) {
            (Some(own), _) => self.ids.push(Run::Own(own)),
            (None, Some(Run::Ours(first, count))) if *first + *count == position => *count += 1,
            (None, _) => self.ids.push(Run::Ours(position, 1)),
        }
    }

    /// The same events in another life of their stream.
    pub(crate) fn renew(&mut self, epoch: Epoch) {
        self.epoch = epoch.0;
    }

    /// Each as it stands on the wire.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Box<str>> + '_ {
        self.ids.iter().flat_map(move |run| {
            let (first, count, own) = match run {
                Run::Ours(first, count) => (*first, *count, None),
                Run::Own(own) => (0, 1, Some(own)),
            };
            (first..first + count).map(move |position| own.map_or_else(|| self.id(position), |own| own.as_str().into()))
        })
    }

    /// What stands behind the digests in a record's body. The last byte is one that a body ends with.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // It cannot fail: every field is a number or a text.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn id(&self, position: Position) -> Box<str> {
        IdText::new(Epoch(self.epoch), position).as_str().into()
    }
}

/// The digests and the ids of a record's body.
pub(super) fn of_body(body: &[u8]) -> Option<(Digests, KeptIds)> {
    let (digests, ids) = body.split_at_checked(DIGESTS)?;
    Some((digests.try_into().ok()?, serde_json::from_slice(ids).ok()?))
}

/// Which keys the folder is still to have: those of the last five minutes, and no more than are ever given back.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Of each when it was written, and its record's bytes; oldest first.
    kept: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Keys {
    /// One was written.
    pub(super) fn add(&mut self, time: u64, bytes: u64) {
        self.kept.push_back((time, bytes));
        self.bytes += bytes;
        self.forget(time);
    }

    /// Those whose time is over do not count any more.
    pub(super) fn forget(&mut self, now: u64) {
        while let Some(&(time, bytes)) = self.kept.front() {
            if time.saturating_add(KEPT_MS) > now && self.kept.len() <= MOST_KEYS {
                break;
            }
            self.kept.pop_front();
            self.bytes -= bytes;
        }
        debug_assert!(!self.kept.is_empty() || self.bytes == 0, "what is counted is there");
    }

    /// Whether one that was written then is still to be kept.
    pub(super) fn has(&self, time: u64) -> bool {
        self.kept.front().is_some_and(|&(oldest, _)| time >= oldest)
    }

    /// The bytes of their records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::expect_used, reason = "a test that fails says so")]

    use super::*;

    #[test]
    fn ids_are_read_back_as_they_were() {
        let mut ids = KeptIds::new(Epoch(7));
        for (position, own) in [(4, None), (5, None), (6, Some("a\"b")), (7, None), (8, None)] {
            ids.push(position, own.map(str::to_owned));
        }
        assert_eq!(ids.ids.len(), 3, "those that follow each other take no room");
        let digests = [0; DIGESTS].map(|_| b'd');
        let body = [&digests[..], &ids.to_bytes()].concat();
        assert_ne!(body.last(), Some(&0), "a body that was cut is told by its end");
        let (read, mut kept) = of_body(&body).expect("it was written");
        assert_eq!((read, &kept), (digests, &ids));
        let of = |epoch, position| IdText::new(Epoch(epoch), position).as_str().to_owned();
        let texts = |ids: &KeptIds| ids.texts().map(String::from).collect::<Vec<_>>();
        assert_eq!(texts(&kept), [of(7, 4), of(7, 5), "a\"b".to_owned(), of(7, 7), of(7, 8)]);
        kept.renew(Epoch(9));
        assert_eq!(texts(&kept)[0], of(9, 4));
        assert_eq!((of_body(&body[..63]), of_body(&body[..70])), (None, None));
    }

    #[test]
    fn keys_are_kept_for_five_minutes_and_not_more_than_are_given_back() {
        let mut keys = Keys::default();
        keys.add(1_000, 10);
        keys.add(2_000, 20);
        assert!(keys.has(1_000) && keys.bytes() == 30);
        keys.forget(1_000 + KEPT_MS - 1);
        assert!(keys.has(1_000));
        keys.forget(1_000 + KEPT_MS);
        assert!(!keys.has(1_000) && keys.has(2_000) && keys.bytes() == 20);
        for _ in 0..MOST_KEYS {
            keys.add(3_000, 1);
        }
        assert!(!keys.has(2_000) && keys.bytes() == MOST_KEYS as u64);
        keys.forget(u64::MAX);
        assert!(!keys.has(u64::MAX) && keys.bytes() == 0);
    }
}
