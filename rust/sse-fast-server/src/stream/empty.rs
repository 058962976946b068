//! Whether anybody reads a stream, and who is told that nobody does any more.
//!
//! Owns: when a stream counts as empty, the keys that are told of it, and who in this process waits for it. Must not know:
//! callbacks (`crate::presence`), names, sockets, who a reader is. Times are coarse milliseconds that come in.
//! Invariant: a key is told once for each time that the stream is empty for as long as the key wants, and not while
//! somebody is here or on the way.
//!
//! # States, under the stream's lock
//! *nobody has asked* → *asked for* ⇄ *empty since*. A subscriber that comes, and a request whose client left before it was
//! one, make it *asked for* ([`Inner::somebody_came`]); the last that leaves makes it *empty* ([`Inner::nobody_is_left`]).
//! A stream that nobody has asked for is not empty in this sense.
//!
//! The time that a key wants is waited for by the control thread, which looks at the stream ([`Timed`]): it is told to
//! whenever something may be due sooner than it knows. Threads and event loops that wait are woken, and wait by themselves.
//! This file is long because its tests are in it, which set the states by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::watch::{self, Listening, Topic, Watchers};
use super::{Inner, Stream, StreamShared};
use crate::clock::{coarse_ms, in_millis};
use crate::delivery::{Due, Notice, Timed};
use crate::sync::park_timeout;

/// A thread that waits tries again by itself this often. Nothing depends on it: it is woken.
const TRY_AGAIN: Duration = Duration::from_secs(3600);

/// The longest time that a stream can be asked to have been empty for, in milliseconds: see [`Emptiness`]; 23 days.
const LONGEST: u64 = 2_000_000_000;

/// See "States". Held right in the stream: a number of coarse milliseconds modulo 2^32, which is told from others for 24 days;
/// after that a stream that is still empty counts as just emptied. Two values stand for the other states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Emptiness(u32);

impl Emptiness {
    pub(super) const NOBODY_ASKED: Self = Self(0);
    const ASKED_FOR: Self = Self(1);

    #[allow(clippy::cast_possible_truncation, reason = "times are compared modulo 2^32")]
    fn since(now: u64) -> Self {
        Self((now as u32).max(2))
    }

    /// For how long it has been empty, if it is.
    #[allow(clippy::cast_possible_truncation, reason = "times are compared modulo 2^32")]
    fn elapsed(self, now: u64) -> Option<u64> {
        let elapsed = (now as u32).wrapping_sub(self.0);
        // A clock that was read before another thread's may be behind it.
        (self.0 > Self::ASKED_FOR.0).then_some(if elapsed > u32::MAX / 2 { 0 } else { elapsed.into() })
    }
}

/// Who is told that a stream is empty; few streams have anybody.
#[derive(Default)]
pub(super) struct WhenEmpty {
    keys: Vec<Key>,
    /// Those in this process that wait for it.
    pub(super) watchers: Watchers,
}

/// A key under which it is told that the stream is empty.
struct Key {
    number: u64,
    /// For how long it must have been, in milliseconds.
    after: u64,
    /// Whether it was told of this time.
    is_told: bool,
}

/// How waiting for a stream to be empty ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyOutcome {
    /// It is.
    Empty,
    /// Not within the time given.
    Timeout,
    /// The server was closed.
    Closed,
}

/// Who is to be told, once the lock is free, that nobody is left.
pub(super) struct Left {
    listening: Option<Listening>,
    is_timed: bool,
}

impl Stream {
    /// From now on `key` is told once for each time that the stream has been empty for that long.
    pub fn on_empty(&self, key: u64, after: Duration) {
        let after = in_millis(after).min(LONGEST);
        let mut inner = self.lock();
        inner.extra.get_or_insert_default().when_empty.keys.push(Key { number: key, after, is_told: false });
        drop(inner);
        self.look_soon();
    }

