//! JSON Web Tokens (RFC 7515, 7519): their three parts, and what their claims grant.
//!
//! Owns: reading a token, and every rule of it but which keys there are. Must not know: requests, where keys come from.
//! Invariants: nothing is read from claims before the signature was verified. `exp` is required; a head with `crit` is
//! refused, for it names what must be understood and nothing is; a member that stands in an object twice refuses the token.
//! What a token holds shows up in no text.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::key::{Algorithm, Key};
use crate::pattern::Pattern;

/// Why a credential is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// It has not the form.
    Form,
    /// Its algorithm is `none`, or one that no key has.
    Algorithm,
    /// No key is the one that it names.
    Key,
    /// It names something that must be understood.
    Critical,
    /// It was not signed so.
    Signature,
    /// A claim has not its form.
    Claims,
    /// It has no `exp`.
    NoExpiry,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYet,
    /// It is of another issuer.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// Its reader was disconnected since it was made.
    Disconnected,
}

impl Invalid {
    /// For logs and people; nothing of the credential.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Form => "it has not the form of one",
            Self::Algorithm => "no key has its algorithm",
            Self::Key => "no key is the one that it names",
            Self::Critical => "it names something critical that is not known here",
            Self::Signature => "its signature is not that of a key",
            Self::Claims => "its claims have not their form",
            Self::NoExpiry => "it has no exp",
            Self::Expired => "it has expired",
            Self::NotYet => "it is not valid yet",
            Self::Issuer => "it is of another issuer",
            Self::Audience => "it is for another audience",
            Self::Disconnected => "its reader was disconnected since it was made",
        }
    }
}

/// What is asked of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Subscribe,
    Publish,
}

/// Seconds since the Unix epoch, as claims have them.
pub(crate) type Seconds = f64;

/// What a valid token or ticket says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grants {
    pub(crate) reader: Option<String>,
    /// When it ends.
    pub(crate) expires: Seconds,
    /// When it was made, as far as it says so.
    pub(crate) issued: Option<Seconds>,
    /// Whether it lets its reader into all that was asked for.
    pub(crate) suffices: bool,
}

/// What is asked of every token of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demands {
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    /// Seconds by which clocks may differ.
    pub(crate) leeway: Seconds,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

#[derive(Deserialize)]
struct Claims<'a> {
    exp: Option<Seconds>,
    nbf: Option<Seconds>,
    iat: Option<Seconds>,
    #[serde(borrow)]
    iss: Option<Cow<'a, str>>,
    #[serde(borrow)]
    aud: Option<Audience<'a>>,
    #[serde(borrow)]
    sub: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sse: Option<Names<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

/// The one claim of ours; `publish` is for those who publish from elsewhere.
#[derive(Default, Deserialize)]
struct Names<'a> {
    #[serde(default, borrow)]
    subscribe: Vec<Cow<'a, str>>,
    #[serde(default, borrow)]
    publish: Vec<Cow<'a, str>>,
}

/// A token whose head was read and whose signature was not looked at.
pub(crate) struct Unverified<'a> {
    pub(crate) algorithm: Algorithm,
    /// The key that it names.
    pub(crate) key: Option<String>,
    /// What was signed.
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

/// Keys that may have signed a token.
pub(crate) struct Selected {
    pub(crate) keys: Arc<[Key]>,
    places: SmallVec<[usize; 4]>,
    /// Whether the token names one of them; else it may be of a key that is not there.
    pub(crate) is_named: bool,
}

impl Selected {
    pub(crate) fn keys(&self) -> SmallVec<[&Key; 4]> {
        self.places.iter().map(|&place| &self.keys[place]).collect()
    }
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(crate) fn read(token: &'a str) -> Result<Self, Invalid> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Form)?;
        let (head, claims) = signed.split_once('.').ok_or(Invalid::Form)?;
        if claims.contains('.') {
            return Err(Invalid::Form);
        }
        let decoded = decode(head)?;
        let head: Head<'_> = serde_json::from_slice(&decoded).map_err(|_| Invalid::Form)?;
        if head.crit {
            return Err(Invalid::Critical);
        }
        let algorithm = Algorithm::named(&head.alg).ok_or(Invalid::Algorithm)?;
        let key = head.kid.map(Cow::into_owned);
        Ok(Self { algorithm, key, signed, claims, signature: decode(signature)? })
    }

