//! What goes back: heads of event streams, JSON, refusals.
//!
//! A subscription's head is written by its shard, so it is bytes; everything else is hyper's. The
//! bodies of errors are JSON `{"error","detail"}`: a word for programs and a sentence for people.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{self, HeaderMap, HeaderValue};
use serde_json::json;
use sse_fast_core::cursor::{self, Gap, Opening};
use sse_fast_core::frame::Framing;
use sse_fast_core::wire::{self, Decoded};

use crate::stream::Stream;

pub(crate) type Reply = Response<Full<Bytes>>;

/// A request that is answered with an error.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: u16,
    error: &'static str,
    detail: String,
    extra: Vec<(&'static str, serde_json::Value)>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: u16, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), extra: Vec::new(), headers: Vec::new() }
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.push((key, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }

    pub(crate) fn into_reply(self) -> Reply {
        let mut body = json!({"error": self.error, "detail": self.detail});
        for (key, value) in self.extra {
            body[key] = value;
        }
        let mut reply = json_reply(self.status, &body);
        reply.headers_mut().extend(self.headers);
        reply
    }
}

/// A JSON response that nobody keeps.
pub(crate) fn json_reply(status: u16, body: &serde_json::Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body.to_string())));
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    reply
}

/// A response without a body.
pub(crate) fn empty(status: u16) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    reply
}

/// The headers of an event stream, for requests that want only those.
pub(crate) fn stream_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
}

/// The head of an event stream as it goes out. `Connection: close` is true: when the stream ends
/// the connection does.
pub(crate) fn stream_head(framing: Framing, allow_origin: Option<&HeaderValue>) -> Vec<u8> {
    let mut head = Vec::with_capacity(288);
    head.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n",
    );
    if framing == Framing::Chunked {
        head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(origin) = allow_origin {
        head.extend_from_slice(b"Access-Control-Allow-Origin: ");
        head.extend_from_slice(origin.as_bytes());
        head.extend_from_slice(b"\r\nVary: Origin\r\n");
    }
    head.extend_from_slice(b"Date: ");
    head.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
    head
}

/// The stream once, as JSON, for clients that must poll.
pub(crate) fn stream_json(stream: &Stream, last_event_id: Option<&str>) -> serde_json::Value {
    let event = |decoded: Decoded| json!({"id": decoded.id, "event": decoded.event.unwrap_or_else(|| "message".into()), "data": decoded.data});
    let inner = stream.inner();
    let (mut snapshot, mut missed, mut events) = (None, None, Vec::new());
    if let Opening::Live { before, snapshot: held, after, cursor } = cursor::open(&inner.state, last_event_id, None) {
        snapshot = held.map(|frame| event(wire::decode(frame.plain())));
        missed = [before, after].into_iter().flatten().map(count).reduce(|a, b| if a < 0 { a } else { a + b });
        events = inner.state.log().from(cursor).map(|frame| event(wire::decode(frame.plain()))).collect();
    }
    let newest = inner.state.newest();
    let own = inner.state.log().get(newest).and_then(|frame| wire::id_of(frame.plain()));
    let last_id = own
        .map_or_else(|| inner.state.id_at(newest).as_str().to_owned(), |id| String::from_utf8_lossy(id).into_owned());
    json!({
        "stream": stream.name(), "last_id": last_id, "ended": inner.state.ended(),
        "snapshot": snapshot, "gap": missed, "events": events,
    })
}

/// How many events a gap stands for; -1 where nobody knows.
fn count(gap: Gap) -> i64 {
    gap.skipped().map_or(-1, |skipped| i64::try_from(skipped).unwrap_or(i64::MAX))
}
