//! Accepting: connections are taken as they come, many at a time in a storm.
//!
//! Owns: how many there may be, and what is still taken of a server that closes. Must not know: requests.
//! Each becomes a task that usually ends the first time it runs: its request is there, it is a
//! subscription, a shard has it. Shards are woken once for all of a batch, by a task that runs
//! behind those of the batch; a lone connection's shard is woken as soon.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;

use crate::connection;
use crate::listener;
use crate::logs::Level;
use crate::respond::Context;

/// Files a server needs besides its connections: listener, wake-ups, epolls, a child's pipes.
const RESERVED_FILES: usize = 64;

/// How long accepting rests when the system has no more files to give.
const PAUSE: Duration = Duration::from_millis(50);

/// How often failures of accepting are said again, in a system that stays short of files.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Connections over the limit that are told so at a time: each costs a file, and 10 KB while its request is parsed.
const TOLD: usize = 1024;

/// Connections accepted before those are looked at: what is being parsed costs 10 KB each.
const BATCH: usize = 32;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Those that are served.
    pub(crate) connections: usize,
    /// Those, and the ones beyond that are told so.
    told: usize,
}

impl ConnectionLimits {
    /// `asked` of them are served, 0 being as many as the limit of open files leaves.
    pub(crate) fn of(asked: usize) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let possible = files.saturating_sub(RESERVED_FILES).max(1);
        let connections = if asked == 0 { possible } else { asked.min(possible) };
        let told = connections.saturating_add(TOLD).min(possible.saturating_add(RESERVED_FILES / 2));
        Self { connections, told }
    }
}

/// Accepts until the listener or the task ends.
pub(crate) async fn accept(context: &Arc<Context>, listener: &AsyncFd<TcpListener>) {
    let mut failures = Failures::default();
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        match take_batch(context, listener.get_ref()) {
            Ok(Backlog::Empty) => ready.clear_ready(),
            Ok(Backlog::More) => {}
            Err(error) => {
                if let Some(text) = failures.text(Instant::now(), &error) {
                    context.directory.logs.put(Level::Error, "sse_fast", text);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Accepts what the kernel has of a server that closes: clients that have connected before are answered. Those that connect
/// later are not waited for.
pub(crate) async fn accept_rest(context: &Arc<Context>, listener: &TcpListener) {
    for _ in 0..=listener::BACKLOG.unsigned_abs() as usize / BATCH {
        // Without files for more, the rest is refused by shutting the port.
        let Ok(Backlog::More) = take_batch(context, listener) else { return };
        tokio::task::yield_now().await;
    }
}

/// What is left to accept.
enum Backlog {
    Empty,
    More,
}

/// Accepts up to [`BATCH`] connections.
fn take_batch(context: &Arc<Context>, listener: &TcpListener) -> io::Result<Backlog> {
    for _ in 0..BATCH {
        match take(listener) {
            Ok((socket, peer)) => welcome(context, socket, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Backlog::Empty),
            // The peer was gone before it was accepted: nothing is wrong here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Backlog::More)
}

/// Failures of accepting, said at once and then at most once in [`SAY_EVERY`]: they come twenty times a second for as
/// long as the system is short of files.
#[derive(Default)]
struct Failures {
    /// When they were said last.
    said: Option<Instant>,
    /// Those since then.
    more: u64,
}

impl Failures {
    /// What to say of one more failure, if anything.
    fn text(&mut self, now: Instant, error: &io::Error) -> Option<String> {
        self.more += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < SAY_EVERY) {
            return None;
        }
        let again = self.said.map(|said| format!(" {} times in {:.1?}", self.more, now.duration_since(said)));
        *self = Self { said: Some(now), more: 0 };
        Some(format!("accepting failed{}, resting {PAUSE:?} each time: {error}", again.unwrap_or_default()))
    }
}

fn welcome(context: &Arc<Context>, socket: TcpStream, peer: SocketAddr) {
    context.directory.totals.accepted.fetch_add(1, Ordering::Relaxed);
    // Those over the limit are let in to be told so; a flood beyond that is dropped.
    if context.directory.connections() < context.limits.told {
        connection::begin(Arc::clone(context), socket, peer);
    } else {
        context.too_many();
    }
}

/// Accepts one connection, not blocking: one system call.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn take(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::SocketFlags;
    let (socket, peer) = rustix::net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((TcpStream::from(socket), peer))
}

/// Accepts one connection, not blocking.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn take(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = listener.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_at_once_and_then_counted() {
        let (began, error) = (Instant::now(), io::Error::other("no files"));
        let mut failures = Failures::default();
        let said: Vec<_> = (0..500_u32)
            .filter_map(|number| failures.text(began + PAUSE * number, &error).map(|text| (number, text)))
            .collect();
        assert_eq!(said.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 200, 400]);
        assert!(said[0].1.contains("failed, resting") && said[0].1.ends_with("no files"), "{said:?}");
        assert!(said[1].1.contains("failed 200 times in 10.0s"), "{said:?}");
    }
}
