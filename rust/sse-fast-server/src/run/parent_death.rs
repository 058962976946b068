//! The tie between a child and the thread that starts it: when the thread ends the child is killed, whatever ended it.
//!
//! Owns: the one piece of code of this workspace that runs between `fork` and `exec`, and so its one `unsafe` block.
//! Must not know: who starts what. Linux alone has the tie (`PR_SET_PDEATHSIG`); elsewhere this does nothing, and a child
//! lives on when its server is killed.
//! Invariants: what runs in the child is two system calls. The signal is SIGKILL: a child that handles SIGTERM has nobody
//! left to be slow for. The kernel takes the tie from a program that changes its user when it is executed (setuid).

use std::process::Command;

/// Ties the child that `command` will start to the thread that will start it.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library has no safe way to ask for this in the child")]
pub(super) fn tie(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;

    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let parent = getpid();
    let tied = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before: then there is no thread whose end would come.
        if getppid() == Some(parent) { Ok(()) } else { Err(rustix::io::Errno::SRCH.into()) }
    };
    // SAFETY: the closure runs in the child of a process with threads, where only what is safe in a signal handler may be
    // done. It makes two system calls, `prctl` and `getppid`. It allocates nothing, takes no lock, and touches no memory but
    // its copy of `parent`: an `io::Error` made of an error's number is that number, and dropping one does nothing.
    unsafe {
        command.pre_exec(tied);
    }
}

/// Nothing: the system cannot be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn tie(_command: &mut Command) {}
