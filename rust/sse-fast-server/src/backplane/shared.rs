//! What travels through the backplane: an event, a snapshot, options.
//!
//! Owns: how an event's fields are laid out in bytes. Must not know: the server, scripts, frames.
//! Invariants: an event's bytes say where they end, so that several may be laid end to end; what is read from the server
//! is checked here once, whole, and what does not fit is refused, so that no version of another process can make this one
//! panic. Fields travel and not frames: positions are given by the server, so each process makes its own frame.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sse_fast_core::event::NewEvent;
use sse_fast_core::id::Position;
use sse_fast_core::options::{Start, StreamOptions, StreamPatch};

/// An event as it travels: a byte of flags, then each field that is there, with its length before it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SharedEvent {
    /// Everything.
    bytes: Bytes,
    /// Where each field is in it, so that reading one again costs nothing.
    event: Field,
    id: Field,
    retry: Option<Duration>,
    data: Field,
}

/// Where a field is; empty where it is missing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Field {
    start: u32,
    length: u32,
}

const HAS_EVENT: u8 = 1;
const HAS_ID: u8 = 2;
const HAS_RETRY: u8 = 4;
const KNOWN_FLAGS: u8 = HAS_EVENT | HAS_ID | HAS_RETRY;

impl std::fmt::Debug for SharedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fields().fmt(f)
    }
}

impl SharedEvent {
    /// The event; its snapshot does not travel with it (`Publish::snapshot`).
    pub(crate) fn new(event: &NewEvent<'_>) -> Self {
        let name = event.event.filter(|name| !name.is_empty());
        let length = name.map_or(0, str::len) + event.id.map_or(0, str::len) + event.data.len();
        let mut out = BytesMut::with_capacity(length + 24);
        let flags =
            name.map_or(0, |_| HAS_EVENT) | event.id.map_or(0, |_| HAS_ID) | event.retry.map_or(0, |_| HAS_RETRY);
        out.extend_from_slice(&[flags]);
        for text in [name, event.id].into_iter().flatten() {
            put_number(&mut out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        if let Some(retry) = event.retry {
            put_number(&mut out, u64::try_from(retry.as_millis()).unwrap_or(u64::MAX));
        }
        put_number(&mut out, event.data.len() as u64);
        out.extend_from_slice(event.data);
        let mut bytes = out.freeze();
        let whole = bytes.clone();
        // What was just written is read; were it not, it would be an event without data.
        Self::take(&mut bytes).unwrap_or(Self {
            bytes: whole,
            event: Field::default(),
            id: Field::default(),
            retry: None,
            data: Field::default(),
        })
    }

    /// Takes the event that `bytes` begins with; `None` where that is none.
    pub(crate) fn take(bytes: &mut Bytes) -> Option<Self> {
        let mut at = 1;
        let flags = *bytes.first()?;
        if flags & !KNOWN_FLAGS != 0 {
            return None;
        }
        let event = if flags & HAS_EVENT != 0 { text(bytes, &mut at)? } else { Field::default() };
        let id = if flags & HAS_ID != 0 { text(bytes, &mut at)? } else { Field::default() };
        let retry =
            if flags & HAS_RETRY != 0 { Some(Duration::from_millis(take_number(bytes, &mut at)?)) } else { None };
        let data = text(bytes, &mut at)?;
        Some(Self { bytes: bytes.split_to(at), event, id, retry, data })
    }

    /// Its fields, to be checked and encoded.
    pub(crate) fn fields(&self) -> NewEvent<'_> {
        NewEvent {
            data: self.field(self.data),
            event: Some(self.text(self.event)).filter(|text| !text.is_empty()),
            id: Some(self.text(self.id)).filter(|text| !text.is_empty()),
            retry: self.retry,
            snapshot: None,
        }
    }

    /// The bytes that travel.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn field(&self, field: Field) -> &[u8] {
        let start = field.start as usize;
        self.bytes.get(start..start + field.length as usize).unwrap_or_default()
    }

    fn text(&self, field: Field) -> &str {
        std::str::from_utf8(self.field(field)).unwrap_or_default()
    }
}

/// Appends a number, seven bits in a byte, the lowest first.
pub(crate) fn put_number(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.extend_from_slice(&[(number & 0x7f) as u8 | 0x80]);
        number >>= 7;
    }
    out.extend_from_slice(&[(number & 0x7f) as u8]);
}

/// Reads such a number.
pub(crate) fn take_number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Reads text with its length before it.
fn text(bytes: &[u8], at: &mut usize) -> Option<Field> {
    let length = take_number(bytes, at)?;
    let start = *at;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    std::str::from_utf8(bytes.get(start..end)?).ok()?;
    *at = end;
    Some(Field { start: u32::try_from(start).ok()?, length: u32::try_from(length).ok()? })
}

