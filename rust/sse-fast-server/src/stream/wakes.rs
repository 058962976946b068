//! Who is to be woken once a stream's lock is free: waking may be a system call.
//!
//! Owns: the list. Must not know: why somebody is on it. Invariant: who is on it is woken when it is dropped, not before.

use crate::delivery::{Delivery, LocalKey, Ring};
use crate::sync::Thread;

/// See the module.
pub(super) struct Wakes<'a> {
    delivery: &'a Delivery,
    list: Vec<Wake>,
}

enum Wake {
    /// A publisher that waits.
    Publisher(Thread),
    /// A shard, of a publisher that waits.
    Shard { number: usize, key: LocalKey },
}

impl<'a> Wakes<'a> {
    pub(super) fn new(delivery: &'a Delivery) -> Self {
        Self { delivery, list: Vec::new() }
    }

    pub(super) fn publisher(&mut self, thread: &Thread) {
        self.list.push(Wake::Publisher(thread.clone()));
    }

    pub(super) fn shard(&mut self, number: usize, key: LocalKey) {
        self.list.push(Wake::Shard { number, key });
    }
}

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        for wake in self.list.drain(..) {
            match wake {
                Wake::Publisher(thread) => thread.unpark(),
                // It may be gone by now.
                Wake::Shard { number, key } => drop(self.delivery.doorbells[number].push(Ring::Waiting(key))),
            }
        }
    }
}
