//! Publishing from a thread: append under the lock, then tell each shard that has subscribers, at most once.
//!
//! Owns: the public calls, and how a thread that must wait sleeps. Must not know: when an event may be appended
//! (`attempt`), sockets, subscribers. Invariant: the stream's lock is held while an attempt is stepped, and never while the
//! thread sleeps.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::error::EventError;
use sse_fast_core::event::{self, CheckedEvent, NewEvent};
use sse_fast_core::stream::Part;

use super::attempt::{Attempt, Caller, Progress};
use super::elsewhere::HandedOver;
use super::outcome::{PublishError, Published};
use super::pending::{Appended, Fate, Held, KeptSoon};
use super::role::Role;
use super::watch::TaskSleep;
use super::what::{What, with_scratch};
use super::{Locked, Stream};
use crate::clock::{self, in_micros};
use crate::delivery::Delivery;
use crate::idempotency::SharedKey;
use crate::store::Durable;
use crate::sync::park_timeout;

thread_local! {
    /// The calling thread's.
    static ACCOUNT: RefCell<Account> = RefCell::default();
}

/// What a thread, or a task, has waited for sockets in the last minute, in all streams of each server, known by its
/// delivery.
#[derive(Default)]
pub struct Account(Vec<(u64, Spent)>);

impl Account {
    /// Works on the part of it that a server knows.
    pub(super) fn with<T>(&mut self, delivery: &Delivery, now: Micros, work: impl FnOnce(&mut Spent) -> T) -> T {
        let (server, accounts) = (delivery.number, &mut self.0);
        accounts.retain(|(_, spent)| !spent.is_clear(now));
        let place = accounts.iter().position(|(other, _)| *other == server).unwrap_or_else(|| {
            accounts.push((server, Spent::default()));
            accounts.len() - 1
        });
        work(&mut accounts[place].1)
    }
}

/// Works on the calling thread's account with a server.
fn with_account<T>(delivery: &Delivery, now: Micros, work: impl FnOnce(&mut Spent) -> T) -> T {
    ACCOUNT.with_borrow_mut(|account| account.with(delivery, now, work))
}

impl Stream {
    /// Publishes without ever waiting: [`PublishError::WouldWait`] where it would have to.
    pub fn try_publish(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        self.try_as(event, Role::Ordinary)
    }

    /// Publishes this event as the terminal one and ends the stream, likewise.
    pub fn try_end_with(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        let published = self.try_as(event, Role::Terminal)?;
        self.notify_directory();
        Ok(published)
    }

    fn try_as(&self, event: &NewEvent<'_>, role: Role) -> Result<Published, PublishError> {
        let event = self.check(event)?;
        if self.is_copy() {
            return Err(PublishError::WouldWait);
        }
        let Some(mut inner) = self.try_lock() else { return Err(PublishError::WouldWait) };
        if self.waits_for_disk() && self.store_of(&inner).is_some() {
            self.check_open(&inner)?;
            return Err(PublishError::WouldWait);
        }
        let published = Attempt::new(&event, role, Caller::Thread).in_a_hurry().at_once(self, &mut inner)?;
        let published = published.ok_or(PublishError::WouldWait)?;
        self.finish_publish(inner);
        Ok(published)
    }

    /// Publishes, waiting as the module says.
    pub fn publish(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        self.publish_as(event, Caller::Thread)
    }

    /// Publishes, waiting as this caller may.
    pub fn publish_as(&self, event: &NewEvent<'_>, caller: Caller) -> Result<Published, PublishError> {
        self.publishing(event, caller)?.finish()
    }

    /// Publishes the terminal event and ends the stream.
    pub fn end(&self, data: &[u8], event: &str) -> Result<Published, PublishError> {
        self.end_as(data, event, Caller::Thread)
    }

    /// Ends the stream, waiting as this caller may.
    pub fn end_as(&self, data: &[u8], event: &str, caller: Caller) -> Result<Published, PublishError> {
        self.ending(data, event, caller)?.finish()
    }

    /// Publishes this event as the terminal one and ends the stream.
    pub fn end_with(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        self.ending_with(event, Caller::Thread)?.finish()
    }

    /// Sets the snapshot: it stands for everything published so far. Subscribers of now get
    /// nothing; those to come get it first.
    pub fn snapshot(&self, data: &[u8], event: Option<&str>) -> Result<(), PublishError> {
        let name = event.unwrap_or("snapshot");
        let event = NewEvent { data, event: Some(name), ..NewEvent::default() };
        if self.is_copy() {
            self.check(&event)?;
            let stream = self.current();
            return stream.hand_over_snapshot(data, name)?.wait(stream);
        }
        match self.set_snapshot(&event, None)? {
            Some(kept) => kept.wait(Duration::MAX).unwrap_or(Ok(())),
            None => Ok(()),
        }
    }

