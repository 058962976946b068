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
//!
//! A kernel (or a sandbox that plays one) may lack any of them. The server starts all the same, and says what that costs.

mod occupant;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{Config, StartError};

/// Unsent bytes the kernel takes of a subscriber before it counts as full.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// What the kernel buffers of a client's requests.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Connections the kernel completes before they are accepted: a storm of 15,000 comes in bursts.
pub(crate) const BACKLOG: i32 = 8192;

/// The same where few clients come.
const PLAIN_BACKLOG: i32 = 64;

/// Refuses connections from now on, also where another process holds the socket: a forked child may.
pub(crate) fn stop(listener: impl AsFd) {
    // It fails where nothing listens any more.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}

/// A socket that listens, and which of its options the system lacks, in words for the log.
pub(crate) struct Bound {
    pub(crate) listener: TcpListener,
    pub(crate) lacking: Vec<String>,
}

/// Binds and listens.
pub(crate) fn bind(config: &Config) -> Result<Bound, StartError> {
    bind_with(&config.host, config.port, |address| listen(address, config))
}

/// Binds and listens, with nothing that subscribers would need.
pub(crate) fn bind_plain(host: &str, port: u16) -> Result<TcpListener, StartError> {
    bind_with(host, port, |address| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(PLAIN_BACKLOG)?;
        Ok(socket.into())
    })
}

fn bind_with<T>(host: &str, port: u16, listen: impl FnOnce(SocketAddr) -> io::Result<T>) -> Result<T, StartError> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let resolved = resolve(host, port, &address)?;
    listen(resolved).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address, occupant: occupant::describe(resolved) },
        io::ErrorKind::PermissionDenied => StartError::NoPermission { address },
        io::ErrorKind::AddrNotAvailable => StartError::BadAddress { address, reason: source.to_string() },
        _ => StartError::Io { attempt: "listening", source },
    })
}

fn resolve(host: &str, port: u16, address: &str) -> Result<SocketAddr, StartError> {
    if host.is_empty() || host.contains('\0') {
        return Err(StartError::BadHost { host: host.to_owned() });
    }
    let bad = |reason: String| StartError::BadAddress { address: address.to_owned(), reason };
    let mut found = (host, port).to_socket_addrs().map_err(|error| bad(error.to_string()))?;
    found.next().ok_or_else(|| bad("the name has no address".to_owned()))
}

fn listen(address: SocketAddr, config: &Config) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(all(unix, not(target_os = "solaris"), not(target_os = "illumos")))]
    if config.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    let lacking = tune(&socket, config.stall_timeout);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(Bound { listener: socket.into(), lacking })
}

/// Sets the options that a server can do without; what the system lacks, and what that costs.
fn tune(socket: &Socket, stall_timeout: Duration) -> Vec<String> {
    let mut lacking = Vec::new();
    let mut set = |option: &str, costs: &str, set: io::Result<()>| {
        if let Err(error) = set {
            lacking.push(format!("the system does not let {option} be set ({error}): {costs}"));
        }
    };
    #[cfg(unix)]
    let restart = "for a minute after a restart the port may be in use";
    #[cfg(unix)]
    set("SO_REUSEADDR", restart, socket.set_reuse_address(true));
    set("TCP_NODELAY", "an event may be held back for a moment", socket.set_tcp_nodelay(true));
    set("SO_RCVBUF", "requests may cost more memory", socket.set_recv_buffer_size(RECEIVE_BUFFER));
    // The kernel counts these in seconds, from 1 up.
    let second = Duration::from_secs(1);
    let keepalive =
        TcpKeepalive::new().with_time(stall_timeout.max(second)).with_interval((stall_timeout / 3).max(second));
    let dead = "a reader that died is noticed late, or by heartbeats alone";
    set("SO_KEEPALIVE or its times", dead, socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    {
        set("TCP_USER_TIMEOUT", dead, socket.set_tcp_user_timeout(Some(stall_timeout)));
        let hidden = "a reader that stalls costs megabytes in the kernel, and is noticed late";
        set("TCP_NOTSENT_LOWAT", hidden, socket.set_tcp_notsent_lowat(NOTSENT_LOWAT));
    }
    lacking
}
