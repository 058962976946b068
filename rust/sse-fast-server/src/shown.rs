//! What the log shows of what strangers sent.
//!
//! Owns: which part of a request line, a path, a host, an origin is shown. Must not know: who logs, at which level.
//! Invariants: tokens travel in queries, in headers and as `user:password@`, so nothing of those is shown, whatever bytes
//! they came in: what has no form of which a part is known to be harmless is not shown at all. What is left out is `...`.
//! It is looked for before the text is cut to its length: behind a cut may stand the sign that tells a secret. The result
//! is to be quoted with `{:?}`, so that it makes no line of its own.
//! Changes together with `python/sse_fast/_records.py`, which does the same for paths.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The most characters that are shown.
const MOST: usize = 200;

/// What stands for what is not shown.
const LEFT_OUT: &str = "...";

/// Methods that are shown of bytes that are no request. Any word could be one, and a word of a body a secret.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// What browsers say in `Sec-Fetch-Site`.
const SITES: [&str; 4] = ["cross-site", "same-site", "same-origin", "none"];

/// A path, or a stream's name out of one.
pub(crate) fn path(path: &str) -> String {
    path_within(path, MOST)
}

/// The same with another length.
pub(crate) fn path_within(path: &str, most: usize) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let bare = without_query(without_user(&decoded));
    // As it was written, where that hides nothing.
    cut(if bare == decoded { path } else { &bare }, most)
}

/// The request line that bytes begin with which are no request; `None` where they do not begin with one.
pub(crate) fn request_line(read: &[u8]) -> Option<String> {
    let read = read.trim_ascii_start();
    let end = read.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = String::from_utf8_lossy(&read[..end.unwrap_or(read.len())]);
    let mut words = line.split(' ');
    let method = words.next().filter(|word| METHODS.contains(word))?;
    let mut shown = method.to_owned();
    let target = words.next().unwrap_or_default().split('#').next().unwrap_or_default();
    let Some(target) = self::target(target, end.is_some()) else { return Some(shown) };
    shown.extend([" ", &target]);
    if let Some(version) = words.next().filter(|word| is_version(word)) {
        shown.extend([" ", version]);
    }
    Some(shown)
}

/// The target of a request line, as far as its form is known; of one that has not ended, what cannot be the beginning of
/// `user:password@`.
fn target(target: &str, has_ended: bool) -> Option<String> {
    let is_absolute = target.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme));
    match target {
        "*" => Some(target.to_owned()),
        _ if target.starts_with('/') && !has_ended => {
            Some(path(target.split_inclusive(':').next().unwrap_or_default().trim_end_matches(':')))
        }
        _ if has_ended && (target.starts_with('/') || is_absolute) => Some(path(target)),
        _ => None,
    }
}

/// The name, and the port, that a request is addressed to.
pub(crate) fn host(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let (user, host) = text.rsplit_once('@').map_or(("", &*text), |(_, host)| ("...@", host));
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) if address.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')) => {
            address.len() + 2
        }
        _ => leading(host, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')),
    };
    let port = match host[name..].strip_prefix(':') {
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => 1 + port.len(),
        _ => 0,
    };
    let rest = if name + port < host.len() { LEFT_OUT } else { "" };
    format!("{user}{}{rest}", cut(&host[..name + port], MOST))
}

/// The origin of a page.
pub(crate) fn origin(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.split_once("://") {
        _ if text == "null" || text.is_empty() => text.into_owned(),
        Some((scheme, rest)) if is_scheme(scheme) => format!("{scheme}://{}", host(rest.as_bytes())),
        _ => LEFT_OUT.to_owned(),
    }
}

/// What a browser says of the site that a request comes from.
pub(crate) fn site(value: &[u8]) -> &'static str {
    SITES.into_iter().find(|site| site.as_bytes().eq_ignore_ascii_case(value)).unwrap_or(LEFT_OUT)
}

/// Without `user:password@`, which may hold any character. Only one that has neither a colon nor two slashes before it is
/// part of a name: `ann@example.com`.
fn without_user(text: &str) -> Cow<'_, str> {
    let Some((user, rest)) = text.rsplit_once('@') else { return text.into() };
    let begins = match (user.find("//"), user.find(':')) {
        (Some(slashes), _) => slashes + 2,
        (None, Some(colon)) => user[..colon].rfind('/').map_or(0, |slash| slash + 1),
        (None, None) => return text.into(),
    };
    format!("{}{LEFT_OUT}@{rest}", &text[..begins]).into()
}

/// Without what stands behind a question mark, be it encoded: then it is part of the path, and was not meant to be.
fn without_query(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.split_once('?') {
        Some((path, _)) => format!("{path}?{LEFT_OUT}").into(),
        None => text,
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}{LEFT_OUT}", &text[..end]),
        None => text.to_owned(),
    }
}

/// How many bytes of such a kind it begins with.
fn leading(text: &str, is_of_kind: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|byte| !is_of_kind(byte)).unwrap_or(text.len())
}

