//! The threads of a server's shards: starting all of them, and stopping them.
//!
//! Owns: how many there are, and that none is left where one cannot be started. Must not know: what a shard does, when a
//! server closes.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use sse_fast_core::budget::Micros;

use super::io_error;
use crate::clock;
use crate::config::{Config, StartError};
use crate::directory::{ByPattern, Directory};
use crate::logs::Logs;
use crate::presence::Presence;
use crate::shard::{self, Order, Pacing, Settings};
use crate::store::Store;

/// The threads of all shards, and the polls that these own, as numbers.
pub(super) struct Shards {
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) polls: Vec<RawFd>,
}

/// Starts them, and makes the directory that knows them.
pub(super) fn start_shards(
    config: Config,
    by_pattern: ByPattern,
    (logs, store): (Logs, Option<Arc<Store>>),
) -> Result<(Arc<Directory>, Shards), StartError> {
    let presence = Presence::new(logs.clone());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if config.shards == 0 { cores } else { config.shards };
    let mut prepared = Vec::with_capacity(count);
    for _ in 0..count {
        prepared.push(shard::prepare(&presence).map_err(io_error("making a shard"))?);
    }
    let handles = prepared.iter().map(|(handle, _)| handle.clone()).collect();
    let polls = prepared.iter().map(|(_, poll)| poll.as_raw_fd()).collect();
    let stall_timeout = config.stall_timeout;
    let directory = Arc::new(Directory::new(config, by_pattern, handles, presence, (logs.clone(), store)));
    let settings = Settings { stall_timeout, patience: directory.delivery.patience, pacing: Pacing::default() };
    let mut threads = Vec::with_capacity(count);
    for (number, (handle, poll)) in prepared.into_iter().enumerate() {
        match shard::spawn(handle, number, poll, settings, logs.clone()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                stop_shards(&directory, threads, clock::now());
                return Err(io_error("starting a shard's thread")(error));
            }
        }
    }
    Ok((directory, Shards { threads, polls }))
}

/// Has every shard give everybody what was published, until then, and end.
pub(super) fn stop_shards(directory: &Directory, threads: Vec<JoinHandle<()>>, until: Micros) {
    for shard in directory.shards() {
        shard.order(Order::Drain { until });
    }
    for thread in threads {
        // A shard that panicked has said so in the log.
        let _ = thread.join();
    }
}
