//! Tickets: tokens of our own for the URLs of pages whose `EventSource` can send no header.
//!
//! Owns: their form, `sse1.<claims>.<code>`, and their key. Must not know: requests, other tokens.
//! Invariants: the key signs nothing else, also where it comes from another (HKDF, RFC 5869): what is made with the one is no
//! ticket, and no ticket is a token. Nothing is read from a ticket before its code was verified.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use ring::{hkdf, hmac};

use super::token::{Grants, Invalid, Seconds, TicketClaims, decode, encode, suffice};
use crate::pattern::{Pattern, PatternError};

/// What a ticket begins with; the number changes with the form.
const PREFIX: &str = "sse1.";

/// What a derived key is for; another use gets another word.
const PURPOSE: &[&[u8]] = &[b"ticket key, form 1"];
const SALT: &[u8] = b"sse_fast";

/// See the module.
pub(crate) struct Tickets {
    key: hmac::Key,
    /// Whether there may be tickets of this key. Relaxed: a page has its ticket after this was set.
    in_use: AtomicBool,
    /// Whether the key is this process's alone.
    random: bool,
}

impl Tickets {
    /// Tickets under a key of their own, or one derived from a key that is there for something else, that of tokens or else that of
    /// publishers; without any under a random one.
    pub(crate) fn new(
        own: Option<&[u8]>,
        of_tokens: Option<&[u8]>,
        of_publishers: Option<&[u8]>,
    ) -> Result<Self, getrandom::Error> {
        let for_readers = own.or(of_tokens);
        let given = for_readers.or(of_publishers);
        let mut random = [0; 32];
        if given.is_none() {
            getrandom::fill(&mut random)?;
        }
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(given.unwrap_or(&random));
        // One block of the hash, which always fits.
        let key = derived.expand(PURPOSE, hmac::HMAC_SHA256).map_err(|_| getrandom::Error::UNEXPECTED)?;
        let (in_use, random) = (AtomicBool::new(for_readers.is_some()), given.is_none());
        Ok(Self { key: key.into(), in_use, random })
    }

    /// Whether no other process has the key.
    pub(crate) fn are_random(&self) -> bool {
        self.random
    }

    /// Whether a ticket in a URL is ours to look at: without one made, and without a key that another process has, too,
    /// it is a parameter of the application's.
    pub(crate) fn are_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    /// A ticket for these names.
    pub(crate) fn make(
        &self,
        subscribe: &[String],
        reader: Option<&str>,
        issued: Seconds,
        expires: Seconds,
    ) -> Result<String, PatternError> {
        for text in subscribe {
            Pattern::new(text.as_str())?;
        }
        let subscribe = subscribe.iter().map(|text| Cow::Borrowed(text.as_str())).collect();
        let claims = TicketClaims { subscribe, reader: reader.map(Cow::Borrowed), issued, expires };
        // Numbers and texts alone: it cannot fail.
        let mut ticket = format!("{PREFIX}{}", encode(serde_json::to_vec(&claims).unwrap_or_default()));
        let code = encode(hmac::sign(&self.key, ticket.as_bytes()));
        ticket.push('.');
        ticket.push_str(&code);
        self.in_use.store(true, Ordering::Relaxed);
        Ok(ticket)
    }

    /// What a ticket grants of `names`.
    pub(crate) fn read(&self, ticket: &str, names: &[&str], now: Seconds) -> Result<Grants, Invalid> {
        let (signed, code) = ticket.rsplit_once('.').ok_or(Invalid::Form)?;
        let claims = signed.strip_prefix(PREFIX).ok_or(Invalid::Form)?;
        hmac::verify(&self.key, signed.as_bytes(), &decode(code)?).map_err(|_| Invalid::Signature)?;
        let decoded = decode(claims)?;
        let claims: TicketClaims<'_> = serde_json::from_slice(&decoded).map_err(|_| Invalid::Claims)?;
        if now >= claims.expires {
            return Err(Invalid::Expired);
        }
        let suffices = suffice(&claims.subscribe, names);
        let reader = claims.reader.map(Cow::into_owned);
        Ok(Grants { reader, expires: claims.expires, issued: Some(claims.issued), suffices })
    }
}