/// Reads such text where it is wanted itself.
pub(crate) fn take_text<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a str> {
    let field = text(bytes, at)?;
    let start = field.start as usize;
    std::str::from_utf8(bytes.get(start..start + field.length as usize)?).ok()
}

/// A snapshot as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedSnapshot {
    /// The event's name.
    pub(crate) event: Box<str>,
    /// What stands for everything up to `position`.
    pub(crate) data: Bytes,
    /// The newest position that it covers; the server gives it, so 0 in an ask.
    pub(crate) position: Position,
}

/// The options that live with a stream on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedOptions {
    /// The most events the log retains.
    pub(crate) history: u64,
    /// The most bytes.
    pub(crate) history_bytes: u64,
    /// What a new subscriber gets first.
    pub(crate) start: Start,
    /// Whether events carry ids.
    pub(crate) ids: bool,
    /// How long an ended stream still answers.
    pub(crate) linger: Duration,
    /// How long an open one may be without readers and events.
    pub(crate) expire: Option<Duration>,
    /// Whether `/streams/` leads to it.
    pub(crate) private: bool,
}

/// Those that are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::option_option, reason = "as in StreamPatch: given or not, and None is a value")]
pub(crate) struct SharedPatch {
    pub(crate) history: Option<u64>,
    pub(crate) history_bytes: Option<u64>,
    pub(crate) start: Option<Start>,
    pub(crate) ids: Option<bool>,
    pub(crate) linger: Option<Duration>,
    pub(crate) expire: Option<Option<Duration>>,
    pub(crate) private: Option<bool>,
}

impl SharedOptions {
    /// Those of a stream's options that travel.
    pub(crate) fn of(options: &StreamOptions) -> Self {
        Self {
            history: options.history as u64,
            history_bytes: options.history_bytes as u64,
            start: options.start,
            ids: options.ids,
            linger: options.linger,
            expire: options.expire,
            private: options.private,
        }
    }

    /// As a change of a stream's options.
    pub(crate) fn to_patch(self) -> StreamPatch {
        StreamPatch {
            history: Some(usize::try_from(self.history).unwrap_or(usize::MAX)),
            history_bytes: Some(usize::try_from(self.history_bytes).unwrap_or(usize::MAX)),
            start: Some(self.start),
            ids: Some(self.ids),
            linger: Some(self.linger),
            expire: Some(self.expire),
            private: Some(self.private),
            ..StreamPatch::default()
        }
    }

    /// These options with those of `patch` in their place.
    pub(crate) fn patched(self, patch: &SharedPatch) -> Self {
        Self {
            history: patch.history.unwrap_or(self.history),
            history_bytes: patch.history_bytes.unwrap_or(self.history_bytes),
            start: patch.start.unwrap_or(self.start),
            ids: patch.ids.unwrap_or(self.ids),
            linger: patch.linger.unwrap_or(self.linger),
            expire: patch.expire.unwrap_or(self.expire),
            private: patch.private.unwrap_or(self.private),
        }
    }
}

impl SharedPatch {
    /// Those of a patch that travel.
    pub(crate) fn of(patch: &StreamPatch) -> Self {
        Self {
            history: patch.history.map(|history| history as u64),
            history_bytes: patch.history_bytes.map(|bytes| bytes as u64),
            start: patch.start,
            ids: patch.ids,
            linger: patch.linger,
            expire: patch.expire,
            private: patch.private,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            data in ".{0,40}", event in proptest::option::of("[^\r\n\0]{1,9}"), id in proptest::option::of("[a-z]{1,9}"),
            retry in proptest::option::of(0u64..1 << 40), next in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let given = NewEvent {
                data: data.as_bytes(), event: event.as_deref(), id: id.as_deref(),
                retry: retry.map(Duration::from_millis), snapshot: None,
            };
            let event = SharedEvent::new(&given);
            let mut bytes = BytesMut::from(&event.bytes()[..]);
            bytes.extend_from_slice(&next);
            let mut bytes = bytes.freeze();
            let read = SharedEvent::take(&mut bytes).expect("it was written");
            prop_assert_eq!(&bytes[..], &next[..], "it says where it ends");
            let fields = read.fields();
            prop_assert_eq!(fields.data, data.as_bytes());
            prop_assert_eq!((fields.event, fields.id, fields.retry), (given.event, given.id, given.retry));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(event) = SharedEvent::take(&mut Bytes::from(bytes)) {
                let _ = event.fields();
            }
        }
    }
}
