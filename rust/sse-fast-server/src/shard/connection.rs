//! A connection: its socket, and what must be written to it before anything else.
//!
//! Owns: the socket, its framing, its phase, its next due time, the account of one whose socket was full. Must not know:
//! streams, cursors. Invariants: a phase only goes on; `account.unwritten` is some only while the socket is full; a
//! connection whose socket takes bytes has nothing else on the heap, unless publishers waited for it, or it was skipped, not
//! long ago, or its request is in the access log: its account is closed by the first heartbeat after the minute, or when it is served alone. Its size is counted
//! (`tests/counts/memory.rs`): with its subscriber, 64 bytes.

use std::collections::VecDeque;
use std::io;

use sse_fast_core::batch::Partial;
use sse_fast_core::budget::{MINUTE, Micros, Spent};
use sse_fast_core::frame::{Frame, Framing};
use sse_fast_core::heartbeat::Tick;

use super::net::Sink;
use super::table::{GroupKey, SubscriberKey};
use crate::access_log::Access;
use crate::delivery::Patience;

/// No tick: no timer runs.
pub(super) const NO_TICK: Tick = Tick::MAX;

/// See the module.
pub(super) struct Connection<S> {
    pub(super) socket: S,
    /// What reads over it; nothing once it has left its streams and the connection is being closed.
    reads: u32,
    /// Who is in this place of the list: see `net::Token`.
    pub(super) generation: u32,
    /// When bytes were last taken; or, where that was a heartbeat, when it was due.
    pub(super) last_write: Tick,
    /// When the wheel brings it up; an entry of the wheel for another tick is stale.
    pub(super) due: Tick,
    pub(super) framing: Framing,
    pub(super) phase: Phase,
    pub(super) flow: Flow,
    /// Whether the reader has shut its side: it gets what there is, then the end.
    pub(super) half_closed: bool,
    /// What is kept of one whose socket is full, or was and made publishers wait; or which is logged.
    pub(super) account: Option<Box<Account>>,
}

/// What reads over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Nothing,
    /// One stream.
    One(SubscriberKey),
    /// Several, or one under ids as those of several.
    Several(GroupKey),
}

/// In `Connection::reads`: no subscriber; and the bit that tells a group's key from a subscriber's. Either list would take
/// 64 GiB before its keys reached that bit.
const NOTHING: u32 = SubscriberKey::NONE.0;
const SEVERAL: u32 = 1 << 31;

/// A connection's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its subscriber is given what is published.
    Open,
    /// Its last bytes are being written.
    Finishing,
    /// Our end is shut; the reader's is waited for a little, so that a reset destroys no last bytes.
    Lingering,
}

/// Whether the socket takes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It took all it was offered.
    Writable,
    /// It did not; the poll will say when it takes more.
    Full,
}

/// What a connection needs whose socket is full.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// What was begun, or must come first.
    pub(super) unwritten: Option<Unwritten>,
    /// How long publishers waited for it.
    pub(super) spent: Spent,
    /// Of that, since it last took a byte.
    pub(super) idle: Micros,
    /// When it was last told of a gap because its socket was full.
    pub(super) skipped_at: Option<Micros>,
    /// What came before is charged, or was before its socket filled.
    pub(super) charged_until: Micros,
    /// Whether it has not had everything since its socket filled.
    pub(super) behind: bool,
    /// It has used up its share: publishers wait for it again once it has everything.
    pub(super) slow: bool,
    /// It takes bytes, and others come first.
    pub(super) put_off: bool,
    /// Its request in the access log, where there is one.
    pub(super) logged: Option<Box<Access>>,
}

impl Account {
    /// That of a connection of which nothing else is kept.
    pub(super) fn of(logged: Option<Box<Access>>) -> Option<Box<Self>> {
        logged.map(|logged| Box::new(Self { logged: Some(logged), ..Self::default() }))
    }

    /// Its socket took bytes. Few have an account: the others' way stays short.
    #[cold]
    fn took(&mut self, taken: usize) {
        self.idle = 0;
        if let Some(logged) = &mut self.logged {
            logged.gave(taken);
        }
    }

    /// Whether it was skipped within the last minute.
    pub(super) fn was_skipped(&self, now: Micros) -> bool {
        self.skipped_at.is_some_and(|at| now - at < MINUTE)
    }

    /// Whether it has had its share of what publishers wait, of which `left` is left.
    pub(super) fn is_share_spent(&self, patience: Patience, now: Micros, left: Micros) -> bool {
        patience.is_share_spent(self.spent.within_a_minute(now), self.was_skipped(now), left)
    }
}

/// Bytes that were begun or must come first, in parts; never empty.
#[derive(Debug)]
pub(super) struct Unwritten(VecDeque<Part>);

#[derive(Debug)]
enum Part {
    /// A frame, shared with everybody else who stopped in it or before it.
    Frame(Partial),
    /// A part of a frame's block, around its id line.
    Slice { frame: Frame, from: usize, until: usize },
    /// A head, a gap, a heartbeat, a last chunk: its own bytes.
    Own { bytes: Box<[u8]>, written: usize },
}

impl Unwritten {
    /// The subscriber's own bytes.
    pub(super) fn own(bytes: &[u8]) -> Self {
        debug_assert!(!bytes.is_empty(), "something is unwritten");
        Self(VecDeque::from([Part::Own { bytes: bytes.into(), written: 0 }]))
    }

    /// The rest of a frame.
    pub(super) fn frame(partial: Partial) -> Self {
        Self(VecDeque::from([Part::Frame(partial)]))
    }

    /// A part of a frame's block, from and until these places.
    pub(super) fn slice(frame: Frame, from: usize, until: usize) -> Self {
        debug_assert!(from < until, "something is unwritten");
        Self(VecDeque::from([Part::Slice { frame, from, until }]))
    }

