//! Who may ask: which hosts and which origins.
//!
//! Owns the rules of one server. Must not know: paths, streams, handlers.
//! Invariants: a server bound to loopback answers only to loopback names and the ones it was told:
//! otherwise a web page could rebind a name of its own to 127.0.0.1 and read everything (DNS
//! rebinding). There is no CORS header unless an origin was allowed. A request that changes something
//! and names its origin, as browsers do, must come from the same site or an allowed one.
//! Changes together with `request`, which asks for the host, and `dispatch`, which asks for the origin.

use std::net::IpAddr;

use hyper::Version;
use hyper::header::{self, HeaderMap, HeaderValue};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// HTTP/1.1 asks for exactly one (RFC 9112, 3.2).
    NoHost,
    /// Not a name of this server.
    Host,
}

/// The rules of one server.
#[derive(Debug)]
pub(crate) struct Access {
    /// Names in lower case; empty allows every name where the server is not bound to loopback.
    names: Vec<String>,
    loopback: bool,
    origins: Vec<String>,
}

impl Access {
    pub(crate) fn new(host: &str, bound: IpAddr, allowed: &[String], origins: &[String]) -> Self {
        let loopback = bound.is_loopback();
        let mut names: Vec<_> = allowed.iter().map(|name| name.to_ascii_lowercase()).collect();
        if loopback || !names.is_empty() {
            names.push(host.to_ascii_lowercase());
        }
        let origins = origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { names, loopback, origins }
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
        let name = without_port(host).to_ascii_lowercase();
        if name.is_empty() {
            return Err(Denied::NoHost);
        }
        let open = !self.loopback && self.names.is_empty();
        let local = self.loopback && is_loopback_name(&name);
        let named = self.names.iter().any(|allowed| *allowed == name || allowed == "*");
        if open || local || named { Ok(()) } else { Err(Denied::Host) }
    }

    /// Whether a request that changes something may come from where it says it comes.
    pub(crate) fn may_change(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let origin = origin.to_str().unwrap_or("null").to_ascii_lowercase();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let same_site = origin.split_once("://").is_some_and(|(_, site)| site == host.to_ascii_lowercase());
        same_site || self.allows(&origin)
    }

    /// The value of `Access-Control-Allow-Origin`, where the origin is allowed.
    pub(crate) fn allow_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        self.allows(&origin.to_str().ok()?.to_ascii_lowercase()).then(|| origin.clone())
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == origin || allowed == "*")
    }
}

fn without_port(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &host[..end + 2];
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback_name(name: &str) -> bool {
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || literal.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn loopback_answers_to_loopback_names_only() {
        let access = Access::new("127.0.0.1", [127, 0, 0, 1].into(), &["Shop.Test".into()], &[]);
        for host in
            ["localhost", "localhost:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:9", "a.localhost", "shop.test:1"]
        {
            assert_eq!(access.host(&asked(host, None), Version::HTTP_11), Ok(()), "{host}");
        }
        for host in ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1"] {
            assert_eq!(access.host(&asked(host, None), Version::HTTP_11), Err(Denied::Host), "{host}");
        }
        assert_eq!(access.host(&HeaderMap::new(), Version::HTTP_11), Err(Denied::NoHost));
        assert_eq!(access.host(&HeaderMap::new(), Version::HTTP_10), Ok(()));
    }

    #[test]
    fn a_public_address_answers_to_every_name_unless_names_are_given() {
        let open = Access::new("0.0.0.0", [0, 0, 0, 0].into(), &[], &[]);
        assert_eq!(open.host(&asked("any.test", None), Version::HTTP_11), Ok(()));
        let named = Access::new("0.0.0.0", [0, 0, 0, 0].into(), &["a.test".into()], &[]);
        assert_eq!(named.host(&asked("any.test", None), Version::HTTP_11), Err(Denied::Host));
    }

    #[test]
    fn changes_come_from_the_same_site_or_an_allowed_one() {
        let access = Access::new("127.0.0.1", [127, 0, 0, 1].into(), &[], &["https://ok.test/".into()]);
        assert!(access.may_change(&asked("localhost:1", None)));
        assert!(access.may_change(&asked("localhost:1", Some("http://localhost:1"))));
        assert!(access.may_change(&asked("localhost:1", Some("https://ok.test"))));
        for origin in ["http://evil.test", "null", "http://localhost:2"] {
            assert!(!access.may_change(&asked("localhost:1", Some(origin))), "{origin}");
        }
        assert_eq!(access.allow_origin(&asked("localhost:1", Some("http://evil.test"))), None);
    }
}
