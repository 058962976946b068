//! A name of a request for several streams, as it was found.
//!
//! Owns: what is known of it, and the hash that ids know a life by: the first eight bytes of SHA-256 over name, NUL and
//! epoch, the epoch as ids write it. Must not know: requests, what is answered.

use ring::digest::{SHA256, digest};
use sse_fast_core::cursor::{self, Opening, Place};
use sse_fast_core::vector::{Beginning, Entry, Life, Sent};

use crate::stream::Stream;

/// See the module.
pub(crate) struct Named {
    pub(crate) name: String,
    /// None where the name is not known.
    pub(crate) stream: Option<Stream>,
    /// The stream's; where there is none the one that the reader's id has.
    pub(crate) life: Life,
    pub(crate) beginning: Beginning,
}

impl Named {
    /// Whether its stream has ended, and the reader has everything.
    pub(crate) fn is_finished(&self) -> bool {
        let place = self.beginning.place;
        self.stream.as_ref().is_some_and(|stream| {
            let inner = stream.lock();
            matches!(cursor::open_at(&inner.state, place, inner.state.options().start), Opening::Finished)
        })
    }
}

impl Named {
    /// Whether the copy of its stream may be behind what the reader has had in another process.
    pub(crate) fn may_be_behind(&self) -> bool {
        let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_copy()) else { return false };
        match self.beginning.place {
            Place::New => false,
            Place::After(position) => position > stream.reached().1,
            Place::Lost => true,
        }
    }
}

/// The names with what is known of each, for a reader that sent this.
pub(crate) fn found(names: Vec<String>, streams: Vec<Option<Stream>>, sent: &Sent) -> Vec<Named> {
    let lives: Vec<Option<Life>> = streams.iter().map(|stream| stream.as_ref().map(life_of)).collect();
    let beginnings = sent.beginnings(&lives);
    let all = names.into_iter().zip(streams).zip(lives).zip(beginnings);
    all.map(|(((name, stream), life), beginning)| {
        let life = life.unwrap_or(match beginning.entry {
            Entry::At(life, _) => life,
            Entry::New => Life::NONE,
        });
        Named { name, stream, life, beginning }
    })
    .collect()
}

/// What ids know this life of a stream by.
fn life_of(stream: &Stream) -> Life {
    let mut hashed = stream.name().as_bytes().to_vec();
    hashed.push(0);
    hashed.extend_from_slice(stream.lock().state.epoch_text().as_bytes());
    let hash = digest(&SHA256, &hashed);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    Life::of_hash(first)
}
