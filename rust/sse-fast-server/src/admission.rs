//! Who is let in: how many connections there may be, in all and of one address.
//!
//! Owns: the limits, and what a connection was let in as. Must not know: sockets, requests.
//! Invariants: what a connection was let in as is decided once, when it is accepted: nobody who is connected is refused or
//! closed for a newcomer. A connection over a limit is let in to be told so, and for the paths that stay open to
//! everybody ([`is_reserved`]); it has a second to say what it wants, and one answer. Those that are told take no places
//! of those that are served.
//! Changes together with `accept`, which asks, and `respond`, which tells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::addresses::{AddressPlace, Addresses};
use crate::directory::{Counted, Directory};
use crate::forwarded::Proxies;

/// The most files that are kept free of connections for what else a server and its application open: children's pipes,
/// files, other sockets. Of a small limit it is an eighth, and 8 at least.
const MOST_RESERVED: usize = 64;
const LEAST_RESERVED: usize = 8;

/// Connections over the limit that are told so at a time: each costs a file, and 10 KB while its request is parsed.
const TOLD: usize = 1024;

/// How long a connection that is only to be told may take to ask.
const TOLD_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    /// Those that are served.
    pub(crate) connections: usize,
    /// Those that are told that there are too many.
    told: usize,
    addresses: Addresses,
}

/// What a connection was let in as.
pub(crate) struct Admission {
    /// The other end of the connection.
    pub(crate) peer: SocketAddr,
    /// Its client's, where the peer is the client.
    pub(crate) place: AddressPlace,
    /// The limit that it is over, if any.
    pub(crate) over: Option<Over>,
    /// Held by one that is over a limit.
    _told: Option<Counted>,
}

/// A limit that a newcomer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// `max_connections`.
    Connections,
    /// `max_connections_per_address`.
    Address,
}

impl ConnectionLimits {
    /// `asked` of them are served, 0 being as many as the limit of open files leaves; `addresses` counts those of each.
    pub(crate) fn of(asked: usize, addresses: Addresses) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let files = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        Self::within(files, open_files(), asked, addresses)
    }

    fn within(files: usize, open: usize, asked: usize, addresses: Addresses) -> Self {
        let reserved = (files / 8).clamp(LEAST_RESERVED, MOST_RESERVED);
        let left = files.saturating_sub(open);
        let possible = left.saturating_sub(reserved).max(1);
        let connections = if asked == 0 { possible } else { asked.min(possible) };
        // Half of what is reserved is for them, where nothing else is left.
        let told = TOLD.min(left.saturating_sub(reserved / 2).saturating_sub(connections)).max(1);
        Self { connections, told, addresses }
    }

    /// Lets a connection in that was just accepted; the limit that it is over, where there is not even room to tell it so.
    pub(crate) fn admit(
        &self,
        directory: &Arc<Directory>,
        proxies: &Proxies,
        peer: SocketAddr,
    ) -> Result<Admission, Over> {
        let told = directory.totals.told.load(Ordering::Relaxed);
        let connections = directory.connections().saturating_sub(told);
        // A trusted proxy's connection carries many clients: each of its requests is counted instead.
        let place = if proxies.trusts(peer.ip()) {
            AddressPlace::free()
        } else {
            self.addresses.enter(peer.ip()).ok_or(Over::Address)?
        };
        let over = match () {
            () if connections >= self.connections => Some(Over::Connections),
            () if place.is_over => Some(Over::Address),
            () => None,
        };
        if let Some(over) = over.filter(|_| told >= self.told) {
            return Err(over);
        }
        let told = over.map(|_| Counted::new(directory, |totals| &totals.told));
        Ok(Admission { peer, place, over, _told: told })
    }

    /// A place for a request that a trusted proxy has passed on from this client; `None` where the address has as many as
    /// it may.
    pub(crate) fn admit_request(&self, client: SocketAddr) -> Option<AddressPlace> {
        self.addresses.enter(client.ip()).filter(|place| !place.is_over)
    }
}

impl Admission {
    /// How long its first head may take, where others have `usual`.
    pub(crate) fn head_timeout(&self, usual: Duration) -> Duration {
        if self.over.is_some() { usual.min(TOLD_TIMEOUT) } else { usual }
    }
}

/// Whether a path is answered also where there are too many connections: by it an operator sees that there are.
pub(crate) fn is_reserved(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// Files that the process has open; where that cannot be told, what an interpreter has at its start.
fn open_files() -> usize {
    let listed = std::fs::read_dir("/proc/self/fd").or_else(|_| std::fs::read_dir("/dev/fd"));
    listed.map_or(16, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_a_small_limit_of_open_files_is_left_for_connections() {
        let within = |files, open, asked| {
            let limits = ConnectionLimits::within(files, open, asked, Addresses::new(None));
            (limits.connections, limits.told)
        };
        assert_eq!(within(64, 12, 0), (44, 4));
        assert_eq!(within(128, 12, 0), (100, 8));
        assert_eq!(within(256, 12, 0), (212, 16));
        assert_eq!(within(1024, 12, 0), (948, 32));
        assert_eq!(within(1_000_000, 12, 0), (999_924, 32));
        assert_eq!(within(1024, 12, 100), (100, 880));
        assert_eq!(within(1_000_000, 12, 100), (100, TOLD));
        // An application that has nearly all of them gets one, and is told so by every refusal.
        assert_eq!(within(64, 64, 0), (1, 1));
        for files in (24..2000).step_by(7) {
            let (connections, told) = within(files, 12, 0);
            assert!(files < 40 || connections * 2 >= files, "{files}: {connections}");
            assert!(connections + told + 12 <= files || files < 32, "{files}: {connections} {told}");
        }
    }
}
