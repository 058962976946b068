//! The listening socket: where it is bound, and what every accepted socket inherits from it.
//!
//! All options are set once, here. What each is for was measured:
//! - `TCP_NODELAY`: an event is never held back for more to come.
//! - `TCP_NOTSENT_LOWAT` 16 KiB: without it a stalled reader hides four megabytes in the kernel,
//!   with it 38 KB; fast readers pay nothing measurable. `SO_SNDBUF` stays alone: it would limit a
//!   reader to one buffer a round trip.
//! - `TCP_USER_TIMEOUT` = `stall_timeout`: a peer that acknowledges nothing, or whose window stays
//!   shut, is cut after it; heartbeats alone held a dead peer for minutes.
//! - keepalive finds a dead peer where no heartbeat is sent.
//! - `SO_REUSEPORT` only where asked for: it lets a second process take half the connections.
//! - `SO_RCVBUF` 64 KiB: a subscriber has nothing to say.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{Config, StartError};

/// Unsent bytes the kernel takes of a subscriber before it counts as full.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// What the kernel buffers of a client's requests.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Connections the kernel completes before they are accepted: a storm of 15,000 comes in bursts.
const BACKLOG: i32 = 8192;

/// Refuses connections from now on, also where another process holds the socket: a forked child may.
pub(crate) fn stop(listener: &TcpListener) {
    // It fails where nothing listens any more.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

/// Binds and listens.
pub(crate) fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let address = if config.host.contains(':') {
        format!("[{}]:{}", config.host, config.port)
    } else {
        format!("{}:{}", config.host, config.port)
    };
    let resolved = resolve(&config.host, config.port, &address)?;
    listen(resolved, config).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        io::ErrorKind::PermissionDenied => StartError::NoPermission { address },
        io::ErrorKind::AddrNotAvailable => StartError::BadAddress { address, reason: source.to_string() },
        _ => StartError::Io { attempt: "listening", source },
    })
}

fn resolve(host: &str, port: u16, address: &str) -> Result<SocketAddr, StartError> {
    let bad = |reason: String| StartError::BadAddress { address: address.to_owned(), reason };
    let mut found = (host, port).to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("the name has no address".to_owned()))
}

fn listen(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let stall_timeout = config.stall_timeout;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(target_os = "solaris"), not(target_os = "illumos")))]
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // The kernel counts these in seconds, from 1 up.
    let second = Duration::from_secs(1);
    let keepalive =
        TcpKeepalive::new().with_time(stall_timeout.max(second)).with_interval((stall_timeout / 3).max(second));
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(stall_timeout))?;
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
