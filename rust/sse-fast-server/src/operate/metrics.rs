//! The numbers of a server, by the names that operators know them by.
//!
//! Owns: those names, and what is said of each. Must not know: how they are written (`text`), who may have them.
//! Invariants: a name that was published keeps its meaning. A counter never falls, also where it is put together of
//! several that are read one after another: a reading that would is replaced by the one before. No stream's name is a
//! label: strangers choose those, and a metrics server keeps each of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::text::Text;
use crate::directory::Directory;
use crate::durations::Distribution;
use crate::shard::{LAG_BOUNDS, Report};
use crate::stats::{BackplaneStats, Stats};
use crate::store::Store;

/// See the module.
pub(super) struct Metrics {
    /// When the server started, in microseconds since the Unix epoch.
    started: u64,
    /// The events published as they were last read: one that is being forgotten is missing for a moment.
    published: AtomicU64,
    /// Likewise the publishes that did not wait.
    unhindered: AtomicU64,
}

/// A number that was read, or the highest before it. Relaxed: it stands alone.
fn never_less(cell: &AtomicU64, read: u64) -> u64 {
    cell.fetch_max(read, Ordering::Relaxed).max(read)
}

impl Metrics {
    pub(super) fn new(started: SystemTime) -> Self {
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = u64::try_from(started.as_micros()).unwrap_or(u64::MAX);
        Self { started, published: AtomicU64::new(0), unhindered: AtomicU64::new(0) }
    }

    /// All of them; `routes` are the requests of each, `reports` what shards said of themselves.
    pub(super) fn written(
        &self,
        directory: &Directory,
        routes: &[(String, u64)],
        reports: &[Option<Report>],
    ) -> String {
        let (stats, waited, delays) = (directory.stats(), directory.waited(), directory.delays());
        let mut text = Text::default();
        text.info("sse_fast_build", "The version that runs.", &[("version", env!("CARGO_PKG_VERSION"))]);
        text.moment("sse_fast_start_time_seconds", "When the server started, since the Unix epoch.", self.started);
        connections(&mut text, &stats);
        let routes = routes.iter().map(|(route, requests)| (route.as_str(), *requests));
        let help = "Requests that a route, a handler or a file of the server's own answered, by its path or template.";
        text.counters("sse_fast_route_requests", help, "route", routes);
        self.events(&mut text, &stats);
        text.histogram(
            "sse_fast_delivery_seconds",
            "From an event's publishing to the socket, once for each write of a walk, the oldest event of each.",
            &delays,
        );
        self.publishing(&mut text, &stats, &waited);
        if let Some(store) = &directory.delivery.store {
            kept(&mut text, store);
        }
        lags(&mut text, reports);
        if let Some(backplane) = &stats.backplane {
            shared(&mut text, backplane);
        }
        text.finish()
    }

    fn events(&self, text: &mut Text, stats: &Stats) {
        let help = "Streams: named and nameless ones, and those of generators; also those that have ended and linger.";
        text.gauge("sse_fast_streams", help, stats.streams);
        text.gauge(
            "sse_fast_log_bytes",
            "Bytes that these streams retain for readers that come back.",
            stats.retained_bytes,
        );
        text.counter(
            "sse_fast_events_published",
            "Events published; no heartbeats, gaps or snapshots.",
            never_less(&self.published, stats.published),
        );
        text.counter(
            "sse_fast_events_delivered",
            "Events handed to sockets, once for each subscriber.",
            stats.delivered,
        );
        text.counter("sse_fast_bytes_sent", "Bytes handed to subscribers' sockets, with their heads.", stats.bytes);
        text.counter("sse_fast_writes", "System calls that wrote them.", stats.writes);
        text.counter("sse_fast_heartbeats", "Heartbeats handed to sockets.", stats.heartbeats);
        let reasons = stats.gap_reasons.iter().copied();
        text.counters("sse_fast_gaps", "Gaps announced, once for each subscriber, by reason.", "reason", reasons);
        text.counter("sse_fast_skipped_events", "Events in those gaps, where the number is known.", stats.skipped);
        let results = stats.resumes.iter().copied();
        let help = "Readers that came back with an id, by what they were given.";
        text.counters("sse_fast_resumes", help, "result", results);
        text.counter(
            "sse_fast_stalls",
            "How often a stream that is read had no event for its stall_after.",
            stats.stalls,
        );
    }

