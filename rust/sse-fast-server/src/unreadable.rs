//! What a client is answered whose bytes are no request: hyper would say little, or close without a word.
//!
//! Owns: telling from the first bytes what it was that came, and the answer to each. Must not know: sockets, routes.
//! Invariant: every answer in HTTP/1.1 has a JSON body and ends its connection; who speaks HTTP/2 is answered in HTTP/2.
//! Silent is only the end of a connection on which nothing was begun.
//! Changes together with `connection`, which writes it, and `refusals`, which counts it.

use std::time::Duration;

use crate::reason::Reason;
use crate::response::Refusal;
use crate::socket::Refused;

/// How a connection of HTTP/2 begins (RFC 9113, 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// How the second version of the PROXY protocol does, after empty lines.
const PROXY_V2: &[u8] = b"\0\r\nQUIT\n";

/// Frames of HTTP/2: empty settings, which every server sends first, and how a GOAWAY goes on after its length.
const H2_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const H2_GOAWAY: &[u8] = &[7, 0, 0, 0, 0, 0];
/// Nothing was begun; `HTTP_1_1_REQUIRED` (RFC 9113, 7).
const H2_GOAWAY_BODY: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0xd];
const H2_TEXT: &[u8] = b"this port speaks HTTP/1.1; HTTP/2 is for a proxy in front of it";

/// What is answered.
pub(crate) enum Answer {
    /// A response of HTTP/1.1, the connection's last.
    Refusal(Reason, Refusal),
    /// The same in HTTP/2. A status of HTTP/1.1 would be noise to such a client; this names the version that helps it.
    GoAway,
}

/// What was wrong with bytes that hyper gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The head did not come in time.
    Late,
    /// It ended before it was whole.
    Cut,
    /// It is longer than it may be, or has too many headers.
    TooLarge,
    /// A line of it ends in LF alone; nothing from there on was read.
    LineFeed,
    /// It says twice how its body is framed.
    Framing,
    /// Anything else.
    Malformed,
}

impl Fault {
    /// By what hyper said, if it said anything, and why the head was cut, if it was; `None` where nothing is wrong, or the
    /// connection has broken, and there is nobody to tell.
    pub(crate) fn of(error: Option<&hyper::Error>, refused: Option<Refused>) -> Option<Self> {
        let cut = match refused {
            Some(Refused::Head) => Some(Self::LineFeed),
            Some(Refused::LongHead) => Some(Self::TooLarge),
            Some(Refused::Framing) => Some(Self::Framing),
            Some(Refused::Body) | None => None,
        };
        let Some(error) = error else { return cut };
        match () {
            () if error.is_incomplete_message() && cut.is_some() => cut,
            () if error.is_timeout() => Some(Self::Late),
            () if error.is_incomplete_message() => Some(Self::Cut),
            () if error.is_parse_too_large() => Some(Self::TooLarge),
            () if error.is_parse() => Some(Self::Malformed),
            () => None,
        }
    }
}

/// What a client is answered that sent these bytes; `why` is hyper's word for what was wrong with them, `most` how many
/// bytes a head may have, `limit` how long it may take. `None` where nothing was begun.
pub(crate) fn answer(fault: Fault, read: &[u8], why: &str, most: usize, limit: Duration) -> Option<Answer> {
    let malformed = |refusal| Answer::Refusal(Reason::Malformed, refusal);
    // An empty line before a request is nothing (RFC 9112, 2.2); hyper has taken some of them or all.
    let read = read.trim_ascii_start();
    let line = read.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    Some(match fault {
        _ if read.starts_with(H2_PREFACE) => Answer::GoAway,
        _ if read.starts_with(PROXY_V2) || read.starts_with(b"PROXY ") => {
            let detail = "this is the PROXY protocol: have the proxy send HTTP alone (haproxy: no send-proxy), and the \
                 client's address in X-Forwarded-For; see the setting trusted_proxies";
            malformed(Refusal::new(400, "proxy_protocol", detail))
        }
        // A TLS record of a handshake.
        _ if read.starts_with(&[0x16, 0x03]) => {
            let detail = "this port speaks HTTP without TLS: ask by http://, or put a proxy in front";
            malformed(Refusal::new(400, "tls_on_http", detail))
        }
        Fault::Late | Fault::Cut if read.is_empty() => return None,
        Fault::Late => {
            let detail = format!("the head of a request may take {} s", limit.as_secs_f64());
            Answer::Refusal(Reason::Late, Refusal::new(408, "head_timeout", detail))
        }
        Fault::LineFeed => {
            let detail = "a line of the head ends in LF alone: CR stands before it, at every line";
            malformed(Refusal::new(400, "bad_request", detail))
        }
        Fault::Framing => {
            let detail = "the head has a Content-Length and a Transfer-Encoding: a body has one or the other";
            malformed(Refusal::new(400, "bad_request", detail))
        }
        Fault::Cut => malformed(Refusal::new(400, "bad_request", "the head of the request ended early")),
        Fault::TooLarge if !read.contains(&b'\n') && line.contains(&b' ') => {
            let detail = format!("the head of a request, its target included, may have at most {most} bytes");
            Answer::Refusal(Reason::Head, Refusal::new(414, "target_too_long", detail).with("limit", most))
        }
        Fault::TooLarge => {
            let detail = format!("the head of a request may have at most {most} bytes and 100 headers");
            Answer::Refusal(Reason::Head, Refusal::new(431, "head_too_large", detail).with("limit", most))
        }
        Fault::Malformed if is_of_another_version(line) => {
            let detail = "this server speaks HTTP/1.1 and HTTP/1.0";
            Answer::Refusal(Reason::Malformed, Refusal::new(505, "http_version", detail))
        }
        Fault::Malformed => {
            malformed(Refusal::new(400, "bad_request", format!("this cannot be read as a request: {why}")))
        }
    })
}

