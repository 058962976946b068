//! An accepted socket before its first wait.
//!
//! Nearly every request is there by the time its connection is accepted, and most of ours leave
//! HTTP right after: registering the socket with the runtime's poll and taking it out again would
//! cost two system calls and a wake-up for nothing. So a socket is read and written directly, and
//! registered when it has to be waited for. A request that is not there yet is waited for before
//! hyper has the socket: a storm of connections that say nothing holds no parser's buffers.
//! What changes together: `connection`, which says when a socket that gave all it had is to be
//! waited for after all.

mod answers;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::answers::AnswerBody;
use self::answers::Answers;

/// What is read of a request before it is parsed: most heads are shorter than 1 KiB.
const AHEAD_BYTES: usize = 4 * 1024;

/// See the module.
pub(crate) struct Socket {
    state: State,
    /// What was read before the parser asked.
    ahead: Vec<u8>,
    /// Whether the last read took everything there was.
    drained: bool,
    wait: Arc<Wait>,
}

enum State {
    /// Not registered.
    Direct(TcpStream),
    Registered(tokio::net::TcpStream),
    /// Registering failed; the error was given to whoever asked.
    Broken,
}

/// What a socket and its owner tell each other; both live on one thread, one inside the other.
/// Relaxed: no other memory depends on it.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    /// The socket put off being waited for.
    put_off: AtomicBool,
    /// It must not do that again.
    due: AtomicBool,
    /// Whether what is written answers a request.
    pub(crate) answers: Answers,
}

impl Wait {
    /// Whether the owner must poll once more, and the socket will then be waited for.
    pub(crate) fn must_poll_again(&self) -> bool {
        self.put_off.swap(false, Ordering::Relaxed) && !self.due.swap(true, Ordering::Relaxed)
    }
}

impl Socket {
    /// A socket just accepted; it must not block.
    pub(crate) fn new(socket: TcpStream, wait: Arc<Wait>) -> Self {
        Self { state: State::Direct(socket), ahead: Vec::new(), drained: false, wait }
    }

    /// Reads what is there; says whether there was anything, the end or an error included.
    pub(crate) fn read_ahead(&mut self) -> bool {
        let State::Direct(socket) = &mut self.state else { return true };
        let mut buffer = [0; AHEAD_BYTES];
        match socket.read(&mut buffer) {
            Ok(read) => {
                self.ahead = buffer[..read].to_vec();
                self.drained = read > 0 && read < AHEAD_BYTES;
                true
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        self.registered()?.readable().await
    }

    /// The socket itself, registered nowhere.
    pub(crate) fn into_std(self) -> io::Result<TcpStream> {
        match self.state {
            State::Direct(socket) => Ok(socket),
            State::Registered(socket) => socket.into_std(),
            State::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn registered(&mut self) -> io::Result<Pin<&mut tokio::net::TcpStream>> {
        if let State::Direct(_) = self.state
            && let State::Direct(socket) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = State::Registered(tokio::net::TcpStream::from_std(socket)?);
        }
        match &mut self.state {
            State::Registered(socket) => Ok(Pin::new(socket)),
            State::Direct(_) | State::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let taken = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..taken]);
            this.ahead.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        if let State::Direct(socket) = &mut this.state {
            if this.drained && !this.wait.due.load(Ordering::Relaxed) {
                this.wait.put_off.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
            let room = buf.remaining();
            match socket.read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    // A closed end is read again and again; everything else was emptied.
                    this.drained = read > 0 && read < room;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        this.registered()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.wait.answers.hold() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if let State::Direct(socket) = &mut self.state {
            match socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        self.registered()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.wait.answers.hold() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        if let State::Direct(socket) = &mut self.state {
            match socket.write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        self.registered()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wait.answers.written();
        // A TCP socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever reads after this wants to know when the other end closes.
        self.wait.due.store(true, Ordering::Relaxed);
        match &mut self.state {
            State::Direct(socket) => Poll::Ready(socket.shutdown(std::net::Shutdown::Write)),
            State::Registered(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Broken => Poll::Ready(Ok(())),
        }
    }
}
