//! The streams of a server by name, and what every part of it shares: settings, shards, counters.
//!
//! Owns: names, their lives, when they are forgotten. Must not know: HTTP, threads. Nothing here is global: a process may
//! run several servers. The map's lock is held for a look-up or an insertion, and no
//! stream's lock is waited for under it; who needs a stream clones its handle out.
//! Invariants: a name leads to one stream that was not removed, or to none; nothing that the directory holds holds it.
//! Streams without a name are held by those who read or hand them out; here they are known only to be told of the closing.
//!
//! # Forgetting, and streams that nobody reads
//! An ended stream answers late readers for `linger`; an open one with `expire` is forgotten that long after its last
//! event or subscriber. A stream tells of its end and of other options by a notice, and of the moment in which its last
//! reader has left, where somebody wants to know; one task of the control thread ([`Directory::tend`]) reads them and
//! sleeps until the next stream is due. Of those that requests made only so many are kept (`made`); what closing waits for
//! is counted in `counted`.
//! This file is long because all of that changes the one map under its one lock.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sse_fast_core::error::OptionError;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{OnLag, Start, StreamOptions, StreamPatch};
use thiserror::Error;
use tokio::sync::Notify;

use crate::clock::{coarse_ms, in_millis, unix_us};
use crate::config::Config;
use crate::delivery::{Delivery, Notice, Patience, Timed};
use crate::durations::Distribution;
use crate::expiry::Expiry;
use crate::logs::Logs;
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::presence::Presence;
use crate::resumable::{Resumable, random_epoch};
use crate::shard::SocketShard;
use crate::stats::{CloseReason, GapReason, Resumed, Stats};
use crate::store::Store;
use crate::stream::{Expired, Kind, Stream, WeakStream};
use crate::waiting::Waiting;

mod by_pattern;
mod copies;
#[cfg(all(test, not(loom)))]
mod copies_tests;
mod counted;
mod made;
mod refused;
mod restored;
mod shared;
mod stalls;
mod wanted;

pub(crate) use self::by_pattern::ByPattern;
pub(crate) use self::copies::LocalCopies;
pub(crate) use self::counted::Counted;
use self::made::Made;
use self::refused::Refusals;
pub(crate) use self::refused::Refused;
use self::shared::SWEEP;
pub(crate) use self::shared::{Looked, Sharing};
use self::wanted::Wanted;

/// The longest name a stream may have, in bytes: it travels in a request line.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// Why a stream could not be had.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The name cannot be one.
    #[error("a stream's name must be 1 to {MAX_NAME_BYTES} bytes without control characters: got {name:?}")]
    Name {
        /// What was given.
        name: String,
    },
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There are as many as may be.
    #[error("cannot make stream {name:?}: there are {limit} streams, and {setting} allows no more")]
    TooMany {
        /// The name of the one that is too many.
        name: String,
        /// How many there may be.
        limit: usize,
        /// Which setting says so.
        setting: &'static str,
    },
    /// Its log is elsewhere, and what keeps it could not be reached in time.
    #[error("cannot open stream {name:?}: the backplane is away")]
    Unavailable {
        /// The stream's name.
        name: String,
        /// `Some(false)`: nothing was put in force, and will not be. `None`: the answer was lost.
        published: Option<bool>,
    },
    /// Its log is elsewhere, and what keeps it refused.
    #[error("cannot open stream {name:?}: the backplane's server refused: {reason}")]
    Refused {
        /// The stream's name.
        name: String,
        /// What the server said.
        reason: String,
    },
    /// The server was closed.
    #[error("cannot open stream {name:?}: the server is closed")]
    Closed {
        /// The stream's name.
        name: String,
    },
    /// The server was closed.
    #[error("cannot make a nameless stream: the server is closed")]
    NamelessClosed,
}

