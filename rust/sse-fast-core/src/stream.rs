//! A named stream's state: its log with epoch, snapshot, options and end.
//!
//! Open, then ended; never open again. Whoever holds the state holds it alone (the shell puts it
//! under one short lock), so publish, snapshot and opening a subscriber are atomic to each other:
//! no event is lost or doubled between a snapshot and its tail. Positions are the law: everything
//! a subscriber is told follows from its cursor and this state. What changes together: `cursor`
//! and `lag` read what is kept here.

use std::sync::Arc;

use crate::event::CheckedEvent;
use crate::frame::Frame;
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
    /// Whether the terminal event was appended: it is the newest for good.
    ended: bool,
    /// Whether any event had a caller's own id: only then must the log be searched at a resume.
    own_ids: bool,
}

/// What appending an event would do to the log; made before, so that a publisher can wait first.
#[derive(Debug)]
pub struct Prepared {
    frame: Frame,
    snapshot: Option<Frame>,
    id: PreparedId,
}

#[derive(Debug)]
enum PreparedId {
    Ours(IdText),
    Own,
}

impl StreamState {
    /// An open stream without events.
    pub fn new(epoch: Epoch, options: Arc<StreamOptions>) -> Self {
        let prefix = Prefix::new(epoch);
        Self { epoch, prefix, options, log: Log::default(), snapshot: None, ended: false, own_ids: false }
    }

    /// The life of the name this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The options in force.
    pub fn options(&self) -> &Arc<StreamOptions> {
        &self.options
    }

    /// Puts other options in force; a smaller history evicts at once.
    pub fn set_options(&mut self, options: Arc<StreamOptions>) {
        self.options = options;
        self.log.trim(self.options.history, self.options.history_bytes);
    }

    /// The retained frames.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The snapshot, where one is set.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
    }

    /// Whether the terminal event was published.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The newest position; 0 where nothing was published.
    pub fn newest(&self) -> Position {
        self.log.newest()
    }

    /// The id of a position of this life.
    pub fn id_at(&self, position: Position) -> IdText {
        self.prefix.id(position)
    }

    /// Encodes an event for the next position. Nothing changes until [`Self::append`]; the state
    /// must not change between the two.
    pub fn prepare(&self, scratch: &mut Scratch, event: &CheckedEvent<'_>) -> Prepared {
        let position = self.newest() + 1;
        let ours = self.id_at(position);
        let id = self.options.ids.then(|| event.id.unwrap_or(ours.as_str()));
        let frame = Frame::new(&mut scratch.0, |out| {
            wire::event(out, event.event, id.or(event.id), event.retry, event.data);
        });
        let snapshot = event.snapshot.map(|data| {
            let name = self.snapshot.as_ref().and_then(|last| last.event.as_deref()).unwrap_or("snapshot");
            self.encode_snapshot(scratch, name, position, data)
        });
        Prepared { frame, snapshot, id: if event.id.is_some() { PreparedId::Own } else { PreparedId::Ours(ours) } }
    }

    /// The oldest position that will remain once `prepared` is appended.
    pub fn first_after(&self, prepared: &Prepared) -> Position {
        self.log.first_after(prepared.frame.len(), self.options.history, self.options.history_bytes)
    }

    /// Appends what was prepared, snapshot and event in one step. `None` stands for the caller's
    /// own id, which it knows.
    pub fn append(&mut self, prepared: Prepared) -> Option<IdText> {
        let position = self.log.push(prepared.frame, self.options.history, self.options.history_bytes);
        if let Some(frame) = prepared.snapshot {
            let event = self.snapshot.take().and_then(|last| last.event);
            self.snapshot = Some(Box::new(Snapshot { frame, position, event }));
        }
        match prepared.id {
            PreparedId::Ours(id) => Some(id),
            PreparedId::Own => {
                self.own_ids = true;
                None
            }
        }
    }

    /// Sets the snapshot: it stands for everything published so far.
    pub fn set_snapshot(&mut self, scratch: &mut Scratch, name: &str, data: &str) {
        let position = self.newest();
        let frame = self.encode_snapshot(scratch, name, position, data);
        let event = (name != "snapshot").then(|| name.into());
        self.snapshot = Some(Box::new(Snapshot { frame, position, event }));
    }

    /// Ends the stream: the event just appended is its terminal event.
    pub fn end(&mut self) {
        self.ended = true;
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
