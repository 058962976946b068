//! Who reads a stream: the readers that have a name, with how many connections each has.
//!
//! Owns: counting them. Must not know: shards, who names them. Invariant: changed under the stream's lock alone, where their
//! subscribers are counted, too; a reader that is gone is not kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inner, Stream};
use crate::admitted::ReaderName;
use crate::delivery::Notice;

/// Those with a name.
#[derive(Default)]
pub(super) struct Readers(HashMap<Arc<str>, usize>);

/// Those of other processes, where the log is elsewhere, as they were last told.
pub(super) type Others = Vec<(ReaderName, usize)>;

impl Stream {
    /// How many subscribers each present reader has, in all processes that share the stream; `None` is those without a name.
    pub fn readers(&self) -> Vec<(ReaderName, usize)> {
        let mut readers = self.readers_here();
        let inner = self.lock();
        for (reader, count) in inner.extra.iter().flat_map(|extra| extra.others.iter()) {
            match readers.iter_mut().find(|(other, _)| other == reader) {
                Some((_, here)) => *here += count,
                None => readers.push((reader.clone(), *count)),
            }
        }
        readers
    }

    /// Subscribers in all processes that share the stream.
    pub fn subscribers_everywhere(&self) -> usize {
        self.subscribers() + self.lock().others()
    }

    /// Who reads it in all processes, as is known elsewhere.
    pub(crate) fn receive_present(&self, totals: Vec<(ReaderName, u64)>) {
        let here = self.readers_here();
        let elsewhere = |(reader, total): (ReaderName, u64)| {
            let here = here.iter().find(|(other, _)| *other == reader).map_or(0, |(_, count)| *count);
            let others = usize::try_from(total).unwrap_or(usize::MAX).saturating_sub(here);
            (others > 0).then_some((reader, others))
        };
        let others: Others = totals.into_iter().filter_map(elsewhere).collect();
        let mut inner = self.lock();
        let (before, after) = (inner.others() > 0, !others.is_empty());
        if before || after {
            inner.extra.get_or_insert_default().others = others;
        }
        match (before, after) {
            (false, true) => inner.somebody_came(),
            (true, false) => self.see_who_is_left(inner),
            _ => {}
        }
    }

    /// Somebody came or left: where the log is elsewhere that is told there.
    pub(crate) fn presence_changed(&self) {
        if self.is_copy() && self.0.presence_told.swap(false, Ordering::Relaxed) {
            // Once the server is closed its readers are nobody's any more.
            let _ = self.0.delivery.notices.push(Notice::Present { name: self.0.name.clone() });
        }
    }

    /// It is told now who reads it: what changes from here on is told again.
    pub(crate) fn presence_is_told(&self) {
        self.0.presence_told.store(true, Ordering::Relaxed);
    }

    /// How many subscribers each reader has here; `None` is those without a name.
    pub(crate) fn readers_here(&self) -> Vec<(ReaderName, usize)> {
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
    /// Subscribers of other processes.
    pub(super) fn others(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.others.iter().map(|(_, count)| count).sum())
    }

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
