//! One way to take a lock.
//!
//! A panic while a lock is held poisons it; the engine's critical sections leave their data whole
//! at every step, so the next holder goes on instead of spreading the panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
