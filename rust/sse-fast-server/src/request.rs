//! A request's head, parsed and checked once, before anything else sees it.
//!
//! Owns [`ParsedRequest`]: the decoded path and query, the allowed host, the form of a stream that is
//! wanted. Must not know: routes, streams, sockets.
//! Invariants: what a client sends and we cannot read is a [`Refusal`] with a status, never a panic.
//! Query strings are never logged: tokens travel in them.
//! Changes together with `dispatch`, which decides by what is parsed here.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Uri, Version};
use percent_encoding::percent_decode_str;

use crate::forwarded::Requester;
use crate::response::Refusal;
use crate::socket::Signals;

/// The form of a stream a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `text/event-stream`, or anything.
    Events,
    /// `application/json`: the same stream, once.
    Json,
    /// Neither.
    Neither,
}

/// A request, parsed.
#[derive(Debug)]
pub(crate) struct ParsedRequest {
    pub(crate) method: Method,
    /// As it was sent.
    pub(crate) uri: Uri,
    /// Decoded; everything is found by this.
    pub(crate) path: String,
    /// Decoded pairs, in order.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) wanted: Wanted,
    /// From the header, or else from the query.
    pub(crate) last_event_id: Option<Box<str>>,
    /// Whether the client speaks HTTP/1.0, which knows no chunks.
    pub(crate) http10: bool,
    /// The other end of the connection.
    pub(crate) peer: SocketAddr,
    /// Who asks, as far as can be believed.
    pub(crate) requester: Requester,
    /// What its socket tells; `None` where it has none, as in tests.
    pub(crate) signals: Option<Arc<Signals>>,
}

