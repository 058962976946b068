//! Who may publish from elsewhere: who has a key of the server's, or a token that grants it.
//!
//! Owns: the keys, and the decision by a request's credential. Must not know: whether a stream exists, what is published.
//! Invariants: only `Authorization: Bearer` counts. What browsers send by themselves (a cookie), and what travels in a URL (a
//! ticket), grants nothing here. How long a key is compared tells nothing of it. Nothing of a credential goes into a text.

use std::sync::Arc;

use hyper::header;
use ring::digest::{SHA256, digest};

use super::admit::{Failure, Kind, invalid_token, left};
use super::header::bearer;
use super::token::Right;
use super::{Grants, unix_seconds};
use crate::admitted::Admitted;
use crate::clock;
use crate::request::ParsedRequest;
use crate::respond::Context;
use crate::response::Refusal;

/// The digests of the keys: all of one length, so that each comparison takes as long as any other.
#[derive(Default)]
pub(super) struct PublishKeys(Box<[[u8; 32]]>);

/// Who publishes.
pub(crate) struct Publisher {
    /// Whether it has a key of the server's: a token grants publishing, and no more.
    pub(crate) has_key: bool,
    /// What tells it from others, and nothing more.
    pub(crate) scope: [u8; 32],
    /// Until when it may, where a token says so.
    pub(crate) admitted: Admitted,
}

impl PublishKeys {
    pub(super) fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| hash(key.as_bytes())).collect())
    }

    pub(super) fn are_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// The digest of what was given, where it is one of the keys; each of them is looked at.
    fn find(&self, given: &str) -> Option<[u8; 32]> {
        let given = hash(given.as_bytes());
        let differ = |key: &[u8; 32]| key.iter().zip(&given).fold(0, |differs, (a, b)| differs | (a ^ b));
        let is_one = self.0.iter().fold(false, |found, key| found | (differ(key) == 0));
        is_one.then_some(given)
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

impl Context {
    /// Decides whether a request may publish into the stream of this name, before anybody looks whether there is one.
    pub(crate) async fn publisher(&self, request: &ParsedRequest, name: &str) -> Result<Publisher, Refusal> {
        let since = clock::now();
        let mut headers = request.headers.get_all(header::AUTHORIZATION).iter();
        let (first, second) = (headers.next(), headers.next());
        if second.is_some() {
            let why = "there is more than one Authorization header";
            self.refuse(Kind::Unauthorized, request, &[name], why);
            return Err(Refusal::new(400, "bad_request", why));
        }
        let Some(given) = first.and_then(|value| bearer(value.as_bytes())) else {
            self.refuse(Kind::Unauthorized, request, &[name], "it has no key and no token");
            let detail = "publishing needs a key or a token, as Authorization: Bearer";
            return Err(Refusal::new(401, "unauthorized", detail).header(header::WWW_AUTHENTICATE, "Bearer"));
        };
        if let Some(scope) = self.rights.publish_keys.find(given) {
            return Ok(Publisher { has_key: true, scope, admitted: Admitted::default() });
        }
        if self.rights.tokens.is_none() {
            self.refuse(Kind::Unauthorized, request, &[name], "its key is none of publish_key");
            return Err(invalid_token("the key is not known".to_owned()));
        }
        let what = "the token of its Authorization";
        let granted = self.verified(given, Right::Publish, &[name]).await;
        let granted =
            granted.and_then(|grants| self.rights.check_reader(grants, self.rights.leeway()).map_err(Failure::Invalid));
        match granted {
            Ok(Grants { suffices: true, reader, expires, .. }) => {
                let expires = Some(clock::now().saturating_add(left(expires - unix_seconds())));
                // A token is renewed while a publisher tries again; who it is of stays.
                let who = reader.as_deref().map_or_else(|| given.to_owned(), |reader| format!("reader {reader}"));
                let scope = hash(who.as_bytes());
                Ok(Publisher {
                    has_key: false,
                    scope,
                    admitted: Admitted { reader: reader.map(Arc::from), expires, since },
                })
            }
            Ok(Grants { reader, .. }) => {
                let who = reader.map_or_else(|| what.to_owned(), |reader| format!("{what}, of {reader:?},"));
                self.refuse(Kind::Forbidden, request, &[name], &format!("{who} does not grant that"));
                Err(Refusal::new(403, "forbidden", "the token does not grant publishing this"))
            }
            Err(failure) => Err(self.not_valid(&failure, what, request, &[name])),
        }
    }

    /// Refuses options from who has no key: they are the application's. A token that grants publishing would make a private
    /// stream one that everybody reads, and have as much retained as it likes.
    pub(crate) fn check_gives_options(
        &self,
        request: &ParsedRequest,
        name: &str,
        publisher: &Publisher,
    ) -> Result<(), Refusal> {
        if publisher.has_key {
            return Ok(());
        }
        self.refuse(Kind::Forbidden, request, &[name], "options of a stream need a key, and it has a token");
        Err(Refusal::new(
            403,
            "forbidden",
            "options of a stream need one of publish_key: a token grants publishing alone",
        ))
    }

    /// Refuses who was let in and is so no more: a body takes its time.
    pub(crate) fn still_publishes(
        &self,
        request: &ParsedRequest,
        name: &str,
        publisher: &Publisher,
    ) -> Result<(), Refusal> {
        self.is_still_admitted(request, &[name], &publisher.admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_keys_is_known_and_nothing_else() {
        let keys = PublishKeys::new(&["the old key".to_owned(), "the new key".to_owned()]);
        let of = |given| keys.find(given);
        assert!(of("the old key").is_some() && of("the new key").is_some() && of("the old key") != of("the new key"));
        for given in ["", "the old ke", "the old key ", "The old key", "the other key"] {
            assert_eq!(of(given), None, "{given:?}");
        }
        assert!(!PublishKeys::default().are_given() && PublishKeys::default().find("").is_none());
    }
}
