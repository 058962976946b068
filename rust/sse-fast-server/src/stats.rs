//! What the engine counts.
//!
//! Counters belong to a shard and are written by its thread only (relaxed: they are numbers, they
//! order nothing); reading adds them up. Reasons are enums whose names are the log words and the
//! metric labels.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sse_fast_core::gap::Gap;

use crate::durations::Durations;

/// Why a subscriber's connection was closed by or noticed by the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The reader closed it, or its network did.
    Gone,
    /// The stream ended and everything was taken.
    Ended,
    /// The reader took nothing for `stall_timeout`.
    Stalled,
    /// It lagged, and the stream's policy is to disconnect.
    Lagged,
    /// The server shut down.
    Shutdown,
    /// The reader's right to read expired.
    Expired,
    /// The application disconnected the reader.
    Disconnected,
}

impl CloseReason {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 7] =
        [Self::Gone, Self::Ended, Self::Stalled, Self::Lagged, Self::Shutdown, Self::Expired, Self::Disconnected];

    /// Its word in statistics and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Ended => "ended",
            Self::Stalled => "stalled",
            Self::Lagged => "lagged",
            Self::Shutdown => "shutdown",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Why a gap was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// The subscriber fell behind while it was connected.
    Lag,
    /// It came for what the log had forgotten.
    History,
    /// It came with an id that cannot be read or is of another life: nobody knows how many it lacks.
    Epoch,
}

impl GapReason {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 3] = [Self::Lag, Self::History, Self::Epoch];

    /// Why a reader that opens a stream is told of this one.
    pub(crate) fn of_opening(gap: Gap) -> Self {
        if gap == Gap::Unknown { Self::Epoch } else { Self::History }
    }

    /// Its word in statistics and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::History => "history",
            Self::Epoch => "epoch",
        }
    }
}

/// What a reader was given that came back with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// Everything since then.
    Tail,
    /// A gap, and what the log still held.
    Gap,
    /// A gap of unknown size, and what a new subscriber gets.
    Epoch,
    /// Nothing: it had the terminal event.
    Finished,
}

impl Resumed {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 4] = [Self::Tail, Self::Gap, Self::Epoch, Self::Finished];

    /// Its word in statistics and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::Gap => "gap",
            Self::Epoch => "epoch",
            Self::Finished => "finished",
        }
    }
}

/// One shard's counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) subscribers: AtomicU64,
    pub(crate) sockets: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) heartbeats: AtomicU64,
    pub(crate) gaps: [AtomicU64; GapReason::ALL.len()],
    pub(crate) skipped: AtomicU64,
    pub(crate) blocked: AtomicU64,
    pub(crate) closed: [AtomicU64; CloseReason::ALL.len()],
    /// Readers that came back with an id, by what they were given.
    pub(crate) resumed: [AtomicU64; Resumed::ALL.len()],
    /// From the publishing of news to the sockets, once for each write of a walk.
    pub(crate) delivery: Durations,
}

impl Counters {
    #[inline]
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        // One writer: a plain load and store would do; this says the same without a lock prefix.
        counter.store(counter.load(Relaxed) + more, Relaxed);
    }

    pub(crate) fn subtract(counter: &AtomicU64, less: u64) {
        let now = counter.load(Relaxed);
        debug_assert!(now >= less, "nothing is taken away that was not added");
        counter.store(now.wrapping_sub(less), Relaxed);
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        Self::add(&self.closed[reason as usize], 1);
    }

    pub(crate) fn gap(&self, reason: GapReason) {
        Self::add(&self.gaps[reason as usize], 1);
    }

    pub(crate) fn resume(&self, resumed: Resumed) {
        Self::add(&self.resumed[resumed as usize], 1);
    }
}

