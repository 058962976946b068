//! Who a request is from where proxies pass it on: the client's address, and the host and scheme that it named.
//!
//! Owns: which peers are trusted (`trusted_proxies`), the one family of headers that is read of them (`forwarded`), and the
//! parsing of both. Must not know: which hosts are allowed (`access`), what the answer is used for.
//! Rule 1: nothing is read of a peer that is not trusted: everybody can write these headers.
//! Rule 2: the other family is never read: a proxy that sets one passes the other on as the client wrote it.
//! Rule 3: elements are read from the right, each as the word of the proxy behind it, up to the first address that is not
//! trusted. What stands left of that is the client's own text, and is not even parsed: nothing in it is an error.
//! Rule 4: where a trusted proxy hides an address, or writes what is none, that proxy itself counts as the client. A host that
//! it passes on is never taken for absent because it cannot be read: it is kept as far as it can be shown, and is no name.
//! Changes together with `refusals`, which checks the host, and `addresses`, which counts by the client.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{HeaderMap, HeaderValue};

use crate::network::{Family, Network};

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The proxies of one server; none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    trusted: Vec<Network>,
    family: Family,
}

/// Who a request is from, as far as can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requester {
    /// The client; its port is 0 where a proxy does not say it.
    pub(crate) client: SocketAddr,
    /// The host that it named to a proxy, unchecked.
    pub(crate) host: Option<String>,
    /// The scheme that it used to a proxy, in lower case.
    pub(crate) scheme: Option<String>,
    /// Whether a proxy that is trusted stands in between.
    pub(crate) by_proxy: bool,
}

impl Proxies {
    pub(crate) fn new(trusted: &[Network], family: Family) -> Self {
        Self { trusted: trusted.to_vec(), family }
    }

    /// Whether it is a proxy whose word counts.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Who a request from this peer is from.
    pub(crate) fn requester(&self, peer: SocketAddr, headers: &HeaderMap) -> Requester {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.trusts(peer.ip()) {
            return Requester { client: peer, host: None, scheme: None, by_proxy: false };
        }
        match self.family {
            Family::X => self.by_x(peer, headers),
            Family::Rfc7239 => self.by_rfc7239(peer, headers),
        }
    }

    fn by_x(&self, peer: SocketAddr, headers: &HeaderMap) -> Requester {
        let (mut client, mut hops) = (peer, 0);
        for element in from_the_right(headers, X_FORWARDED_FOR) {
            let Some(address) = node(&element) else { break };
            client = address;
            if !self.trusts(address.ip()) {
                break;
            }
            hops += 1;
        }
        // A proxy adds to all three or sets all three: what stands in the same place is of the same proxy. One that sets
        // a value which the next passes on leaves fewer.
        let of_that_proxy =
            |name| from_the_right(headers, name).take(hops + 1).last().filter(|value| !value.is_empty());
        let host = of_that_proxy(X_FORWARDED_HOST).map(Cow::into_owned);
        let scheme = of_that_proxy(X_FORWARDED_PROTO).map(|scheme| scheme.to_ascii_lowercase());
        Requester { client, host, scheme, by_proxy: true }
    }

    fn by_rfc7239(&self, peer: SocketAddr, headers: &HeaderMap) -> Requester {
        let mut origin = Requester { client: peer, host: None, scheme: None, by_proxy: true };
        for value in headers.get_all(hyper::header::FORWARDED).iter().rev() {
            let mut rest = value.as_bytes();
            loop {
                let (left, element) = split_last(rest, b',');
                let Some(pairs) = pairs(element) else {
                    origin.host = unreadable_host(element).or(origin.host);
                    return origin;
                };
                let said = |name: &str| pairs.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
                // Each is the word of a proxy nearer to the client than the one before.
                origin.host = said("host").map(|(_, host)| host.clone()).or(origin.host);
                origin.scheme = said("proto").map(|(_, proto)| proto.to_ascii_lowercase()).or(origin.scheme);
                let Some(address) = said("for").and_then(|(_, address)| node(address)) else { return origin };
                origin.client = address;
                if !self.trusts(address.ip()) {
                    return origin;
                }
                let Some(left) = left else { break };
                rest = left;
            }
        }
        origin
    }
}

/// The elements of all headers of a name, the last first; empty ones too. What is no text is replaced, so that it stays where it
/// stands and is nothing that could be meant.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    let elements = |value: &'a HeaderValue| value.as_bytes().rsplit(|byte| *byte == b',');
    headers.get_all(name).iter().rev().flat_map(elements).map(|element| String::from_utf8_lossy(element.trim_ascii()))
}

/// An element of `Forwarded` that is not well formed, where it names a host.
fn unreadable_host(element: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(element);
    text.to_ascii_lowercase().contains("host").then(|| text.trim().to_owned())
}

/// Cuts at the last such byte that stands in no quotes; the left part is `None` where there is none. It is read from the
/// right: a client that opens quotes and does not close them swallows nothing that a proxy adds.
fn split_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'"' => quoted ^= text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0,
            byte if *byte == separator && !quoted => return (Some(&text[..at]), &text[at + 1..]),
            _ => {}
        }
    }
    (None, text)
}

/// The pairs of an element of `Forwarded`, unquoted; `None` where it is not well formed, or names one twice.
fn pairs(element: &[u8]) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut rest = Some(element);
    while let Some(text) = rest {
        let (left, pair) = split_last(text, b';');
        rest = left;
        let pair = std::str::from_utf8(pair).ok()?.trim_matches([' ', '\t']);
        if pair.is_empty() && left.is_some() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let value = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            // Kinder than the RFC, which wants quotes around a port's colon: proxies in use leave them out.
            None if !value.contains(['"', ' ', '\t', '\\']) => value.to_owned(),
            None => return None,
        };
        if name.is_empty() || pairs.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            return None;
        }
        pairs.push((name.to_owned(), value));
    }
    Some(pairs)
}

fn unquoted(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => characters.next()?,
            '"' => return None,
            character => character,
        });
    }
    Some(plain)
}

/// The address of a node: `10.0.0.1`, `10.0.0.1:80`, `[2001:db8::1]:80`, `2001:db8::1`; its port is 0 where it is not said,
/// or hidden (`_x`). `None` for `unknown`, a hidden address, a name.
fn node(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), 0));
    }
    let (address, port): (IpAddr, _) = if let Some(literal) = text.strip_prefix('[') {
        let (address, port) = literal.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.into(), if port.is_empty() { "0" } else { port.strip_prefix(':')? })
    } else {
        let (address, port) = text.split_once(':')?;
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    let is_hidden = port.len() > 1
        && port.starts_with('_')
        && port.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let port = match port {
        _ if is_hidden => 0,
        digits if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests;
