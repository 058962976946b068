//! Streams whose logs are elsewhere: opening them here, and what the backplane tells of them.
//!
//! Owns: which names have a copy here, when a copy is let go of, and whether the backplane is away. Must not know: what carries
//! asks and answers (`crate::backplane`), requests. Invariants: nothing is said of a name before its stream was looked for
//! elsewhere, unless the backplane is away and a copy is here. A copy is let go of where nobody here has read or held it for a
//! while: first here, then elsewhere, so that who finds none asks after that.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sse_fast_core::error::OptionError;
use sse_fast_core::options::{StreamOptions, StreamPatch};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::{Directory, StreamError, check_name};
use crate::backplane::{Answer, Ask, Asks, Counts, Make, Name, Opened, SharedOptions, SharedPatch};
use crate::clock::{coarse_ms, in_micros};
use crate::stats::BackplaneStats;
use crate::stream::{PublishError, Stream};

/// How often copies are looked through for those that nobody uses.
pub(super) const SWEEP: Duration = Duration::from_secs(10);

/// For how long nobody must have used a copy that is let go of, in milliseconds: a reader that comes back finds it.
const UNUSED_FOR: u64 = 60_000;

/// How often a stream is opened that is removed as often: by somebody who does nothing else.
const TRIES: usize = 64;

/// The backplane's thread has ended.
const NOBODY_ANSWERED: Opened = Opened::Unavailable { done: None };

/// A copy's holders where nobody uses it: the map, and who looks.
const HOLDERS: usize = 2;

/// What a directory has whose streams' logs are elsewhere.
pub(crate) struct Sharing {
    asks: Asks,
    /// The other end, until the backplane's thread takes it.
    received: Mutex<Option<UnboundedReceiver<Ask>>>,
    /// Whether the backplane is away. Relaxed: it orders nothing else.
    pub(super) away: AtomicBool,
    /// What the backplane's thread counts; set once it runs.
    counts: OnceLock<Arc<Mutex<Counts>>>,
    /// Names that are waited for by subscribers of several streams.
    waited_for: Mutex<HashSet<Name>>,
}

/// What looking for a name elsewhere came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// What is here is all there is to know, be it a copy or nothing.
    Done,
    /// Nobody can say now whether there is such a stream.
    Away,
}

impl Sharing {
    pub(super) fn new() -> Self {
        let (asks, received) = Asks::new();
        Self {
            asks,
            received: Mutex::new(Some(received)),
            away: AtomicBool::new(true),
            counts: OnceLock::new(),
            waited_for: Mutex::default(),
        }
    }

    pub(crate) fn asks(&self) -> Asks {
        self.asks.clone()
    }

    /// What was asked, for the one that answers.
    pub(crate) fn take_received(&self) -> Option<UnboundedReceiver<Ask>> {
        self.received.lock().take()
    }

    /// The thread that runs counts here.
    pub(crate) fn counted_by(&self, counts: Arc<Mutex<Counts>>) {
        // It is started once.
        let _ = self.counts.set(counts);
    }

    /// What it has counted.
    pub(super) fn stats(&self) -> BackplaneStats {
        let counts = self.counts.get().map(|counts| counts.lock().clone()).unwrap_or_default();
        let Counts { up, requests, round_trip, reconnects, fills, lost_tails, pushed } = counts;
        let round_trip_us = in_micros(round_trip);
        BackplaneStats { up: up && !self.is_away(), requests, round_trip_us, reconnects, fills, lost_tails, pushed }
    }

    /// Whether the backplane is away.
    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    pub(crate) fn ask(&self, ask: Ask) {
        self.asks.ask(ask);
    }

    /// Every process is told that a reader was disconnected; nobody waits for that.
    pub(crate) fn disconnect(&self, reader: &Arc<str>, before: u64, keep: Duration) {
        let answer = Answer::new(drop);
        self.asks.ask(Ask::Disconnect { reader: Arc::clone(reader), before, keep, answer });
    }

    fn open(&self, name: &str, make: Option<Make>, wait: bool) -> oneshot::Receiver<Opened> {
        let (sender, opened) = oneshot::channel();
        let name: Name = name.into();
        // Who asked may have gone.
        let answer = Answer::new(move |answer| drop(sender.send(answer)));
        self.asks.ask(Ask::Open { name, make, wait, answer });
        opened
    }

    /// Reads the stream of this name as far as it has come; with `wait` it begins here as soon as any process makes it.
    async fn look(&self, name: &str, wait: bool) -> Looked {
        if self.is_away() {
            return Looked::Away;
        }
        match self.open(name, None, wait).await {
            Ok(Opened::Open { .. } | Opened::Unknown) => Looked::Done,
            Ok(Opened::Refused(_) | Opened::Unavailable { .. }) | Err(_) => Looked::Away,
        }
    }
}

