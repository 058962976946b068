//! A stream as one shard sees it.
//!
//! Owns: its subscribers here, how far they were walked, the heartbeat that was found in force. Must not know: sockets.
//! Invariant: it exists exactly while it has subscribers or a walk. Changes together with `agenda` (its stage) and `debt`
//! (how far it was walked).

use std::cell::RefCell;
use std::rc::Rc;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Frame;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::id::Position;
use sse_fast_core::wire::{self, BlankLine};

use super::agenda::Stage;
use super::subscriber::Roster;
use crate::clock::{in_ticks, unix_ms};
use crate::delivery::Since;
use crate::stream::{Heartbeat, HeartbeatForm, Stream};

/// See the module.
pub(super) struct LocalStream {
    pub(super) stream: Stream,
    pub(super) roster: Roster,
    /// Every subscriber that is served by walks was given everything below this position.
    pub(super) walked: Position,
    pub(super) heartbeat: Option<Rc<HeartbeatFrame>>,
    /// Since when there is news that no walk has taken up, where that is known.
    pub(super) news_since: Since,
    /// Changed by the agenda alone.
    pub(super) stage: Stage,
}

/// A heartbeat made ready for writing; shared by every stream that has the same.
pub(super) struct HeartbeatFrame {
    heartbeat: Heartbeat,
    pub(super) interval: Tick,
    body: Body,
}

enum Body {
    /// Always the same bytes.
    Fixed(Frame),
    /// An event that tells the time: made for all that are due in the same step.
    Event { name: Box<str>, last: RefCell<Option<(Micros, Frame)>> },
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
                Body::Fixed(Frame::of(&block))
            }
            HeartbeatForm::Event(name) => Body::Event { name: name.clone(), last: RefCell::default() },
        };
        Some(Rc::new(Self { interval: in_ticks(heartbeat.every), heartbeat, body }))
    }

    /// The same for a connection whose events have ids, whatever this stream's have: a comment without a blank line.
    pub(super) fn after_ids(self: &Rc<Self>) -> Rc<Self> {
        let HeartbeatForm::Comment { text, blank_line: BlankLine::Written } = &self.heartbeat.form else {
            return Rc::clone(self);
        };
        let form = HeartbeatForm::Comment { text: text.clone(), blank_line: BlankLine::LeftOut };
        let without = Heartbeat { form, ..self.heartbeat.clone() };
        Self::of(Some(without), None).unwrap_or_else(|| Rc::clone(self))
    }

    /// What is written in the step that began at `now`.
    pub(super) fn frame(&self, now: Micros) -> Frame {
        match &self.body {
            Body::Fixed(frame) => frame.clone(),
            Body::Event { name, last } => {
                let mut last = last.borrow_mut();
                match &*last {
                    Some((made, frame)) if *made == now => frame.clone(),
                    _ => {
                        let mut block = Vec::new();
                        wire::heartbeat_event(&mut block, name, unix_ms());
                        last.insert((now, Frame::of(&block))).1.clone()
                    }
                }
            }
        }
    }
}
