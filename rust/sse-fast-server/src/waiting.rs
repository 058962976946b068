//! Readers that asked for a stream before it existed.
//!
//! Ten thousand of them waiting for one name share one entry, and one check for each interval
//! where the route has an `exists`: the first reader runs the checks, for all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The names waited for.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Protects the map; held for a look-up.
    names: Mutex<HashMap<Box<str>, Arc<Name>>>,
    /// How many names are waited for, so that making a stream usually costs one load here.
    count: AtomicUsize,
}

/// One name waited for.
#[derive(Default)]
pub(crate) struct Name {
    /// Rings for everyone who has the entry when the stream appears, the last reader left, or the server closes.
    pub(crate) bell: Notify,
    /// Checks made so far.
    pub(crate) attempts: AtomicU32,
    /// Readers waiting; changed under the map's lock, and once zero again it stays so: the entry is out of the map.
    readers: AtomicUsize,
}

impl Name {
    /// Whether anybody still waits.
    pub(crate) fn wanted(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }
}

/// A reader's place; leaving it behind gives it up.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    name: &'a str,
    pub(crate) entry: Arc<Name>,
    /// Whether this reader opened the entry.
    pub(crate) first: bool,
}

impl Waiting {
    /// Takes a place; the caller must look once more for the stream after that.
    pub(crate) fn enter<'a>(&'a self, name: &'a str) -> Place<'a> {
        let mut names = self.names.lock();
        let entry = Arc::clone(names.entry(name.into()).or_insert_with(|| {
            // SeqCst: a stream made after this look-up must see the count.
            self.count.fetch_add(1, Ordering::SeqCst);
            Arc::default()
        }));
        let first = entry.readers.fetch_add(1, Ordering::Relaxed) == 0;
        Place { waiting: self, name, entry, first }
    }

    /// A stream of this name was made.
    pub(crate) fn appeared(&self, name: &str) {
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(entry) = self.names.lock().get(name)
        {
            entry.bell.notify_waiters();
        }
    }

    /// Nothing will appear any more.
    pub(crate) fn close(&self) {
        for entry in self.names.lock().values() {
            entry.bell.notify_waiters();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut names = self.waiting.names.lock();
        if self.entry.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            names.remove(self.name);
            self.waiting.count.fetch_sub(1, Ordering::SeqCst);
            drop(names);
            self.entry.bell.notify_waiters();
        }
    }
}
