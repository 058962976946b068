//! The store's thread: it has the disk keep what was written, tells who waits, and gives segments back.
//!
//! Owns: when that is done. Must not know: what is written. Invariants: those who wait are told without the store's lock;
//! what was written after a sync began waits for the next. A sync that fails is never tried again: the system may have
//! forgotten what it did not write.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::compaction::Going;
use super::error::StoreError;
use super::journal::Chunk;
use super::lock::Session;
use super::segment::{self, Spare, path_of};
use super::{Shared, State, Waits};
use crate::clock::{now, unix_ms};
use crate::logs::Level;
use std::sync::atomic::Ordering;

/// How often the disk is told to keep what was written, where nobody waits for that.
const EVERY: Duration = Duration::from_secs(1);

/// How often it is said at most that there will be no room.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// How many segments may go, one after another, before those who wait are served.
const AT_ONCE: usize = 4;

/// See the module.
pub(super) struct StoreThread {
    thread: JoinHandle<()>,
}

/// What there is to do.
struct Work {
    chunk: Option<Chunk>,
    dirty: Vec<Arc<File>>,
    folder_dirty: bool,
    waiting: Vec<Arc<dyn Waits>>,
    /// The last batch in the chunk.
    up_to: u64,
}

impl StoreThread {
    pub(super) fn start(shared: &Arc<Shared>, mut session: Session) -> io::Result<Self> {
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("sse-fast-store".to_owned());
        let thread = thread.spawn(move || {
            let (mut late, mut looked) = (Vec::new(), Instant::now());
            while shared.wait() {
                if looked.elapsed() >= EVERY / 2 {
                    looked = Instant::now();
                    shared.look();
                }
                shared.work(&mut late, &mut session);
            }
            shared.finish(session, &mut late);
        })?;
        Ok(Self { thread })
    }

    /// Has it do what is left, and waits for it.
    pub(super) fn end(self, shared: &Shared) {
        shared.state.lock().closed = true;
        shared.wake.notify_one();
        let own: ThreadId = std::thread::current().id();
        if self.thread.thread().id() != own {
            // One that panicked has said so.
            let _ = self.thread.join();
        }
    }
}

