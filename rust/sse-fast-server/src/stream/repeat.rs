//! Publishing under a key in this process.
//!
//! Owns: what a key of the application's stands for: this stream's life, or a copy's name, and these events. Must not know: which keys there were
//! (`idempotency`).

use sse_fast_core::event::NewEvent;

use super::Stream;
use crate::idempotency::{Begun, SharedKey};

/// What such keys belong to; those of other processes have another.
const HERE: &[u8] = b"this process";

impl Stream {
    /// Begins to publish these under a key.
    pub fn repeat<'a>(&self, key: &str, events: impl IntoIterator<Item = NewEvent<'a>>) -> Begun {
        let mut content = Vec::new();
        for NewEvent { data, event, id, retry, snapshot } in events {
            let retry = retry.map(|retry| retry.as_nanos().to_be_bytes());
            content.push(data.to_vec());
            for part in
                [event.map(str::as_bytes), id.map(str::as_bytes), retry.as_ref().map(|retry| &retry[..]), snapshot]
            {
                // Nothing is not the same as an empty text.
                content.push(part.map_or_else(Vec::new, |part| [b"=", part].concat()));
            }
        }
        let content: Vec<_> = content.iter().map(Vec::as_slice).collect();
        let life = self.life().0.to_be_bytes();
        // A copy's next life is the same stream to who repeats: it may have begun because a server was replaced.
        let scope = if self.is_copy() { self.name().as_bytes() } else { &life[..] };
        self.0.delivery.repeats.begin(&SharedKey::new(&[HERE, scope], key, &content))
    }
}
