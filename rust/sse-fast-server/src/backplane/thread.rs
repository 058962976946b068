//! The backplane's thread: a runtime of its own, in which the machine runs over its wires.
//!
//! Owns: the thread from start to end. Must not know: what the machine decides, what asks come to. Invariants: it has started
//! once both connections were up, or is gone; it ends when it was told to ([`Ask::Close`]), or when nobody can ask any more,
//! and with it everything that it holds.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::protocol::Wires;
use super::{Answer, Ask, Asks, Copies, Counts, Rules, drive};

/// How long the end may take beyond the time that an ask may wait: connections are shut, nothing else.
const GRACE: Duration = Duration::from_millis(500);

/// A thread that runs.
pub(crate) struct BackplaneThread {
    asks: Asks,
    timeout: Duration,
    counts: Arc<Mutex<Counts>>,
    /// Ends it where it does not end by itself; dropping it does, too.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What it is started with.
pub(crate) struct Start {
    pub(crate) rules: Rules,
    pub(crate) asks: Asks,
    pub(crate) received: UnboundedReceiver<Ask>,
    pub(crate) copies: Box<dyn Copies>,
    /// A poll of the engine's that is open as long as this runs: a forked child knows the runtime's poll by it.
    pub(crate) watched: Option<RawFd>,
}

/// Why it did not start.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// The system refused.
    Io(io::Error),
    /// The server could not be reached: what happened.
    Unreachable(String),
}

impl BackplaneThread {
    /// Starts it, and waits until both connections are up.
    pub(crate) fn start<W, C>(start: Start, connect: impl FnOnce() -> C + Send + 'static) -> Result<Self, NotStarted>
    where
        W: Wires,
        C: Future<Output = Result<W, String>>,
    {
        let Start { rules, asks, received, copies, watched } = start;
        let (counts, timeout) = (Arc::<Mutex<Counts>>::default(), rules.timeout);
        let counted = Arc::clone(&counts);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NotStarted::Io)?;
        let (told, started) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                let _watched = watched.and_then(watch);
                match connect().await {
                    Ok(wires) => {
                        // Who started it waits for this.
                        let _ = told.send(Ok(()));
                        let counted = |counts: &Counts| counted.lock().clone_from(counts);
                        tokio::select! {
                            () = drive(rules, wires, received, &*copies, counted) => {}
                            _ = stopped => {}
                        }
                    }
                    Err(reason) => drop(told.send(Err(reason))),
                }
            });
            // Looking a name up may still be under way.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("sse-fast-backplane".to_owned()).spawn(run);
        let thread = thread.map_err(NotStarted::Io)?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { asks, timeout, counts, stop, thread }),
            Ok(Err(reason)) => {
                let _ = thread.join();
                Err(NotStarted::Unreachable(reason))
            }
            Err(_) => Err(NotStarted::Unreachable("its thread ended".to_owned())),
        }
    }

    /// What it has counted.
    pub(crate) fn counts(&self) -> Arc<Mutex<Counts>> {
        Arc::clone(&self.counts)
    }

    /// Gives back what this process holds elsewhere, and ends the thread.
    pub(crate) fn close(self) {
        let (told, closed) = mpsc::sync_channel(1);
        // Nobody waits any more where it took too long.
        let answer = Answer::new(move |_| {
            let _ = told.try_send(());
        });
        self.asks.ask(Ask::Close { answer });
        let _ = closed.recv_timeout(self.timeout + GRACE);
        drop(self.stop);
        let _ = self.thread.join();
    }
}

/// A poll that is watched for what never happens to it.
struct Poll(RawFd);

impl AsRawFd for Poll {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Has the runtime's poll watch another, which costs nothing.
#[cfg(target_os = "linux")]
fn watch(poll: RawFd) -> Option<AsyncFd<Poll>> {
    #[allow(deprecated, reason = "sound for what stays open longer; what replaces it is unsafe")]
    AsyncFd::with_interest(Poll(poll), Interest::PRIORITY).ok()
}

/// Only where children are known to tell polls apart.
#[cfg(not(target_os = "linux"))]
fn watch(_poll: RawFd) -> Option<AsyncFd<Poll>> {
    None
}
