//! A route's stream: named by its template, and what is done where it does not exist yet.
//!
//! Owns waiting for a stream and asking the application whether it exists. Must not know: sockets,
//! how a stream is read.
//! Invariants: everyone who waits for one name shares one series of checks, at most one each interval.
//! A client that has shut its writing side is waited for one second more and then answered: nothing
//! but its answer could tell it from one that is gone, and a crowd that is gone must cost no checks.
//! Changes together with `waiting`, where the names are, and `route`, which resolves [`Missing`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::admitted::Admitted;
use crate::calls::ExistsReply;
use crate::directory::{Directory, Looked, StreamError, check_name};
use crate::logs::Level;
use crate::refusals::bad_name;
use crate::request::ParsedRequest;
use crate::respond::{self, Action, Context};
use crate::response::{self, HttpResponse, Refusal};
use crate::route::{Check, Missing, Route, Unfilled, render};
use crate::shown;
use crate::socket::Signals;
use crate::stream::Stream;
use crate::waiting::{Name, Place};

/// How waiting for a stream ended.
pub(crate) enum Waited {
    Found(Stream),
    TimeOver,
    Closing,
}

/// What is waited for.
#[derive(Clone, Copy)]
pub(crate) struct Awaited<'a> {
    pub(crate) name: &'a str,
    pub(crate) limit: Duration,
    pub(crate) door: Door<'a>,
}

/// What leads to the stream.
#[derive(Clone, Copy)]
pub(crate) enum Door<'a> {
    /// `/streams/`, which leads to no private one.
    Public,
    /// A route of the application's, to be asked by its [`Check`] while it is waited for, if it has one.
    Route(Option<&'a Arc<Route>>),
}

/// What a request gets while the backplane is away that alone knows what it asks for.
pub(crate) fn backplane_away(request: &ParsedRequest) -> HttpResponse {
    let detail = "the backplane is away; whether there is such a stream, and how far it is, is not known";
    respond::retry_later(request, "backplane_away", detail)
}

/// The place of one that waits for a name; who gives the last one up waits no longer elsewhere.
pub(crate) struct WaitingPlace<'a> {
    directory: &'a Directory,
    name: &'a str,
    /// What rings when the name appears.
    pub(crate) entry: Arc<Name>,
    /// Whether this is the first of them.
    first: bool,
    /// `None` once it is given up.
    place: Option<Place<'a>>,
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.place = None;
        if !self.entry.wanted() {
            self.directory.stop_waiting_elsewhere(self.name);
        }
    }
}

