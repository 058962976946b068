//! The backplane of a server: started with it, ended with it.
//!
//! Owns: what the backplane's thread is given, and what its failing to start is called. Must not know: what it does.

use std::os::fd::RawFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::rights;
use crate::backplane::Rules;
use crate::backplane::redis::{self, Address};
use crate::backplane::thread::{BackplaneThread, NotStarted, Start};
use crate::config::StartError;
use crate::directory::LocalCopies;
use crate::logs::{Level, OncePerSecond};
use crate::respond::Context;

/// How long both connections may take at the start, once the server was found to be one that will do.
const FIRST_CONNECTIONS: Duration = Duration::from_secs(3);

/// Starts the backplane's thread where the server has one; `poll` is one of the shards', which a forked child knows.
pub(super) fn start_backplane(
    context: &Arc<Context>,
    poll: Option<RawFd>,
) -> Result<Option<BackplaneThread>, StartError> {
    let directory = &context.directory;
    let (Some(config), Some(sharing)) = (&directory.config.backplane, &directory.sharing) else { return Ok(None) };
    let Some(received) = sharing.take_received() else { return Ok(None) };
    let address = Address::parse(&config.url);
    let address = address.map_err(|error| StartError::BadBackplane { reason: error.to_string() })?;
    let rules = Rules { process: new_process()?, timeout: config.timeout, trust: config.trust };
    let (there, is_there) = mpsc::sync_channel(1);
    let disconnecting = Arc::clone(context);
    let copies = LocalCopies {
        directory: Arc::clone(directory),
        disconnect: Box::new(move |reader, before| {
            rights::disconnect(&disconnecting, reader, before);
        }),
        there,
    };
    let (prefix, process) = (config.prefix.clone(), Arc::clone(&rules.process));
    let (logs, once) = (directory.logs.clone(), OncePerSecond::default());
    let lost = move |why: &str| {
        if once.may_log().is_some() {
            logs.put(Level::Warning, "sse_fast.backplane", why.to_owned());
        }
    };
    let start = Start { rules, asks: sharing.asks(), received, copies: Box::new(copies), watched: poll };
    let connect = async move || {
        let connected = redis::connect(address, &prefix, &process, lost).await;
        connected.map_err(|error| error.to_string())
    };
    match BackplaneThread::start(start, connect) {
        Ok(thread) => {
            // The server was there a moment ago. Where it is away again, requests and publishes are told so.
            let _ = is_there.recv_timeout(FIRST_CONNECTIONS);
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
    Ok(format!("{:032x}", u128::from_ne_bytes(random)).into())
}
