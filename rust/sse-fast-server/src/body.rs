//! A request's body, read whole before its handler is called.
//!
//! Owns the buffer a body is read into, and its bound; `room` owns that of all bodies together. Must not know: handlers, what a body means.
//! Invariant: a large body has a mapping of its own, so that its memory goes back to the system with
//! it. glibc's allocator keeps what was freed in a size it has met before: a crowd that posted 30 MB
//! and hung up left the process that much larger for good. A body's bytes count in the room of all bodies until it is dropped.
//! Changes together with `handler_call`, which turns the errors into answers.

mod room;

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use memmap2::MmapMut;
use thiserror::Error;

pub(crate) use self::room::BodyRoom;
use self::room::{Receiving, Reserved};

/// Bodies declared to be this long get a mapping: below it, the allocator is faster and keeps little. It is where
/// glibc's allocator begins to map, too, until it has met such a size.
const MAPPED_FROM: usize = 128 * 1024;

/// Why there is no body.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error("it has more bytes than it may")]
    TooLarge,
    #[error("there is no room for it")]
    NoRoom,
    #[error("it ended early or is not well framed")]
    Incomplete,
}

/// A body as far as it was read.
enum Buffer {
    Heap(BytesMut),
    Mapped { map: MmapMut, length: usize },
}

/// A whole body, and its room.
struct Kept {
    buffer: Buffer,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        match &self.buffer {
            Buffer::Heap(bytes) => bytes,
            Buffer::Mapped { map, length } => &map[..*length],
        }
    }
}

impl Buffer {
    /// For a body that is declared to have `length` bytes; 0 where nothing is declared.
    fn new(length: usize) -> Self {
        let map = (length >= MAPPED_FROM).then(|| MmapMut::map_anon(length)).and_then(Result::ok);
        match map {
            Some(map) => Self::Mapped { map, length: 0 },
            None => Self::Heap(BytesMut::with_capacity(length)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Mapped { length, .. } => *length,
        }
    }

    /// Appends; false where that is more than was declared.
    fn put(&mut self, data: &[u8]) -> bool {
        match self {
            Self::Heap(bytes) => bytes.extend_from_slice(data),
            Self::Mapped { map, length } => {
                let Some(room) = map.get_mut(*length..*length + data.len()) else { return false };
                room.copy_from_slice(data);
                *length += data.len();
            }
        }
        true
    }
}

/// Reads a body of at most `limit` bytes to its end, as long as there is room; `declared` is what its head says of its length.
pub(crate) async fn read_whole<B>(
    mut body: B,
    declared: Option<usize>,
    limit: usize,
    room: &BodyRoom,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if declared.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge);
    }
    let mut buffer = Buffer::new(declared.unwrap_or(0));
    let mut receiving: Option<Receiving> = None;
    loop {
        let frame = match &mut receiving {
            None => body.frame().await,
            Some(receiving) => tokio::select! {
                biased;
                _ = &mut receiving.stay => return Err(BodyError::NoRoom),
                frame = body.frame() => frame,
            },
        };
        let Some(frame) = frame else { break };
        // Trailers say nothing that a handler is given.
        let Ok(data) = frame.map_err(|_| BodyError::Incomplete)?.into_data() else { continue };
        if buffer.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        let now = Instant::now();
        if !receiving.get_or_insert_with(|| room.begin(now)).grow(data.len(), now) {
            return Err(BodyError::NoRoom);
        }
        if !buffer.put(&data) {
            return Err(BodyError::Incomplete);
        }
    }
    match receiving {
        None => Ok(Bytes::new()),
        Some(receiving) => match receiving.whole() {
            Some(reserved) => Ok(Bytes::from_owner(Kept { buffer, _reserved: reserved })),
            None => Err(BodyError::NoRoom),
        },
    }
}

/// Reads and drops the body of a request that is refused, to its end or to a bound that few that are in flight reach.
pub(crate) async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = MAPPED_FROM;
    while left > 0 && !body.is_end_stream() {
        let Some(Ok(frame)) = body.frame().await else { return };
        left = left.saturating_sub(frame.data_ref().map_or(1, Bytes::len));
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn read(sent: &[u8], declared: Option<usize>, limit: usize) -> Result<Bytes, BodyError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let room = BodyRoom::new(2 << 20);
        runtime.block_on(read_whole(Full::new(Bytes::copy_from_slice(sent)), declared, limit, &room))
    }

    #[test]
    fn small_and_large_bodies_are_read_whole_declared_or_not() {
        for length in [0, 1, MAPPED_FROM - 1, MAPPED_FROM, MAPPED_FROM + 1] {
            let sent: Vec<u8> = (0..=255).cycle().take(length).collect();
            for declared in [None, Some(length)] {
                assert_eq!(read(&sent, declared, 1 << 20).expect("whole"), sent, "{length} {declared:?}");
            }
        }
    }

    #[test]
    fn the_room_of_a_body_is_held_until_nobody_has_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let room = BodyRoom::new(4);
        let read = |sent: &'static [u8]| {
            runtime.block_on(read_whole(Full::new(Bytes::from_static(sent)), None, 1 << 20, &room))
        };
        let body = read(b"abc").expect("whole");
        let shared = body.clone();
        drop(body);
        assert!(matches!(read(b"de"), Err(BodyError::NoRoom)));
        assert_eq!((read(b"d").expect("room"), read(b"").expect("none is needed")), ("d".into(), Bytes::new()));
        drop(shared);
        assert_eq!(read(b"defg").expect("room"), "defg");
    }

    #[test]
    fn a_body_is_bounded_by_what_is_allowed_and_by_what_was_declared() {
        assert!(matches!(read(b"abc", None, 2), Err(BodyError::TooLarge)));
        assert!(matches!(read(b"a", Some(3), 2), Err(BodyError::TooLarge)));
        let longer = vec![b'x'; MAPPED_FROM + 1];
        assert!(matches!(read(&longer, Some(MAPPED_FROM), 1 << 20), Err(BodyError::Incomplete)));
    }
}