impl Directory {
    /// Looks for the name elsewhere, unless a copy is here; with `wait` the copy begins as soon as any process makes it.
    pub(crate) async fn look_elsewhere(&self, name: &str, wait: bool) -> Looked {
        let Some(sharing) = &self.sharing else { return Looked::Done };
        if self.find(name).is_some() { Looked::Done } else { sharing.look(name, wait).await }
    }

    /// Has a copy that may be behind come as far as its log is now.
    pub(crate) async fn catch_up_elsewhere(&self, name: &str) -> Looked {
        match &self.sharing {
            Some(sharing) => sharing.look(name, false).await,
            None => Looked::Done,
        }
    }

    /// The same as [`Directory::stream`], for a task.
    pub(crate) async fn stream_for_task(&self, name: &str, patch: &StreamPatch) -> Result<Stream, StreamError> {
        let Some(sharing) = &self.sharing else { return self.stream(name, patch) };
        if let Some(stream) = self.find(name) {
            self.configure_elsewhere_for_task(&stream, patch).await?;
            return Ok(stream);
        }
        let (make, own) = self.make_of(name, patch)?;
        for _ in 0..TRIES {
            let opened = sharing.open(name, Some(make), false).await.unwrap_or(NOBODY_ANSWERED);
            if let Some(stream) = self.opened(name, opened, &own)? {
                return Ok(stream);
            }
        }
        Err(StreamError::Unavailable { name: name.to_owned(), published: None })
    }

    /// Gets or creates a stream whose log is elsewhere; blocks until that is answered.
    pub(super) fn stream_elsewhere(
        &self,
        sharing: &Sharing,
        name: &str,
        patch: &StreamPatch,
    ) -> Result<Stream, StreamError> {
        if let Some(stream) = self.find(name) {
            self.configure_elsewhere(&stream, patch)?;
            return Ok(stream);
        }
        let (make, own) = self.make_of(name, patch)?;
        for _ in 0..TRIES {
            let opened = sharing.open(name, Some(make), false).blocking_recv().unwrap_or(NOBODY_ANSWERED);
            if let Some(stream) = self.opened(name, opened, &own)? {
                return Ok(stream);
            }
        }
        Err(StreamError::Unavailable { name: name.to_owned(), published: None })
    }

    /// The stream of this name, wherever its log is; blocks until that is known.
    pub(crate) fn find_anywhere(&self, name: &str) -> Result<Option<Stream>, StreamError> {
        let (found, Some(sharing)) = (self.find(name), &self.sharing) else { return Ok(self.find(name)) };
        if found.is_some() || check_name(name).is_err() {
            return Ok(found);
        }
        match sharing.open(name, None, false).blocking_recv().unwrap_or(NOBODY_ANSWERED) {
            Opened::Open { .. } | Opened::Unknown => Ok(self.find(name)),
            Opened::Refused(reason) => Err(StreamError::Refused { name: name.to_owned(), reason: reason.to_string() }),
            Opened::Unavailable { .. } => {
                Err(StreamError::Unavailable { name: name.to_owned(), published: Some(false) })
            }
        }
    }

    /// What a stream of this name is made with, and which of its options are this process's own.
    fn make_of(&self, name: &str, patch: &StreamPatch) -> Result<(Make, StreamPatch), StreamError> {
        check_name(name)?;
        if self.closed() {
            return Err(StreamError::Closed { name: name.to_owned() });
        }
        let options = self.options_of(name, patch)?;
        let limit = self.config.max_streams;
        if self.streams.read().len() >= limit && self.find(name).is_none() {
            return Err(StreamError::TooMany { name: name.to_owned(), limit, setting: "max_streams" });
        }
        Ok((Make { options: SharedOptions::of(&options), given: SharedPatch::of(patch) }, own(patch)))
    }

    /// What came of opening; none where it was removed in this very moment.
    fn opened(&self, name: &str, opened: Opened, own: &StreamPatch) -> Result<Option<Stream>, StreamError> {
        let name = name.to_owned();
        match opened {
            Opened::Open { .. } => match self.find(&name) {
                Some(stream) => {
                    stream.give_own_options(&self.options_by_name(&name)?, own);
                    Ok(Some(stream))
                }
                None if self.closed() => Err(StreamError::Closed { name }),
                None => Ok(None),
            },
            Opened::Refused(reason) => Err(StreamError::Refused { name, reason: reason.to_string() }),
            Opened::Unknown | Opened::Unavailable { .. } if self.closed() => Err(StreamError::Closed { name }),
            Opened::Unknown => Err(StreamError::Unavailable { name, published: Some(false) }),
            Opened::Unavailable { done } => Err(StreamError::Unavailable { name, published: done }),
        }
    }

