//! A request for streams by name: its credential, and what is decided by it, or by the application.
//!
//! Owns the order: a token that suffices lets in, one that does not is refused; without one the application decides, if it
//! is asked; else who must have a token is told so. Must not know: whether a stream exists, what is answered then.
//! Invariants: one credential counts, and an invalid one is refused, never passed over for another. Only decisions are
//! answered with 401 and 403: what will pass (keys that are not there yet, an application that is busy or fails) lets
//! nobody in and ends no page's `EventSource`. Nothing of a credential goes into a text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header;
use sse_fast_core::budget::Micros;
use tokio::time::sleep;

use super::jwks::Found;
use super::{Check, Grants, Invalid, Keys, Rights, Seconds, Unverified, unix_seconds};
use crate::admitted::Admitted;
use crate::calls::{Answer, Full};
use crate::clock::{self, in_micros};
use crate::directory::Refused;
use crate::handler_call::{Waited, parts, wait};
use crate::logs::Level;
use crate::request::ParsedRequest;
use crate::respond::{Context, retry_later};
use crate::response::{self, Refusal};
use crate::shown;

const LOGGER: &str = "sse_fast.access";

/// How long a token may wait for its key; the thread that fetches gives up sooner.
const KEY_PATIENCE: Duration = Duration::from_secs(10);

/// The most of the names asked for that a log line shows.
const SHOWN: usize = 200;

