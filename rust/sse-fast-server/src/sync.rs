//! The locks and atomics of what threads share, in one place, so that loom can take their part.
//!
//! Owns: the choice. A normal build has `parking_lot`'s locks, which no panic poisons: critical sections leave their data
//! whole at every step, so the next holder goes on. A build with `--cfg loom` has loom's, which try every order of what
//! several threads do (`make test-loom`). Changes together with the models beside what they model.

#[cfg(not(loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic;
#[cfg(not(loom))]
pub(crate) use std::thread::{Thread, current};

#[cfg(loom)]
pub(crate) use self::modelled::{Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::thread::{Thread, current};

/// loom's locks with `parking_lot`'s methods.
#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no model panics under a lock")
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }
}
