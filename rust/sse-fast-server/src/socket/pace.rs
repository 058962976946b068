//! How slowly a response may be taken before its connection is cut.
//!
//! Owns the rule and its one timer. Must not know: sockets, responses; time is an argument of the rule.
//! A reader is cut when it takes nothing for `stall_timeout`, or less than [`MIN_BYTES_PER_SECOND`] on
//! average over that time. Only a write that waits for room is watched: a response that fits into the
//! socket costs no timer, and what the kernel holds is bounded by `listener`.
//! What changes together: `signals`, which knows the writes; `connection`, which cuts.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::{Signals, signals::WriteProgress};

/// The least a reader must take while a response waits for it. At 4 KiB a second the largest page of the JSON form,
/// 256 KiB, takes about a minute, and a full history of 1 MiB four; the slowest links in use (2G, 50 kbit/s) carry 6.
const MIN_BYTES_PER_SECOND: u64 = 4 * 1024;

/// Watches the writes of one connection.
pub(crate) struct Pace {
    stall_timeout: Duration,
    /// While a write waits for room.
    watch: Option<Watch>,
}

struct Watch {
    taking: Taking,
    timer: Pin<Box<Sleep>>,
}

/// How a reader takes a response that waits for it.
#[derive(Debug)]
struct Taking {
    /// When it was last seen to take something, and how many bytes it had taken then in all.
    progress: (Instant, u64),
    /// Where the time begins that its average is taken over, and how many bytes it had taken then.
    window: (Instant, u64),
}

impl Pace {
    pub(crate) fn new(stall_timeout: Duration) -> Self {
        Self { stall_timeout, watch: None }
    }

    /// Ready when the reader is too slow; to be asked after each poll of the connection.
    pub(crate) fn poll_too_slow(&mut self, cx: &mut Context<'_>, signals: &Signals) -> Poll<()> {
        let WriteProgress { blocked, written } = signals.write_progress();
        if !blocked {
            self.watch = None;
            return Poll::Pending;
        }
        let watch = self.watch.get_or_insert_with(|| Watch {
            taking: Taking::new(Instant::now(), written),
            timer: Box::pin(sleep(self.stall_timeout)),
        });
        while let Some(until) = watch.taking.next_look(Instant::now(), written, self.stall_timeout) {
            watch.timer.as_mut().reset(until);
            if watch.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

impl Taking {
    fn new(now: Instant, written: u64) -> Self {
        Self { progress: (now, written), window: (now, written) }
    }

    /// When to look again; `None` where the reader is too slow.
    fn next_look(&mut self, now: Instant, written: u64, stall_timeout: Duration) -> Option<Instant> {
        if written > self.progress.1 {
            self.progress = (now, written);
        }
        if now >= self.window.0 + stall_timeout {
            let taken = written - self.window.1;
            // In microseconds, so that no floating point is needed; both products fit for as long as a connection lives.
            let least = u128::from(MIN_BYTES_PER_SECOND) * (now - self.window.0).as_micros();
            if u128::from(taken) * 1_000_000 < least {
                return None;
            }
            self.window = (now, written);
        }
        let stalled = self.progress.0 + stall_timeout;
        (now < stalled).then(|| stalled.min(self.window.0 + stall_timeout))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// How long it takes in simulated time, of an hour, until a reader is found too slow that takes `bytes` a second of
    /// a response which waits for it, or whose response fits.
    fn watched(bytes: usize, fits: bool) -> Option<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let (began, signals, mut pace) = (Instant::now(), Signals::default(), Pace::new(LIMIT));
            let taking = async {
                loop {
                    signals.wrote(Some(bytes));
                    if !fits {
                        signals.wrote(None);
                    }
                    sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                () = poll_fn(|cx| pace.poll_too_slow(cx, &signals)) => Some(began.elapsed()),
                () = taking => None,
                () = sleep(Duration::from_secs(3600)) => None,
            }
        })
    }

    #[test]
    fn only_a_response_that_waits_for_its_reader_is_watched() {
        for bytes in [0, 1000] {
            let after = watched(bytes, false).expect("too slow");
            assert!(after >= LIMIT && after < LIMIT + Duration::from_secs(2), "{bytes} a second: {after:?}");
            assert_eq!(watched(bytes, true), None);
        }
        assert_eq!(watched(5000, false), None);
    }

    /// When a reader that takes `bytes` every `every` seconds is cut, if it is within ten minutes.
    fn cut_after(bytes: u64, every: u64) -> Option<u64> {
        let began = Instant::now();
        let mut taking = Taking::new(began, 1000);
        for second in 1..600 {
            let written = 1000 + bytes * (second / every);
            if taking.next_look(began + Duration::from_secs(second), written, LIMIT).is_none() {
                return Some(second);
            }
        }
        None
    }

    #[test]
    fn a_reader_that_takes_nothing_is_cut_after_the_timeout() {
        assert_eq!(cut_after(0, 1), Some(30));
        // All that it takes comes at once, then nothing: 10 MB are a good pace for the first thirty seconds.
        let began = Instant::now();
        let mut taking = Taking::new(began, 0);
        let mut look = |second| taking.next_look(began + Duration::from_secs(second), 10_000_000, LIMIT).is_some();
        assert!(look(1) && look(30) && !look(31));
    }

    #[test]
    fn a_reader_that_takes_too_little_is_cut_and_a_slow_one_is_not() {
        assert_eq!(cut_after(8 * 1024, 5), Some(30));
        assert_eq!(cut_after(4 * 1024 - 1, 1), Some(30));
        assert_eq!(cut_after(4 * 1024, 1), None);
        assert_eq!(cut_after(120 * 1024, 20), None);
    }

    #[test]
    fn the_next_look_is_when_the_reader_would_be_too_slow() {
        let began = Instant::now();
        let mut taking = Taking::new(began, 0);
        assert_eq!(taking.next_look(began, 0, LIMIT), Some(began + LIMIT));
        let later = began + Duration::from_secs(10);
        assert_eq!(taking.next_look(later, 1_000_000, LIMIT), Some(began + LIMIT));
        assert_eq!(taking.next_look(began + LIMIT, 1_000_000, LIMIT), Some(later + LIMIT));
    }
}
