//! The specification of a run, and the command made from it.
//!
//! Owns: checking a [`RunSpec`], the child's environment, the random marker.
//! Must not know: what happens once the process exists.
//! Invariants: a [`PreparedCommand`] can fail to start only for a reason of the operating system. Its marker has 128
//! fresh random bits, and only this run's child is given it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sse_fast_core::error::EventError;
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::lines::Markers;

use super::RunError;

/// Names the marker to the child; `sse_fast.runner` reads it.
const MARKER_VARIABLE: &str = "SSE_FAST_MARKER";
/// Makes a Python child write each line at once; into a pipe it would otherwise collect 8 KiB first.
const UNBUFFERED_VARIABLE: &str = "PYTHONUNBUFFERED";
/// Long enough for any readable marker, and much shorter than the start that is kept of a long line.
const MARKER_BYTES: usize = 256;

/// A child process to start.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// The program and its arguments; the program is looked up in `PATH`.
    pub argv: Vec<OsString>,
    /// Its working directory; the server's own where not given.
    pub cwd: Option<PathBuf>,
    /// Its whole environment; the server's own where not given. `SSE_FAST_MARKER` is always set, and
    /// `PYTHONUNBUFFERED=1` unless the environment says something about it.
    pub env: Option<Vec<(OsString, OsString)>>,
    /// What it reads from its standard input, which then ends; `None` gives it an empty one.
    pub stdin: Option<Vec<u8>>,
    /// The fixed marker that every program may use; `None` accepts only the run's random one.
    pub marker: Option<String>,
    /// The name of the event that every other line becomes; `None` hands these lines to the logger.
    pub lines: Option<String>,
    /// How long it may take before it is ended.
    pub timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// How long pipes that stay open after the exit are still read.
    pub drain: Duration,
    /// What log lines begin with.
    pub stream_name: String,
}

/// A checked spec: the command and the markers of its output.
pub(super) struct PreparedCommand {
    pub(super) command: Command,
    pub(super) markers: Markers,
}

impl RunSpec {
    /// The run was not started, for what the system said.
    pub(super) fn refused(&self, source: std::io::Error) -> RunError {
        RunError::System { program: self.argv.first().cloned().unwrap_or_default(), source }
    }

    pub(super) fn prepare(&self) -> Result<PreparedCommand, RunError> {
        let (program, arguments) = self.checked_argv()?;
        let random = random_marker().map_err(|source| self.refused(source))?;
        let mut command = Command::new(program);
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(cwd) = &self.cwd {
            check_cwd(cwd)?;
            command.current_dir(cwd);
        }
        self.set_environment(&mut command, &random)?;
        let fixed = self.checked_marker()?.map(|marker| marker.as_bytes().to_vec());
        self.check_lines()?;
        Ok(PreparedCommand { command, markers: Markers { random: random.into_bytes(), fixed } })
    }

    fn checked_argv(&self) -> Result<(&OsString, &[OsString]), RunError> {
        let (program, arguments) = self.argv.split_first().ok_or(RunError::EmptyArgv)?;
        if program.is_empty() {
            return Err(RunError::EmptyArgv);
        }
        match self.argv.iter().position(|argument| has_nul(argument)) {
            Some(index) => Err(RunError::NulInArgument { index, value: self.argv[index].clone() }),
            None => Ok((program, arguments)),
        }
    }

    fn checked_marker(&self) -> Result<Option<&str>, RunError> {
        match self.marker.as_deref() {
            Some(marker) if marker.is_empty() || marker.len() > MARKER_BYTES || marker.contains(['\r', '\n', '\0']) => {
                Err(RunError::BadMarker { marker: marker.to_owned(), limit: MARKER_BYTES })
            }
            marker => Ok(marker),
        }
    }

    fn check_lines(&self) -> Result<(), RunError> {
        let Some(name) = &self.lines else { return Ok(()) };
        if name.is_empty() {
            return Err(RunError::BadLines { name: String::new(), why: "event must not be empty".to_owned() });
        }
        let event = NewEvent { data: b"", event: Some(name), id: None, retry: None, snapshot: None };
        let refused = |error: EventError| RunError::BadLines { name: name.clone(), why: error.to_string() };
        event::check(&event).map(drop).map_err(refused)
    }

    fn set_environment(&self, command: &mut Command, marker: &str) -> Result<(), RunError> {
        let says_buffering = match &self.env {
            None => std::env::var_os(UNBUFFERED_VARIABLE).is_some(),
            Some(variables) => {
                command.env_clear();
                for (name, value) in variables {
                    let bad_name = name.is_empty() || has_nul(name) || name.as_bytes().contains(&b'=');
                    if bad_name || has_nul(value) {
                        return Err(RunError::BadVariable { name: name.clone() });
                    }
                    command.env(name, value);
                }
                variables.iter().any(|(name, _)| name == UNBUFFERED_VARIABLE)
            }
        };
        if !says_buffering {
            command.env(UNBUFFERED_VARIABLE, "1");
        }
        command.env(MARKER_VARIABLE, marker);
        Ok(())
    }
}

/// Tells a missing directory from a missing program; starting the child gives the same error for both.
fn check_cwd(cwd: &Path) -> Result<(), RunError> {
    if cwd.as_os_str().is_empty() || has_nul(cwd.as_os_str()) {
        return Err(RunError::NoPath { cwd: cwd.to_owned() });
    }
    let refused = |source| RunError::BadCwd { cwd: cwd.to_owned(), source };
    match std::fs::metadata(cwd) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(refused(std::io::ErrorKind::NotADirectory.into())),
        Err(source) => Err(refused(source)),
    }
}

fn random_marker() -> std::io::Result<String> {
    let mut bits = [0_u8; 16];
    let refused = |error| std::io::Error::other(format!("no random bytes for its marker: {error}"));
    getrandom::fill(&mut bits).map_err(refused)?;
    let mut marker = String::from("SSE_EVENT-");
    for byte in bits {
        // Writing into a String cannot fail.
        let _ = write!(marker, "{byte:02x}");
    }
    marker.push(':');
    Ok(marker)
}

fn has_nul(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}
