//! By which names a server is asked.
//!
//! Owns the rule of one server. Must not know: paths, streams, handlers, origins (`cors`).
//! Invariants: a server bound to loopback answers only to loopback names and the ones it was told:
//! otherwise a web page could rebind a name of its own to 127.0.0.1 and read everything (DNS
//! rebinding). Changes together with `request`, which asks.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Version;
use hyper::header::{self, HeaderMap};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// HTTP/1.1 asks for exactly one (RFC 9112, 3.2).
    NoHost,
    /// Not a name of this server, or no name at all.
    Host,
}

/// The rule of one server.
#[derive(Debug)]
pub(crate) struct Access {
    /// Names in lower case; empty allows every name where the server is not bound to loopback.
    names: Vec<String>,
    loopback: bool,
}

impl Access {
    pub(crate) fn new(host: &str, bound: IpAddr, allowed: &[String]) -> Self {
        let loopback = bound.is_loopback();
        let mut names: Vec<_> = allowed.iter().map(|name| name.to_ascii_lowercase()).collect();
        if loopback || !names.is_empty() {
            names.push(host.to_ascii_lowercase());
        }
        Self { names, loopback }
    }

    /// Checks the Host header.
    pub(crate) fn host(&self, headers: &HeaderMap, version: Version) -> Result<(), Denied> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        let Some(host) = first.filter(|_| second.is_none()) else {
            let allowed = first.is_none() && version == Version::HTTP_10;
            return if allowed { Ok(()) } else { Err(Denied::NoHost) };
        };
        self.name(host.to_str().unwrap_or_default())
    }

    /// Checks the name a request is addressed to: from Host, or from a target in absolute form,
    /// which counts instead (RFC 9112, 3.2.2).
    pub(crate) fn name(&self, host: &str) -> Result<(), Denied> {
        if host.is_empty() {
            return Err(Denied::NoHost);
        }
        let name = name_of(host).ok_or(Denied::Host)?.to_ascii_lowercase();
        let open = !self.loopback && self.names.is_empty();
        let local = self.loopback && is_loopback_name(&name);
        let named = self.names.iter().any(|allowed| match allowed.strip_prefix('*') {
            Some("") => true,
            Some(rest) => name.strip_suffix(rest).is_some_and(is_name),
            None => *allowed == name,
        });
        if open || local || named { Ok(()) } else { Err(Denied::Host) }
    }
}

/// The name in a `Host`, in front of its port; `None` where it is not exactly that (RFC 9110, 7.2): who reads it more kindly
/// than the next server on the way answers for another host.
fn name_of(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(literal) => {
            let end = literal.find(']')?;
            literal[..end].parse::<Ipv6Addr>().ok()?;
            end + 2
        }
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let is_port = port.strip_prefix(':').is_none_or(|digits| {
        digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits.is_empty() || digits.parse::<u16>().is_ok())
    });
    let is_whole = port.is_empty() || port.starts_with(':');
    let is_name = name.starts_with('[') || is_name(name.strip_suffix('.').unwrap_or(name));
    (is_port && is_whole && is_name).then_some(name)
}

/// Whether it is labels with dots in between.
pub(crate) fn is_name(name: &str) -> bool {
    let is_of_a_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_a_label))
}

/// Whether a `Host` is a name of this machine's own.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    name_of(host).is_some_and(|name| is_loopback_name(&name.to_ascii_lowercase()))
}

fn is_loopback_name(name: &str) -> bool {
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || literal.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().expect("a header"))])
    }

    #[test]
    fn loopback_answers_to_loopback_names_only() {
        let access = Access::new("127.0.0.1", [127, 0, 0, 1].into(), &["Shop.Test".into()]);
        for host in
            ["localhost", "localhost:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:9", "a.localhost", "shop.test:1"]
        {
            assert_eq!(access.host(&asked(host), Version::HTTP_11), Ok(()), "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1"] {
            assert_eq!(access.host(&asked(host), Version::HTTP_11), Err(Denied::Host), "{host}");
        }
        assert_eq!(access.host(&HeaderMap::new(), Version::HTTP_11), Err(Denied::NoHost));
        assert_eq!(access.host(&HeaderMap::new(), Version::HTTP_10), Ok(()));
    }

    #[test]
    fn a_host_is_a_name_and_a_port_and_nothing_else() {
        for (host, name) in [
            ("a.test", Some("a.test")),
            ("a.test.:80", Some("a.test.")),
            ("a_b-c:", Some("a_b-c")),
            ("[::1]:65535", Some("[::1]")),
            ("10.0.0.1:1", Some("10.0.0.1")),
            ("localhost:abc", None),
            ("localhost:99999", None),
            ("localhost:80:80", None),
            ("localhost:80@evil.test", None),
            ("127.0.0.1:80.evil.test", None),
            ("[::1]evil.test", None),
            ("[evil]", None),
            ("a..test", None),
            (".a.test", None),
            ("a b.test", None),
            ("*.a.test", None),
            ("evil.test#.a.test", None),
            ("u@a.test", None),
        ] {
            assert_eq!(name_of(host), name, "{host}");
        }
    }

    #[test]
    fn a_public_address_answers_to_every_name_unless_names_are_given() {
        let open = Access::new("0.0.0.0", [0, 0, 0, 0].into(), &[]);
        assert_eq!(open.host(&asked("any.test"), Version::HTTP_11), Ok(()));
        let named = Access::new("0.0.0.0", [0, 0, 0, 0].into(), &["a.test".into(), "*.b.test".into()]);
        for (host, allowed) in [("x.b.test", true), ("x.y.B.test:9", true), (".b.test", false), ("xb.test", false)] {
            assert_eq!(named.host(&asked(host), Version::HTTP_11).is_ok(), allowed, "{host}");
        }
        assert_eq!(named.host(&asked("any.test"), Version::HTTP_11), Err(Denied::Host));
    }
}