fn is_scheme(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn is_version(word: &str) -> bool {
    let number = word.strip_prefix("HTTP/").unwrap_or_default();
    (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_bytes_that_are_no_request_a_request_line_is_shown_and_no_secret() {
        for (read, expected) in [
            (&b"GET /s?ticket=secret HTTP/9.9\r\n"[..], Some("GET /s?... HTTP/9.9")),
            (b"\r\nGET / HTTP/1.1\r\nAuthorization: Bearer secret", Some("GET / HTTP/1.1")),
            (b"GET /s#secret HTTP/1.1\r\n", Some("GET /s HTTP/1.1")),
            (b"GET /s%3fticket=secret HTTP/1.1\r\n", Some("GET /s?... HTTP/1.1")),
            (b"GET / / HTTP/1.1\r\n", Some("GET /")),
            (b"GET / secret\r\n", Some("GET /")),
            (b"GET / HTTP/secret\r\n", Some("GET /")),
            (b"GET http://ann:secret@host/a HTTP/1.1\r\n", Some("GET http://...@host/a HTTP/1.1")),
            (b"GET http://ann:sec/re?t@host/a?b HTTP/1.1\r\n", Some("GET http://...@host/a?... HTTP/1.1")),
            (b"GET /http://ann:secret@host/ HTTP/1.1\r\n", Some("GET /http://...@host/ HTTP/1.1")),
            (b"GET /ann:secret%40host/ HTTP/1.1\r\n", Some("GET /...@host/ HTTP/1.1")),
            (b"GET /\xff HTTP/1.1\r\n", Some("GET /\u{fffd} HTTP/1.1")),
            (b"OPTIONS * SIP/2.0\r\n", Some("OPTIONS *")),
            // A target that has not ended may go on with a host.
            (b"GET http://ann:secret", Some("GET")),
            (b"GET /ann:secret", Some("GET /ann")),
            (b"GET /a/b", Some("GET /a/b")),
            (b"GET secret HTTP/1.1\r\n", Some("GET")),
            (b"CONNECT ann:secret@host:1 HTTP/1.1\r\n", Some("CONNECT")),
            (b"GET  secret\r\n", Some("GET")),
            (b"GET", Some("GET")),
            (b"secret /a HTTP/1.1\r\n", None),
            (b"SECRET /a HTTP/1.1\r\n", None),
            (b"ann&password=secret", None),
            (b"Authorization: Bearer secret\r\nGET / HTTP/1.1\r\n", None),
            (b"Bearer secret\n", None),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", None),
            (b"\x16\x03\x01secret", None),
            (b"", None),
        ] {
            let shown = request_line(read);
            assert_eq!(shown.as_deref(), expected, "{}", String::from_utf8_lossy(read));
            assert!(!shown.is_some_and(|shown| shown.to_lowercase().contains("secret")));
        }
    }

    #[test]
    fn a_path_is_shown_as_it_was_written_without_a_query_or_a_password() {
        for (written, expected) in [
            ("/streams/a%20b/ü", "/streams/a%20b/ü"),
            ("/streams/ann@example.com", "/streams/ann@example.com"),
            ("/streams/a:b", "/streams/a:b"),
            ("channel%23general", "channel%23general"),
            ("/a%3Fticket=secret", "/a?..."),
            ("/a?x=http://b@c", "/a?..."),
            ("//ann:secret@host", "//...@host"),
            ("/x/ann%3asecret@host/b", "/x/...@host/b"),
            ("/%2Fann:secret%40host", "//...@host"),
        ] {
            assert_eq!(path(written), expected);
        }
        assert_eq!(path(&"é".repeat(1000)), format!("{}...", "é".repeat(MOST)));
        // The sign of a password stands behind what is shown.
        assert_eq!(path(&format!("/a//ann:secret{}@host", "x".repeat(1000))), "/a//...@host");
    }

    #[test]
    fn a_host_is_shown_as_far_as_it_is_a_name_and_a_port() {
        for (value, expected) in [
            ("evil.example", "evil.example"),
            ("evil_1.example.:8080", "evil_1.example.:8080"),
            ("[::1]:80", "[::1]:80"),
            ("", ""),
            ("ann:secret@localhost", "...@localhost"),
            ("ann:secret@localhost:secret", "...@localhost..."),
            ("localhost:80secret", "localhost..."),
            ("localhost/?secret", "localhost..."),
            ("[::1]secret", "[::1]..."),
            ("[secret]", "..."),
            ("a, secret", "a..."),
        ] {
            assert_eq!(host(value.as_bytes()), expected);
        }
        assert_eq!(host(b"\xffsecret"), "...");
        assert!(host(&[b'a'; 10_000]).len() < 300);
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_a_site_one_of_four_words() {
        for (value, expected) in [
            ("https://evil.example", "https://evil.example"),
            ("http://[::1]:1", "http://[::1]:1"),
            ("null", "null"),
            ("", ""),
            ("https://x/?token=secret", "https://x..."),
            ("https://ann:secret@x", "https://...@x"),
            ("secret", "..."),
            ("Bearer secret://x", "..."),
        ] {
            assert_eq!(origin(value.as_bytes()), expected);
        }
        assert_eq!([site(b"Cross-Site"), site(b"secret")], ["cross-site", "..."]);
    }
}
