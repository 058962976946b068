//! Who is let in: how many connections there may be, in all and of one address.
//!
//! Owns: the limits, and what a connection was let in as. Must not know: sockets, requests.
//! Invariants: what a connection was let in as is decided once, when it is accepted: nobody who is served is refused or
//! closed for a newcomer. A connection over a limit is let in to be told so, and for the paths that stay open to
//! everybody ([`is_reserved`]); it has a second to say what it wants, and one answer. Those that are told take no places
//! of those that are served, neither in all nor of their address. Of them there is always room for one more: the oldest
//! gives way (`transient`), so that no silent crowd keeps a probe of health out.
//! Changes together with `accept`, which asks, and `respond`, which tells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::addresses::{AddressPlace, Addresses, Key};
use crate::directory::{Counted, Directory};
use crate::forwarded::Proxies;
use crate::transient::{Stay, Transient, Transients};

/// The most files that are kept free of connections for what else a server and its application open: children's pipes,
/// files, other sockets. Of a small limit it is an eighth, and 8 at least.
const MOST_RESERVED: usize = 64;
const LEAST_RESERVED: usize = 8;

/// Connections over the limit that are told so at a time: each costs a file, and 10 KB while its request is parsed.
const TOLD: usize = 1024;

/// Those of an address over its limit: a crowd of one address is to leave room for others'.
const TOLD_OF_ADDRESS: usize = 16;

/// How long a connection that is only to be told may take to ask.
const TOLD_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimits {
    /// Those that are served.
    pub(crate) connections: usize,
    /// Those that are told that there are too many.
    told: Transients<Key>,
    addresses: Addresses,
}

/// What a connection was let in as.
pub(crate) struct Admission {
    /// The other end of the connection.
    pub(crate) peer: SocketAddr,
    /// Its client's, where the peer is the client.
    pub(crate) place: AddressPlace,
    /// Held by one that is over a limit.
    pub(crate) told: Option<Told>,
}

/// The limit that a connection is over, and its place among those that are told.
pub(crate) type ToldPlace = (Over, Arc<Transient<Key>>);

/// That a connection is over a limit, and only to be told so.
pub(crate) struct Told {
    pub(crate) place: ToldPlace,
    /// How long it has that; `None` once somebody watches it.
    pub(crate) stay: Option<Stay>,
    _counted: Counted,
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
        let (connections, told) = Self::within(files, open_files(), asked);
        Self { connections, told: Transients::new(told), addresses }
    }

    /// How many are served, and how many told, of `asked`.
    fn within(files: usize, open: usize, asked: usize) -> (usize, usize) {
        let reserved = (files / 8).clamp(LEAST_RESERVED, MOST_RESERVED);
        let left = files.saturating_sub(open);
        let possible = left.saturating_sub(reserved).max(1);
        let connections = if asked == 0 { possible } else { asked.min(possible) };
        // Half of what is reserved is for them, where nothing else is left.
        let told = TOLD.min(left.saturating_sub(reserved / 2).saturating_sub(connections)).max(1);
        (connections, told)
    }

    /// Lets a connection in that was just accepted.
    pub(crate) fn admit(&self, directory: &Arc<Directory>, proxies: &Proxies, peer: SocketAddr) -> Admission {
        let told = directory.totals.told.load(Ordering::Relaxed);
        let connections = directory.connections().saturating_sub(told);
        let place = match () {
            () if connections >= self.connections => Err(Over::Connections),
            // A trusted proxy's connection carries many clients: each of its requests is counted instead.
            () if proxies.trusts(peer.ip()) => Ok(AddressPlace::free()),
            () => self.addresses.enter(peer.ip()).ok_or(Over::Address),
        };
        match place {
            Ok(place) => Admission { peer, place, told: None },
            Err(over) => {
                let share = (over == Over::Address).then(|| (Key::of(peer.ip()), TOLD_OF_ADDRESS));
                let (place, stay) = self.told.enter(share);
                let counted = Counted::new(directory, |totals| &totals.told);
                let told = Told { place: (over, Arc::new(place)), stay: Some(stay), _counted: counted };
                Admission { peer, place: AddressPlace::free(), told: Some(told) }
            }
        }
    }

    /// A place for a request that a trusted proxy has passed on from this client; `None` where the address has as many as
    /// it may.
    pub(crate) fn admit_request(&self, client: SocketAddr) -> Option<AddressPlace> {
        self.addresses.enter(client.ip())
    }
}

impl Admission {
    /// How long its first head may take, where others have `usual`.
    pub(crate) fn head_timeout(&self, usual: Duration) -> Duration {
        if self.told.is_some() { usual.min(TOLD_TIMEOUT) } else { usual }
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
        let within = ConnectionLimits::within;
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