    /// Waits until the stream has been empty for `after`, as long as it takes where no `timeout` is given.
    pub fn wait_empty(&self, after: Duration, timeout: Option<Duration>) -> EmptyOutcome {
        let began = Instant::now();
        loop {
            let mut inner = self.lock();
            let left = timeout.map_or(TRY_AGAIN, |limit| limit.saturating_sub(began.elapsed()));
            let wait = self.empty_in_of(&inner, after);
            let outcome = match wait {
                Some(Duration::ZERO) => Some(EmptyOutcome::Empty),
                _ if self.is_closed() => Some(EmptyOutcome::Closed),
                _ if left.is_zero() => Some(EmptyOutcome::Timeout),
                _ => None,
            };
            let watchers = &mut inner.extra.get_or_insert_default().when_empty.watchers;
            if let Some(outcome) = outcome {
                watchers.forget_me();
                return outcome;
            }
            watchers.park_me();
            drop(inner);
            park_timeout(wait.map_or(left, |wait| wait.min(left)));
        }
    }

    /// In how long the stream will have been empty for `after`, if nobody comes: zero where it has; `None` where somebody is
    /// here or on the way, or nobody has asked for it. A stream that was removed is empty once nobody is here.
    pub fn empty_in(&self, after: Duration) -> Option<Duration> {
        self.empty_in_of(&self.lock(), after)
    }

    fn empty_in_of(&self, inner: &Inner, after: Duration) -> Option<Duration> {
        if !self.nobody_is_here(inner) {
            return None;
        }
        let after = in_millis(after).min(LONGEST);
        let left = match inner.emptiness.elapsed(coarse_ms()) {
            Some(elapsed) => after.saturating_sub(elapsed),
            None if inner.state.removed() => 0,
            None => return None,
        };
        Some(Duration::from_millis(left))
    }

    /// Whether the stream has no subscriber, and none is on the way.
    pub(super) fn nobody_is_here(&self, inner: &Inner) -> bool {
        inner.arriving == 0 && self.subscribers() == 0 && inner.others() == 0
    }

    /// Tells those who are to be told that nobody is left; without the lock.
    pub(super) fn tell_left(&self, left: &Left) {
        if let Some(listening) = &left.listening {
            watch::wake(listening);
        }
        if left.is_timed {
            self.look_soon();
        }
    }

    /// The control thread is to look: something may be due.
    fn look_soon(&self) {
        let (epoch, timed): (_, Arc<dyn Timed>) = (self.life(), Arc::clone(&self.0) as _);
        // Once the server is closed nobody is told any more.
        let _ = self.0.delivery.notices.push(Notice::Look { epoch, timed });
    }

    /// The same where anybody waits to be told by the control thread: the stream is over.
    pub(super) fn look_if_asked(&self) {
        let is_asked = self.lock().extra.as_ref().is_some_and(|extra| !extra.when_empty.keys.is_empty());
        if is_asked {
            self.look_soon();
        }
    }
}

impl WhenEmpty {
    /// The keys, for the next life of the name.
    pub(super) fn take_keys(&mut self) -> Self {
        Self { keys: std::mem::take(&mut self.keys), watchers: Watchers::default() }
    }
}

impl Inner {
    /// A subscriber came, or a request whose client has left before it was one.
    pub(crate) fn somebody_came(&mut self) {
        self.emptiness = Emptiness::ASKED_FOR;
        if let Some(extra) = &mut self.extra {
            extra.when_empty.keys.iter_mut().for_each(|key| key.is_told = false);
        }
    }

    /// Nobody is here, nor on the way: who is to be told.
    pub(super) fn nobody_is_left(&mut self, now: u64) -> Left {
        if self.emptiness == Emptiness::ASKED_FOR {
            self.emptiness = Emptiness::since(now);
        }
        let is_empty = self.emptiness != Emptiness::NOBODY_ASKED;
        match &mut self.extra {
            Some(extra) if is_empty => {
                let when_empty = &mut extra.when_empty;
                Left { listening: when_empty.watchers.listening(), is_timed: !when_empty.keys.is_empty() }
            }
            _ => Left { listening: None, is_timed: false },
        }
    }

    /// Those who wait for the stream to be empty.
    pub(super) fn listening_for_empty(&mut self) -> Option<Listening> {
        self.extra.as_mut().and_then(|extra| extra.when_empty.watchers.listening())
    }

    pub(super) fn watchers_of(&mut self, topic: Topic) -> &mut Watchers {
        let extra = self.extra.get_or_insert_default();
        match topic {
            Topic::News => &mut extra.watchers,
            Topic::Empty => &mut extra.when_empty.watchers,
        }
    }
}

