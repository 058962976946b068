//! What a client knows of its right to read: how long it lasts, whether it was disconnected, what it was told.
//!
//! Owns: how far it may still read. Must not know: the shard, who disconnects.

use sse_fast_core::budget::Micros;
use sse_fast_oracle::parser::Block;

use crate::admitted::Admitted;

/// See the module; of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Right {
    /// Whether it was let in under a name: not where its head went out early.
    pub(super) is_named: bool,
    /// When it is over.
    pub(super) expires: Option<Micros>,
    /// The application has disconnected its reader, when so many events had been published.
    pub(super) disconnected: Option<u64>,
    /// It was to be disconnected, perhaps when its time had come already: which of the two a late shard sees first is open.
    pub(super) is_ordered: bool,
    /// It is given nothing beyond this.
    pub(super) limit: Option<u64>,
    /// It was told that its right is over.
    pub(super) told: bool,
}

impl Right {
    /// That of a connection that was let in so.
    pub(super) fn of(admitted: &Admitted) -> Self {
        Self { is_named: admitted.reader.is_some(), expires: admitted.expires, ..Self::default() }
    }

    /// Whether it is on its way out.
    pub(super) fn leaves(&self, now: Micros) -> bool {
        self.disconnected.is_some() || self.expires.is_some_and(|at| at <= now)
    }

    /// The shards have nothing to do, and so many events were published.
    pub(super) fn settled(&mut self, now: Micros, newest: u64) {
        if self.leaves(now) {
            self.limit.get_or_insert(newest);
        }
    }

    /// Takes what is told of it; false where that is about something else.
    pub(super) fn see(&mut self, block: &Block, now: Micros) -> bool {
        assert!(!self.told, "something follows the end of a right: {block:?}");
        if block.event.as_deref() != Some("auth") {
            return false;
        }
        assert!(self.expires.is_some_and(|at| at <= now), "its time has not come");
        assert_eq!((&block.id, block.data.as_slice()), (&None, &["{\"reason\":\"expired\"}".to_owned()][..]));
        self.told = true;
        true
    }

    /// It was given the event at this position.
    pub(super) fn given(&self, position: u64) {
        assert!(self.limit.is_none_or(|limit| position <= limit), "{position} was published after its right was over");
    }

    /// Its connection has ended as it should, and it has everything before `next`. It may have had an end of its own before: it
    /// `has_shut` its side, or the stream or the server `is_over`.
    pub(super) fn ended(&self, next: u64, has_shut: bool, is_over: bool) {
        assert!(self.told || self.is_ordered || has_shut || is_over, "the end of a right is told");
        let owed = self.disconnected.filter(|_| !has_shut);
        assert!(owed.is_none_or(|newest| next > newest), "what was published before is still given");
    }
}
