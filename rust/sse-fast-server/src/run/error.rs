//! Why a run could not be started, or could not be sent a signal.
//!
//! Owns: the words of these errors; one variant for each cause that a caller can act on, with the value that caused it.
//! Must not know: Python's exceptions, which the binding maps them to.
//! Changes together with: `spec`, which finds most of them before a process exists, and the binding's `errors`.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// What to do about a stream that a run writes.
const ADVICE: &str = "wait for that run or kill() it, or give this one a stream of another name";

/// Why a run could not be started (no process is left then), or could not be sent a signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `argv` is empty, or its first element is.
    #[error("cannot start a run: argv names no program")]
    EmptyArgv,
    /// An argument holds a NUL byte, which no process can be given.
    #[error("cannot start a run: argv[{index}] holds a NUL byte: {value:?}")]
    NulInArgument {
        /// Its place in `argv`.
        index: usize,
        /// The argument.
        value: OsString,
    },
    /// A variable's name is empty or holds `=` or NUL, or its value holds NUL.
    #[error("cannot start a run: not a name and value for an environment: {name:?}")]
    BadVariable {
        /// The variable's name.
        name: OsString,
    },
    /// The marker is empty, too long, or holds CR, LF or NUL.
    #[error("cannot start a run: the marker must be 1 to {limit} bytes without CR, LF and NUL: {marker:?}")]
    BadMarker {
        /// The marker.
        marker: String,
        /// The longest marker in bytes.
        limit: usize,
    },
    /// Lines cannot become events of that name.
    #[error("cannot start a run: lines={name:?} is no name of an event: {why}")]
    BadLines {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The working directory holds a NUL byte, or is empty.
    #[error("cannot start a run: cwd must be a path that is not empty and holds no NUL byte: {cwd:?}")]
    NoPath {
        /// The directory.
        cwd: PathBuf,
    },
    /// The working directory does not exist or cannot be entered.
    #[error("cannot start a run in the directory {cwd:?}: {source}")]
    BadCwd {
        /// The directory.
        cwd: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program does not exist, or the interpreter that its first line names.
    #[error("cannot start a run: program not found: {program:?}")]
    NotFound {
        /// The program as given.
        program: OsString,
    },
    /// The program may not be executed.
    #[error("cannot start a run: no permission to execute {program:?}")]
    NoPermission {
        /// The program as given.
        program: OsString,
    },
    /// The system refused for another reason, such as too many processes or a file that is not an executable.
    #[error("cannot start {program:?}: {source}")]
    System {
        /// The program as given.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// A signal was not sent: there is no such signal, or the process changed its user.
    #[error("cannot send signal {number} to the run's process {pid}: {source}")]
    Signal {
        /// The process.
        pid: u32,
        /// The signal's number.
        number: i32,
        /// What the system said.
        source: io::Error,
    },
    /// Another run writes into the stream, and would end it under this one.
    #[error("cannot start a run: {writer} still writes into the stream {stream:?}: {ADVICE}")]
    StreamTaken {
        /// The stream's name.
        stream: String,
        /// The run that writes.
        writer: String,
    },
    /// The server is shutting down.
    #[error("cannot start a run: the server is shutting down")]
    ShuttingDown,
}
