//! Where a subscriber starts or resumes, and what it must be told before it gets anything newer.
//!
//! Owns: what a Last-Event-ID means. Must not know: sockets, framing, how far the subscriber gets later (`follow`).
//! Rule 1: whatever the reader sent, the answer is an [`Opening`], never an error.
//! Rule 2: events received + events skipped in gaps = events published since its place.
//! Rule 3: an ended stream gives what the reader lacks, the terminal event included; a reader that
//! has it gets nothing ([`Opening::Finished`], HTTP 204).
//!
//! An id within history continues right after it, snapshot or not. An older one gets a gap, then
//! the snapshot where there is one (and it is not older than what the reader has), then the tail.
//! One of another epoch, or one that cannot be read, gets a gap of unknown size, then what a new
//! subscriber gets.

use crate::frame::Frame;
use crate::gap::Gap;
use crate::id::Position;
use crate::options::Start;
use crate::stream::StreamState;

/// How a stream begins for one subscriber, in the order it is sent.
#[derive(Clone, Debug)]
pub enum Opening {
    /// First this, then the log from `cursor` on.
    Live {
        /// Announced first.
        before: Option<Gap>,
        /// Then the snapshot.
        snapshot: Option<Frame>,
        /// Then what the snapshot does not cover and the log no longer holds.
        after: Option<Gap>,
        /// The first position to be sent from the log.
        cursor: Position,
    },
    /// The reader already has the terminal event.
    Finished,
}

/// What a reader has of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is new.
    New,
    /// It has everything up to this position.
    After(Position),
    /// Nobody knows: its place belongs to another life, or cannot be read.
    Lost,
}

/// Opens a stream for a reader that sent `last_event_id`, or nothing. `start` overrides the
/// stream's option for readers in the same process.
pub fn open(stream: &StreamState, last_event_id: Option<&str>, start: Option<Start>) -> Opening {
    let place = match last_event_id {
        None | Some("") => Place::New,
        Some(id) => stream.position_of(id).map_or(Place::Lost, Place::After),
    };
    open_at(stream, place, start.unwrap_or(stream.options().start))
}

/// Opens a stream for a reader that has this much of it. A position that was never published is a lost place.
pub fn open_at(stream: &StreamState, place: Place, start: Start) -> Opening {
    match place {
        Place::New => fresh(stream, start),
        Place::After(position) if position <= stream.newest() => resumed(stream, position),
        Place::After(_) | Place::Lost => match fresh(stream, start) {
            Opening::Live { snapshot, after, cursor, .. } => {
                Opening::Live { before: Some(Gap::Unknown), snapshot, after, cursor }
            }
            Opening::Finished => Opening::Finished,
        },
    }
}

fn fresh(stream: &StreamState, start: Start) -> Opening {
    let (first, newest) = (stream.log().first(), stream.newest());
    if let Some(snapshot) = stream.snapshot() {
        let covered = covered(stream, snapshot.position);
        let cursor = (covered + 1).max(first);
        return Opening::Live {
            before: None,
            snapshot: Some(snapshot.frame.clone()),
            after: Gap::between(covered + 1, cursor),
            cursor,
        };
    }
    let cursor = match start {
        Start::All => first,
        Start::Last => newest.max(1),
        Start::New if stream.ended() => newest,
        Start::New => newest + 1,
    };
    // Asking for everything and getting less is a gap; asking for what comes is not.
    let before = if start == Start::All { Gap::between(1, first) } else { None };
    Opening::Live { before, snapshot: None, after: None, cursor }
}

fn resumed(stream: &StreamState, position: Position) -> Opening {
    let (first, next) = (stream.log().first(), position + 1);
    if stream.ended() && position == stream.newest() {
        return Opening::Finished;
    }
    if next >= first {
        return Opening::Live { before: None, snapshot: None, after: None, cursor: next };
    }
    // An older snapshot would take the reader back behind what it has.
    let snapshot = stream.snapshot().filter(|snapshot| snapshot.position >= position);
    let cursor = snapshot.map_or(first, |snapshot| (covered(stream, snapshot.position) + 1).max(first));
    Opening::Live {
        before: Gap::between(next, cursor),
        snapshot: snapshot.map(|snapshot| snapshot.frame.clone()),
        after: None,
        cursor,
    }
}

/// The newest position a snapshot stands for: never the terminal event's, which every reader is given.
fn covered(stream: &StreamState, position: Position) -> Position {
    position.min(stream.newest() - u64::from(stream.ended()))
}