    /// The keys that may have signed a token: that of the id it names, or else those that were given without one. `None` where
    /// no key is, and others might be; the key itself where it is one of another algorithm is a decision.
    pub(crate) fn select(&self, keys: &Arc<[Key]>, fetched: bool) -> Option<Result<Selected, Invalid>> {
        let places = |is_meant: &dyn Fn(&Key) -> bool| -> SmallVec<[usize; 4]> {
            let meant = keys.iter().enumerate().filter(|(_, key)| is_meant(key));
            meant.map(|(place, _)| place).collect()
        };
        let of_algorithm = |key: &Key| key.algorithm() == self.algorithm;
        let mut found = match self.key.as_deref() {
            Some(id) => places(&|key| key.id() == Some(id)),
            None => places(&of_algorithm),
        };
        let is_named = self.key.is_some() && !found.is_empty();
        if found.is_empty() && self.key.is_some() {
            found = places(&|key| key.id().is_none());
        }
        if found.is_empty() {
            return None;
        }
        found.retain(|place| of_algorithm(&keys[*place]));
        if found.is_empty() {
            return Some(Err(Invalid::Algorithm));
        }
        if fetched && self.key.is_none() && found.len() > 1 {
            // A set may be large, and trying them all takes time.
            return Some(Err(Invalid::Key));
        }
        Some(Ok(Selected { keys: Arc::clone(keys), places: found, is_named }))
    }

    /// What it grants of `names`, if one of these keys signed it and its claims are as demanded.
    pub(crate) fn verify(
        &self,
        keys: &[&Key],
        demands: &Demands,
        right: Right,
        names: &[&str],
        now: Seconds,
    ) -> Result<Grants, Invalid> {
        debug_assert!(keys.iter().all(|key| key.algorithm() == self.algorithm), "a key has one algorithm");
        if !keys.iter().any(|key| key.verifies(self.signed.as_bytes(), &self.signature)) {
            return Err(Invalid::Signature);
        }
        let decoded = decode(self.claims)?;
        let claims: Claims<'_> = serde_json::from_slice(&decoded).map_err(|_| Invalid::Claims)?;
        claims.check(demands, now)?;
        let expires = claims.exp.ok_or(Invalid::NoExpiry)? + demands.leeway;
        let Names { subscribe, publish } = claims.sse.unwrap_or_default();
        let patterns = match right {
            Right::Subscribe => &subscribe,
            Right::Publish => &publish,
        };
        let suffices = suffice(patterns, names);
        Ok(Grants { reader: claims.sub.map(Cow::into_owned), expires, issued: claims.iat, suffices })
    }
}

impl Claims<'_> {
    fn check(&self, demands: &Demands, now: Seconds) -> Result<(), Invalid> {
        let expires = self.exp.ok_or(Invalid::NoExpiry)?;
        if now >= expires + demands.leeway {
            return Err(Invalid::Expired);
        }
        if self.nbf.is_some_and(|from| now + demands.leeway < from) {
            return Err(Invalid::NotYet);
        }
        if demands.issuer.as_deref().is_some_and(|wanted| self.iss.as_deref() != Some(wanted)) {
            return Err(Invalid::Issuer);
        }
        let is_for = |wanted: &str| match &self.aud {
            None => false,
            Some(Audience::One(one)) => one == wanted,
            Some(Audience::Several(all)) => all.iter().any(|one| one == wanted),
        };
        if demands.audience.as_deref().is_some_and(|wanted| !is_for(wanted)) {
            return Err(Invalid::Audience);
        }
        if self.sub.as_deref().is_some_and(str::is_empty) { Err(Invalid::Claims) } else { Ok(()) }
    }
}

/// Whether each of these names is matched by a pattern; what is no pattern matches nothing.
pub(super) fn suffice(patterns: &[Cow<'_, str>], names: &[&str]) -> bool {
    let patterns: Vec<_> = patterns.iter().filter_map(|text| Pattern::new(text.as_ref()).ok()).collect();
    names.iter().all(|name| patterns.iter().any(|pattern| pattern.matches(name)))
}

/// Base64 as tokens have it: no padding, no bits that say nothing.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, Invalid> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form)
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a ticket holds, as its bytes are; the keys are short, since it travels in every URL.
#[derive(Serialize, Deserialize)]
pub(super) struct TicketClaims<'a> {
    #[serde(borrow, rename = "s")]
    pub(super) subscribe: Vec<Cow<'a, str>>,
    #[serde(borrow, rename = "r", skip_serializing_if = "Option::is_none")]
    pub(super) reader: Option<Cow<'a, str>>,
    #[serde(rename = "i")]
    pub(super) issued: Seconds,
    #[serde(rename = "e")]
    pub(super) expires: Seconds,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