/// What a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential<'a> {
    Bearer(&'a str),
    Cookie(&'a str),
    Ticket(&'a str),
}

/// Why a credential lets nobody in.
enum Failure {
    Invalid(Invalid),
    /// Its key is not known, and nobody could be asked.
    KeysAway,
}

/// Several of what there may be one of.
struct Several(&'static str);

impl Context {
    /// Decides whether a request may read all of these streams, before anybody looks whether there are any.
    pub(crate) async fn admit(&self, request: &ParsedRequest, names: &[&str]) -> Result<Admitted, Refusal> {
        let since = clock::now();
        let credential = self
            .rights
            .credential(request)
            .map_err(|Several(what)| Refusal::new(400, "bad_request", format!("there is more than one {what}")))?;
        if let Some(credential) = credential {
            return self.admit_by(credential, request, names, since).await;
        }
        if let Some(check) = self.rights.check.get() {
            return self.ask(*check, request, names, since).await;
        }
        if self.rights.tokens.is_some() {
            self.refuse(Kind::Unauthorized, request, names, "it has no token");
            let refusal = Refusal::new(401, "unauthorized", "reading this needs a token or a ticket");
            return Err(refusal.header(header::WWW_AUTHENTICATE, "Bearer"));
        }
        self.warn_if_open();
        Ok(Admitted::default())
    }

    /// Says, once, that everybody may read, where that may be news.
    pub(crate) fn warn_if_open(&self) {
        if self.rights.must_warn() {
            let text = "everybody who reaches this port may read every stream: none of private, authorize and tokens is \
                given; see the guide on private streams";
            self.directory.logs.put(Level::Warning, LOGGER, text.to_owned());
        }
    }

    async fn admit_by(
        &self,
        credential: Credential<'_>,
        request: &ParsedRequest,
        names: &[&str],
        since: Micros,
    ) -> Result<Admitted, Refusal> {
        let what = match credential {
            Credential::Bearer(_) => "the token of its Authorization",
            Credential::Cookie(_) => "the token in its cookie",
            Credential::Ticket(_) => "its ticket",
        };
        let granted = match credential {
            Credential::Ticket(ticket) => {
                self.rights.tickets.read(ticket, names, unix_seconds()).map_err(Failure::Invalid)
            }
            Credential::Bearer(token) | Credential::Cookie(token) => self.verified(token, names).await,
        };
        let granted = granted.and_then(|grants| self.rights.check_reader(grants).map_err(Failure::Invalid));
        match granted {
            Ok(Grants { suffices: true, reader, expires, .. }) => {
                let expires = Some(clock::now().saturating_add(left(expires - unix_seconds())));
                Ok(Admitted { reader: reader.map(Arc::from), expires, since })
            }
            Ok(Grants { reader, .. }) => {
                let who = reader.map_or_else(|| what.to_owned(), |reader| format!("{what}, of reader {reader:?},"));
                self.refuse(Kind::Forbidden, request, names, &format!("{who} does not grant that"));
                Err(Refusal::new(403, "forbidden", "the token does not grant reading this"))
            }
            Err(Failure::Invalid(why)) => {
                self.refuse(Kind::Unauthorized, request, names, &format!("{what} is refused: {}", why.text()));
                let refusal = Refusal::new(401, "invalid_token", format!("the token is refused: {}", why.text()));
                Err(refusal.header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""))
            }
            Err(Failure::KeysAway) => {
                self.refuse(Kind::Failed, request, names, "the keys of tokens could not be fetched");
                Err(Refusal::whole(retry_later(request, "keys_missing", "the keys of tokens are not there yet")))
            }
        }
    }

    /// What a token grants.
    async fn verified(&self, token: &str, names: &[&str]) -> Result<Grants, Failure> {
        let Some((keys, demands)) = &self.rights.tokens else { return Err(Failure::Invalid(Invalid::Key)) };
        let token = Unverified::read(token).map_err(Failure::Invalid)?;
        let selected = match keys {
            Keys::Given(keys) => token.select(keys, false).unwrap_or(Err(Invalid::Key)).map_err(Failure::Invalid)?,
            Keys::Fetched(source) => {
                let patience = sleep(KEY_PATIENCE);
                tokio::pin!(patience);
                loop {
                    let fetched = source.until_fetched();
                    tokio::pin!(fetched);
                    // Before it is looked: what is fetched from here on ends the wait.
                    fetched.as_mut().enable();
                    match source.find(clock::now(), |keys| token.select(keys, true)) {
                        Found::Keys(found) => break found.unwrap_or(Err(Invalid::Key)).map_err(Failure::Invalid)?,
                        Found::Away => return Err(Failure::KeysAway),
                        Found::Fetching => tokio::select! {
                            () = fetched => {}
                            () = &mut patience => return Err(Failure::KeysAway),
                            () = self.until_closing() => return Err(Failure::KeysAway),
                        },
                    }
                }
            }
        };
        token.verify(&selected.keys(), demands, names, unix_seconds()).map_err(Failure::Invalid)
    }

    /// Has the application decide.
    async fn ask(
        &self,
        Check { lane, key }: Check,
        request: &ParsedRequest,
        names: &[&str],
        since: Micros,
    ) -> Result<Admitted, Refusal> {
        let asked = names.iter().map(|&name| name.to_owned()).collect();
        let pending = self.calls.ask_check(lane, key, asked, parts(request, Vec::new(), Bytes::new()));
        let Ok(mut pending) = pending else {
            let Full = Full;
            self.refuse(Kind::Failed, request, names, "as many requests wait for authorize as may");
            return Err(Refusal::whole(retry_later(
                request,
                "busy",
                "as many requests wait to be let in as may; try again",
            )));
        };
        let answered = async {
            match &request.signals {
                Some(signals) => wait(&mut pending, None, signals, false).await,
                None => Waited::Answered((&mut pending).await.ok()),
            }
        };
        let answer = tokio::select! {
            biased;
            answer = answered => answer,
            () = self.calls.until_cut_off() => Waited::CutOff,
        };
        match answer {
            Waited::Answered(Some(Answer::Admitted { reader, ttl })) => {
                let expires = ttl.map(|ttl| clock::now().saturating_add(in_micros(ttl)));
                Ok(Admitted { reader: reader.map(Arc::from), expires, since })
            }
            Waited::Answered(Some(Answer::Denied)) => {
                self.refuse(Kind::Forbidden, request, names, "authorize denies it");
                Err(Refusal::new(403, "forbidden", "reading this is not allowed"))
            }
            Waited::Answered(Some(Answer::Response { status, headers, body })) => {
                self.refuse(Kind::Forbidden, request, names, &format!("authorize answers {status}"));
                let response = response::of_handler(status, &headers, body);
                Err(response.map_or_else(|_| failed(request), Refusal::whole))
            }
            Waited::Answered(Some(Answer::NotBegun)) | Waited::CutOff => {
                Err(Refusal::whole(retry_later(request, "closing", "the server closes; the request was not begun")))
            }
            Waited::Answered(Some(Answer::Stream { .. }) | None) => {
                self.refuse(Kind::Failed, request, names, "authorize failed");
                Err(failed(request))
            }
            Waited::Abandoned | Waited::HeadDue => {
                let detail = "nobody could decide within a second after the client shut its writing side";
                Err(Refusal::whole(retry_later(request, "busy", detail)))
            }
        }
    }

    /// Counts a request that was not let in, and says why.
    fn refuse(&self, kind: Kind, request: &ParsedRequest, names: &[&str], why: &str) {
        let refusals = &self.directory.totals.refusals;
        let counted: &Refused = match kind {
            Kind::Unauthorized => &refusals.unauthorized,
            Kind::Forbidden => &refusals.forbidden,
            Kind::Failed => &refusals.undecided,
        };
        counted.add(&self.directory.logs, LOGGER, || {
            let names: Vec<_> = names.iter().map(|name| shown::path(name)).collect();
            let shown: String = format!("{names:?}").chars().take(SHOWN).collect();
            format!("{} of {shown} was refused: {why}", request.method)
        });
    }
}

/// What a request that was not let in is counted as.
#[derive(Clone, Copy)]
enum Kind {
    Unauthorized,
    Forbidden,
    /// Nobody could decide.
    Failed,
}

impl Rights {
    /// The one credential that counts.
    fn credential<'a>(&self, request: &'a ParsedRequest) -> Result<Option<Credential<'a>>, Several> {
        if self.tokens.is_some() {
            let mut headers = request.headers.get_all(header::AUTHORIZATION).iter();
            let (first, second) = (headers.next(), headers.next());
            if second.is_some() {
                return Err(Several("Authorization header"));
            }
            if let Some(token) = first.and_then(|value| bearer(value.as_bytes())) {
                return Ok(Some(Credential::Bearer(token)));
            }
            let cookies = request.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
            let mut cookies = cookies.flat_map(|all| all.split(';')).filter_map(|pair| pair.split_once('='));
            let own = cookies.find(|(name, value)| name.trim() == self.cookie && !value.trim().is_empty());
            if let Some((_, token)) = own {
                return Ok(Some(Credential::Cookie(token.trim().trim_matches('"'))));
            }
        }
        if !self.are_given() && !self.tickets.are_in_use() {
            return Ok(None);
        }
        let mut tickets = request.query.iter().filter(|(name, _)| name == "ticket").map(|(_, value)| value.as_str());
        match (tickets.next(), tickets.next()) {
            (Some(_), Some(_)) => Err(Several("ticket in the query")),
            (ticket, _) => Ok(ticket.map(Credential::Ticket)),
        }
    }

    /// The same, unless its reader was disconnected since.
    fn check_reader(&self, grants: Grants) -> Result<Grants, Invalid> {
        if self.disconnected.refuses(grants.reader.as_deref(), grants.issued) {
            return Err(Invalid::Disconnected);
        }
        Ok(grants)
    }
}

/// The token of an `Authorization`, where it is of that kind; what is no text is no token.
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, rest) = value.split_at_checked(6).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer"))?;
    debug_assert_eq!(scheme.len(), 6, "its own length");
    match rest {
        [] => Some(""),
        [b' ', token @ ..] => Some(std::str::from_utf8(token).unwrap_or_default().trim_matches(' ')),
        _ => None,
    }
}

/// The application failed, which will pass.
fn failed(request: &ParsedRequest) -> Refusal {
    let detail = "whether this may be read could not be decided; see the server's log";
    Refusal::whole(retry_later(request, "authorize_failed", detail))
}

/// Seconds that are left as microseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a thousand years")]
fn left(seconds: Seconds) -> Micros {
    (seconds * 1e6).clamp(0.0, 3e16) as Micros
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
}