/// See the module.
pub(crate) struct Directory {
    pub(crate) config: Config,
    /// The default options, shared by every stream that is told nothing else.
    defaults: Arc<StreamOptions>,
    /// What streams have by their names.
    by_pattern: ByPattern,
    /// What streams need to reach the shards.
    pub(crate) delivery: Arc<Delivery>,
    shards: Box<[SocketShard]>,
    /// The streams by name. Those that were removed by their handles stay until the notice is read.
    streams: RwLock<HashSet<Named>>,
    /// Streams that no name leads to, by the ids that their readers have.
    pub(crate) resumable: Resumable,
    /// Readers that wait for a name to appear.
    pub(crate) waiting: Waiting,
    /// Names that subscribers wait for.
    wanted: Wanted,
    /// Streams without a name, and those of them that are gone until there are twice as many.
    nameless: Mutex<Vec<WeakStream>>,
    /// Streams that requests made.
    made: Mutex<Made>,
    /// Held while names are taken away from streams that were removed: who needs the room waits for that.
    tidying: Mutex<()>,
    /// When to look whether a stream is to be forgotten.
    expiry: Mutex<Expiry<Stream>>,
    /// When to look whether a stream is stalled.
    silences: Mutex<Expiry<WeakStream>>,
    /// When to look whether somebody is to be told that nobody reads a stream any more.
    empty: Mutex<Expiry<Arc<dyn Timed>>>,
    /// What callbacks are told.
    pub(crate) presence: Presence,
    /// Wakes the task that forgets.
    tending: Arc<Notify>,
    /// The newest epoch given; later lives get greater ones whatever the clock does. Relaxed: it orders nothing else.
    epoch: AtomicU64,
    pub(crate) logs: Logs,
    pub(crate) totals: Totals,
    /// Where the logs of streams with names are elsewhere.
    pub(crate) sharing: Option<Sharing>,
}

/// Counters that belong to no shard. Relaxed: numbers for people.
#[derive(Default)]
pub(crate) struct Totals {
    /// Events of streams that were forgotten.
    pub(crate) forgotten: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    /// What was refused.
    pub(crate) refusals: Refusals,
    /// How often a stream was found stalled.
    pub(crate) stalls: AtomicU64,
    /// Readers that came back and had everything.
    pub(crate) finished: AtomicU64,
    /// Connections that HTTP still has.
    pub(crate) parsing: AtomicUsize,
    /// Handlers that are still to answer requests whose heads went out early, and generators whose readers are there.
    pub(crate) followed: AtomicUsize,
    /// Connections that were let in only to be told that there are too many; `parsing` counts them, too.
    pub(crate) told: AtomicUsize,
    /// Told when the last of any of these has gone.
    pub(crate) answered: Notify,
    /// Connections handed to shards so far; they are dealt out in turn.
    pub(crate) handed_over: AtomicUsize,
}

/// A stream in the map, found by its name.
struct Named(Stream);

impl Borrow<str> for Named {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Named {}

impl Wake for Arc<Notify> {
    fn wake(&self) {
        self.notify_one();
    }
}

impl Directory {
    pub(crate) fn new(
        config: Config,
        by_pattern: ByPattern,
        shards: Box<[SocketShard]>,
        presence: Presence,
        (logs, store): (Logs, Option<Arc<Store>>),
    ) -> Self {
        let tending = Arc::new(Notify::new());
        let notices = Mailbox::new(&Latch::new(Arc::clone(&tending)));
        let doorbells = shards.iter().map(SocketShard::doorbell).collect();
        let mut delivery = Delivery::new(doorbells, notices, Patience::of(config.publish_wait));
        delivery.heartbeat_pace = config.heartbeat_pace;
        delivery.max_event_bytes = config.max_event_bytes;
        let sharing = config.backplane.is_some().then(Sharing::new);
        delivery.backplane = sharing.as_ref().map(Sharing::asks);
        delivery.store = store;
        let delivery = Arc::new(delivery);
        Self {
            defaults: Arc::new(config.stream.clone()),
            config,
            by_pattern,
            delivery,
            shards,
            streams: RwLock::default(),
            resumable: Resumable::new(),
            waiting: Waiting::default(),
            wanted: Wanted::default(),
            nameless: Mutex::default(),
            made: Mutex::default(),
            tidying: Mutex::default(),
            expiry: Mutex::default(),
            silences: Mutex::default(),
            empty: Mutex::default(),
            presence,
            tending,
            epoch: AtomicU64::new(0),
            logs,
            totals: Totals::default(),
            sharing,
        }
    }

    pub(crate) fn shards(&self) -> &[SocketShard] {
        &self.shards
    }

