//! What of a stream the store has, and has next.
//!
//! Owns: the records of one stream's batches. Must not know: files, when the disk has them (`pending` waits for that).
//! Invariants: a batch is given to the store under the stream's lock, so that the store has a stream's events in their order,
//! and before anybody can see what is in it. What the stream was told goes ahead of its next batch where the store does not
//! have it yet. Streams that no name leads to are not kept.

use std::sync::Arc;

use smallvec::SmallVec;
use sse_fast_core::id::{Epoch, Position};
use sse_fast_core::options::StreamPatch;
use sse_fast_core::stream::{Ahead, PreparedSnapshot};
use sse_fast_core::wire;

use super::outcome::Published;
use super::pending::{Fate, Held, Pending};
use super::role::{Hurry, Role};
use super::what::{Encoded, Single};
use super::{Inner, PublishError, Stream};
use crate::clock::unix_ms;
use crate::idempotency::{self, SharedKey};
use crate::store::{
    self, Batch, Durable, END, KeptIds, KeptKey, KeptOptions, Kind, Life, Needs, OWN_ID, Record, Store, WITH_NEXT,
    Waits,
};

// What a store keeps of keys is what is given back of them.
const _: () = assert!(store::KEPT_MS == idempotency::KEPT_MS && store::MOST_KEYS == idempotency::MOST_KEYS);

/// A stream that is kept; boxed, because most servers have no store.
pub(super) struct Kept {
    /// Its number in the store.
    number: u32,
    /// Everything that it was told.
    patch: StreamPatch,
    /// Whether a run writes into it, and ends it.
    run: bool,
    /// Whether the store has both.
    is_told: bool,
    /// What it has not on the disk yet.
    pub(super) pending: Pending,
}

/// How a snapshot's name stands before its block.
fn snapshot_head(event: &str) -> Vec<u8> {
    // A name is a line, and the event's limit is far below this.
    let length = u16::try_from(event.len()).unwrap_or(0);
    let name = &event.as_bytes()[..usize::from(length)];
    [&length.to_le_bytes()[..], name].concat()
}

/// What these were published as, to be kept; for a snapshot alone the id of the newest event that it covers.
fn ids_of(published: &Published, epoch: Epoch, encoded: &Encoded) -> KeptIds {
    let mut ids = KeptIds::new(epoch);
    for (position, id) in (encoded.after() + 1..).zip(published.each()) {
        ids.push(position, if matches!(id, Published::Generated(_)) { None } else { Some(id.id().to_owned()) });
    }
    if encoded.events() == 0 {
        ids.push(encoded.after(), Some(published.id().to_owned()));
    }
    ids
}

