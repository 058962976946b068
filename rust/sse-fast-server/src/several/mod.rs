//! `GET /streams?name=a&name=b`: several streams over one connection.
//!
//! Owns: which names a request has, and what is answered: a subscription, 204 where all are finished, 404 where one is not
//! known. Must not know: how a connection is served, what an id looks like.
//! Invariants: nothing is said of any name before all of them are admitted, and what is known of one is asked for in one
//! place ([`Context::known`]). A name that is not known, of a reader that has an id, is waited for by a stream that stands
//! in for it, one for all who wait, which ends when the name is made; where none is known that reader is told so, too.
//!
//! | file | owns |
//! |---|---|
//! | `named` | a name as it was found, and the hash that ids know a life by |
//! | `page` | the JSON form |

mod named;
mod page;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::Method;
use sse_fast_core::vector::{MAX_NAMES, Sent};

use self::named::{Named, found};
use self::page::Page;
use crate::admitted::Admitted;
use crate::directory::{Looked, StreamError, check_name};
use crate::refusals::bad_name;
use crate::request::{ParsedRequest, Wanted};
use crate::respond::{self, Action, Context};
use crate::response::{self, Refusal};
use crate::route_stream::{Awaited, Door, Waited, backplane_away};
use crate::shard::{NamedReading, Reading};
use crate::socket::Signals;
use crate::stream::{Claim, Stream};

/// The path.
pub(crate) const PATH: &str = "/streams";

impl Context {
    /// Answers a request for several streams.
    pub(crate) async fn several(
        self: &Arc<Self>,
        request: &ParsedRequest,
        signals: &Signals,
    ) -> Result<Action, Refusal> {
        let names = names_of(request)?;
        names.iter().try_for_each(|name| self.check_garbled(request, name))?;
        if request.wanted == Wanted::Neither {
            return Err(response::not_acceptable());
        }
        let asked = names.clone();
        let asked: Vec<_> = asked.iter().map(String::as_str).collect();
        self.for_reader(request, &asked, |admitted| self.read_several(request, names, admitted, signals)).await
    }

    async fn read_several(
        self: &Arc<Self>,
        request: &ParsedRequest,
        names: Vec<String>,
        admitted: Admitted,
        signals: &Signals,
    ) -> Result<Action, Refusal> {
        let sent = Sent::of(request.last_event_id.as_deref());
        if let Some(action) = self.look_for_all(request, &names).await {
            return Ok(action);
        }
        let has_id = matches!(sent, Sent::Entries(_));
        let mut streams: Vec<Option<Stream>> = names.iter().map(|name| self.known(name)).collect();
        if !has_id && let Some(action) = self.all_appear(request, &names, &mut streams, signals).await? {
            return Ok(action);
        }
        if has_id && streams.iter().all(Option::is_none) {
            if let Some(action) = self.one_appears(request, &names, signals).await? {
                return Ok(action);
            }
            streams = names.iter().map(|name| self.known(name)).collect();
        }
        if streams.iter().all(Option::is_none) {
            return self.settled(request, response::unknown_stream(&names[0], Duration::ZERO));
        }
        let mut readings = found(names, streams, &sent);
        let behind: Vec<_> = readings.iter().filter(|named| named.may_be_behind()).map(|named| &*named.name).collect();
        if !behind.is_empty() {
            // Read by this reader in another process, which was faster.
            for name in behind {
                if self.directory.catch_up_elsewhere(name).await == Looked::Away {
                    return Ok(Action::Respond(backplane_away(request)));
                }
            }
            let names: Vec<_> = readings.into_iter().map(|named| named.name).collect();
            let streams = names.iter().map(|name| self.known(name)).collect();
            readings = found(names, streams, &sent);
        }
        if request.wanted == Wanted::Json {
            let page = move || Page::of(&readings).encode();
            return Ok(Action::Respond(self.json_forms.build(page).await?));
        }
        let finished: Vec<bool> = readings.iter().map(Named::is_finished).collect();
        if finished.iter().all(|finished| *finished) {
            self.directory.totals.finished.fetch_add(1, Ordering::Relaxed);
            return Ok(Action::Respond(response::empty(204)));
        }
        if request.method == Method::HEAD {
            return Ok(Action::Respond(response::head_of_stream()));
        }
        let readings = readings.into_iter().zip(finished).map(|(named, finished)| self.reading(named, finished));
        let reading = Reading::Several(readings.collect::<Result<_, _>>()?);
        Ok(Action::Subscribe(self.subscription_to(request, reading, admitted)))
    }

    /// Looks for all names where other processes have them; what is answered where nobody can say now.
    async fn look_for_all(&self, request: &ParsedRequest, names: &[String]) -> Option<Action> {
        for name in names {
            if let Some(action) = self.look_elsewhere(request, name).await {
                return Some(action);
            }
        }
        None
    }