/// Whether it is a request line that is well formed but for the number of its version.
fn is_of_another_version(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let number = version.and_then(|version| version.strip_prefix(b"HTTP/"));
    let is_number = number.is_some_and(|number| matches!(number, [digit] | [digit, b'.', _] if digit.is_ascii_digit()));
    let is_ours = matches!(number, Some(b"1.0" | b"1.1"));
    method.is_some_and(|method| !method.is_empty() && method.iter().all(u8::is_ascii_uppercase))
        && target.is_some_and(|target| !target.is_empty())
        && words.next().is_none()
        && is_number
        && !is_ours
}

/// What a client of HTTP/2 is told.
pub(crate) fn go_away() -> Vec<u8> {
    let length = H2_GOAWAY_BODY.len() + H2_TEXT.len();
    #[allow(clippy::cast_possible_truncation, reason = "it is short")]
    let length = [0, (length >> 8) as u8, length as u8];
    [H2_SETTINGS, &length, H2_GOAWAY, H2_GOAWAY_BODY, H2_TEXT].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fault: Fault, read: &[u8]) -> Option<String> {
        let answer = answer(fault, read, "why", 16384, Duration::from_secs(10))?;
        Some(match answer {
            Answer::GoAway => "goaway".to_owned(),
            Answer::Refusal(_, refusal) => {
                let text = String::from_utf8(refusal.into_last_bytes()).expect("UTF-8");
                let error = text.split("\"error\":\"").nth(1).and_then(|rest| rest.split('"').next());
                format!("{} {}", &text[9..12], error.expect("a word"))
            }
        })
    }

    #[test]
    fn what_came_is_told_from_its_first_bytes() {
        let long = [b"GET /".as_slice(), &vec![b'a'; 20_000]].concat();
        for (fault, read, expected) in [
            (Fault::Malformed, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], Some("goaway")),
            (Fault::Late, b"PRI * HTTP/2.0\r\n", Some("goaway")),
            (Fault::Malformed, b"\x16\x03\x01\x02\0\x01", Some("400 tls_on_http")),
            (Fault::Late, b"\x16\x03", Some("400 tls_on_http")),
            (Fault::Malformed, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Some("400 proxy_protocol")),
            (Fault::Malformed, b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Some("400 proxy_protocol")),
            (Fault::Late, b"", None),
            (Fault::Late, b"\r\n\r\n", None),
            (Fault::Cut, b"", None),
            (Fault::Late, b"GE", Some("408 head_timeout")),
            (Fault::Cut, b"GET / HTTP/1.1\r\nHo", Some("400 bad_request")),
            (Fault::LineFeed, b"GET / HTTP/1.1\n", Some("400 bad_request")),
            (Fault::LineFeed, b"", Some("400 bad_request")),
            (Fault::LineFeed, b"\r\n\r\n\0\r\nQUIT\n", Some("400 proxy_protocol")),
            (Fault::Framing, b"POST / HTTP/1.1\r\n", Some("400 bad_request")),
            (Fault::TooLarge, &long, Some("414 target_too_long")),
            (Fault::TooLarge, &vec![b'a'; 20_000], Some("431 head_too_large")),
            (Fault::TooLarge, b"GET / HTTP/1.1\r\nA: aaa", Some("431 head_too_large")),
            (Fault::Malformed, b"GET / HTTP/2.0\r\n", Some("505 http_version")),
            (Fault::Malformed, b"GET / HTTP/3\r\n", Some("505 http_version")),
            (Fault::Malformed, b"\r\nGET / HTTP/9.9\r\n", Some("505 http_version")),
            (Fault::Malformed, b"GET / HTTP/1.1\r\nA B: c\r\n", Some("400 bad_request")),
            (Fault::Malformed, b"GET / HTTP/x\r\n", Some("400 bad_request")),
            (Fault::Malformed, b"GET /a b HTTP/2.0\r\n", Some("400 bad_request")),
            (Fault::Malformed, b"SSH-2.0-OpenSSH_9.2\r\n", Some("400 bad_request")),
        ] {
            assert_eq!(told(fault, read).as_deref(), expected, "{fault:?} {:?}", String::from_utf8_lossy(read));
        }
    }

    #[test]
    fn a_client_of_http_2_is_told_the_version_in_its_own_frames() {
        let bytes = go_away();
        let (settings, frame) = bytes.split_at(9);
        assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
        assert_eq!(frame.len(), 9 + length);
        assert_eq!((frame[3], &frame[9..17]), (7, &[0, 0, 0, 0, 0, 0, 0, 0xd][..]));
    }
}
