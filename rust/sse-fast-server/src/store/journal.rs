//! The log of all streams: where records go, and which of them still count.
//!
//! Owns: the segments in their order, what is written where, what each stream still needs. Must not know: threads, when the
//! disk is told to keep it (`thread`), streams. It lives under the store's lock.
//! Invariants: a batch is in one segment; records of a batch are written together or not at all. Segments go oldest first
//! (`compaction`), so that what is left of a stream is never older than its removal. Every segment has the life of each
//! stream that it has a record of, written before that.
//! This file is long because whatever is written goes one way, and is counted on it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sse_fast_core::id::Position;

use super::error::StoreError;
use super::format::{self, Gone, Head, Kind};
use super::key::Keys;
use super::lock::Inode;
use super::recovery::Place;
use super::segment::{self, Active, Complete, SEGMENT_BYTES, Spare};

/// A record that is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) position: Position,
    /// In parts, so that none of it is copied twice.
    pub(crate) body: [&'a [u8]; 3],
}

/// Records of one stream that are written together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) stream: u32,
    pub(crate) records: &'a [Record<'a>],
    /// Milliseconds since the Unix epoch.
    pub(crate) time: u64,
    pub(crate) needs: Needs,
}

impl Batch<'_> {
    pub(super) fn bytes(&self) -> u64 {
        self.records.iter().map(|record| bytes_of(record) as u64).sum()
    }
}

/// What a stream needs once a batch is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// The oldest position that its log retains.
    pub(crate) first: Position,
    /// How many events it retains.
    pub(crate) events: u64,
    /// The bytes of their frames.
    pub(crate) bytes: u64,
}

impl Needs {
    /// The bytes of its records, or a few more.
    fn record_bytes(&self) -> u64 {
        self.bytes + self.events * (format::HEAD as u64 + 8)
    }
}

/// No segment has this number: where a record stands that was not written after all.
const NOWHERE: u64 = 0;

/// About what a record takes that was there before.
const ADOPTED: u64 = 512;

/// What of a stream still counts.
#[derive(Default)]
struct Entry {
    needs: Needs,
    life: Option<(Place, u64)>,
    /// The body of its record.
    text: Arc<[u8]>,
    snapshot: Option<(Place, u64)>,
}

impl Entry {
    fn bytes(&self) -> u64 {
        let of = |place: &Option<(Place, u64)>| place.map_or(0, |(_, bytes)| bytes);
        self.needs.record_bytes() + of(&self.life) + of(&self.snapshot)
    }
}

/// Bytes that are to be written at a place.
pub(super) struct Chunk {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

/// Whether a batch is written at once, or by the store's thread with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// At once: it outlives the process.
    Process,
    /// With others, and then the disk is told to keep it: it outlives the machine's end.
    Disk,
}

/// Where a folder was when it was opened.
pub(super) struct Where {
    inode: Inode,
    active: Option<Arc<File>>,
}

impl Where {
    /// Whether the path still leads there, and the segment in use has a name.
    pub(super) fn is_there(&self, folder: &Path) -> bool {
        let has_name = |file: &Arc<File>| file.metadata().is_ok_and(|found| found.nlink() > 0);
        self.inode.is_at(folder) && self.active.as_ref().is_none_or(has_name)
    }
}

/// See the module.
pub(super) struct Journal {
    folder: PathBuf,
    shown: String,
    durable: Durable,
    inode: Inode,
    /// Why nothing is taken: the folder was removed, or its path leads elsewhere.
    pub(super) misplaced: Option<StoreError>,
    /// Oldest first, without the active one.
    pub(super) complete: VecDeque<Complete>,
    active: Active,
    pub(super) spare: Option<Spare>,
    /// What the disk was not told to keep since it was written to.
    pub(super) dirty: Vec<Arc<File>>,
    /// Whether files were made or renamed since then.
    pub(super) folder_dirty: bool,
    /// What is to be written, in its order; where batches are written at once, nothing.
    pub(super) queue: Option<Chunk>,
    /// How many batches there were.
    pub(super) sequence: u64,
    streams: HashMap<u32, Entry>,
    next: u32,
    epoch: u64,
    /// The bytes of all records that still count, or a few more.
    live: u64,
    /// Which keys still count.
    keys: Keys,
    /// Events that a later segment has, too.
    twice: HashSet<(u32, Position)>,
    /// Streams that another life has: keys that are left of them do not count.
    renewed: HashSet<u32>,
    /// Streams whose removal could not be written yet.
    pub(super) removals: Vec<(u32, Gone)>,
    scratch: Vec<u8>,
}

