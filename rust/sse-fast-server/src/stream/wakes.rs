//! Who is to be woken once a stream's lock is free: waking may be a system call.
//!
//! Owns: the list. Must not know: why somebody is on it. Invariant: who is on it is woken when it is dropped, not before.

use super::watch::Sleeper;
use crate::delivery::{Delivery, LocalKey, Ring};

/// See the module.
pub(super) struct Wakes<'a> {
    delivery: &'a Delivery,
    list: Vec<Wake>,
}

enum Wake {
    /// A publisher that waits.
    Publisher(Sleeper),
    /// A shard, of a publisher that waits.
    Shard { number: usize, key: LocalKey },
}

impl<'a> Wakes<'a> {
    pub(super) fn new(delivery: &'a Delivery) -> Self {
        Self { delivery, list: Vec::new() }
    }

    pub(super) fn publisher(&mut self, sleeper: &Sleeper) {
        self.list.push(Wake::Publisher(sleeper.clone()));
    }

    pub(super) fn shard(&mut self, number: usize, key: LocalKey) {
        self.list.push(Wake::Shard { number, key });
    }

    #[cold]
    fn wake(&mut self) {
        for wake in self.list.drain(..) {
            match wake {
                Wake::Publisher(sleeper) => sleeper.wake(),
                // It may be gone by now.
                Wake::Shard { number, key } => drop(self.delivery.doorbells[number].push(Ring::Waiting(key))),
            }
        }
    }
}

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        // Most publishes wake nobody, and a drain that finds nothing costs them forty instructions.
        if !self.list.is_empty() {
            self.wake();
        }
    }
}