    /// Connections now: HTTP's and the shards'.
    pub(crate) fn connections(&self) -> usize {
        let sockets: u64 = self.shards.iter().map(|shard| shard.counters().sockets.load(Ordering::Relaxed)).sum();
        self.totals.parsing.load(Ordering::Relaxed) + usize::try_from(sockets).unwrap_or(0)
    }

    /// Adds everything up; long because it goes through every number.
    pub(crate) fn stats(&self) -> Stats {
        let streams = self.streams();
        let (totals, waits) = (&self.totals, &self.delivery.waits);
        let waited = self.waited();
        let mut stats = Stats {
            connections: self.connections() as u64,
            accepted: totals.accepted.load(Ordering::Relaxed),
            requests: totals.requests.load(Ordering::Relaxed),
            publish_waits: waited.count(),
            publish_wait_timeouts: waits.gave_up.load(Ordering::Relaxed),
            publish_wait_us: waited.micros,
            publish_socket_wait_us: waits.sockets.load(Ordering::Relaxed),
            presence_missed: self.presence.lost(),
            stalls: totals.stalls.load(Ordering::Relaxed),
            published: totals.forgotten.load(Ordering::Relaxed) + self.delivery.nameless.load(Ordering::Relaxed),
            backplane: self.sharing.as_ref().map(Sharing::stats),
            closed: CloseReason::ALL.map(|reason| (reason.name(), 0)).to_vec(),
            gap_reasons: GapReason::ALL.map(|reason| (reason.name(), 0)).to_vec(),
            resumes: Resumed::ALL.map(|resumed| (resumed.name(), 0)).to_vec(),
            ..Stats::default()
        };
        totals.refusals.tell(&mut stats);
        if let Some(store) = &self.delivery.store {
            (stats.store_bytes, stats.store_syncs, stats.store_refused) = store.numbers();
        }
        for stream in streams.into_iter().chain(self.resumable.all()) {
            let inner = stream.lock();
            stats.streams += 1;
            stats.published += inner.state.newest();
            stats.retained_bytes += inner.state.log().bytes() as u64;
        }
        // Their events are counted as they are published: nobody knows when such a stream is gone.
        for stream in self.held_nameless().into_iter().filter(|stream| !stream.removed()) {
            stats.streams += 1;
            stats.retained_bytes += stream.lock().state.log().bytes() as u64;
        }
        stats.resumes[Resumed::Finished as usize].1 = totals.finished.load(Ordering::Relaxed);
        for counters in self.shards().iter().map(SocketShard::counters) {
            for (total, counter) in [
                (&mut stats.subscribers, &counters.subscribers),
                (&mut stats.delivered, &counters.delivered),
                (&mut stats.bytes, &counters.bytes),
                (&mut stats.writes, &counters.writes),
                (&mut stats.heartbeats, &counters.heartbeats),
                (&mut stats.skipped, &counters.skipped),
                (&mut stats.blocked, &counters.blocked),
            ] {
                *total += counter.load(Ordering::Relaxed);
            }
            for (totals, counters) in [
                (&mut stats.closed, &counters.closed[..]),
                (&mut stats.gap_reasons, &counters.gaps),
                (&mut stats.resumes, &counters.resumed),
            ] {
                for ((_, total), counter) in totals.iter_mut().zip(counters) {
                    *total += counter.load(Ordering::Relaxed);
                }
            }
        }
        stats.gaps = stats.gap_reasons.iter().map(|(_, count)| count).sum();
        stats
    }

    /// How long publishes waited that had to.
    pub(crate) fn waited(&self) -> Distribution {
        Distribution::default().with(&self.delivery.waits.durations)
    }

    /// How long news took to the sockets.
    pub(crate) fn delays(&self) -> Distribution {
        let all = self.shards().iter().map(|shard| &shard.counters().delivery);
        all.fold(Distribution::default(), Distribution::with)
    }

    /// Resolves once HTTP has no connection left.
    pub(crate) async fn requests_answered(&self) {
        loop {
            let answered = self.totals.answered.notified();
            // In this order: a request is followed before it stops being parsed.
            let parsing = self.totals.parsing.load(Ordering::Acquire);
            if parsing == 0 && self.totals.followed.load(Ordering::Acquire) == 0 {
                return;
            }
            answered.await;
        }
    }

    /// A new life's epoch: the time in microseconds, and always greater than the last.
    fn next_epoch(&self) -> Epoch {
        let now = unix_us();
        let previous = self.epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        Epoch(now.max(previous.unwrap_or_else(|last| last) + 1))
    }

