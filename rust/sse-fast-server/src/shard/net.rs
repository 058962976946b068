//! What a shard needs of the network: sockets that take bytes, and a poll that says which of them changed.
//!
//! Owns: that narrow door, and the real network behind it (mio). Must not know: subscribers, streams. The simulation has
//! another network behind the same door, so that the shard that is tested is the shard that runs.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry};

/// A connected socket that does not block.
pub(crate) trait Sink {
    /// Takes some of `bytes`, or `WouldBlock`.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Reads what the reader sent; 0 is its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Ends our side: the reader finds an end behind what was written.
    fn shut(&mut self) -> io::Result<()>;

    /// The error that ended the connection, where the kernel knows one.
    fn take_error(&self) -> Option<io::Error>;
}

/// Which connection an event of the poll is for: its place in the shard's list, and who was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) index: u32,
    /// Another one in the same place has another generation: an old event never reaches it.
    pub(crate) generation: u32,
}

/// A socket has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    /// There may be something to read, the end included.
    pub(crate) readable: bool,
    /// It takes bytes again.
    pub(crate) writable: bool,
    /// The connection is no more, in both directions.
    pub(crate) broken: bool,
}

/// Tells of changes of sockets.
pub(crate) trait Net {
    type Socket: Sink;

    fn register(&mut self, socket: &mut Self::Socket, token: Token) -> io::Result<()>;

    /// Before a socket is closed: another process may hold it, too, and then its events would go on.
    fn deregister(&mut self, socket: &mut Self::Socket);
}

impl Sink for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn shut(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn take_error(&self) -> Option<io::Error> {
        TcpStream::take_error(self).ok().flatten()
    }
}

/// The real network.
pub(super) struct Sockets(pub(super) Registry);

/// The token of a shard's wake-up; no connection has it.
pub(super) const WAKE: mio::Token = mio::Token(usize::MAX);

impl Net for Sockets {
    type Socket = TcpStream;

    fn register(&mut self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        self.0.register(socket, packed(token), Interest::READABLE | Interest::WRITABLE)
    }

    fn deregister(&mut self, socket: &mut TcpStream) {
        // It fails only for what was not registered.
        let _ = self.0.deregister(socket);
    }
}

/// An event of the poll, where it is a connection's.
pub(super) fn ready_of(event: &Event) -> Option<Ready> {
    (event.token() != WAKE).then(|| Ready {
        token: unpacked(event.token()),
        readable: event.is_readable() || event.is_read_closed(),
        writable: event.is_writable(),
        broken: event.is_error() || event.is_write_closed(),
    })
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "a token of the poll carries an index and a generation of 32 bits each: the system must have 64-bit pointers"
);

#[cfg(target_pointer_width = "64")]
fn packed(token: Token) -> mio::Token {
    mio::Token((token.generation as usize) << 32 | token.index as usize)
}

#[cfg(target_pointer_width = "64")]
#[allow(clippy::cast_possible_truncation, reason = "the lower half is the index")]
fn unpacked(token: mio::Token) -> Token {
    Token { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
}
