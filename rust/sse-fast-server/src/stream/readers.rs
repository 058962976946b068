//! Who reads a stream: the readers that have a name, with how many connections each has.
//!
//! Owns: counting them. Must not know: shards, who names them. Invariant: changed under the stream's lock alone, where their
//! subscribers are counted, too; a reader that is gone is not kept.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Inner, Stream};
use crate::admitted::ReaderName;

/// Those with a name.
#[derive(Default)]
pub(super) struct Readers(HashMap<Arc<str>, usize>);

impl Stream {
    /// How many subscribers each present reader has; `None` is those without a name.
    pub fn readers(&self) -> Vec<(ReaderName, usize)> {
        let inner = self.lock();
        let named = inner.extra.as_ref().map(|extra| &extra.readers.0);
        let mut readers: Vec<_> =
            named.into_iter().flatten().map(|(reader, &count)| (Some(Arc::clone(reader)), count)).collect();
        let anonymous = self.subscribers().saturating_sub(readers.iter().map(|(_, count)| count).sum());
        if anonymous > 0 {
            readers.push((None, anonymous));
        }
        readers
    }
}

impl Inner {
    /// A subscriber of this reader came.
    pub(crate) fn reader_came(&mut self, reader: &ReaderName) {
        let Some(reader) = reader else { return };
        *self.extra.get_or_insert_default().readers.0.entry(Arc::clone(reader)).or_default() += 1;
    }

    /// One has left.
    pub(crate) fn reader_left(&mut self, reader: &ReaderName) {
        let (Some(reader), Some(extra)) = (reader, &mut self.extra) else { return };
        let readers = &mut extra.readers.0;
        debug_assert!(readers.contains_key(reader), "who leaves has come");
        if let Some(count) = readers.get_mut(reader) {
            *count -= 1;
            if *count == 0 {
                readers.remove(reader);
            }
        }
        if readers.len() < readers.capacity() / 4 {
            readers.shrink_to_fit();
        }
    }
}