impl Timed for StreamShared {
    fn look(self: Arc<Self>, now: u64) -> Due {
        let stream = Stream(self);
        let mut inner = stream.lock();
        let (is_here, is_over) = (!stream.nobody_is_here(&inner), inner.state.is_complete());
        let (emptiness, is_removed) = (inner.emptiness, inner.state.removed());
        let mut due = Due::default();
        let Some(extra) = inner.extra.as_mut().filter(|_| !is_here) else { return due };
        let Some(elapsed) = emptiness.elapsed(now) else {
            // Where somebody had asked for it the last one has gone, and says so in a moment.
            if is_removed && emptiness == Emptiness::NOBODY_ASKED {
                // Nobody can any more.
                due.forgotten = extra.when_empty.keys.drain(..).map(|key| key.number).collect();
            }
            return due;
        };
        extra.when_empty.keys.retain_mut(|key| {
            if key.is_told {
                due.forgotten.extend(is_over.then_some(key.number));
                return !is_over;
            }
            if elapsed < key.after {
                let at = now + key.after - elapsed;
                due.again = Some(due.again.map_or(at, |again| again.min(at)));
                return true;
            }
            key.is_told = true;
            due.keys.push((key.number, is_over));
            !is_over
        });
        due
    }
}

impl Drop for StreamShared {
    fn drop(&mut self) {
        let Some(extra) = &self.inner.get_mut().extra else { return };
        let keys: Vec<_> = extra.when_empty.keys.iter().map(|key| key.number).collect();
        if !keys.is_empty() {
            // Once the server is closed nobody is told any more.
            let _ = self.delivery.notices.push(Notice::Gone { keys });
        }
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

    #[test]
    fn a_removed_stream_whose_last_reader_has_gone_and_not_said_so_yet_is_not_one_that_nobody_asked_for() {
        let stream = stream();
        stream.on_empty(7, Duration::ZERO);
        stream.lock().somebody_came();
        stream.remove();
        let early = look(&stream, coarse_ms());
        assert_eq!((early.keys, early.forgotten), (Vec::new(), Vec::new()));
        stream.left();
        assert_eq!(look(&stream, coarse_ms() + 1).keys, [(7, true)]);
    }

    #[test]
    fn a_removed_stream_that_nobody_asked_for_forgets_who_waited() {
        let stream = stream();
        stream.on_empty(7, Duration::ZERO);
        stream.remove();
        let due = look(&stream, coarse_ms());
        assert_eq!((due.keys, due.forgotten), (Vec::new(), vec![7]));
    }

    fn look(stream: &Stream, now: u64) -> Due {
        Arc::clone(&stream.0).look(now)
    }

    /// What the stream told the control thread: whether to look, and which keys are gone.
    fn notices(delivery: &Delivery) -> (usize, Vec<u64>) {
        let (mut taken, mut looks, mut gone) = (Vec::new(), 0, Vec::new());
        delivery.notices.take(&mut taken);
        for notice in taken {
            match notice {
                Notice::Look { .. } => looks += 1,
                Notice::Gone { keys } => gone.extend(keys),
                Notice::Life { .. } | Notice::Present { .. } => {}
            }
        }
        (looks, gone)
    }

    /// Somebody comes and leaves, as the engine's clock says now.
    fn visit(stream: &Stream) -> u64 {
        drop(stream.claim());
        coarse_ms()
    }

    fn due(keys: &[u64]) -> Due {
        Due { keys: keys.iter().map(|&key| (key, false)).collect(), ..Due::default() }
    }

    #[test]
    fn a_stream_that_nobody_has_asked_for_is_not_empty() {
        let stream = stream();
        stream.on_empty(1, Duration::ZERO);
        assert_eq!(look(&stream, coarse_ms() + 1_000_000), Due::default());
        assert_eq!(stream.empty_in(Duration::ZERO), None);
        assert_eq!(stream.wait_empty(Duration::ZERO, Some(Duration::ZERO)), EmptyOutcome::Timeout);
    }

    #[test]
    fn each_key_is_told_after_its_own_time_once_for_each_time() {
        let stream = stream();
        stream.on_empty(1, Duration::from_millis(0));
        stream.on_empty(2, Duration::from_millis(500));
        let left = visit(&stream);
        assert_eq!(look(&stream, left), Due { again: Some(left + 500), ..due(&[1]) });
        assert_eq!(look(&stream, left + 499).keys, []);
        assert_eq!(look(&stream, left + 500), due(&[2]));
        assert_eq!(look(&stream, left + 1_000_000), due(&[]));
        let left = visit(&stream);
        assert_eq!(look(&stream, left + 500), due(&[1, 2]), "for the next time");
    }

    #[test]
    fn who_comes_back_in_time_is_not_told_of() {
        let stream = stream();
        stream.on_empty(1, Duration::from_millis(500));
        let left = visit(&stream);
        assert_eq!(look(&stream, left + 100).again, Some(left + 500));
        let here = stream.claim().expect("open");
        assert_eq!(look(&stream, left + 600), due(&[]), "one is on the way");
        assert_eq!(stream.empty_in(Duration::ZERO), None);
        drop(here);
        assert!(look(&stream, coarse_ms()).again.is_some(), "the time begins anew");
    }

    #[test]
    fn an_answer_that_is_read_at_once_is_nobody_who_came() {
        let stream = stream();
        stream.on_empty(1, Duration::ZERO);
        stream.hand_out().answered();
        assert_eq!(look(&stream, coarse_ms() + 10), due(&[]));
        drop(stream.hand_out());
        assert_eq!(look(&stream, coarse_ms() + 10), due(&[1]), "its client has left before it read");
        stream.hand_out().answered();
        assert_eq!(look(&stream, coarse_ms() + 10), due(&[]));
        drop(stream.hand_out());
        assert_eq!(look(&stream, coarse_ms() + 10), due(&[1]));
    }

    #[test]
    fn a_stream_that_is_over_is_told_of_a_last_time() {
        let stream = stream();
        stream.on_empty(1, Duration::ZERO);
        stream.on_empty(2, Duration::from_millis(500));
        let left = visit(&stream);
        assert_eq!(look(&stream, left), Due { again: Some(left + 500), ..due(&[1]) });
        stream.end(b"null", "end").expect("open");
        assert_eq!(look(&stream, left + 500), Due { keys: vec![(2, true)], forgotten: vec![1], again: None });
        assert_eq!(look(&stream, left + 1000), due(&[]));
    }

    #[test]
    fn keys_that_cannot_be_told_any_more_are_forgotten() {
        let (removed, dropped) = (stream(), stream());
        removed.on_empty(1, Duration::ZERO);
        removed.remove();
        assert_eq!(look(&removed, coarse_ms()).forgotten, [1]);
        assert_eq!(removed.wait_empty(Duration::ZERO, None), EmptyOutcome::Empty, "nobody can come any more");
        dropped.on_empty(2, Duration::ZERO);
        let delivery = Arc::clone(&dropped.0.delivery);
        assert_eq!(notices(&delivery).0, 1, "which held it until it was read");
        drop(dropped);
        assert_eq!(notices(&delivery).1, [2]);
    }

    #[test]
    fn the_control_thread_is_told_when_something_may_be_due() {
        let stream = stream();
        visit(&stream);
        assert_eq!(notices(&stream.0.delivery).0, 0, "nobody wants to know");
        stream.on_empty(1, Duration::ZERO);
        assert_eq!(notices(&stream.0.delivery).0, 1);
        visit(&stream);
        assert_eq!(notices(&stream.0.delivery).0, 1);
        stream.end(b"null", "end").expect("open");
        assert_eq!(notices(&stream.0.delivery).0, 1);
    }

    #[test]
    fn who_waits_is_woken_by_the_last_that_leaves() {
        let stream = stream();
        let here = stream.claim().expect("open");
        let waiting = std::thread::spawn({
            let stream = stream.clone();
            move || stream.wait_empty(Duration::from_millis(20), None)
        });
        let is_parked = || stream.lock().extra.as_ref().is_some_and(|extra| extra.when_empty.watchers.is_anybody());
        while !is_parked() {
            std::thread::yield_now();
        }
        drop(here);
        assert_eq!(waiting.join().expect("it waited"), EmptyOutcome::Empty);
        assert!(!is_parked());
    }

    #[test]
    fn times_are_told_apart_across_the_end_of_the_numbers() {
        let since = Emptiness::since(u64::from(u32::MAX) - 10);
        assert_eq!(since.elapsed(u64::from(u32::MAX) + 90), Some(100));
        assert_eq!(since.elapsed(u64::from(u32::MAX) - 14), Some(0), "a clock that is behind");
        assert_eq!(Emptiness::NOBODY_ASKED.elapsed(5), None);
        assert_eq!(Emptiness::ASKED_FOR.elapsed(5), None);
    }
}
