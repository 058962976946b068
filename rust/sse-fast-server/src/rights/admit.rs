//! A request for streams by name: its credential, and what is decided by it, or by the application.
//!
//! Owns the order: a token that suffices lets in, one that does not is refused; without one the application decides, if it
//! is asked; else who must have a token is told so. Must not know: whether a stream exists, what is answered then.
//! Invariants: nothing is answered in anybody's name but through [`Context::for_reader`], which looks at the right a last time
//! when the answer is there. One credential counts, and an invalid one is refused, never passed over for another. Only decisions are
//! answered with 401 and 403: what will pass (keys that are not there yet, an application that is busy or fails) lets
//! nobody in and ends no page's `EventSource`. Nothing of a credential goes into a text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header;
use sse_fast_core::budget::Micros;
use tokio::time::sleep;

use super::header::{bearer, cookie};
use super::jwks::Found;
use super::token::{Right, Selected};
use super::{Check, Grants, Invalid, Key, KeySource, Keys, Lapsed, Rights, Seconds, Unverified, unix_seconds};
use crate::admitted::Admitted;
use crate::calls::{Answer, Full};
use crate::clock::{self, in_micros};
use crate::directory::Refused;
use crate::handler_call::{Waited, parts, wait};
use crate::logs::Level;
use crate::request::ParsedRequest;
use crate::respond::{Action, Context, retry_later};
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
pub(super) enum Failure {
    Invalid(Invalid),
    /// Its key is not known, and was asked for a moment before it came.
    KeyUnknown,
    /// Its key is not known, and nobody could be asked.
    KeysAway,
}

