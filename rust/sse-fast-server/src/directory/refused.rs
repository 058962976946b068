//! Counters of requests that a rule of the server refused.
//!
//! Owns: the counting. Must not know: the rules (`refusals`).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::logs::OncePerSecond;

/// How often, of each reason; and when it was logged. Relaxed: numbers for people.
#[derive(Default)]
pub(crate) struct Refusals {
    pub(crate) host: Refused,
    pub(crate) origin: Refused,
}

#[derive(Default)]
pub(crate) struct Refused {
    count: AtomicU64,
    pub(crate) log: OncePerSecond,
}

impl Refused {
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
