//! Accepting: connections are taken as they come, many at a time in a storm.
//!
//! Each becomes a task that usually ends the first time it runs: its request is there, it is a
//! subscription, a shard has it. Shards are woken once for all of a batch, by a task that runs
//! behind those of the batch; a lone connection's shard is woken as soon.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use crate::connection;
use crate::logs::Level;
use crate::respond::Context;

/// Files a server needs besides its connections: listener, wake-ups, epolls, a child's pipes.
pub(crate) const RESERVED_FILES: usize = 64;

/// How long accepting rests when the system has no more files to give.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections accepted before those are looked at: what is being parsed costs 10 KB each.
const BATCH: usize = 32;

/// Accepts for ever.
pub(crate) async fn accept(context: &Arc<Context>, listener: &AsyncFd<TcpListener>) {
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        for _ in 0..BATCH {
            match take(listener.get_ref()) {
                Ok((socket, peer)) => welcome(context, socket, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                // The peer was gone before it was accepted: nothing is wrong here.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let text = format!("accepting failed, resting {PAUSE:?}: {error}");
                    context.hub.logs.put(Level::Error, "sse_fast", text);
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

fn welcome(context: &Arc<Context>, socket: TcpStream, peer: SocketAddr) {
    context.hub.totals.accepted.fetch_add(1, Ordering::Relaxed);
    // Some over the limit are let in to be told so; a flood beyond that is dropped.
    if context.hub.connections() < context.max_connections + RESERVED_FILES / 2 {
        connection::begin(Arc::clone(context), socket, peer);
    } else {
        context.hub.totals.refused.fetch_add(1, Ordering::Relaxed);
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