/// What a journal begins with.
pub(super) struct Beginning {
    pub(super) inode: Inode,
    pub(super) complete: Vec<Complete>,
    pub(super) number: u32,
    pub(super) epoch: u64,
    pub(super) twice: HashSet<(u32, Position)>,
    pub(super) renewed: HashSet<u32>,
}

impl Journal {
    /// Goes on in a folder, in a new segment.
    pub(super) fn begin(folder: &Path, shown: &str, durable: Durable, beginning: Beginning) -> io::Result<Self> {
        let Beginning { inode, complete, number, epoch, twice, renewed } = beginning;
        let (last, bytes) = complete.last().map_or((0, 0), |last| (last.number, last.bytes));
        let active = Spare::make(folder, "next", 0)?.begin(folder, last + 1, epoch, bytes)?;
        Ok(Self {
            folder: folder.to_owned(),
            shown: shown.to_owned(),
            durable,
            inode,
            misplaced: None,
            complete: complete.into(),
            dirty: active.file.iter().cloned().collect(),
            active,
            spare: None,
            folder_dirty: true,
            queue: None,
            sequence: 0,
            streams: HashMap::new(),
            next: number,
            epoch,
            live: 0,
            keys: Keys::default(),
            twice,
            renewed,
            removals: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// A number for a new life of a stream.
    pub(super) fn number(&mut self, epoch: u64) -> u32 {
        self.epoch = self.epoch.max(epoch);
        self.next += 1;
        self.next
    }

    /// A stream that the segments hold already; `of_life` and `of_snapshot` are where that is.
    pub(super) fn adopt(
        &mut self,
        stream: u32,
        needs: Needs,
        (text, of_life): (Vec<u8>, Place),
        of_snapshot: Option<Place>,
    ) {
        self.set(stream, |entry| {
            entry.needs = needs;
            entry.text = text.into();
            entry.life = Some((of_life, ADOPTED));
            entry.snapshot = of_snapshot.map(|place| (place, ADOPTED));
        });
    }

    fn set(&mut self, stream: u32, change: impl FnOnce(&mut Entry)) {
        let entry = self.streams.entry(stream).or_default();
        self.live -= entry.bytes();
        change(entry);
        self.live += entry.bytes();
    }

    /// Puts a batch behind everything that was written. An error leaves everything as it was.
    pub(super) fn keep(&mut self, batch: &Batch<'_>) -> Result<u64, StoreError> {
        let (mut life, mut length) = self.with_life(batch, self.active.number);
        if !self.active.has_room(length) {
            (life, length) = self.with_life(batch, self.active.number + 1);
            self.make_room(length)?;
        }
        let begin = self.active.tail;
        let (kept, salt) = (std::mem::take(&mut self.scratch), self.active.salt);
        let mut bytes = kept;
        bytes.clear();
        if let Some(body) = &life {
            let (flags, length) = (format::WITH_NEXT | format::COPIED, body.len());
            let head = Head { kind: Kind::Life, flags, stream: batch.stream, position: 0, time: batch.time, length };
            format::write(&mut bytes, salt, &head, &[body]);
        }
        for record in batch.records {
            let length = record.body.iter().map(|part| part.len()).sum();
            let (kind, flags, position) = (record.kind, record.flags, record.position);
            let head = Head { kind, flags, stream: batch.stream, position, time: batch.time, length };
            format::write(&mut bytes, salt, &head, &record.body);
        }
        debug_assert_eq!(bytes.len() as u64, length, "as long as room was made for");
        let written = self.put(&bytes);
        self.scratch = bytes;
        written?;
        let number = self.active.number;
        let mut at = begin;
        self.set(batch.stream, |entry| {
            entry.needs = batch.needs;
            if let Some(body) = &life {
                let bytes = format::record_bytes(body.len()) as u64;
                entry.life = Some(((number, at), bytes));
                at += bytes;
            }
            for record in batch.records {
                let bytes = bytes_of(record) as u64;
                match record.kind {
                    Kind::Life => {
                        entry.life = Some(((number, at), bytes));
                        entry.text = record.body.concat().into();
                    }
                    Kind::Snapshot => entry.snapshot = Some(((number, at), bytes)),
                    Kind::Event | Kind::Removed | Kind::Key => {}
                }
                at += bytes;
            }
        });
        self.count_keys(batch);
        self.sequence += 1;
        Ok(self.sequence)
    }

    /// What a batch begins with, and how many bytes it has, in the segment of this number: where it is the stream's first
    /// there, its life comes before it, so that the segment tells by itself whose its events are.
    fn with_life(&self, batch: &Batch<'_>, segment: u64) -> (Option<Arc<[u8]>>, u64) {
        let says = |record: &Record<'_>| matches!(record.kind, Kind::Life | Kind::Removed);
        let entry = self.streams.get(&batch.stream).filter(|_| !batch.records.iter().any(says));
        let known = entry.and_then(|entry| entry.life.map(|((at, _), _)| (at, &entry.text)));
        let life = known.filter(|&(at, _)| at != segment).map(|(_, text)| Arc::clone(text));
        let bytes = life.as_ref().map_or(0, |text| format::record_bytes(text.len()) as u64);
        (life, bytes + batch.bytes())
    }

    /// How many bytes a batch has at most, wherever it goes.
    pub(super) fn most_bytes(&self, batch: &Batch<'_>) -> u64 {
        self.with_life(batch, self.active.number + 1).1
    }

    /// A key was written, or several; a copy of one counts already.
    fn count_keys(&mut self, batch: &Batch<'_>) {
        let keys = batch.records.iter().filter(|record| record.kind == Kind::Key && record.flags & format::COPIED == 0);
        keys.for_each(|record| self.keys.add(batch.time, bytes_of(record) as u64));
    }

    /// A key that the segments hold already, written then; the oldest first.
    pub(super) fn adopt_key(&mut self, time: u64) {
        self.keys.add(time, ADOPTED);
    }

    /// What a stream needs now, without a record.
    pub(super) fn needs(&mut self, stream: u32, needs: Needs) {
        self.set(stream, |entry| entry.needs = needs);
    }

    /// Whether a batch can be written without making a segment first.
    pub(super) fn is_quick(&self, batch: &Batch<'_>) -> bool {
        self.has_room(batch) || self.spare.as_ref().is_some_and(|spare| spare.has_room(self.most_bytes(batch)))
    }

    /// The stream is no more.
    pub(super) fn remove(&mut self, stream: u32, time: u64) {
        let Some(entry) = self.streams.remove(&stream) else { return };
        self.live -= entry.bytes();
        self.write_removal(stream, Gone::Removed, time);
    }

    /// Says so in the log, or later, where that cannot be written now.
    fn write_removal(&mut self, stream: u32, gone: Gone, time: u64) {
        if gone == Gone::Renewed {
            self.renewed.insert(stream);
        }
        let record = Record { kind: Kind::Removed, flags: 0, position: Position::MAX, body: [gone.word(), b"", b""] };
        let batch = Batch { stream, records: &[record], time, needs: Needs::default() };
        match self.keep(&batch) {
            Ok(_) => {
                let entry = self.streams.remove(&stream);
                self.live -= entry.map_or(0, |entry| entry.bytes());
            }
            Err(_) => self.removals.push((stream, gone)),
        }
    }

    /// Writes what could not be written before.
    pub(super) fn write_removals(&mut self, time: u64) {
        for (stream, gone) in std::mem::take(&mut self.removals) {
            self.write_removal(stream, gone, time);
        }
    }

    /// Begins another segment where the active one has no room for so many bytes.
    fn make_room(&mut self, length: u64) -> Result<(), StoreError> {
        if self.active.has_room(length) {
            return Ok(());
        }
        if !self.inode.is_at(&self.folder) {
            return Err(self.misplace());
        }
        let error = |error: io::Error| StoreError::of(&self.shown, &error);
        // What comes later must not be on the disk without what came before.
        if let Some(chunk) = &self.queue {
            segment::write(&chunk.file, chunk.at, &chunk.bytes).and_then(|()| chunk.file.sync_data()).map_err(error)?;
            self.queue = None;
        }
        if let Some(small) = self.spare.take_if(|spare| !spare.has_room(length)) {
            small.discard();
        }
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => Spare::make(&self.folder, "next", length).map_err(error)?,
        };
        let (number, tail) = (self.active.number + 1, self.active.tail);
        let next = spare.begin(&self.folder, number, self.epoch, tail).map_err(error)?;
        self.dirty.extend(next.file.clone());
        self.folder_dirty = true;
        self.complete.push_back(std::mem::replace(&mut self.active, next).complete());
        Ok(())
    }

    /// Makes sure that a segment can be begun, without waiting until it must be.
    pub(super) fn wants_spare(&self) -> bool {
        self.spare.is_none() && self.active.tail > self.active.limit / 2
    }

    /// What tells whether the folder is where it was.
    pub(super) fn where_it_is(&self) -> Where {
        Where { inode: self.inode, active: self.active.file.clone() }
    }

    /// Nothing is taken until the folder is back.
    pub(super) fn misplace(&mut self) -> StoreError {
        let reason = "its folder was removed or moved".to_owned();
        let number = rustix::io::Errno::NOENT.raw_os_error();
        let error = StoreError::Failed { folder: self.shown.clone(), reason, number };
        self.misplaced.insert(error).clone()
    }

    /// Why nothing is written any more.
    pub(super) fn is_closed(&self) -> StoreError {
        StoreError::Failed { folder: self.shown.clone(), reason: "it is closed".to_owned(), number: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let at = self.active.tail;
        let Some(file) = &self.active.file else { return Err(self.is_closed()) };
        match self.durable {
            Durable::Process => {
                if let Err(error) = segment::write(file, at, bytes) {
                    return Err(self.refused(&error));
                }
            }
            Durable::Disk => {
                let chunk = || Chunk { file: Arc::clone(file), at, bytes: Vec::new() };
                self.queue.get_or_insert_with(chunk).bytes.extend_from_slice(bytes);
            }
        }
        if !self.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, file)) {
            self.dirty.push(Arc::clone(file));
        }
        self.active.tail += bytes.len() as u64;
        Ok(())
    }

    /// The active segment took no more. Where that has no room the next batch tries another segment.
    fn refused(&mut self, error: &io::Error) -> StoreError {
        let error = StoreError::of(&self.shown, error);
        if error.is_full() {
            self.active.ends_here();
        }
        error
    }

    /// Whether a batch of so many bytes would be taken by the active segment, as it would be written.
    pub(super) fn tries_room(&mut self, bytes: u64) -> bool {
        if !self.active.has_room(bytes) {
            return false;
        }
        self.active.try_room(bytes).map_err(|error| self.refused(&error)).is_ok()
    }

    /// What is queued, and this before it, was not written and never will be: the next batch takes its place, or another
    /// segment's where there was no room.
    pub(super) fn take_back(&mut self, first: &Chunk, error: &StoreError) {
        let is_active = self.active.file.as_ref().is_none_or(|file| Arc::ptr_eq(file, &first.file));
        debug_assert!(is_active, "a segment is written before the next begins");
        self.queue = None;
        self.active.tail = first.at;
        // A life that was to stand there is where it was before, or nowhere: it is written with the next batch.
        for ((segment, at), _) in self.streams.values_mut().filter_map(|entry| entry.life.as_mut()) {
            if *segment == self.active.number && *at >= first.at {
                *segment = NOWHERE;
            }
        }
        if error.is_full() {
            self.active.ends_here();
        }
    }

    /// What is written from here on goes into this file.
    #[cfg(all(test, not(loom)))]
    pub(super) fn fill_with(&mut self, file: File) {
        self.active.file = Some(Arc::new(file));
        self.spare = None;
    }

    /// Whether a batch has room in the active segment.
    pub(super) fn has_room(&self, batch: &Batch<'_>) -> bool {
        self.active.has_room(self.with_life(batch, self.active.number).1)
    }

    /// The segment that is written to, and how many of its bytes count.
    pub(super) fn end(&self) -> (u64, u64) {
        (self.active.number, self.active.tail)
    }

    /// Lets every file go: nothing more is written.
    pub(super) fn close(&mut self) {
        if let Some(file) = self.active.file.take() {
            // What the segment does not use goes back. Where that fails the file only stays longer than it needs to be.
            let _ = file.set_len(self.active.tail);
        }
        (self.spare, self.queue) = (None, None);
        self.dirty.clear();
    }

    /// The bytes of all segments that count.
    pub(super) fn used(&self) -> u64 {
        self.complete.iter().map(|complete| complete.bytes).sum::<u64>() + self.active.tail
    }

    /// The oldest segment, where it is to go: there is four times as much as is needed, or there are many small ones. Where
    /// there is no room twice as much is enough.
    pub(super) fn oldest_to_go(&mut self, is_full: bool, now: u64) -> Option<Complete> {
        self.keys.forget(now);
        let live = self.live + self.keys.bytes();
        let (used, many) = (self.used(), 8 + self.used() / SEGMENT_BYTES);
        let is_much = used > 4 * live + 2 * SEGMENT_BYTES || self.complete.len() as u64 > many;
        let is_much = is_much || is_full && used > 2 * live;
        self.complete.front().filter(|_| is_much).cloned()
    }

    /// Whether what stands there still counts; an event that a later segment has too does so there.
    pub(super) fn is_needed(&mut self, head: &Head, place: Place) -> bool {
        if head.kind == Kind::Key {
            return self.keys.has(head.time) && !self.renewed.contains(&head.stream);
        }
        let Some(entry) = self.streams.get(&head.stream) else { return false };
        let is_there = |known: Option<(Place, u64)>| known.is_some_and(|(known, _)| known == place);
        match head.kind {
            Kind::Event => head.position >= entry.needs.first && !self.twice.remove(&(head.stream, head.position)),
            Kind::Life => is_there(entry.life) || entry.life.is_some_and(|((at, _), _)| at == NOWHERE),
            Kind::Snapshot => is_there(entry.snapshot),
            Kind::Removed | Kind::Key => false,
        }
    }

    /// Copies a record to the end. A key is copied also where its stream is no more.
    pub(super) fn copy(&mut self, head: &Head, body: &[u8]) -> Result<(), StoreError> {
        let needs = self.streams.get(&head.stream).map(|entry| entry.needs);
        let flags = head.flags & !format::WITH_NEXT | format::COPIED;
        let record = Record { kind: head.kind, flags, position: head.position, body: [body, b"", b""] };
        self.keep(&Batch {
            stream: head.stream,
            records: &[record],
            time: head.time,
            needs: needs.unwrap_or_default(),
        })?;
        if needs.is_none() {
            let entry = self.streams.remove(&head.stream);
            self.live -= entry.map_or(0, |entry| entry.bytes());
        }
        Ok(())
    }
}

fn bytes_of(record: &Record<'_>) -> usize {
    format::record_bytes(record.body.iter().map(|part| part.len()).sum())
}
