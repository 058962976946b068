//! All runs of a server: starting them, and ending them when it shuts down.
//!
//! Owns: the set of live runs.
//! Must not know: what a run does between its start and its end.
//! Invariants: a run is in the set from its start until its terminal event. After `stop_all` no run starts, and one
//! that was just starting is stopped like the others. No two runs write into one stream: a run has its place there from
//! before its process exists until it has ended.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use sse_fast_core::event::MAX_EVENT_BYTES;
use sse_fast_core::lines::{MarkedLines, Markers};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::handle::{Run, Stop};
use super::launcher::Launcher;
use super::pipe::{Pipe, receiver, sender, write_all};
use super::process::{self, Exit};
use super::publisher::Publisher;
use super::supervise::{Reading, Supervisor};
use super::{EventSink, RunError, RunSpec};
use crate::logs::{Level, Logs};

/// The logger of all records about runs.
const LOGGER: &str = "sse_fast.run";

/// The runs of one server. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    set: Arc<RunSet>,
}

struct RunSet {
    /// The control runtime, on which runs are supervised; `None` once it has ended, for a handle keeps its descriptors.
    runtime: Mutex<Option<Handle>>,
    /// Starts the children, which on Linux die with its thread.
    launcher: Launcher,
    logs: Logs,
    /// The most bytes that an event may have.
    event_limit: usize,
    /// Held to add, remove and list runs. No run is started under it.
    live: Mutex<LiveRuns>,
    /// How many runs are live; `stop_all` waits on it.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct LiveRuns {
    /// The runs by number, which unlike a pid is used once.
    runs: HashMap<u64, Run>,
    /// The number of the next run.
    next: u64,
    /// Who writes into each stream, by the stream's number.
    writers: HashMap<u64, Writer>,
    /// Set by `stop_all` and never cleared.
    stop: Option<Stop>,
}

/// The run that writes into a stream.
struct Writer {
    program: OsString,
    /// `None` while it starts.
    pid: Option<u32>,
}

impl Runs {
    /// The runs of a server whose control runtime is `handle` (with I/O and time enabled). What children print, and
    /// what happens to them, goes to `logs`.
    pub fn new(handle: Handle, logs: Logs) -> Self {
        Self::with_limit(handle, logs, MAX_EVENT_BYTES)
    }

    /// The same, with another limit for an event's bytes.
    pub fn with_limit(handle: Handle, logs: Logs, event_limit: usize) -> Self {
        let (count, _) = watch::channel(0);
        let (runtime, launcher) = (Mutex::new(Some(handle)), Launcher::default());
        Self { set: Arc::new(RunSet { runtime, launcher, logs, event_limit, live: Mutex::default(), count }) }
    }

    /// Starts a child whose marked lines are published into `sink`. Blocks until the child executes its
    /// program: not for the runtime's own threads.
    ///
    /// # Errors
    /// The spec is wrong, the system refused, or the server is shutting down. Nothing was started then.
    pub fn start(&self, spec: &RunSpec, sink: Arc<dyn EventSink>) -> Result<Run, RunError> {
        if self.is_stopping() {
            return Err(RunError::ShuttingDown);
        }
        let program = spec.argv.first().cloned().unwrap_or_default();
        let prepared = spec.prepare()?;
        let place = self.place(spec, &sink)?;
        let started = Instant::now();
        let child = self.set.launcher.start(prepared.command).ok_or(RunError::ShuttingDown)?;
        let child = child.map_err(|source| process::not_started(program, source))?;
        self.adopt(spec, (child, started), &prepared.markers, sink, place)
    }

    /// Whether a run may be started that writes into the stream of this number.
    ///
    /// # Errors
    /// Another run writes into it.
    pub fn check_free(&self, number: u64, name: &str) -> Result<(), RunError> {
        self.set.live.lock().check_free(number, name)
    }

    /// How many runs have not published their terminal event yet.
    #[must_use]
    pub fn live(&self) -> usize {
        self.set.live.lock().runs.len()
    }