/// What proxies add to a request.
const OF_PROXIES: [HeaderName; 4] =
    [header::FORWARDED, header::VIA, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-real-ip")];

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The same in a query; the second is what the `event-source-polyfill` sends.
const IN_QUERY: [&str; 2] = ["last_event_id", "lastEventId"];

impl ParsedRequest {
    /// Parses a request's head, whose hosts were checked.
    pub(crate) fn parse(
        head: hyper::http::request::Parts,
        peer: SocketAddr,
        requester: Requester,
    ) -> Result<Self, Refusal> {
        if !is_well_escaped(head.uri.path()) {
            return Err(Refusal::new(
                400,
                "bad_request",
                "the path has a % that begins no escape, such as %25 for itself",
            ));
        }
        let path = decode(head.uri.path()).ok_or_else(|| Refusal::new(400, "bad_request", "the path is not UTF-8"))?;
        let query = pairs(head.uri.query().unwrap_or_default());
        let from_header = head.headers.get(LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let from_query = query.iter().filter(|(name, _)| IN_QUERY.contains(&name.as_str())).map(|(_, id)| id.as_str());
        let last_event_id =
            from_header.as_deref().into_iter().chain(from_query).find(|id| !id.is_empty()).map(Box::from);
        Ok(Self {
            last_event_id,
            requester,
            uri: head.uri,
            path,
            query,
            // The JSON form is for clients that poll, and none polls with a method that changes something: the clients of
            // OpenAI and Anthropic ask for JSON in the very POST that they expect a stream for.
            wanted: if is_read(&head.method) { wanted(&head.headers) } else { Wanted::Events },
            method: head.method,
            headers: head.headers,
            http10: head.version == Version::HTTP_10,
            peer,
            signals: None,
        })
    }

    /// The address of who asks: behind a trusted proxy that is not the peer's.
    pub(crate) fn client(&self) -> SocketAddr {
        self.requester.client
    }

    /// The host by which the client asked.
    pub(crate) fn host(&self) -> &str {
        let header = || self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let target = || self.uri.authority().map(hyper::http::uri::Authority::as_str);
        self.requester.host.as_deref().or_else(target).or_else(header).unwrap_or_default()
    }

    /// Whether a proxy has passed it on, trusted or not: the peer may be another than the client.
    pub(crate) fn is_by_proxy(&self) -> bool {
        self.requester.by_proxy || OF_PROXIES.iter().any(|name| self.headers.contains_key(name))
    }

    /// Whether the answer would carry a stream's events, as an event stream or as JSON.
    pub(crate) fn wants_stream_body(&self) -> bool {
        self.method == Method::GET && self.wanted != Wanted::Neither
    }

    /// Whether a stream's name is not what the query gave, whose bytes are no text.
    pub(crate) fn has_garbled(&self, name: &str) -> bool {
        name.contains(char::REPLACEMENT_CHARACTER) && self.has_garbled_query()
    }

    /// Whether the bytes of the query are no text.
    pub(crate) fn has_garbled_query(&self) -> bool {
        self.uri.query().is_some_and(|query| decode(query).is_none())
    }

    /// Whether the method only reads.
    pub(crate) fn is_read(&self) -> bool {
        is_read(&self.method)
    }

    /// Whether it can only be a browser's `EventSource`, or a client that behaves like one: a GET that names the type. One that
    /// gets an error status never comes back.
    pub(crate) fn is_event_source(&self) -> bool {
        let names_events = |value: &header::HeaderValue| {
            value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("text/event-stream"))
        };
        self.method == Method::GET
            && self.wanted == Wanted::Events
            && self.headers.get_all(header::ACCEPT).iter().any(names_events)
    }
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Whether each % of a path is followed by two hexadecimal digits, as it must be (RFC 3986, 2.1): what is none, servers on the
/// way read differently.
fn is_well_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|behind| {
        let digits = behind.as_bytes().get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

/// Decodes a path or a part of one; `None` where it is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// A query's pairs; `+` is a space, what is not UTF-8 is replaced.
fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// What `Accept` prefers (RFC 9110, 12.5.1): the more specific range decides a type's weight; of
/// equal weights the one that was named wins, and events if both were.
fn wanted(headers: &HeaderMap) -> Wanted {
    let mut any = false;
    // Weight in thousandths and specificity, of events and of JSON.
    let (mut events, mut json) = ((0, 0), (0, 0));
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or("*/*").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            if kind.is_empty() {
                continue;
            }
            any = true;
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            for (best, exact, group) in
                [(&mut events, "text/event-stream", "text/*"), (&mut json, "application/json", "application/*")]
            {
                let specificity = match kind.as_str() {
                    kind if kind == exact => 3,
                    kind if kind == group => 2,
                    "*/*" => 1,
                    _ => 0,
                };
                if specificity > best.1 {
                    *best = (weight, specificity);
                }
            }
        }
    }
    match (events.0, json.0) {
        _ if !any => Wanted::Events,
        (0, 0) => Wanted::Neither,
        (e, j) if e > j || (e == j && events.1 >= json.1) => Wanted::Events,
        _ => Wanted::Json,
    }
}

fn thousandths(text: &str) -> u32 {
    let value: f64 = text.parse().unwrap_or(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
    let value = (value * 1000.0).clamp(0.0, 1000.0) as u32;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_decides_the_form() {
        for (accept, form) in [
            ("", Wanted::Events),
            ("text/event-stream", Wanted::Events),
            ("*/*", Wanted::Events),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Wanted::Events),
            ("application/json", Wanted::Json),
            ("application/json, text/plain, */*", Wanted::Json),
            ("application/json;q=0.5, text/event-stream", Wanted::Events),
            ("application/json, text/event-stream", Wanted::Events),
            ("image/png", Wanted::Neither),
            ("text/event-stream;q=0", Wanted::Neither),
            (",,;;q=x", Wanted::Events),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            }
            assert_eq!(wanted(&headers), form, "{accept:?}");
        }
    }

    #[test]
    fn a_percent_sign_begins_an_escape() {
        for (path, is_well) in [
            ("/", true),
            ("/a%20b%C3%a9", true),
            ("/%", false),
            ("/%2", false),
            ("/%zz", false),
            ("/%%20", false),
            ("/%25zz", true),
            ("/a%2/b", false),
            ("/%+1", false),
        ] {
            assert_eq!(is_well_escaped(path), is_well, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(pairs("a=1&b=%20x+y&&c&=d"), [pair("a", "1"), pair("b", " x y"), pair("c", ""), pair("", "d")]);
        assert_eq!(pairs("a=%zz%&%2B=%ff"), [pair("a", "%zz%"), pair("+", "\u{fffd}")]);
    }
}
