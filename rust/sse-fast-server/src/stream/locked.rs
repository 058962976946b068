//! A stream's lock while it is held, and what is done once it is free.
//!
//! Owns: that waking a thread or a shard, which may be a system call, comes after the lock was let go. Must not know: who
//! waits for what. Invariant: what was to be woken is woken when this is dropped, and not before.

use std::ops::{Deref, DerefMut};

use super::room::Room;
use super::{Inner, Stream};
use crate::delivery::{LocalKey, Ring};
use crate::sync::{MutexGuard, Thread};

/// See the module. The order of its fields is the order in which they are dropped: the lock first.
pub(crate) struct Locked<'a> {
    inner: MutexGuard<'a, Inner>,
    wakes: Wakes<'a>,
}

/// Who is to be woken.
pub(super) struct Wakes<'a> {
    stream: &'a Stream,
    list: Vec<Wake>,
}

enum Wake {
    /// A publisher that waits.
    Publisher(Thread),
    /// A shard, of a publisher that waits.
    Shard { number: usize, key: LocalKey },
}

impl<'a> Locked<'a> {
    pub(super) fn new(stream: &'a Stream, inner: MutexGuard<'a, Inner>) -> Self {
        Self { inner, wakes: Wakes { stream, list: Vec::new() } }
    }

    /// Those who wait to append, and where to say who of them is to be woken.
    pub(super) fn room_and_wakes(&mut self) -> (&mut Room, &mut Wakes<'a>) {
        (self.inner.room_mut(), &mut self.wakes)
    }

    /// The next publisher looks again: something it waits for may have happened.
    pub(super) fn wake_next(&mut self) {
        if let Some(room) = self.inner.room() {
            room.wake_next(&mut self.wakes);
        }
    }

    /// All publishers that wait look again: they may not publish any more.
    pub(super) fn wake_all(&mut self) {
        if let Some(room) = self.inner.room() {
            room.wake_all(&mut self.wakes);
        }
    }

    /// A shard is told that a publisher waits.
    pub(super) fn tell_shard(&mut self, number: usize, key: LocalKey) {
        self.wakes.list.push(Wake::Shard { number, key });
    }
}

impl Wakes<'_> {
    pub(super) fn publisher(&mut self, thread: &Thread) {
        self.list.push(Wake::Publisher(thread.clone()));
    }
}

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        for wake in self.list.drain(..) {
            match wake {
                Wake::Publisher(thread) => thread.unpark(),
                // It may be gone by now.
                Wake::Shard { number, key } => drop(self.stream.0.delivery.doorbells[number].push(Ring::Waiting(key))),
            }
        }
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
