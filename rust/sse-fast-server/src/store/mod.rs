//! The store: a folder in which one server keeps its streams across restarts.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the folder while a server has it: opening, keeping, closing |
//! | `thread` | telling the disk to keep what was written, and who waits for that |
//! | `journal` | where records go, and which of them still count |
//! | `compaction` | giving back what is no longer needed |
//! | `recovery` | from the bytes of segments to the streams that were kept |
//! | `folder` | reading a folder's segments |
//! | `segment` | the files |
//! | `format` | the bytes |
//! | `life` | what is kept of a stream besides its events |
//! | `key` | what is kept of a key that something was published under |
//! | `lock` | whose the folder is, and how the server before has ended |
//! | `error` | what can be wrong |
//!
//! Must not know: streams, subscribers, HTTP. Who waits for the disk is behind [`Waits`].
//! Invariants: what [`Store::keep`] accepted outlives the process once it has returned (`Durable::Process`), or the machine
//! once its [`Waits`] was told (`Durable::Disk`); what it refused is not in the folder. Batches of a stream are kept in the
//! order in which they were given. The lock on the journal is held for one write at most, never while the disk is waited for.

mod compaction;
mod error;
mod folder;
mod format;
mod journal;
mod key;
mod life;
mod lock;
mod recovery;
mod segment;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

pub use self::error::{OpenError, StoreError};
use self::folder::Known;
pub use self::folder::{Export, read as read_folder};
pub(crate) use self::format::{END, Gone, Kind, OWN_ID, WITH_NEXT};
pub use self::journal::Durable;
pub(crate) use self::journal::{Batch, Needs, Record};
use self::journal::{Beginning, Journal};
pub(crate) use self::key::{KEPT_MS, KeptIds, KeptKey, MOST_KEYS};
pub(crate) use self::life::{KeptOptions, Life};
use self::lock::{Before, Lock, Session};
pub(crate) use self::recovery::KeptStream;
use self::recovery::Recovered;
use self::thread::StoreThread;
use crate::clock::unix_ms;
use crate::durations::{Distribution, Durations};
use crate::logs::{Level, Logs};

/// What damage costs readers.
const LOST: &str =
    "what was there is lost: a gap to readers that lack it, and a new life where it may be a stream's newest";

/// Who waits until what it gave to the store is on the disk.
pub(crate) trait Waits: Send + Sync {
    /// Everything up to this batch is; says whether it waits for a later one.
    fn kept(self: Arc<Self>, up_to: u64) -> bool;

    /// Nothing that it waits for was kept, nor will be.
    fn refused(self: Arc<Self>, error: &StoreError);
}

/// See the module.
pub(crate) struct Store {
    shared: Arc<Shared>,
    thread: Mutex<Option<StoreThread>>,
}

struct Shared {
    folder: PathBuf,
    /// The folder as errors and logs name it.
    shown: String,
    durable: Durable,
    state: Mutex<State>,
    /// Wakes the store's thread.
    wake: Condvar,
    /// Told when the thread has written.
    landed: Condvar,
    /// Whether the last attempt to write succeeded. Relaxed: for who asks whether the server is ready.
    writable: AtomicBool,
    counted: Counted,
    logs: Logs,
    /// Whose the folder is; until the store is closed.
    lock: Mutex<Option<Lock>>,
}

/// What the store's lock protects.
#[allow(clippy::struct_excessive_bools, reason = "five facts, each true or not whatever the others are")]
struct State {
    journal: Journal,
    /// Who is to be told, each once.
    waiting: Vec<Arc<dyn Waits>>,
    /// While those are told that a write has failed nothing is taken.
    failing: Option<StoreError>,
    /// How large the batch was for which there was no room.
    refused: u64,
    /// The disk failed to keep what it had taken: nothing is taken any more.
    broken: Option<StoreError>,
    /// A segment was begun: there may be one to give back.
    rolled: bool,
    closed: bool,
    /// Whether the thread is writing, without the lock.
    in_flight: bool,
    /// Whether it is setting a place aside for the next segment, likewise.
    is_making_spare: bool,
    /// Whether it was said that there is none, and when.
    has_said_no_spare: bool,
    said_no_spare: Option<Instant>,
    /// Who waited for a batch up to this one was told.
    told: u64,
}

/// Numbers for people. Relaxed.
#[derive(Default)]
pub(crate) struct Counted {
    /// How often the disk was told to keep what was written.
    pub(crate) syncs: Durations,
    /// Batches that were refused.
    pub(crate) refused: AtomicU64,
}

/// A batch that was accepted: the number that its [`Waits`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Accepted(pub(crate) u64);

/// A store that was opened, and what was in it.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) streams: Vec<KeptStream>,
    /// The oldest first, each once.
    pub(crate) keys: Vec<KeptKey>,
    /// Epochs to come must be greater.
    pub(crate) epoch: u64,
}

