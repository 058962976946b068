//! The handle of a run, which behaves as Python's `Popen`, and the state that it shares with the supervising task.
//!
//! Owns: what is known about the run (exit, last event, ended), waiting for it, signals to its group.
//! Must not know: pipes, timers, sinks.
//! Invariants: the child is reaped and signalled under one lock, and signalled only before it is reaped. Every change
//! of exit or end wakes all waiting threads; the end also comes when the supervising task is dropped.

use std::io;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;

use super::RunError;
use super::outcome::{self, LastEvent};
use super::process::Exit;

/// A child process whose marked lines are a stream. Cheap to clone; dropping it leaves the run alone.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) shared: Arc<RunShared>,
}

/// What the handle and the supervising task share.
#[derive(Debug)]
pub(super) struct RunShared {
    /// The process, which is also the leader of its group and gives it its number.
    pub(super) pid: Pid,
    /// Everything that changes. Nothing waits or does I/O under it, except reaping a process that is
    /// already dead, which does not wait.
    state: Mutex<RunState>,
    /// Notified at exit and at the end.
    changed: Condvar,
    /// Asks the supervising task to end the run.
    pub(super) stop: watch::Sender<Option<Stop>>,
}

#[derive(Debug)]
struct RunState {
    /// `None` once it was reaped: its pid may then be another process's.
    child: Option<Child>,
    /// Set when the exit was seen; the child may not be reaped yet.
    exit: Option<Exit>,
    /// The last event of the child that was not a heartbeat.
    last: Option<LastEvent>,
    /// Whether the terminal event was published, or never will be.
    ended: bool,
}

/// A request to end the run, because the server shuts down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// SIGKILL follows SIGTERM no later than this.
    pub(super) kill_at: Instant,
    /// Pipes are no longer read after this.
    pub(super) end_at: Instant,
}

impl Run {
    pub(super) fn new(child: Child, pid: Pid) -> Self {
        let state = RunState { child: Some(child), exit: None, last: None, ended: false };
        let (stop, _) = watch::channel(None);
        Self { shared: Arc::new(RunShared { pid, state: Mutex::new(state), changed: Condvar::new(), stop }) }
    }

    /// The child's process id; also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.pid.as_raw_pid().unsigned_abs()
    }

    /// Popen's return code: `None` while the child runs, negative when a signal ended it, 255 when
    /// something else in this process reaped it, so that its code is unknown.
    #[must_use]
    pub fn poll(&self) -> Option<i32> {
        self.shared.state.lock().exit.map(Exit::return_code)
    }

    /// Waits for the child's exit, without limit if there is no timeout. Blocks; call it detached. `None` when the
    /// time is over, or when the run ended without its exit being seen because the engine was stopped.
    #[must_use]
    pub fn wait(&self, timeout: Option<Duration>) -> Option<i32> {
        let over = |state: &RunState| (state.ended || state.exit.is_some()).then_some(state.exit);
        self.shared.wait_until(timeout, over).flatten().map(Exit::return_code)
    }

    /// Waits for the terminal event: the child has exited and everything it wrote is published. False when
    /// the time is over. Blocks; call it detached.
    #[must_use]
    pub fn wait_ended(&self, timeout: Option<Duration>) -> bool {
        self.shared.wait_until(timeout, |state| state.ended.then_some(())).is_some()
    }

    /// Whether the terminal event was published.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.shared.state.lock().ended
    }

    /// SIGTERM to the child's group; nothing after its exit.
    ///
    /// # Errors
    /// The system refused, such as for a child that changed its user.
    pub fn terminate(&self) -> Result<(), RunError> {
        self.shared.signal(Signal::TERM)
    }

    /// SIGKILL to the child's group; nothing after its exit.
    ///
    /// # Errors
    /// The system refused, such as for a child that changed its user.
    pub fn kill(&self) -> Result<(), RunError> {
        self.shared.signal(Signal::KILL)
    }

    /// A signal to the child's group; nothing after its exit.
    ///
    /// # Errors
    /// The number is no signal's (real-time signals are not supported), or the system refused.
    pub fn signal(&self, number: i32) -> Result<(), RunError> {
        let unknown = || RunError::Signal { pid: self.pid(), number, source: io::ErrorKind::InvalidInput.into() };
        self.shared.signal(Signal::from_named_raw(number).ok_or_else(unknown)?)
    }

    /// The name of the child's last event, where it has one; heartbeats do not count.
    #[must_use]
    pub fn status(&self) -> Option<String> {
        self.shared.state.lock().last.as_ref()?.status.clone()
    }

    /// The data of that event as JSON text: as it is where it is JSON, else as a JSON string.
    #[must_use]
    pub fn result(&self) -> Option<String> {
        let data = self.shared.state.lock().last.as_ref()?.data.clone();
        data.map(|data| outcome::json_text(&data))
    }
}

impl RunShared {
    fn wait_until<T>(&self, timeout: Option<Duration>, ready: impl Fn(&RunState) -> Option<T>) -> Option<T> {
        // A timeout too long for the clock is no timeout.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state.lock();
        loop {
            if let Some(found) = ready(&state) {
                return Some(found);
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) if deadline <= Instant::now() => return None,
                Some(deadline) => {
                    self.changed.wait_until(&mut state, deadline);
                }
            }
        }
    }

    /// Sends a signal to the group, unless the child's exit was seen.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), RunError> {
        let state = self.state.lock();
        if state.exit.is_some() || state.child.is_none() {
            return Ok(());
        }
        kill_process_group(self.pid, signal).map_err(|error| RunError::Signal {
            pid: self.pid.as_raw_pid().unsigned_abs(),
            number: signal.as_raw(),
            source: error.into(),
        })
    }

    /// SIGKILL to what is left of the group of a run that is being ended, while the unreaped child still
    /// keeps the group's number from being given to another.
    pub(super) fn kill_rest(&self) {
        let state = self.state.lock();
        if state.child.is_some() {
            // The group may be gone already; there is nothing else to try.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// Notes the exit. From here on `poll` gives it and no signal is sent.
    pub(super) fn set_exit(&self, exit: Exit) {
        self.state.lock().exit.get_or_insert(exit);
        self.changed.notify_all();
    }

    /// Reaps a child whose exit was seen.
    pub(super) fn reap(&self) {
        let mut state = self.state.lock();
        if state.exit.is_some()
            && let Some(mut child) = state.child.take()
        {
            // It is dead, so this does not wait. An error means that something else in this process reaped it.
            let _ = child.wait();
        }
    }

    pub(super) fn set_last(&self, last: LastEvent) {
        self.state.lock().last = Some(last);
    }

    pub(super) fn last(&self) -> Option<LastEvent> {
        self.state.lock().last.clone()
    }

    pub(super) fn set_ended(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// The supervising task is over: it finished, or was dropped with its runtime. In the second case nothing will read
    /// the child's pipes any more, so the child is killed, and waiting threads are woken without an exit.
    pub(super) fn abandon(&self) {
        self.kill_rest();
        self.set_ended();
    }
}