    fn publishing(&self, text: &mut Text, stats: &Stats, waited: &Distribution) {
        let unhindered = stats.published.saturating_sub(waited.count());
        let mut all = *waited;
        all.counts[0] += never_less(&self.unhindered, unhindered);
        text.histogram(
            "sse_fast_publish_seconds",
            "How long publishing waited, for shards or full sockets; one that did not wait counts as no time.",
            &all,
        );
        text.counter("sse_fast_publish_waits", "Publishes that waited.", waited.count());
        text.counter(
            "sse_fast_publish_wait_timeouts",
            "Publishes that went on before every subscriber had what they overwrote, publish_wait being used up.",
            stats.publish_wait_timeouts,
        );
        text.seconds_counter(
            "sse_fast_publish_socket_wait_seconds",
            "How long publishers waited for full sockets, once for each stream.",
            stats.publish_socket_wait_us,
        );
    }
}

fn connections(text: &mut Text, stats: &Stats) {
    text.gauge("sse_fast_connections", "Open connections, subscribers' included.", stats.connections);
    text.gauge("sse_fast_subscribers", "Readings of a stream over HTTP.", stats.subscribers);
    text.counter("sse_fast_connections_accepted", "Connections accepted.", stats.accepted);
    text.counter("sse_fast_requests", "Requests answered, subscriptions included.", stats.requests);
    let refused = [
        ("connections", stats.refused),
        ("addresses", stats.addresses_refused),
        ("streams", stats.streams_refused),
        ("heads", stats.heads_refused),
        ("bodies", stats.bodies_refused),
        ("unauthorized", stats.unauthorized),
        ("forbidden", stats.forbidden),
        ("undecided", stats.undecided),
        ("late", stats.late),
        ("malformed", stats.malformed),
        ("calls", stats.calls_refused),
        ("host", stats.hosts_refused),
        ("origin", stats.origins_refused),
        ("metrics", stats.metrics_refused),
    ];
    text.counters("sse_fast_refused", "Requests and connections refused, by reason.", "reason", refused);
    let closed = stats.closed.iter().copied();
    text.counters("sse_fast_disconnects", "Subscribers' connections closed, by reason.", "reason", closed);
    text.counter(
        "sse_fast_presence_missed",
        "Joins and leaves that callbacks were not told of, because too many waited.",
        stats.presence_missed,
    );
}

/// Of the server that streams are shared through.
fn shared(text: &mut Text, backplane: &BackplaneStats) {
    text.gauge("sse_fast_backplane_up", "Whether the backplane's server answers and pushes.", u64::from(backplane.up));
    text.counter("sse_fast_backplane_requests", "Requests that it answered.", backplane.requests);
    text.seconds_gauge(
        "sse_fast_backplane_round_trip_seconds",
        "How long its last answer took.",
        backplane.round_trip_us,
    );
    text.counter("sse_fast_backplane_reconnects", "Connections to it made anew.", backplane.reconnects);
    text.counter("sse_fast_backplane_fills", "Holes in what it pushed that were read from its log.", backplane.fills);
    let help = "Logs there that were found to have lost their newest events.";
    text.counter("sse_fast_backplane_lost_tails", help, backplane.lost_tails);
    text.counter("sse_fast_backplane_events", "Events that it pushed to this process.", backplane.pushed);
}

/// What the store has done.
fn kept(text: &mut Text, store: &Store) {
    let (counted, (bytes, _, refused)) = (store.counted(), store.numbers());
    text.gauge("sse_fast_store_bytes", "Bytes in use of the store's folder.", bytes);
    text.histogram(
        "sse_fast_store_sync_seconds",
        "How long the disk took to keep what was written.",
        &Distribution::default().with(&counted.syncs),
    );
    text.counter("sse_fast_store_refused", "Publishes that were refused because they could not be kept.", refused);
    text.gauge("sse_fast_store_writable", "1 while events can be kept, else 0.", u64::from(store.is_writable()));
}

/// What the shards said of their subscribers.
fn lags(text: &mut Text, reports: &[Option<Report>]) {
    let mut all = Report::default();
    reports.iter().flatten().for_each(|report| all.add(report));
    text.gauge("sse_fast_shards", "Threads that write to subscribers.", reports.len() as u64);
    let silent = reports.iter().filter(|report| report.is_none()).count() as u64;
    text.gauge("sse_fast_silent_shards", "Those that did not answer within a second.", silent);
    text.gauge("sse_fast_blocked_subscribers", "Subscribers whose sockets are full.", all.blocked);
    text.gauge_histogram(
        "sse_fast_lag_events",
        "Subscribers by the events that they lag behind.",
        &LAG_BOUNDS,
        &all.lags,
        all.lag,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_was_read_too_low_is_what_it_was_before() {
        let cell = AtomicU64::new(0);
        assert_eq!([3, 7, 5, 7, 8].map(|read| never_less(&cell, read)), [3, 7, 7, 7, 8]);
    }
}
