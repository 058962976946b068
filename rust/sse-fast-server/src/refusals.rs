//! Requests that are refused by a rule of the server: counted by reason, and said in the log.
//!
//! Owns: how a refusal reads. Must not know: the rules. Invariant: a value that was refused is logged as a quoted text, as
//! far as `shown` lets it: strangers choose it, and secrets travel in it. Changes together with `directory::refused`, which counts.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::access::Denied;
use crate::admission::Over;
use crate::cors::SEC_FETCH_SITE;
use crate::directory::StreamError;
use crate::logs::Level;
use crate::reason::Reason;
use crate::request::ParsedRequest;
use crate::respond::{Context, retry_later};
use crate::response::{HttpResponse, Refusal};
use crate::shown;
use crate::unreadable::{self, Answer, Fault};

const LOGGER: &str = "sse_fast.access";

impl Context {
    /// Parses a head: who it is from, whom it is addressed to, and what of HTTP it asks for.
    pub(crate) fn parse(&self, head: hyper::http::request::Parts, peer: SocketAddr) -> Result<ParsedRequest, Refusal> {
        let requester = self.proxies.requester(peer, &head.headers);
        let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
        let target = authority.as_deref().map_or(Ok(()), |authority| self.access.name(authority));
        let host = self.access.host(&head.headers, head.version);
        match host.and(target) {
            Ok(()) => {}
            Err(Denied::NoHost) => {
                return Err(self.malformed(peer, Refusal::new(400, "bad_request", "one Host header is required")));
            }
            Err(Denied::Host) if host.is_err() => {
                let named = head.headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
                return Err(self.host_refused("Host", named));
            }
            Err(Denied::Host) => {
                return Err(self.host_refused("the target's host", authority.unwrap_or_default().as_bytes()));
            }
        }
        if let Some(host) = &requester.host
            && self.access.name(host).is_err()
        {
            return Err(self.host_refused("the forwarded host", host.as_bytes()));
        }
        let client = requester.client;
        unsupported(&head.headers)
            .and_then(|()| ParsedRequest::parse(head, peer, requester))
            .map_err(|refusal| self.malformed(client, refusal))
    }

    /// `what` it is that names this host.
    fn host_refused(&self, what: &str, host: &[u8]) -> Refusal {
        self.count(Reason::Host, || {
            format!("{what} {:?} is not allowed: see the setting allowed_hosts", shown::host(host))
        });
        let detail = "this server does not answer to that Host; see the setting allowed_hosts";
        Refusal::new(403, "host_not_allowed", detail)
    }

    /// It would change something, and comes from a page of another site.
    pub(crate) fn origin_refused(&self, request: &ParsedRequest) -> Refusal {
        let said = |name: HeaderName| request.headers.get(name).map(HeaderValue::as_bytes);
        let from = match said(header::ORIGIN) {
            Some(origin) => format!("Origin {:?}", shown::origin(origin)),
            None => format!("Sec-Fetch-Site {:?}", shown::site(said(SEC_FETCH_SITE).unwrap_or_default())),
        };
        let is_unknown = request.is_by_proxy() && !self.proxies.trusts(request.peer.ip());
        let hint = if is_unknown { "; a proxy that is not in trusted_proxies has passed it on" } else { "" };
        self.count(Reason::Origin, || format!("{from} is not allowed: see the setting cors{hint}"));
        Refusal::new(403, "origin_not_allowed", "this request comes from another site; see the setting cors")
    }

    pub(crate) fn body_too_large(&self, path: &str, limit: usize) -> Refusal {
        let setting = if limit == self.directory.config.max_body_bytes { "max_body_bytes=" } else { "" };
        self.count(Reason::Body, || {
            format!("the body for {:?} has more than {setting}{limit} bytes", shown::path(path))
        });
        Refusal::new(413, "body_too_large", format!("a body may have at most {limit} bytes"))
            .with("limit", limit)
            .last()
    }

    pub(crate) fn body_late(&self, path: &str) -> Refusal {
        self.count(Reason::Late, || format!("the body for {:?} did not come in time", shown::path(path)));
        Refusal::new(408, "body_timeout", "the body did not come in time").last()
    }

    /// It would make a stream, of which there are as many as may be; some will be forgotten.
    pub(crate) fn too_many_streams(&self, request: &ParsedRequest, error: &StreamError) -> HttpResponse {
        self.count(Reason::Streams, || match error {
            StreamError::TooMany { name, limit, setting } => {
                StreamError::TooMany { name: shown::path(name), limit: *limit, setting }.to_string()
            }
            error => error.to_string(),
        });
        retry_later(request, "too_many_streams", "there are as many streams as may be")
    }

