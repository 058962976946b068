//! When a stream gave its last signs of life, and whether it is stalled.
//!
//! Owns: both times, and what stalled means: somebody reads the stream, and nothing was published for `stall_after`; its
//! readers have heartbeats alone, which hide it from them. Must not know: who logs it. Invariants: a silence is told once
//! (`Stalled::is_news`), and begins anew with the next event; a stream that nobody reads, or that is over, is not stalled.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sse_fast_core::id::Position;

use super::{Inner, Stream};
use crate::clock::{coarse_ms, in_millis};

/// A unit of the times, in milliseconds. Modulo 2^32 they tell 397 days from one another, and no option is longer than 366.
const UNIT: u64 = 8;

/// When it is looked again whether a silent stream is read by now, or speaks again: as soon as is needed to say so in time,
/// and so seldom that many of them cost nothing.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// The last signs of life. Relaxed: expiry and warnings that come a little early or late are as good.
pub(super) struct Signs {
    /// An event, or the making.
    event: AtomicU32,
    /// The last subscriber that left.
    left: AtomicU32,
}

/// What a look at a stream's silence found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing is to be looked at any more.
    Over,
    /// It is to be looked at again then, in coarse milliseconds.
    Later(u64),
    /// It is stalled, and to be looked at again `later`; `is_news` where that was not found before.
    Stalled { later: u64, silent: Duration, readers: usize, is_news: bool },
}

#[allow(clippy::cast_possible_truncation, reason = "times are compared modulo 2^32")]
fn in_units(ms: u64) -> u32 {
    (ms / UNIT) as u32
}

fn elapsed(now: u64, since: &AtomicU32) -> u64 {
    let units = in_units(now).wrapping_sub(since.load(Ordering::Relaxed));
    // A clock that was read before another thread's may be behind it by some ticks.
    if units > u32::MAX - 128 { 0 } else { u64::from(units) * UNIT }
}

impl Signs {
    pub(super) fn new(now: u64) -> Self {
        Self { event: AtomicU32::new(in_units(now)), left: AtomicU32::new(in_units(now)) }
    }
}

impl Stream {
    /// An event was published.
    pub(super) fn spoke(&self, now: u64) {
        self.0.signs.event.store(in_units(now), Ordering::Relaxed);
    }

    /// It was kept while there was no server: its last event is so many milliseconds old.
    pub(crate) fn was_silent_for(&self, age: u64) {
        let then = coarse_ms().saturating_sub(age);
        self.spoke(then);
        self.touch(then);
    }

    /// Somebody left, or had been on the way.
    pub(super) fn touch(&self, now: u64) {
        self.0.signs.left.store(in_units(now), Ordering::Relaxed);
    }

    /// Coarse milliseconds of the last sign of life, an event or a leaving.
    pub(crate) fn touched(&self) -> u64 {
        let (now, signs) = (coarse_ms(), &self.0.signs);
        now.saturating_sub(elapsed(now, &signs.event).min(elapsed(now, &signs.left)))
    }

    /// For how long nothing was published.
    pub(super) fn silent(&self, now: u64) -> Duration {
        Duration::from_millis(elapsed(now, &self.0.signs.event))
    }

    /// Whether it has an option that says so.
    pub(crate) fn may_stall(&self) -> bool {
        self.lock().state.options().stall_after.is_some()
    }

    /// Whether it is stalled; under the lock.
    pub(super) fn is_stalled(&self, inner: &Inner, now: u64) -> bool {
        inner.stalls_after().is_some_and(|after| self.silent(now) >= after) && self.subscribers() > 0
    }

    /// Looks whether it is stalled, and remembers that this was found.
    pub(crate) fn look_at_silence(&self, now: u64) -> Silence {
        let mut inner = self.lock();
        let Some(after) = inner.stalls_after() else { return Silence::Over };
        let silent = self.silent(now);
        if silent < after {
            return Silence::Later(now + in_millis(after.saturating_sub(silent)).max(1));
        }
        let [soonest, latest] = LOOK_AGAIN;
        let later = now + in_millis((after / 4).clamp(soonest, latest));
        let readers = self.subscribers();
        if readers == 0 {
            return Silence::Later(later);
        }
        let newest: Position = inner.state.log().newest();
        let told = &mut inner.extra.get_or_insert_default().stall_told;
        let is_news = told.replace(newest) != Some(newest);
        Silence::Stalled { later, silent, readers, is_news }
    }
}

impl Inner {
    /// After how much silence it is stalled, if it can be: one that is over cannot.
    fn stalls_after(&self) -> Option<Duration> {
        self.state.options().stall_after.filter(|_| !self.state.is_complete())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use sse_fast_core::event::NewEvent;
    use sse_fast_core::id::Epoch;
    use sse_fast_core::options::StreamOptions;

    use super::*;
    use crate::delivery::{Delivery, Patience};
    use crate::mailbox::{Latch, Mailbox, Wake};

    struct Quiet;

    impl Wake for Quiet {
        fn wake(&self) {}
    }

    fn stream(stall_after: Option<Duration>) -> Stream {
        let delivery = Delivery::new(Box::new([]), Mailbox::new(&Latch::new(Quiet)), Patience::Lossless);
        let options = StreamOptions { stall_after, ..StreamOptions::default() };
        Stream::new("s", Epoch(1), &Arc::new(delivery), Arc::new(options))
    }

    #[test]
    fn times_are_told_apart_for_more_than_a_year() {
        let long_ago = 5 * (u64::from(u32::MAX) + 1) * UNIT;
        let signs = Signs::new(long_ago);
        for passed in [0, UNIT, 1000 * UNIT, 366 * 24 * 3600 * 1000] {
            assert_eq!(elapsed(long_ago + passed, &signs.event), passed / UNIT * UNIT);
        }
        assert_eq!(elapsed(long_ago - 10 * UNIT, &signs.event), 0, "a clock that is behind");
    }

    #[test]
    fn a_stream_that_nobody_reads_is_looked_at_until_it_is_over() {
        let silent = stream(Some(Duration::from_secs(60)));
        let now = coarse_ms();
        assert!(matches!(silent.look_at_silence(now), Silence::Later(at) if at > now + 59_000));
        assert_eq!(silent.look_at_silence(now + 61_000), Silence::Later(now + 62_000));
        silent.end(b"null", "end").expect("it was open");
        assert_eq!(silent.look_at_silence(now + 62_000), Silence::Over);
        assert_eq!(stream(None).look_at_silence(now + 61_000), Silence::Over);
    }

    #[test]
    fn a_leaving_is_a_sign_of_life_and_no_event() {
        let stream = stream(None);
        let now = coarse_ms();
        stream.0.signs.event.store(in_units(now - 10_000), Ordering::Relaxed);
        stream.0.signs.left.store(in_units(now - 20_000), Ordering::Relaxed);
        assert!(stream.touched() <= now - 9_900);
        stream.touch(now);
        assert!(stream.touched() >= now - UNIT && stream.silent(now) >= Duration::from_secs(9));
        stream.publish(&NewEvent { data: b"x", ..NewEvent::default() }).expect("it is open");
        assert!(stream.silent(now) < Duration::from_secs(1));
    }
}