/// Totals of a server.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Streams now: by name, without a name as long as somebody holds them, and of generators as long as their readers may
    /// come back.
    pub streams: u64,
    /// Subscribers now.
    pub subscribers: u64,
    /// Connections now, subscribers included.
    pub connections: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Requests answered so far, subscriptions included.
    pub requests: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Requests for a handler that were refused because as many waited as may.
    pub calls_refused: u64,
    /// Events published so far.
    pub published: u64,
    /// Events handed to sockets so far, counted for each subscriber.
    pub delivered: u64,
    /// Bytes handed to sockets so far.
    pub bytes: u64,
    /// Write calls so far.
    pub writes: u64,
    /// Heartbeats so far.
    pub heartbeats: u64,
    /// Gaps announced so far.
    pub gaps: u64,
    /// The same by reason.
    pub gap_reasons: Vec<(&'static str, u64)>,
    /// Readers that came back with an id so far, by what they were given.
    pub resumes: Vec<(&'static str, u64)>,
    /// Bytes that these streams retain now.
    pub retained_bytes: u64,
    /// Requests for metrics refused so far.
    pub metrics_refused: u64,
    /// Bytes in use of the store's folder.
    pub store_bytes: u64,
    /// How often the disk was told to keep what was written to the store.
    pub store_syncs: u64,
    /// Publishes that were refused because they could not be kept.
    pub store_refused: u64,
    /// Events in those gaps, where the number is known.
    pub skipped: u64,
    /// Times a subscriber's socket filled that had had everything until then.
    pub blocked: u64,
    /// Publishes that waited, for a shard or for sockets.
    pub publish_waits: u64,
    /// Publishes that went on although a subscriber that is waited for lacked what they overwrote: the budget was used up.
    pub publish_wait_timeouts: u64,
    /// Microseconds that publishes waited, all threads together.
    pub publish_wait_us: u64,
    /// Microseconds that streams' publishers waited for sockets, once for each stream however many wait: what
    /// `publish_wait` limits.
    pub publish_socket_wait_us: u64,
    /// Joins and leaves that callbacks were not told of so far, because too many waited.
    pub presence_missed: u64,
    /// Requests refused so far for the name that they were addressed to.
    pub hosts_refused: u64,
    /// Requests refused so far for the origin of the page that they came from.
    pub origins_refused: u64,
    /// Connections and requests refused so far because their client's address had as many as it may.
    pub addresses_refused: u64,
    /// Requests refused so far because they would have made one stream too many.
    pub streams_refused: u64,
    /// Requests refused so far because their head was too long.
    pub heads_refused: u64,
    /// Requests refused so far because their body was too long.
    pub bodies_refused: u64,
    /// Requests given up so far because their head or body did not come in time.
    pub late: u64,
    /// Requests refused so far that could not be read, or asked for what HTTP here cannot do.
    pub malformed: u64,
    /// Requests refused so far that had no token, or one that is none.
    pub unauthorized: u64,
    /// Requests refused so far whose token, or the application, does not let them read.
    pub forbidden: u64,
    /// Requests turned away so far because nobody could decide whether they may read.
    pub undecided: u64,
    /// How often a stream was found stalled so far.
    pub stalls: u64,
    /// Subscribers' connections closed so far, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Of the backplane, where there is one.
    pub backplane: Option<BackplaneStats>,
}

/// What the backplane's thread has counted.
#[derive(Clone, Debug, Default)]
pub struct BackplaneStats {
    /// Whether the server can be asked, and pushes come.
    pub up: bool,
    /// Requests that it answered.
    pub requests: u64,
    /// Microseconds that the last of them took.
    pub round_trip_us: u64,
    /// Connections made anew.
    pub reconnects: u64,
    /// Holes in what was pushed that were read from the log.
    pub fills: u64,
    /// Logs that were found to have lost their newest events.
    pub lost_tails: u64,
    /// Events pushed to this process.
    pub pushed: u64,
}

/// What one stream is doing.
#[derive(Clone, Debug)]
pub struct StreamStats {
    /// Subscribers now.
    pub subscribers: u64,
    /// Events published so far.
    pub published: u64,
    /// Events retained.
    pub retained: u64,
    /// Bytes retained.
    pub retained_bytes: u64,
    /// Whether it ended.
    pub ended: bool,
    /// Seconds since the last event (heartbeats are none), or since it was made.
    pub silent_s: f64,
    /// Whether it is read and has been silent for `stall_after`.
    pub stalled: bool,
}