/// Several of what there may be one of.
struct Several(&'static str);

impl Context {
    /// Answers a request for all of these streams with what `answer` finds, once it was let in and as long as it is: the
    /// application may take its time to decide, and a stream to appear.
    pub(crate) async fn for_reader<F>(
        &self,
        request: &ParsedRequest,
        names: &[&str],
        answer: impl FnOnce(Admitted) -> F,
    ) -> Result<Action, Refusal>
    where
        F: Future<Output = Result<Action, Refusal>>,
    {
        let admitted = self.admit(request, names).await?;
        self.is_still_admitted(request, names, &admitted)?;
        let answered = answer(admitted.clone()).await;
        // Behind the answer: what it holds was published before this. A 404 says something, too.
        self.is_still_admitted(request, names, &admitted)?;
        answered
    }

    /// Refuses who was let in and is so no more.
    pub(super) fn is_still_admitted(
        &self,
        request: &ParsedRequest,
        names: &[&str],
        admitted: &Admitted,
    ) -> Result<(), Refusal> {
        self.rights.still_admits(admitted, clock::now()).map_err(|lapsed| {
            let why = match lapsed {
                Lapsed::Expired => "the right to this has expired",
                Lapsed::Disconnected => "the reader was disconnected meanwhile",
            };
            self.refuse(Kind::Unauthorized, request, names, why);
            invalid_token(why.to_owned())
        })
    }

    /// Decides whether a request may read all of these streams, before anybody looks whether there are any.
    async fn admit(&self, request: &ParsedRequest, names: &[&str]) -> Result<Admitted, Refusal> {
        let since = clock::now();
        let credential = self.rights.credential(request).map_err(|Several(what)| {
            let why = format!("there is more than one {what}");
            self.refuse(Kind::Unauthorized, request, names, &why);
            Refusal::new(400, "bad_request", why)
        })?;
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
        let (granted, leeway) = match credential {
            // By our own clock.
            Credential::Ticket(ticket) => {
                (self.rights.tickets.read(ticket, names, unix_seconds()).map_err(Failure::Invalid), 0.0)
            }
            Credential::Bearer(token) | Credential::Cookie(token) => {
                (self.verified(token, Right::Subscribe, names).await, self.rights.leeway())
            }
        };
        let granted = granted.and_then(|grants| self.rights.check_reader(grants, leeway).map_err(Failure::Invalid));
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
            Err(failure) => Err(self.not_valid(&failure, what, request, names)),
        }
    }

    /// Refuses a credential that lets nobody in.
    pub(super) fn not_valid(&self, failure: &Failure, what: &str, request: &ParsedRequest, names: &[&str]) -> Refusal {
        match failure {
            Failure::Invalid(why) => {
                self.refuse(Kind::Unauthorized, request, names, &format!("{what} is refused: {}", why.text()));
                invalid_token(format!("the token is refused: {}", why.text()))
            }
            Failure::KeyUnknown => {
                let why = format!("the key of {what} is not known, and keys were fetched a moment before");
                self.refuse(Kind::Failed, request, names, &why);
                Refusal::whole(retry_later(request, "keys_missing", "the key of the token is not known yet"))
            }
            Failure::KeysAway => {
                self.refuse(Kind::Failed, request, names, "the keys of tokens could not be fetched");
                Refusal::whole(retry_later(request, "keys_missing", "the keys of tokens are not there yet"))
            }
        }
    }

    /// What a token grants.
    pub(super) async fn verified(&self, token: &str, right: Right, names: &[&str]) -> Result<Grants, Failure> {
        let Some((keys, demands)) = &self.rights.tokens else { return Err(Failure::Invalid(Invalid::Key)) };
        let token = Unverified::read(token).map_err(Failure::Invalid)?;
        let verify = |selected: &Selected| token.verify(&selected.keys(), demands, right, names, unix_seconds());
        match keys {
            Keys::Given(keys) => {
                let selected = token.select(keys, false).unwrap_or(Err(Invalid::Key));
                selected.and_then(|selected| verify(&selected)).map_err(Failure::Invalid)
            }
            Keys::Fetched(source) => self.verified_by_fetched(source, &token, verify).await,
        }
    }

    /// The same with keys of a set from the web. Where the token names none of them it may be of one that was added since.
    async fn verified_by_fetched(
        &self,
        source: &KeySource,
        token: &Unverified<'_>,
        verify: impl Fn(&Selected) -> Result<Grants, Invalid>,
    ) -> Result<Grants, Failure> {
        if !token.algorithm.is_public() {
            return Err(Failure::Invalid(Invalid::Algorithm));
        }
        let (came, patience) = (source.begun(), sleep(KEY_PATIENCE));
        tokio::pin!(patience);
        // Keys that were tried in vain.
        let mut tried: Option<Arc<[Key]>> = None;
        loop {
            let fetched = source.until_fetched();
            tokio::pin!(fetched);
            // Before it is looked: what is fetched from here on ends the wait.
            fetched.as_mut().enable();
            let untried = |keys: &Arc<[Key]>| tried.as_ref().is_none_or(|tried| !Arc::ptr_eq(tried, keys));
            match source.find(clock::now(), came, |keys| untried(keys).then(|| token.select(keys, true)).flatten()) {
                Found::Keys(Some(selected)) => {
                    let selected = selected.map_err(Failure::Invalid)?;
                    match verify(&selected) {
                        Err(Invalid::Signature) if !selected.is_named => tried = Some(selected.keys),
                        verified => return verified.map_err(Failure::Invalid),
                    }
                }
                Found::Keys(None) => {
                    let why = if tried.is_some() { Invalid::Signature } else { Invalid::Key };
                    return Err(Failure::Invalid(why));
                }
                Found::Pause => return Err(Failure::KeyUnknown),
                Found::Away => return Err(Failure::KeysAway),
                Found::Fetching => tokio::select! {
                    () = fetched => {}
                    () = &mut patience => return Err(Failure::KeysAway),
                    () = self.until_closing() => return Err(Failure::KeysAway),
                },
            }
        }
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
    pub(super) fn refuse(&self, kind: Kind, request: &ParsedRequest, names: &[&str], why: &str) {
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
pub(super) enum Kind {
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
            let mut cookies = request.headers.get_all(header::COOKIE).iter();
            if let Some(token) = cookies.find_map(|value| cookie(value.as_bytes(), &self.cookie)) {
                return Ok(Some(Credential::Cookie(token)));
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

    /// By how many seconds the clocks of those who issue tokens may differ from ours.
    pub(super) fn leeway(&self) -> Seconds {
        self.tokens.as_ref().map_or(0.0, |(_, demands)| demands.leeway)
    }

    /// The same, unless its reader was disconnected since.
    pub(super) fn check_reader(&self, grants: Grants, leeway: Seconds) -> Result<Grants, Invalid> {
        if self.disconnected.refuses(grants.reader.as_deref(), grants.issued, unix_seconds(), leeway) {
            return Err(Invalid::Disconnected);
        }
        Ok(grants)
    }
}

/// What was brought is no right to read, or is none any more.
pub(super) fn invalid_token(detail: String) -> Refusal {
    let refusal = Refusal::new(401, "invalid_token", detail);
    refusal.header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
}

/// The application failed, which will pass.
fn failed(request: &ParsedRequest) -> Refusal {
    let detail = "whether this may be read could not be decided; see the server's log";
    Refusal::whole(retry_later(request, "authorize_failed", detail))
}

/// Seconds that are left as microseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a thousand years")]
pub(super) fn left(seconds: Seconds) -> Micros {
    (seconds * 1e6).clamp(0.0, 3e16) as Micros
}
