//! Networks of addresses, and which headers proxies speak by: the two settings about proxies, parsed.
//!
//! Owns: [`Network`] and [`Family`]. Must not know: headers, requests (`forwarded`).
//! Invariant: an address of IPv4 is the same whether a socket shows it as such or mapped into IPv6.

use std::net::IpAddr;
use std::str::FromStr;

/// An address, or a network of them: `10.0.0.0/8`, `2001:db8::/32`, `127.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// With the bits beyond `prefix` zero; one of IPv4 is mapped into IPv6.
    address: u128,
    /// How many bits count.
    prefix: u32,
}

/// A text is no address and no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no address and no network such as 10.0.0.0/8, or has bits beyond its prefix")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= longest).ok_or(NoNetwork)?
            }
            Some(_) => return Err(NoNetwork),
            None => longest,
        };
        let (address, prefix) = (bits(address), prefix + 128 - longest);
        if address & !mask(prefix) == 0 { Ok(Self { address, prefix }) } else { Err(NoNetwork) }
    }
}

impl Network {
    /// Whether the address is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & mask(self.prefix) == self.address
    }
}

/// As a number; the address of a client that a socket of both versions shows as `::ffff:10.0.0.1` is that of IPv4.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

/// Which headers proxies say it by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// `X-Forwarded-For`, `-Host` and `-Proto`.
    #[default]
    X,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
}

impl FromStr for Family {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "x" => Ok(Self::X),
            "rfc7239" => Ok(Self::Rfc7239),
            _ => Err(format!("{word:?} is neither \"x\" nor \"rfc7239\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_with_a_prefix_and_no_bits_beyond_it() {
        let network = |text: &str| text.parse::<Network>();
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("192.168.1.128/25", "192.168.1.200", "192.168.1.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ] {
            let network = network(text).expect(text);
            assert!(network.contains(inside.parse().expect("an address")), "{text} {inside}");
            assert!(!network.contains(outside.parse().expect("an address")), "{text} {outside}");
        }
        assert!(network("::/0").expect("all").contains([1, 2, 3, 4].into()));
        for text in [
            "",
            "a",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "::/129",
            "[::1]",
            "10.0.0.0/8/8",
            "fe80::1%eth0",
            "2001:db8::1/32",
        ] {
            assert_eq!(network(text), Err(NoNetwork), "{text}");
        }
    }
}
