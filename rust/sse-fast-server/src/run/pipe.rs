//! A child's pipes: reading stdout or stderr to its end, and writing what it reads from stdin.
//!
//! Owns: the reads and writes, and telling log lines from what is to be published.
//! Must not know: the process, why reading or writing has to stop.
//! Invariants: the logger never delays a read. The next read waits until the events of the last one are published. A
//! publish is never dropped half-way, so when `read_to_end` returns every event of this pipe is in the stream.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use sse_fast_core::lines::{Item, MarkedLines};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;

use super::publisher::Publisher;
use crate::logs::{Level, LogSource};

/// The bytes of one read: a quarter of the kernel's pipe, so a flood takes few calls and an idle run only 32 KiB.
const READ_BYTES: usize = 16 * 1024;
/// The most that is read after the stop: more than a pipe holds, and a bound for a grandchild that goes on writing.
const LAST_BYTES: usize = 1024 * 1024;

/// One pipe of a child.
pub(super) struct Pipe {
    /// `stdout` or `stderr`, for the log.
    pub(super) name: &'static str,
    pub(super) lines: MarkedLines,
    /// Whether unmarked lines are events, too; otherwise they are logged.
    pub(super) publishes_lines: bool,
    pub(super) publisher: Arc<Publisher>,
    pub(super) log: LogSource,
}

/// The end of a pipe that is read; needs the runtime's context.
pub(super) fn receiver(end: impl Into<OwnedFd>) -> std::io::Result<Receiver> {
    Receiver::from_owned_fd(end.into())
}

/// The end of a pipe that is written; needs the runtime's context.
pub(super) fn sender(end: impl Into<OwnedFd>) -> std::io::Result<Sender> {
    Sender::from_owned_fd(end.into())
}

/// Writes what the child is to read, then closes the pipe. It ends early where nobody reads any more: the child closed
/// its end, or `stop` turned true because the run is over. Neither is an error, as with `subprocess.run(input=)`.
pub(super) async fn write_all(to: Sender, bytes: Vec<u8>, mut stop: watch::Receiver<bool>, log: LogSource) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let ready = tokio::select! {
            ready = to.writable() => ready,
            () = until_set(&mut stop) => return,
        };
        match ready.and_then(|()| to.try_write(rest)) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return,
            Err(error) => {
                log.put(Level::Error, &format!("stdin cannot be written: {error}"));
                return;
            }
        }
    }
}

async fn until_set(stop: &mut watch::Receiver<bool>) {
    // An error means that the supervisor is gone, which is a reason to stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Pipe {
    /// Reads until the pipe is closed or `stop` turns true, then publishes an event that was left unfinished.
    pub(super) async fn read_to_end(mut self, from: Receiver, mut stop: watch::Receiver<bool>) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let ready = tokio::select! {
                ready = from.readable() => ready,
                () = until_set(&mut stop) => {
                    self.read_rest(&from, &mut buffer).await;
                    break;
                }
            };
            match ready.and_then(|()| from.try_read(&mut buffer)) {
                Ok(0) => break,
                Ok(read) => self.parse(&buffer[..read]).await,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.log.put(Level::Error, &format!("{} cannot be read: {error}", self.name));
                    break;
                }
            }
        }
        let mut items = Vec::new();
        self.lines.finish(&mut items);
        self.deliver(items).await;
    }

    /// Reads what the pipe holds now. Asks the kernel itself, because the runtime may not know of it yet.
    async fn read_rest(&mut self, from: &Receiver, buffer: &mut [u8]) {
        let mut taken = 0;
        while taken < LAST_BYTES {
            match rustix::io::read(from, &mut *buffer) {
                Ok(0) => return,
                Ok(read) => {
                    taken += read;
                    self.parse(&buffer[..read]).await;
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let name = self.name;
        self.log.put(Level::Warning, &format!("{name} is still open after the end; later output is lost"));
    }

    async fn parse(&mut self, bytes: &[u8]) {
        let mut items = Vec::new();
        self.lines.push(bytes, &mut items);
        self.deliver(items).await;
    }

    async fn deliver(&self, items: Vec<Item>) {
        let name = self.name;
        let mut events = Vec::new();
        for item in items {
            match item {
                item @ (Item::Log(_) | Item::LongLog { .. }) if self.publishes_lines => events.push(item),
                Item::Log(text) => self.log.put(Level::Info, &format!("{name}: {text}")),
                Item::LongLog { start, length } => {
                    self.log.put(Level::Info, &format!("{name}: {start}… (the start of a line of {length} bytes)"));
                }
                Item::Ignored(text) => self.log.put(Level::Warning, &format!("{name}: marked line ignored: {text}")),
                item @ (Item::Event(_) | Item::Rejected { .. }) => events.push(item),
            }
        }
        if events.is_empty() {
            return;
        }
        let publisher = Arc::clone(&self.publisher);
        if let Err(error) = tokio::task::spawn_blocking(move || publisher.publish(events)).await {
            self.log.put(Level::Error, &format!("{name}: events lost: {error}"));
        }
    }
}
