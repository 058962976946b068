//! How many connections each client's address has, where `max_connections_per_address` limits that.
//!
//! Owns: the counting of those that are served. Must not know: connections, requests, proxies, and those that are only to be
//! told that there are too many: they take no places. Who comes by a trusted proxy is counted for each request
//! that is under way or read, since the proxy's connection carries many clients; everybody else for the connection.
//! Invariants: an address has an entry exactly while it has a place, so that the map is no larger than the connections
//! are; without a limit nothing is counted. Addresses of IPv6 count by their first 64 bits: a client that has one
//! has as many as it likes. The lock is held for one look-up, and nothing else is done under it.
//! Changes together with `accept` and `respond`, which ask for places, and `shard`, which keeps those of subscribers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl Key {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            #[allow(clippy::cast_possible_truncation, reason = "the upper half, shifted down")]
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// See the module; a handle, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(Option<Arc<Counts>>);

#[derive(Debug)]
struct Counts {
    limit: usize,
    held: Mutex<HashMap<Key, usize>>,
}

/// One of the places of an address, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub(crate) struct AddressPlace {
    /// `None` where nothing is counted.
    counted: Option<(Arc<Counts>, Key)>,
}

impl Addresses {
    /// At most `limit` for each address; `None` counts nothing.
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self(limit.map(|limit| Arc::new(Counts { limit, held: Mutex::default() })))
    }

    /// A place for one more of this address; `None` where it has as many as it may.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<AddressPlace> {
        let Some(counts) = &self.0 else { return Some(AddressPlace::free()) };
        let key = Key::of(address);
        let mut held = counts.held.lock();
        let count = held.entry(key).or_default();
        debug_assert!(counts.limit > 0 && *count <= counts.limit, "no more are served");
        if *count >= counts.limit {
            return None;
        }
        *count += 1;
        drop(held);
        Some(AddressPlace { counted: Some((Arc::clone(counts), key)) })
    }
}

impl AddressPlace {
    /// A place that is not counted.
    pub(crate) fn free() -> Self {
        Self { counted: None }
    }

    /// Whether it is counted: only then is it worth keeping.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted.is_some()
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let Some((counts, key)) = self.counted.take() else { return };
        let mut held = counts.held.lock();
        if let Entry::Occupied(mut entry) = held.entry(key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
                if held.is_empty() {
                    // A crowd's memory goes with it.
                    held.shrink_to_fit();
                }
            }
        } else {
            debug_assert!(false, "a place that is held has an entry");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_no_more_places_than_the_limit_and_gets_them_back() {
        let addresses = Addresses::new(Some(2));
        let first = addresses.enter(address("10.0.0.1")).expect("a place");
        let _second = addresses.enter(address("10.0.0.1")).expect("a place");
        // As IPv6 shows it, it is the same. Who got none has none to give back.
        for _ in 0..20 {
            assert!(addresses.enter(address("::ffff:10.0.0.1")).is_none());
        }
        let other = addresses.enter(address("10.0.0.2")).expect("another's");
        drop((first, other));
        let first = addresses.enter(address("10.0.0.1")).expect("given back");
        assert!(addresses.enter(address("10.0.0.1")).is_none());
        drop(first);
        assert_eq!(
            addresses.0.as_ref().map(|counts| counts.held.lock().len()),
            Some(1),
            "an entry goes with its places"
        );
    }

    #[test]
    fn ipv6_counts_by_its_first_64_bits() {
        let addresses = Addresses::new(Some(1));
        let _one = addresses.enter(address("2001:db8:0:1::1")).expect("a place");
        let has_place = |text| addresses.enter(address(text)).is_some();
        assert!(!has_place("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(has_place("2001:db8:0:2::1"));
        assert!(has_place("0.0.0.1"), "no address of IPv4 is one of IPv6");
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let addresses = Addresses::new(None);
        let places: Vec<_> = (0..1000).filter_map(|_| addresses.enter(address("10.0.0.1"))).collect();
        assert!(places.len() == 1000 && places.iter().all(|place| !place.is_counted()));
    }
}
