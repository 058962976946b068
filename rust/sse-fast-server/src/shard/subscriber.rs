//! A subscriber: one connection's reading of one stream, and the list of those of one stream.
//!
//! Owns: the cursor, and each subscriber's place in its stream's list. Must not know: sockets, bytes.
//! Invariants: in a [`Roster`] those whose sockets take bytes stand before those whose sockets are full; each subscriber
//! knows its place. A walk goes from the last writable one down: one that leaves, fills or recovers is replaced by one
//! that the walk has visited, and one that comes stands where the walk has been.

use smallvec::SmallVec;
use sse_fast_core::follow::Follower;
use sse_fast_core::id::Position;

use super::table::{ConnectionKey, SubscriberKey, Table};
use crate::delivery::LocalKey;

/// Since it last kept up: there is no lag to count.
pub(super) const KEPT_UP: Position = Position::MAX;

/// No member of a group.
const ALONE: u8 = u8::MAX;

/// See the module. With its connection 64 bytes.
pub(super) struct Subscriber {
    pub(super) connection: ConnectionKey,
    /// The stream it reads, as this shard's key.
    pub(super) local: LocalKey,
    /// Where it stands in the stream's list.
    place: u32,
    pub(super) progress: Progress,
    /// Which of the names of its connection it reads; [`ALONE`] where that has one only.
    member: u8,
    pub(super) follower: Follower,
    /// The newest position when its socket filled; `KEPT_UP` where it took everything it was offered since.
    pub(super) since: Position,
}

/// How a subscriber whose socket takes bytes is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// By its stream's walks.
    Walked,
    /// With the others of its connection, which has ids of its own: a walk that comes to it serves all of them.
    Together,
    /// Alone, or together: it is further behind than a walk's frames, and takes everything it is offered.
    CatchingUp,
}

impl Subscriber {
    pub(super) fn new(connection: ConnectionKey, local: LocalKey) -> Self {
        let follower = Follower::at(0);
        Self { connection, local, place: 0, progress: Progress::Walked, member: ALONE, follower, since: KEPT_UP }
    }

    /// One of those of a connection that reads several streams, under the name of this number.
    pub(super) fn of_group(connection: ConnectionKey, local: LocalKey, member: u8) -> Self {
        debug_assert_ne!(member, ALONE, "a connection has fewer names");
        Self { progress: Progress::Together, member, ..Self::new(connection, local) }
    }

    /// Which of its connection's names it reads; none where that has one only.
    pub(super) fn member(&self) -> Option<u8> {
        (self.member != ALONE).then_some(self.member)
    }

    /// How it is served once it does not catch up any more.
    pub(super) fn at_rest(&self) -> Progress {
        if self.member == ALONE { Progress::Walked } else { Progress::Together }
    }

    pub(super) fn cursor(&self) -> Position {
        self.follower.cursor()
    }
}

/// The subscribers of one stream on this shard.
#[derive(Default)]
pub(super) struct Roster {
    /// Writable ones first; the few of a small stream lie right here.
    keys: SmallVec<[SubscriberKey; 4]>,
    /// How many are writable.
    writable: u32,
}

type Subscribers = Table<SubscriberKey, Subscriber>;

impl Roster {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Those whose sockets take bytes.
    pub(super) fn writable(&self) -> &[SubscriberKey] {
        &self.keys[..self.writable as usize]
    }

    /// Those whose sockets are full.
    pub(super) fn full(&self) -> &[SubscriberKey] {
        &self.keys[self.writable as usize..]
    }

    /// All of them.
    pub(super) fn all(&self) -> &[SubscriberKey] {
        &self.keys
    }

    /// A writable one comes.
    pub(super) fn add(&mut self, key: SubscriberKey, subscribers: &mut Subscribers) {
        let place = self.keys.len();
        self.keys.push(key);
        subscribers[key].place = number(place);
        self.swap(place, self.writable as usize, subscribers);
        self.writable += 1;
    }

    /// One leaves; says whether it was writable.
    pub(super) fn remove(&mut self, key: SubscriberKey, subscribers: &mut Subscribers) -> bool {
        let was_writable = self.is_writable(key, subscribers);
        if was_writable {
            self.fill(key, subscribers);
        }
        let (place, last) = (subscribers[key].place as usize, self.keys.len() - 1);
        self.swap(place, last, subscribers);
        self.keys.pop();
        if self.keys.len() < self.keys.capacity() / 4 {
            self.keys.shrink_to_fit();
        }
        was_writable
    }

    /// A writable one's socket is full.
    pub(super) fn fill(&mut self, key: SubscriberKey, subscribers: &mut Subscribers) {
        debug_assert!(self.is_writable(key, subscribers), "it fills once");
        self.writable -= 1;
        self.swap(subscribers[key].place as usize, self.writable as usize, subscribers);
    }

    /// A full one's socket takes bytes.
    pub(super) fn recover(&mut self, key: SubscriberKey, subscribers: &mut Subscribers) {
        debug_assert!(!self.is_writable(key, subscribers), "it recovers once");
        self.swap(subscribers[key].place as usize, self.writable as usize, subscribers);
        self.writable += 1;
    }

    pub(super) fn is_writable(&self, key: SubscriberKey, subscribers: &Subscribers) -> bool {
        let place = subscribers[key].place;
        debug_assert_eq!(self.keys[place as usize], key, "a subscriber knows its place");
        place < self.writable
    }

    fn swap(&mut self, one: usize, other: usize, subscribers: &mut Subscribers) {
        if one != other {
            self.keys.swap(one, other);
            subscribers[self.keys[one]].place = number(one);
            subscribers[self.keys[other]].place = number(other);
        }
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(all(test, not(loom), target_pointer_width = "64"))]
mod tests {
    use super::super::connection::Connection;
    use super::Subscriber;

    #[test]
    fn a_connection_and_its_subscriber_have_64_bytes() {
        // mio's own socket has more than its descriptor where assertions are on.
        assert_eq!(size_of::<Connection<std::os::fd::RawFd>>() + size_of::<Subscriber>(), 64);
    }
}
