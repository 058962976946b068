//! What closing waits for before the readers' end.
//!
//! Owns: the counting. Must not know: what is counted, but for its place in [`Totals`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Directory, Totals};

/// Something that closing waits for, counted until this is dropped: a connection that is parsed, or a handler that is
/// followed.
pub(crate) struct Counted(Arc<Directory>, fn(&Totals) -> &AtomicUsize);

impl Counted {
    pub(crate) fn new(directory: &Arc<Directory>, count: fn(&Totals) -> &AtomicUsize) -> Self {
        count(&directory.totals).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(directory), count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(directory, count) = self;
        if count(&directory.totals).fetch_sub(1, Ordering::AcqRel) == 1 {
            directory.totals.answered.notify_waiters();
        }
    }
}
