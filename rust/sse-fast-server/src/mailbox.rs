//! What one thread leaves for another: a list, and a wake-up for the first thing in it.
//!
//! Owns: the list, its closing, the latch that makes many deliveries one wake-up. Must not know: what is left, who waits
//! how. Invariants: what was pushed is taken or given back, never both, never neither; a closed mailbox takes nothing; a
//! receiver that found [`Latch::is_set`] false sleeps only after that, and is woken for whatever is pushed later.
//!
//! A thread may have several mailboxes over one [`Latch`], which stands for its sleep.

use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, assert_may_wake};

/// Wakes a thread, however it sleeps.
pub(crate) trait Wake: Send + Sync {
    /// Ends its sleep, or the next one if it is awake.
    fn wake(&self);
}

/// Whether a thread was already woken for what was left for it.
pub(crate) struct Latch {
    /// Set after something was left, cleared before it is taken. Relaxed: the list's lock orders it. A push that the
    /// receiver did not find came under the lock after the receiver, which had cleared the latch before: it finds the
    /// latch cleared and wakes the receiver, or somebody else did who found it so.
    set: AtomicBool,
    /// What wakes it; `None` once it has ended, for it may be a descriptor. Protects nothing else.
    wake: Mutex<Option<Box<dyn Wake>>>,
}

impl Latch {
    pub(crate) fn new(wake: impl Wake + 'static) -> Arc<Self> {
        Arc::new(Self { set: AtomicBool::new(false), wake: Mutex::new(Some(Box::new(wake))) })
    }

    /// Wakes the thread if it was not woken since it last looked.
    pub(crate) fn ring(&self) {
        assert_may_wake();
        if !self.set.swap(true, Ordering::Relaxed)
            && let Some(wake) = &*self.wake.lock()
        {
            wake.wake();
        }
    }

    /// The thread has ended: nothing wakes it any more.
    pub(crate) fn silence(&self) {
        self.wake.lock().take();
    }

    /// Whether something was left since [`Latch::clear`].
    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    /// Before the mailboxes are looked into. A swap where a store would do: loom lets a later swap overlook a store, which
    /// no memory does, and would report wake-ups as lost.
    pub(crate) fn clear(&self) {
        self.set.swap(false, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct Mailbox<T> {
    /// Protects the list; held for a push or a swap. Nothing else is done under it.
    list: Mutex<List<T>>,
    /// Whether the list is closed, for those who only want to know. Relaxed: a push finds out for certain.
    closed: AtomicBool,
    latch: Arc<Latch>,
}

struct List<T> {
    items: Vec<T>,
    closed: bool,
}

impl<T> Mailbox<T> {
    /// An open mailbox of the thread that sleeps behind the latch.
    pub(crate) fn new(latch: &Arc<Latch>) -> Self {
        let list = Mutex::new(List { items: Vec::new(), closed: false });
        Self { list, closed: AtomicBool::new(false), latch: Arc::clone(latch) }
    }

    /// Leaves something and wakes the receiver; a closed mailbox gives it back.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        self.push_quietly(item)?;
        self.latch.ring();
        Ok(())
    }

    /// Leaves something without waking the receiver: the caller does, by [`Latch::ring`], where this is `true`, for it
    /// was the first.
    pub(crate) fn push_quietly(&self, item: T) -> Result<bool, T> {
        let mut list = self.list.lock();
        if list.closed {
            return Err(item);
        }
        list.items.push(item);
        Ok(list.items.len() == 1)
    }

    /// Takes everything; `empty` takes its place and keeps its memory for the next time.
    pub(crate) fn take(&self, empty: &mut Vec<T>) {
        debug_assert!(empty.is_empty(), "what was taken before is done with");
        std::mem::swap(&mut self.list.lock().items, empty);
    }

    /// Takes nothing more; what had been left is given back.
    pub(crate) fn close(&self) -> Vec<T> {
        self.closed.store(true, Ordering::Relaxed);
        let mut list = self.list.lock();
        list.closed = true;
        std::mem::take(&mut list.items)
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// How much was left and not taken.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.list.lock().items.len()
    }

    /// What wakes the receiver.
    pub(crate) fn latch(&self) -> &Arc<Latch> {
        &self.latch
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Notify;
    use loom::thread;

    use super::*;

    /// A receiver's sleep.
    #[derive(Clone, Default)]
    struct Sleep(Arc<Notify>);

    impl Wake for Sleep {
        fn wake(&self) {
            self.0.notify();
        }
    }

    /// Waits until something was left.
    fn sleep(latch: &Latch, sleep: &Sleep) {
        while !latch.is_set() {
            sleep.0.wait();
        }
    }

    fn model(check: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound.get_or_insert(3);
        model.check(check);
    }

    #[test]
    fn loom_whatever_is_pushed_is_taken_by_a_receiver_that_sleeps() {
        model(|| {
            let asleep = Sleep::default();
            let latch = Latch::new(asleep.clone());
            // As a shard has: two mailboxes, one sleep.
            let mailboxes = Arc::new([Mailbox::new(&latch), Mailbox::new(&latch)]);
            let pushes = [0, 1].map(|number| {
                let mailboxes = Arc::clone(&mailboxes);
                thread::spawn(move || {
                    let mailbox: &Mailbox<usize> = &mailboxes[number];
                    assert!(mailbox.push(number).is_ok(), "it is open");
                    // One that is not the first wakes nobody: who left the first does, or has.
                    if mailbox.push_quietly(number + 10).expect("it is open") {
                        mailbox.latch().ring();
                    }
                })
            });
            let (mut taken, mut list) = (Vec::new(), Vec::new());
            while taken.len() < 4 {
                sleep(&latch, &asleep);
                latch.clear();
                for mailbox in mailboxes.iter() {
                    mailbox.take(&mut list);
                    taken.append(&mut list);
                }
            }
            for push in pushes {
                push.join().expect("it pushed");
            }
            taken.sort_unstable();
            assert_eq!(taken, [0, 1, 10, 11]);
        });
    }

    #[test]
    fn loom_what_meets_a_closing_is_taken_or_given_back() {
        model(|| {
            let asleep = Sleep::default();
            let latch = Latch::new(asleep.clone());
            let mailbox = Arc::new(Mailbox::new(&latch));
            let pushes = [1, 2].map(|number| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    let given_back = mailbox.push(number).err();
                    assert!(given_back.is_none() || !mailbox.is_open(), "only a closed one gives back");
                    given_back
                })
            });
            let mut kept = Vec::new();
            if latch.is_set() {
                latch.clear();
                mailbox.take(&mut kept);
            }
            kept.append(&mut mailbox.close());
            assert_eq!(mailbox.push(3), Err(3), "nothing is left in a closed one");
            kept.extend(pushes.map(|push| push.join().expect("it pushed")).into_iter().flatten());
            mailbox.take(&mut Vec::new());
            kept.sort_unstable();
            assert_eq!(kept, [1, 2], "each once");
        });
    }
}
