//! A stream as a copy of a log elsewhere: events come with their positions, the end and the options with them.
//!
//! Owns: how a copy begins, goes on, jumps over what was lost, and gives way to another life. Must not know: what brings the
//! events (`crate::backplane`), names. Invariants: a copy's positions are the log's; what is not here and will not come is a
//! gap, as if it had been evicted. One thread alone changes a copy. It waits for shards, so that no subscriber whose socket
//! takes bytes is overtaken, and no longer than [`MAX_WAIT`]; for sockets it never waits: what waits behind it are the events
//! of all other streams.

use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::cursor::{self, Opening, Place};
use sse_fast_core::event::{self, CheckedEvent, NewEvent};
use sse_fast_core::id::{self, Epoch, Position};
use sse_fast_core::options::{Start, StreamOptions, StreamPatch};
use sse_fast_core::stream::StreamState;

use super::attempt::{Attempt, Caller, Progress};
use super::role::Role;
use super::what::with_scratch;
use super::{Inner, Kind, Stream};
use crate::backplane::{Life, SharedEvent, SharedOptions, SharedSnapshot};
use crate::clock;
use crate::delivery::Delivery;
use crate::sync::park_timeout;

/// How long an event waits for shards that have not got to their subscribers yet.
pub(crate) const MAX_WAIT: Micros = 250_000;

impl Stream {
    /// A copy of what a log elsewhere holds; the directory knows it as `key`.
    pub(crate) fn copy(
        name: &str,
        life: &Life,
        key: Epoch,
        delivery: &Arc<Delivery>,
        options: Arc<StreamOptions>,
    ) -> Self {
        let mut state = StreamState::after(life.epoch, life.base, options);
        for shared in &life.entries {
            append(&mut state, shared);
        }
        set_snapshot(&mut state, life.snapshot.as_ref());
        if life.ended {
            state.end();
        }
        Self::holding(Kind::Named, name, (state, key), delivery)
    }

    /// The epoch of the copied life, and its newest position here.
    pub(crate) fn reached(&self) -> (Epoch, Position) {
        let inner = self.lock();
        (inner.state.epoch(), inner.state.newest())
    }

    /// Whether a reader that sends this id may have got it from a copy in another process that is ahead of this one.
    pub(crate) fn is_behind(&self, last_event_id: &str) -> bool {
        let (epoch, newest) = self.reached();
        id::parse(last_event_id).is_some_and(|(life, position)| (life, position) > (epoch, newest))
    }

    /// The same life from a later position: what lies between will not come.
    pub(crate) fn rebase(&self, life: &Life) {
        let mut inner = self.lock();
        if inner.state.is_complete() {
            return;
        }
        if life.base > inner.state.newest() {
            inner.state.skip_to(life.base);
        }
        let known = inner.state.newest();
        drop(inner);
        let here = usize::try_from(known.saturating_sub(life.base)).unwrap_or(usize::MAX).min(life.entries.len());
        let first = life.base + 1 + here as Position;
        self.receive(first, &life.entries[here..], life.ended, life.snapshot.as_ref());
        if life.ended {
            self.receive_end();
        }
    }

    /// Events of the log elsewhere from a position on, and a snapshot, which comes in one step with the event that it stands
    /// for.
    pub(crate) fn receive(
        &self,
        first: Position,
        events: &[SharedEvent],
        ended: bool,
        snapshot: Option<&SharedSnapshot>,
    ) {
        let mut is_set = false;
        for (at, (shared, position)) in events.iter().zip(first..).enumerate() {
            let with = snapshot.filter(|snapshot| snapshot.position == position);
            is_set |= self.receive_one(position, shared, ended && at + 1 == events.len(), with);
        }
        let mut inner = self.lock();
        if !is_set && !inner.state.removed() {
            set_snapshot(&mut inner.state, snapshot);
        }
    }

