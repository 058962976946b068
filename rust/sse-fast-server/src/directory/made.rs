//! Streams that requests made, by a route with `create=True`: strangers choose their names.
//!
//! Owns: which of them are kept. Must not know: requests.
//! Invariants: of those that nothing was published into, that nobody reads and the application does not hold, no more than
//! [`MOST`] are kept; the oldest goes first. One that anybody could notice the loss of is not among them.

use std::collections::VecDeque;

use sse_fast_core::options::StreamPatch;

use super::{Directory, StreamError};
use crate::stream::{Stream, WeakStream};

/// With names of the longest kind 25 MB, and more pages than anybody opens between two events.
pub(super) const MOST: usize = 16_384;

/// In the order they were made.
pub(super) type Made = VecDeque<WeakStream>;

/// A stream's own handle, and the map's.
const HOLDERS: usize = 2;

impl Directory {
    /// The stream of this name, made for a request if there is none.
    pub(crate) fn stream_for_request(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        let (stream, is_new) = self.get_or_make(name, patch)?;
        if is_new {
            let mut made = self.made.lock();
            made.push_back(stream.downgrade());
            let oldest = if made.len() > MOST { made.pop_front() } else { None };
            drop(made);
            if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
                self.forget_if_unused(&oldest);
            }
        }
        Ok(stream)
    }

    /// Forgets a stream whose loss nobody can notice.
    fn forget_if_unused(&self, stream: &Stream) {
        if stream.removed() || stream.lock().state.newest() > 0 {
            return;
        }
        // What is to be forgotten is held there, too.
        self.expiry.lock().schedule(stream, stream.epoch(), None);
        let mut streams = self.streams.write();
        let is_unused =
            stream.holders() == HOLDERS && streams.get(stream.name()).is_some_and(|named| named.0.same(stream));
        if is_unused {
            streams.remove(stream.name());
        }
        drop(streams);
        if is_unused && stream.lock().state.newest() == 0 {
            // From the removal on nobody finds it, and before that nobody had it.
            stream.remove();
        } else if is_unused {
            // Found, published into and let go of in between.
            self.put_back(stream);
        }
        if !stream.removed() {
            self.schedule(stream);
        }
    }

    fn put_back(&self, stream: &Stream) {
        let mut streams = self.streams.write();
        if streams.get(stream.name()).is_none() {
            streams.insert(super::Named(Stream::clone(stream)));
        } else {
            drop(streams);
            stream.remove();
        }
    }
}
