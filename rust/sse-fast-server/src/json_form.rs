//! The JSON form of a stream: what a reader lacks, once, for clients that must poll.
//!
//! Owns the form's keys, its bound, and where it is built. Must not know: requests, sockets.
//! Invariants: one answer holds at most [`MAX_PAGE_BYTES`] of frames, or a single event above that;
//! `more` says that there is more after `last_id`, and only the answer with the terminal event, or after
//! it, says `ended`. Under the stream's lock frames are only counted up, never copied. The body is built
//! on a thread for blocking work, so that polling delays neither other requests nor a publish.
//! Changes together with `python/sse_fast/static/sse-fast.js`, which polls this form.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use sse_fast_core::cursor::Opening;
use sse_fast_core::frame::Frame;
use sse_fast_core::gap::Gap;
use sse_fast_core::id::Position;
use sse_fast_core::stream::StreamState;
use sse_fast_core::wire;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::response::{self, HttpResponse, Refusal};
use crate::stream::Stream;

/// The most bytes of frames in one answer, so that two hundred pollers that do not read hold 50 MB, not 200. A page of
/// this size still carries a thousand events of ordinary size.
pub(crate) const MAX_PAGE_BYTES: usize = 256 * 1024;

/// How many answers are built at a time: one goes on while another waits for its stream's lock. More would only take
/// processors from the shards.
const MAX_BUILDS: usize = 2;

/// What builds the JSON forms of one server.
pub(crate) struct JsonForms {
    /// Held while an answer is built, fair: each poll waits for those before it.
    builds: Arc<Semaphore>,
}

impl Default for JsonForms {
    fn default() -> Self {
        Self { builds: Arc::new(Semaphore::new(MAX_BUILDS)) }
    }
}

impl JsonForms {
    /// The stream as JSON for a reader that sent `last_event_id`, or nothing.
    pub(crate) async fn respond(&self, stream: &Stream, last_event_id: Option<&str>) -> Result<HttpResponse, Refusal> {
        let (stream, last_event_id) = (stream.clone(), last_event_id.map(Box::<str>::from));
        self.build(move || {
            let inner = stream.lock();
            let page = Page::of(&inner.state, inner.open(last_event_id.as_deref(), None), inner.carried());
            drop(inner);
            page.encode(stream.name())
        })
        .await
    }

    /// What `encode` makes, as a response.
    pub(crate) async fn build(
        &self,
        encode: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
    ) -> Result<HttpResponse, Refusal> {
        // The semaphore is never closed; without a permit an answer would be as good.
        let permit = Arc::clone(&self.builds).acquire_owned().await.ok();
        let built = spawn_blocking(move || {
            let body = encode();
            drop(permit);
            body
        });
        match built.await {
            Ok(Ok(body)) => Ok(response::json_response(200, body)),
            Ok(Err(_)) | Err(_) => Err(Refusal::new(500, "internal", "the JSON form could not be built")),
        }
    }
}

/// What one answer gives, as taken out of the stream's state.
struct Page {
    last_id: String,
    ended: bool,
    more: bool,
    snapshot: Option<Frame>,
    gap: Option<i64>,
    events: Vec<Frame>,
    /// Whether nothing was published yet: `last_id` is that of no event then.
    empty: bool,
}

/// An answer as it is written; the order of the fields is the order of the keys.
#[derive(Serialize)]
struct Body<'a> {
    stream: &'a str,
    last_id: &'a str,
    ended: bool,
    more: bool,
    snapshot: Option<Event<'a>>,
    gap: Option<i64>,
    events: Vec<Event<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    empty: bool,
}

/// An event, decoded only while it is written.
struct Event<'a>(&'a Frame);

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields {
            id: Option<String>,
            event: String,
            data: String,
        }
        let wire::Decoded { id, event, data, .. } = wire::decode(self.0.plain());
        Fields { id, event: event.unwrap_or_else(|| "message".to_owned()), data }.serialize(serializer)
    }
}

impl Page {
    /// The page for a reader to whom the stream opens like this; what is up to `carried` was another life's. Under the
    /// stream's lock.
    fn of(state: &StreamState, opening: Opening, carried: Position) -> Self {
        let newest = state.newest();
        let (mut snapshot, mut gap, mut events, mut last) = (None, None, Vec::new(), newest);
        if let Opening::Live { before, snapshot: held, after, cursor } = opening {
            let mut bytes = held.as_ref().map_or(0, Frame::len);
            snapshot = held;
            gap = [before, after].into_iter().flatten().map(skipped).reduce(|a, b| if a < 0 { a } else { a + b });
            for (position, frame) in (cursor..).zip(state.log().from(cursor)) {
                bytes += frame.len();
                // At least one, whatever its size: a reader must get on.
                if bytes > MAX_PAGE_BYTES && !events.is_empty() {
                    break;
                }
                events.push(frame.clone());
                last = position;
            }
        }
        let more = last < newest;
        debug_assert!(!more || !events.is_empty(), "a page with more to come brings its reader on");
        Self {
            last_id: id_of(state, last, more, carried),
            ended: state.ended() && !more,
            more,
            snapshot,
            gap,
            events,
            empty: newest == 0,
        }
    }

    fn encode(&self, stream: &str) -> serde_json::Result<Vec<u8>> {
        let Self { last_id, ended, more, snapshot, gap, events, empty } = self;
        let (snapshot, events) = (snapshot.as_ref().map(Event), events.iter().map(Event).collect());
        let body = Body { stream, last_id, ended: *ended, more: *more, snapshot, gap: *gap, events, empty: *empty };
        // Enough for most: a frame's own framing is about as long as the keys here.
        let frames = self.snapshot.iter().chain(&self.events).map(|frame| frame.len() + 32).sum::<usize>();
        let mut bytes = Vec::with_capacity(frames + 256);
        serde_json::to_writer(&mut bytes, &body)?;
        // It may wait for its reader.
        bytes.shrink_to_fit();
        Ok(bytes)
    }
}

