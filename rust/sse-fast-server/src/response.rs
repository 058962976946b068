//! What goes back: heads of event streams, handlers' responses, refusals.
//!
//! Owns the headers of every kind of answer. Must not know: requests, routes, sockets.
//! Invariants: a shard writes a subscription's head, so that is bytes; hyper writes everything else.
//! Both heads of an event stream come from [`STREAM_HEADERS`]. The body of an error is JSON
//! `{"error","detail"}`: a word for programs and a sentence for people.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sse_fast_core::frame::Framing;

use crate::cors::CorsHeaders;

/// A response for hyper to write.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// What every event stream's head says, be it written by a shard or by hyper.
const STREAM_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),
];

/// When such an `EventSource` is told to come back: long enough for what is in the way to pass, short enough for a page.
const RETRY_FROM_MS: u64 = 2000;
const RETRY_SPREAD_MS: u64 = 4000;

/// A request that is answered with an error.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: u16,
    error: &'static str,
    detail: String,
    extra: Vec<(&'static str, serde_json::Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What is answered in place of all that, where that is not an error of the engine's own.
    whole: Option<Box<HttpResponse>>,
}

impl Refusal {
    /// The same with what is said of origins, where hyper does not write it.
    pub(crate) fn with_cors(self, cors: &CorsHeaders) -> Self {
        let told = cors.iter().map(|(name, value)| (name.clone(), value.to_str().unwrap_or_default()));
        told.fold(self, |refusal, (name, value)| refusal.header(name, value))
    }

    pub(crate) fn new(status: u16, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), extra: Vec::new(), headers: Vec::new(), whole: None }
    }

    /// A refusal that is this response.
    pub(crate) fn whole(response: HttpResponse) -> Self {
        let status = response.status().as_u16();
        Self { whole: Some(Box::new(response)), ..Self::new(status, "refused", "") }
    }

    /// Whether it says that there is nothing, rather than that something is wrong.
    pub(crate) fn is_of_what_is_unknown(&self) -> bool {
        self.status == 404
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.push((key, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // What the engine writes is always a value.
        self.headers.extend(HeaderValue::from_str(value).map(|value| (name, value)));
        self
    }

    /// The connection ends with it: what else the client has sent cannot be told apart from it.
    pub(crate) fn last(self) -> Self {
        self.header(header::CONNECTION, "close")
    }

    /// Its sentence.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    fn body(&self) -> serde_json::Value {
        let mut body = json!({"error": self.error, "detail": self.detail});
        for (key, value) in &self.extra {
            body[key] = value.clone();
        }
        body
    }

    pub(crate) fn into_response(self) -> HttpResponse {
        if let Some(response) = self.whole {
            return *response;
        }
        let mut response = json_response(self.status, self.body().to_string());
        response.headers_mut().extend(self.headers);
        response
    }

    /// The last response of a connection, as it goes out where hyper has given the connection up.
    pub(crate) fn into_last_bytes(self) -> Vec<u8> {
        let body = self.body().to_string();
        let (head, _) = self.into_response().into_parts();
        let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        let (length, date) = (body.len(), httpdate::fmt_http_date(SystemTime::now()));
        let rest = format!("content-length: {length}\r\ndate: {date}\r\nconnection: close\r\n\r\n{body}");
        bytes.extend_from_slice(rest.as_bytes());
        bytes
    }
}

/// A JSON response that no cache keeps.
pub(crate) fn json_response(status: u16, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    response
}

