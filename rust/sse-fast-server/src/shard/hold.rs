//! For how long publishers are made to wait for a subscriber whose socket is full.
//!
//! A reader that is merely slower than a tight loop must get everything; one that is slow or dead
//! must delay nobody. So a subscriber whose socket filled has `publish_wait` to go on, once in a
//! while; and it earns more by taking much: a log's worth, and at least [`MIN_EVENTS`] where a log
//! is bounded by fewer. What it takes comes in lumps, because a busy reader reads much at a time
//! and then nothing for a while: up to [`MAX_EARNED`] such waits can be earned in advance.
//! Skipped events are not taken. Time comes in as ticks; nothing here waits.

use sse_fast_core::heartbeat::Tick;
use sse_fast_core::id::Position;
use sse_fast_core::log::Log;
use sse_fast_core::options::StreamOptions;

/// The events a small log's reader must take each `publish_wait`: the default history.
const MIN_EVENTS: u64 = 256;

/// How many times `publish_wait` a blocked subscriber can have earned.
const MAX_EARNED: Tick = 4;

/// How many times `publish_wait` must pass before a subscriber that earned nothing is waited for
/// again.
const RESPITE: Tick = 30;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    /// Where it was when it last earned time.
    mark: Position,
    /// While its socket is full: until when it is waited for. Otherwise: how much of that is left,
    /// for time in which it kept nobody waiting costs it nothing.
    until: Tick,
    /// From when on it is given `publish_wait` without having earned it.
    again: Tick,
}

impl Hold {
    /// A subscriber that begins at `cursor`.
    pub(super) fn at(cursor: Position) -> Self {
        Self { mark: cursor, ..Self::default() }
    }

    /// Its socket filled while it was at `cursor`.
    pub(super) fn begin(&mut self, cursor: Position, worth: u64, now: Tick, patience: Tick) {
        let took_much = cursor.saturating_sub(self.mark) >= worth;
        self.until = now.saturating_add(self.until);
        if took_much || now >= self.again {
            self.until = self.until.max(now.saturating_add(patience));
            self.again = now.saturating_add(RESPITE.saturating_mul(patience));
            self.mark = cursor;
        }
    }

    /// Its socket takes bytes again, and it has everything.
    pub(super) fn rest(&mut self, now: Tick) {
        self.until = self.until.saturating_sub(now);
    }

    /// It came to `cursor` by taking bytes, its socket having been full.
    pub(super) fn earn(&mut self, cursor: Position, worth: u64, now: Tick, patience: Tick) {
        let taken = cursor.saturating_sub(self.mark) / worth;
        if taken > 0 {
            self.mark += taken * worth;
            let earned = Tick::try_from(taken).unwrap_or(MAX_EARNED).min(MAX_EARNED).saturating_mul(patience);
            let most = now.saturating_add(MAX_EARNED.saturating_mul(patience));
            self.until = self.until.max(now).saturating_add(earned).min(most);
        }
    }

    /// It was moved to `target` without having taken what lies between.
    pub(super) fn skip_to(&mut self, target: Position) {
        self.mark = self.mark.max(target);
    }

    /// Whether it is waited for.
    pub(super) fn lasts(&self, now: Tick) -> bool {
        now < self.until
    }
}

/// The events a subscriber must take to earn one wait.
pub(super) fn worth(log: &Log, options: &StreamOptions) -> u64 {
    let (retained, history) = (log.newest() + 1 - log.first(), options.history as u64);
    // Fewer than `history` while the bytes are the bound: then that is what a log holds.
    if retained < history { retained.max(1) } else { history.max(MIN_EVENTS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Tick = 50;

    #[test]
    fn a_reader_that_stalls_is_waited_for_once_in_a_while() {
        let mut hold = Hold::at(1);
        let waited = (0..60 * SECOND).filter(|&now| {
            // Its socket fills every tenth of a second, and it takes next to nothing.
            if now % 5 == 0 {
                hold.rest(now);
                hold.begin(1 + u64::from(now) / 50, 256, now, SECOND);
            }
            hold.lasts(now)
        });
        assert_eq!(waited.count(), 2 * SECOND as usize);
    }

    #[test]
    fn a_reader_that_takes_a_log_each_second_is_always_waited_for() {
        let mut hold = Hold::at(1);
        hold.begin(1, 256, 0, SECOND);
        for now in 0..60 * SECOND {
            // It reads three logs at once, and then nothing for three seconds.
            if now % (3 * SECOND) == SECOND {
                hold.earn(1 + 256 * 3 * u64::from(now / (3 * SECOND) + 1), 256, now, SECOND);
            }
            assert!(hold.lasts(now), "not waited for at {now}");
        }
    }

    #[test]
    fn a_reader_that_took_everything_and_then_stalls_is_waited_for_once() {
        let mut hold = Hold::at(1);
        hold.begin(1_000_000, 256, 100, SECOND);
        assert!(hold.lasts(99 + SECOND) && !hold.lasts(100 + SECOND));
    }

    #[test]
    fn a_wait_for_somebody_else_costs_a_reader_nothing() {
        let mut hold = Hold::at(1);
        hold.begin(1, 256, 0, SECOND);
        hold.rest(1);
        // Publishers were held up by another reader meanwhile; it has taken less than a log.
        hold.begin(100, 256, 2 * SECOND, SECOND);
        assert!(hold.lasts(2 * SECOND + SECOND - 2));
    }

    #[test]
    fn what_was_skipped_was_not_taken() {
        let mut hold = Hold::at(1);
        hold.begin(1, 16, 0, SECOND);
        hold.skip_to(100_000);
        hold.earn(100_010, 16, 2 * SECOND, SECOND);
        assert!(!hold.lasts(2 * SECOND));
    }
}