impl Context {
    /// Answers with the stream that a route's template names.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        request: &ParsedRequest,
        route: &Arc<Route>,
        params: &[(String, String)],
        signals: &Signals,
    ) -> Result<Action, Refusal> {
        let name = render(&route.name, params, &request.query).map_err(|unfilled| match unfilled {
            Unfilled::Missing(name) => {
                let detail = format!("the parameter {name:?} is missing");
                Refusal::new(400, "missing_parameter", detail).with("parameter", name)
            }
            // No stream of this route can have such a name.
            Unfilled::NoSegment(name) => {
                let detail = format!("no stream: the parameter {name:?} must be one segment, not empty and without /");
                Refusal::new(404, "unknown_stream", detail).with("parameter", name)
            }
        })?;
        self.check_garbled(request, &name)?;
        check_name(&name).map_err(|error| bad_name(&error))?;
        let answer = |admitted| self.read_or_make(request, route, &name, admitted, signals);
        self.for_reader(request, &[&name], answer).await
    }

    /// Refuses a name that is not what the query gave, as a path is refused that is no text.
    pub(crate) fn check_garbled(&self, request: &ParsedRequest, name: &str) -> Result<(), Refusal> {
        if request.has_garbled(name) {
            return Err(self.malformed(request.client(), Refusal::new(400, "bad_request", "the query is not UTF-8")));
        }
        Ok(())
    }

    /// The stream of this name, or what the route does where there is none.
    async fn read_or_make(
        self: &Arc<Self>,
        request: &ParsedRequest,
        route: &Arc<Route>,
        name: &str,
        admitted: Admitted,
        signals: &Signals,
    ) -> Result<Action, Refusal> {
        if let Some(action) = self.look_elsewhere(request, name).await {
            return Ok(action);
        }
        if let Some(stream) = self.directory.find(name) {
            return self.read(request, &stream, admitted).await;
        }
        match &route.missing {
            Missing::Refuse => Err(self.never_appeared(name, Duration::ZERO, None)),
            Missing::Wait { limit, check } => {
                let limit = *limit;
                let awaited = Awaited { name, limit, door: Door::Route(check.is_some().then_some(route)) };
                self.await_stream(request, awaited, admitted, signals).await
            }
            Missing::Create(options) => {
                let stream = if request.wants_stream_body() {
                    self.directory.stream_for_request(name, options).await
                } else {
                    // A request that reads nothing makes nothing: its answer is that of a stream just made.
                    self.directory.stand_in(name, options)
                };
                match stream {
                    Ok(stream) => self.read(request, &stream, admitted).await,
                    Err(error @ StreamError::TooMany { .. }) => {
                        Ok(Action::Respond(self.too_many_streams(request, &error)))
                    }
                    Err(StreamError::Unavailable { .. } | StreamError::Refused { .. }) => {
                        Ok(Action::Respond(backplane_away(request)))
                    }
                    Err(error) => Err(bad_name(&error)),
                }
            }
        }
    }

    /// Looks for the stream of this name where other processes have it; what is answered where nobody can say now whether
    /// there is one.
    pub(crate) async fn look_elsewhere(&self, request: &ParsedRequest, name: &str) -> Option<Action> {
        match self.directory.look_elsewhere(name, false).await {
            Looked::Done => None,
            Looked::Away => Some(Action::Respond(backplane_away(request))),
        }
    }

    /// Takes a place among those who wait for the name, wherever it is made.
    pub(crate) async fn wait_for<'a>(&'a self, name: &'a str) -> WaitingPlace<'a> {
        let place = self.directory.waiting.enter(name);
        let (entry, first) = (Arc::clone(&place.entry), place.first);
        let waiting = WaitingPlace { directory: &self.directory, name, entry, first, place: Some(place) };
        // Where the backplane is away it is waited for all the same.
        let _ = self.directory.look_elsewhere(name, true).await;
        waiting
    }

    /// Waits for a stream at `/streams/` that is not known, as long as the setting says.
    pub(crate) async fn appears_or_settles(
        self: &Arc<Self>,
        request: &ParsedRequest,
        name: &str,
        admitted: Admitted,
        signals: &Signals,
    ) -> Result<Action, Refusal> {
        let limit = self.directory.config.wait;
        let answered = if limit.is_zero() {
            Err(response::unknown_stream(name, limit))
        } else {
            self.await_stream(request, Awaited { name, limit, door: Door::Public }, admitted, signals).await
        };
        answered.or_else(|refusal| self.settled(request, refusal))
    }

    /// Whether the server started so lately that what it does not know may be about to be made.
    pub(crate) fn is_settling(&self) -> bool {
        self.started.elapsed() < self.directory.config.settle
    }

    /// The refusal of what is not known; within `settle` of the server's start an `EventSource` is told to come back: what
    /// the program has made before a restart it may be about to make again.
    pub(crate) fn settled(&self, request: &ParsedRequest, refusal: Refusal) -> Result<Action, Refusal> {
        if !refusal.is_of_what_is_unknown() || !self.is_settling() || !request.is_event_source() {
            return Err(refusal);
        }
        let text = format!(
            "{:?} is not known {:.1} s after the start: its reader was told to come back (settle)",
            shown::path(&request.path),
            self.started.elapsed().as_secs_f64()
        );
        self.directory.logs.put(Level::Info, "sse_fast.route", text);
        Ok(Action::Respond(response::last(response::come_back())))
    }

    async fn await_stream(
        self: &Arc<Self>,
        request: &ParsedRequest,
        awaited: Awaited<'_>,
        admitted: Admitted,
        signals: &Signals,
    ) -> Result<Action, Refusal> {
        let name = awaited.name;
        let checked = match awaited.door {
            Door::Public => None,
            Door::Route(checked) => checked,
        };
        let began = Instant::now();
        let place = self.wait_for(name).await;
        let before = place.entry.attempts.load(Ordering::Relaxed);
        if let Some(route) = checked.filter(|_| place.first) {
            let (route, entry) = (Arc::clone(route), Arc::clone(&place.entry));
            tokio::spawn(Arc::clone(self).check_until_it_exists(route, name.to_owned(), entry));
        }
        let found = self.appears(awaited, &place.entry, signals).await;
        let waited = if awaited.limit.is_zero() { Duration::ZERO } else { began.elapsed() };
        let attempts = checked.map(|_| place.entry.attempts.load(Ordering::Relaxed) - before);
        match found {
            Waited::Found(stream) => {
                let after = attempts.map(|attempts| format!("{attempts} attempts, ")).unwrap_or_default();
                let text =
                    format!("stream {:?} appeared after {after}{:.3} s", shown::path(name), waited.as_secs_f64());
                self.directory.logs.put(Level::Info, "sse_fast.route", text);
                self.read(request, &stream, admitted).await
            }
            Waited::TimeOver => Err(self.never_appeared(name, waited, attempts)),
            Waited::Closing => Ok(respond::while_closing(request)),
        }
    }

    /// Waits until such a stream is made, as long as it may be waited for.
    pub(crate) async fn appears(&self, awaited: Awaited<'_>, entry: &Name, signals: &Signals) -> Waited {
        let Awaited { name, limit, door } = awaited;
        let deadline = tokio::time::sleep(limit);
        let (closing, half_closed) = (self.until_closing(), signals.half_closed_for_a_second());
        tokio::pin!(deadline, closing, half_closed);
        loop {
            let bell = entry.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            // Looked for after the bell was enabled: what appears from here on rings it.
            let found = match door {
                Door::Public => self.directory.find_public(name),
                Door::Route(_) => self.directory.find(name),
            };
            if let Some(stream) = found {
                return Waited::Found(stream);
            }
            tokio::select! {
                biased;
                () = bell => {}
                () = &mut closing => return Waited::Closing,
                () = &mut deadline => return Waited::TimeOver,
                () = &mut half_closed => return Waited::TimeOver,
            }
            if self.directory.closed() {
                return Waited::Closing;
            }
        }
    }

    /// Logs and refuses. `attempts` is how often the application was asked, where the route asks; a route that does not
    /// wait has not waited, however long the refusing took.
    fn never_appeared(&self, name: &str, waited: Duration, attempts: Option<u32>) -> Refusal {
        let tried = attempts.map(|attempts| format!(" ({attempts} attempts)")).unwrap_or_default();
        let shown = shown::path(name);
        let text = if waited.is_zero() {
            format!("there is no stream {shown:?}, and its route does not wait for it (wait=0){tried}: 404")
        } else {
            format!("stream {shown:?} did not appear within {:.3} s{tried}: 404", waited.as_secs_f64())
        };
        self.directory.logs.put(Level::Warning, "sse_fast.route", text);
        let refusal = response::unknown_stream(name, waited);
        match attempts {
            Some(attempts) => refusal.with("attempts", attempts),
            None => refusal,
        }
    }

    /// Asks the application whether a stream exists, once an interval, for everyone who waits. When the last one
    /// has left the question is dropped, and with it a call that no thread has taken yet.
    async fn check_until_it_exists(self: Arc<Self>, route: Arc<Route>, name: String, entry: Arc<Name>) {
        let Missing::Wait { check: Some(Check { key, every, options }), .. } = &route.missing else { return };
        loop {
            let permit = self.calls.may_check().await;
            let bell = entry.bell.notified();
            tokio::pin!(bell);
            bell.as_mut().enable();
            // Looked at after the bell was enabled: what changes from here on rings it.
            if !entry.wanted() || self.directory.find(&name).is_some() || self.directory.closed() {
                return;
            }
            entry.attempts.fetch_add(1, Ordering::Relaxed);
            let (sender, answer) = oneshot::channel();
            let reply = ExistsReply::new(sender, permit);
            let queued = self.calls.ask_exists(*key, name.clone(), reply);
            let exists = tokio::select! {
                answer = answer => answer.unwrap_or(false),
                () = bell => continue,
            };
            drop(queued);
            if exists {
                // The name was checked; an option that is wrong was refused with the route.
                if self.directory.stream_for_task(&name, options).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(*every).await;
        }
    }
}
