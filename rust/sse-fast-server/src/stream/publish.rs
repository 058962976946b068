//! Publishing from a thread: append under the lock, then tell each shard that has subscribers, at most once.
//!
//! Owns: the public calls, and how a thread that must wait sleeps. Must not know: when an event may be appended
//! (`attempt`), sockets, subscribers. Invariant: the stream's lock is held while an attempt is stepped, and never while the
//! thread sleeps.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::event::{self, CheckedEvent, NewEvent};

use super::attempt::{Attempt, Caller, Progress, PublishError, Published, Role, with_scratch};
use super::{Inner, Stream};
use crate::clock;
use crate::delivery::Delivery;
use crate::sync::{MutexGuard, park_timeout};

thread_local! {
    /// What this thread has waited for sockets in the last minute, in all streams of each server, known by its delivery.
    static ACCOUNTS: RefCell<Vec<(u64, Spent)>> = RefCell::default();
}

/// Works on the calling thread's account with a server.
fn with_account<T>(delivery: &Delivery, now: Micros, work: impl FnOnce(&mut Spent) -> T) -> T {
    let server = delivery.number;
    ACCOUNTS.with_borrow_mut(|accounts| {
        accounts.retain(|(_, spent)| !spent.is_clear(now));
        let place = accounts.iter().position(|(other, _)| *other == server).unwrap_or_else(|| {
            accounts.push((server, Spent::default()));
            accounts.len() - 1
        });
        work(&mut accounts[place].1)
    })
}

impl Stream {
    /// Publishes without ever waiting: [`PublishError::WouldWait`] where it would have to.
    pub fn try_publish(&self, event: &NewEvent<'_>) -> Result<Published, PublishError> {
        let event = event::check(event)?;
        let Some(mut inner) = self.0.inner.try_lock() else { return Err(PublishError::WouldWait) };
        let published = Attempt::new(&event, Role::Ordinary, Caller::Thread).at_once(self, &mut inner)?;
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
        self.append(&event::check(event)?, Role::Ordinary, caller)
    }

    /// Publishes the terminal event and ends the stream.
    pub fn end(&self, data: &[u8], event: &str) -> Result<Published, PublishError> {
        self.end_as(data, event, Caller::Thread)
    }

    /// Ends the stream, waiting as this caller may.
    pub fn end_as(&self, data: &[u8], event: &str, caller: Caller) -> Result<Published, PublishError> {
        let event = NewEvent { data, event: Some(event), ..NewEvent::default() };
        let published = self.append(&event::check(&event)?, Role::Terminal, caller)?;
        self.notify_directory();
        Ok(published)
    }

    /// Sets the snapshot: it stands for everything published so far. Subscribers of now get
    /// nothing; those to come get it first.
    pub fn snapshot(&self, data: &[u8], event: Option<&str>) -> Result<(), PublishError> {
        let event = NewEvent { data, event: Some(event.unwrap_or("snapshot")), ..NewEvent::default() };
        let event = event::check(&event)?;
        let mut inner = self.lock();
        self.check_open(&inner)?;
        with_scratch(|scratch| inner.state.set_snapshot(scratch, &event));
        Ok(())
    }

    /// Something that publishers wait for has happened.
    pub(crate) fn wake_publisher(&self) {
        if let Some(room) = self.lock().room() {
            room.wake_first();
        }
    }

    fn append(&self, event: &CheckedEvent<'_>, role: Role, caller: Caller) -> Result<Published, PublishError> {
        let mut attempt = Attempt::new(event, role, caller);
        let mut inner = self.lock();
        if let Some(published) = attempt.at_once(self, &mut inner)? {
            self.finish_publish(inner);
            return Ok(published);
        }
        let began = clock::now();
        let outcome = loop {
            let now = clock::now();
            match with_account(&self.0.delivery, now, |account| attempt.step(self, &mut inner, now, account)) {
                Ok(Progress::Published(published)) => {
                    self.finish_publish(inner);
                    break Ok(published);
                }
                Ok(Progress::Wait(until)) => {
                    drop(inner);
                    park_timeout(Duration::from_micros(until.saturating_sub(clock::now())));
                    inner = self.lock();
                }
                Err(error) => break Err(error),
            }
        };
        let waits = &self.0.delivery.waits;
        waits.count.fetch_add(1, Ordering::Relaxed);
        waits.micros.fetch_add(clock::now().saturating_sub(began), Ordering::Relaxed);
        outcome
    }

    /// Lets the stream go and tells everybody who waits for news.
    pub(crate) fn finish_publish(&self, mut inner: MutexGuard<'_, Inner>) {
        self.touch(clock::coarse_ms());
        let listening = inner.listening();
        drop(inner);
        self.announce(listening);
    }
}
