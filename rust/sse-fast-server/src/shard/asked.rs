//! The streams whose publishers wait for this shard.
//!
//! Owns: the list, and when to look at each by itself. Must not know: floors, subscribers (`debt`). Invariant: a stream is
//! on the list once.

use sse_fast_core::budget::Micros;

use crate::delivery::LocalKey;

/// How long a publisher that waits for sockets may have to wait until its shard looks by itself: what is charged is
/// charged in pieces of this.
const LOOK: Micros = 10_000;

/// See the module; few.
#[derive(Default)]
pub(super) struct Asked(Vec<Question>);

/// A publisher waits for this stream.
pub(super) struct Question {
    pub(super) local: LocalKey,
    /// What came before is charged.
    pub(super) charged_until: Micros,
    /// Not looked at before this.
    pub(super) next_look: Micros,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A publisher waits for this stream from now on, or still does.
    pub(super) fn add(&mut self, local: LocalKey, now: Micros) {
        if self.0.iter().all(|question| question.local != local) {
            self.0.push(Question { local, charged_until: now, next_look: 0 });
        }
    }

    /// The shard keeps the stream no longer.
    pub(super) fn forget(&mut self, local: LocalKey) {
        self.0.retain(|question| question.local != local);
    }

    /// Everything up to `now` is charged; since when it was not, where a publisher waits and that is some time.
    pub(super) fn charge_until(&mut self, local: LocalKey, now: Micros) -> Option<Micros> {
        let question = self.0.iter_mut().find(|question| question.local == local && question.charged_until < now)?;
        Some(std::mem::replace(&mut question.charged_until, now))
    }

    /// Drops the questions that are answered.
    pub(super) fn keep_if(&mut self, open: impl FnMut(&mut Question) -> bool) {
        self.0.retain_mut(open);
    }

    /// When to look by itself.
    pub(super) fn next_look(&self) -> Option<Micros> {
        self.0.iter().map(|question| question.next_look.max(question.charged_until + LOOK)).min()
    }
}