/// A handler's response, or why it cannot be written.
pub(crate) fn of_handler(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Result<HttpResponse, String> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = match hyper::StatusCode::from_u16(status) {
        Ok(status) if !status.is_informational() => status,
        _ => return Err(format!("its status is {status}: 200 to 999 are allowed")),
    };
    for (name, value) in handler_headers(headers)? {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// A handler's headers, or why they cannot be written. The framing is the server's: a length or coding that a handler
/// gives would let a body run into the next response.
pub(crate) fn handler_headers(given: &[(String, String)]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let header = |(given, value): &(String, String)| {
        let Ok(name) = HeaderName::from_bytes(given.as_bytes()) else {
            return Err(format!("{given:?} cannot be the name of a header"));
        };
        if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            return Err(format!("the header {given:?} is the server's to set: leave it out"));
        }
        let Ok(value) = HeaderValue::try_from(value) else {
            // The value may be a secret: where it is wrong is enough.
            let at = value.bytes().position(|byte| byte != b'\t' && byte.is_ascii_control()).unwrap_or_default();
            return Err(format!("the header {given:?} has a control character at position {at} of its value"));
        };
        Ok((name, value))
    };
    given.iter().map(header).collect()
}

/// Adds a handler's headers to the head of an event stream.
pub(crate) fn extend_head(head: &mut Vec<u8>, headers: &[(HeaderName, HeaderValue)]) {
    debug_assert!(head.ends_with(b"\r\n\r\n"), "a head ends with a blank line");
    head.truncate(head.len() - 2);
    for (name, value) in headers {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
}

/// What a browser's `EventSource` is answered where something passing is in the way: it comes back, which after a status
/// it never would. Each is told another time, so that a crowd does not come back at once. No blank line follows: the line
/// acts without one, and with one some clients report an empty event.
pub(crate) fn come_back() -> HttpResponse {
    let mut random = [0; 2];
    // Without randomness they come back together.
    let _ = getrandom::fill(&mut random);
    let retry = RETRY_FROM_MS + u64::from(u16::from_le_bytes(random)) * RETRY_SPREAD_MS / u64::from(u16::MAX);
    let mut response = Response::new(Full::new(Bytes::from(format!("retry: {retry}\n"))));
    stream_headers(response.headers_mut());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn unknown_stream(name: &str, waited: Duration) -> Refusal {
    let seconds = (waited.as_secs_f64() * 1000.0).round() / 1000.0;
    let shown: String = name.chars().take(200).collect();
    let detail = if waited.is_zero() {
        format!("there is no stream {shown:?}")
    } else {
        format!("no stream {shown:?} after waiting {seconds} s")
    };
    Refusal::new(404, "unknown_stream", detail).with("waited", seconds)
}

pub(crate) fn not_acceptable() -> Refusal {
    Refusal::new(406, "not_acceptable", "a stream is text/event-stream, or application/json once")
}

/// A response without a body.
pub(crate) fn empty(status: u16) -> HttpResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// What may be done at a path, as a preflight asks; `may_send` are the headers that a page of an allowed origin may send.
pub(crate) fn options(allow: &str, may_send: &HeaderValue) -> HttpResponse {
    let mut response = empty(204);
    for name in [header::ALLOW, header::ACCESS_CONTROL_ALLOW_METHODS] {
        response.headers_mut().extend(HeaderValue::from_str(allow).map(|value| (name, value)));
    }
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, may_send.clone());
    response.headers_mut().insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// Adds what is said of origins; takes away what says to a preflight of one that is not allowed what it may.
pub(crate) fn with_cors(mut response: HttpResponse, cors: &CorsHeaders) -> HttpResponse {
    let headers = response.headers_mut();
    for (name, value) in cors.iter() {
        if *name == header::VARY {
            // A handler's answer may vary by more.
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
        }
    }
    if !cors.allows() {
        headers.remove(header::ACCESS_CONTROL_ALLOW_METHODS);
        headers.remove(header::ACCESS_CONTROL_ALLOW_HEADERS);
        headers.remove(header::ACCESS_CONTROL_MAX_AGE);
    }
    response
}

/// The refusal of a method.
pub(crate) fn not_allowed(allow: &str) -> Refusal {
    Refusal::new(405, "method_not_allowed", format!("allowed here: {allow}")).header(header::ALLOW, allow)
}

/// The connection ends with this response, and its reader is told.
pub(crate) fn last(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The response to a HEAD of an event stream.
pub(crate) fn head_of_stream() -> HttpResponse {
    let mut response = empty(200);
    stream_headers(response.headers_mut());
    response
}

/// The headers of an event stream, for requests that want only those.
fn stream_headers(headers: &mut HeaderMap) {
    for (name, value) in STREAM_HEADERS {
        // The names are constants; a test reads both heads.
        if let Ok(name) = HeaderName::try_from(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// The head of an event stream as it goes out. `Connection: close` is true: when the stream ends
/// the connection does.
pub(crate) fn stream_head(framing: Framing, cors: &CorsHeaders) -> Vec<u8> {
    let mut head = Vec::with_capacity(288);
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    for (name, value) in STREAM_HEADERS {
        for part in [name, ": ", value, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
    if framing == Framing::Chunked {
        head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    for (name, value) in cors.iter() {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"Date: ");
    head.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_handler_with(name: &str, value: &str) -> Result<HttpResponse, String> {
        of_handler(200, &[(name.to_owned(), value.to_owned())], b"x".to_vec())
    }

    #[test]
    fn a_handler_s_response_that_cannot_be_written_says_why_but_not_the_value() {
        for (name, value, why) in [
            ("X A", "b", "cannot be the name"),
            ("", "b", "cannot be the name"),
            ("X-A", "secret\r\nb: c", "position 6"),
            ("Content-Length", "1", "the server's to set"),
            ("transfer-encoding", "chunked", "the server's to set"),
        ] {
            let text = of_handler_with(name, value).expect_err("must be refused");
            assert!(text.contains(why) && text.contains(&format!("{name:?}").replace("\"\"", "")), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        for status in [0, 99, 101, 1000] {
            assert!(of_handler(status, &[], Vec::new()).expect_err("no status").contains(&status.to_string()));
        }
        assert_eq!(of_handler_with("X-A", "a\tb é").expect("can be written").headers().len(), 1);
    }

    #[test]
    fn both_heads_of_an_event_stream_say_the_same() {
        let mut headers = HeaderMap::new();
        stream_headers(&mut headers);
        assert_eq!(headers.len(), STREAM_HEADERS.len());
        let written =
            String::from_utf8(stream_head(Framing::Plain, &CorsHeaders::default())).expect("text").to_lowercase();
        for (name, value) in &headers {
            let line = format!("\r\n{name}: {}\r\n", value.to_str().expect("text"));
            assert!(written.contains(&line), "{line:?} in {written:?}");
        }
    }

    #[test]
    fn a_handler_s_headers_stand_in_the_head_of_its_stream() {
        let given =
            [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut head = stream_head(Framing::Chunked, &CorsHeaders::default());
        let before = String::from_utf8(head.clone()).expect("text");
        extend_head(&mut head, &handler_headers(&given).expect("can be written"));
        let after = String::from_utf8(head).expect("text");
        assert_eq!(
            after,
            format!(
                "{}set-cookie: a=b\r\nset-cookie: c=d\r\n\r\n",
                before.trim_end_matches("\r\n").to_owned() + "\r\n"
            )
        );
    }

    #[test]
    fn who_is_to_come_back_is_told_when_between_two_and_six_seconds() {
        for _ in 0..100 {
            let response = come_back();
            assert_eq!(response.status().as_u16(), 200);
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let collected = runtime.block_on(http_body_util::BodyExt::collect(response.into_body())).expect("a body");
            let text = String::from_utf8(collected.to_bytes().to_vec()).expect("text");
            let retry: u64 =
                text.trim_end().strip_prefix("retry: ").and_then(|ms| ms.parse().ok()).expect("milliseconds");
            assert!((2000..=6000).contains(&retry) && text.matches('\n').count() == 1, "{text:?}");
        }
    }

    #[test]
    fn a_last_response_is_framed_like_any_other() {
        let bytes = Refusal::new(431, "head_too_large", "é").with("limit", 7).into_last_bytes();
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"));
        assert!(
            head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())) && head.ends_with("connection: close")
        );
        assert_eq!(body, r#"{"error":"head_too_large","detail":"é","limit":7}"#);
    }
}
