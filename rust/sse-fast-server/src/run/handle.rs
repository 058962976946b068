//! The handle of a run, with Popen's manners, and the state it shares with the task that supervises it.
//!
//! Owns: what is known about the run (exit, last event, ended), waiting for it, signals to its group.
//! Must not know: pipes, timers, sinks.
//! Invariants: a signal is sent only under the lock under which the child is also reaped, and only while
//! it is not; whoever waits is woken by every change, also when the supervising task is dropped.

use std::io;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;

use super::RunError;
use super::outcome::{self, LastEvent};
use super::process::Exit;

/// A child process whose marked lines are a stream. Cheap to clone; dropping it leaves the run alone.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) shared: Arc<Shared>,
}

/// What the handle and the supervising task share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The process, which is also the leader and the name of its group.
    pub(super) pid: Pid,
    /// Everything that changes. Nothing waits or does I/O under it, except reaping a process that is
    /// already dead, which does not wait.
    state: Mutex<State>,
    /// Notified at exit and at the end.
    changed: Condvar,
    /// Asks the supervising task to end the run.
    pub(super) stop: watch::Sender<Option<Stop>>,
}

#[derive(Debug)]
struct State {
    /// `None` once it was reaped: its pid may then be somebody else's.
    child: Option<Child>,
    /// Set when the exit was seen, which may be before the child is reaped.
    exit: Option<Exit>,
    /// The last event of the child that was not a heartbeat.
    last: Option<LastEvent>,
    /// The terminal event was published.
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
        let state = State { child: Some(child), exit: None, last: None, ended: false };
        let (stop, _) = watch::channel(None);
        Self { shared: Arc::new(Shared { pid, state: Mutex::new(state), changed: Condvar::new(), stop }) }
    }

    /// The child's process id; also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.shared.pid.as_raw_pid().unsigned_abs()
    }

    /// Popen's return code: `None` while the child runs, negative when a signal ended it, 255 when
    /// somebody else reaped it so that nobody can know.
    #[must_use]
    pub fn poll(&self) -> Option<i32> {
        self.shared.lock().exit.map(Exit::return_code)
    }

    /// Waits for the child's exit, for ever without a timeout. Blocks; call it detached. `None` when the
    /// time is over, or when the run has ended without its exit being seen: the engine was stopped.
    #[must_use]
    pub fn wait(&self, timeout: Option<Duration>) -> Option<i32> {
        let over = |state: &State| (state.ended || state.exit.is_some()).then_some(state.exit);
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
        self.shared.lock().ended
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
        self.shared.lock().last.as_ref()?.status.clone()
    }

    /// The data of that event as JSON text: as it is where it is JSON, else as a JSON string.
    #[must_use]
    pub fn result(&self) -> Option<String> {
        let data = self.shared.lock().last.as_ref()?.data.clone();
        data.map(|data| outcome::json_text(&data))
    }
}

impl Shared {
    /// A panic under the lock leaves plain values that are still right.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until<T>(&self, timeout: Option<Duration>, ready: impl Fn(&State) -> Option<T>) -> Option<T> {
        // A timeout beyond what the clock can count is for ever.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.lock();
        loop {
            if let Some(found) = ready(&state) {
                return Some(found);
            }
            let Some(deadline) = deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A signal to the group, unless the child's exit was seen.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), RunError> {
        let state = self.lock();
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
        let state = self.lock();
        if state.child.is_some() {
            // Whatever the system says, nothing better can be done.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }

    /// The exit was seen; from here on `poll` knows it and signals are not sent.
    pub(super) fn set_exit(&self, exit: Exit) {
        self.lock().exit.get_or_insert(exit);
        self.changed.notify_all();
    }

    /// Reaps a child whose exit was seen.
    pub(super) fn reap(&self) {
        let mut state = self.lock();
        if state.exit.is_some()
            && let Some(mut child) = state.child.take()
        {
            // It is dead: this does not wait. An error means that somebody else reaped it.
            let _ = child.wait();
        }
    }

    pub(super) fn set_last(&self, last: LastEvent) {
        self.lock().last = Some(last);
    }

    pub(super) fn last(&self) -> Option<LastEvent> {
        self.lock().last.clone()
    }

    pub(super) fn set_ended(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// The supervising task is gone, run through or dropped with its runtime. In the second case nobody
    /// will ever read this child's pipes again: it is killed, and whoever waits is woken without an exit.
    pub(super) fn abandon(&self) {
        self.kill_rest();
        self.set_ended();
    }
}
