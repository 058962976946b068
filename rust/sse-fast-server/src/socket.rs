//! An accepted socket as hyper has it: read and written directly until it has to be waited for.
//!
//! Owns the socket while HTTP has it. Must not know: requests, responses, shards.
//! Nearly every request is there by the time its connection is accepted, and most of ours leave HTTP
//! right after: registering the socket with the runtime's poll and taking it out again would cost two
//! system calls and a wake-up for nothing. A request that is not there yet is waited for before hyper
//! has the socket: a storm of connections that say nothing holds no parser's buffers.
//! Nothing is given to hyper that `messages` refuses: to hyper the client's bytes end there.
//! What changes together: `signals`, which says what is hidden from hyper and what is held back;
//! `connection`, which says when a socket that gave all it had is to be waited for after all.

mod exchange;
mod messages;
mod pace;
mod signals;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::exchange::{RequestBody, ResponseBody, Rest};
use self::messages::Messages;
pub(crate) use self::messages::{BodyFraming, Refused};
pub(crate) use self::pace::Pace;
pub(crate) use self::signals::Signals;

/// What is read of a request before it is parsed: most heads are shorter than 1 KiB.
const AHEAD_BYTES: usize = 4 * 1024;

/// See the module.
pub(crate) struct Socket {
    state: State,
    /// What was read before the parser asked, or more than it may have yet.
    ahead: Vec<u8>,
    /// Where in what the client sends the parser is.
    messages: Messages,
    /// Bytes that the head of a request may have.
    max_head_bytes: usize,
    /// Whether hyper was given the end of what the client sends. What follows its last request it does not want to know.
    gave_end: bool,
    /// Whether the last read took everything there was.
    emptied: bool,
    signals: Arc<Signals>,
}

enum State {
    /// Not registered.
    Direct(TcpStream),
    Registered(tokio::net::TcpStream),
    /// Registering failed; the error was given to the caller.
    Broken,
}

impl Socket {
    /// A socket just accepted; it must not block. The head of a request may have so many bytes.
    pub(crate) fn new(socket: TcpStream, signals: Arc<Signals>, max_head_bytes: usize) -> Self {
        let (state, messages) = (State::Direct(socket), Messages::default());
        Self { state, ahead: Vec::new(), messages, max_head_bytes, gave_end: false, emptied: false, signals }
    }

    /// Reads what is there; says whether there was anything, the end or an error included.
    pub(crate) fn read_ahead(&mut self) -> bool {
        let State::Direct(socket) = &mut self.state else { return true };
        let mut buffer = [0; AHEAD_BYTES];
        match socket.read(&mut buffer) {
            Ok(read) => {
                self.ahead = buffer[..read].to_vec();
                self.emptied = read > 0 && read < AHEAD_BYTES;
                true
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Asks the kernel itself, for a runtime may not have been told yet; says whether there was anything, the end or an
    /// error included.
    pub(crate) fn read_at_last(&mut self) -> bool {
        let mut buffer = [0; AHEAD_BYTES];
        match self.recv_now(&mut buffer) {
            Ok(read) => {
                self.ahead = buffer[..read].to_vec();
                true
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    fn recv_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::fd::AsFd;
        let socket = match &self.state {
            State::Direct(socket) => socket.as_fd(),
            State::Registered(socket) => socket.as_fd(),
            State::Broken => return Err(io::ErrorKind::NotConnected.into()),
        };
        let (read, _) = rustix::net::recv(socket, buffer, rustix::net::RecvFlags::DONTWAIT)?;
        Ok(read)
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        self.registered()?.readable().await
    }

    /// Why what the client sent was cut, if it was, and hyper came that far.
    pub(crate) fn refused(&self) -> Option<Refused> {
        match self.messages {
            Messages::Refused(why) if self.gave_end => Some(why),
            _ => None,
        }
    }

    /// hyper is done with the connection: whatever comes is given out.
    pub(crate) fn take_over(&mut self) {
        self.signals.take_over();
        self.messages = Messages::Ours;
    }

    /// The socket itself, registered nowhere.
    pub(crate) fn into_std(self) -> io::Result<TcpStream> {
        match self.state {
            State::Direct(socket) => Ok(socket),
            State::Registered(socket) => socket.into_std(),
            State::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Closes with a reset: what the kernel still holds for a reader that is too slow is given up.
    pub(crate) fn reset(self) {
        if let Ok(socket) = self.into_std() {
            // Without it the kernel would go on offering what it holds; nothing more depends on it.
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
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

impl Socket {
    /// Reads what hyper may have of it now.
    fn poll_read_message(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.messages {
            Messages::Refused(_) => return Poll::Ready(Ok(())),
            Messages::HeadEnded => {
                let framing = self.signals.body_framing();
                debug_assert!(framing.is_some(), "hyper reads on when it has handed the request over");
                match framing {
                    Some(framing) => self.messages.body_is(framing),
                    None => self.messages = Messages::Ours,
                }
            }
            Messages::Head(_) | Messages::Body(_) | Messages::Chunks(_) | Messages::Ours => {}
        }
        let before = buf.filled().len();
        let polled = self.poll_read_any(cx, buf);
        let read = &buf.filled()[before..];
        let passed = self.messages.pass(read, self.max_head_bytes);
        if passed < read.len() {
            self.ahead.splice(0..0, read[passed..].iter().copied());
            buf.set_filled(before + passed);
        }
        polled
    }

    fn poll_read_any(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..taken]);
            self.ahead.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        if let State::Direct(socket) = &mut self.state {
            if self.emptied && self.signals.put_off_reading() {
                return Poll::Pending;
            }
            let room = buf.remaining();
            match socket.read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    // The end is read again and again; a read that left room took everything else.
                    self.emptied = read > 0 && read < room;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.signals.is_last_look() {
            match self.recv_now(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.registered()?.poll_read(cx, buf)
    }

    fn poll_write_any(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let State::Direct(socket) = &mut self.state {
            match socket.write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
        self.registered()?.poll_write_vectored(cx, slices)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = this.poll_read_message(cx, buf);
        let ended = matches!(polled, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        let hidden = match this.messages {
            _ if !ended => false,
            // The request under way is whole: it does not end with the next.
            Messages::Refused(Refused::Head | Refused::LongHead | Refused::Framing) => this.signals.hide_refusal(),
            _ => this.signals.hide_end(),
        };
        this.gave_end |= ended && !hidden;
        if hidden { Poll::Pending } else { polled }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.signals.hold_back() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let polled = self.poll_write_any(cx, slices);
        self.signals.wrote(match &polled {
            Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
            Poll::Pending => None,
        });
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.signals.flushed();
        // A TCP socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A read after this waits for the other end to close.
        self.signals.wait_for_reading();
        match &mut self.state {
            State::Direct(socket) => Poll::Ready(socket.shutdown(std::net::Shutdown::Write)),
            State::Registered(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Broken => Poll::Ready(Ok(())),
        }
    }
}