impl Stream {
    /// The store that this stream is kept in.
    pub(super) fn store_of<'a>(&'a self, inner: &Inner) -> Option<&'a Arc<Store>> {
        self.0.delivery.store.as_ref().filter(|_| inner.kept().is_some())
    }

    /// The store has the stream from now on: it is new, and was told `patch`.
    pub(crate) fn keep_new(&self, patch: &StreamPatch) {
        let Some(store) = self.0.delivery.store.as_ref().filter(|_| !self.is_copy()) else { return };
        let mut inner = self.lock();
        let number = store.number(inner.state.epoch().0);
        inner.keep_as(number, patch.clone(), false, false);
        self.tell(&mut inner);
    }

    /// The store has it already, under this number.
    pub(crate) fn keep_known(&self, number: u32, patch: StreamPatch, run: bool) {
        let mut inner = self.lock();
        inner.keep_as(number, patch, run, true);
        // With other options than before it may need less.
        self.tell(&mut inner);
    }

    /// The store has it as it is, all at once, as a new life; whether it could be written.
    pub(crate) fn keep_whole(&self, patch: StreamPatch, run: bool) -> bool {
        let Some(store) = &self.0.delivery.store else { return false };
        let mut inner = self.lock();
        let number = store.number(inner.state.epoch().0);
        inner.keep_as(number, patch, run, false);
        let inner = &mut *inner;
        let (first, newest, ended) = (inner.state.log().first(), inner.state.newest(), inner.state.ended());
        let frames: Vec<_> = inner.state.log().from(first).cloned().collect();
        let own = |block: &[u8], position| {
            wire::id_of(block).is_some_and(|id| id != inner.state.id_at(position).as_str().as_bytes())
        };
        let mut records = Vec::with_capacity(frames.len() + 1);
        for (position, frame) in (first..).zip(&frames) {
            let mut flags = if own(frame.plain(), position) { OWN_ID } else { 0 };
            if ended && position == newest {
                flags |= END;
            }
            records.push(Record { kind: Kind::Event, flags, position, body: [frame.plain(), b"", b""] });
        }
        let snapshot = inner.state.snapshot().cloned();
        let head = snapshot_head(snapshot.as_ref().map_or("", |snapshot| snapshot.event()));
        if let Some(snapshot) = &snapshot {
            let body = [&head[..], snapshot.frame.plain(), b""];
            records.push(Record { kind: Kind::Snapshot, flags: 0, position: snapshot.position, body });
        }
        self.keep(inner, &records, None, Hurry::MayWait).is_ok()
    }

    /// Keys of the former life, which had this number, stand for the same events of this one.
    pub(crate) fn move_keys(&self, former: u32, keys: &mut [KeptKey]) {
        let Some(store) = &self.0.delivery.store else { return };
        let inner = self.lock();
        let Some(kept) = inner.kept() else { return };
        let (epoch, number) = (inner.state.epoch(), kept.number);
        let mut moved = Vec::new();
        for key in keys.iter_mut().filter(|key| key.stream == former) {
            key.ids.renew(epoch);
            moved.push(key.clone());
        }
        store.move_keys(number, &moved);
    }

    /// A run writes into it, and will end it; or it does not, after all.
    pub(crate) fn written_by_run(&self, run: bool) {
        let mut inner = self.lock();
        if let Some(kept) = inner.kept_mut().filter(|kept| kept.run != run) {
            (kept.run, kept.is_told) = (run, false);
            self.tell(&mut inner);
        }
    }

    /// It was told more.
    pub(super) fn told(&self, inner: &mut Inner, patch: &StreamPatch) {
        let Some(kept) = inner.kept_mut() else { return };
        kept.patch.give(patch);
        kept.is_told = false;
        self.tell(inner);
    }

    /// Tells the store what the stream was told. Where it cannot be written now it goes with the next event.
    fn tell(&self, inner: &mut Inner) {
        // The store says in the log why not.
        let _ = self.keep(inner, &[], None, Hurry::MayWait);
    }

    /// It is removed: the store forgets it.
    pub(super) fn forget_kept(&self, inner: &mut Inner) {
        let Some(kept) = inner.extra.as_mut().and_then(|extra| extra.kept.take()) else { return };
        if let Some(store) = &self.0.delivery.store {
            store.remove(kept.number);
        }
    }

    /// Gives events to the store, with the snapshots that are set with them, in one batch: it keeps all of it or nothing. `None`
    /// where it has them, and else the number that tells their fate. What they are published under is kept with them.
    pub(super) fn keep_encoded(
        &self,
        inner: &mut Inner,
        encoded: &Encoded,
        role: Role,
        (hurry, under): (Hurry, Option<(&SharedKey, &Published)>),
    ) -> Result<Option<u64>, PublishError> {
        let heads = inner.snapshot_heads(encoded);
        let (mut heads, last) = (heads.iter(), encoded.after() + encoded.events() as Position);
        let ids_of = |published| ids_of(published, inner.state.epoch(), encoded);
        let key = under.map(|(key, published)| (key.digests(), ids_of(published).to_bytes()));
        let mut records: SmallVec<[Record<'_>; 2]> = SmallVec::new();
        if let Some((digests, ids)) = &key {
            // First, so that what is behind it is there wherever it is.
            records.push(Record { kind: Kind::Key, flags: 0, position: last, body: [digests, ids, b""] });
        }
        let mut put_snapshot = |records: &mut SmallVec<_>, position, block| {
            let head = heads.next().map_or(&[][..], Vec::as_slice);
            records.push(Record { kind: Kind::Snapshot, flags: 0, position, body: [head, block, b""] });
        };
        for single in encoded.singles() {
            match single {
                Single::Event(prepared) => {
                    let position = prepared.position();
                    let mut flags = if role == Role::Terminal && position == last { END } else { 0 };
                    if prepared.generated_id().is_none() {
                        flags |= OWN_ID;
                    }
                    let body = [prepared.frame().plain(), b"", b""];
                    records.push(Record { kind: Kind::Event, flags, position, body });
                    if let Some(snapshot) = prepared.snapshot() {
                        put_snapshot(&mut records, position, snapshot.plain());
                    }
                }
                Single::Snapshot(snapshot) => {
                    put_snapshot(&mut records, snapshot.position(), snapshot.frame().plain());
                }
            }
        }
        self.keep(inner, &records, Some(encoded), hurry)
    }

    /// Gives a snapshot to the store, likewise.
    pub(super) fn keep_snapshot(
        &self,
        inner: &mut Inner,
        prepared: &PreparedSnapshot,
    ) -> Result<Option<u64>, PublishError> {
        let head = snapshot_head(prepared.event());
        let body = [&head[..], prepared.frame().plain(), b""];
        let record = Record { kind: Kind::Snapshot, flags: 0, position: prepared.position(), body };
        self.keep(inner, &[record], None, Hurry::MayWait)
    }

    /// Gives records to the store, behind what the stream was told where that is not there yet; the number of the batch
    /// where it waits for the disk.
    fn keep(
        &self,
        inner: &mut Inner,
        records: &[Record<'_>],
        next: Option<&Encoded>,
        hurry: Hurry,
    ) -> Result<Option<u64>, PublishError> {
        let Some(store) = &self.0.delivery.store else { return Ok(None) };
        let needs = inner.needs(next);
        let (newest, epoch, had_retry) =
            (inner.last_position(), inner.state.epoch().0, inner.state.may_have_told_retry());
        let Some(kept) = inner.kept_mut() else { return Ok(None) };
        let life = (!kept.is_told).then(|| {
            let options = KeptOptions::of(&kept.patch);
            Life { name: self.name().to_owned(), epoch, run: kept.run, had_retry, options }.to_bytes()
        });
        let mut all: SmallVec<[Record<'_>; 3]> = SmallVec::new();
        if let Some(life) = &life {
            all.push(Record { kind: Kind::Life, flags: 0, position: newest, body: [&life[..], b"", b""] });
        }
        all.extend(records.iter().copied());
        let (last, others) = all.split_last_mut().map_or((None, &mut [][..]), |(last, others)| (Some(last), others));
        if last.is_none() {
            store.needs(kept.number, needs);
            return Ok(None);
        }
        for record in others {
            record.flags |= WITH_NEXT;
        }
        let batch = Batch { stream: kept.number, records: &all, time: unix_ms(), needs };
        let waits = store.durable() == Durable::Disk;
        let accepted = if hurry == Hurry::NoWait {
            debug_assert!(!waits, "who may not wait does not come here");
            store.try_keep(&batch).ok_or(PublishError::WouldWait)?
        } else {
            let listed = waits && !kept.pending.is_listed;
            store.keep(&batch, listed.then(|| Arc::clone(&self.0) as Arc<dyn Waits>))
        };
        let accepted = accepted.map_err(PublishError::Store)?;
        kept.is_told = true;
        kept.pending.is_listed = waits;
        Ok(waits.then_some(accepted.0))
    }
}

impl Kept {
    /// What the store had taken of it is lost.
    pub(super) fn not_told(&mut self) {
        self.is_told = false;
    }
}

impl Inner {
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.extra.as_ref()?.kept.as_deref()
    }

    pub(super) fn kept_mut(&mut self) -> Option<&mut Kept> {
        self.extra.as_mut()?.kept.as_deref_mut()
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        self.kept().map(|kept| &kept.pending)
    }

    /// Puts what the store has taken among that which the disk does not have yet.
    pub(super) fn put_off(&mut self, at: u64, what: Held, fate: &Fate) {
        if let Some(kept) = self.kept_mut() {
            kept.pending.push(at, what, fate);
        }
    }

    fn keep_as(&mut self, number: u32, patch: StreamPatch, run: bool, is_told: bool) {
        let kept = Kept { number, patch, run, is_told, pending: Pending::default() };
        self.extra.get_or_insert_default().kept = Some(Box::new(kept));
    }

    /// What will be appended before anything else is: the disk does not have it yet.
    pub(super) fn ahead(&self) -> Ahead<'_> {
        self.pending().map_or_else(Ahead::default, Pending::ahead)
    }

    /// The newest position, of what the disk has not yet as well.
    pub(super) fn last_position(&self) -> Position {
        self.state.newest() + self.ahead().events as Position
    }

    /// The newest event's id, likewise.
    pub(super) fn last_id(&self) -> String {
        self.pending().and_then(Pending::last_id).unwrap_or_else(|| self.state.last_id())
    }

    /// The oldest position that will remain once this is appended, behind what the disk has not yet.
    pub(super) fn first_after(&self, encoded: &Encoded) -> Position {
        encoded.first_after(&self.state, self.ahead())
    }

    /// How each snapshot of these is called, as it stands before its block.
    fn snapshot_heads(&self, encoded: &Encoded) -> SmallVec<[Vec<u8>; 1]> {
        let mut name = self.ahead().snapshot.unwrap_or_else(|| self.state.snapshot_event());
        let mut heads = SmallVec::new();
        for single in encoded.singles() {
            match single {
                Single::Event(prepared) if prepared.snapshot().is_none() => continue,
                Single::Event(_) => {}
                Single::Snapshot(snapshot) => name = snapshot.event(),
            }
            heads.push(snapshot_head(name));
        }
        heads
    }

    /// What the stream needs of the store once `next` is appended.
    fn needs(&self, next: Option<&Encoded>) -> Needs {
        let log = self.state.log();
        let first = next.map_or_else(|| log.first(), |next| self.first_after(next)).min(log.newest() + 1);
        // Not what is evicted by it: a little more than it needs.
        let (more, bytes) = next.map_or((0, 0), |next| (next.events() as u64, next.bytes() as u64));
        Needs { first, events: log.len() as u64 + more, bytes: log.bytes() as u64 + bytes }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