    /// Ends all runs and refuses new ones: SIGTERM, after each run's grace SIGKILL, terminal events. SIGKILL
    /// comes after three quarters of `drain` at the latest, so that the terminal events still get out.
    /// Returns when all have ended, or after `drain`, with the number of those that have not.
    pub async fn stop_all(&self, drain: Duration) -> usize {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600 * 24);
        let end_at = now.checked_add(drain).unwrap_or(far);
        let stop = Stop { kill_at: now.checked_add(drain / 4 * 3).unwrap_or(far), end_at };
        self.set.live.lock().request_stop(stop);
        let mut count = self.set.count.subscribe();
        // After the deadline, and also after an error, the count below is the answer.
        let _ = tokio::time::timeout_at(end_at.into(), count.wait_for(|count| *count == 0)).await;
        self.live()
    }

    /// Lets the control runtime go, which has ended, and the thread that starts children.
    pub fn let_go(&self) {
        self.set.runtime.lock().take();
        self.set.launcher.end();
    }

    /// Takes the place of the one run that writes into a stream, for as long as the returned value lives.
    pub(super) fn place(&self, spec: &RunSpec, sink: &Arc<dyn EventSink>) -> Result<Place, RunError> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let mut live = self.set.live.lock();
        live.check_free(sink.number(), &spec.stream_name)?;
        live.writers.insert(sink.number(), Writer { program, pid: None });
        drop(live);
        Ok(Place { set: Arc::clone(&self.set), sink: Arc::clone(sink) })
    }

    /// Puts a started child under supervision. On an error it is killed.
    pub(super) fn adopt(
        &self,
        spec: &RunSpec,
        (mut child, started): (Child, Instant),
        markers: &Markers,
        sink: Arc<dyn EventSink>,
        place: Place,
    ) -> Result<Run, RunError> {
        let Some(runtime) = self.set.runtime.lock().clone() else {
            put_down(&mut child);
            return Err(RunError::ShuttingDown);
        };
        let _context = runtime.enter();
        let (ends, pid) = match taken_over(&mut child) {
            Ok(taken) => taken,
            Err(source) => {
                put_down(&mut child);
                // A runtime that has ended refuses pipes.
                return Err(if self.is_stopping() { RunError::ShuttingDown } else { spec.refused(source) });
            }
        };
        let run = Run::new(child, pid);
        let (limit, log) = (self.set.event_limit, self.set.logs.source(LOGGER, &format!("{}: ", spec.stream_name)));
        log.put(Level::Debug, &format!("started {:?} as pid {}", spec.argv, run.pid()));
        let publisher = Publisher::new(sink, log.clone(), Arc::clone(&run.shared), spec.lines.clone(), limit);
        let publisher = Arc::new(publisher);
        let (stop_reading, stop) = watch::channel(false);
        if let (Some(stdin), Some(bytes)) = (ends.stdin, spec.stdin.clone()) {
            runtime.spawn(write_all(stdin, bytes, stop.clone(), log.clone()));
        }
        let pipe = |name| Pipe {
            name,
            lines: MarkedLines::new(markers.clone(), limit),
            publishes_lines: spec.lines.is_some(),
            publisher: Arc::clone(&publisher),
            log: log.clone(),
        };
        let out = pipe("stdout").read_to_end(ends.stdout, stop.clone());
        let err = pipe("stderr").read_to_end(ends.stderr, stop);
        let reading: Reading = Box::pin(async { _ = tokio::join!(out, err) });
        let supervisor = Supervisor {
            shared: Arc::clone(&run.shared),
            publisher,
            log,
            started: started.into(),
            timeout: spec.timeout,
            grace: spec.grace,
            drain: spec.drain,
            event_limit: limit,
            stop_reading,
        };
        let registration = self.set.add(run.clone(), place);
        runtime.spawn(async move {
            supervisor.run(reading).await;
            drop(registration);
        });
        if was_dropped(&run) { Err(RunError::ShuttingDown) } else { Ok(run) }
    }

    fn is_stopping(&self) -> bool {
        self.set.live.lock().stop.is_some()
    }
}

/// This side's ends of a child's pipes.
struct Ends {
    stdout: Receiver,
    stderr: Receiver,
    /// Where the child has an input.
    stdin: Option<Sender>,
}

/// The child's pipes, to be used on the runtime that was entered, and its pid.
fn taken_over(child: &mut Child) -> io::Result<(Ends, Pid)> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("the process has no pipes"));
    };
    let pid = process::pid_of(child).ok_or_else(|| io::Error::other("the process has no pid"))?;
    let stdin = child.stdin.take().map(sender).transpose()?;
    Ok((Ends { stdout: receiver(stdout)?, stderr: receiver(stderr)?, stdin }, pid))
}

/// Ends a child that nothing supervises.
fn put_down(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Whether the runtime had ended and dropped the run's task, which killed the child; it is reaped then.
fn was_dropped(run: &Run) -> bool {
    let dropped = run.ended() && run.poll().is_none();
    if dropped {
        run.shared.set_exit(Exit::Signal(Signal::KILL.as_raw()));
        run.shared.reap();
    }
    dropped
}

impl RunSet {
    /// Adds a run for as long as the returned registration lives.
    fn add(self: &Arc<Self>, run: Run, place: Place) -> Registration {
        let mut live = self.live.lock();
        if let Some(writer) = live.writers.get_mut(&place.sink.number()) {
            writer.pid = Some(run.pid());
        }
        let number = live.next;
        live.next += 1;
        if let Some(stop) = live.stop {
            run.shared.stop.send_replace(Some(stop));
        }
        live.runs.insert(number, run);
        self.count.send_replace(live.runs.len());
        Registration { set: Arc::clone(self), number, _place: place }
    }
}

impl LiveRuns {
    fn check_free(&self, number: u64, stream: &str) -> Result<(), RunError> {
        let Some(Writer { program, pid }) = self.writers.get(&number) else { return Ok(()) };
        let program = program.to_string_lossy();
        let pid = pid.map_or_else(|| "just starting".to_owned(), |pid| format!("pid {pid}"));
        Err(RunError::StreamTaken { stream: stream.to_owned(), writer: format!("the run of {program:?} ({pid})") })
    }

    fn request_stop(&mut self, stop: Stop) {
        self.stop = Some(stop);
        for run in self.runs.values() {
            run.shared.stop.send_replace(Some(stop));
        }
    }
}

/// Keeps a run in the set. It is dropped when the run's task ends, or with the runtime, before the task began or in its
/// middle: then nothing will read the child's pipes any more, and who waits for the run is told.
struct Registration {
    set: Arc<RunSet>,
    number: u64,
    /// Given back last: the run has ended.
    _place: Place,
}

/// The place of the one run that writes into a stream.
pub(super) struct Place {
    set: Arc<RunSet>,
    /// Held, so that no other stream gets its number.
    sink: Arc<dyn EventSink>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set.live.lock().writers.remove(&self.sink.number());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let run = self.set.live.lock().runs.get(&self.number).cloned();
        if let Some(run) = run {
            run.shared.abandon();
        }
        let mut live = self.set.live.lock();
        let gone = live.runs.remove(&self.number);
        self.set.count.send_replace(live.runs.len());
        drop((live, gone));
    }
}
