//! Requests and connections that were refused: how often, of each reason, and that the log says so.
//!
//! Owns: the counting, and that a reason is logged at most once a second, with how many there were since. Must not know: the
//! rules (`refusals`), or what is said. Relaxed: numbers for people.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::logs::{Level, Logs, OncePerSecond};
use crate::stats::Stats;

/// Of each reason.
#[derive(Default)]
pub(crate) struct Refusals {
    /// Addressed to a name that the server does not answer to.
    pub(crate) host: Refused,
    /// From a page of another origin.
    pub(crate) origin: Refused,
    /// There were as many connections as may be.
    pub(crate) connections: Refused,
    /// As many requests waited for a handler as may.
    pub(crate) calls: Refused,
    /// For metrics, from elsewhere or without the key.
    pub(crate) metrics: Refused,
    /// Its client's address had as many connections as it may.
    pub(crate) addresses: Refused,
    /// It would have made a stream, of which there were as many as may be.
    pub(crate) streams: Refused,
    /// Its head was longer than it may be.
    pub(crate) heads: Refused,
    /// Its body was longer than it may be.
    pub(crate) bodies: Refused,
    /// Its head or its body did not come in time.
    pub(crate) late: Refused,
    /// It could not be read as a request, or asked for what HTTP here cannot do.
    pub(crate) malformed: Refused,
    /// They had no token, or one that is none.
    pub(crate) unauthorized: Refused,
    /// What they had does not let them read what they asked for.
    pub(crate) forbidden: Refused,
    /// Nobody could decide whether they may read.
    pub(crate) undecided: Refused,
}

impl Refusals {
    /// How many there were of each.
    pub(crate) fn tell(&self, stats: &mut Stats) {
        for (count, refused) in [
            (&mut stats.refused, &self.connections),
            (&mut stats.calls_refused, &self.calls),
            (&mut stats.hosts_refused, &self.host),
            (&mut stats.origins_refused, &self.origin),
            (&mut stats.addresses_refused, &self.addresses),
            (&mut stats.streams_refused, &self.streams),
            (&mut stats.heads_refused, &self.heads),
            (&mut stats.bodies_refused, &self.bodies),
            (&mut stats.late, &self.late),
            (&mut stats.malformed, &self.malformed),
            (&mut stats.unauthorized, &self.unauthorized),
            (&mut stats.forbidden, &self.forbidden),
            (&mut stats.undecided, &self.undecided),
            (&mut stats.metrics_refused, &self.metrics),
        ] {
            *count = refused.count();
        }
    }
}

#[derive(Default)]
pub(crate) struct Refused {
    count: AtomicU64,
    log: OncePerSecond,
}

impl Refused {
    /// Counts one, and logs it unless one was logged within the second.
    pub(crate) fn add(&self, logs: &Logs, logger: &'static str, text: impl FnOnce() -> String) {
        self.add_at(Level::Warning, logs, logger, text);
    }

    /// The same, where it is worth another level.
    pub(crate) fn add_at(&self, level: Level, logs: &Logs, logger: &'static str, text: impl FnOnce() -> String) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(others) = self.log.may_log() {
            let more = if others > 0 { format!(" ({others} more since the last such line)") } else { String::new() };
            logs.put(level, logger, format!("{}{more}", text()));
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
