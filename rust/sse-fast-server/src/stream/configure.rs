//! A stream's options, changed while it is read.
//!
//! Owns: what follows from other options: shards look again at whom publishers wait for, publishers whether there is room, the
//! directory when the stream is to be forgotten. Must not know: where options come from.

use std::sync::Arc;

use sse_fast_core::error::OptionError;
use sse_fast_core::options::{StreamOptions, StreamPatch};

use super::{Locked, Stream};

impl Stream {
    /// Whether these could be put in force.
    pub(crate) fn check_options(&self, patch: &StreamPatch) -> Result<(), OptionError> {
        let options = Arc::clone(self.lock().state.options());
        options.patched(patch).map(drop)
    }

    /// Puts other options in force; times count from then on.
    pub fn configure(&self, patch: &StreamPatch) -> Result<(), OptionError> {
        if *patch == StreamPatch::default() {
            return Ok(());
        }
        let inner = self.lock();
        let options = inner.state.options().patched(patch)?;
        let options = Arc::new(options);
        self.put_options(inner, options, patch);
        Ok(())
    }

    /// Puts these options in force, which `told` says as far as a store is to know; lets the lock go.
    pub(super) fn put_options(&self, mut inner: Locked<'_>, options: Arc<StreamOptions>, told: &StreamPatch) {
        if options == *inner.state.options() {
            // Given at each call, as is usual: nothing changes.
            return;
        }
        inner.state.set_options(options);
        // Publishers may have to wait now for subscribers that were given up: shards look again.
        let first = inner.state.log().first();
        self.0.links.iter().filter(|link| link.subscribers() > 0).for_each(|link| link.lower_held(first));
        self.told(&mut inner, told);
        self.retune();
        // A longer history has room at once.
        inner.wake_next(None);
        drop(inner);
        self.tell_shards();
        self.notify_directory();
    }
}
