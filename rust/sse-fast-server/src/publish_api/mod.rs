//! Publishing from elsewhere: `POST` and `DELETE` on `/streams/{name}`.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the order of what is decided |
//! | `body` | what a body asks for |
//! | `compact` | the text of a JSON value |
//! | `key` | the header `Idempotency-Key` |
//! | `options` | the options of the stream, from the query |
//! | `answers` | statuses and texts |
//!
//! Must not know: how an event is appended (`stream`), credentials (`rights`).
//! Invariants: rights are decided before the body is read, and before anybody looks whether there is such a stream. Everything is
//! checked before anything is written, also before a stream is made or given options. No Python runs. It is off, and a method that is not
//! allowed, unless somebody may publish.
//! Changes together with `dispatch`, which leads here.

mod answers;
mod body;
mod compact;
mod key;
mod options;

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, header};
use sse_fast_core::options::StreamPatch;
use sse_fast_core::stream::Part;
use tokio::time::timeout;

use self::answers::{
    backplane_away, bad_body, bad_option, created, in_progress, other_content, too_many, unpublished, unsupported_type,
};
use self::body::Asked;
use crate::body as bytes_of;
use crate::directory::{Looked, StreamError, check_name};
use crate::idempotency::{Begun, Ids, SharedKey};
use crate::refusals::bad_name;
use crate::request::ParsedRequest;
use crate::respond::{Action, Context, UNWANTED_BODY, retry_later};
use crate::response::{self, Refusal};
use crate::rights::Publisher;
use crate::socket::RequestBody;
use crate::stream::{AppendedTogether, PublishError, Published, Stream};

/// A body may have so many times the bytes that an event may: JSON escapes take up to six for one, and a list has several.
const EVENTS_IN_BODY: usize = 8;

/// How often a stream is looked for that is removed as often: by somebody who does nothing else.
const TRIES: usize = 16;

