//! What a connection of several streams is offered in one write.
//!
//! Owns: the order: for each of its names what it has to be told, then its frames, each under the connection's own id; and
//! how much of it at a time. Must not know: sockets, what becomes of it (`together`). Invariants: frames are taken under their
//! stream's lock, or are those that a walk has laid out, and are put together without it; who is given frames is owed
//! them; cursors move only beyond what was lost, which is noted as to be told.

use smallvec::SmallVec;
use sse_fast_core::follow::Step;
use sse_fast_core::frame::Frame;
use sse_fast_core::id::{Epoch, Position};
use sse_fast_core::lag::Pace;
use sse_fast_core::wire;

use super::group::{Untold, told_until};
use super::machine::Shard;
use super::net::Net;
use super::pieces::What;
use super::table::{ConnectionKey, GroupKey, SubscriberKey};
use crate::stream::Inner;

/// Names of a connection, one bit for each.
pub(super) type Names = u32;

/// Their numbers.
#[allow(clippy::cast_possible_truncation, reason = "there are 32 bits")]
pub(super) fn members_of(mut names: Names) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let member = (names != 0).then(|| names.trailing_zeros() as u8);
        names &= names.wrapping_sub(1);
        member
    })
}

/// What was laid out of one name.
pub(super) struct Laid {
    pub(super) member: u8,
    /// It has everything once its cursor is beyond this.
    pub(super) newest: Position,
    pub(super) then: Then,
}

/// What becomes of a name that has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stays,
    /// Nothing will follow.
    DropsOut,
    /// Its name leads, or will lead, to another stream.
    EndsAll,
}

impl<N: Net> Shard<N> {
    /// Lays out pieces of one name after the other, as far as one write goes; false where one has lagged and its stream's
    /// policy is to disconnect.
    pub(super) fn lay_out_together(
        &mut self,
        connection: ConnectionKey,
        group: GroupKey,
        walked: Option<u8>,
        names: Names,
        laid: &mut SmallVec<[Laid; 8]>,
    ) -> bool {
        self.ids.copy_from(&self.groups[group].ids);
        let rest = members_of(names).filter(|&member| Some(member) != walked);
        for member in walked.filter(|member| names & 1 << member != 0).into_iter().chain(rest) {
            let Some((of_it, epoch)) = self.take_frames(connection, group, walked, member) else { return false };
            laid.push(of_it);
            self.put_pieces(connection, group, member, epoch);
            if self.pieces.bytes().len() >= self.settings.pacing.batch_bytes {
                break;
            }
        }
        true
    }

    /// Takes frames of one name, as a walk has laid them out, or under the stream's lock; it is owed what follows. None where
    /// it has lagged and is disconnected.
    fn take_frames(
        &mut self,
        connection: ConnectionKey,
        group: GroupKey,
        walked: Option<u8>,
        member: u8,
    ) -> Option<(Laid, Epoch)> {
        self.taken.clear();
        let key = self.groups[group].subscriber(member);
        let (local, cursor) = (self.subscribers[key].local, self.subscribers[key].cursor());
        let line = self.ids.line_bytes(member.into());
        let limit = self.settings.pacing.batch_bytes;
        let mut room = limit.saturating_sub(self.pieces.bytes().len());
        let mut may_take = |frame: &&Frame| {
            let is_first = room == limit;
            let fits = room >= frame.len() + line;
            room = room.saturating_sub(frame.len() + line);
            fits || is_first
        };
        // Who leaves gets nothing that was published later.
        let until = self.grants.until(connection, key);
        if walked == Some(member)
            && until.is_none()
            && self.frames_of == local
            && self.groups[group].untold_of(member).next().is_none()
            && let Some(frames) = self.frames.frames_from(cursor)
        {
            self.taken.extend(frames.iter().take_while(&mut may_take).cloned());
            // The walk knows whether there is more, and comes again.
            return Some((Laid { member, newest: self.frames.until() - 1, then: Then::Stays }, Epoch(0)));
        }
        let stream = self.locals[local].stream.clone();
        let inner = stream.lock();
        if until.is_none_or(|until| cursor <= until) {
            self.judge_together(connection, group, member, key, &inner)?;
        }
        let cursor = self.subscribers[key].cursor();
        let most =
            until.map_or(usize::MAX, |until| usize::try_from((until + 1).saturating_sub(cursor)).unwrap_or(usize::MAX));
        self.taken.extend(inner.state.log().from(cursor).take(most).take_while(&mut may_take).cloned());
        self.owe(key, &inner);
        let then = if inner.state.ended() {
            Then::DropsOut
        } else if inner.state.removed() {
            Then::EndsAll
        } else if until.is_some() || self.draining.is_some() || self.connections[connection].half_closed {
            Then::DropsOut
        } else {
            Then::Stays
        };
        let newest = inner.state.newest().min(until.unwrap_or(Position::MAX));
        Some((Laid { member, newest, then }, inner.state.epoch()))
    }

    /// Moves a name beyond what it has lost, and notes that it is to be told; none where it is disconnected for it.
    fn judge_together(
        &mut self,
        connection: ConnectionKey,
        group: GroupKey,
        member: u8,
        key: SubscriberKey,
        inner: &Inner,
    ) -> Option<()> {
        let mut pace = self.pace_of(&self.subscribers[key], inner.state.options());
        loop {
            match self.subscribers[key].follower.next(&inner.state, pace) {
                Step::Gap(gap) => {
                    self.groups[group].lose(member, gap);
                    self.logged(connection, |logged| logged.skipped(gap.skipped().unwrap_or(0)));
                    if let Some(account) = &mut self.connections[connection].account {
                        account.skipped_at = Some(self.now);
                    }
                    // The judgement was made: what is left is given.
                    pace = Pace::Writable;
                }
                Step::Disconnect => return None,
                Step::Frames | Step::End | Step::Pending => return Some(()),
            }
        }
    }

    /// Puts what a name has to be told, and the frames that were taken, under ids that say so.
    fn put_pieces(&mut self, connection: ConnectionKey, group: GroupKey, member: u8, epoch: Epoch) {
        let (framing, group) = (self.connections[connection].framing, &self.groups[group]);
        let subscriber = &self.subscribers[group.subscriber(member)];
        let (life, mut cursor, index) = (group.life(member), subscriber.cursor(), usize::from(member));
        let mut untold = group.untold_of(member).peekable();
        while let Some(told) = untold.next() {
            if let Some(position) = told_until(untold.peek().copied(), cursor) {
                self.ids.set(index, life, position);
            }
            match told {
                Untold::Gap(gap) | Untold::Lost(gap) => {
                    let mut block = Vec::new();
                    wire::gap(&mut block, epoch, gap.range(), Some(self.locals[subscriber.local].stream.name()));
                    self.pieces.put_told(framing, member, &block);
                }
                Untold::Snapshot(frame) => {
                    self.pieces.put_frame(framing, member, What::Told, frame.clone(), &self.ids);
                }
            }
        }
        for frame in self.taken.drain(..) {
            self.ids.set(index, life, cursor);
            self.pieces.put_frame(framing, member, What::Event, frame, &self.ids);
            cursor += 1;
        }
    }
}
