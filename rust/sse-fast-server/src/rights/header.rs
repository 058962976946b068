//! Tokens in the headers of a request.
//!
//! Owns: where in a header's bytes a token is. Must not know: which of them counts (`admit`), what a token is.

/// The token of an `Authorization`, where it is of that kind; what is no text is no token.
pub(super) fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = value.split_at_checked(6).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer"))?;
    debug_assert_eq!(scheme.len(), 6, "its own length");
    match rest {
        [] => Some(""),
        [b' ', token @ ..] => Some(std::str::from_utf8(token).unwrap_or_default().trim_matches(' ')),
        _ => None,
    }
}

/// What the cookie of this name holds, if that is anything; of the others any bytes may be beside it, and what is no text is
/// no token.
pub(super) fn cookie<'a>(header: &'a [u8], name: &str) -> Option<&'a str> {
    let values = header.split(|&byte| byte == b';').filter_map(|pair| {
        let (own, value) = pair.split_at_checked(pair.iter().position(|&byte| byte == b'=')?)?;
        (own.trim_ascii() == name.as_bytes()).then(|| value[1..].trim_ascii())
    });
    let mut given = values.filter(|value| !value.is_empty());
    given.next().map(|value| std::str::from_utf8(value).unwrap_or_default().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_known_by_its_scheme_in_any_case() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER  abc ", Some("abc")),
            ("Bearer", Some("")),
            ("Bearer ", Some("")),
            ("Bearerabc", None),
            ("Basic abc", None),
            ("", None),
            ("Bear", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token, "{value:?}");
        }
        assert_eq!(bearer(b"Bearer \xff"), Some(""));
    }

    #[test]
    fn a_cookie_is_found_beside_any_bytes() {
        for (header, token) in [
            (&b"t=abc"[..], Some("abc")),
            (b"a=1; t=abc; b=2", Some("abc")),
            (b"a=J\xc3\xbcrgen; t=abc", Some("abc")),
            (b"a=\xfc;t=abc", Some("abc")),
            (b"\xff=\xff; t = \"abc\" ;", Some("abc")),
            (b"t=; t=abc", Some("abc")),
            (b"t=abc=", Some("abc=")),
            (b"t=\xff", Some("")),
            (b"t=a\xffb; t=abc", Some("")),
            (b"t; a=t=abc; T=abc; xt=abc", None),
            (b"", None),
            (b";;=;", None),
        ] {
            assert_eq!(cookie(header, "t"), token, "{}", String::from_utf8_lossy(header));
        }
    }
}