    /// An event of the log elsewhere, and the snapshot that stands for it; one that is here already is dropped. Whether the
    /// snapshot was set.
    fn receive_one(
        &self,
        position: Position,
        shared: &SharedEvent,
        is_terminal: bool,
        snapshot: Option<&SharedSnapshot>,
    ) -> bool {
        let fields = shared.fields();
        let event = checked(&fields);
        let role = if is_terminal { Role::Terminal } else { Role::Ordinary };
        let mut attempt = Attempt::new(&event, role, Caller::Copying);
        let mut inner = self.lock();
        if self.check_open(&inner).is_err() || position <= inner.state.newest() {
            return false;
        }
        if position > inner.state.newest() + 1 {
            debug_assert!(false, "{}: the copy has a hole before {position}", self.shown());
            inner.state.skip_to(position - 1);
        }
        match attempt.at_once(self, &mut inner) {
            Ok(Some(_)) => {
                set_snapshot(&mut inner.state, snapshot);
                self.appended(inner, role);
                return snapshot.is_some();
            }
            Ok(None) => {}
            Err(_) => return false,
        }
        let (until, mut account) = (clock::now().saturating_add(MAX_WAIT), Spent::default());
        loop {
            let now = clock::now();
            match attempt.step(self, &mut inner, now, &mut account) {
                Ok(Progress::Published(_)) => break,
                Ok(Progress::Wait(at)) if now < until => {
                    drop(inner);
                    park_timeout(Duration::from_micros(at.min(until).saturating_sub(clock::now())));
                    inner = self.lock();
                }
                Ok(Progress::Wait(_)) => {
                    if attempt.append_now(self, &mut inner, now, &mut account).is_err() {
                        return false;
                    }
                    break;
                }
                Err(_) => return false,
            }
        }
        set_snapshot(&mut inner.state, snapshot);
        self.appended(inner, role);
        snapshot.is_some()
    }

    /// The log elsewhere has ended, and the terminal event is lost there.
    fn receive_end(&self) {
        let mut inner = self.lock();
        if !inner.state.is_complete() {
            inner.state.end();
            self.appended(inner, Role::Terminal);
        }
    }

    /// Another life has begun elsewhere: readers get what is here, then their end, and come back to `next`. Those in this
    /// process go on there, and so does who holds this one.
    pub(crate) fn give_way_to(&self, next: &Self, carried: Position) {
        let mut inner = self.lock();
        let moved = inner.take_over();
        drop(inner);
        next.lock().put_over(moved, carried);
        // It is set once: one thread alone changes a copy.
        let _ = self.0.successor.set(next.clone());
        self.remove();
    }

    /// The newest position that this life took over from the one before.
    pub(crate) fn carried(&self) -> Position {
        self.lock().carried()
    }

    /// This life took over everything that it has.
    pub(crate) fn took_over(&self) {
        let mut inner = self.lock();
        let carried = inner.state.newest();
        inner.extra.get_or_insert_default().carried = carried;
    }

    /// The life that came after this one, where its log was lost elsewhere.
    pub(crate) fn next_life(&self) -> Option<&Self> {
        self.0.successor.get()
    }

    /// This stream, or its newest life where its log was lost elsewhere and began anew.
    pub fn current(&self) -> &Self {
        let mut current = self;
        while let Some(next) = current.next_life() {
            current = next;
        }
        current
    }

    /// Whether its log is elsewhere, and this is a copy.
    pub fn is_copy(&self) -> bool {
        self.0.kind == Kind::Named && self.0.delivery.backplane.is_some()
    }
}

impl Stream {
    /// Options that were put in force where the log is.
    pub(crate) fn receive_options(&self, defaults: &Arc<StreamOptions>, shared: SharedOptions) {
        let inner = self.lock();
        let own = inner.extra.as_ref().and_then(|extra| extra.own_options.as_deref());
        let options = resolved(defaults, own, shared);
        self.put_options(inner, options, &StreamPatch::default());
    }

    /// Options that count in this process alone, besides those that it was given before.
    pub(crate) fn give_own_options(&self, defaults: &Arc<StreamOptions>, own: &StreamPatch) {
        if *own == StreamPatch::default() {
            return;
        }
        let mut inner = self.lock();
        let all = inner.extra.get_or_insert_default().own_options.get_or_insert_default();
        all.give(own);
        let all = all.clone();
        let options = resolved(defaults, Some(&all), SharedOptions::of(inner.state.options()));
        self.put_options(inner, options, &StreamPatch::default());
    }

