//! The engine's clocks, in one place.
//!
//! Delivery counts in ticks of the heartbeat wheel since the server's start; activity in coarse
//! milliseconds (a read of the coarse clock costs 5 ns, of the fine one 25: publishing does one).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sse_fast_core::heartbeat::{TICK_MS, Tick};

/// Milliseconds of the coarse monotonic clock.
pub(crate) fn coarse_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
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

/// Ticks since a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks(Instant);

impl Ticks {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The tick that is now.
    pub(crate) fn now(self) -> Tick {
        Tick::try_from(self.0.elapsed().as_millis() / u128::from(TICK_MS)).unwrap_or(Tick::MAX)
    }

    /// How long it is until `tick` begins.
    pub(crate) fn until(self, tick: Tick) -> Duration {
        Duration::from_millis(u64::from(tick) * TICK_MS).saturating_sub(self.0.elapsed())
    }
}

/// A duration in ticks, rounded up, at least one.
pub(crate) fn in_ticks(duration: Duration) -> Tick {
    Tick::try_from(duration.as_millis().div_ceil(u128::from(TICK_MS)).max(1))
        .unwrap_or(Tick::MAX / 4)
        .min(Tick::MAX / 4)
}
