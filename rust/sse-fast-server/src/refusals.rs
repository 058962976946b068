//! Requests that are refused by a rule of the server: counted by reason, and said in the log.
//!
//! Owns: how a refusal reads. Must not know: the rules. Invariant: a value that was refused is logged as a quoted text:
//! strangers choose it. Changes together with `directory::refused`, which counts.

use std::net::SocketAddr;

use hyper::header::{self, HeaderValue};

use crate::access::Denied;
use crate::request::ParsedRequest;
use crate::respond::Context;
use crate::response::Refusal;

/// What was wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is addressed to a name that the server does not answer to.
    Host,
    /// It would change something, and comes from a page of another origin.
    Origin,
}

const LOGGER: &str = "sse_fast.access";

/// The most of a refused value that is shown.
const SHOWN: usize = 200;

impl Context {
    /// Parses a head and checks whom it is addressed to.
    pub(crate) fn parse(&self, head: hyper::http::request::Parts, peer: SocketAddr) -> Result<ParsedRequest, Refusal> {
        let authority = head.uri.authority().map(|authority| authority.as_str().to_owned());
        let target = authority.as_deref().map_or(Ok(()), |authority| self.access.name(authority));
        match self.access.host(&head.headers, head.version).and(target) {
            Ok(()) => ParsedRequest::parse(head, peer),
            Err(Denied::NoHost) => Err(Refusal::new(400, "bad_request", "one Host header is required")),
            Err(Denied::Host) => {
                let named = authority.and_then(|authority| HeaderValue::try_from(authority).ok());
                Err(self.refused(Reason::Host, named.as_ref().or(head.headers.get(header::HOST))))
            }
        }
    }

    /// Counts and logs a refusal, whose value it was, and says what the client is told.
    pub(crate) fn refused(&self, reason: Reason, value: Option<&HeaderValue>) -> Refusal {
        let refusals = &self.directory.totals.refusals;
        let (refused, what, setting) = match reason {
            Reason::Host => (&refusals.host, "Host", "allowed_hosts"),
            Reason::Origin => (&refusals.origin, "Origin", "cors"),
        };
        let value = String::from_utf8_lossy(value.map_or(b"", HeaderValue::as_bytes));
        let shown: String = value.chars().take(SHOWN).collect();
        refused.add(&self.directory.logs, LOGGER, || {
            format!("a request was refused: {what} {shown:?} is not allowed: see the setting {setting}")
        });
        match reason {
            Reason::Host => {
                let detail = "this server does not answer to that Host; see the setting allowed_hosts";
                Refusal::new(403, "host_not_allowed", detail)
            }
            Reason::Origin => {
                let detail = "this request comes from another site; see the setting cors";
                Refusal::new(403, "origin_not_allowed", detail)
            }
        }
    }

    /// There are as many connections as may be: one more is refused, or dropped.
    pub(crate) fn too_many(&self) {
        let text =
            || format!("a request was refused: max_connections={} connections are open", self.limits.connections);
        self.directory.totals.refusals.connections.add(&self.directory.logs, LOGGER, text);
    }
}
