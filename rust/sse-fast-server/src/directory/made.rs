//! Streams that requests made, by a route with `create=True`: strangers choose their names.
//!
//! Owns: which of them are kept. Must not know: requests.
//! Invariants: there are no more of them than `max_created_streams`. Where one more is asked for the oldest goes that nothing
//! was published into, that nobody reads and the application does not hold: one whose loss nobody can notice. Where there
//! is none among those looked at, the newest is refused.

use std::collections::VecDeque;

use sse_fast_core::options::StreamPatch;

use super::{Directory, StreamError};
use crate::stream::{Stream, WeakStream};

/// How many are looked at, for one that is unused, before one more is refused: no request takes long, and the next goes on
/// from there.
const LOOKED_AT: usize = 64;

/// In the order they were made, but for those that were found in use.
pub(super) type Made = VecDeque<WeakStream>;

/// A stream's own handle, and the map's.
const HOLDERS: usize = 2;

impl Directory {
    /// The stream of this name, made for a request if there is none.
    pub(crate) async fn stream_for_request(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        if self.sharing.is_some() {
            // What nobody reads or holds is let go of, and the log's own bounds count.
            return self.stream_for_task(name, patch).await;
        }
        let limit = self.config.max_created_streams;
        if self.find(name).is_none() && !self.has_room_for_made(limit) {
            return Err(StreamError::TooMany { name: name.to_owned(), limit, setting: "max_created_streams" });
        }
        let (stream, is_new) = self.get_or_make(name, patch)?;
        if is_new {
            self.made.lock().push_back(stream.downgrade());
        }
        Ok(stream)
    }

    /// Whether one more may be made; forgets one that is unused where that makes room.
    fn has_room_for_made(&self, limit: usize) -> bool {
        for _ in 0..LOOKED_AT {
            let mut made = self.made.lock();
            if made.len() < limit {
                return true;
            }
            let oldest = made.pop_front().and_then(|oldest| oldest.upgrade());
            drop(made);
            let Some(oldest) = oldest else { continue };
            self.forget_if_unused(&oldest);
            if !oldest.removed() {
                self.made.lock().push_back(oldest.downgrade());
            }
        }
        self.made.lock().len() < limit
    }

    /// Forgets a stream whose loss nobody can notice.
    fn forget_if_unused(&self, stream: &Stream) {
        if stream.removed() || stream.lock().state.newest() > 0 {
            return;
        }
        // What is to be forgotten is held there, too.
        self.expiry.lock().schedule(stream, stream.life(), None);
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
