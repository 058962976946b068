//! What is answered to who publishes from elsewhere.
//!
//! Owns: statuses, words and texts. Must not know: when which of them is the case. Changes together with the reference of errors.

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::body::BadBody;
use crate::request::ParsedRequest;
use crate::respond::{Action, retry_later, while_closing};
use crate::response::{HttpResponse, Refusal, json_response};
use crate::stream::PublishError;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// It was published: an id, or one for each event of a list.
pub(super) fn created<'a>(ids: impl Iterator<Item = &'a str>, is_list: bool, is_again: bool) -> HttpResponse {
    let body = if is_list { json!({"ids": ids.collect::<Vec<_>>()}) } else { json!({"id": ids.last()}) };
    let mut response = json_response(StatusCode::CREATED.as_u16(), body.to_string());
    if is_again {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The body is none of an event.
pub(super) fn bad_body(bad: BadBody) -> Refusal {
    let placed = |place: Option<usize>, why: String| match place {
        Some(place) => format!("events[{place}]: {why}"),
        None => why,
    };
    match bad {
        BadBody::Form(why) => Refusal::new(400, "bad_body", why),
        BadBody::Event { place, why } => Refusal::new(400, "bad_event", placed(place, why)),
        BadBody::TooLarge { place, why } => Refusal::new(413, "event_too_large", placed(place, why)),
    }
}

/// An option of the stream is unknown, or has a value that it cannot have.
pub(super) fn bad_option(why: String) -> Refusal {
    Refusal::new(400, "bad_option", why)
}

pub(super) fn unsupported_type(why: &str) -> Refusal {
    Refusal::new(415, "unsupported_media_type", why)
}

/// There are more events than the stream keeps.
pub(super) fn too_many(events: usize, history: usize) -> Refusal {
    let detail = format!("the list has {events} events, and the stream keeps {history}: publish them in parts");
    Refusal::new(413, "too_many_events", detail).with("limit", history)
}

/// The stream does not take it.
pub(super) fn unpublished(request: &ParsedRequest, error: &PublishError) -> Result<Action, Refusal> {
    match error {
        PublishError::Ended { .. } => Err(Refusal::new(409, "ended", "the stream has ended")),
        PublishError::Closed { .. } => Ok(while_closing(request)),
        PublishError::TooMuchTogether { history_bytes, bytes, .. } => {
            let detail = format!(
                "the events of the list have {bytes} bytes together, and the stream keeps {history_bytes}: publish them in \
                 parts"
            );
            Err(Refusal::new(413, "too_many_events", detail).with("limit", *history_bytes))
        }
        PublishError::Event(error) => Err(Refusal::new(400, "bad_event", error.to_string())),
        PublishError::Conflict { .. } => Err(other_content()),
        PublishError::Store(error) => {
            let (said, nothing) = (error.to_string(), "; nothing was published");
            let said = said.strip_suffix(nothing).unwrap_or(&said);
            Ok(Action::Respond(retry_later(request, "store", &format!("{said}{nothing}"))))
        }
        PublishError::Unavailable { published: Some(false), .. } => Ok(Action::Respond(backplane_away(request))),
        PublishError::Unavailable { .. } | PublishError::Refused { .. } => Ok(Action::Respond(retry_later(
            request,
            "backplane_away",
            &format!("{error}; try again under the same key"),
        ))),
        PublishError::Removed { .. } | PublishError::WouldWait | PublishError::LoopWouldWait { .. } => {
            Ok(Action::Respond(retry_later(request, "busy", "the stream was removed in this moment; try again")))
        }
    }
}

/// What the streams live in cannot be reached: nothing was published.
pub(super) fn backplane_away(request: &ParsedRequest) -> HttpResponse {
    retry_later(request, "backplane_away", "the backplane is away; nothing was published")
}

pub(super) fn other_content() -> Refusal {
    Refusal::new(422, "key_reused", "this Idempotency-Key was used with another body")
}

pub(super) fn in_progress() -> Refusal {
    Refusal::new(409, "in_progress", "the first request with this Idempotency-Key is not answered yet; try again")
}
