//! Publishing into a stream whose log is elsewhere: the events are handed over, and the answer is waited for.
//!
//! Owns: how a thread or a task waits for that answer, and what it means to who publishes. Must not know: what carries the
//! events there and back (`crate::backplane`), when they are appended. Invariants: who waits has no lock of the stream; each
//! question is answered once, by the backplane's thread, within its `backplane_timeout`. What was handed over cannot be taken
//! back: who stops waiting does not know whether it was published.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use parking_lot::Mutex;
use sse_fast_core::budget::Micros;
use sse_fast_core::event::NewEvent;
use sse_fast_core::id::{IdText, Position};
use sse_fast_core::options::StreamPatch;
use sse_fast_core::stream::Part;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Stream;
use super::outcome::{PublishError, Published};
use super::watch::{Sleeper, TaskSleep};
use crate::backplane::{
    self, Answer, Ask, Asks, Changed, Make, SharedEvent, SharedOptions, SharedPatch, SharedSnapshot, Unanswered,
};
use crate::clock::{self, in_micros};
use crate::idempotency::SharedKey;
use crate::sync::atomic::Ordering;
use crate::sync::park_timeout;

/// A thread that waits looks by itself this often. Nothing depends on it: the answer wakes it.
const TRY_AGAIN: Micros = 10_000_000;

/// The most events that one question carries; the server does nothing else while it appends them.
pub const MAX_TOGETHER: usize = 256;

/// An answer that is waited for.
struct Awaited<T>(Arc<Mutex<Place<T>>>);

/// Where an answer is laid down. Held to lay it down or to look; the thread or task that waits is woken without it.
struct Place<T> {
    answer: Option<T>,
    sleeper: Option<Sleeper>,
}

impl<T: Unanswered + Send + 'static> Awaited<T> {
    /// The place, and what brings the answer there.
    fn new() -> (Self, Answer<T>) {
        let place = Arc::new(Mutex::new(Place { answer: None, sleeper: None }));
        let there = Arc::clone(&place);
        let answer = Answer::new(move |answer| {
            let mut place = there.lock();
            place.answer = Some(answer);
            let sleeper = place.sleeper.take();
            drop(place);
            if let Some(sleeper) = sleeper {
                sleeper.wake();
            }
        });
        (Self(place), answer)
    }

    /// The answer if it is there, else it wakes this one.
    fn take_or_sleep(&self, sleeper: impl FnOnce() -> Sleeper) -> Option<T> {
        let mut place = self.0.lock();
        let answer = place.answer.take();
        if answer.is_none() {
            place.sleeper = Some(sleeper());
        }
        answer
    }

    /// Waits for the answer, in the calling thread.
    fn wait(&self, longest: Duration) -> Option<T> {
        let until = clock::now().saturating_add(in_micros(longest));
        loop {
            if let Some(answer) = self.take_or_sleep(Sleeper::this_thread) {
                return Some(answer);
            }
            let now = clock::now();
            if now >= until {
                return None;
            }
            park_timeout(Duration::from_micros((until - now).min(TRY_AGAIN)));
        }
    }
}

/// Events that were handed over.
pub(super) struct HandedOver {
    awaited: Awaited<backplane::Published>,
    /// The callers' own ids, where an event has one.
    own_ids: Vec<Option<Box<str>>>,
}

impl HandedOver {
    /// What the answer means, once it is there; it wakes this one else.
    pub(super) fn take_or_sleep(
        &mut self,
        stream: &Stream,
        sleeper: impl FnOnce() -> Sleeper,
    ) -> Option<Result<Vec<Published>, PublishError>> {
        let answer = self.awaited.take_or_sleep(sleeper)?;
        Some(self.meaning(stream, answer))
    }

    /// The same for the calling thread, which waits no longer than that.
    pub(super) fn wait(&mut self, stream: &Stream, longest: Duration) -> Option<Result<Vec<Published>, PublishError>> {
        let answer = self.awaited.wait(longest)?;
        Some(self.meaning(stream, answer))
    }

    fn meaning(&mut self, stream: &Stream, answer: backplane::Published) -> Result<Vec<Published>, PublishError> {
        let shown = || stream.shown();
        match answer {
            backplane::Published::New { epoch, first } | backplane::Published::Again { epoch, first } => {
                let ids = std::mem::take(&mut self.own_ids).into_iter().zip(first..);
                Ok(ids.map(|(own, position)| published(own, epoch, position)).collect())
            }
            backplane::Published::Conflict => Err(PublishError::Conflict { stream: shown() }),
            backplane::Published::Ended => Err(PublishError::Ended { stream: shown() }),
            backplane::Published::Refused(reason) => {
                Err(PublishError::Refused { stream: shown(), reason: reason.to_string() })
            }
            backplane::Published::Unavailable { .. } if stream.is_closed() => {
                Err(PublishError::Closed { stream: shown() })
            }
            backplane::Published::Unavailable { published } => {
                Err(PublishError::Unavailable { stream: shown(), published })
            }
        }
    }
}

fn published(own: Option<Box<str>>, epoch: sse_fast_core::id::Epoch, position: Position) -> Published {
    own.map_or_else(|| Published::Generated(IdText::new(epoch, position)), Published::Custom)
}

