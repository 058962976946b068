//! Names that are not known, and are waited for by subscribers: those of connections that read other streams as well.
//!
//! Owns: one stream for each such name, which stands in for it and is removed when the name is made. Must not know:
//! connections. Invariants: a stand-in is held by its subscribers alone; who asks for one looks once more for the name
//! after that, so that it is made before or after, never between.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use sse_fast_core::options::StreamPatch;

use super::{Directory, StreamError};
use crate::stream::{Stream, WeakStream};

/// The list is gone through for those that nobody waits for any more when it has so many, or twice as many as were left.
const FEW: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Wanted {
    /// Protects the map; held for a look-up.
    names: Mutex<Names>,
    /// How many names there are, so that making a stream usually costs one load here. `SeqCst`: a stream that is made after a
    /// look for it in vain must see the count.
    count: AtomicUsize,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<Box<str>, WeakStream>,
    /// When it is gone through.
    limit: usize,
}

impl Directory {
    /// The stream that stands in for this name until it is made. The caller must look once more for the name after that.
    pub(crate) fn wanted(&self, name: &str) -> Result<Stream, StreamError> {
        let mut names = self.wanted.names.lock();
        let there = names.by_name.get(name).and_then(WeakStream::upgrade);
        if let Some(stand_in) = there.filter(|stand_in| !stand_in.removed()) {
            return Ok(stand_in);
        }
        let stand_in = self.stand_in(name, &StreamPatch::default())?;
        if names.by_name.len() >= names.limit.max(FEW) {
            names.by_name.retain(|_, stand_in| stand_in.is_held());
            names.limit = 2 * names.by_name.len();
        }
        names.by_name.insert(name.into(), stand_in.downgrade());
        self.wanted.count.store(names.by_name.len(), Ordering::SeqCst);
        drop(names);
        self.want_elsewhere(name);
        Ok(stand_in)
    }

    /// Whether something stands in for this name, and somebody waits.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.wanted.names.lock().by_name.get(name).is_some_and(WeakStream::is_held)
    }

    /// A stream of this name was made: what stood in for it ends.
    pub(super) fn no_longer_wanted(&self, name: &str) {
        if self.wanted.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut names = self.wanted.names.lock();
        let stand_in = names.by_name.remove(name).and_then(|stand_in| stand_in.upgrade());
        self.wanted.count.store(names.by_name.len(), Ordering::SeqCst);
        drop(names);
        if let Some(stand_in) = stand_in {
            stand_in.remove();
        }
    }
}
