//! The life of a stream: claimed by requests on their way, handed out by handlers, left, removed, expired.
//!
//! Owns: when a stream is out of use, and its removal. Must not know: names (`directory` forgets them), sockets.
//! Invariants: what is removed stays so; a stream that a request has claimed, or that has subscribers, does not expire while
//! it is open; who asked to be told that the last subscriber has left is told once none is left or on its way. Changes
//! together with `empty`, which says what it means that nobody is left.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sse_fast_core::id::Epoch;
use tokio::sync::oneshot;

use super::{Inner, Locked, Stream, StreamShared};
use crate::clock::{coarse_ms, in_millis};

/// What became of a stream whose time had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Its name no longer leads to it.
    Removed,
    /// It is to be looked at then, in coarse milliseconds.
    Later(u64),
    /// It is kept as long as the server.
    Never,
}

/// A request that will be a subscriber in a moment; until then the stream does not expire.
pub(crate) struct Claim {
    stream: Stream,
    redeemed: bool,
}

/// A stream that may be gone.
#[derive(Clone)]
pub(crate) struct WeakStream(Weak<StreamShared>);

/// A stream that a handler has handed out: its client is on the way until this is dropped. Where nobody came by then, the
/// client has left before it read.
pub(crate) struct HandedOut {
    stream: Stream,
    /// `None` where the stream was removed before.
    claim: Option<Claim>,
}

impl Stream {
    /// Forgets the name at once; subscribers get what was published, then their end. The name's
    /// next life has a new epoch.
    pub fn remove(&self) {
        let mut inner = self.lock();
        self.take_away(&mut inner);
        self.complete(inner);
    }

    /// Removes the stream if its time is over at `now`, in coarse milliseconds: an ended one lingers from its end on, an
    /// open one is kept while it is in use.
    pub(crate) fn expire(&self, now: u64) -> Expired {
        let inner = self.lock();
        match inner.lifetime().map(in_millis) {
            Some(wait) => self.expire_after(inner, wait, now),
            None => Expired::Never,
        }
    }

    fn expire_after(&self, mut inner: Locked<'_>, wait: u64, now: u64) -> Expired {
        let in_use = !inner.state.is_complete() && (inner.arriving > 0 || self.subscribers() > 0);
        let at = if in_use { now } else { self.touched() }.saturating_add(wait);
        if at > now || in_use {
            // A request on its way may leave no other trace: not sooner than in a moment.
            return Expired::Later(at.max(now.saturating_add(100)));
        }
        self.take_away(&mut inner);
        self.complete(inner);
        Expired::Removed
    }

    /// Removes the stream at once if it is not in use; says whether it did.
    #[cfg(test)]
    pub(crate) fn remove_if_idle(&self) -> bool {
        self.expire_after(self.lock(), 0, u64::MAX) == Expired::Removed
    }

    /// The name no longer leads here; under the lock.
    fn take_away(&self, inner: &mut Locked<'_>) {
        inner.state.remove();
        inner.give_up_pending();
        self.forget_kept(inner);
        self.0.removed.store(true, Ordering::Release);
    }

    /// Nothing will follow: everybody who waits is told.
    fn complete(&self, mut inner: Locked<'_>) {
        inner.wake_all();
        let listening = inner.listening();
        drop(inner);
        self.announce(listening);
        self.notify_directory();
    }

    /// Whether the name was taken away.
    pub(crate) fn removed(&self) -> bool {
        self.0.removed.load(Ordering::Acquire)
    }

    /// What the directory knows this life by.
    pub(crate) fn life(&self) -> Epoch {
        self.0.life
    }

    /// How long it is kept after the last sign of life; `None` is as long as the server.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.lock().lifetime()
    }

    /// A request that will be a subscriber; `None` where the stream was removed before.
    pub(crate) fn claim(&self) -> Option<Claim> {
        let mut inner = self.lock();
        if inner.state.removed() {
            return None;
        }
        inner.arriving += 1;
        Some(Claim { stream: self.clone(), redeemed: false })
    }

    /// How many handles keep it.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// A handle that does not keep it.
    pub(crate) fn downgrade(&self) -> WeakStream {
        WeakStream(Arc::downgrade(&self.0))
    }

    /// A handler hands the stream out to its client.
    pub(crate) fn hand_out(&self) -> HandedOut {
        HandedOut { stream: self.clone(), claim: self.claim() }
    }

    /// Resolves once the last subscriber has left; ask while one is on its way.
    pub(crate) fn emptied(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.lock().extra.get_or_insert_default().emptied.push(sender);
        receiver
    }

    /// A subscriber left, the last of its shard.
    pub(crate) fn left(&self) {
        let inner = self.lock();
        self.touch_if_open(&inner);
        self.see_who_is_left(inner);
    }

    /// A sign of life.
    fn touch_if_open(&self, inner: &Inner) {
        if !inner.state.is_complete() {
            // An ended stream lingers from its end on; readers that come and go do not prolong it.
            self.touch(coarse_ms());
        }
    }

    /// Where nobody is left and nobody on the way, those are told who want to know.
    pub(super) fn see_who_is_left(&self, mut inner: Locked<'_>) {
        if !self.nobody_is_here(&inner) {
            return;
        }
        let left = inner.nobody_is_left(coarse_ms());
        let emptied = inner.extra.as_mut().map(|extra| std::mem::take(&mut extra.emptied));
        drop(inner);
        for waiting in emptied.into_iter().flatten() {
            // The one that waited may have gone.
            let _ = waiting.send(());
        }
        self.tell_left(&left);
    }
}

impl WeakStream {
    pub(crate) fn upgrade(&self) -> Option<Stream> {
        self.0.upgrade().map(Stream)
    }

    /// Whether anybody holds the stream.
    pub(crate) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Inner {
    fn lifetime(&self) -> Option<Duration> {
        let options = self.state.options();
        if self.state.ended() { Some(options.linger) } else { options.expire }
    }
}

impl Claim {
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// It is a subscriber now; `inner` is its stream's.
    pub(crate) fn redeem(mut self, inner: &mut Inner) {
        debug_assert!(inner.arriving > 0, "a claim is counted");
        inner.arriving -= 1;
        self.redeemed = true;
    }

    /// The request was answered and reads no further: it is nobody who came.
    fn give_back(mut self) {
        self.redeemed = true;
        let mut inner = self.stream.lock();
        inner.arriving -= 1;
        self.stream.see_who_is_left(inner);
    }
}

impl HandedOut {
    /// The client has its answer, or will read. An answer that is not the stream itself leaves a nameless one without any
    /// reader to come.
    pub(crate) fn answered(mut self) {
        if let Some(claim) = self.claim.take_if(|claim| !claim.stream.is_nameless()) {
            claim.give_back();
        }
    }
}

impl Deref for HandedOut {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl std::fmt::Debug for HandedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HandedOut({:?})", self.stream)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.redeemed {
            let mut inner = self.stream.lock();
            inner.arriving -= 1;
            inner.somebody_came();
            self.stream.touch_if_open(&inner);
            self.stream.see_who_is_left(inner);
        }
    }
}
