//! The engine's clocks, in one place.
//!
//! Owns: reading them. Delivery counts in microseconds of the monotonic clock, and in ticks of the heartbeat wheel since
//! a shard's start; activity in coarse milliseconds (a read of the coarse clock costs 5 ns, of the fine one 25, and
//! publishing does one). Must not know: what is timed. Nothing that decides delivery reads a clock: it is handed one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use sse_fast_core::budget::Micros;
use sse_fast_core::heartbeat::{TICK_MS, Tick};

const TICK: Micros = TICK_MS * 1000;

/// Microseconds of the monotonic clock.
pub(crate) fn now() -> Micros {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// Milliseconds of the coarse monotonic clock.
pub(crate) fn coarse_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let now = clock_gettime(ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds since the Unix epoch: what an epoch is made of.
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in microseconds.
pub(crate) fn in_micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in milliseconds.
pub(crate) fn in_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Ticks since a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks(Micros);

impl Ticks {
    pub(crate) fn since(start: Micros) -> Self {
        Self(start)
    }

    /// The tick that `now` lies in. It stands still after 2.7 years: heartbeats end then, delivery does not.
    pub(crate) fn at(self, now: Micros) -> Tick {
        Tick::try_from(now.saturating_sub(self.0) / TICK).unwrap_or(Tick::MAX / 2).min(Tick::MAX / 2)
    }

    /// When `tick` begins.
    pub(crate) fn beginning(self, tick: Tick) -> Micros {
        self.0 + u64::from(tick) * TICK
    }
}

/// A duration in ticks, rounded up, at least one.
pub(crate) fn in_ticks(duration: Duration) -> Tick {
    let ticks = duration.as_millis().div_ceil(u128::from(TICK_MS)).max(1);
    Tick::try_from(ticks).unwrap_or(Tick::MAX / 4).min(Tick::MAX / 4)
}