/// Events on their way into one stream, appended next to each other. Dropped before it is answered, they may be published
/// or not.
pub struct PublishingMany<'a> {
    stream: &'a Stream,
    handed_over: HandedOver,
}

impl PublishingMany<'_> {
    /// Waits for the answer no longer than that; `None` is not yet.
    pub fn wait(&mut self, longest: Duration) -> Option<Result<Vec<Published>, PublishError>> {
        self.handed_over.wait(self.stream, longest)
    }
}

impl Stream {
    /// Begins to publish events that were checked, at most [`MAX_TOGETHER`], where the log is elsewhere. The log is asked for
    /// by the stream's newest life.
    pub fn publishing_many<'a>(&'a self, events: &[NewEvent<'_>]) -> Result<PublishingMany<'a>, PublishError> {
        let stream = self.current();
        Ok(PublishingMany { stream, handed_over: stream.hand_over(events, false)? })
    }

    /// Whether nobody was told yet that an event loop waits for what is elsewhere; true once for each server.
    pub fn is_first_to_wait_in_a_loop(&self) -> bool {
        !self.0.delivery.loop_waits.swap(true, Ordering::Relaxed)
    }

    /// Hands events over to where the log is.
    pub(super) fn hand_over(&self, events: &[NewEvent<'_>], end: bool) -> Result<HandedOver, PublishError> {
        self.hand_over_under(events, end, None)
    }

    /// The same under a key that all processes know.
    pub(super) fn hand_over_under(
        &self,
        events: &[NewEvent<'_>],
        end: bool,
        key: Option<&SharedKey>,
    ) -> Result<HandedOver, PublishError> {
        let last_snapshot = events.iter().enumerate().rev().find_map(|(at, event)| Some((at, event.snapshot?)));
        self.hand_over_with(events, last_snapshot, end, key)
    }

    /// The same of parts that are checked; at least one of them is an event. A snapshot alone is set with the event before it,
    /// which comes to the same; one that stands before the first event stands for what they go on from, and is left out.
    pub(super) fn hand_over_parts(
        &self,
        parts: &[Part<'_>],
        end: bool,
        key: Option<&SharedKey>,
    ) -> Result<HandedOver, PublishError> {
        let (mut events, mut last_snapshot) = (Vec::with_capacity(parts.len()), None);
        for part in parts {
            match part {
                Part::Event(event) => {
                    let event = event.as_new();
                    last_snapshot = event.snapshot.map(|data| (events.len(), data)).or(last_snapshot);
                    events.push(event);
                }
                Part::Snapshot(_) if events.is_empty() => {}
                Part::Snapshot(snapshot) => last_snapshot = Some((events.len() - 1, snapshot.as_new().data)),
            }
        }
        self.hand_over_with(&events, last_snapshot, end, key)
    }

    fn hand_over_with(
        &self,
        events: &[NewEvent<'_>],
        snapshot: Option<(usize, &[u8])>,
        end: bool,
        key: Option<&SharedKey>,
    ) -> Result<HandedOver, PublishError> {
        let make = {
            let inner = self.lock();
            self.check_open(&inner)?;
            Make { options: SharedOptions::of(inner.state.options()), given: SharedPatch::default() }
        };
        let (awaited, answer) = Awaited::new();
        let publish = backplane::Publish {
            events: events.iter().map(SharedEvent::new).collect(),
            snapshot: snapshot.map(|(at, data)| (at, Bytes::copy_from_slice(data))),
            end,
            key: key.map(shared_key),
            make,
        };
        self.ask(Ask::Publish { name: self.name().into(), publish, answer });
        let own_ids = events.iter().map(|event| event.id.map(Into::into)).collect();
        Ok(HandedOver { awaited, own_ids })
    }

    /// Sets the snapshot where the log is.
    pub(super) fn hand_over_snapshot(&self, data: &[u8], event: &str) -> Result<ChangeAwaited, PublishError> {
        let make = {
            let inner = self.lock();
            self.check_open(&inner)?;
            Make { options: SharedOptions::of(inner.state.options()), given: SharedPatch::default() }
        };
        let snapshot = SharedSnapshot { event: event.into(), data: Bytes::copy_from_slice(data), position: 0 };
        Ok(self.ask_change(|answer| Ask::Snapshot { name: self.name().into(), snapshot, make, answer }))
    }

    /// Removes the name where the log is, and here; waits for that.
    pub fn remove_everywhere(&self) -> Result<(), PublishError> {
        let stream = self.current();
        if !stream.is_copy() || stream.removed() {
            stream.remove();
            return Ok(());
        }
        stream.ask_change(|answer| Ask::Remove { name: stream.name().into(), answer }).wait(stream)?;
        stream.remove();
        Ok(())
    }

    /// The same from a task of the engine's own.
    pub(crate) async fn remove_everywhere_for_task(&self) -> Result<(), PublishError> {
        let stream = self.current();
        if stream.is_copy() && !stream.removed() {
            let change = stream.ask_change(|answer| Ask::Remove { name: stream.name().into(), answer });
            answered(|sleep| change.take_or_sleep(stream, sleep)).await?;
        }
        stream.remove();
        Ok(())
    }

    /// Publishes parts where the log is, from a task of the engine's own, in one step; without an event among them the last
    /// snapshot is set.
    pub(super) async fn publish_elsewhere(
        &self,
        parts: &[Part<'_>],
        end: bool,
        key: Option<&SharedKey>,
    ) -> Result<Published, PublishError> {
        let stream = self.current();
        if parts.iter().any(|part| matches!(part, Part::Event(_))) {
            let mut handed_over = stream.hand_over_parts(parts, end, key)?;
            let ids = answered(|sleep| handed_over.take_or_sleep(stream, || Sleeper::Task(sleep.clone()))).await?;
            return Ok(Published::several(ids));
        }
        if let Some(Part::Snapshot(snapshot)) = parts.last() {
            let snapshot = snapshot.as_new();
            let change = stream.hand_over_snapshot(snapshot.data, snapshot.event.unwrap_or("snapshot"))?;
            answered(|sleep| change.take_or_sleep(stream, sleep)).await?;
        }
        let covered = stream.lock().state.last_id();
        Ok(Published::Several { ids: Box::default(), covered })
    }

    /// Puts the options of the patch in force that live where the log is; waits for that.
    pub(crate) fn configure_everywhere(&self, patch: &StreamPatch) -> Result<(), PublishError> {
        self.change_options(patch).map_or(Ok(()), |change| change.wait(self))
    }

    /// The same from a task of the engine's own.
    pub(crate) async fn configure_everywhere_for_task(&self, patch: &StreamPatch) -> Result<(), PublishError> {
        match self.change_options(patch) {
            Some(change) => answered(|sleep| change.take_or_sleep(self, sleep)).await,
            None => Ok(()),
        }
    }

    /// Asks for other options where the log is; `None` where nothing changes, as is usual: they are given at each call.
    fn change_options(&self, patch: &StreamPatch) -> Option<ChangeAwaited> {
        let patch = SharedPatch::of(patch);
        let options = SharedOptions::of(self.lock().state.options());
        let changes = options.patched(&patch) != options;
        changes.then(|| self.ask_change(|answer| Ask::Configure { name: self.name().into(), patch, answer }))
    }

    fn ask_change(&self, ask: impl FnOnce(Answer<Changed>) -> Ask) -> ChangeAwaited {
        let (awaited, answer) = Awaited::new();
        self.ask(ask(answer));
        ChangeAwaited(awaited)
    }

    fn ask(&self, ask: Ask) {
        debug_assert!(self.is_copy(), "only what is a copy has a log elsewhere");
        if let Some(asks) = self.asks() {
            asks.ask(ask);
        }
    }

    fn asks(&self) -> Option<&Asks> {
        self.0.delivery.backplane.as_ref()
    }
}

/// A key as it travels: of its digests, the first half of one and the beginning of the other.
fn shared_key(key: &SharedKey) -> backplane::SharedKey {
    let text = URL_SAFE_NO_PAD.encode(&key.place[..16]);
    let body = key.content.iter().take(8).fold(0, |body, &byte| body << 8 | u64::from(byte));
    backplane::SharedKey { key: text.into(), body }
}

/// Waits for an answer in a task of the engine's own.
async fn answered<T>(mut take: impl FnMut(&TaskSleep) -> Option<T>) -> T {
    let told = Arc::new(Notify::new());
    let sleep = TaskSleep::notified(&told);
    loop {
        if let Some(answer) = take(&sleep) {
            return answer;
        }
        // Woken or not, it looks again.
        let _ = timeout(Duration::from_micros(TRY_AGAIN), told.notified()).await;
    }
}

/// A change that was asked for where the log is.
pub(super) struct ChangeAwaited(Awaited<Changed>);

impl ChangeAwaited {
    /// Waits in the calling thread.
    pub(super) fn wait(self, stream: &Stream) -> Result<(), PublishError> {
        loop {
            if let Some(answer) = self.0.wait(Duration::from_secs(3600)) {
                return Self::meaning(stream, answer);
            }
        }
    }

    /// What the answer means, once it is there; it wakes the task else.
    pub(super) fn take_or_sleep(&self, stream: &Stream, sleep: &TaskSleep) -> Option<Result<(), PublishError>> {
        let answer = self.0.take_or_sleep(|| Sleeper::Task(sleep.clone()))?;
        Some(Self::meaning(stream, answer))
    }

    fn meaning(stream: &Stream, answer: Changed) -> Result<(), PublishError> {
        let shown = || stream.shown();
        match answer {
            // What is not there is removed, and has no options.
            Changed::Done | Changed::Unknown => Ok(()),
            Changed::Ended => Err(PublishError::Ended { stream: shown() }),
            Changed::Refused(reason) => Err(PublishError::Refused { stream: shown(), reason: reason.to_string() }),
            Changed::Unavailable { .. } if stream.is_closed() => Err(PublishError::Closed { stream: shown() }),
            Changed::Unavailable { done } => Err(PublishError::Unavailable { stream: shown(), published: done }),
        }
    }
}