    /// Whether a key of its own goes with what is published under it: to other processes, or into the store.
    pub fn hands_keys_on(&self) -> bool {
        self.is_copy() || self.0.delivery.store.is_some()
    }

    /// What is waited for until an event counts as published, where that is not here: the words that users know.
    pub fn waits_elsewhere(&self) -> Option<&'static str> {
        if self.is_copy() { Some("backplane") } else { self.waits_for_disk().then_some("disk") }
    }

    /// Whether what is published counts only once the disk has it.
    pub fn waits_for_disk(&self) -> bool {
        self.0.delivery.store.as_ref().is_some_and(|store| store.durable() == Durable::Disk)
    }

    /// Sets it, or will once the disk has it; who is to be told sleeps so.
    pub(super) fn set_snapshot(
        &self,
        event: &NewEvent<'_>,
        sleep: Option<&TaskSleep>,
    ) -> Result<Option<KeptSoon>, PublishError> {
        let event = self.check(event)?;
        let mut inner = self.lock();
        self.check_open(&inner)?;
        let prepared = with_scratch(|scratch| inner.state.prepare_snapshot(inner.last_position(), scratch, &event));
        let Some(at) = self.keep_snapshot(&mut inner, &prepared)? else {
            inner.state.put_snapshot(prepared);
            return Ok(None);
        };
        let fate = Fate::new(sleep);
        inner.put_off(at, Held::Snapshot(prepared), &fate);
        drop(inner);
        Ok(Some(KeptSoon::new(self, fate)))
    }

    /// Checks every field of an event that is to be published here.
    pub fn check<'a>(&self, event: &NewEvent<'a>) -> Result<CheckedEvent<'a>, EventError> {
        event::check_within(event, self.max_event_bytes())
    }

    /// The most bytes that an event's name and data may have together.
    pub fn max_event_bytes(&self) -> usize {
        self.0.delivery.max_event_bytes
    }

    /// Something that publishers wait for has happened.
    pub(crate) fn wake_publisher(&self, now: Micros) {
        self.lock().wake_next(Some(now));
    }

    /// Begins to publish; [`Publishing::wait`] does it. For a thread that must look at something else now and then.
    pub fn publishing<'a>(&'a self, event: &NewEvent<'a>, caller: Caller) -> Result<Publishing<'a>, PublishError> {
        Publishing::new(self, event, Role::Ordinary, caller)
    }

    /// Begins to publish several, at least one, in one step: nobody's come between them, and all are appended or none. The key
    /// goes with them where the log is elsewhere, so that other processes know it, too, and where they are kept, so that those
    /// to come do.
    pub fn publishing_together<'a>(
        &'a self,
        parts: &'a [Part<'a>],
        key: Option<&'a SharedKey>,
        caller: Caller,
    ) -> Result<Publishing<'a>, PublishError> {
        if self.is_copy() {
            let stream = self.current();
            let handed_over = stream.hand_over_parts(parts, false, key)?;
            return Ok(Publishing(Way::Elsewhere { stream, handed_over, several: true }));
        }
        let attempt = Attempt::of(What::of(parts), Role::Ordinary, caller).under(key);
        Ok(Publishing(Way::Here(Here::new(self, attempt))))
    }

    /// Begins to end the stream, likewise.
    pub fn ending<'a>(
        &'a self,
        data: &'a [u8],
        event: &'a str,
        caller: Caller,
    ) -> Result<Publishing<'a>, PublishError> {
        self.ending_with(&NewEvent { data, event: Some(event), ..NewEvent::default() }, caller)
    }

    /// Begins to end the stream with this event, likewise.
    pub fn ending_with<'a>(&'a self, event: &NewEvent<'a>, caller: Caller) -> Result<Publishing<'a>, PublishError> {
        Publishing::new(self, event, Role::Terminal, caller)
    }

    /// Lets the stream go and tells everybody who waits for news.
    pub(crate) fn finish_publish(&self, mut inner: Locked<'_>) {
        self.spoke(clock::coarse_ms());
        if self.is_nameless() {
            self.0.delivery.nameless.fetch_add(1, Ordering::Relaxed);
        }
        let listening = inner.listening();
        drop(inner);
        self.announce(listening);
    }

    /// An event was appended: everybody is told.
    pub(super) fn appended(&self, inner: Locked<'_>, role: Role) {
        self.finish_publish(inner);
        if role == Role::Terminal {
            self.notify_directory();
        }
    }

    /// A publish is over that has waited since then.
    pub(super) fn count_wait(&self, began: Micros) {
        let waits = &self.0.delivery.waits;
        waits.durations.add_shared(clock::now().saturating_sub(began));
    }
}

/// A publish that may have to wait. Dropped before its end, it publishes nothing and gives its place up, unless the log is
/// elsewhere: then nobody knows whether it was published.
pub struct Publishing<'a>(Way<'a>);

