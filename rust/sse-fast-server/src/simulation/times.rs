//! Times of the simulation, and a list of them.
//!
//! Owns: how long a second is, what was waited when. Must not know: who waits.

use sse_fast_core::budget::{MINUTE, Micros};

pub(super) const MS: Micros = 1000;
pub(super) const SECOND: Micros = 1000 * MS;
pub(super) const STALL: Micros = 3 * SECOND;
/// Two ticks of the wheel: one that rounding up costs, one that has begun.
pub(super) const TICKS: Micros = 40 * MS;

/// Moments, and so many microseconds at each.
#[derive(Default)]
pub(super) struct Times(Vec<(Micros, Micros)>);

impl Times {
    pub(super) fn add(&mut self, now: Micros, micros: Micros) {
        self.0.push((now, micros));
    }

    pub(super) fn in_all(&self) -> Micros {
        self.0.iter().map(|(_, micros)| micros).sum()
    }

    pub(super) fn within_a_minute(&self, now: Micros) -> Micros {
        self.0.iter().filter(|(at, _)| at + MINUTE > now).map(|(_, micros)| micros).sum()
    }
}
