//! A stream as one shard sees it.
//!
//! Owns: its subscribers here, how far they were walked, the heartbeat that was found in force. Must not know: sockets.
//! Invariant: it exists exactly while it has subscribers or a walk. Changes together with `agenda` (its stage) and `debt`
//! (how far it was walked).

use std::rc::Rc;

use sse_fast_core::frame::Frame;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::id::Position;
use sse_fast_core::wire;

use super::agenda::Stage;
use super::subscriber::Roster;
use crate::clock::in_ticks;
use crate::stream::{Heartbeat, HeartbeatForm, Stream};

/// See the module.
pub(super) struct LocalStream {
    pub(super) stream: Stream,
    pub(super) roster: Roster,
    /// Every subscriber that is served by walks was given everything below this position.
    pub(super) walked: Position,
    pub(super) heartbeat: Option<Rc<HeartbeatFrame>>,
    /// Changed by the agenda alone.
    pub(super) stage: Stage,
}

/// A heartbeat made ready for writing; shared by every stream that has the same.
pub(super) struct HeartbeatFrame {
    heartbeat: Heartbeat,
    pub(super) interval: Tick,
    pub(super) body: HeartbeatBody,
}

pub(super) enum HeartbeatBody {
    /// Always the same bytes.
    Frame(Frame),
    /// An event that tells the time.
    Event(Box<str>),
}

impl HeartbeatFrame {
    /// The heartbeat made ready; `like` is reused where it is the same.
    pub(super) fn of(heartbeat: Option<Heartbeat>, like: Option<&Rc<Self>>) -> Option<Rc<Self>> {
        let heartbeat = heartbeat?;
        if let Some(like) = like.filter(|like| like.heartbeat == heartbeat) {
            return Some(Rc::clone(like));
        }
        let body = match &heartbeat.form {
            HeartbeatForm::Comment { text, blank_line } => {
                let mut block = Vec::new();
                wire::heartbeat(&mut block, text, *blank_line);
                HeartbeatBody::Frame(Frame::of(&block))
            }
            HeartbeatForm::Event(name) => HeartbeatBody::Event(name.clone()),
        };
        Some(Rc::new(Self { interval: in_ticks(heartbeat.every), heartbeat, body }))
    }
}