#[expect(clippy::large_enum_variant, reason = "the usual one; it lies on the stack of who publishes")]
enum Way<'a> {
    Here(Here<'a>),
    Elsewhere { stream: &'a Stream, handed_over: HandedOver, several: bool },
}

impl<'a> Publishing<'a> {
    fn new(stream: &'a Stream, event: &NewEvent<'a>, role: Role, caller: Caller) -> Result<Self, PublishError> {
        let checked = stream.check(event)?;
        if stream.is_copy() {
            let stream = stream.current();
            let handed_over = stream.hand_over(std::slice::from_ref(event), role == Role::Terminal)?;
            return Ok(Self(Way::Elsewhere { stream, handed_over, several: false }));
        }
        Ok(Self(Way::Here(Here::new(stream, Attempt::new(&checked, role, caller)))))
    }

    /// Publishes, waiting no longer than `longest` for what stands in the way; `None` is not yet: call it again soon, for
    /// others that publish into the stream go before one that is away for more than 10 ms.
    pub fn wait(&mut self, longest: Duration) -> Option<Result<Published, PublishError>> {
        match &mut self.0 {
            Way::Here(here) => here.wait(longest),
            Way::Elsewhere { stream, handed_over, several } => {
                let ids = handed_over.wait(stream, longest)?;
                Some(ids.map(|ids| if *several { Published::several(ids) } else { Published::one(ids) }))
            }
        }
    }

    /// The same, but for the disk's having it: the event is in its place, and counts as published once that is said by what
    /// is given back. So a thread that publishes many waits for the disk once.
    pub fn append(&mut self, longest: Duration) -> Option<Result<Appended, PublishError>> {
        match &mut self.0 {
            Way::Here(here) => here.append(longest),
            Way::Elsewhere { .. } => {
                self.wait(longest).map(|outcome| outcome.map(|published| Appended { published, kept: None }))
            }
        }
    }

    /// Publishes, however long it has to wait.
    fn finish(mut self) -> Result<Published, PublishError> {
        loop {
            if let Some(outcome) = self.wait(Duration::MAX) {
                return outcome;
            }
        }
    }
}

/// A publish into a log that is here.
struct Here<'a> {
    stream: &'a Stream,
    attempt: Attempt<'a>,
    /// When it began to wait, if it did.
    began: Option<Micros>,
    /// What it came to, where the disk does not have it yet.
    appended: Option<Appended>,
}

impl<'a> Here<'a> {
    fn new(stream: &'a Stream, attempt: Attempt<'a>) -> Self {
        Self { stream, attempt, began: None, appended: None }
    }

    fn wait(&mut self, longest: Duration) -> Option<Result<Published, PublishError>> {
        let appended = match self.appended.take() {
            Some(appended) => appended,
            None => match self.append(longest)? {
                Ok(appended) => appended,
                Err(error) => return Some(Err(error)),
            },
        };
        let Some(kept) = &appended.kept else { return Some(Ok(appended.published)) };
        let outcome = kept.wait(longest);
        if outcome.is_none() {
            self.appended = Some(appended);
            return None;
        }
        outcome.map(|outcome| outcome.map(|()| appended.published))
    }

    fn append(&mut self, longest: Duration) -> Option<Result<Appended, PublishError>> {
        let stream = self.stream;
        let mut inner = stream.lock();
        if self.began.is_none() {
            match self.attempt.at_once(stream, &mut inner) {
                Ok(None) => self.began = Some(clock::now()),
                Ok(Some(published)) => return Some(Ok(self.attempt.finish(stream, inner, published))),
                Err(error) => return Some(Err(error)),
            }
        }
        let until = clock::now().saturating_add(in_micros(longest));
        loop {
            let now = clock::now();
            let attempt = &mut self.attempt;
            let progress = with_account(&stream.0.delivery, now, |account| {
                let progress = attempt.step(stream, &mut inner, now, account);
                if matches!(progress, Ok(Progress::Wait(_))) && now >= until {
                    attempt.step_aside(stream, &mut inner, now, account);
                }
                progress
            });
            let outcome = match progress {
                Ok(Progress::Wait(_)) if now >= until => return None,
                Ok(Progress::Wait(at)) => {
                    drop(inner);
                    park_timeout(Duration::from_micros(at.min(until).saturating_sub(clock::now())));
                    inner = stream.lock();
                    continue;
                }
                Ok(Progress::Published(published)) => Ok(self.attempt.finish(stream, inner, published)),
                Err(error) => Err(error),
            };
            stream.count_wait(self.began.unwrap_or(Micros::MAX));
            return Some(outcome);
        }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        if self.attempt.is_waiting() {
            let (stream, attempt) = (self.stream, &mut self.attempt);
            let mut inner = stream.lock();
            let now = clock::now();
            with_account(&stream.0.delivery, now, |account| attempt.leave(stream, &mut inner, now, account));
        }
    }
}
