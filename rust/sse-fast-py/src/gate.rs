//! The gate through which threads come back into the interpreter; it shuts when the interpreter ends.
//!
//! Up to CPython 3.13 a thread that attaches to an interpreter which is being torn down is ended by `pthread_exit`, whose
//! unwinding through Rust frames aborts the process. CPython 3.14 parks such a thread for good; here that is done earlier,
//! and only to threads that had a second to come back.
//!
//! Owns: the count of threads inside, and whether the gate is shut. Must not know: servers, what is done inside.
//! A thread is *inside* while it is detached in the engine, and while Python runs above Rust frames of this crate; it is
//! *returning* from the end of its detached work until it is attached. The gate is open, closing, then
//! shut, for the life of the process; a forked child has a gate of its own, open, with nobody inside.
//!
//! Invariants:
//! 1. When [`shut`] has returned nobody is returning, and nobody begins to: who ends its detached work then parks.
//! 2. Nobody enters a gate that is shut, but the thread that shut it: that one ends the interpreter, and comes and goes.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::fork;

/// One thread inside, in the lower half of [`STATE`].
const INSIDE: u64 = 1;
/// One thread returning, in the upper half.
const RETURNING: u64 = 1 << 32;
/// Set once the interpreter's end waits for those inside: Python code above Rust frames is not begun any more.
const CLOSING: u64 = 1 << 62;
/// Set once it is shut.
const SHUT: u64 = 1 << 63;
/// Both counts.
const COUNTS: u64 = CLOSING - 1;

/// Both counts and whether it is shut, in one word, so that a thread that begins to return and the one that shuts agree
/// on who was first. Nothing else is read because of what it says, but the interpreter's own lock orders that.
static STATE: AtomicU64 = AtomicU64::new(0);

/// How long the interpreter's end waits for threads inside. All servers are closed then, so that those in the engine are
/// on their way; what is left is Python code above Rust frames, such as a generator given to `publish_many`.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at the counts; only the end of the interpreter waits like this.
const LOOK_EVERY: Duration = Duration::from_millis(1);

thread_local! {
    /// Whether this thread shut the gate.
    static SHUT_IT: Cell<bool> = const { Cell::new(false) };
}

/// A thread inside; it is outside again when this is dropped.
#[must_use]
pub(crate) struct Inside {
    /// What this counts for in [`STATE`].
    counted: u64,
    /// How many forks there had been when it was counted: a child that was forked inside counts from nothing.
    forks: u32,
}

/// Whether the interpreter ends; this may be the thread that ends it.
pub(crate) fn has_shut() -> bool {
    STATE.load(Ordering::Relaxed) & SHUT != 0
}

/// Whether a thread that calls Python from Rust frames should come to an end of that.
pub(crate) fn is_closing() -> bool {
    STATE.load(Ordering::Relaxed) & CLOSING != 0 && !SHUT_IT.get()
}

/// Counts this thread as inside, to be detached; `None` where it has to keep out.
pub(crate) fn enter() -> Option<Inside> {
    enter_unless(SHUT)
}

/// Counts this thread as inside, to call Python from Rust frames; `None` where it has to keep out.
pub(crate) fn enter_to_call() -> Option<Inside> {
    enter_unless(CLOSING)
}

fn enter_unless(refusing: u64) -> Option<Inside> {
    if SHUT_IT.get() {
        return Some(Inside { counted: 0, forks: 0 });
    }
    if STATE.fetch_add(INSIDE, Ordering::AcqRel) & refusing != 0 {
        STATE.fetch_sub(INSIDE, Ordering::AcqRel);
        return None;
    }
    Some(Inside { counted: INSIDE, forks: fork::forks() })
}

impl Inside {
    /// The detached work is done, and the thread attaches next. Parks for good where the gate was shut
    /// during that work.
    pub(crate) fn come_back(mut self) -> Self {
        if self.counted == INSIDE {
            if STATE.fetch_add(RETURNING - INSIDE, Ordering::AcqRel) & SHUT != 0 {
                STATE.fetch_sub(RETURNING, Ordering::AcqRel);
                loop {
                    thread::park();
                }
            }
            self.counted = RETURNING;
        }
        self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.counted == 0 || self.forks != fork::forks() {
            return;
        }
        let before = STATE.fetch_sub(self.counted, Ordering::AcqRel) & COUNTS;
        debug_assert!(before % RETURNING >= self.counted % RETURNING, "more threads left than came in");
        debug_assert!(before >= self.counted, "more threads returned than came back");
    }
}

/// Shuts the gate: the interpreter ends, in this thread. Every server of the process has been closed before.
pub(crate) fn shut(py: Python<'_>) {
    SHUT_IT.set(true);
    py.detach(|| {
        let until = Instant::now() + PATIENCE;
        STATE.fetch_or(CLOSING, Ordering::AcqRel);
        while STATE.load(Ordering::Acquire) & COUNTS != 0 && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
        STATE.fetch_or(SHUT, Ordering::AcqRel);
        // These need nothing but the interpreter, which this thread has let go.
        while STATE.load(Ordering::Acquire) & COUNTS >= RETURNING {
            thread::sleep(LOOK_EVERY);
        }
    });
}

/// For a forked child, which has one thread: nobody else is inside.
pub(crate) fn begin_anew() {
    SHUT_IT.set(false);
    STATE.store(0, Ordering::Release);
}
