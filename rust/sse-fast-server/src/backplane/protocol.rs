//! What is asked of the backplane's server, and what comes back: the seam between the machine and the wires.
//!
//! Owns: requests (each is one script, or a command), their replies, and what is pushed.
//! Must not know: the redis protocol, keys, sockets; who asks, and why.
//! Invariants: requests are sent in the order given, on one connection, and a request is executed once or not at all; a
//! reply is lost with its connection, and then the machine does not know which. Pushes of one stream come in the order of
//! its log as long as their connection lasts; nothing says what a broken one did not bring.
//! Changes together with: the scripts in `lua/`, `memory.rs`, `redis/`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::id::{Epoch, Position};

use super::shared::{SharedEvent, SharedOptions, SharedPatch, SharedSnapshot};
use super::{Make, Name, SharedKey};

/// Tells the requests of one machine apart; rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(crate) u64);

/// How far a stream has come: any change makes it greater. A smaller one than was seen before means that the server has lost
/// something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    /// The life; 0 before the first.
    pub(crate) epoch: u64,
    /// The newest position.
    pub(crate) newest: Position,
    /// Counts every other change: options, snapshots, the end, a removal.
    pub(crate) version: u64,
}

impl Mark {
    /// Whether what this says was lost where the server says `now`.
    pub(crate) fn is_beyond(self, now: Self) -> bool {
        self.epoch > now.epoch
            || (self.epoch == now.epoch && (self.newest > now.newest || self.version > now.version))
    }
}

/// What is known of the server that answers: `master_replid`; the same as long as it has lost nothing.
pub(crate) type Fence = Arc<str>;

/// With every request that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// The fence as it was read on this connection; `None` where the server is trusted.
    pub(crate) fence: Option<Fence>,
    /// It was read just now, after a refusal: what differs is older, and its life is over.
    pub(crate) sure: bool,
    /// The epoch that a new life gets, unless it must be greater: the time.
    pub(crate) epoch: u64,
}
