//! The subscribers of a connection that reads several streams, served together.
//!
//! Owns: which of its streams are served when, and what a write of theirs comes to. Must not know: what is laid out for it
//! (`lay_out`), what else walks do. One of these
//! subscribers is never given a walk's shared bytes, because a line of the connection's own stands before each event: a walk
//! that comes to it takes the frames it has laid out, and of the connection's other streams what there is by now, for one
//! write. The others' walks find them with everything. So a busy shard writes once for a connection, however many of its
//! streams have news.
//!
//! Invariants: all subscribers of a connection are writable in their rosters, or all are full. Each owes and is owed by
//! itself (`debt`). A write changes cursors and ids only by what was begun of it: what a socket did not take is laid out anew,
//! but for the rest of one piece. A stream that has ended drops out once its reader has everything; with the last one
//! the connection ends. One that was removed, or that stood for a name which has been made, ends it at once, so that its reader
//! comes back and finds the present stream; until then it keeps the connection, also by itself: its reader, sent away, would
//! not hear of it.

use smallvec::SmallVec;
use sse_fast_core::batch::MAX_BATCH_BYTES;
use sse_fast_core::id::Position;

use super::agenda::Stage;
use super::connection::{Flow, Reads, Taken};
use super::group::Untold;
use super::lay_out::{Laid, Names, Then, members_of};
use super::machine::Shard;
use super::net::Net;
use super::pieces::What;
use super::subscriber::{KEPT_UP, Progress};
use super::table::{ConnectionKey, GroupKey, SubscriberKey};
use crate::stats::{CloseReason, GapReason};

impl<N: Net> Shard<N> {
    /// A walk comes to a subscriber that is served with others; `newest` is its stream's, which may be `complete`.
    pub(super) fn serve_together(&mut self, key: SubscriberKey, newest: Position, complete: bool) {
        let subscriber = &self.subscribers[key];
        let Some(member) = subscriber.member().filter(|_| subscriber.progress == Progress::Together) else { return };
        if subscriber.cursor() > newest && !complete {
            return;
        }
        let connection = subscriber.connection;
        let names = self.names_with_news(connection) | 1 << member;
        // An end is found under the stream's lock.
        let walked = Some(member).filter(|_| !complete);
        self.feed_together(connection, walked, names, &[]);
    }

    /// Those of a connection's names whose streams are about to be walked.
    fn names_with_news(&self, connection: ConnectionKey) -> Names {
        if !self.agenda.is_busy() && !self.agenda.rests() {
            return 0;
        }
        self.names_where(connection, |shard, key| {
            let subscriber = &shard.subscribers[key];
            subscriber.progress == Progress::Together && shard.locals[subscriber.local].stage != Stage::Idle
        })
    }

    /// Those of a connection's names that are read and do not catch up.
    pub(super) fn names_at_rest(&self, connection: ConnectionKey) -> Names {
        self.names_where(connection, |shard, key| shard.subscribers[key].progress == Progress::Together)
    }

    fn names_where(&self, connection: ConnectionKey, is_one: impl Fn(&Self, SubscriberKey) -> bool) -> Names {
        let Reads::Several(group) = self.connections[connection].reads() else { return 0 };
        let names = self.groups[group].subscribers().filter(|&(_, key)| is_one(self, key));
        names.fold(0, |names, (member, _)| names | 1 << member)
    }

    /// Writes `head`, then batch after batch what these names lack, until the socket is full or nothing is left; returns the
    /// writes. `walked` is one that a walk has come to: it is served first, of the frames that were laid out.
    pub(super) fn feed_together(
        &mut self,
        connection: ConnectionKey,
        walked: Option<u8>,
        mut names: Names,
        head: &[u8],
    ) -> usize {
        let Reads::Several(group) = self.connections[connection].reads() else { return 0 };
        if self.connections[connection].flow == Flow::Full {
            self.flow_together(connection, group);
        }
        let (mut laid, mut head, mut writes) = (SmallVec::new(), head, 0);
        for _ in 0..self.settings.pacing.rounds {
            self.pieces.clear();
            self.pieces.put_head(std::mem::take(&mut head));
            laid.clear();
            if !self.lay_out_together(connection, group, walked, names, &mut laid) {
                self.finish(connection, CloseReason::Lagged);
                return writes;
            }
            let taken = self.give_together(connection, group);
            writes += 1;
            match taken {
                Taken::All => {}
                Taken::Some(_) => return writes,
                Taken::Gone => {
                    self.close(connection, CloseReason::Gone);
                    return writes;
                }
            }
            for laid in &laid {
                if self.has_everything_together(group, laid) {
                    names &= !(1 << laid.member);
                    match laid.then {
                        Then::Stays => {}
                        Then::DropsOut => self.drop_out(connection, group, laid.member),
                        Then::EndsAll => self.finish(connection, CloseReason::Ended),
                    }
                    if self.connections.get(connection).is_none_or(|it| it.reads() != Reads::Several(group)) {
                        return writes;
                    }
                }
            }
            if names == 0 {
                break;
            }
        }
        self.catch_up_together(group, names);
        self.settle_together(connection, group);
        writes
    }

    /// The connection's socket takes bytes again: everybody is owed what begins at their cursors.
    fn flow_together(&mut self, connection: ConnectionKey, group: GroupKey) {
        let subscribers: Vec<_> = self.groups[group].subscribers().map(|(_, key)| key).collect();
        self.connections[connection].flows();
        for key in subscribers {
            let local = self.subscribers[key].local;
            let stream = self.locals[local].stream.clone();
            let inner = stream.lock();
            self.owe(key, &inner);
            drop(inner);
            self.locals[local].roster.recover(key, &mut self.subscribers);
            self.raise_held(local);
        }
    }

