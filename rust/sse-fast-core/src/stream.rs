//! A named stream's state: its log with epoch, snapshot, options and end.
//!
//! Owns: what a stream holds, and how an event is added to it. Must not know: subscribers, threads, time.
//! Invariants: open, then complete (ended or removed), never open again; nothing is appended to a
//! complete stream. The caller has the state to itself (the shell keeps it under one short lock), so
//! publish, snapshot and opening a subscriber are atomic to each other: no event is lost or doubled
//! between a snapshot and its tail. Everything a subscriber is told follows from its cursor and this
//! state. Changes together with `cursor`, `lag` and `follow`, which read it. This file is long because what
//! is prepared, appended and restored must agree on every field.

mod several;

use std::sync::Arc;

pub use self::several::{Part, Step, Together};
use crate::event::CheckedEvent;
use crate::frame::Frame;
use crate::gap::Gap;
use crate::id::{Epoch, IdText, Position, Prefix};
use crate::log::Log;
use crate::options::StreamOptions;
use crate::wire;

/// The frame that stands for everything up to its position.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What a new subscriber gets first.
    pub frame: Frame,
    /// The newest position it covers.
    pub position: Position,
    /// The name the application gave it, where it is not `snapshot`; kept for the next one, which
    /// may be set with a publish.
    event: Option<Box<str>>,
}

/// A buffer an encoder reuses between events; one per publishing thread is enough.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

/// See the module.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "four facts, each true or not whatever the others are")]
pub struct StreamState {
    /// The life of the name this is.
    epoch: Epoch,
    /// What its ids begin with.
    prefix: Prefix,
    /// Shared with every stream that was given the same.
    options: Arc<StreamOptions>,
    /// The retained frames.
    log: Log,
    /// What stands for the past, where the application set it; boxed, because few streams have it.
    snapshot: Option<Box<Snapshot>>,
    /// Whether the newest event is the terminal one.
    ended: bool,
    /// Whether the name was taken away: it leads elsewhere or nowhere.
    removed: bool,
    /// Whether any event had a caller's own id: only then must the log be searched at a resume.
    own_ids: bool,
    /// Whether earlier options had `retry`.
    had_retry: bool,
}

/// What appending an event would do to the log; made before, so that a publisher can wait first.
#[derive(Debug)]
pub struct Prepared {
    position: Position,
    frame: Frame,
    snapshot: Option<Frame>,
    id: PreparedId,
}

#[derive(Debug)]
enum PreparedId {
    Generated(IdText),
    Custom,
}

/// A snapshot that is to be set.
#[derive(Debug)]
pub struct PreparedSnapshot(Snapshot);

/// What was prepared before something else, and will be appended before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead<'a> {
    /// How many events.
    pub events: usize,
    /// The bytes of their frames.
    pub bytes: usize,
    /// The name of the last snapshot among it, if there is one.
    pub snapshot: Option<&'a str>,
}

/// What was kept of a stream elsewhere.
#[derive(Debug, Default)]
pub struct Restored {
    /// Its log.
    pub log: Log,
    /// Its snapshot, the position that this stands for, and the name of its event.
    pub snapshot: Option<(Frame, Position, String)>,
    /// Whether the newest event is the terminal one.
    pub ended: bool,
    /// Whether any event has a caller's own id.
    pub own_ids: bool,
    /// Whether its readers may have been told a `retry:` line.
    pub had_retry: bool,
}

impl Prepared {
    /// The event's position.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The event.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The snapshot that is set with it.
    pub fn snapshot(&self) -> Option<&Frame> {
        self.snapshot.as_ref()
    }

    /// The id, where it is not the caller's own.
    pub fn generated_id(&self) -> Option<IdText> {
        match self.id {
            PreparedId::Generated(id) => Some(id),
            PreparedId::Custom => None,
        }
    }
}

impl PreparedSnapshot {
    /// Its block.
    pub fn frame(&self) -> &Frame {
        &self.0.frame
    }

    /// The newest position that it covers.
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// The name of its event.
    pub fn event(&self) -> &str {
        self.0.event()
    }
}

impl Snapshot {
    /// The name of its event.
    pub fn event(&self) -> &str {
        self.event.as_deref().unwrap_or(SNAPSHOT)
    }
}

/// What the event of a snapshot is called that was given no other name.
const SNAPSHOT: &str = "snapshot";

