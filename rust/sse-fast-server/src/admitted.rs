//! What a request was let in as.
//!
//! Owns: the value that travels from the decision to the shard. Must not know: who decided. Invariant: without a reader and an
//! end, as most are, it costs nothing behind the decision.

use std::sync::Arc;

use sse_fast_core::budget::Micros;

/// Who a subscriber is; `None` is anonymous.
pub type ReaderName = Option<Arc<str>>;

/// See the module. The default is anybody, without an end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Who reads.
    pub(crate) reader: ReaderName,
    /// When the right ends, by the monotonic clock.
    pub(crate) expires: Option<Micros>,
    /// When it was asked for, by the monotonic clock: a reader that was disconnected later is not let in any more.
    pub(crate) since: Micros,
}

impl Admitted {
    /// Whether the shard has something to remember of it.
    pub(crate) fn is_plain(&self) -> bool {
        self.reader.is_none() && self.expires.is_none()
    }
}