impl Shared {
    /// Waits until there is something to do; false once the store is closed.
    fn wait(&self) -> bool {
        let until = Instant::now() + EVERY;
        let mut state = self.state.lock();
        while !state.closed && state.journal.queue.is_none() && !state.rolled {
            if self.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        !state.closed
    }

    /// Finds out whether the folder is still where it was: whatever else is there is another's.
    pub(super) fn look(&self) {
        let found = self.state.lock().journal.where_it_is();
        let is_there = found.is_there(&self.folder);
        let mut state = self.state.lock();
        let was_there = state.journal.misplaced.is_none();
        if is_there {
            state.journal.misplaced = None;
        } else if was_there {
            let error = state.journal.misplace();
            self.cannot_write(&error, Level::Warning);
        }
    }

    /// Does what there is to do now; `late` are those who wait for more than was there.
    fn work(&self, late: &mut Vec<Arc<dyn Waits>>, session: &mut Session) {
        let mut state = self.state.lock();
        state.journal.write_removals(unix_ms());
        state.rolled = false;
        drop(state);
        self.commit(late);
        if self.state.lock().journal.misplaced.is_some() {
            return;
        }
        let mut gone = 0;
        while gone < AT_ONCE && self.give_back(late, session) {
            gone += 1;
        }
        self.make_spare();
    }

    fn take(state: &mut State, late: &mut Vec<Arc<dyn Waits>>) -> Work {
        let mut waiting = std::mem::take(late);
        waiting.append(&mut state.waiting);
        Work {
            chunk: state.journal.queue.take(),
            dirty: std::mem::take(&mut state.journal.dirty),
            folder_dirty: std::mem::take(&mut state.journal.folder_dirty),
            waiting,
            up_to: state.journal.sequence,
        }
    }

    /// Writes what is queued, has the disk keep it, and tells who waits.
    fn commit(&self, late: &mut Vec<Arc<dyn Waits>>) {
        let mut state = self.state.lock();
        if state.broken.is_some() {
            return;
        }
        let work = Self::take(&mut state, late);
        state.in_flight = true;
        let misplaced = state.journal.misplaced.clone().filter(|_| work.chunk.is_some());
        drop(state);
        if let Some(error) = misplaced {
            self.refuse(work, &error, false);
            return;
        }
        let written = work.chunk.as_ref().map_or(Ok(()), |chunk| segment::write(&chunk.file, chunk.at, &chunk.bytes));
        if let Err(error) = written {
            self.refuse(work, &StoreError::of(&self.shown, &error), false);
            return;
        }
        if let Err(error) = self.sync(&work) {
            let error = StoreError::Failed {
                folder: self.shown.clone(),
                reason: format!("the disk did not keep what was written: {error}"),
                number: error.raw_os_error().unwrap_or(0),
            };
            self.refuse(work, &error, true);
            return;
        }
        let mut state = self.state.lock();
        self.land(&mut state);
        if work.chunk.is_some() {
            self.can_write(&state.journal);
        }
        drop(state);
        late.extend(work.waiting.into_iter().filter(|waits| Arc::clone(waits).kept(work.up_to)));
        self.have_told(work.up_to);
    }

    /// Nothing is being written any more: a segment may be begun.
    fn land(&self, state: &mut State) {
        state.in_flight = false;
        self.landed.notify_all();
    }

    fn have_told(&self, up_to: u64) {
        self.state.lock().told = up_to;
        self.landed.notify_all();
    }

    fn sync(&self, work: &Work) -> io::Result<()> {
        if work.dirty.is_empty() && !work.folder_dirty {
            return Ok(());
        }
        let began = now();
        work.dirty.iter().try_for_each(|file| file.sync_data())?;
        // One that is elsewhere is none whose names count.
        if work.folder_dirty && self.is_in_place() {
            segment::sync_folder(&self.folder)?;
        }
        self.counted.syncs.add_shared(now().saturating_sub(began));
        Ok(())
    }

    /// What was queued was not kept: everybody who waits is told, and until then nothing is taken.
    fn refuse(&self, work: Work, error: &StoreError, for_good: bool) {
        let mut state = self.state.lock();
        self.land(&mut state);
        state.failing = Some(error.clone());
        if for_good {
            state.broken = Some(error.clone());
        }
        let mut waiting = work.waiting;
        waiting.append(&mut state.waiting);
        if let Some(first) = &work.chunk {
            state.journal.take_back(first, error);
            state.refused = first.bytes.len() as u64;
        }
        state.journal.dirty.extend(work.dirty);
        state.journal.folder_dirty |= work.folder_dirty;
        let up_to = state.journal.sequence;
        self.cannot_write(error, Level::Error);
        drop(state);
        for waits in waiting {
            waits.refused(error);
        }
        self.state.lock().failing = None;
        self.have_told(up_to);
    }

    fn is_in_place(&self) -> bool {
        let found = self.state.lock().journal.where_it_is();
        found.is_there(&self.folder)
    }

    /// Sets a place aside for the next segment, where there is none; and finds out whether there is room again, by writing
    /// what was refused, as zeros, to where it would go.
    pub(super) fn make_spare(&self) {
        let wanted = {
            let mut state = self.state.lock();
            let (is_working, refused) = (state.broken.is_none(), state.refused);
            if is_working && !self.writable.load(Ordering::Relaxed) && state.journal.tries_room(refused) {
                self.can_write(&state.journal);
            }
            let is_refused = !self.writable.load(Ordering::Relaxed);
            let needed = if is_refused { refused } else { 0 };
            // One in which nothing was written says nothing of whether it can be.
            if let Some(untried) = state.journal.spare.take_if(|_| is_refused) {
                untried.discard();
            }
            let has_spare = state.journal.spare.is_some();
            let is_wanted = is_working && !has_spare && (state.journal.wants_spare() || is_refused);
            state.is_making_spare = is_wanted;
            is_wanted.then_some((needed, is_refused))
        };
        let Some((needed, is_refused)) = wanted else { return };
        if !self.is_in_place() {
            self.state.lock().is_making_spare = false;
            self.landed.notify_all();
            return;
        }
        let made = Spare::make(&self.folder, "spare", needed).and_then(|spare| match spare.try_room(needed) {
            Err(error) if is_refused => {
                spare.discard();
                Err(error)
            }
            _ => Ok(spare),
        });
        let mut state = self.state.lock();
        state.is_making_spare = false;
        self.landed.notify_all();
        match made {
            Ok(spare) => {
                state.journal.spare.get_or_insert(spare);
                state.has_said_no_spare = false;
                self.can_write(&state.journal);
            }
            Err(error) => {
                let is_soon = state.said_no_spare.is_some_and(|said| said.elapsed() < SAID_EVERY);
                if !self.writable.load(Ordering::Relaxed) || state.has_said_no_spare || is_soon {
                    return;
                }
                state.has_said_no_spare = true;
                state.said_no_spare = Some(Instant::now());
                drop(state);
                // The segment in use has room for now.
                let text = format!("the store {:?} will have no room soon: {error}", self.shown);
                self.logs.put(Level::Warning, "sse_fast.store", text);
            }
        }
    }

    /// Gives the oldest segment back, if it is to go; whether it did. Before, the folder says that it may be gone.
    fn give_back(&self, late: &mut Vec<Arc<dyn Waits>>, session: &mut Session) -> bool {
        let is_full = !self.writable.load(Ordering::Relaxed);
        let Some(segment) = self.state.lock().journal.oldest_to_go(is_full, unix_ms()) else { return false };
        let going = match Going::read(&self.folder, &segment) {
            Ok(going) => Some(going),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return false,
        };
        if let Some(mut going) = going {
            loop {
                let mut state = self.state.lock();
                let journal = &mut state.journal;
                let stepped =
                    going.step(
                        |head, place, body| {
                            if journal.is_needed(head, place) { journal.copy(head, body) } else { Ok(()) }
                        },
                    );
                drop(state);
                match stepped {
                    Ok(true) => {}
                    Ok(false) => break,
                    // There is no room for the copies: it stays.
                    Err(_) => return false,
                }
            }
        }
        self.commit(late);
        if self.state.lock().broken.is_some() {
            return false;
        }
        if !self.is_in_place() {
            return false;
        }
        session.oldest = segment.number + 1;
        let removed =
            session.write(&self.folder).and_then(|()| std::fs::remove_file(path_of(&self.folder, segment.number)));
        if removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            return false;
        }
        let mut state = self.state.lock();
        state.journal.complete.pop_front();
        state.journal.folder_dirty = true;
        true
    }

    /// The last of it: everything is kept, and the folder says that it was closed.
    fn finish(&self, mut session: Session, late: &mut Vec<Arc<dyn Waits>>) {
        self.commit(late);
        let mut state = self.state.lock();
        let closed = state.journal.is_closed();
        let was_broken = state.broken.replace(closed.clone()).is_some();
        let mut waiting = std::mem::take(late);
        waiting.append(&mut state.waiting);
        let end = state.journal.end();
        let is_whole = state.journal.queue.is_none() && state.journal.removals.is_empty();
        let found = state.journal.where_it_is();
        state.journal.close();
        drop(state);
        let is_in_place = found.is_there(&self.folder);
        for waits in waiting {
            waits.refused(&closed);
        }
        if !was_broken && is_whole && is_in_place {
            session.closed = Some(end);
            if let Err(error) = session.write(&self.folder) {
                let text = format!("the store {:?} does not say that it was closed: {error}", self.shown);
                self.logs.put(Level::Warning, "sse_fast.store", text);
            }
        }
        // From here on the folder may be another server's.
        *self.lock.lock() = None;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        debug_assert!(self.waiting.is_empty(), "nobody waits for a store that is gone");
    }
}
