//! What a server that has a store does at its start.
//!
//! Owns: opening it, and ending what died with the server before. Must not know: files, what becomes of streams.

use std::sync::Arc;

use crate::config::{Config, StartError};
use crate::logs::Logs;
use crate::run;
use crate::store::{KeptKey, KeptStream, Opened, Store};
use crate::stream::Stream;

/// What a store has kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) streams: Vec<KeptStream>,
    pub(super) keys: Vec<KeptKey>,
    /// The greatest epoch that it knows.
    pub(super) epoch: u64,
}

/// Opens the store, if there is to be one: with what it has kept.
pub(super) fn open_store(config: &Config, logs: &Logs) -> Result<(Option<Arc<Store>>, Kept), StartError> {
    let Some(folder) = &config.store else { return Ok((None, Kept::default())) };
    let Opened { store, streams, keys, epoch } = Store::open(folder, config.durable, logs)?;
    Ok((Some(Arc::new(store)), Kept { streams, keys, epoch }))
}

/// The server that this stream's run belonged to has died, and with it the run.
pub(super) fn end_run(stream: &Stream) {
    let last = stream.last_event();
    let data = run::cut_off(last.as_ref(), stream.max_event_bytes());
    // An error means that the disk is full: the stream stays open, as it was.
    let _ = stream.end(data.as_bytes(), run::END_EVENT);
}
