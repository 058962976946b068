//! The network of the simulation: what a kernel does between a shard's socket and a client.
//!
//! Owns: the bytes under way, and the edges of the poll. Must not know: streams, frames. Modelled as Linux does it: a socket
//! takes as many bytes as there is room; one that took less than it was offered is owed a writable edge once there is room;
//! an event carries everything that is true when it is fetched; a socket that is closed with unread bytes resets the
//! connection and destroys what its client has not read; bytes to a client that is gone are taken once, then it is reset.
//! Every write first lets happen what other threads do (`stage::Stage::between`).

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::stage::Stage;
use super::wire::{Edges, Wire, edge};
use crate::shard::{Net, Sink, Token};

pub(super) struct SimSocket {
    pub(super) wire: Rc<RefCell<Wire>>,
    pub(super) stage: Rc<Stage>,
}

pub(super) struct SimNet {
    pub(super) edges: Edges,
    pub(super) stage: Rc<Stage>,
}

impl Sink for SimSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stage.between();
        let mut wire = self.wire.borrow_mut();
        assert!(wire.shut.is_none(), "nothing is written after the end");
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.gone {
            wire.reset = true;
            drop(wire);
            edge(&self.wire);
            return Ok(bytes.len());
        }
        let room = wire.room();
        let limit = wire.next_takes.take().unwrap_or(usize::MAX);
        let taken = bytes.len().min(room).min(limit);
        wire.unread.extend(&bytes[..taken]);
        wire.taken += taken;
        if taken > 0 {
            wire.last_taken = self.stage.now();
        }
        if taken == bytes.len() {
            return Ok(taken);
        }
        wire.was_short = true;
        wire.is_short = taken == room;
        let owed = !wire.is_short;
        drop(wire);
        if owed {
            edge(&self.wire);
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.incoming > 0 {
            let read = wire.incoming.min(buffer.len());
            wire.incoming -= read;
            return Ok(read);
        }
        if wire.fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn shut(&mut self) -> io::Result<()> {
        let mut wire = self.wire.borrow_mut();
        assert!(wire.shut.is_none(), "it is shut once");
        if wire.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        wire.shut = Some(self.stage.now());
        let both = wire.fin;
        drop(wire);
        if both {
            edge(&self.wire);
        }
        Ok(())
    }

    fn take_error(&self) -> Option<io::Error> {
        self.wire.borrow().reset.then(|| ErrorKind::ConnectionReset.into())
    }
}

impl Net for SimNet {
    type Socket = SimSocket;

    fn register(&mut self, socket: &mut SimSocket, token: Token) -> io::Result<()> {
        let mut wire = socket.wire.borrow_mut();
        assert!(wire.registered.is_none(), "it is registered once");
        wire.registered = Some(token);
        if let Some((stream, id)) = wire.claim.take() {
            wire.opened = Some(self.stage.opened(stream, id.as_deref()));
        }
        if !wire.several.is_empty() {
            let opened = wire.several.iter().map(|&(stream, place)| self.stage.opened_at(stream, place));
            wire.opened_several = Some(opened.collect());
        }
        drop(wire);
        edge(&socket.wire);
        Ok(())
    }

    fn deregister(&mut self, socket: &mut SimSocket) {
        let mut wire = socket.wire.borrow_mut();
        assert!(wire.registered.take().is_some(), "what is deregistered was registered");
        drop(wire);
        self.edges.borrow_mut().retain(|other| !Rc::ptr_eq(other, &socket.wire));
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        wire.closed = Some(self.stage.now());
        if wire.registered.is_some() && !self.stage.is_failing() && !std::thread::panicking() {
            self.stage.fault("a socket was closed that a forked child's poll would still tell of");
        }
        if wire.incoming > 0 {
            wire.reset = true;
            wire.unread.clear();
        }
    }
}