impl Store {
    /// Takes the folder, which is made where there is none, and reads it. Long because each step has its own refusal.
    pub(crate) fn open(folder: &Path, durable: Durable, logs: &Logs) -> Result<Opened, OpenError> {
        let shown = folder.display().to_string();
        let shown_error = |attempt| {
            let shown = shown.clone();
            move |error| OpenError::of(&shown, attempt, error)
        };
        std::fs::create_dir_all(folder).map_err(shown_error("making it"))?;
        let mut in_the_way = folder::make_way_for(folder, &shown, &lock::BEFORE)?;
        let lock = Lock::take(folder, &shown)?;
        let (before, boot) = (Session::read(folder).map_err(shown_error("reading it"))?, lock::boot());
        in_the_way.extend(folder::make_way_for(folder, &shown, &lock::OWN)?);
        in_the_way.extend(folder::make_way_for(folder, &shown, &segment::TO_BE)?);
        let read = folder::recover(folder, &shown, Known::of(&before, &boot))?;
        // What the machine's end may have taken was with readers already, unless nobody was given what was not on the disk.
        let mut recovered = read.recovered;
        let is_unclean = match &before {
            Before::Known(before) => {
                before.closed.is_none() && !before.disk && (before.boot != boot || boot.is_empty())
            }
            Before::Unused | Before::Unreadable => !recovered.streams.is_empty(),
        };
        if is_unclean && !matches!(before, Before::Known(_)) {
            in_the_way.push(lock::UNKNOWN.to_owned());
        }
        if is_unclean {
            recovered.streams.iter_mut().filter(|stream| !stream.ended).for_each(|stream| stream.is_cut = true);
        }
        let lost = recovered.damage.iter().map(|text| format!("{text}; {LOST}"));
        for text in in_the_way.into_iter().chain(lost) {
            logs.put(Level::Warning, "sse_fast.store", format!("the store {shown:?} is damaged: {text}"));
        }
        let oldest = read.complete.first().map(|oldest| oldest.number);
        let beginning = Beginning {
            inode: lock.inode().map_err(shown_error("opening its lock"))?,
            complete: read.complete,
            number: recovered.number,
            epoch: recovered.epoch,
            twice: std::mem::take(&mut recovered.twice),
            renewed: std::mem::take(&mut recovered.renewed),
        };
        let mut journal =
            Journal::begin(folder, &shown, durable, beginning).map_err(shown_error("making a segment"))?;
        segment::sync_folder(folder).map_err(shown_error("making a segment"))?;
        for stream in recovered.streams.iter().filter(|stream| !stream.is_cut) {
            let bytes = stream.events.iter().map(|event| event.frame.len() as u64).sum();
            let needs = Needs { first: stream.first, events: stream.events.len() as u64, bytes };
            let life = (stream.life.to_bytes(), stream.life_at);
            journal.adopt(stream.number, needs, life, stream.snapshot_at);
        }
        recovered.keys.iter().for_each(|key| journal.adopt_key(key.time));
        let (begun, _) = journal.end();
        let oldest = oldest.unwrap_or(begun);
        let session = Session { boot, disk: durable == Durable::Disk, closed: None, oldest, begun };
        session.write(folder).map_err(shown_error("writing to it"))?;
        let state = State {
            journal,
            waiting: Vec::new(),
            failing: None,
            refused: 0,
            broken: None,
            rolled: true,
            closed: false,
            in_flight: false,
            is_making_spare: false,
            has_said_no_spare: false,
            said_no_spare: None,
            told: 0,
        };
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            shown: shown.clone(),
            durable,
            state: Mutex::new(state),
            wake: Condvar::new(),
            landed: Condvar::new(),
            writable: AtomicBool::new(true),
            counted: Counted::default(),
            logs: logs.clone(),
            lock: Mutex::new(Some(lock)),
        });
        let thread = StoreThread::start(&shared, session).map_err(shown_error("starting its thread"))?;
        let store = Self { shared, thread: Mutex::new(Some(thread)) };
        let Recovered { streams, keys, epoch, .. } = recovered;
        Ok(Opened { store, streams, keys, epoch })
    }

    pub(crate) fn durable(&self) -> Durable {
        self.shared.durable
    }

    /// A number for a new life of a stream.
    pub(crate) fn number(&self, epoch: u64) -> u32 {
        self.shared.state.lock().journal.number(epoch)
    }

    /// Keeps a batch; `waits` is told once the disk has it, where somebody waits for that.
    pub(crate) fn keep(&self, batch: &Batch<'_>, waits: Option<Arc<dyn Waits>>) -> Result<Accepted, StoreError> {
        let mut state = self.shared.state.lock();
        while (state.in_flight || state.is_making_spare) && !state.journal.has_room(batch) {
            // A segment is begun only once the one before it is written, and what is being set aside for it is there: there
            // may be room for one of both alone.
            self.shared.landed.wait(&mut state);
        }
        let accepted = state.keep(&self.shared, batch, waits);
        drop(state);
        if accepted.is_ok() && self.durable() == Durable::Disk {
            self.shared.wake.notify_one();
        }
        accepted
    }

    /// The same, where that needs no wait and no new file; else `None`.
    pub(crate) fn try_keep(&self, batch: &Batch<'_>) -> Option<Result<Accepted, StoreError>> {
        let mut state = self.shared.state.try_lock()?;
        state.journal.is_quick(batch).then(|| state.keep(&self.shared, batch, None))
    }

    /// A stream that needs less, or more, than before.
    pub(crate) fn needs(&self, stream: u32, needs: Needs) {
        self.shared.state.lock().journal.needs(stream, needs);
    }

    /// Keys that the segments hold already count for this life of their stream from now on.
    pub(crate) fn move_keys(&self, stream: u32, keys: &[KeptKey]) {
        let mut state = self.shared.state.lock();
        for KeptKey { digests, ids, position, time, .. } in keys {
            let body = [&digests[..], &ids.to_bytes()].concat();
            let (kind, flags, length) = (Kind::Key, 0, body.len());
            let head = format::Head { kind, flags, stream, position: *position, time: *time, length };
            // The store says in the log why not. They count for the former life then, whose ids they have.
            if state.journal.copy(&head, &body).is_err() {
                return;
            }
        }
    }

    /// The stream is no more.
    pub(crate) fn remove(&self, stream: u32) {
        self.shared.state.lock().journal.remove(stream, unix_ms());
        self.shared.wake.notify_one();
    }

    /// Streams that were not restored as they were: what is left of them goes.
    pub(crate) fn remove_former(&self, streams: &[(u32, Gone)]) {
        let mut state = self.shared.state.lock();
        state.journal.removals.extend_from_slice(streams);
        state.journal.write_removals(unix_ms());
    }

    /// Whether events can be kept now, as far as is known.
    pub(crate) fn is_writable(&self) -> bool {
        self.shared.writable.load(Ordering::Relaxed)
    }

    /// The bytes of its segments that are in use; how often the disk was told to keep what was written; refusals.
    pub(crate) fn numbers(&self) -> (u64, u64, u64) {
        let counted = self.counted();
        let syncs = Distribution::default().with(&counted.syncs).count();
        (self.shared.state.lock().journal.used(), syncs, counted.refused.load(Ordering::Relaxed))
    }

    pub(crate) fn counted(&self) -> &Counted {
        &self.shared.counted
    }

    /// Waits until who waits for what was accepted so far was told.
    pub(crate) fn flush(&self) {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let until = state.journal.sequence;
        while shared.durable == Durable::Disk && state.told < until && !state.closed {
            shared.wake.notify_one();
            shared.landed.wait(&mut state);
        }
    }

    /// Keeps what is queued, has the disk keep everything, and says that the server was closed. Nothing is taken any more.
    pub(crate) fn close(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.end(&self.shared);
        }
    }
}

