//! The subscribers of one connection that reads several streams: what its ids say, and what each has yet to be told.
//!
//! Owns: the connection's names in the request's order, their part in its ids, gaps and snapshots on their way. Must not
//! know: sockets, cursors, when anything is written (`together`). Invariants: what ids say of a name changes only when
//! something of it was begun on the wire; a name that was not told what its opening brought keeps the entry that it came
//! with, so that a reader that is cut off before is told again; what a name is told stands before its events.

use std::rc::Rc;

use sse_fast_core::cursor::Opening;
use sse_fast_core::frame::Frame;
use sse_fast_core::gap::Gap;
use sse_fast_core::id::Position;
use sse_fast_core::vector::{Entry, IdVector, Life};

use super::local::HeartbeatFrame;
use super::table::SubscriberKey;

/// See the module.
pub(super) struct Group {
    members: Box<[Member]>,
    /// What ids say.
    pub(super) ids: IdVector,
    /// In the order in which each name is told; few, and usually none.
    untold: Vec<(u8, Untold)>,
    /// The one for the connection: the most frequent of its streams'.
    pub(super) heartbeat: Option<Rc<HeartbeatFrame>>,
}

/// One name.
struct Member {
    /// `NONE` once its stream has ended and it has everything.
    subscriber: SubscriberKey,
    life: Life,
}

/// What a name has to be told before its events: what its opening brought, then what it has lost since.
#[derive(Clone, Debug)]
pub(super) enum Untold {
    Gap(Gap),
    Snapshot(Frame),
    /// Events that were lost since.
    Lost(Gap),
}

impl Group {
    /// The names of these lives, of which the ids say this until they are told more.
    pub(super) fn new(names: &[(Life, Entry)]) -> Self {
        let members = names.iter().map(|&(life, _)| Member { subscriber: SubscriberKey::NONE, life }).collect();
        let entries: Vec<Entry> = names.iter().map(|&(_, entry)| entry).collect();
        Self { members, ids: IdVector::new(&entries), untold: Vec::new(), heartbeat: None }
    }

    /// A name is read from now on, from `cursor`, after what its opening brought.
    pub(super) fn begin(&mut self, member: u8, subscriber: SubscriberKey, opening: Opening, cursor: Position) {
        self.members[usize::from(member)].subscriber = subscriber;
        if let Opening::Live { before, snapshot, after, .. } = opening {
            self.untold.extend(before.map(|gap| (member, Untold::Gap(gap))));
            self.untold.extend(snapshot.map(|frame| (member, Untold::Snapshot(frame))));
            self.untold.extend(after.map(|gap| (member, Untold::Gap(gap))));
        }
        if self.untold_of(member).next().is_none() {
            self.ids.set(member.into(), self.life(member), cursor - 1);
        }
    }

    /// A name that nothing is known of is waited for: what ids say of it stays.
    pub(super) fn wait(&mut self, member: u8, subscriber: SubscriberKey) {
        self.members[usize::from(member)].subscriber = subscriber;
    }

    /// A name is read no longer; says by whom it was.
    pub(super) fn leave(&mut self, member: u8) -> SubscriberKey {
        self.untold.retain(|&(other, _)| other != member);
        std::mem::replace(&mut self.members[usize::from(member)].subscriber, SubscriberKey::NONE)
    }

    /// Those that read, under which name.
    pub(super) fn subscribers(&self) -> impl Iterator<Item = (u8, SubscriberKey)> + '_ {
        let numbers = 0..u8::MAX;
        let all = numbers.zip(&*self.members).map(|(number, member)| (number, member.subscriber));
        all.filter(|&(_, key)| key != SubscriberKey::NONE)
    }

    /// Who reads this name; `NONE` where nobody does any more.
    pub(super) fn subscriber(&self, member: u8) -> SubscriberKey {
        self.members[usize::from(member)].subscriber
    }

    /// The life that is read under a name.
    pub(super) fn life(&self, member: u8) -> Life {
        self.members[usize::from(member)].life
    }

    /// A name has lost these events.
    pub(super) fn lose(&mut self, member: u8, gap: Gap) {
        let last = self.untold.iter_mut().rev().find(|(other, _)| *other == member);
        if let (Some((_, Untold::Lost(Gap::Known { to, .. }))), Gap::Known { from, to: end }) = (last, gap)
            && *to + 1 == from
        {
            // It has not been told of those before either: it is told of all at once.
            *to = end;
            return;
        }
        self.untold.push((member, Untold::Lost(gap)));
    }

    /// What a name has to be told, in order.
    pub(super) fn untold_of(&self, member: u8) -> impl Iterator<Item = &Untold> {
        self.untold.iter().filter(move |&&(other, _)| other == member).map(|(_, untold)| untold)
    }

    /// Whether everybody was told everything.
    pub(super) fn is_told(&self) -> bool {
        self.untold.is_empty()
    }

    /// The first of what a name has to be told was begun, and stands no longer before its events, which begin at `cursor`.
    pub(super) fn told(&mut self, member: u8, cursor: Position) -> Option<Untold> {
        let at = self.untold.iter().position(|&(other, _)| other == member);
        debug_assert!(at.is_some(), "what was begun was to be told");
        let (_, told) = self.untold.remove(at?);
        if self.untold.is_empty() {
            self.untold = Vec::new();
        }
        let until = told_until(self.untold_of(member).next(), cursor);
        if let Some(position) = until {
            self.ids.set(member.into(), self.life(member), position);
        }
        Some(told)
    }
}

/// How far a name is that has to be told `next`, or reads on from `cursor`; none where ids say of it what they did: a
/// reader that is cut off before a snapshot has nothing of what it stands for.
pub(super) fn told_until(next: Option<&Untold>, cursor: Position) -> Option<Position> {
    match next {
        Some(Untold::Snapshot(_)) => None,
        Some(Untold::Gap(Gap::Known { from, .. }) | Untold::Lost(Gap::Known { from, .. })) => Some(from - 1),
        Some(Untold::Gap(Gap::Unknown) | Untold::Lost(Gap::Unknown)) | None => Some(cursor - 1),
    }
}
