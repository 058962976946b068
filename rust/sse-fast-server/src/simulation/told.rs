//! A stream beside its oracle, and what the oracle says when a connection opens.
//!
//! Owns: what is known of both. Must not know: who tells them, and when (`stage`).

use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_oracle::everything::{Everything, Expected, Place};

use super::times::Times;
use crate::stream::Stream;

/// What a chunk adds to a block at most: its length, two CRLF.
pub(super) const CHUNK: usize = 9;

/// A stream, and everything it was told.
pub(super) struct SimStream {
    pub(super) stream: Stream,
    pub(super) all: Everything,
    pub(super) removed: bool,
    /// How many came and have not gone, as shards tell it.
    pub(super) present: i64,
    /// The serial number of the next event or snapshot.
    pub(super) next_serial: u64,
    /// The newest event's: publishers append in the order they came.
    pub(super) last_serial: u64,
    /// Heartbeat overrides, outermost first.
    pub(super) overrides: Vec<(u64, Duration)>,
    /// When the heartbeat in force last changed.
    pub(super) retuned: Micros,
    /// The bytes of its largest event, with what a chunk adds.
    pub(super) largest: usize,
    /// How often its history was made smaller: nobody can wait for that.
    pub(super) shrunk: u32,
    /// How many policies for those that lag it had.
    pub(super) policies: u32,
    /// The smallest `max_lag` it had.
    pub(super) least_max_lag: u64,
    /// Whether its readers could ever be closed for their lag.
    pub(super) disconnects: bool,
    /// When, and how long, its publishers waited for sockets.
    pub(super) paid: Times,
    /// When, and how much later than it wanted to, its first publisher looked again.
    pub(super) late: Times,
}

/// How a connection was opened.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) stream: usize,
    pub(super) place: Place,
    pub(super) expected: Expected,
    pub(super) shrunk: u32,
    pub(super) retry: bool,
}
