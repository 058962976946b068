//! The life of a run, from its start to its terminal event.
//!
//! Owns: the order of the phases: running, being ended early (timeout, shutdown), reading the pipes to their end,
//! reaping, the terminal event.
//! Must not know: how lines are parsed or published.
//! Invariants: the terminal event comes once, after both pipes; every phase after the exit has a deadline; a run that
//! is ended early is reaped only after the rest of its group was killed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::handle::{RunShared, Stop};
use super::outcome::{Cause, RunOutcome};
use super::process::{Exit, exited};
use super::publisher::Publisher;
use crate::logs::{Level, LogSource};

/// A deadline for what has none: ten years, which every clock can still count.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// One run under supervision.
pub(super) struct Supervisor {
    pub(super) shared: Arc<RunShared>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) log: LogSource,
    /// The moment just before the process was started.
    pub(super) started: Instant,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) drain: Duration,
    pub(super) event_limit: usize,
    /// True tells the pipes to stop reading.
    pub(super) stop_reading: watch::Sender<bool>,
}

/// Both pipes being read.
pub(super) type Reading = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a run is being ended early.
struct Ending {
    cause: Cause,
    kill_at: Instant,
    killed: bool,
    /// Pipes are not read after this, where the server's shutdown says so.
    end_at: Option<Instant>,
}

impl Supervisor {
    /// Supervises the run until its terminal event is published.
    pub(super) async fn run(self, mut reading: Reading) {
        let mut read = false;
        let (exit, ending) = self.until_exit(&mut reading, &mut read).await;
        let duration = self.started.elapsed();
        if let Some(exit) = exit {
            self.shared.set_exit(exit);
            if ending.is_none() {
                self.shared.reap();
            }
        }
        if !read {
            self.until_read(reading, ending.as_ref()).await;
        }
        if ending.is_some() {
            self.shared.kill_rest();
            self.shared.reap();
        }
        self.end(RunOutcome { exit, last: self.shared.last(), duration, cause: ending.map(|ending| ending.cause) })
            .await;
        if exit.is_none() {
            // It hangs in the kernel. Its stream is over, but the process must be reaped once it exits.
            self.shared.set_ended();
            self.shared.set_exit(exited(self.shared.pid).await);
            self.shared.reap();
        }
    }

    /// Waits until the process has exited; `None` when not even SIGKILL ended it within `drain`.
    async fn until_exit(&self, reading: &mut Reading, read: &mut bool) -> (Option<Exit>, Option<Ending>) {
        let mut exit = std::pin::pin!(exited(self.shared.pid));
        let mut stop = self.shared.stop.subscribe();
        stop.mark_changed();
        let mut ending: Option<Ending> = None;
        loop {
            let next = match &ending {
                None => self.started + self.timeout.unwrap_or(NEVER).min(NEVER),
                Some(Ending { killed: false, kill_at, .. }) => *kill_at,
                Some(Ending { kill_at, .. }) => *kill_at + self.drain.min(NEVER),
            };
            tokio::select! {
                exit = &mut exit => return (Some(exit), ending),
                () = &mut *reading, if !*read => *read = true,
                Ok(()) = stop.changed() => {
                    let request = *stop.borrow_and_update();
                    if let Some(request) = request {
                        self.stop(request, &mut ending);
                    }
                }
                () = sleep_until(next) => match &mut ending {
                    None => ending = Some(self.time_out()),
                    Some(ending) if !ending.killed => self.kill(ending),
                    Some(_) => {
                        self.log.put(Level::Error, "the process does not exit, not even after SIGKILL");
                        return (None, ending);
                    }
                },
            }
        }
    }

    /// Waits until the pipes are read to their end. A grandchild may hold them open, but for no longer than `drain`.
    async fn until_read(&self, mut reading: Reading, ending: Option<&Ending>) {
        let mut deadline = Instant::now() + self.drain.min(NEVER);
        if let Some(ending) = ending {
            // The other processes of the group have their grace too, to write their last event.
            deadline = deadline.max(ending.kill_at);
            deadline = ending.end_at.map_or(deadline, |end_at| deadline.min(end_at));
        }
        let mut stop = self.shared.stop.subscribe();
        stop.mark_changed();
        loop {
            tokio::select! {
                () = &mut reading => return,
                Ok(()) = stop.changed() => {
                    let request = *stop.borrow_and_update();
                    deadline = request.map_or(deadline, |request| deadline.min(request.end_at.into()));
                }
                () = sleep_until(deadline) => break,
            }
        }
        self.stop_reading.send_replace(true);
        reading.await;
    }

    fn time_out(&self) -> Ending {
        let limit = self.timeout.unwrap_or_default();
        self.log.put(Level::Warning, &format!("SIGTERM after the timeout of {} s", limit.as_secs_f64()));
        self.terminate();
        let kill_at = Instant::now() + self.grace.min(NEVER);
        Ending { cause: Cause::Timeout(limit), kill_at, killed: false, end_at: None }
    }

    /// Ends the run because the server shuts down; a run that is being ended gets the earlier deadlines.
    fn stop(&self, request: Stop, ending: &mut Option<Ending>) {
        let ending = ending.get_or_insert_with(|| {
            self.log.put(Level::Info, "SIGTERM: the server is shutting down");
            self.terminate();
            let kill_at = Instant::now() + self.grace.min(NEVER);
            Ending { cause: Cause::Shutdown, kill_at, killed: false, end_at: None }
        });
        if !ending.killed {
            ending.kill_at = ending.kill_at.min(request.kill_at.into());
        }
        ending.end_at = Some(request.end_at.into());
    }

    fn terminate(&self) {
        if let Err(error) = self.shared.signal(Signal::TERM) {
            self.log.put(Level::Error, &error.to_string());
        }
    }

    fn kill(&self, ending: &mut Ending) {
        ending.killed = true;
        self.log.put(Level::Warning, "SIGKILL: the process did not exit after SIGTERM");
        self.shared.kill_rest();
    }

    async fn end(&self, outcome: RunOutcome) {
        let how = match outcome.exit {
            Some(Exit::Code(code)) => format!("exited with code {code}"),
            Some(Exit::Signal(number)) => {
                format!("ended by {}", super::process::signal_name(number))
            }
            Some(Exit::Unknown) => "exited; its code is unknown, because something else reaped it".to_owned(),
            None => "given up".to_owned(),
        };
        self.log.put(Level::Info, &format!("{how} after {:.3} s", outcome.duration.as_secs_f64()));
        let (publisher, limit) = (Arc::clone(&self.publisher), self.event_limit);
        if let Err(error) = tokio::task::spawn_blocking(move || publisher.end(&outcome, limit)).await {
            self.log.put(Level::Error, &format!("the terminal event is lost: {error}"));
        }
        self.shared.set_ended();
    }
}
