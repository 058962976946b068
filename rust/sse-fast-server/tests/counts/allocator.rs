//! The system's allocator, counting.
//!
//! Allocations are counted apart for the engine's threads, which are known by their names, and for
//! the calling thread; bytes for the whole process, since what one thread allocates another frees.
//! Growing in place counts as an allocation, too: it may have to move. Off by default, so that
//! nothing but the span between [`count`] and its end is seen.
//!
//! The one place here with unsafe code: an allocator cannot be written without it.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait, and a thread's name is asked of the C library")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether allocations are counted. All counters are relaxed: they are numbers, they order nothing.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Allocations on the engine's threads while counting.
static ENGINE: AtomicU64 = AtomicU64::new(0);
/// Bytes allocated and not freed by now; always kept.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// Held by the test that measures: the counters are the process's.
static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    /// Allocations of this thread while counting. Const, without a destructor: it allocates nothing itself.
    static MINE: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator as it came; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(signed(layout.size()));
        // SAFETY: the caller keeps the promises about `layout`, which the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(signed(layout.size()), Relaxed);
        // SAFETY: `pointer` came from `System` with this layout, since every pointer here does.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(signed(size) - signed(layout.size()));
        // SAFETY: as for `dealloc`; the caller promises that `size` is not zero.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn counted(more: i64) {
    LIVE.fetch_add(more, Relaxed);
    if COUNTING.load(Relaxed) {
        if on_engine_thread() {
            ENGINE.fetch_add(1, Relaxed);
        } else {
            MINE.set(MINE.get() + 1);
        }
    }
}

/// Whether this thread is one of a server's: they are called `sse-fast-…`.
fn on_engine_thread() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: the name of the calling thread, at most as many bytes as there is room for.
    let failed = unsafe { libc::pthread_getname_np(libc::pthread_self(), name.as_mut_ptr().cast(), name.len()) };
    failed == 0 && name.starts_with(b"sse-fast-")
}

/// Makes the other tests of this program wait until the guard is dropped.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocations during a span.
#[derive(Clone, Copy, Debug)]
pub struct Allocations {
    /// On the engine's threads.
    pub engine: u64,
    /// On the thread that counted.
    pub mine: u64,
}

/// Counts the allocations while `what` runs.
pub fn count(what: impl FnOnce()) -> Allocations {
    ENGINE.store(0, Relaxed);
    MINE.set(0);
    COUNTING.store(true, Relaxed);
    what();
    COUNTING.store(false, Relaxed);
    Allocations { engine: ENGINE.load(Relaxed), mine: MINE.get() }
}

/// Bytes allocated and not freed.
pub fn live() -> usize {
    usize::try_from(LIVE.load(Relaxed)).expect("more is allocated than freed")
}

#[test]
fn the_counters_see_this_thread_and_one_of_the_engine_s() {
    const MEBIBYTE: usize = 1 << 20;
    let _alone = alone();
    let mut kept = Vec::with_capacity(2);
    let (before, start) = (live(), std::sync::Arc::new(std::sync::Barrier::new(2)));
    let theirs = std::thread::Builder::new().name("sse-fast-test".into()).spawn({
        let start = std::sync::Arc::clone(&start);
        move || {
            start.wait();
            start.wait();
            let boxes = std::hint::black_box((Box::new(1), Box::new(2)));
            start.wait();
            drop(boxes);
        }
    });
    // What starting a thread allocates is over by then.
    start.wait();
    let counted = count(|| {
        start.wait();
        kept.push(std::hint::black_box(vec![0u8; MEBIBYTE]));
        start.wait();
    });
    theirs.unwrap().join().unwrap();
    assert_eq!((counted.engine, counted.mine), (2, 1));
    let more = live().abs_diff(before);
    assert!(more.abs_diff(MEBIBYTE) < MEBIBYTE / 8, "{more} bytes more");
}