    /// Waits for names that are not known, as long as the setting `wait` says for all of them together; the answer where
    /// the server closes or starts.
    async fn all_appear(
        self: &Arc<Self>,
        request: &ParsedRequest,
        names: &[String],
        streams: &mut [Option<Stream>],
        signals: &Signals,
    ) -> Result<Option<Action>, Refusal> {
        let (limit, began) = (self.directory.config.wait, Instant::now());
        for (name, stream) in names.iter().zip(streams).filter(|(_, stream)| stream.is_none()) {
            if !limit.is_zero() {
                let waiting = self.wait_for(name).await;
                let left = limit.saturating_sub(began.elapsed());
                let awaited = Awaited { name, limit: left, door: Door::Public };
                match self.appears(awaited, &waiting.entry, signals).await {
                    Waited::Found(found) => *stream = Some(found),
                    Waited::TimeOver => {}
                    Waited::Closing => return Ok(Some(respond::while_closing(request))),
                }
            }
            if stream.is_none() {
                let waited = if limit.is_zero() { limit } else { began.elapsed() };
                return self.settled(request, response::unknown_stream(name, waited)).map(Some);
            }
        }
        Ok(None)
    }

    /// Waits until one is made of names of which none is known, for a reader that has an id: it is served by that one.
    async fn one_appears(
        self: &Arc<Self>,
        request: &ParsedRequest,
        names: &[String],
        signals: &Signals,
    ) -> Result<Option<Action>, Refusal> {
        let (limit, began) = (self.directory.config.wait, Instant::now());
        if limit.is_zero() {
            return self.settled(request, response::unknown_stream(&names[0], limit)).map(Some);
        }
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            places.push(self.wait_for(name).await);
        }
        let awaited = |name| Awaited { name, limit, door: Door::Public };
        let all = names.iter().zip(&places).map(|(name, place)| self.appears(awaited(name), &place.entry, signals));
        let mut all: Vec<_> = all.map(Box::pin).collect();
        let first = poll_fn(|cx| {
            let ready = all.iter_mut().find_map(|one| match one.as_mut().poll(cx) {
                Poll::Ready(waited) => Some(waited),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        match first.await {
            Waited::Found(_) => Ok(None),
            Waited::TimeOver => self.settled(request, response::unknown_stream(&names[0], began.elapsed())).map(Some),
            Waited::Closing => Ok(Some(respond::while_closing(request))),
        }
    }

    /// The stream of this name, as far as readers may know: not where the application has a door of its own at its path.
    fn known(&self, name: &str) -> Option<Stream> {
        if self.routes.find(&format!("/streams/{name}")).is_some() {
            return None;
        }
        self.directory.find_public(name)
    }

    /// What a shard is told of one name.
    fn reading(&self, named: Named, is_finished: bool) -> Result<NamedReading, Refusal> {
        let Named { name, stream, life, beginning } = named;
        let claim = match stream {
            Some(_) if is_finished => None,
            // One that was removed in this very moment is one that is not known.
            stream => match stream.as_ref().and_then(Stream::claim) {
                Some(claim) => Some(claim),
                None => Some(self.wait_until_made(&name).map_err(|error| bad_name(&error))?),
            },
        };
        Ok(NamedReading { claim, life, beginning })
    }

    /// A claim of what stands in for a name, and is removed when that is made; at once where it was in this very moment.
    fn wait_until_made(&self, name: &str) -> Result<Claim, StreamError> {
        loop {
            let stand_in = self.directory.wanted(name)?;
            // It is gone only where the name was made since the line before.
            let Some(claim) = stand_in.claim() else { continue };
            if self.known(name).is_some() {
                stand_in.remove();
            }
            return Ok(claim);
        }
    }
}

/// The names that a request has, each once.
fn names_of(request: &ParsedRequest) -> Result<Vec<String>, Refusal> {
    let given = request.query.iter().filter(|(key, _)| key == "name");
    let names: Vec<String> = given.map(|(_, name)| name.clone()).collect();
    if names.is_empty() {
        let detail = "the parameter \"name\" is missing: /streams?name=a&name=b reads several streams";
        return Err(Refusal::new(400, "missing_parameter", detail).with("parameter", "name"));
    }
    if names.len() > MAX_NAMES {
        let detail = format!("{} names: one connection reads at most {MAX_NAMES} streams", names.len());
        return Err(Refusal::new(400, "too_many_names", detail).with("limit", MAX_NAMES));
    }
    for (at, name) in names.iter().enumerate() {
        check_name(name).map_err(|error| bad_name(&error))?;
        if names[..at].contains(name) {
            let shown: String = name.chars().take(200).collect();
            return Err(Refusal::new(400, "name_twice", format!("{shown:?} is named twice: each stream is read once")));
        }
    }
    Ok(names)
}
