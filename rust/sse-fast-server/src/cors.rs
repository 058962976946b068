//! Pages of other origins: what they may read and change, and what browsers are told of it.
//!
//! Owns the origins that were allowed, and the headers that say so. Must not know: paths, streams, handlers, hosts.
//! Invariants: without allowed origins no answer has a CORS header; with them every answer says `Vary: Origin`, so that no
//! cache gives one origin's answer to another; `*` never gets credentials. A request that changes something must come from a
//! page of this very host, from no page at all, or from an origin that was allowed: browsers say which (`Sec-Fetch-Site`,
//! `Origin`), and other clients say nothing.
//! Changes together with `respond`, which puts the headers into answers, and `dispatch`, which asks for changes.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::access::is_name;

/// What a page of another origin may send; the setting `cors_headers` adds to them.
const MAY_SEND: &str = "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID, X-Requested-With";

/// In which a browser says what site a request comes from.
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of one server.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<Allowed>,
    /// The value of `Access-Control-Allow-Headers`.
    may_send: HeaderValue,
}

/// An origin that was allowed; in lower case.
#[derive(Debug, PartialEq, Eq)]
enum Allowed {
    Any,
    Exactly(String),
    /// What is between `scheme` and `rest`, one label or several: `https://*.example.com`.
    Subdomains {
        scheme: String,
        rest: String,
    },
}

/// What an answer says of origins.
#[derive(Debug, Default)]
pub(crate) struct CorsHeaders(Vec<(HeaderName, HeaderValue)>);

impl Allowed {
    fn new(origin: &str) -> Self {
        let origin = origin.trim_end_matches('/').to_ascii_lowercase();
        match origin.split_once("*.") {
            _ if origin == "*" => Self::Any,
            Some((scheme, rest)) => Self::Subdomains { scheme: scheme.to_owned(), rest: format!(".{rest}") },
            None => Self::Exactly(origin),
        }
    }

    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Any => false,
            Self::Exactly(allowed) => allowed == origin,
            Self::Subdomains { scheme, rest } => {
                let between = origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(rest.as_str()));
                // A port, a path or a name before an @ would make another host of it.
                between.is_some_and(is_name)
            }
        }
    }
}

impl Cors {
    /// `headers` are those that pages may send besides the usual ones.
    pub(crate) fn new(origins: &[String], headers: &[String]) -> Self {
        let may_send = [&[MAY_SEND.to_owned()], headers].concat().join(", ");
        let may_send = HeaderValue::try_from(may_send).unwrap_or(HeaderValue::from_static(MAY_SEND));
        Self { origins: origins.iter().map(|origin| Allowed::new(origin)).collect(), may_send }
    }

    /// Whether a request that changes something may come from where it says it comes; `host` and `scheme` are those by
    /// which its client asked, the scheme where it is known.
    pub(crate) fn may_change(&self, headers: &HeaderMap, host: &str, scheme: Option<&str>) -> bool {
        if [&SEC_FETCH_SITE, &header::ORIGIN].into_iter().any(|name| headers.get_all(name).iter().count() > 1) {
            // No browser says it twice, and which of both counts is anybody's guess.
            return self.allows_any();
        }
        let said =
            |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("null").to_ascii_lowercase());
        let site = said(&SEC_FETCH_SITE);
        if matches!(site.as_deref(), Some("same-origin" | "none")) {
            // A browser's own word, which no page can write: right behind a proxy that changes `Host`, too.
            return true;
        }
        let Some(origin) = said(&header::ORIGIN) else { return site.is_none() };
        let is_this_host = origin.split_once("://").is_some_and(|(of_origin, named)| {
            scheme.is_none_or(|scheme| scheme == of_origin)
                && without_port(of_origin, named).eq_ignore_ascii_case(without_port(of_origin, host))
        });
        is_this_host || self.allows(&origin) || self.allows_any()
    }

    /// What the answer to a request with these headers says.
    pub(crate) fn headers(&self, asked: &HeaderMap) -> CorsHeaders {
        if self.origins.is_empty() {
            return CorsHeaders::default();
        }
        let mut headers = vec![(header::VARY, HeaderValue::from_static("Origin"))];
        if let Some(origin) = asked.get(header::ORIGIN) {
            let is_single = asked.get_all(header::ORIGIN).iter().count() == 1;
            if is_single && origin.to_str().is_ok_and(|origin| self.allows(&origin.to_ascii_lowercase())) {
                headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
                headers.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
            } else if self.allows_any() {
                headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
            }
            if headers.len() > 1 {
                headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After")));
            }
        }
        CorsHeaders(headers)
    }

    /// The value of `Access-Control-Allow-Headers`.
    pub(crate) fn may_send(&self) -> &HeaderValue {
        &self.may_send
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed.is(origin))
    }

    fn allows_any(&self) -> bool {
        self.origins.contains(&Allowed::Any)
    }
}