    /// Those options.
    pub(crate) fn own_options(&self) -> Option<Box<StreamPatch>> {
        self.lock().extra.as_ref().and_then(|extra| extra.own_options.clone())
    }

    /// Whether anybody reads the copy here, or holds it besides so many, or it has options that would be lost with it.
    pub(crate) fn is_used(&self, holders: usize) -> bool {
        let inner = self.lock();
        let has_own = inner.extra.as_ref().is_some_and(|extra| extra.own_options.is_some());
        inner.arriving > 0 || self.subscribers() > 0 || has_own || self.holders() > holders
    }
}

/// The options of a copy: those that live with the log, and of the others those given here, or the defaults. A history that
/// became shorter elsewhere lowers the lag with it. What cannot be an option is not taken over.
pub(crate) fn resolved(
    defaults: &Arc<StreamOptions>,
    own: Option<&StreamPatch>,
    shared: SharedOptions,
) -> Arc<StreamOptions> {
    let mut patch = shared.to_patch();
    if let Some(own) = own {
        patch.give(own);
    }
    let history = patch.history.unwrap_or(defaults.history) as u64;
    patch.max_lag = Some(patch.max_lag.unwrap_or(defaults.max_lag).min(history));
    match defaults.patched(&patch) {
        Ok(options) if options == **defaults => Arc::clone(defaults),
        Ok(options) => Arc::new(options),
        Err(_) => Arc::clone(defaults),
    }
}

impl Inner {
    /// The same.
    pub(crate) fn carried(&self) -> Position {
        self.extra.as_ref().map_or(0, |extra| extra.carried)
    }

    /// Opens the stream for a reader that sent `last_event_id`, or nothing. An id of the application's own does not tell
    /// lives apart: where it belongs to what this life took over, nobody knows what was lost behind it.
    pub(crate) fn open(&self, last_event_id: Option<&str>, start: Option<Start>) -> Opening {
        let carried = self.carried();
        if carried > 0
            && let Some(id) = last_event_id
            && id::parse(id).is_none_or(|(epoch, _)| epoch != self.state.epoch())
            && self.state.position_of(id).is_some_and(|position| position <= carried)
        {
            let start = start.unwrap_or(self.state.options().start);
            return cursor::open_at(&self.state, Place::Lost, start);
        }
        cursor::open(&self.state, last_event_id, start)
    }

    /// What stays with the name when its life is another's.
    fn take_over(&mut self) -> Option<Box<super::Extra>> {
        let extra = self.extra.as_mut()?;
        Some(Box::new(super::Extra {
            heartbeats: std::mem::take(&mut extra.heartbeats),
            next_override: extra.next_override,
            when_empty: extra.when_empty.take_keys(),
            watchers: extra.watchers.of_loops(),
            own_options: extra.own_options.take(),
            ..super::Extra::default()
        }))
    }

    fn put_over(&mut self, moved: Option<Box<super::Extra>>, carried: Position) {
        debug_assert!(self.extra.is_none(), "a life that begins has nothing yet");
        if moved.is_some() || carried > 0 {
            self.extra = Some(Box::new(super::Extra { carried, ..moved.map(|moved| *moved).unwrap_or_default() }));
        }
    }
}

/// What another process published was checked there; what it is here is made sure of. Its limit of bytes was the other's.
fn checked<'a>(fields: &NewEvent<'a>) -> CheckedEvent<'a> {
    event::check_within(fields, usize::MAX).unwrap_or_else(|_| event::nothing())
}

fn append(state: &mut StreamState, shared: &SharedEvent) {
    let fields = shared.fields();
    with_scratch(|scratch| {
        let prepared = state.prepare(scratch, &checked(&fields));
        state.append(prepared);
    });
}

fn set_snapshot(state: &mut StreamState, snapshot: Option<&SharedSnapshot>) {
    let Some(snapshot) = snapshot else { return };
    let fields = NewEvent { data: &snapshot.data, event: Some(&snapshot.event), ..NewEvent::default() };
    let position = snapshot.position.min(state.newest());
    with_scratch(|scratch| state.set_snapshot_at(scratch, &checked(&fields), position));
}
