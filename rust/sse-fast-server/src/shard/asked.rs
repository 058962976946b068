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
pub(super) struct Asked {
    questions: Vec<Question>,
    /// Streams whose full sockets were checked, and until when they are not checked again: that takes time.
    rests: Vec<(LocalKey, Micros)>,
}

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
        self.questions.is_empty()
    }

    /// A publisher waits for this stream from now on, or still does.
    pub(super) fn add(&mut self, local: LocalKey, now: Micros) {
        if self.questions.iter().all(|question| question.local != local) {
            self.questions.push(Question { local, charged_until: now, due: now });
        }
    }

    /// The shard keeps the stream no longer.
    pub(super) fn forget(&mut self, local: LocalKey) {
        self.questions.retain(|question| question.local != local);
    }

    /// Since when what a publisher waited for this stream is not charged; `None` where none waits.
    pub(super) fn uncharged_since(&self, local: LocalKey) -> Option<Micros> {
        self.questions.iter().find(|question| question.local == local).map(|question| question.charged_until)
    }

    /// Takes the questions out, to be checked; those that stay open are put back.
    pub(super) fn take(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// Those that stay open.
    pub(super) fn put_back(&mut self, open: Vec<Question>) {
        debug_assert!(self.questions.is_empty(), "nobody asks while questions are checked");
        self.questions = open;
    }

    /// The full sockets of a stream were checked at `now`, and are not again before `then`.
    pub(super) fn rest(&mut self, local: LocalKey, now: Micros, then: Micros) {
        self.rests.retain(|&(other, until)| other != local && until > now);
        if then > now {
            self.rests.push((local, then));
        }
    }

    /// When the full sockets of a stream may be checked; a time that has passed where they may be.
    pub(super) fn may_check_at(&self, local: LocalKey) -> Micros {
        self.rests.iter().find(|(other, _)| *other == local).map_or(0, |&(_, until)| until)
    }

    /// When the next is checked without being asked.
    pub(super) fn next_check(&self) -> Option<Micros> {
        self.questions.iter().map(|question| question.due).min()
    }
}

impl Question {
    /// It is checked now; where it stays open, again in a while.
    pub(super) fn begin_check(&mut self, now: Micros) {
        self.due = now + CHECK;
    }

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
        check(&mut asked, |question| question.begin_check(100));
        assert_eq!(asked.next_check(), Some(100 + CHECK), "nothing has changed since");
        asked.rest(local, 100, 600);
        assert_eq!(asked.may_check_at(local), 600);
        check(&mut asked, |question| question.put_off_until(600));
        assert_eq!(asked.next_check(), Some(600), "something may have");
        drop(asked.take());
        assert_eq!(asked.next_check(), None);
        assert_eq!(asked.may_check_at(local), 600, "also for the next question");
        asked.rest(LocalKey(4), 601, 601);
        assert_eq!((asked.may_check_at(local), asked.may_check_at(LocalKey(4))), (0, 0));
    }

    fn check(asked: &mut Asked, what: impl Fn(&mut Question)) {
        let mut open = asked.take();
        open.iter_mut().for_each(what);
        asked.put_back(open);
    }
}