    /// What is written to a client whose bytes hyper gave up, as it goes out; `None` where nobody waits for a word.
    pub(crate) fn unreadable(&self, fault: Fault, why: &str, read: &[u8], peer: SocketAddr) -> Option<Vec<u8>> {
        let config = &self.directory.config;
        match unreadable::answer(fault, read, why, config.max_head_bytes, config.header_timeout)? {
            Answer::GoAway => {
                self.count(Reason::Malformed, || format!("{peer} speaks HTTP/2, which is for a proxy in front"));
                Some(unreadable::go_away())
            }
            Answer::Refusal(reason, refusal) => {
                let begins = || match shown::request_line(read) {
                    Some(line) => format!(": {line:?}"),
                    // hyper has taken them.
                    None if read.is_empty() => String::new(),
                    None => format!(": {} bytes that begin with no request line", read.len()),
                };
                self.count(reason, || format!("{} (from {peer}{})", refusal.detail(), begins()));
                // What it asked for cannot be read, its origin neither.
                Some(refusal.with_cors(&self.cors.headers(&HeaderMap::new())).into_last_bytes())
            }
        }
    }

    /// A request that asks for what cannot be; its connection ends.
    pub(crate) fn malformed(&self, client: SocketAddr, refusal: Refusal) -> Refusal {
        self.count(Reason::Malformed, || format!("{} (from {client})", refusal.detail()));
        refusal.last()
    }

    fn count(&self, reason: Reason, text: impl FnOnce() -> String) {
        let refusals = &self.directory.totals.refusals;
        let (refused, level) = match reason {
            Reason::Host => (&refusals.host, Level::Warning),
            Reason::Origin => (&refusals.origin, Level::Warning),
            Reason::Head => (&refusals.heads, Level::Warning),
            Reason::Body => (&refusals.bodies, Level::Warning),
            Reason::Streams => (&refusals.streams, Level::Warning),
            // Of these the Internet is full.
            Reason::Late => (&refusals.late, Level::Info),
            Reason::Malformed => (&refusals.malformed, Level::Info),
        };
        let text = || format!("a request was refused: {}", text());
        refused.add_at(level, &self.directory.logs, LOGGER, text);
    }

    /// There are as many connections as may be, in all or of this address: one more is refused, or dropped.
    pub(crate) fn too_many(&self, over: Over, address: IpAddr) {
        let (refusals, logs) = (&self.directory.totals.refusals, &self.directory.logs);
        match over {
            Over::Connections => refusals.connections.add(logs, LOGGER, || {
                format!("a request was refused: max_connections={} connections are open", self.limits.connections)
            }),
            Over::Address => refusals.addresses.add(logs, LOGGER, || {
                let limit = self.directory.config.max_connections_per_address.unwrap_or_default();
                format!("a request was refused: {address} has max_connections_per_address={limit} connections open")
            }),
        }
    }
}

/// Refuses what a head asks of HTTP that is not done here (RFC 9110, 10.1.1; RFC 9112, 6.1; RFC 6455, 4.2).
fn unsupported(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    if !expectations.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::new(417, "expectation_failed", "the only expectation that is met is 100-continue"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if !codings.all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::new(501, "unknown_coding", "the only transfer coding that is read is chunked"));
    }
    if headers.get_all(header::TRANSFER_ENCODING).iter().count() > 1 {
        return Err(Refusal::new(400, "bad_request", "a body is chunked once"));
    }
    // Any other protocol is an offer that may be left alone (RFC 9110, 7.8), such as h2c.
    let offered =
        headers.get_all(header::UPGRADE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if offered && headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        let detail = "this is no WebSocket: read it with EventSource, or with fetch";
        return Err(Refusal::new(501, "no_websocket", detail));
    }
    Ok(())
}

/// The refusal of a name that no stream can have.
pub(crate) fn bad_name(error: &StreamError) -> Refusal {
    Refusal::new(400, "bad_stream_name", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_http_can_ask_for_and_is_not_done_here_is_refused() {
        for (name, values, status) in [
            ("expect", &["100-continue"][..], None),
            ("expect", &["100-Continue"], None),
            ("expect", &["200-ok"], Some("417")),
            ("expect", &["something-else"], Some("417")),
            ("expect", &["100-continue;a=e"], Some("417")),
            ("expect", &["100-continue", "x"], Some("417")),
            ("expect", &[""], Some("417")),
            ("transfer-encoding", &["chunked"], None),
            ("transfer-encoding", &["Chunked"], None),
            ("transfer-encoding", &["gzip, chunked"], Some("501")),
            ("transfer-encoding", &["gzip", "chunked"], Some("501")),
            ("transfer-encoding", &["chunked", "chunked"], Some("400")),
            ("transfer-encoding", &["chunked, chunked"], Some("501")),
            ("upgrade", &["h2c"], None),
            ("upgrade", &["websocket"], Some("501")),
        ] {
            let name = HeaderName::from_static(name);
            let mut headers = HeaderMap::from_iter([(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("x"))]);
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
            let refused = unsupported(&headers).err();
            let told = refused.map(|refusal| String::from_utf8(refusal.into_last_bytes()).expect("text"));
            assert_eq!(told.as_ref().map(|told| &told[9..12]), status, "{name} {values:?}");
        }
        let offer = HeaderMap::from_iter([(header::UPGRADE, HeaderValue::from_static("websocket"))]);
        assert!(unsupported(&offer).is_ok(), "a proxy that offers it of its own accord asks for nothing");
    }
}