/// The id to go on from after `position`: the event's own, unless resuming from it would pass over later events.
fn id_of(state: &StreamState, position: Position, more: bool, carried: Position) -> String {
    let frame = state.log().get(position);
    let own = frame.and_then(|frame| wire::id_of(frame.plain())).map(String::from_utf8_lossy);
    let own = own.filter(|_| position > carried);
    match own.filter(|own| !more || state.position_of(own) == Some(position)) {
        Some(own) => own.into_owned(),
        None => state.id_at(position).as_str().to_owned(),
    }
}

/// How many events a gap stands for; -1 where that is unknown.
pub(crate) fn skipped(gap: Gap) -> i64 {
    gap.skipped().map_or(-1, |skipped| i64::try_from(skipped).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use sse_fast_core::cursor;
    use sse_fast_core::event::{NewEvent, check};
    use sse_fast_core::id::Epoch;
    use sse_fast_core::options::{Start, StreamOptions};
    use sse_fast_core::stream::Scratch;

    use super::*;

    fn stream(history: usize) -> StreamState {
        let history_bytes = 64 << 20;
        let options = StreamOptions { history, history_bytes, start: Start::All, ..StreamOptions::default() };
        StreamState::new(Epoch(10), Arc::new(options))
    }

    fn publish(state: &mut StreamState, data: &str, id: Option<&str>) {
        let event = NewEvent { data: data.as_bytes(), id, ..NewEvent::default() };
        let prepared = state.prepare(&mut Scratch::default(), &check(&event).expect("an event"));
        let _ = state.append(prepared);
    }

    fn json(page: &Page) -> serde_json::Value {
        serde_json::from_slice(&page.encode("s").expect("encoded")).expect("JSON")
    }

    /// Polls to the end; the data of every event, and the sizes of the answers.
    fn poll_all(state: &StreamState) -> (Vec<String>, Vec<usize>) {
        let (mut data, mut sizes, mut last_id) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let page = Page::of(state, cursor::open(state, last_id.as_deref(), None), 0);
            assert_eq!(page.gap, None);
            sizes.push(page.events.iter().map(Frame::len).sum());
            data.extend(page.events.iter().map(|frame| wire::decode(frame.plain()).data));
            assert_eq!(page.ended, state.ended() && !page.more);
            last_id = Some(page.last_id);
            if !page.more {
                return (data, sizes);
            }
        }
    }

    #[test]
    fn a_long_history_comes_in_pages_that_join_without_loss_or_repeat() {
        let mut state = stream(1000);
        let sent: Vec<_> = (0..250).map(|number| format!("{number}:{}", "x".repeat(4000))).collect();
        for data in &sent {
            publish(&mut state, data, None);
        }
        state.end();
        let (data, sizes) = poll_all(&state);
        assert_eq!(data, sent);
        assert!(sizes.len() == 4 && sizes.iter().all(|&size| size <= MAX_PAGE_BYTES), "{sizes:?}");
    }

    #[test]
    fn an_event_above_the_bound_comes_alone() {
        let mut state = stream(1000);
        for data in ["a".repeat(10), "b".repeat(500_000), "c".repeat(10)] {
            publish(&mut state, &data, None);
        }
        let (data, sizes) = poll_all(&state);
        assert_eq!(data.iter().map(String::len).collect::<Vec<_>>(), [10, 500_000, 10]);
        assert_eq!(sizes.len(), 3);
    }

    #[test]
    fn a_page_that_ends_at_an_id_that_comes_again_is_resumed_after_it() {
        let mut state = stream(1000);
        for number in 0..200 {
            publish(&mut state, &format!("{number}:{}", "x".repeat(4000)), Some("same"));
        }
        let (data, sizes) = poll_all(&state);
        assert_eq!((data.len(), sizes.len()), (200, 4));
    }

    #[test]
    fn the_keys_are_those_of_the_contract_in_their_order() {
        let mut state = stream(2);
        for data in ["1", "2", "3"] {
            publish(&mut state, data, None);
        }
        let snapshot = NewEvent { data: b"all", event: Some("snapshot"), ..NewEvent::default() };
        state.set_snapshot(&mut Scratch::default(), &check(&snapshot).expect("an event"));
        publish(&mut state, "a\u{2028}\"\nb", None);
        let body =
            String::from_utf8(Page::of(&state, cursor::open(&state, None, None), 0).encode("a/b").expect("encoded"))
                .expect("UTF-8");
        let wanted = "{\"stream\":\"a/b\",\"last_id\":\"a-4\",\"ended\":false,\"more\":false,\
            \"snapshot\":{\"id\":\"a-3\",\"event\":\"snapshot\",\"data\":\"all\"},\"gap\":null,\
            \"events\":[{\"id\":\"a-4\",\"event\":\"message\",\"data\":\"a\u{2028}\\\"\\nb\"}]}";
        assert_eq!(body, wanted);
        let page = |id| json(&Page::of(&state, cursor::open(&state, Some(id), None), 0));
        let behind = page("a-1");
        assert_eq!((&behind["gap"], &behind["snapshot"]["id"]), (&2.into(), &"a-3".into()));
        assert_eq!(page("nonsense")["gap"], -1);
        assert_eq!(page("a-4")["events"], serde_json::json!([]));
    }
}
