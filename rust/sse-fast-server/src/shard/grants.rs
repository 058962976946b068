//! Who reads over which connection, and until when it may.
//!
//! Owns: the names and the ends of those that have one; who is on its way out, and how far it is still served. Must not know:
//! who decided, sockets, frames.
//! Invariants: a connection has an entry from its arrival until it begins to finish, and only where it has a name or an end:
//! one without costs nothing here. Each end stands in the order exactly once, until it has come or its connection has gone.
//! Who leaves is given what was published until then, and nothing that was published later.

use std::collections::{BTreeSet, HashMap};

use smallvec::SmallVec;
use sse_fast_core::budget::Micros;
use sse_fast_core::id::Position;

use super::table::{ConnectionKey, SubscriberKey};
use crate::admitted::{Admitted, ReaderName};
use crate::stats::CloseReason;

/// See the module.
#[derive(Default)]
pub(super) struct Grants {
    /// By the connection's key.
    entries: HashMap<u32, Grant>,
    /// Ends that are to come, soonest first.
    due: BTreeSet<(Micros, u32)>,
    /// How many are on their way out.
    leaving: usize,
}

/// What is kept of one connection.
struct Grant {
    reader: ReaderName,
    /// When it was let in.
    since: Micros,
    /// `None` where it has none, or it has come.
    expires: Option<Micros>,
    leaving: Option<Box<Leaving>>,
}

/// A connection on its way out.
struct Leaving {
    reason: CloseReason,
    /// The last position that each of its subscribers is given.
    until: SmallVec<[(SubscriberKey, Position); 1]>,
}

impl Grants {
    /// A connection has come that was let in so.
    pub(super) fn add(&mut self, connection: ConnectionKey, admitted: Admitted) {
        if admitted.is_plain() {
            return;
        }
        let Admitted { reader, expires, since } = admitted;
        self.due.extend(expires.map(|at| (at, connection.0)));
        let former = self.entries.insert(connection.0, Grant { reader, since, expires, leaving: None });
        debug_assert!(former.is_none(), "a connection comes once");
    }

    /// A connection begins to finish, or is gone.
    pub(super) fn forget(&mut self, connection: ConnectionKey) {
        if self.entries.is_empty() {
            return;
        }
        let Some(grant) = self.entries.remove(&connection.0) else { return };
        if let Some(at) = grant.expires {
            self.due.remove(&(at, connection.0));
        }
        self.leaving -= usize::from(grant.leaving.is_some());
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
        }
    }

    /// Who reads over it.
    pub(super) fn reader(&self, connection: ConnectionKey) -> ReaderName {
        if self.entries.is_empty() {
            return None;
        }
        self.entries.get(&connection.0).and_then(|grant| grant.reader.clone())
    }

    /// The connections of a reader that were let in until then.
    pub(super) fn of_reader(&self, reader: &str, until: Micros) -> Vec<ConnectionKey> {
        let is_meant = |grant: &Grant| grant.reader.as_deref() == Some(reader) && grant.since <= until;
        let own = self.entries.iter().filter(|(_, grant)| is_meant(grant));
        own.map(|(&key, _)| ConnectionKey(key)).collect()
    }

    /// When the next end comes.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.due.first().map(|&(at, _)| at)
    }

    /// A connection whose end has come.
    pub(super) fn take_due(&mut self, now: Micros) -> Option<ConnectionKey> {
        let key = self.due.first().filter(|(at, _)| *at <= now).map(|&(_, key)| key)?;
        self.due.pop_first();
        if let Some(grant) = self.entries.get_mut(&key) {
            grant.expires = None;
        }
        Some(ConnectionKey(key))
    }

    /// A connection is on its way out, its subscribers having so far to go; false where it is already.
    pub(super) fn leave(
        &mut self,
        connection: ConnectionKey,
        reason: CloseReason,
        until: SmallVec<[(SubscriberKey, Position); 1]>,
    ) -> bool {
        let Some(grant) = self.entries.get_mut(&connection.0).filter(|grant| grant.leaving.is_none()) else {
            return false;
        };
        grant.leaving = Some(Box::new(Leaving { reason, until }));
        self.leaving += 1;
        true
    }

    /// Why a connection is on its way out.
    pub(super) fn reason(&self, connection: ConnectionKey) -> Option<CloseReason> {
        self.leaving_of(connection).map(|leaving| leaving.reason)
    }

    /// The last position that a subscriber of a connection on its way out is given.
    pub(super) fn until(&self, connection: ConnectionKey, subscriber: SubscriberKey) -> Option<Position> {
        let until = &self.leaving_of(connection)?.until;
        until.iter().find(|(key, _)| *key == subscriber).map(|&(_, position)| position)
    }

    fn leaving_of(&self, connection: ConnectionKey) -> Option<&Leaving> {
        if self.leaving == 0 {
            return None;
        }
        self.entries.get(&connection.0)?.leaving.as_deref()
    }

    /// What must hold after each step.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self, is_open: impl Fn(ConnectionKey) -> bool) {
        for (&key, grant) in &self.entries {
            debug_assert!(is_open(ConnectionKey(key)), "what is kept is of an open connection");
            debug_assert!(grant.expires.is_none_or(|at| self.due.contains(&(at, key))), "its end is to come");
        }
        let ends = self.entries.values().filter(|grant| grant.expires.is_some()).count();
        debug_assert_eq!(ends, self.due.len(), "each end stands in the order once");
        let leaving = self.entries.values().filter(|grant| grant.leaving.is_some()).count();
        debug_assert_eq!(leaving, self.leaving, "who leaves is counted");
    }
}
