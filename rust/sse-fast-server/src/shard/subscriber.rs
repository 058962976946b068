//! What a subscriber is: a cursor with a socket. About 60 bytes, and nothing else on the heap
//! while its socket takes bytes; what a blocked one needs is boxed until it is not.

use std::io::{self, Write};

use mio::net::TcpStream;
use sse_fast_core::batch::Rest;
use sse_fast_core::frame::Framing;
use sse_fast_core::heartbeat::Tick;
use sse_fast_core::id::Position;

use super::hold::Hold;

/// No tick: the wheel does not hold the subscriber.
pub(super) const NO_TICK: Tick = Tick::MAX;

/// No member: the subscriber left its stream and its connection is being closed.
pub(super) const NO_MEMBER: u32 = u32::MAX;

pub(super) struct Subscriber {
    pub(super) socket: TcpStream,
    /// The stream it reads, as this shard's key.
    pub(super) member: u32,
    /// Where it stands in its member's list.
    pub(super) place: u32,
    /// When bytes were last taken.
    pub(super) last_write: Tick,
    /// When the wheel will bring it up.
    pub(super) beat: Tick,
    /// The next position it is given.
    pub(super) cursor: Position,
    /// How long publishers wait for it.
    pub(super) hold: Hold,
    /// What it needs while its socket takes nothing.
    pub(super) blocked: Option<Box<Blocked>>,
    pub(super) framing: Framing,
    pub(super) phase: Phase,
}

/// A subscriber's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is given what is published.
    Live,
    /// Its last chunk is being written.
    Finishing,
    /// Our end is shut; waiting for the reader's, so that a reset destroys no last bytes.
    Lingering,
}

/// What a subscriber needs while its socket takes nothing.
#[derive(Debug)]
pub(super) struct Blocked {
    /// What must be written before anything else.
    pub(super) rest: Option<Unwritten>,
    /// The stream's newest position when its socket filled: what was published since is its lag.
    pub(super) since: Position,
}

/// Bytes that were begun or must come first.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// A frame, shared with everybody else who stopped in it.
    Frame(Rest),
    /// A head, a gap, a heartbeat, a last chunk: its own bytes.
    Own { bytes: Box<[u8]>, written: usize },
}

impl Unwritten {
    pub(super) fn own(bytes: &[u8]) -> Self {
        Self::Own { bytes: bytes.into(), written: 0 }
    }

    pub(super) fn bytes(&self, framing: Framing) -> &[u8] {
        match self {
            Self::Frame(rest) => &rest.frame.bytes(framing)[rest.written..],
            Self::Own { bytes, written } => &bytes[*written..],
        }
    }

    pub(super) fn advance(&mut self, taken: usize) {
        match self {
            Self::Frame(rest) => rest.written += taken,
            Self::Own { written, .. } => *written += taken,
        }
    }
}

/// What a socket did with the bytes it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It took them all.
    All,
    /// It took this many; it will say when it takes more.
    Some(usize),
    /// It is broken or closed.
    Gone,
}

impl Subscriber {
    /// Offers bytes: one system call.
    pub(super) fn offer(&mut self, bytes: &[u8], now: Tick) -> Taken {
        loop {
            return match self.socket.write(bytes) {
                Ok(taken) => {
                    self.last_write = now;
                    if taken == bytes.len() { Taken::All } else { Taken::Some(taken) }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Some(0),
                Err(_) => Taken::Gone,
            };
        }
    }

    /// Whether it may be given more right away.
    pub(super) fn ready(&self) -> bool {
        self.blocked.is_none() && self.phase == Phase::Live
    }
}
