//! A stream's lock while it is held, and what is done once it is free.
//!
//! Owns: that waking comes after the lock was let go. Must not know: who waits for what. Invariant: the lock is dropped
//! before those who are to be woken (`wakes`).

use std::ops::{Deref, DerefMut};

use sse_fast_core::budget::Micros;

use super::room::Room;
use super::wakes::Wakes;
use super::watch::Sleeper;
use super::{Inner, Stream};
use crate::delivery::LocalKey;
use crate::sync::{Held, MutexGuard};

/// See the module. The order of its fields is the order in which they are dropped: the lock first.
pub(crate) struct Locked<'a> {
    inner: MutexGuard<'a, Inner>,
    _held: Held,
    wakes: Wakes<'a>,
}

impl<'a> Locked<'a> {
    pub(super) fn new(stream: &'a Stream, inner: MutexGuard<'a, Inner>) -> Self {
        Self { inner, _held: Held::new(), wakes: Wakes::new(&stream.0.delivery) }
    }

    /// Those who wait to append, and where to say who of them is to be woken.
    pub(super) fn room_and_wakes(&mut self) -> (&mut Room, &mut Wakes<'a>) {
        (self.inner.room_mut(), &mut self.wakes)
    }

    /// The next publisher looks again: something it waits for may have happened, at `now` if that is known.
    pub(super) fn wake_next(&mut self, now: Option<Micros>) {
        if let Some(room) = self.inner.room_if_any() {
            room.wake_next(now, &mut self.wakes);
        }
    }

    /// All publishers that wait look again: they may not publish any more.
    pub(super) fn wake_all(&mut self) {
        if let Some(room) = self.inner.room() {
            room.wake_all(&mut self.wakes);
        }
    }

    /// This one is to be woken.
    pub(super) fn wake(&mut self, sleeper: &Sleeper) {
        self.wakes.publisher(sleeper);
    }

    /// A shard is told that a publisher waits.
    pub(super) fn tell_shard(&mut self, number: usize, key: LocalKey) {
        self.wakes.shard(number, key);
    }
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}
