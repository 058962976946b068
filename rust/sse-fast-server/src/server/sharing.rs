//! The backplane of a server: started with it, ended with it.
//!
//! Owns: what the backplane's thread is given, and what its failing to start is called. Must not know: what it does.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::rights;
use crate::backplane::Rules;
use crate::backplane::redis::{self, Address};
use crate::backplane::thread::{BackplaneThread, NotStarted, Start};
use crate::config::StartError;
use crate::directory::LocalCopies;
use crate::respond::Context;

/// Starts the backplane's thread where the server has one; `poll` is one of the shards', which a forked child knows.
pub(super) fn start_backplane(
    context: &Arc<Context>,
    poll: Option<RawFd>,
) -> Result<Option<BackplaneThread>, StartError> {
    let directory = &context.directory;
    let (Some(config), Some(sharing)) = (&directory.config.backplane, &directory.sharing) else { return Ok(None) };
    let Some(received) = sharing.take_received() else { return Ok(None) };
    let address = Address::parse(&config.url).map_err(|reason| StartError::BadBackplane { reason })?;
    let rules = Rules { process: new_process()?, timeout: config.timeout, trust: config.trust };
    let disconnecting = Arc::clone(context);
    let copies = LocalCopies {
        directory: Arc::clone(directory),
        disconnect: Box::new(move |reader, before| {
            rights::disconnect(&disconnecting, reader, before);
        }),
    };
    let (prefix, process, timeout) = (config.prefix.clone(), Arc::clone(&rules.process), config.timeout);
    let start = Start { rules, asks: sharing.asks(), received, copies: Box::new(copies), watched: poll };
    let connect = async move || redis::connect(address, &prefix, &process, timeout).await;
    match BackplaneThread::start(start, connect) {
        Ok(thread) => {
            sharing.counted_by(thread.counts());
            Ok(Some(thread))
        }
        Err(NotStarted::Unreachable(reason)) => Err(StartError::Backplane { reason }),
        Err(NotStarted::Io(source)) => Err(super::io_error("starting the backplane's thread")(source)),
    }
}

/// Who this process is to the others.
fn new_process() -> Result<Arc<str>, StartError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| super::io_error("reading randomness")(std::io::Error::other(error.to_string())))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}
