//! Events that the store has taken and the disk does not have yet: nobody is given them until it does.
//!
//! Owns: their order, and what becomes of each. Must not know: files. It lives under the stream's lock.
//! Invariants: they are appended in the order in which the store took them, once it says that the disk has them; where it
//! says that they were not kept none of them ever is, and their positions are given to others, for nobody was told of them.
//! Who published one sleeps until its fate is known.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sse_fast_core::stream::{Ahead, PreparedSnapshot};
use sse_fast_core::wire;

use super::outcome::{PublishError, Published};
use super::role::Role;
use super::watch::{Sleeper, TaskSleep};
use super::what::Encoded;
use super::{Locked, Stream, StreamShared};
use crate::clock;
use crate::clock::in_micros;
use crate::idempotency::{Ids, UnderWay};
use crate::store::{StoreError, Waits};
use crate::sync::park_timeout;

/// See the module.
#[derive(Default)]
pub(super) struct Pending {
    items: VecDeque<Item>,
    /// How many events there are, and the bytes of their frames.
    events: usize,
    bytes: usize,
    /// The name of the last snapshot that was among them.
    snapshot: Option<Box<str>>,
    /// Whether the terminal event is among them.
    ends: bool,
    /// Whether the store knows that the stream waits.
    pub(super) is_listed: bool,
}

struct Item {
    /// The number that the store gave its batch.
    at: u64,
    what: Held,
    fate: Fate,
}

/// What is appended in one step, or set.
pub(super) enum Held {
    Events(Encoded, Role),
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
    /// The key that it was published under, and the ids for who repeats it. Held to lay it down or to take it.
    answer: Mutex<Option<(UnderWay, Ids)>>,
}

impl Fate {
    /// Of one whose publisher sleeps so; `None` is as the calling thread does.
    pub(super) fn new(sleep: Option<&TaskSleep>) -> Self {
        let sleeper = sleep.map_or_else(Sleeper::this_thread, |sleep| Sleeper::Task(sleep.clone()));
        Self(Arc::new(Decision { outcome: OnceLock::new(), sleeper, answer: Mutex::new(None) }))
    }

    fn decide(&self, outcome: Result<(), NotKept>) {
        // It is decided once, by the thread that takes the item out of the list.
        let _ = self.0.outcome.set(outcome);
        self.settle();
    }

    /// Once it is decided the key stands for it, or has failed.
    fn settle(&self) {
        let Some(outcome) = self.0.outcome.get() else { return };
        // The thread that lays it down looks after that, too: one of both finds it.
        let answer = self.0.answer.lock().take();
        if let Some((under_way, ids)) = answer.filter(|_| outcome.is_ok()) {
            under_way.done(ids);
        }
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

    /// Once it is kept, who repeats what was published under this key is given these ids; also where nobody waits any more.
    pub fn keep_answer(&self, under_way: UnderWay, ids: Ids) {
        *self.fate.0.answer.lock() = Some((under_way, ids));
        self.fate.settle();
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
    /// What will be appended before anything else is.
    pub(super) fn ahead(&self) -> Ahead<'_> {
        Ahead { events: self.events, bytes: self.bytes, snapshot: self.snapshot.as_deref() }
    }

    /// The id on the wire of the newest event, if there is one: the caller's own or ours.
    pub(super) fn last_id(&self) -> Option<String> {
        let last = self.items.iter().rev().find_map(|item| match &item.what {
            Held::Events(encoded, _) => encoded.last_event(),
            Held::Snapshot(_) => None,
        })?;
        let own = wire::id_of(last.frame().plain()).map(|id| String::from_utf8_lossy(id).into_owned());
        own.or_else(|| last.generated_id().map(|id| id.as_str().to_owned()))
    }

    /// Whether the terminal event waits.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    pub(super) fn push(&mut self, at: u64, what: Held, fate: &Fate) {
        debug_assert!(!self.ends, "nothing follows the end");
        debug_assert!(self.items.back().is_none_or(|last| last.at < at), "in the store's order");
        let name = match &what {
            Held::Events(encoded, role) => {
                self.events += encoded.events();
                self.bytes += encoded.bytes();
                self.ends = *role == Role::Terminal;
                encoded.snapshot_event()
            }
            Held::Snapshot(snapshot) => Some(snapshot.event()),
        };
        self.snapshot = name.map(Box::from).or_else(|| self.snapshot.take());
        self.items.push_back(Item { at, what, fate: fate.clone() });
    }

    /// Takes the next that the disk has, if it has everything up to there.
    fn take(&mut self, up_to: u64) -> Option<Item> {
        self.items.front().filter(|item| item.at <= up_to)?;
        let item = self.items.pop_front()?;
        if let Held::Events(encoded, _) = &item.what {
            self.events -= encoded.events();
            self.bytes -= encoded.bytes();
        }
        if self.items.is_empty() {
            self.snapshot = None;
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
                Held::Events(encoded, as_what) => {
                    encoded.append(&mut inner.state);
                    if as_what == Role::Terminal {
                        inner.state.end();
                    }
                    role = Some(as_what);
                }
                Held::Snapshot(prepared) => inner.state.put_snapshot(prepared),
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
