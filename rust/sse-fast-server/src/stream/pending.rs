//! Events that the store has taken and the disk does not have yet: nobody is given them until it does.
//!
//! Owns: their order, and what becomes of each. Must not know: files. It lives under the stream's lock.
//! Invariants: they are appended in the order in which the store took them, once it says that the disk has them; where it
//! says that they were not kept none of them ever is, and their positions are given to others, for nobody was told of them.
//! Who published one sleeps until its fate is known.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sse_fast_core::stream::{Prepared, PreparedSnapshot};

use super::outcome::{PublishError, Published};
use super::role::Role;
use super::watch::{Sleeper, TaskSleep};
use super::{Locked, Stream, StreamShared};
use crate::clock;
use crate::clock::in_micros;
use crate::store::{StoreError, Waits};
use crate::sync::park_timeout;

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    items: VecDeque<Item>,
    /// Those that are events, and the bytes of their frames.
    events: usize,
    bytes: usize,
    /// Whether the terminal event is among them.
    ends: bool,
    /// Whether the store knows that the stream waits.
    pub(super) is_listed: bool,
}

struct Item {
    /// The number that the store gave its batch.
    at: u64,
    what: What,
    fate: Fate,
}

/// What is appended, or set.
pub(super) enum What {
    Event(Prepared, Role),
    Snapshot(PreparedSnapshot),
}

/// Why something that the store had taken was not kept.
#[derive(Clone, Debug)]
enum NotKept {
    /// The disk refused it.
    Store(StoreError),
    /// The stream was removed before.
    Removed,
}

/// What becomes of one, and who sleeps until that is known.
#[derive(Clone)]
pub(super) struct Fate(Arc<Decision>);

struct Decision {
    /// Set once.
    outcome: OnceLock<Result<(), NotKept>>,
    sleeper: Sleeper,
}

impl Fate {
    /// Of one whose publisher sleeps so; `None` is as the calling thread does.
    pub(super) fn new(sleep: Option<&TaskSleep>) -> Self {
        let sleeper = sleep.map_or_else(Sleeper::this_thread, |sleep| Sleeper::Task(sleep.clone()));
        Self(Arc::new(Decision { outcome: OnceLock::new(), sleeper }))
    }

    fn decide(&self, outcome: Result<(), NotKept>) {
        // It is decided once, by the thread that takes the item out of the list.
        let _ = self.0.outcome.set(outcome);
    }
}

/// An event that was appended, or will be once the disk has it.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its id.
    pub published: Published,
    /// What is to be waited for until it counts as published.
    pub kept: Option<KeptSoon>,
}

/// What becomes of an event that the disk does not have yet.
#[derive(Clone)]
pub struct KeptSoon {
    stream: Stream,
    fate: Fate,
}

impl KeptSoon {
    pub(super) fn new(stream: &Stream, fate: Fate) -> Self {
        Self { stream: stream.clone(), fate }
    }

    /// Whether it was kept, or why not; `None` is not decided yet.
    pub fn outcome(&self) -> Option<Result<(), PublishError>> {
        if let Sleeper::Task(sleep) = &self.fate.0.sleeper {
            sleep.rearm();
        }
        self.fate.0.outcome.get().map(|outcome| match outcome {
            Ok(()) => Ok(()),
            Err(NotKept::Store(error)) => Err(PublishError::Store(error.clone())),
            Err(NotKept::Removed) => Err(PublishError::Removed { stream: self.stream.shown() }),
        })
    }

    /// Waits until that is decided, no longer than `longest`; for the thread that published it.
    pub fn wait(&self, longest: Duration) -> Option<Result<(), PublishError>> {
        let until = clock::now().saturating_add(in_micros(longest));
        loop {
            let outcome = self.outcome();
            let now = clock::now();
            if outcome.is_some() || now >= until {
                return outcome;
            }
            park_timeout(Duration::from_micros(until - now));
        }
    }
}

impl std::fmt::Debug for KeptSoon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptSoon({:?})", self.fate.0.outcome.get())
    }
}

impl Pending {
    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the terminal event waits.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    pub(super) fn push(&mut self, at: u64, what: What, fate: &Fate) {
        debug_assert!(!self.ends, "nothing follows the end");
        debug_assert!(self.items.back().is_none_or(|last| last.at < at), "in the store's order");
        if let What::Event(prepared, role) = &what {
            self.events += 1;
            self.bytes += prepared.frame().len();
            self.ends = *role == Role::Terminal;
        }
        self.items.push_back(Item { at, what, fate: fate.clone() });
    }

    /// Takes the next that the disk has, if it has everything up to there.
    fn take(&mut self, up_to: u64) -> Option<Item> {
        self.items.front().filter(|item| item.at <= up_to)?;
        let item = self.items.pop_front()?;
        if let What::Event(prepared, _) = &item.what {
            self.events -= 1;
            self.bytes -= prepared.frame().len();
        }
        debug_assert!(!self.items.is_empty() || self.events == 0 && self.bytes == 0, "what is counted is there");
        Some(item)
    }

    fn take_all(&mut self) -> VecDeque<Item> {
        std::mem::take(self).items
    }
}

impl Locked<'_> {
    /// None of what waits for the disk is published: the stream is removed.
    pub(super) fn give_up_pending(&mut self) {
        for item in self.kept_mut().map(|kept| kept.pending.take_all()).into_iter().flatten() {
            item.fate.decide(Err(NotKept::Removed));
            self.wake(&item.fate.0.sleeper);
        }
    }
}

impl Waits for StreamShared {
    fn kept(self: Arc<Self>, up_to: u64) -> bool {
        let stream = Stream(self);
        let mut inner = stream.lock();
        let mut role = None;
        while let Some(item) = inner.kept_mut().and_then(|kept| kept.pending.take(up_to)) {
            match item.what {
                What::Event(prepared, as_what) => {
                    inner.state.append(prepared);
                    if as_what == Role::Terminal {
                        inner.state.end();
                    }
                    role = Some(as_what);
                }
                What::Snapshot(prepared) => inner.state.put_snapshot(prepared),
            }
            item.fate.decide(Ok(()));
            inner.wake(&item.fate.0.sleeper);
        }
        let is_left = inner.kept_mut().is_some_and(|kept| {
            kept.pending.is_listed = !kept.pending.items.is_empty();
            kept.pending.is_listed
        });
        match role {
            Some(role) => {
                inner.wake_next(None);
                stream.appended(inner, role);
            }
            None => drop(inner),
        }
        is_left
    }

    fn refused(self: Arc<Self>, error: &StoreError) {
        let stream = Stream(self);
        let mut inner = stream.lock();
        for item in inner.kept_mut().map(|kept| kept.pending.take_all()).into_iter().flatten() {
            item.fate.decide(Err(NotKept::Store(error.clone())));
            inner.wake(&item.fate.0.sleeper);
        }
        if let Some(kept) = inner.kept_mut() {
            kept.not_told();
        }
        inner.wake_next(None);
    }
}
