//! Several streams once as JSON: what a reader lacks of each, for clients that must poll.
//!
//! Owns: the form's keys and its bound over all streams together. Must not know: requests, sockets. Invariants: the ids are
//! those of a connection that gives gaps and snapshots of all streams first, in the order of the names, then the events as
//! they stand; a stream that the bound left no room for keeps the entry that it came with, and `more` says so.
//! Changes together with `json_form`, the form of one stream, and `python/sse_fast/static/sse-fast.js`, which polls it.

use serde::Serialize;
use sse_fast_core::cursor::{self, Opening};
use sse_fast_core::frame::Frame;
use sse_fast_core::gap::Gap;
use sse_fast_core::id::Position;
use sse_fast_core::vector::IdVector;
use sse_fast_core::wire;

use super::named::Named;
use crate::json_form::{MAX_PAGE_BYTES, skipped};

/// An answer as it is written; the order of the fields is the order of the keys.
#[derive(Serialize)]
pub(super) struct Page<'a> {
    streams: Vec<About<'a>>,
    last_id: String,
    ended: bool,
    more: bool,
    events: Vec<Event<'a>>,
}

/// What is said of one stream, in the order of the names.
#[derive(Serialize)]
struct About<'a> {
    stream: &'a str,
    known: bool,
    ended: bool,
    gap: Option<i64>,
    snapshot: Option<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    stream: &'a str,
    id: String,
    #[serde(rename = "event")]
    name: String,
    data: String,
}

/// What was taken out of one stream.
struct Part {
    gap: Option<i64>,
    snapshot: Option<(Frame, Position)>,
    /// The first position of `events`.
    cursor: Position,
    events: Vec<Frame>,
    /// Whether there is more.
    more: bool,
    ended: bool,
}

impl<'a> Page<'a> {
    /// The page for a reader of these names.
    pub(super) fn of(names: &'a [Named]) -> Self {
        let entries: Vec<_> = names.iter().map(|named| named.beginning.entry).collect();
        let mut ids = IdVector::new(&entries);
        let mut room = MAX_PAGE_BYTES;
        let parts: Vec<Option<Part>> = names.iter().map(|named| Part::of(named, &ids, &mut room)).collect();
        let (mut streams, mut events) = (Vec::new(), Vec::new());
        for (index, (named, part)) in names.iter().zip(&parts).enumerate() {
            streams.push(About::of(index, named, part.as_ref(), &mut ids));
        }
        for (index, (named, part)) in names.iter().zip(&parts).enumerate() {
            let Some(part) = part else { continue };
            for (position, frame) in (part.cursor..).zip(&part.events) {
                ids.set(index, named.life, position);
                events.push(Event::of(&named.name, frame, id_of(&ids, index)));
            }
        }
        let more = |(named, part): (&Named, &Option<Part>)| match part {
            Some(part) => part.more,
            None => named.stream.is_some() && !named.is_finished(),
        };
        let more = names.iter().zip(&parts).any(more);
        let ended = streams.iter().all(|about| about.ended);
        Self { streams, last_id: id_of(&ids, 0), ended, more, events }
    }

    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        // It may wait for its reader.
        bytes.shrink_to_fit();
        Ok(bytes)
    }
}

impl<'a> About<'a> {
    /// What is said of a name, whose gaps and snapshot `ids` stand for afterwards.
    fn of(index: usize, named: &'a Named, part: Option<&Part>, ids: &mut IdVector) -> Self {
        let (stream, known) = (&*named.name, named.stream.is_some());
        let Some(part) = part else {
            return Self { stream, known, ended: named.is_finished(), gap: None, snapshot: None };
        };
        let snapshot = part.snapshot.as_ref().map(|(frame, covered)| {
            ids.set(index, named.life, *covered);
            Event::of(stream, frame, id_of(ids, index))
        });
        ids.set(index, named.life, part.cursor - 1);
        Self { stream, known, ended: part.ended, gap: part.gap, snapshot }
    }
}

impl<'a> Event<'a> {
    fn of(stream: &'a str, frame: &Frame, id: String) -> Self {
        let wire::Decoded { event, data, .. } = wire::decode(frame.plain());
        Self { stream, id, name: event.unwrap_or_else(|| "message".to_owned()), data }
    }
}

impl Part {
    /// What the reader lacks of one stream, as far as there is room; none where it lacks nothing for good, or nothing fits.
    fn of(named: &Named, ids: &IdVector, room: &mut usize) -> Option<Self> {
        let inner = named.stream.as_ref()?.lock();
        let state = &inner.state;
        let opening = cursor::open_at(state, named.beginning.place, state.options().start);
        let Opening::Live { before, snapshot, after, cursor } = opening else { return None };
        let line = ids.line_bytes(0);
        // Something fits always: a reader must get on.
        let mut fits = |frame: &Frame| {
            let (bytes, is_first) = (frame.len() + line, *room == MAX_PAGE_BYTES);
            let fits = is_first || bytes <= *room;
            *room = if fits { room.saturating_sub(bytes) } else { 0 };
            fits
        };
        if snapshot.as_ref().is_some_and(|frame| !fits(frame)) {
            return None;
        }
        let events: Vec<Frame> = state.log().from(cursor).take_while(|frame| fits(frame)).cloned().collect();
        let more = cursor + (events.len() as Position) <= state.newest();
        let covered = match after {
            Some(Gap::Known { from, .. }) => from - 1,
            Some(Gap::Unknown) | None => cursor - 1,
        };
        let gap = [before, after].into_iter().flatten().map(skipped).reduce(|a, b| if a < 0 { a } else { a + b });
        let ended = state.ended() && !more;
        Some(Self { gap, snapshot: snapshot.map(|frame| (frame, covered)), cursor, events, more, ended })
    }
}

fn id_of(ids: &IdVector, index: usize) -> String {
    let mut out = Vec::new();
    ids.write(&mut out, index);
    String::from_utf8_lossy(&out).into_owned()
}
