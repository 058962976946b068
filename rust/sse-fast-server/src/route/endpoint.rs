//! What answers one path, method by method.
//!
//! Owns which methods a path has, and what `Allow` says of them. Must not know: paths, requests.
//! Invariants: each method has at most one answer; a fixed asset gives way, nothing else does.
//! Changes together with `route`, which keeps endpoints by path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Asset, HandlerSpec, Route};

/// The methods that change something, in the order in which `Allow` lists them.
pub(crate) const CHANGES: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// What answers GET and HEAD.
#[derive(Clone, Debug)]
pub(crate) enum Read {
    Asset(Arc<Asset>),
    Handler(Arc<HandlerSpec>),
    Stream(Arc<Route>),
}

/// What answers a path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) read: Option<Read>,
    /// Requests that found it. Shared by the copies of one; relaxed: a number for people.
    requests: Arc<AtomicU64>,
    /// In the order of [`CHANGES`].
    changes: [Option<Arc<HandlerSpec>>; CHANGES.len()],
}

impl Endpoint {
    /// A request has found it.
    pub(crate) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How many have.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What `Allow` says.
    pub(crate) fn allow(&self) -> String {
        let reads = self.read.iter().flat_map(|_| ["GET", "HEAD"]);
        let changes = CHANGES.iter().zip(&self.changes).filter(|(_, handler)| handler.is_some());
        let all: Vec<_> = reads.chain(changes.map(|(method, _)| *method)).chain(["OPTIONS"]).collect();
        all.join(", ")
    }

    /// What answers a method that changes something.
    pub(crate) fn change(&self, method: &str) -> Option<&Arc<HandlerSpec>> {
        CHANGES
            .iter()
            .zip(&self.changes)
            .find(|(change, _)| **change == method)
            .and_then(|(_, handler)| handler.as_ref())
    }

    /// Puts `read` in, unless that place is taken.
    pub(super) fn put_read(&mut self, read: Read) -> bool {
        let free = matches!(self.read, None | Some(Read::Asset(_)));
        if free {
            self.read = Some(read);
        }
        free
    }

    /// Puts the handler of a method in, by its place in [`CHANGES`], unless that place is taken.
    pub(super) fn put_change(&mut self, change: usize, handler: Arc<HandlerSpec>) -> bool {
        let place = &mut self.changes[change];
        let free = place.is_none();
        if free {
            *place = Some(handler);
        }
        free
    }
}
