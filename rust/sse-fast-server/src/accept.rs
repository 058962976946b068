//! Accepting: connections are taken as they come, many at a time in a storm.
//!
//! Owns: the pace, and what is still taken of a server that closes. Must not know: requests, limits (`admission`).
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

/// How long accepting rests when the system has no more files to give.
const PAUSE: Duration = Duration::from_millis(50);

/// How often failures of accepting are said again, in a system that stays short of files.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Connections accepted before those are looked at: what is being parsed costs 10 KB each.
const BATCH: usize = 32;

/// Accepts until the listener or the task ends.
pub(crate) async fn accept(context: &Arc<Context>, listener: &AsyncFd<TcpListener>) {
    let mut failures = Failures::default();
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        match take_batch(context, listener.get_ref()) {
            Ok(Backlog::Empty) => ready.clear_ready(),
            Ok(Backlog::More(_)) => {}
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
    let mut left = listener::BACKLOG.unsigned_abs() as usize;
    while left > 0 {
        // Without files for more, the rest is refused by shutting the port.
        let Ok(Backlog::More(taken)) = take_batch(context, listener) else { return };
        left = left.saturating_sub(taken.max(1));
        tokio::task::yield_now().await;
    }
}

/// What is left to accept.
enum Backlog {
    Empty,
    /// Perhaps more, besides so many that were taken.
    More(usize),
}

/// Accepts up to [`BATCH`] connections.
fn take_batch(context: &Arc<Context>, listener: &TcpListener) -> io::Result<Backlog> {
    for taken in 1..=BATCH {
        match take(listener) {
            Ok((socket, peer)) => {
                if !welcome(context, socket, peer) {
                    // What made room for it is to close first: it has one of the files that are left.
                    return Ok(Backlog::More(taken));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Backlog::Empty),
            // The peer was gone before it was accepted: nothing is wrong here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Backlog::More(BATCH))
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

/// Begins a connection; false where it is over a limit.
fn welcome(context: &Arc<Context>, socket: TcpStream, peer: SocketAddr) -> bool {
    context.directory.totals.accepted.fetch_add(1, Ordering::Relaxed);
    let admission = context.limits.admit(&context.directory, &context.proxies, peer);
    let is_served = admission.told.is_none();
    connection::begin(Arc::clone(context), socket, admission);
    is_served
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
