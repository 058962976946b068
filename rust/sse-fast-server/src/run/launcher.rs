//! The thread that starts children, and that they die with.
//!
//! Owns: that thread, from the first run until the server has ended its runs. On Linux a child is killed when the
//! *thread* that started it ends (`parent_death`), so children are not started by threads of the application, which come
//! and go, nor by the runtime's, which end when they are idle.
//! Must not know: what is started, what becomes of it.
//! States: idle -> running (the first start) -> ended (`end`), or idle -> ended; nothing is started after that.
//! Invariant: the thread ends after the last child that it started was handed over.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::parent_death;

/// Starts children, one after another.
#[derive(Default)]
pub(super) struct Launcher {
    /// Held to hand a command over and to end, never while a child starts.
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    /// Nothing was started yet: a server without runs has no such thread.
    #[default]
    Idle,
    Running(Sender<Job>, JoinHandle<()>),
    Ended,
}

/// A command, and where its child goes.
struct Job {
    command: Command,
    started: Sender<io::Result<Child>>,
}

impl Launcher {
    /// Starts the command and returns once the child executes its program; `None` after the end.
    pub(super) fn start(&self, mut command: Command) -> Option<io::Result<Child>> {
        parent_death::tie(&mut command);
        let (started, child) = channel();
        match self.hand_over(Job { command, started }) {
            Ok(true) => child.recv().ok(),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Gives the job to the thread; false after the end.
    fn hand_over(&self, job: Job) -> io::Result<bool> {
        let mut state = self.state.lock();
        if let State::Idle = *state {
            let (jobs, received) = channel();
            let thread = thread::Builder::new().name("sse-fast-runs".to_owned()).spawn(move || launch(&received))?;
            *state = State::Running(jobs, thread);
        }
        match &*state {
            State::Running(jobs, _) => Ok(jobs.send(job).is_ok()),
            State::Idle | State::Ended => Ok(false),
        }
    }

    /// Ends the thread, and with it what it started and what still runs. Blocks while a child starts.
    pub(super) fn end(&self) {
        let ended = std::mem::replace(&mut *self.state.lock(), State::Ended);
        if let State::Running(jobs, thread) = ended {
            drop(jobs);
            // A panic in it was its last word.
            let _ = thread.join();
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(jobs: &Receiver<Job>) {
    while let Ok(Job { mut command, started }) = jobs.recv() {
        if let Err(unwanted) = started.send(command.spawn())
            && let Ok(mut child) = unwanted.0
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
