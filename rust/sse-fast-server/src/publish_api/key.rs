//! The header `Idempotency-Key`.
//!
//! Owns: its form. Must not know: what is done with a key.
//! Changes together with the guide "Publish from elsewhere".

use hyper::header::{HeaderMap, HeaderName};

use crate::idempotency::{MAX_KEY_BYTES, is_key};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key that a request names: in quotes, as the draft has it, or bare, as most clients send it; `Err` says why it is none.
pub(super) fn named(headers: &HeaderMap) -> Result<Option<String>, String> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err("there is more than one Idempotency-Key".to_owned());
    }
    let value = value.to_str().map(str::trim).unwrap_or_default();
    let key = match value.strip_prefix('"') {
        Some(rest) => unquoted(rest),
        None => (!value.contains([' ', '"', ',', ';'])).then(|| value.to_owned()),
    };
    match key.filter(|key| is_key(key)) {
        Some(key) => Ok(Some(key)),
        None => {
            Err(format!("an Idempotency-Key is 1 to {MAX_KEY_BYTES} printable characters of ASCII, bare or in quotes"))
        }
    }
}

/// What stands between quotes (RFC 9651, 4.2.5), of which the first was read.
fn unquoted(rest: &str) -> Option<String> {
    let (mut key, mut characters) = (String::new(), rest.chars());
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(key),
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => key.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, hyper::header::HeaderValue::from_bytes(value).expect("a value"));
        }
        named(&headers)
    }

    #[test]
    fn a_key_is_the_same_bare_or_in_quotes() {
        for (value, key) in [
            (&b"a-1_b.c:d/e"[..], "a-1_b.c:d/e"),
            (b"\"a-1_b.c:d/e\"", "a-1_b.c:d/e"),
            (b" \"a b\" ", "a b"),
            (b"\"a\\\"b\\\\\"", "a\"b\\"),
            (b"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ] {
            assert_eq!(of(&[value]), Ok(Some(key.to_owned())), "{value:?}");
        }
        assert_eq!(of(&[]), Ok(None));
        assert!(of(&["k".repeat(255).as_bytes()]).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for values in [
            &[&b""[..]][..],
            &[b"\"\""],
            &[b"a b"],
            &[b"a, b"],
            &[b"\"a"],
            &[b"\"a\"b"],
            &[b"\"a\\b\""],
            &[b"\xc3\xa9"],
            &[b"a", b"a"],
            &["k".repeat(256).as_bytes()],
        ] {
            assert!(of(values).is_err(), "{values:?}");
        }
    }
}