impl Context {
    /// What `/streams/{name}` allows.
    pub(crate) fn stream_methods(&self) -> &'static str {
        if self.rights.let_publish() { "GET, HEAD, POST, DELETE, OPTIONS" } else { "GET, HEAD, OPTIONS" }
    }

    /// Whether it is one of the methods that are answered here.
    pub(crate) fn is_to_publish(&self, request: &ParsedRequest) -> bool {
        (request.method == Method::POST || request.method == Method::DELETE) && self.rights.let_publish()
    }

    /// Answers such a request for the stream of this name.
    pub(crate) async fn publish_api(
        &self,
        request: &ParsedRequest,
        name: &str,
        body: RequestBody,
    ) -> Result<Action, Refusal> {
        let (publisher, options) = match self.let_publish(request, name).await {
            Ok(let_in) => let_in,
            Err(refusal) => {
                let _ = timeout(UNWANTED_BODY, bytes_of::discard(body)).await;
                return Err(refusal);
            }
        };
        if request.method == Method::DELETE {
            return self.remove(request, name).await;
        }
        let limit = self.directory.config.max_event_bytes.saturating_mul(EVENTS_IN_BODY).min(self.bodies.most());
        let Some(body) = self.whole_body(request, body, limit).await? else { return Ok(self.no_room(request)) };
        self.still_publishes(request, name, &publisher)?;
        self.publish(request, name, (&publisher, &options), &body).await
    }

    /// What is decided before the body is read: who publishes, and the options that are given to the stream.
    async fn let_publish(&self, request: &ParsedRequest, name: &str) -> Result<(Publisher, StreamPatch), Refusal> {
        if !self.cors.may_change(&request.headers, request.host(), request.requester.scheme.as_deref()) {
            return Err(self.origin_refused(request));
        }
        check_name(name).map_err(|error| bad_name(&error))?;
        let publisher = self.publisher(request, name).await?;
        if request.method == Method::DELETE {
            return Ok((publisher, StreamPatch::default()));
        }
        if !request.query.is_empty() {
            self.check_gives_options(request, name, &publisher)?;
        }
        let options = options::given(request).map_err(bad_option)?;
        check_type(request)?;
        Ok((publisher, options))
    }

    /// Removes the stream of this name, wherever its log is.
    async fn remove(&self, request: &ParsedRequest, name: &str) -> Result<Action, Refusal> {
        if self.directory.look_elsewhere(name, false).await == Looked::Away {
            return Err(Refusal::whole(backplane_away(request)));
        }
        let unknown = || response::unknown_stream(name, Duration::ZERO);
        let stream = self.directory.find(name).ok_or_else(unknown)?;
        match stream.remove_everywhere_for_task().await {
            Ok(()) => Ok(Action::Respond(response::empty(204))),
            Err(error) => unpublished(request, &error),
        }
    }

    async fn publish(
        &self,
        request: &ParsedRequest,
        name: &str,
        (publisher, options): (&Publisher, &StreamPatch),
        body: &[u8],
    ) -> Result<Action, Refusal> {
        let key = key::named(&request.headers).map_err(|why| Refusal::new(400, "bad_key", why))?;
        let key = key.map(|key| SharedKey::new(&[name.as_bytes(), &publisher.scope], &key, &[body]));
        let asked = Asked::read(body).map_err(bad_body)?;
        let parts = asked.check(self.directory.config.max_event_bytes).map_err(bad_body)?;
        let under_way = match key.as_ref().map(|key| self.directory.delivery.repeats.begin(key)) {
            None => None,
            Some(Begun::New(under_way)) => Some(under_way),
            Some(Begun::Again(ids)) => {
                // A list of snapshots alone has no events; the id of what they cover is kept for one by itself.
                let count = if asked.is_list { asked.events() } else { 1 };
                let ids = ids.iter().map(AsRef::as_ref).take(count);
                return Ok(Action::Respond(created(ids, asked.is_list, true)));
            }
            Some(Begun::OtherContent) => return Err(other_content()),
            Some(Begun::InProgress) => return Err(in_progress()),
        };
        match self.append(request, (name, options), &asked, &parts, key.as_ref()).await? {
            Ok(appended) => {
                if let Some(under_way) = under_way {
                    // The disk will have what the client may ask for again, whether it waits for that or not.
                    appended.keep_answer(under_way, ids_of(appended.published(), asked.is_list));
                }
                match appended.kept().await {
                    Ok(done) if asked.is_list => Ok(Action::Respond(created(done.ids(), true, false))),
                    Ok(done) => Ok(Action::Respond(created(std::iter::once(done.id()), false, false))),
                    Err(error) => unpublished(request, &error),
                }
            }
            Err(error) => unpublished(request, &error),
        }
    }

    /// Appends all of it to the stream of this name with these options, which is made where there is none.
    async fn append(
        &self,
        request: &ParsedRequest,
        stream: (&str, &StreamPatch),
        asked: &Asked<'_>,
        parts: &[Part<'_>],
        key: Option<&SharedKey>,
    ) -> Result<Result<AppendedTogether, PublishError>, Refusal> {
        let mut tries = 0;
        loop {
            let stream = self.stream_to_publish(request, stream, asked.events()).await?;
            let published = stream.publish_together(parts, asked.ends, key).await;
            tries += 1;
            if !matches!(published, Err(PublishError::Removed { .. })) || tries == TRIES {
                return Ok(published);
            }
        }
    }

    /// The stream of this name, the options put in force, if it takes so many events at once then.
    async fn stream_to_publish(
        &self,
        request: &ParsedRequest,
        (name, options): (&str, &StreamPatch),
        events: usize,
    ) -> Result<Stream, Refusal> {
        let of = |error: StreamError| match error {
            StreamError::TooMany { .. } => Refusal::whole(self.too_many_streams(request, &error)),
            StreamError::Closed { .. } | StreamError::NamelessClosed => {
                Refusal::whole(retry_later(request, "closing", "the server closes; the request was not begun"))
            }
            StreamError::Unavailable { .. } | StreamError::Refused { .. } => Refusal::whole(backplane_away(request)),
            StreamError::Option(error) => bad_option(error.to_string()),
            StreamError::Name { .. } => bad_name(&error),
        };
        let history = self.directory.history_of(name, options).map_err(of)?;
        if events > history {
            return Err(too_many(events, history));
        }
        // One that has ended refuses what comes, or knows it again: neither gives it options.
        let (ended, none) = (self.directory.find(name).is_some_and(|stream| stream.ended()), StreamPatch::default());
        let options = if ended { &none } else { options };
        self.directory.stream_for_task(name, options).await.map_err(of)
    }
}

/// Refuses a body that is not what it must be by its head: a form of another site's page can send no JSON.
fn check_type(request: &ParsedRequest) -> Result<(), Refusal> {
    let headers = &request.headers;
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported_type("a body is sent as it is, without a Content-Encoding"));
    }
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (given.next().and_then(|value| value.to_str().ok()), given.next());
    let is_json = first.filter(|_| second.is_none()).is_some_and(|value| {
        let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
        let kind = parts.next().unwrap_or_default();
        kind == "application/json" && !parts.any(|part| is_other_charset(&part))
    });
    if is_json { Ok(()) } else { Err(unsupported_type("a body is JSON in UTF-8: Content-Type: application/json")) }
}

fn is_other_charset(part: &str) -> bool {
    part.strip_prefix("charset=").is_some_and(|charset| !matches!(charset.trim_matches('"'), "utf-8" | "utf8"))
}

/// The answer for who asks again under the same key.
fn ids_of(published: &Published, is_list: bool) -> Ids {
    if is_list { published.ids().map(Box::from).collect() } else { Arc::from([Box::from(published.id())]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utf8_is_a_charset_of_json() {
        for (part, is_other) in
            [("charset=utf-8", false), ("charset=\"utf-8\"", false), ("charset=latin1", true), ("v=1", false)]
        {
            assert_eq!(is_other_charset(part), is_other, "{part}");
        }
    }
}