impl StreamState {
    /// A stream that was kept elsewhere; what is more than the options allow is forgotten.
    pub fn restore(epoch: Epoch, options: Arc<StreamOptions>, restored: Restored) -> Self {
        let Restored { mut log, snapshot, ended, own_ids, had_retry } = restored;
        log.trim(options.history, options.history_bytes);
        let snapshot = snapshot.map(|(frame, position, event)| {
            let event = (event != SNAPSHOT).then(|| event.into());
            Box::new(Snapshot { frame, position, event })
        });
        Self { log, snapshot, ended, own_ids, had_retry, ..Self::new(epoch, options) }
    }

    /// An open stream without events.
    pub fn new(epoch: Epoch, options: Arc<StreamOptions>) -> Self {
        Self::after(epoch, 0, options)
    }

    /// An open stream of which everything up to `base` was published elsewhere and is not here.
    pub fn after(epoch: Epoch, base: Position, options: Arc<StreamOptions>) -> Self {
        let prefix = Prefix::new(epoch);
        Self {
            epoch,
            prefix,
            options,
            log: Log::after(base),
            snapshot: None,
            ended: false,
            removed: false,
            own_ids: false,
            had_retry: false,
        }
    }

    /// The life of the name this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The same as ids write it.
    pub fn epoch_text(&self) -> &str {
        self.prefix.epoch()
    }

    /// The options in force.
    pub fn options(&self) -> &Arc<StreamOptions> {
        &self.options
    }

    /// Puts other options in force; a smaller history evicts at once.
    pub fn set_options(&mut self, options: Arc<StreamOptions>) {
        self.had_retry = self.may_have_told_retry();
        self.options = options;
        self.log.trim(self.options.history, self.options.history_bytes);
    }

    /// Whether a subscriber may wait for its first event behind a `retry:` line: the options have it, or had it.
    pub fn may_have_told_retry(&self) -> bool {
        self.had_retry || self.options.retry.is_some()
    }

    /// The retained frames.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The snapshot, where one is set.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }

    /// The name that the event of a snapshot has which is set with a publish: the last one's.
    pub fn snapshot_event(&self) -> &str {
        self.snapshot.as_ref().map_or(SNAPSHOT, |last| last.event())
    }

    /// Whether the terminal event was published.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the name was taken away.
    pub fn removed(&self) -> bool {
        self.removed
    }

    /// Whether nothing will follow the newest event.
    pub fn is_complete(&self) -> bool {
        self.ended || self.removed
    }

    /// The newest position; 0 where nothing was published.
    pub fn newest(&self) -> Position {
        self.log.newest()
    }

    /// The id of a position of this life.
    pub fn id_at(&self, position: Position) -> IdText {
        self.prefix.id(position)
    }

    /// The id of the newest event, the caller's own where it had one; `<epoch>-0` where nothing was published.
    pub fn last_id(&self) -> String {
        let own = self.log.get(self.newest()).and_then(|frame| wire::id_of(frame.plain()));
        own.map_or_else(|| self.id_at(self.newest()).as_str().to_owned(), |id| String::from_utf8_lossy(id).into_owned())
    }

    /// Encodes an event for the next position under the options in force. Nothing changes until
    /// [`Self::append`]; neither may change between the two.
    pub fn prepare(&self, scratch: &mut Scratch, event: &CheckedEvent<'_>) -> Prepared {
        self.prepare_behind(Ahead::default(), scratch, event)
    }

    /// The same behind what was prepared and will be appended before.
    pub fn prepare_behind(&self, ahead: Ahead<'_>, scratch: &mut Scratch, event: &CheckedEvent<'_>) -> Prepared {
        let position = self.newest() + ahead.events as Position + 1;
        self.prepare_at(position, ahead.snapshot.unwrap_or_else(|| self.snapshot_event()), scratch, event)
    }

    /// The same for a position to come; `name` is that of the snapshot before it.
    fn prepare_at(&self, position: Position, name: &str, scratch: &mut Scratch, event: &CheckedEvent<'_>) -> Prepared {
        debug_assert!(position > self.newest(), "nothing is appended twice");
        let generated = self.id_at(position);
        let id = event.id.or_else(|| self.options.ids.then_some(generated.as_str()));
        let frame = Frame::new(&mut scratch.0, |out| {
            wire::event(out, event.event, id, event.retry, event.data);
        });
        let snapshot = event.snapshot.map(|data| self.encode_snapshot(scratch, name, position, data));
        Prepared {
            position,
            frame,
            snapshot,
            id: if event.id.is_some() { PreparedId::Custom } else { PreparedId::Generated(generated) },
        }
    }

    /// Whether `prepared` is for the position that comes next.
    pub fn is_next(&self, prepared: &Prepared) -> bool {
        prepared.position == self.newest() + 1
    }

