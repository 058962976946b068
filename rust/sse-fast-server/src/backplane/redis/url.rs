//! Where the server is: `redis://`, `rediss://`, `redis+sentinel://`, `rediss+sentinel://`.
//!
//! Owns: reading and showing a URL. Must not know: connections.
//! Invariants: a password is never shown, by no `Debug`, no `Display` and no error.

use std::fmt;

use percent_encoding::percent_decode_str;

/// A server, or the sentinels that know where it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether it speaks TLS.
    pub(super) tls: bool,
    /// One, or several sentinels.
    pub(super) hosts: Vec<(String, u16)>,
    /// What the sentinels call it.
    pub(super) service: Option<String>,
    /// The number of its database.
    pub(crate) database: u32,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Why a URL is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("a backplane's URL begins with redis://, rediss://, redis+sentinel:// or rediss+sentinel://")]
    Scheme,
    #[error("a backplane's URL names a host, and a port of 1 to 65535 where it names one: not {0:?}")]
    Host(String),
    #[error("the database of a backplane is a number such as /0, not {0:?}")]
    Database(String),
    #[error("redis+sentinel:// names sentinels, then the service: redis+sentinel://host:26379,host:26379/service/0")]
    Service,
    #[error("redis:// names one server; several are sentinels: redis+sentinel://host:26379,host:26379/service/0")]
    Several,
    #[error("user and password of a backplane's URL are percent-encoded UTF-8")]
    Encoding,
    #[error("a backplane's URL has nothing behind its database, not {0:?}")]
    Rest(String),
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(UrlError::Scheme)?;
        let (tls, sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (decoded(user)?, decoded(password)?, hosts)
            }
            None => (None, None, authority),
        };
        if let Some(at) = path.find(['?', '#']) {
            return Err(UrlError::Rest(path[at..].to_owned()));
        }
        let port = if sentinel { 26379 } else { 6379 };
        let hosts = hosts.split(',').map(|host| host_and_port(host, port)).collect::<Result<Vec<_>, _>>()?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let service = if sentinel { Some(parts.next().ok_or(UrlError::Service)?.to_owned()) } else { None };
        if !sentinel && hosts.len() > 1 {
            return Err(UrlError::Several);
        }
        let database = match parts.next() {
            Some(text) => text.parse().map_err(|_| UrlError::Database(text.to_owned()))?,
            None => 0,
        };
        if let Some(part) = parts.next() {
            return Err(UrlError::Rest(part.to_owned()));
        }
        Ok(Self { tls, hosts, service, database, user, password })
    }
}

fn decoded(text: &str) -> Result<Option<String>, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| UrlError::Encoding)?;
    Ok(Some(decoded.into_owned()).filter(|text| !text.is_empty()))
}

fn host_and_port(text: &str, usual: u16) -> Result<(String, u16), UrlError> {
    let wrong = || UrlError::Host(text.to_owned());
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (host, rest.strip_prefix(':').or_else(|| Some("").filter(|_| rest.is_empty())).ok_or_else(wrong)?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { usual } else { port.parse().map_err(|_| wrong())? };
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, sentinel) = (if self.tls { "s" } else { "" }, if self.service.is_some() { "+sentinel" } else { "" });
        write!(f, "redis{s}{sentinel}://")?;
        if self.user.is_some() || self.password.is_some() {
            f.write_str("***@")?;
        }
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        if let Some(service) = &self.service {
            write!(f, "/{service}")?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        for (url, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("rediss://u%40x:p%2Fw@example.com:1/2", "rediss://***@example.com:1/2"),
            ("redis://:secret@[::1]:7/", "redis://***@[::1]:7/0"),
            ("redis+sentinel://u:secret@a:1,b/main/3", "redis+sentinel://***@a:1,b:26379/main/3"),
        ] {
            let address = Address::parse(url).expect("it is one");
            assert_eq!((address.to_string(), format!("{address:?}")), (shown.to_owned(), shown.to_owned()));
        }
        let address = Address::parse("redis://u%40x:p%2Fw@h").expect("it is one");
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("u@x"), Some("p/w")));
        assert_eq!(Address::parse("redis://:only@h").expect("it is one").user, None);
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in [
            "http://h",
            "h:6379",
            "redis://",
            "redis://u:secret@",
            "redis://u:secret@h:0",
            "redis://u:secret@h:99999",
            "redis://u:secret@h/x",
            "redis://u:secret@h/0/1",
            "redis://u:secret@h/0?x=1",
            "redis://u:secret@a,b",
            "redis+sentinel://u:secret@a:1",
            "redis://%ff:secret@h",
            "redis://u:secret@[::1",
            "redis://u:secret@[::1]x",
        ] {
            let error = Address::parse(url).expect_err(url);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
