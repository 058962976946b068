//! The locks and atomics of what threads share, in one place, so that loom can take their part.
//!
//! Owns: the choice. A normal build has `parking_lot`'s locks, which no panic poisons: critical sections leave their data
//! whole at every step, so the next holder goes on. A build with `--cfg loom` has loom's, which try every order of what
//! several threads do (`make test-loom`). Changes together with the models beside what they model.
//!
//! Waking may be a system call, so nobody is woken under a stream's lock: [`Held`] and [`assert_may_wake`] make that an
//! assertion.

#[cfg(not(loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic;
#[cfg(not(loom))]
pub(crate) use std::thread::park_timeout;

#[cfg(not(loom))]
pub(crate) use self::real::{Thread, current};

#[cfg(loom)]
pub(crate) use self::modelled::{Mutex, MutexGuard, Thread, current, park_timeout};
#[cfg(loom)]
pub(crate) use loom::sync::atomic;

/// How many streams' locks this thread holds.
#[cfg(all(debug_assertions, not(loom)))]
mod held {
    use std::cell::Cell;

    thread_local! {
        pub(super) static COUNT: Cell<usize> = const { Cell::new(0) };
    }
}

/// While it lives this thread holds a stream's lock. Nothing at all where assertions are off.
pub(crate) struct Held(());

impl Held {
    pub(crate) fn new() -> Self {
        #[cfg(all(debug_assertions, not(loom)))]
        held::COUNT.set(held::COUNT.get() + 1);
        Self(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        #[cfg(all(debug_assertions, not(loom)))]
        held::COUNT.set(held::COUNT.get() - 1);
    }
}

/// Before somebody is woken.
pub(crate) fn assert_may_wake() {
    #[cfg(all(debug_assertions, not(loom)))]
    assert_eq!(held::COUNT.get(), 0, "nobody is woken under a stream's lock");
}

/// Threads that park.
#[cfg(not(loom))]
mod real {
    use std::thread::{self, ThreadId};

    /// A thread that can be woken.
    #[derive(Clone, Debug)]
    pub(crate) struct Thread(thread::Thread);

    impl Thread {
        pub(crate) fn id(&self) -> ThreadId {
            self.0.id()
        }

        pub(crate) fn unpark(&self) {
            super::assert_may_wake();
            self.0.unpark();
        }
    }

    pub(crate) fn current() -> Thread {
        Thread(thread::current())
    }
}

/// loom's locks with `parking_lot`'s methods, and threads that park.
#[cfg(loom)]
mod modelled {
    use std::sync::Arc;
    use std::time::Duration;

    pub(crate) use loom::sync::MutexGuard;
    use loom::sync::Notify;
    use loom::thread::ThreadId;

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

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().expect("no model panics under a lock")
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    loom::thread_local! {
        static CURRENT: Thread = Thread { id: loom::thread::current().id(), parking: Arc::default() };
    }

    /// A thread that can be woken. Not loom's own: its `unpark` wakes a thread that waits for a lock, and then it panics;
    /// and it forgets that a thread was woken while it waits for a lock.
    #[derive(Clone, Debug)]
    pub(crate) struct Thread {
        id: ThreadId,
        parking: Arc<Notify>,
    }

    impl Thread {
        pub(crate) fn id(&self) -> ThreadId {
            self.id
        }

        pub(crate) fn unpark(&self) {
            self.parking.notify();
        }
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(Clone::clone)
    }

    /// Sleeps until woken. No time passes in a model, so who depends on the timeout sleeps for good, and loom says so.
    pub(crate) fn park_timeout(_longest: Duration) {
        current().parking.wait();
    }
}
