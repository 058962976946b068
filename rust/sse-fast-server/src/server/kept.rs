//! What a server that has a store does at its start.
//!
//! Owns: opening it, and ending what died with the server before. Must not know: files, what becomes of streams.

use std::sync::Arc;

use crate::config::{Config, StartError};
use crate::logs::Logs;
use crate::run;
use crate::store::{KeptStream, Opened, Store};
use crate::stream::Stream;

/// The store, if there is one, what it has kept, and the greatest epoch that it knows.
pub(super) type Kept = (Option<Arc<Store>>, Vec<KeptStream>, u64);

/// Opens the store, if there is to be one: with what it has kept, and the greatest epoch that it knows.
pub(super) fn open_store(config: &Config, logs: &Logs) -> Result<Kept, StartError> {
    let Some(folder) = &config.store else { return Ok((None, Vec::new(), 0)) };
    let Opened { store, streams, epoch } = Store::open(folder, config.durable, logs)?;
    Ok((Some(Arc::new(store)), streams, epoch))
}

/// The server that this stream's run belonged to has died, and with it the run.
pub(super) fn end_run(stream: &Stream) {
    let last = stream.last_event();
    let data = run::cut_off(last.as_ref(), stream.max_event_bytes());
    // An error means that the disk is full: the stream stays open, as it was.
    let _ = stream.end(data.as_bytes(), run::END_EVENT);
}