impl State {
    fn keep(
        &mut self,
        shared: &Shared,
        batch: &Batch<'_>,
        waits: Option<Arc<dyn Waits>>,
    ) -> Result<Accepted, StoreError> {
        let journal = &mut self.journal;
        let refusal = self.broken.as_ref().or(journal.misplaced.as_ref()).or(self.failing.as_ref()).cloned();
        let before = journal.complete.len();
        let kept = refusal.map_or_else(|| journal.keep(batch), Err);
        if self.journal.complete.len() > before {
            self.rolled = true;
            shared.wake.notify_one();
        }
        match kept {
            Ok(sequence) => {
                if shared.durable == Durable::Process {
                    shared.can_write(&self.journal);
                }
                self.waiting.extend(waits);
                Ok(Accepted(sequence))
            }
            Err(error) => {
                self.refused = self.journal.most_bytes(batch);
                shared.counted.refused.fetch_add(1, Ordering::Relaxed);
                let level = if self.journal.misplaced.is_some() { Level::Warning } else { Level::Error };
                shared.cannot_write(&error, level);
                Err(error)
            }
        }
    }
}

impl Shared {
    /// Something could not be written; said in the log when it begins.
    fn cannot_write(&self, error: &StoreError, level: Level) {
        if self.writable.swap(false, Ordering::Relaxed) {
            self.logs.put(level, "sse_fast.store", format!("{error}; publishing is refused until it can"));
        }
    }

    /// Something was written, or could be. Does nothing while the folder is out of its place: nothing is taken there then.
    fn can_write(&self, journal: &Journal) {
        if journal.misplaced.is_some() {
            return;
        }
        if !self.writable.load(Ordering::Relaxed) && !self.writable.swap(true, Ordering::Relaxed) {
            self.logs.put(Level::Info, "sse_fast.store", format!("the store {:?} can be written again", self.shown));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
