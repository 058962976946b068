//! The queue of one lane of calls.
//!
//! Owns: the order, the bound, waiting for the next. Must not know: what is queued, who wants it.
//! Invariants: what is queued is taken in the order it came, once, or taken out by its number. No more waits than the
//! bound allows; where only so many may be under way, no more are handed out. Nothing that is queued is dropped under the
//! lock.
//! Changes together with `calls`, which queues calls.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::config::Config;

/// How much may wait in each lane. How many bytes of bodies wait in all is bounded where they are read (`body`).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most handlers' calls that wait; where an event loop takes them, also the most that are taken and not answered.
    pub calls: usize,
}

impl Limits {
    /// What a server's settings say.
    pub fn of(config: &Config) -> Self {
        Self { calls: config.handler_queue }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// Why something was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// What waiting brought.
pub(super) enum Taken<T> {
    Item(T),
    /// Nobody is interested in what was taken with this number.
    Lost(u64),
    Timeout,
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Held for a push or a pop only.
    state: Mutex<State<T>>,
    /// Tells one waiting thread that there is something to be taken.
    news: Condvar,
    /// The most that are taken and not ended, where that is bounded.
    most_under_way: Option<usize>,
}

#[derive(Debug)]
struct State<T> {
    /// By the number each was given: the first is the next to be taken, and any can be taken out.
    waiting: BTreeMap<u64, T>,
    /// The number of the next.
    next: u64,
    /// How many are taken and not ended, where that is bounded.
    under_way: usize,
    /// Numbers of what was taken and nobody is interested in any more.
    lost: VecDeque<u64>,
    /// Nothing more is queued; what was taken goes on.
    refusing: bool,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(most_under_way: Option<usize>) -> Self {
        let (waiting, lost) = (BTreeMap::new(), VecDeque::new());
        let state = State { waiting, next: 0, under_way: 0, lost, refusing: false, closed: false };
        Self { state: Mutex::new(state), news: Condvar::new(), most_under_way }
    }

    /// Queues what `make` makes of a number, and returns the number; what is refused is not made.
    pub(super) fn put(&self, limits: Option<Limits>, make: impl FnOnce(u64) -> T) -> Result<u64, Refused> {
        let mut state = self.state.lock();
        if state.refusing {
            return Err(Refused::Closed);
        }
        if limits.is_some_and(|limits| state.waiting.len() >= limits.calls) {
            return Err(Refused::Full);
        }
        let number = state.next;
        state.next += 1;
        let former = state.waiting.insert(number, make(number));
        debug_assert!(former.is_none(), "numbers are given once");
        drop(state);
        self.news.notify_one();
        Ok(number)
    }

    /// Whether nothing more may wait now.
    pub(super) fn is_full(&self, limits: Limits) -> bool {
        self.state.lock().waiting.len() >= limits.calls
    }

    /// Waits up to `timeout`; several threads may wait.
    pub(super) fn receive(&self, timeout: Duration) -> Taken<T> {
        let mut state = self.state.lock();
        let has_place = |state: &State<T>| self.most_under_way.is_none_or(|most| state.under_way < most);
        let nothing = |state: &mut State<T>| {
            state.lost.is_empty() && !state.closed && (state.waiting.is_empty() || !has_place(state))
        };
        // Whether the time is over does not matter: what counts is what is there now.
        let _ = self.news.wait_while_for(&mut state, nothing, timeout);
        if let Some(number) = state.lost.pop_front() {
            return Taken::Lost(number);
        }
        if state.closed {
            return Taken::Closed;
        }
        let taken = if has_place(&state) { state.waiting.pop_first() } else { None };
        match taken {
            Some((_, item)) => {
                state.under_way += usize::from(self.most_under_way.is_some());
                Taken::Item(item)
            }
            None => Taken::Timeout,
        }
    }

    /// Takes out what has this number, to be dropped by the caller; `None` where it was taken.
    pub(super) fn take_out(&self, number: u64) -> Option<T> {
        self.state.lock().waiting.remove(&number)
    }

    /// Nobody is interested in what was taken with this number.
    pub(super) fn lose(&self, number: u64) {
        let mut state = self.state.lock();
        if !state.closed {
            state.lost.push_back(number);
        }
        drop(state);
        self.news.notify_one();
    }

    /// One that was taken is over.
    pub(super) fn end(&self) {
        let Some(most) = self.most_under_way else { return };
        let mut state = self.state.lock();
        debug_assert!((1..=most).contains(&state.under_way), "it was counted when it was taken");
        state.under_way -= 1;
        drop(state);
        self.news.notify_one();
    }

    /// Nothing more is queued; returns what waited, to be dropped by the caller. Who took something may still be told
    /// that nobody is interested in it.
    #[must_use]
    pub(super) fn refuse(&self) -> BTreeMap<u64, T> {
        let mut state = self.state.lock();
        state.refusing = true;
        std::mem::take(&mut state.waiting)
    }

    /// Nothing more comes at all; likewise.
    #[must_use]
    pub(super) fn close(&self) -> BTreeMap<u64, T> {
        let waiting = self.refuse();
        self.state.lock().closed = true;
        self.news.notify_all();
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &Queue<&'static str>) -> Option<&'static str> {
        match queue.receive(Duration::ZERO) {
            Taken::Item(item) => Some(item),
            Taken::Lost(_) | Taken::Timeout | Taken::Closed => None,
        }
    }

    #[test]
    fn what_waits_is_bounded_by_number() {
        let (queue, limits) = (Queue::new(None), Limits { calls: 2 });
        let put = || queue.put(Some(limits), |_| "x");
        assert_eq!((put(), put(), put()), (Ok(0), Ok(1), Err(Refused::Full)));
        assert!(queue.is_full(limits));
        assert!(queue.put(None, |_| "without limits").is_ok());
        assert!(queue.take_out(0).is_some() && queue.take_out(0).is_none());
        assert!(put().is_err(), "two wait");
        assert!(take(&queue).is_some());
        assert_eq!(put(), Ok(3));
        assert_eq!(take(&queue), Some("without limits"));
    }

    #[test]
    fn no_more_are_handed_out_than_may_be_under_way() {
        let queue = Queue::new(Some(1));
        for item in ["a", "b"] {
            assert!(queue.put(None, |_| item).is_ok());
        }
        assert_eq!((take(&queue), take(&queue)), (Some("a"), None));
        queue.lose(0);
        assert!(matches!(queue.receive(Duration::ZERO), Taken::Lost(0)), "that needs no place");
        queue.end();
        assert_eq!(take(&queue), Some("b"));
    }

    #[test]
    fn a_queue_that_refuses_gives_back_what_waited_and_still_tells_of_what_was_taken() {
        let queue = Queue::new(Some(1));
        assert!(queue.put(None, |_| "x").is_ok() && queue.put(None, |_| "y").is_ok());
        assert_eq!(take(&queue), Some("x"));
        assert_eq!(queue.refuse().len(), 1);
        assert_eq!(queue.put(None, |_| "z"), Err(Refused::Closed));
        queue.lose(0);
        assert!(matches!(queue.receive(Duration::ZERO), Taken::Lost(0)));
        assert!(matches!(queue.receive(Duration::ZERO), Taken::Timeout), "it is not closed");
    }

    #[test]
    fn a_closed_queue_gives_back_what_waited_and_takes_nothing() {
        let queue = Queue::new(None);
        assert!(queue.put(None, |_| "x").is_ok());
        assert_eq!(queue.close().len(), 1);
        assert_eq!(queue.put(None, |_| "y"), Err(Refused::Closed));
        queue.lose(0);
        assert!(matches!(queue.receive(Duration::from_secs(3600)), Taken::Closed));
    }
}
