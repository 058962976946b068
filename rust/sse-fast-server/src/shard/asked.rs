//! The streams whose publishers wait for this shard.
//!
//! Owns: the list, and when each is checked without being asked. Must not know: floors, subscribers (`debt`). Invariants: a
//! stream is on the list once; what was put off is due as soon as it may be checked.

use sse_fast_core::budget::Micros;

use crate::delivery::LocalKey;

/// How long a publisher that waits for sockets may have to wait until its shard checks by itself: what is charged is
/// charged in pieces of this.
const CHECK: Micros = 10_000;

/// See the module; few.
#[derive(Default)]
pub(super) struct Asked(Vec<Question>);

/// A publisher waits for this stream.
pub(super) struct Question {
    pub(super) local: LocalKey,
    /// What came before is charged.
    pub(super) charged_until: Micros,
    /// It is checked then, if nothing else makes the shard work.
    due: Micros,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A publisher waits for this stream from now on, or still does.
    pub(super) fn add(&mut self, local: LocalKey, now: Micros) {
        if self.0.iter().all(|question| question.local != local) {
            self.0.push(Question { local, charged_until: now, due: now });
        }
    }

    /// The shard keeps the stream no longer.
    pub(super) fn forget(&mut self, local: LocalKey) {
        self.0.retain(|question| question.local != local);
    }

    /// Since when what a publisher waited for this stream is not charged; `None` where none waits.
    pub(super) fn uncharged_since(&self, local: LocalKey) -> Option<Micros> {
        self.0.iter().find(|question| question.local == local).map(|question| question.charged_until)
    }

    /// Checks all questions; `is_answered` drops them.
    pub(super) fn check(&mut self, now: Micros, mut is_answered: impl FnMut(&mut Question) -> bool) {
        self.0.retain_mut(|question| {
            question.due = now + CHECK;
            !is_answered(question)
        });
    }

    /// When the next is checked without being asked.
    pub(super) fn next_check(&self) -> Option<Micros> {
        self.0.iter().map(|question| question.due).min()
    }
}

impl Question {
    /// Something may have changed, and it cannot be checked before then: that takes time.
    pub(super) fn put_off_until(&mut self, then: Micros) {
        self.due = then;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_off_is_due_when_it_may_be_checked() {
        let (mut asked, local) = (Asked::default(), LocalKey(3));
        asked.add(local, 100);
        assert_eq!(asked.next_check(), Some(100));
        asked.check(100, |_| false);
        assert_eq!(asked.next_check(), Some(100 + CHECK), "nothing has changed since");
        asked.check(200, |question| {
            question.put_off_until(600);
            false
        });
        assert_eq!(asked.next_check(), Some(600), "something may have");
        asked.check(601, |_| true);
        assert_eq!(asked.next_check(), None);
    }
}