    /// Puts options in force: those that live with the log everywhere, the others here.
    pub(crate) fn configure_elsewhere(&self, stream: &Stream, patch: &StreamPatch) -> Result<(), StreamError> {
        if *patch == StreamPatch::default() {
            return Ok(());
        }
        stream.check_options(patch)?;
        self.configured(stream, patch, stream.configure_everywhere(patch))
    }

    /// The same, for a task.
    async fn configure_elsewhere_for_task(&self, stream: &Stream, patch: &StreamPatch) -> Result<(), StreamError> {
        if *patch == StreamPatch::default() {
            return Ok(());
        }
        stream.check_options(patch)?;
        self.configured(stream, patch, stream.configure_everywhere_for_task(patch).await)
    }

    /// Those that live with the log were put in force, or not; the others are now.
    fn configured(
        &self,
        stream: &Stream,
        patch: &StreamPatch,
        everywhere: Result<(), PublishError>,
    ) -> Result<(), StreamError> {
        let name = || stream.name().to_owned();
        everywhere.map_err(|error| match error {
            PublishError::Closed { .. } => StreamError::Closed { name: name() },
            PublishError::Refused { reason, .. } => StreamError::Refused { name: name(), reason },
            PublishError::Unavailable { published, .. } => StreamError::Unavailable { name: name(), published },
            _ => StreamError::Unavailable { name: name(), published: None },
        })?;
        stream.give_own_options(&self.options_by_name(stream.name())?, &own(patch));
        Ok(())
    }

    /// What a stream of this name has in this process where nothing else is said.
    pub(super) fn options_by_name(&self, name: &str) -> Result<Arc<StreamOptions>, OptionError> {
        self.options_of(name, &StreamPatch::default())
    }

    /// A name is waited for, for as long as something stands in for it.
    pub(super) fn want_elsewhere(&self, name: &str) {
        if let Some(sharing) = &self.sharing
            && sharing.waited_for.lock().insert(name.into())
        {
            drop(sharing.open(name, None, true));
        }
    }

    /// Nobody waits for a name any more that may not have been made.
    pub(crate) fn stop_waiting_elsewhere(&self, name: &str) {
        if let Some(sharing) = &self.sharing
            && self.find(name).is_none()
        {
            sharing.ask(Ask::Release { name: name.into() });
        }
    }

    /// Lets go of copies that nobody uses.
    pub(super) fn sweep_copies(&self) {
        let Some(sharing) = &self.sharing else { return };
        let now = coarse_ms();
        for stream in self.streams() {
            if now.saturating_sub(stream.touched()) >= UNUSED_FOR && !stream.is_used(HOLDERS) {
                self.let_go(sharing, &stream);
            }
        }
        let waited_for: Vec<_> = sharing.waited_for.lock().iter().cloned().collect();
        for name in waited_for.into_iter().filter(|name| !self.is_wanted(name)) {
            sharing.waited_for.lock().remove(&name);
            self.stop_waiting_elsewhere(&name);
        }
    }

    pub(super) fn let_go(&self, sharing: &Sharing, stream: &Stream) {
        let mut streams = self.streams.write();
        let is_there = streams.get(stream.name()).is_some_and(|named| named.0.same(stream));
        if !is_there || stream.is_used(HOLDERS) {
            return;
        }
        streams.remove(stream.name());
        // Before anybody finds that it is not here: who does opens it anew.
        sharing.ask(Ask::Release { name: stream.name().into() });
        drop(streams);
        self.count_forgotten(stream);
        stream.remove();
    }

    /// Says how many read a copy here.
    pub(super) fn tell_present(&self, stream: &Stream) {
        if let Some(sharing) = self.sharing.as_ref().filter(|_| stream.is_copy()) {
            // Before they are read: a reader that comes from here on is told of again.
            stream.presence_is_told();
            let readers = stream.readers_here().into_iter().map(|(reader, count)| (reader, count as u64)).collect();
            sharing.ask(Ask::Present { name: stream.name().into(), readers });
        }
    }
}

/// The options of a patch that do not live with the log.
fn own(patch: &StreamPatch) -> StreamPatch {
    StreamPatch {
        history: None,
        history_bytes: None,
        start: None,
        ids: None,
        linger: None,
        expire: None,
        private: None,
        ..patch.clone()
    }
}
