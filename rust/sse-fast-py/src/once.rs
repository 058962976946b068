//! Publishing under a key of the application's: once, and its ids again for who repeats it.
//!
//! Owns: what `idempotency_key` may be, and what is raised for one that stands for something else. Must not know: which keys
//! there were (the engine does). Invariant: what was begun and is dropped has failed, and may be published anew.

use pyo3::prelude::*;
use sse_fast_server::{Appended, Begun, Ids, MAX_KEY_BYTES, NewEvent, Stream, UnderWay, is_key};

use crate::convert;
use crate::errors::{event_value_error, key_reused, publish_in_progress};
use crate::gil::attached;

/// What a key is found to be.
pub(crate) enum Once {
    /// It was published before.
    Again(Ids),
    /// It is to be published now.
    First(UnderWay),
}

/// The argument `idempotency_key`.
pub(crate) fn key<'a>(given: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<&'a str>> {
    let key = convert::text("idempotency_key", given)?;
    if key.is_some_and(|key| !is_key(key)) {
        let allowed = format!("must be 1 to {MAX_KEY_BYTES} printable characters of ASCII");
        return Err(event_value_error("idempotency_key", &allowed));
    }
    Ok(key)
}

/// Begins to publish these under a key.
pub(crate) fn begin<'a>(stream: &Stream, key: &str, events: impl IntoIterator<Item = NewEvent<'a>>) -> PyResult<Once> {
    match attached(|| stream.repeat(key, events))? {
        Begun::New(under_way) => Ok(Once::First(under_way)),
        Begun::Again(ids) => Ok(Once::Again(ids)),
        Begun::OtherContent => Err(key_reused()),
        Begun::InProgress => Err(publish_in_progress()),
    }
}

/// Keeps the ids for who repeats it.
pub(crate) fn done<'a>(under_way: UnderWay, ids: impl IntoIterator<Item = &'a str>) {
    under_way.done(ids.into_iter().map(Box::from).collect());
}

/// The same for what was appended, as soon as the disk has it: also where nobody waits for that any more.
pub(crate) fn done_once_kept(under_way: UnderWay, appended: &Appended) {
    let ids = appended.published.ids().map(Box::from).collect();
    match &appended.kept {
        Some(kept) => kept.keep_answer(under_way, ids),
        None => under_way.done(ids),
    }
}
