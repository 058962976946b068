//! Who may read and publish: tokens, tickets, and readers that were disconnected.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the rules of one server, and what is told of them |
//! | `admit` | a request's credential, and what is decided by it; asking the application |
//! | `header` | tokens in headers |
//! | `publish` | who may publish from elsewhere |
//! | `token` | JSON Web Tokens |
//! | `ticket` | tickets for URLs |
//! | `key`, `der` | keys, and their forms |
//! | `secret` | what may be a secret |
//! | `jwks` | keys from the web |
//! | `disconnected` | readers whose tokens are refused |
//!
//! Must not know: streams, shards; what is decided here is decided by names. Invariants: a right is decided before anybody looks
//! whether a stream exists; nothing of a credential is logged or kept; nothing here runs for an event.

#[cfg(not(loom))]
mod admit;
mod der;
mod disconnected;
#[cfg(not(loom))]
mod header;
mod jwks;
mod key;
#[cfg(not(loom))]
mod publish;
mod secret;
mod ticket;
mod token;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use sse_fast_core::budget::Micros;

use self::disconnected::Disconnected;
pub use self::jwks::{FetchOrder, KeySource};
pub use self::key::{Algorithm, Key};
#[cfg(not(loom))]
use self::publish::PublishKeys;
#[cfg(not(loom))]
pub(crate) use self::publish::Publisher;
pub use self::secret::{KeyError, check_secret};
use self::ticket::Tickets;
use self::token::{Demands, Grants, Invalid, Right, Seconds, Unverified};
use crate::admitted::Admitted;
use crate::calls::Lane;
use crate::clock;
use crate::pattern::PatternError;

/// The most keys that are given: a token that names none is tried with each of its algorithm.
pub const MAX_KEYS: usize = 16;

/// Where the keys of tokens are from.
#[derive(Clone, Debug)]
pub enum Keys {
    /// They were given.
    Given(Arc<[Key]>),
    /// They are fetched.
    Fetched(KeySource),
}

/// What tokens a server takes.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// What they are verified with.
    pub keys: Keys,
    /// Who must have issued them.
    pub issuer: Option<String>,
    /// Whom they must be for.
    pub audience: Option<String>,
    /// Seconds by which clocks may differ.
    pub leeway: f64,
}

impl TokenRules {
    /// Whether a token lets its holder read all of these streams now, by keys that were given; or why it is refused.
    pub fn suffices(&self, token: &str, names: &[&str]) -> Result<bool, &'static str> {
        let Self { keys, issuer, audience, leeway } = self.clone();
        let Keys::Given(keys) = keys else { return Err("its keys are fetched") };
        let verified = Unverified::read(token).and_then(|token| {
            let selected = token.select(&keys, false).unwrap_or(Err(Invalid::Key))?;
            token.verify(
                &selected.keys(),
                &Demands { issuer, audience, leeway },
                Right::Subscribe,
                names,
                unix_seconds(),
            )
        });
        verified.map(|grants| grants.suffices).map_err(Invalid::text)
    }
}

/// What a server is told about rights.
#[derive(Clone)]
pub struct RightsConfig {
    /// The tokens it takes; `None` takes none.
    pub tokens: Option<TokenRules>,
    /// What tickets are signed with; `None` has it derived, or random.
    pub ticket_key: Option<Vec<u8>>,
    /// The cookie that may hold a token.
    pub cookie: String,
    /// What lets its holder publish from elsewhere.
    pub publish_keys: Vec<String>,
}

impl Default for RightsConfig {
    fn default() -> Self {
        Self { tokens: None, ticket_key: None, cookie: "__Host-sse_fast".to_owned(), publish_keys: Vec::new() }
    }
}

impl std::fmt::Debug for RightsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tokens, ticket_key: _, cookie, publish_keys: _ } = self;
        f.debug_struct("RightsConfig").field("tokens", tokens).field("cookie", cookie).finish_non_exhaustive()
    }
}

/// The application's check, by its key and who runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) lane: Lane,
    pub(crate) key: u64,
}