    /// Gets or creates a stream; options given are put in force either way.
    pub(crate) fn stream(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        if let Some(sharing) = &self.sharing {
            return self.stream_elsewhere(sharing, name, patch);
        }
        self.get_or_make(name, patch).map(|(stream, _)| stream)
    }

    /// The stream, and whether it is new.
    fn get_or_make(&self, name: &str, patch: &StreamPatch) -> Result<(Stream, bool), StreamError> {
        if let Some(stream) = self.find(name) {
            self.configure(&stream, patch)?;
            return Ok((stream, false));
        }
        check_name(name)?;
        let options = self.options_of(name, patch)?;
        let limit = self.config.max_streams;
        if self.streams.read().len() >= limit {
            // Those that were removed a moment ago are none.
            self.read_notices(&mut Vec::new());
        }
        let mut streams = self.streams.write();
        if self.closed() {
            return Err(StreamError::Closed { name: name.to_owned() });
        }
        if let Some(stream) = streams.get(name).map(|named| named.0.clone()).filter(|stream| !stream.removed()) {
            // Made by another thread since the look above.
            drop(streams);
            self.configure(&stream, patch)?;
            return Ok((stream, false));
        }
        // One that was removed and is still there is replaced.
        if streams.len() >= limit && !streams.contains(name) {
            return Err(StreamError::TooMany { name: name.to_owned(), limit, setting: "max_streams" });
        }
        let is_timed = options.expire.is_some() || options.stall_after.is_some();
        let stream = Stream::new(name, self.next_epoch(), &self.delivery, options);
        stream.keep_new(patch);
        let former = streams.replace(Named(stream.clone()));
        drop(streams);
        if let Some(former) = former {
            self.count_forgotten(&former.0);
            self.expiry.lock().schedule(&former.0, former.0.life(), None);
        }
        if is_timed {
            self.schedule(&stream);
        }
        self.announce_made(&stream);
        Ok((stream, true))
    }

    /// Those who wait for the stream's name are told that there is one.
    fn announce_made(&self, stream: &Stream) {
        self.waiting.appeared(stream.name());
        // Who reads several streams is not told of a private one, nor that it was made.
        if !stream.lock().state.options().private {
            self.no_longer_wanted(stream.name());
        }
    }

    /// Puts options in force; to who waits for the name a stream that is private no more is as one just made.
    fn configure(&self, stream: &Stream, patch: &StreamPatch) -> Result<(), OptionError> {
        stream.configure(patch)?;
        if patch.private == Some(false) {
            self.waiting.appeared(stream.name());
            self.no_longer_wanted(stream.name());
        }
        Ok(())
    }

    /// A stream that stands for one of this name that is not known yet, or is not to be made.
    pub(crate) fn stand_in(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        let options = self.options_of(name, patch)?;
        Ok(Stream::of_kind(Kind::StandIn, name, self.next_epoch(), &self.delivery, options))
    }

    /// A stream without a name, which only a handler can hand out; it is gone once nobody holds it and nobody reads it.
    pub(crate) fn nameless(&self, patch: &StreamPatch) -> Result<Stream, StreamError> {
        let options = self.options(patch)?;
        let mut nameless = self.nameless.lock();
        // Under the lock, as below: a closing that comes later finds the stream in the list.
        if self.closed() {
            return Err(StreamError::NamelessClosed);
        }
        let stream = Stream::of_kind(Kind::Nameless, "", self.next_epoch(), &self.delivery, options);
        if nameless.len() == nameless.capacity() {
            nameless.retain(WeakStream::is_held);
            // So that it is gone through after as many have come as were left.
            let room = nameless.len().max(16);
            nameless.shrink_to(2 * room);
            nameless.reserve_exact(room);
        }
        nameless.push(stream.downgrade());
        drop(nameless);
        self.listen_for_silence(&stream);
        Ok(stream)
    }