impl CorsHeaders {
    /// Whether the request's origin is allowed.
    pub(crate) fn allows(&self) -> bool {
        self.0.len() > 1
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

/// A host without the port that its scheme has anyway: some clients name it, and none does in an origin.
fn without_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let usual = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return host,
    };
    host.strip_suffix(usual).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: Option<&str>, site: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().expect("a header"))));
        headers.extend(site.map(|site| (SEC_FETCH_SITE, site.parse().expect("a header"))));
        headers
    }

    fn cors(origins: &[&str]) -> Cors {
        Cors::new(&origins.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>(), &["X-Own".to_owned()])
    }

    fn said(cors: &Cors, origin: &str) -> Vec<String> {
        let headers = cors.headers(&asked(Some(origin), None));
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect()
    }

    #[test]
    fn changes_come_from_this_host_or_an_allowed_origin() {
        let cors = cors(&["https://ok.test/"]);
        for (origin, site, may) in [
            (None, None, true),
            (None, Some("none"), true),
            (None, Some("cross-site"), false),
            (Some("http://localhost:1"), None, true),
            (Some("http://localhost:1"), Some("same-origin"), true),
            (Some("https://shop.test"), Some("same-origin"), true),
            (Some("https://shop.test"), Some("same-site"), false),
            (Some("https://ok.test"), Some("cross-site"), true),
            (Some("http://evil.test"), Some("cross-site"), false),
            (Some("http://evil.test"), None, false),
            (Some("null"), None, false),
            (Some("http://localhost:2"), None, false),
        ] {
            assert_eq!(cors.may_change(&asked(origin, site), "localhost:1", None), may, "{origin:?} {site:?}");
        }
    }

    #[test]
    fn what_is_said_twice_says_nothing() {
        let (some, any) = (cors(&["https://ok.test"]), cors(&["*"]));
        for (name, values) in [
            (SEC_FETCH_SITE, ["same-origin", "cross-site"]),
            (SEC_FETCH_SITE, ["none", "none"]),
            (header::ORIGIN, ["https://ok.test", "https://evil.test"]),
            (header::ORIGIN, ["http://localhost:1", "https://ok.test"]),
        ] {
            let mut doubled = HeaderMap::new();
            for value in values {
                doubled.append(&name, HeaderValue::from_static(value));
            }
            assert!(!some.may_change(&doubled, "localhost:1", None), "{name} {values:?}");
            assert!(any.may_change(&doubled, "localhost:1", None), "{name} {values:?}");
            assert!(!some.headers(&doubled).allows(), "{name} {values:?}");
        }
    }

    #[test]
    fn this_host_is_the_one_by_which_the_client_asked_with_its_scheme_where_that_is_known() {
        let cors = cors(&[]);
        for (origin, host, scheme, may) in [
            ("https://shop.test", "shop.test", Some("https"), true),
            ("https://shop.test", "Shop.Test:443", Some("https"), true),
            ("https://shop.test:8443", "shop.test:8443", Some("https"), true),
            ("http://shop.test", "shop.test:80", None, true),
            ("http://shop.test", "shop.test", Some("https"), false),
            ("https://shop.test", "shop.test", Some("http"), false),
            ("https://shop.test", "shop.test:80", None, false),
            ("https://shop.test:8443", "shop.test", None, false),
            ("https://evil.test", "shop.test", None, false),
            ("shop.test", "shop.test", None, false),
            ("https://", "", None, true),
        ] {
            assert_eq!(cors.may_change(&asked(Some(origin), None), host, scheme), may, "{origin} {host} {scheme:?}");
        }
    }

    #[test]
    fn subdomains_are_names_and_nothing_else() {
        let cors = cors(&["https://*.ok.test"]);
        for (origin, allowed) in [
            ("https://a.ok.test", true),
            ("https://a.b.OK.test", true),
            ("https://ok.test", false),
            ("https://.ok.test", false),
            ("https://..ok.test", false),
            ("https://a..ok.test", false),
            ("http://a.ok.test", false),
            ("https://a.ok.test:8443", false),
            ("https://evil.test/.ok.test", false),
            ("https://evil.test?.ok.test", false),
            ("https://evil.test:1@a.ok.test", false),
            ("https://aok.test", false),
        ] {
            assert_eq!(said(&cors, origin).len() > 1, allowed, "{origin}");
        }
    }

    #[test]
    fn every_answer_varies_once_an_origin_is_allowed_and_a_star_gets_no_credentials() {
        assert!(said(&cors(&[]), "https://a.test").is_empty());
        assert_eq!(said(&cors(&["https://ok.test"]), "https://a.test"), ["vary: Origin"]);
        let expose = "access-control-expose-headers: Retry-After";
        let exact =
            ["vary: Origin", "access-control-allow-origin: https://ok.test", "access-control-allow-credentials: true"];
        assert_eq!(said(&cors(&["*", "https://ok.test"]), "https://ok.test"), [&exact[..], &[expose]].concat());
        assert_eq!(said(&cors(&["*"]), "null"), ["vary: Origin", "access-control-allow-origin: *", expose]);
        assert!(cors(&[]).may_send().to_str().expect("text").ends_with("X-Requested-With, X-Own"));
    }
}