/// Why who was let in is so no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lapsed {
    Expired,
    Disconnected,
}

/// The rules of one server.
pub(crate) struct Rights {
    tokens: Option<(Keys, Demands)>,
    tickets: Tickets,
    cookie: String,
    #[cfg(not(loom))]
    publish_keys: PublishKeys,
    /// Set once.
    check: OnceLock<Check>,
    pub(crate) disconnected: Disconnected,
    /// Whether everybody may read, and nobody has been told; cleared once. Relaxed: it orders nothing.
    untold: AtomicBool,
}

impl Rights {
    /// `is_exposed` where others than this machine's programs may ask.
    pub(crate) fn new(config: &RightsConfig, is_exposed: bool) -> Result<Self, getrandom::Error> {
        let keys = config.tokens.as_ref().map(|tokens| &tokens.keys);
        let shared = match keys {
            Some(Keys::Given(keys)) => keys.iter().find_map(Key::secret),
            Some(Keys::Fetched(_)) | None => None,
        };
        let of_publishers = config.publish_keys.first().map(String::as_bytes);
        let tokens = config.tokens.as_ref().map(|rules| {
            let TokenRules { keys, issuer, audience, leeway } = rules.clone();
            (keys, Demands { issuer, audience, leeway })
        });
        Ok(Self {
            tokens,
            tickets: Tickets::new(config.ticket_key.as_deref(), shared, of_publishers)?,
            cookie: config.cookie.clone(),
            #[cfg(not(loom))]
            publish_keys: PublishKeys::new(&config.publish_keys),
            check: OnceLock::new(),
            disconnected: Disconnected::default(),
            untold: AtomicBool::new(is_exposed),
        })
    }

    /// From now on the application is asked; false where another check is already.
    pub(crate) fn ask(&self, check: Check) -> bool {
        self.check.set(check).is_ok()
    }

    /// Whether anything is asked of a reader.
    pub(crate) fn are_given(&self) -> bool {
        self.tokens.is_some() || self.check.get().is_some()
    }

    /// Whether anybody may publish from elsewhere.
    #[cfg(not(loom))]
    pub(crate) fn let_publish(&self) -> bool {
        self.tokens.is_some() || self.publish_keys.are_given()
    }

    /// Whether who was let in is so still, at this time of the monotonic clock.
    pub(crate) fn still_admits(&self, admitted: &Admitted, now: Micros) -> Result<(), Lapsed> {
        if admitted.expires.is_some_and(|at| at <= now) {
            return Err(Lapsed::Expired);
        }
        let is_cut = |reader: &Arc<str>| self.disconnected.hold().has_cut(reader, admitted.since);
        if admitted.reader.as_ref().is_some_and(is_cut) { Err(Lapsed::Disconnected) } else { Ok(()) }
    }

    /// Whether it is to be said now that everybody may read; true once at most.
    pub(crate) fn must_warn(&self) -> bool {
        !self.are_given() && self.untold.load(Ordering::Relaxed) && self.untold.swap(false, Ordering::Relaxed)
    }

    /// The application has said of a stream who may read: it knows.
    pub(crate) fn never_warn(&self) {
        self.untold.store(false, Ordering::Relaxed);
    }

    /// Whether tickets are signed with what this process alone has.
    pub(crate) fn has_random_tickets(&self) -> bool {
        self.tickets.are_random()
    }

    /// A ticket for these names, which its holder may use for so many seconds.
    pub(crate) fn ticket(&self, subscribe: &[String], reader: Option<&str>, ttl: f64) -> Result<String, PatternError> {
        let now = unix_seconds();
        self.tickets.make(subscribe, reader, now, now + ttl)
    }

    /// Nothing is waited for any more.
    pub(crate) fn close(&self) {
        if let Some((Keys::Fetched(source), _)) = &self.tokens {
            source.close();
        }
    }
}

/// The wall clock.
#[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for 285 years")]
fn unix_seconds() -> Seconds {
    clock::unix_us() as f64 / 1e6
}

#[cfg(test)]
mod tests;