    /// A stream that the generator of the handler with this key fills; only who has one of its ids comes back to it. It has
    /// one reader, for whom alone its publisher waits.
    pub(crate) fn generated(&self, name: &str, handler: u64, patch: &StreamPatch) -> Result<Stream, StreamError> {
        let own =
            StreamPatch { start: Some(Start::All), on_lag: Some(OnLag::Skip), lossless: Some(true), ..patch.clone() };
        let options = self.options(&own)?;
        let epoch = random_epoch();
        let life = epoch.unwrap_or_else(|| self.next_epoch());
        let stream = Stream::of_kind(Kind::Generated, name, life, &self.delivery, options);
        if epoch.is_some() && !self.closed() {
            self.resumable.add(&stream, handler);
        }
        self.listen_for_silence(&stream);
        Ok(stream)
    }

    /// The stream of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Stream> {
        let stream = self.streams.read().get(name).map(|named| named.0.clone());
        stream.filter(|stream| !stream.removed())
    }

    /// How many events the stream of this name keeps, or would once it is made, with these options.
    pub(crate) fn history_of(&self, name: &str, patch: &StreamPatch) -> Result<usize, StreamError> {
        let Some(stream) = self.find(name) else { return Ok(self.options_of(name, patch)?.history) };
        let options = Arc::clone(stream.lock().state.options());
        Ok(if *patch == StreamPatch::default() { options.history } else { options.patched(patch)?.history })
    }

    /// The stream of this name, where it is one that `/streams/` leads to.
    pub(crate) fn find_public(&self, name: &str) -> Option<Stream> {
        self.find(name).filter(|stream| !stream.lock().state.options().private)
    }

    /// Every stream, in no order.
    pub(crate) fn streams(&self) -> Vec<Stream> {
        let streams: Vec<_> = self.streams.read().iter().map(|named| named.0.clone()).collect();
        streams.into_iter().filter(|stream| !stream.removed()).collect()
    }

    /// Every stream without a name that somebody holds.
    fn held_nameless(&self) -> Vec<Stream> {
        self.nameless.lock().iter().filter_map(WeakStream::upgrade).collect()
    }

    pub(crate) fn closed(&self) -> bool {
        self.delivery.is_closed()
    }

    /// Ends publishing and wakes who waits.
    pub(crate) fn close(&self) {
        self.delivery.close();
        for stream in self.streams().into_iter().chain(self.held_nameless()).chain(self.resumable.all()) {
            stream.wake_all();
        }
        self.waiting.close();
    }

    /// Forgets every stream: nothing of the server is left but what the application holds. Called once nobody tends it any
    /// more: who is to be told that a stream is empty may have to be told of the last readers yet.
    pub(crate) fn clear(&self) {
        self.read_notices(&mut Vec::new());
        self.tell_empty(coarse_ms());
        self.delivery.notices.close();
        self.streams.write().clear();
        self.resumable.clear();
        self.nameless.lock().clear();
        self.made.lock().clear();
        self.expiry.lock().clear();
        self.silences.lock().clear();
        self.empty.lock().clear();
        self.presence.close();
    }

    /// Reads notices and forgets what is due, until it is dropped.
    pub(crate) async fn tend(self: Arc<Self>) {
        let (mut notices, mut swept) = (Vec::new(), coarse_ms());
        loop {
            self.delivery.notices.latch().clear();
            self.read_notices(&mut notices);
            self.forget_due(coarse_ms());
            self.tell_empty(coarse_ms());
            self.tell_stalled(coarse_ms());
            if self.sharing.is_some() && coarse_ms() >= swept + in_millis(SWEEP) {
                swept = coarse_ms();
                self.sweep_copies();
            }
            let due = [self.expiry.lock().next(), self.empty.lock().next(), self.silences.lock().next()];
            let next = due.into_iter().flatten().min().map(|at| at.saturating_sub(coarse_ms()));
            // The coarse clock is some milliseconds behind.
            let longest = if self.sharing.is_some() { SWEEP } else { Duration::from_secs(3600) };
            let pause = next.map_or(longest, |wait| Duration::from_millis(wait + 5).min(longest));
            let _ = tokio::time::timeout(pause, self.tending.notified()).await;
        }
    }

    /// Reads what streams have told of themselves; `notices` is empty, before and after.
    fn read_notices(&self, notices: &mut Vec<Notice>) {
        let _tidying = self.tidying.lock();
        self.delivery.notices.take(notices);
        for notice in notices.drain(..) {
            self.read(notice);
        }
    }