    /// Adds what comes after it.
    pub(super) fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// All of it, for a connection that goes on with another stream.
    pub(super) fn into_bytes(self, framing: Framing) -> Vec<u8> {
        self.0.iter().flat_map(|part| part.bytes(framing)).copied().collect()
    }
}

impl Part {
    fn bytes(&self, framing: Framing) -> &[u8] {
        match self {
            Self::Frame(partial) => &partial.frame.bytes(framing)[partial.written..],
            Self::Slice { frame, from, until } => &frame.plain()[*from..*until],
            Self::Own { bytes, written } => &bytes[*written..],
        }
    }

    fn advance(&mut self, taken: usize) {
        match self {
            Self::Frame(partial) => partial.written += taken,
            Self::Slice { from, .. } => *from += taken,
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

/// What a reader sent on a connection on which it has nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing, or a little that is ignored.
    Nothing,
    /// It has shut its side.
    End,
    /// It broke the connection, or sends so much that this is an attack.
    Broken,
}

/// What a reader may send on a connection that is a subscription, for each time it is listened to.
const MAX_UNASKED_BYTES: usize = 64 * 1024;

impl<S: Sink> Connection<S> {
    pub(super) fn new(socket: S, generation: u32, framing: Framing, now: Tick) -> Self {
        Self {
            socket,
            reads: NOTHING,
            generation,
            last_write: now,
            due: NO_TICK,
            framing,
            phase: Phase::Open,
            flow: Flow::Writable,
            half_closed: false,
            account: None,
        }
    }

    /// What reads over it.
    pub(super) fn reads(&self) -> Reads {
        match self.reads {
            NOTHING => Reads::Nothing,
            key if key & SEVERAL != 0 => Reads::Several(GroupKey(key & !SEVERAL)),
            key => Reads::One(SubscriberKey(key)),
        }
    }

    /// This reads over it from now on; says what did before.
    pub(super) fn set_reads(&mut self, reads: Reads) -> Reads {
        let before = self.reads();
        self.reads = match reads {
            Reads::Nothing => NOTHING,
            Reads::One(key) => key.0,
            Reads::Several(key) => key.0 | SEVERAL,
        };
        debug_assert_eq!(self.reads(), reads, "keys are far below the bit that tells them apart");
        before
    }

    /// Offers bytes: one system call.
    pub(super) fn offer(&mut self, bytes: &[u8], now: Tick) -> Taken {
        debug_assert!(!bytes.is_empty(), "nothing is offered for nothing");
        loop {
            return match self.socket.write(bytes) {
                Ok(taken) => {
                    debug_assert!(taken <= bytes.len(), "a socket takes what it is offered");
                    self.last_write = now;
                    if let Some(account) = &mut self.account {
                        account.took(taken);
                    }
                    if taken == bytes.len() { Taken::All } else { Taken::Some(taken) }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Some(0),
                Err(_) => Taken::Gone,
            };
        }
    }

    /// Writes what was begun; returns what the socket did, and how many bytes it took.
    pub(super) fn offer_unwritten(&mut self, now: Tick) -> (Taken, usize) {
        let Some(mut unwritten) = self.account.as_mut().and_then(|account| account.unwritten.take()) else {
            return (Taken::All, 0);
        };
        let mut total = 0;
        while let Some(part) = unwritten.0.front_mut() {
            let bytes = part.bytes(self.framing);
            let length = bytes.len();
            match self.offer(bytes, now) {
                Taken::All => total += length,
                Taken::Gone => return (Taken::Gone, total),
                Taken::Some(some) => {
                    part.advance(some);
                    let _ = self.keep(Some(unwritten));
                    return (Taken::Some(some), total + some);
                }
            }
            unwritten.0.pop_front();
        }
        (Taken::All, total)
    }

    /// The socket is full; this comes first when it takes bytes again. Says whether it had everything until now.
    pub(super) fn keep(&mut self, unwritten: Option<Unwritten>) -> bool {
        let account = self.account.get_or_insert_default();
        debug_assert!(account.unwritten.is_none(), "what was begun is ended before anything else begins");
        account.unwritten = unwritten;
        self.flow = Flow::Full;
        !std::mem::replace(&mut account.behind, true)
    }

    /// The socket takes bytes again, and everything that was begun is written.
    pub(super) fn flows(&mut self) {
        let begun = self.account.as_ref().is_some_and(|account| account.unwritten.is_some());
        debug_assert!(!begun, "what was begun is ended first");
        self.flow = Flow::Writable;
    }

    /// It has everything: it is waited for again if it was slow, and its account is closed once the minute is over.
    pub(super) fn has_everything(&mut self, now: Micros) {
        if let Some(account) = &mut self.account {
            debug_assert!(account.unwritten.is_none(), "it has everything");
            (account.behind, account.slow, account.idle) = (false, false, 0);
            if account.spent.is_clear(now) && !account.was_skipped(now) {
                self.account = Account::of(account.logged.take());
            }
        }
    }

    /// How many bytes were begun or must come first.
    #[cfg(test)]
    pub(super) fn unwritten_bytes(&self) -> usize {
        let unwritten = self.account.as_ref().and_then(|account| account.unwritten.as_ref());
        unwritten.map_or(0, |unwritten| unwritten.0.iter().map(|part| part.bytes(self.framing).len()).sum())
    }

    /// Reads and forgets what the reader sent.
    pub(super) fn listen(&mut self) -> Heard {
        let (mut buffer, mut total) = ([0u8; 4096], 0);
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Heard::End,
                Ok(read) => total += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Heard::Broken,
            }
            if total > MAX_UNASKED_BYTES {
                return Heard::Broken;
            }
        }
    }
}
