//! How a connection of several streams begins: all of them are opened before anything is written.
//!
//! Owns: its group, and a subscriber for each of its names. Must not know: what is written to it (`together`, `lay_out`).
//! Invariants: as in `membership`, whose arrivals lead here: each subscriber is counted under its stream's lock, so that a
//! publisher that appends after this tells us, and what was appended before is read.

use std::time::Duration;

use sse_fast_core::cursor::{self, Opening, Place};
use sse_fast_core::follow::Follower;
use sse_fast_core::id::Position;
use sse_fast_core::wire;

use super::NamedReading;
use super::connection::{NO_TICK, Reads};
use super::group::Group;
use super::machine::Shard;
use super::net::Net;
use super::subscriber::Subscriber;
use super::table::{ConnectionKey, GroupKey, SubscriberKey};
use crate::stats::Counters;
use crate::stream::{Claim, Inner};

impl<N: Net> Shard<N> {
    /// Makes a connection a subscriber of several streams, and gives it what there is, after `out`. All of them are opened
    /// before anything is written.
    pub(super) fn attach_several(&mut self, connection: ConnectionKey, names: Vec<NamedReading>, mut out: Vec<u8>) {
        let entries: Vec<_> = names.iter().map(|name| (name.life, name.beginning.entry)).collect();
        let group = self.groups.insert(Group::new(&entries));
        let before = self.connections[connection].set_reads(Reads::Several(group));
        debug_assert_eq!(before, Reads::Nothing, "it reads nothing else");
        let mut retry = None;
        for (member, name) in (0..).zip(names) {
            if let Some(claim) = name.claim {
                retry = retry.max(self.attach_member((connection, group, member), claim, name.beginning.place));
            }
        }
        if let Some(wait) = retry {
            let mut block = Vec::new();
            wire::retry(&mut block, wait);
            self.connections[connection].framing.put(&mut out, &block);
        }
        self.tune(group);
        self.feed_together(connection, None, self.names_at_rest(connection), &out);
        if self.connections.get(connection).is_some_and(|connection| connection.due == NO_TICK) {
            self.schedule(connection);
        }
    }

    /// Makes one name's subscriber; says what its stream has for `retry`.
    fn attach_member(
        &mut self,
        (connection, group, member): (ConnectionKey, GroupKey, u8),
        claim: Claim,
        place: Place,
    ) -> Option<Duration> {
        let stream = claim.stream().clone();
        let local = self.local_of(&stream);
        let key = self.subscribers.insert(Subscriber::of_group(connection, local, member));
        let mut inner = stream.lock();
        // As in `attach`.
        stream.link(self.number).join();
        claim.redeem(&mut inner);
        inner.somebody_came();
        let reader = self.grants.reader(connection);
        inner.reader_came(&reader);
        self.handle.presence().joined(&stream, &reader);
        let retuned = self.find_heartbeat(local, &inner);
        let (retry, cursor) = (inner.state.options().retry, self.begin_member((group, member), key, &inner, place));
        self.subscribers[key].follower = Follower::at(cursor);
        self.logged(connection, |logged| logged.reads_from(cursor));
        self.owe(key, &inner);
        drop(inner);
        stream.presence_changed();
        if self.handle.presence().is_wanted() {
            self.handle.presence().ring();
        }
        self.locals[local].roster.add(key, &mut self.subscribers);
        Counters::add(&self.counters().subscribers, 1);
        if retuned {
            self.reschedule(local);
        }
        retry
    }

    /// Opens a stream for one name, under its lock; says where that begins.
    fn begin_member(
        &mut self,
        (group, member): (GroupKey, u8),
        key: SubscriberKey,
        inner: &Inner,
        place: Place,
    ) -> Position {
        let group = &mut self.groups[group];
        let newest = inner.state.newest();
        if self.locals[self.subscribers[key].local].stream.is_stand_in() {
            group.wait(member, key);
            return newest + 1;
        }
        let opening = cursor::open_at(&inner.state, place, inner.state.options().start);
        let cursor = match &opening {
            Opening::Live { cursor, .. } => *cursor,
            Opening::Finished => newest + 1,
        };
        group.begin(member, key, opening, cursor);
        cursor
    }
}