    fn read(&self, notice: Notice) {
        match notice {
            Notice::Life { name, epoch } => {
                let found = self.streams.read().get(name.as_str()).map(|named| named.0.clone());
                let found = found.filter(|stream| stream.life() == epoch);
                match found.or_else(|| self.resumable.of(epoch)) {
                    Some(stream) if stream.removed() => self.forget(&stream),
                    Some(stream) => {
                        self.keep_if_ended(&stream);
                        self.schedule(&stream);
                    }
                    None => {}
                }
            }
            Notice::Look { epoch, timed } => self.empty.lock().schedule(&timed, epoch, Some(0)),
            Notice::Present { name } => {
                if let Some(stream) = self.find(&name) {
                    self.tell_present(&stream);
                }
            }
            Notice::Gone { keys } => keys.into_iter().for_each(|key| self.presence.forgotten(key)),
        }
    }

    /// Looks at the streams of which somebody may have to be told that nobody reads them.
    fn tell_empty(&self, now: u64) {
        loop {
            let due = self.empty.lock().take_due(now);
            let Some((epoch, timed)) = due else { return };
            let due = Arc::clone(&timed).look(now);
            debug_assert!(due.again.is_none_or(|again| again > now), "it is looked at again later");
            if due.again.is_some() {
                self.empty.lock().schedule(&timed, epoch, due.again);
            }
            due.keys.into_iter().for_each(|(key, is_last)| self.presence.empty(key, is_last));
            due.forgotten.into_iter().for_each(|key| self.presence.forgotten(key));
        }
    }

    /// One that readers may come back to has ended: of those no more are kept than may be.
    fn keep_if_ended(&self, stream: &Stream) {
        if stream.ended() {
            let retained = stream.lock().state.log().bytes();
            for other in self.resumable.ended(stream.life(), retained) {
                self.count_forgotten(&other);
                self.expiry.lock().schedule(&other, other.life(), None);
            }
        }
    }

    /// Tells when to look at a stream next, if ever.
    fn schedule(&self, stream: &Stream) {
        if !stream.is_copy() {
            let at = stream.lifetime().map(|wait| stream.touched().saturating_add(in_millis(wait)));
            self.expiry.lock().schedule(stream, stream.life(), at);
        }
        self.listen_for_silence(stream);
        self.tending.notify_one();
    }

    /// Forgets the streams that are due; those in use are looked at again later.
    fn forget_due(&self, now: u64) {
        let _tidying = self.tidying.lock();
        loop {
            let due = self.expiry.lock().take_due(now);
            let Some((_, stream)) = due else { return };
            match stream.expire(now) {
                Expired::Removed => self.forget(&stream),
                Expired::Later(at) => self.expiry.lock().schedule(&stream, stream.life(), Some(at)),
                Expired::Never => {}
            }
        }
    }

    /// Takes the name away from a stream that was removed.
    fn forget(&self, stream: &Stream) {
        let mut streams = self.streams.write();
        if streams.get(stream.name()).is_some_and(|named| named.0.same(stream)) {
            streams.remove(stream.name());
            drop(streams);
            self.count_forgotten(stream);
        } else {
            drop(streams);
            if self.resumable.forget(stream.life()) {
                self.count_forgotten(stream);
            }
        }
        self.expiry.lock().schedule(stream, stream.life(), None);
    }

    fn count_forgotten(&self, stream: &Stream) {
        let published = stream.lock().state.newest();
        self.totals.forgotten.fetch_add(published, Ordering::Relaxed);
    }

    /// The options of a stream of this name that is told these.
    fn options_of(&self, name: &str, patch: &StreamPatch) -> Result<Arc<StreamOptions>, OptionError> {
        match self.by_pattern.of(name, &self.defaults)? {
            Some(options) if *patch == StreamPatch::default() => Ok(options),
            Some(options) => options.patched(patch).map(Arc::new),
            None => self.options(patch),
        }
    }

    fn options(&self, patch: &StreamPatch) -> Result<Arc<StreamOptions>, OptionError> {
        if *patch == StreamPatch::default() {
            return Ok(Arc::clone(&self.defaults));
        }
        self.defaults.patched(patch).map(Arc::new)
    }
}

/// Whether a name may be a stream's.
pub(crate) fn check_name(name: &str) -> Result<(), StreamError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(StreamError::Name { name: name.chars().take(80).collect() });
    }
    Ok(())
}