    /// Writes the pieces, and books what was begun of them.
    fn give_together(&mut self, connection: ConnectionKey, group: GroupKey) -> Taken {
        let pieces = std::mem::take(&mut self.pieces);
        let bytes = pieces.bytes();
        let taken = if bytes.is_empty() { Taken::All } else { self.connections[connection].offer(bytes, self.tick) };
        let written = match taken {
            Taken::All => bytes.len(),
            Taken::Some(some) => some,
            Taken::Gone => 0,
        };
        let mut delivered = 0;
        for piece in pieces.begun(written).filter(|piece| piece.what != What::Head) {
            let key = self.groups[group].subscriber(piece.member);
            match piece.what {
                What::Head => {}
                What::Told => {
                    let cursor = self.subscribers[key].cursor();
                    match self.groups[group].told(piece.member, cursor) {
                        Some(Untold::Gap(gap)) => self.count_gap(gap, GapReason::of_opening(gap)),
                        Some(Untold::Lost(gap)) => self.count_gap(gap, GapReason::Lag),
                        Some(Untold::Snapshot(_)) | None => {}
                    }
                }
                What::Event => {
                    let cursor = self.subscribers[key].cursor();
                    self.subscribers[key].follower.advance(cursor + 1);
                    delivered += 1;
                    if taken != Taken::All {
                        let group = &mut self.groups[group];
                        group.ids.set(piece.member.into(), group.life(piece.member), cursor);
                    }
                }
            }
        }
        if written > 0 {
            self.count(written, delivered);
        }
        match taken {
            Taken::All => std::mem::swap(&mut self.groups[group].ids, &mut self.ids),
            Taken::Some(_) => self.block(connection, pieces.rest(written)),
            Taken::Gone => {}
        }
        self.pieces = pieces;
        self.pieces.shrink_to(2 * MAX_BATCH_BYTES);
        taken
    }

    /// Whether the socket took everything there was of one name.
    fn has_everything_together(&mut self, group: GroupKey, laid: &Laid) -> bool {
        let key = self.groups[group].subscriber(laid.member);
        self.subscribers[key].since = KEPT_UP;
        let subscriber = &self.subscribers[key];
        if subscriber.cursor() <= laid.newest {
            return false;
        }
        debug_assert!(self.groups[group].untold_of(laid.member).next().is_none(), "it was told what stands before");
        if subscriber.progress == Progress::Together {
            self.raise_writable(subscriber.local);
        }
        true
    }

    /// These names lack more than they were given now: each goes on when it is its turn.
    fn catch_up_together(&mut self, group: GroupKey, names: Names) {
        for member in members_of(names) {
            let key = self.groups[group].subscriber(member);
            if key != SubscriberKey::NONE && self.subscribers[key].progress == Progress::Together {
                self.subscribers[key].progress = Progress::CatchingUp;
                self.agenda.catch_up(key);
            }
        }
    }

    /// Whether nobody of a connection lacks anything that is not about to be brought by a walk.
    pub(super) fn is_settled(&self, group: GroupKey) -> bool {
        let group = &self.groups[group];
        group.is_told() && group.subscribers().all(|(_, key)| self.subscribers[key].progress == Progress::Together)
    }

    fn settle_together(&mut self, connection: ConnectionKey, group: GroupKey) {
        if self.connections[connection].account.is_some() && self.is_settled(group) {
            self.connections[connection].has_everything(self.now);
        }
        self.heartbeat_in_time(connection);
    }

    /// A name has everything there will be.
    fn drop_out(&mut self, connection: ConnectionKey, group: GroupKey, member: u8) {
        self.detach_member(group, member);
        if self.groups[group].subscribers().next().is_none() {
            return self.finish(connection, self.reason_of_completion(connection));
        }
        if self.tune(group) {
            self.schedule(connection);
        }
    }

    /// Why a connection ends that was given everything.
    pub(super) fn reason_of_completion(&self, connection: ConnectionKey) -> CloseReason {
        if let Some(reason) = self.grants.reason(connection) {
            reason
        } else if self.connections[connection].half_closed {
            CloseReason::Gone
        } else if self.draining.is_some() {
            CloseReason::Shutdown
        } else {
            CloseReason::Ended
        }
    }

    /// A connection's socket is full: everybody who reads over it is.
    pub(super) fn fill_together(&mut self, group: GroupKey) {
        let subscribers: Vec<_> = self.groups[group].subscribers().map(|(_, key)| key).collect();
        for key in subscribers {
            self.fill(key);
        }
    }

    /// What must hold after each step.
    #[cfg(debug_assertions)]
    pub(super) fn check_group(&self, connection: ConnectionKey, key: GroupKey) {
        let group = &self.groups[key];
        debug_assert!(group.subscribers().next().is_some(), "a connection with nobody who reads is finished");
        for (member, subscriber) in group.subscribers() {
            let subscriber = &self.subscribers[subscriber];
            debug_assert_eq!(
                (subscriber.connection, subscriber.member()),
                (connection, Some(member)),
                "it reads over it"
            );
        }
        debug_assert!(
            group.is_told() || self.connections[connection].flow == Flow::Full || !self.is_settled(key),
            "who takes bytes is told what it has to be told"
        );
    }
}
