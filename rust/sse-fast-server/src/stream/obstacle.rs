//! What stands in the way of an event, and asking the shards to clear it.
//!
//! Owns: what a publisher reads from the links of its stream, and what it asks for. Must not know: who publishes, in which
//! order, and who pays (`attempt`, `room`). Invariant: where a publisher is told to wait, every shard that stands in its way
//! was asked and has not answered yet. Changes together with `link`, and `shard::debt`, which answers.

use sse_fast_core::id::Position;

use super::{Inner, Link, Locked, Stream, Want};
use crate::delivery::{Doorbell, Patience};

/// What keeps an event from being appended; the greater is waited for first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    None,
    /// Subscribers whose sockets are full.
    Sockets,
    /// A shard has not yet got to subscribers that would take it.
    Shards,
    /// The disk does not have yet what the event would overwrite: nobody was given that.
    Disk,
}

/// When a shard answers a publisher that asks.
#[derive(Clone, Copy)]
pub(super) enum Asking {
    /// Once it does not stand in the way any more.
    OnceFree,
    /// As soon as it has looked.
    AtOnce,
}

impl Asking {
    /// Whether the shard is to look at once, also where it was asked something before.
    fn is_urgent(self) -> bool {
        matches!(self, Self::AtOnce)
    }
}

impl Stream {
    /// What stands in the way of appending what leaves `first` the oldest.
    pub(super) fn obstacle(&self, inner: &Inner, first: Position) -> Obstacle {
        if first > inner.state.newest() + 1 {
            return Obstacle::Disk;
        }
        let pairs = self.0.links.iter().zip(&self.0.delivery.doorbells);
        let obstacles = pairs.map(|(link, doorbell)| self.obstacle_of(link, doorbell, inner, first));
        obstacles.max().unwrap_or(Obstacle::None)
    }

    /// What one shard has in the way. Without the stream's lock this only becomes less: floors fall under it.
    fn obstacle_of(&self, link: &Link, doorbell: &Doorbell, inner: &Inner, first: Position) -> Obstacle {
        if link.subscribers() == 0 {
            return Obstacle::None;
        }
        let log = inner.state.log();
        let overwrites = first > log.first();
        // Without patience publishers are not paced either: they never wait but for what would be lost.
        let patient = self.0.delivery.patience.with(inner.state.options()) != Patience::Within(0);
        let obstacle = if patient && link.is_behind(log.appended()) || overwrites && link.owes_writable(first) {
            Obstacle::Shards
        } else if patient && overwrites && link.owes_held(first) {
            Obstacle::Sockets
        } else {
            return Obstacle::None;
        };
        // A shard that is gone is not waited for.
        if doorbell.is_open() { obstacle } else { Obstacle::None }
    }

    /// Tells the shards that stand in the way that a publisher waits, those that do not know yet, and what for. Says
    /// whether any does: a shard may have got on since the publisher looked, and one that is not asked wakes nobody.
    pub(super) fn ask_shards(&self, inner: &mut Locked<'_>, first: Position, how: Asking) -> bool {
        let (mut any, mut floors) = (false, false);
        for (number, (link, doorbell)) in self.0.links.iter().zip(&self.0.delivery.doorbells).enumerate() {
            if self.obstacle_of(link, doorbell, inner, first) == Obstacle::None {
                continue;
            }
            any = true;
            floors |= first > inner.state.log().first() && (link.owes_writable(first) || link.owes_held(first));
            let key = link.ask();
            if let Some(key) = key.or_else(|| how.is_urgent().then(|| link.local())) {
                inner.tell_shard(number, key);
            }
        }
        inner.want = match how {
            Asking::OnceFree if floors => Want::Floors(worth_waking_for(inner, first)),
            Asking::OnceFree => Want::Offers,
            Asking::AtOnce => Want::Answer,
        };
        any
    }

    /// Whether a shard that stands in the way has not answered yet.
    pub(super) fn is_asking(&self, inner: &Inner, first: Position) -> bool {
        let mut pairs = self.0.links.iter().zip(&self.0.delivery.doorbells);
        pairs
            .any(|(link, doorbell)| link.is_asked() && self.obstacle_of(link, doorbell, inner, first) != Obstacle::None)
    }
}

/// Below which position nobody is owed anything any more when a publisher is woken that wants to leave `first` the oldest:
/// a quarter of the log at a time, so that it is not woken for each event. Those below it are waited for, and charged.
fn worth_waking_for(inner: &Inner, first: Position) -> Position {
    let (oldest, newest) = (inner.state.log().first(), inner.state.newest());
    (first + (newest - oldest) / 4).min(newest + 1)
}