    /// The oldest position that will remain once `prepared` is appended.
    pub fn first_after(&self, prepared: &Prepared) -> Position {
        self.first_behind(Ahead::default(), 1, prepared.frame.len())
    }

    /// The same of `count` events, at least one, with frames of `bytes` together, behind what will be appended before; beyond
    /// the next position where that would not all remain.
    pub fn first_behind(&self, ahead: Ahead<'_>, count: usize, bytes: usize) -> Position {
        let (history, history_bytes) = (self.options.history, self.options.history_bytes);
        self.log.first_after(ahead.events + count, ahead.bytes + bytes, history, history_bytes)
    }

    /// Appends what was prepared, snapshot and event in one step. `None` stands for the caller's
    /// own id, which it knows.
    pub fn append(&mut self, prepared: Prepared) -> Option<IdText> {
        debug_assert!(!self.is_complete(), "nothing follows the end");
        debug_assert!(self.is_next(&prepared), "nobody else has appended since");
        let position = self.log.push(prepared.frame, self.options.history, self.options.history_bytes);
        if let Some(frame) = prepared.snapshot {
            let event = self.snapshot.take().and_then(|last| last.event);
            self.snapshot = Some(Box::new(Snapshot { frame, position, event }));
        }
        match prepared.id {
            PreparedId::Generated(id) => Some(id),
            PreparedId::Custom => {
                self.own_ids = true;
                None
            }
        }
    }

    /// Sets the snapshot, whose data and name are the event's: it stands for everything published so far.
    pub fn set_snapshot(&mut self, scratch: &mut Scratch, event: &CheckedEvent<'_>) {
        self.set_snapshot_at(scratch, event, self.newest());
    }

    /// The same for one that was set elsewhere, where `position` was the newest.
    pub fn set_snapshot_at(&mut self, scratch: &mut Scratch, event: &CheckedEvent<'_>, position: Position) {
        let prepared = self.prepare_snapshot(position, scratch, event);
        self.put_snapshot(prepared);
    }

    /// Encodes a snapshot that stands for everything up to `position`.
    pub fn prepare_snapshot(
        &self,
        position: Position,
        scratch: &mut Scratch,
        event: &CheckedEvent<'_>,
    ) -> PreparedSnapshot {
        let name = event.event.unwrap_or_default();
        let frame = self.encode_snapshot(scratch, name, position, event.data);
        let event = (name != SNAPSHOT).then(|| name.into());
        PreparedSnapshot(Snapshot { frame, position, event })
    }

    /// Sets a snapshot that was prepared.
    pub fn put_snapshot(&mut self, prepared: PreparedSnapshot) {
        debug_assert!(prepared.0.position <= self.newest(), "a snapshot stands for what was published");
        self.snapshot = Some(Box::new(prepared.0));
    }

    /// What was published elsewhere up to `base` did not come here and will not: readers are told of a gap.
    pub fn skip_to(&mut self, base: Position) {
        debug_assert!(!self.is_complete(), "nothing follows the end");
        self.log.skip_to(base);
    }

    /// Ends the stream: the event just appended is its terminal event.
    pub fn end(&mut self) {
        debug_assert!(self.newest() > 0 && !self.is_complete(), "an open stream ends with an event");
        self.ended = true;
    }

    /// The name no longer leads here: what was published is given, then the end.
    pub fn remove(&mut self) {
        self.removed = true;
    }

    /// Appends the block of a gap event.
    pub fn write_gap(&self, block: &mut Vec<u8>, gap: Gap) {
        wire::gap(block, self.epoch, gap.range(), None);
    }

    /// The position an id of a reader's stands for, in this life.
    pub fn position_of(&self, id: &str) -> Option<Position> {
        if self.own_ids {
            // The newest of equal ids: what the reader saw last.
            let wanted = id.as_bytes();
            let held: Vec<&Frame> = self.log.from(self.log.first()).collect();
            if let Some(index) = held.iter().rposition(|frame| wire::id_of(frame.plain()) == Some(wanted)) {
                return Some(self.log.first() + index as Position);
            }
        }
        match crate::id::parse(id) {
            Some((epoch, position)) if epoch == self.epoch && position <= self.newest() => Some(position),
            _ => None,
        }
    }

    fn encode_snapshot(&self, scratch: &mut Scratch, name: &str, position: Position, data: &str) -> Frame {
        let id = self.id_at(position);
        let name = Some(name).filter(|name| !name.is_empty());
        let id = self.options.ids.then_some(id.as_str());
        Frame::new(&mut scratch.0, |out| wire::event(out, name, id, None, data))
    }
}
