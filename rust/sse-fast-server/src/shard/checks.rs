//! What must hold after each step of a shard, asserted where assertions are on.
//!
//! Owns: nothing. Must not know: how it comes about. Invariant: it changes nothing.

use super::agenda::Stage;
use super::connection::{Flow, Phase, Reads};
use super::machine::Shard;
use super::net::Net;
use super::subscriber::Progress;

/// The most connections among which every invariant is checked after each step.
const CHECKED: usize = 64;

impl<N: Net> Shard<N> {
    /// What must hold after each step; not in crowds, where looking at everybody would take all the time.
    pub(super) fn check(&self) {
        if self.connections.len() > CHECKED {
            return;
        }
        for (key, local) in self.locals.iter() {
            let on_the_list = usize::from(local.stage != Stage::Idle);
            debug_assert_eq!(self.agenda.count(key), on_the_list, "a stream is on the list once, or not at all");
            debug_assert!(!local.roster.is_empty() || local.stage != Stage::Idle, "it is kept for somebody");
            debug_assert_eq!(local.stream.link(self.number).local(), key, "publishers know it by its key");
            debug_assert_eq!(local.stream.link(self.number).subscribers() as usize, local.roster.all().len());
            self.check_floors(key);
        }
        for (key, subscriber) in self.subscribers.iter() {
            let connection = &self.connections[subscriber.connection];
            let is_its = match connection.reads() {
                Reads::Nothing => false,
                Reads::One(other) => other == key && subscriber.member().is_none(),
                Reads::Several(group) => self.groups[group].subscribers().any(|(_, other)| other == key),
            };
            debug_assert!(is_its && connection.phase == Phase::Open, "it reads over an open one");
            let roster = &self.locals[subscriber.local].roster;
            let writable = connection.flow == Flow::Writable;
            debug_assert_eq!(roster.is_writable(key, &self.subscribers), writable, "it stands among those like it");
            let catches_up = subscriber.progress == Progress::CatchingUp;
            let listed = self.agenda.catching_up().any(|other| other == key);
            debug_assert_eq!(catches_up, listed, "who catches up is on the list");
            debug_assert!(!catches_up || writable, "who catches up takes bytes");
        }
        self.grants.check(|key| {
            let connection = self.connections.get(key);
            connection.is_some_and(|it| it.phase == Phase::Open && it.reads() != Reads::Nothing)
        });
        for (key, connection) in self.connections.iter() {
            if let Reads::Several(group) = connection.reads() {
                self.check_group(key, group);
            }
            let unwritten = connection.account.as_ref().is_some_and(|account| account.unwritten.is_some());
            debug_assert!(!unwritten || connection.flow == Flow::Full, "only a full socket leaves something unwritten");
        }
    }
}
