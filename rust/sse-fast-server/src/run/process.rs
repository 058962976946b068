//! The child as the operating system sees it: why it did not start, exit without reaping, signals by name.
//!
//! Owns: system calls about processes.
//! Must not know: streams, markers, timers of a run.
//! Invariants: seeing an exit does not reap (`waitid` with `NOWAIT`). So the pid and its group stay reserved until
//! `handle` reaps the child, and a signal never reaches another process.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::RunError;

/// How often the exit is checked where the system has no pidfd.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The signals that a run may meet, by the name that the terminal event carries.
const SIGNALS: [(Signal, &str); 26] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::CHILD, "SIGCHLD"),
    (Signal::CONT, "SIGCONT"),
    (Signal::STOP, "SIGSTOP"),
    (Signal::TSTP, "SIGTSTP"),
    (Signal::TTIN, "SIGTTIN"),
    (Signal::TTOU, "SIGTTOU"),
    (Signal::XCPU, "SIGXCPU"),
    (Signal::XFSZ, "SIGXFSZ"),
    (Signal::VTALARM, "SIGVTALRM"),
    (Signal::PROF, "SIGPROF"),
    (Signal::SYS, "SIGSYS"),
];

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Something else in this process reaped it (`waitpid(-1)`, SIGCHLD ignored), so its code is lost.
    Unknown,
}

impl Exit {
    /// Popen's return code: a signal is negative. An unknown exit is 255, never a success.
    pub(super) fn return_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => -signal,
            Self::Unknown => 255,
        }
    }
}

/// The name of a signal; `SIG<number>` for one that has none.
pub(super) fn signal_name(number: i32) -> String {
    let known = SIGNALS.iter().find(|(signal, _)| signal.as_raw() == number);
    known.map_or_else(|| format!("SIG{number}"), |(_, name)| (*name).to_owned())
}

/// Why a program could not be started, from what the system said.
pub(super) fn not_started(program: OsString, source: io::Error) -> RunError {
    match source.kind() {
        io::ErrorKind::NotFound => RunError::NotFound { program },
        io::ErrorKind::PermissionDenied => RunError::NoPermission { program },
        _ => RunError::System { program, source },
    }
}

/// The pid of a child that was not reaped. Every pid that the system gives fits, so `None` does not happen.
pub(super) fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Returns when the process has exited. Cancel-safe; does not reap.
pub(super) async fn exited(pid: Pid) -> Exit {
    if let Some(pidfd) = watched_pidfd(pid) {
        // An error means that the runtime is shutting down. The loop below asks the system itself, or is dropped.
        let _ = pidfd.readable().await;
    }
    loop {
        if let Some(exit) = peek(pid) {
            return exit;
        }
        tokio::time::sleep(EXIT_POLL_INTERVAL).await;
    }
}

/// A descriptor that becomes readable at the exit; `None` where the system has none.
fn watched_pidfd(pid: Pid) -> Option<AsyncFd<OwnedFd>> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    #[allow(deprecated, reason = "unsound only for types whose descriptor can change, which an OwnedFd's cannot")]
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}

/// How the process ended, if it did, leaving it to be reaped.
fn peek(pid: Pid) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::Pid(pid), options) {
        Ok(None) | Err(rustix::io::Errno::INTR) => None,
        Ok(Some(status)) => {
            let code = status.exit_status().map(Exit::Code);
            Some(code.or(status.terminating_signal().map(Exit::Signal)).unwrap_or(Exit::Unknown))
        }
        Err(_) => Some(Exit::Unknown),
    }
}
