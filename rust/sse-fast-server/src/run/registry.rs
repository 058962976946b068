//! All runs of a server: starting them, and ending them when it shuts down.
//!
//! Owns: the set of live runs.
//! Must not know: what a run does between its start and its end.
//! Invariants: a run is in the set from its start until its terminal event. After `stop_all` no run starts, and one
//! that was just starting is stopped like the others.

use std::collections::HashMap;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sse_fast_core::event::MAX_EVENT_BYTES;
use sse_fast_core::lines::{MarkedLines, Markers};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::handle::{Run, Stop};
use super::pipe::{Pipe, receiver, sender, write_all};
use super::process;
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
    logs: Logs,
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
    /// Set by `stop_all` and never cleared.
    stop: Option<Stop>,
}

impl Runs {
    /// The runs of a server whose control runtime is `handle` (with I/O and time enabled). What children print, and
    /// what happens to them, goes to `logs`.
    pub fn new(handle: Handle, logs: Logs) -> Self {
        let (count, _) = watch::channel(0);
        Self { set: Arc::new(RunSet { runtime: Mutex::new(Some(handle)), logs, live: Mutex::default(), count }) }
    }

    /// Starts a child whose marked lines are published into `sink`. Blocks until the child executes its
    /// program: not for the runtime's own threads.
    ///
    /// # Errors
    /// The spec is wrong, the system refused, or the server is shutting down. Nothing was started then.
    pub fn start(&self, spec: &RunSpec, sink: Arc<dyn EventSink>) -> Result<Run, RunError> {
        if self.set.live.lock().stop.is_some() {
            return Err(RunError::ShuttingDown);
        }
        let program = spec.argv.first().cloned().unwrap_or_default();
        let mut prepared = spec.prepare()?;
        let started = Instant::now();
        let child = process::spawn(&mut prepared, &program)?;
        self.adopt(spec, (child, started), &prepared.markers, sink)
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

    /// Lets the control runtime go, which has ended.
    pub fn let_go(&self) {
        self.set.runtime.lock().take();
    }

    /// Puts a started child under supervision. On an error it is killed.
    fn adopt(
        &self,
        spec: &RunSpec,
        (mut child, started): (Child, Instant),
        markers: &Markers,
        sink: Arc<dyn EventSink>,
    ) -> Result<Run, RunError> {
        let Some(runtime) = self.set.runtime.lock().clone() else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(RunError::ShuttingDown);
        };
        let _context = runtime.enter();
        let pid = process::pid_of(&child).ok_or_else(|| std::io::Error::other("the process has no pid"));
        let (ends, pid) = match (Ends::of(&mut child), pid) {
            (Ok(ends), Ok(pid)) => (ends, pid),
            (Err(source), _) | (_, Err(source)) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(spec.refused(source));
            }
        };
        let run = Run::new(child, pid);
        let log = self.set.logs.source(LOGGER, &format!("{}: ", spec.stream_name));
        log.put(Level::Debug, &format!("started {:?} as pid {}", spec.argv, run.pid()));
        let publisher = Arc::new(Publisher::new(sink, log.clone(), Arc::clone(&run.shared), spec.lines.clone()));
        let (stop_reading, stop) = watch::channel(false);
        if let (Some(stdin), Some(bytes)) = (ends.stdin, spec.stdin.clone()) {
            runtime.spawn(write_all(stdin, bytes, stop.clone(), log.clone()));
        }
        let pipe = |name| Pipe {
            name,
            lines: MarkedLines::new(markers.clone(), MAX_EVENT_BYTES),
            publishes_lines: spec.lines.is_some(),
            publisher: Arc::clone(&publisher),
            log: log.clone(),
        };
        let out = pipe("stdout").read_to_end(ends.stdout, stop.clone());
        let err = pipe("stderr").read_to_end(ends.stderr, stop);
        let reading: Reading = Box::pin(async {
            tokio::join!(out, err);
        });
        let supervisor = Supervisor {
            shared: Arc::clone(&run.shared),
            publisher,
            log,
            started: started.into(),
            timeout: spec.timeout,
            grace: spec.grace,
            drain: spec.drain,
            event_limit: MAX_EVENT_BYTES,
            stop_reading,
        };
        let registration = self.set.add(run.clone());
        runtime.spawn(async move {
            supervisor.run(reading).await;
            drop(registration);
        });
        Ok(run)
    }
}

/// This side's ends of a child's pipes.
struct Ends {
    stdout: Receiver,
    stderr: Receiver,
    /// Where the child has an input.
    stdin: Option<Sender>,
}

impl Ends {
    /// Those of a child that was just started; needs the runtime's context.
    fn of(child: &mut Child) -> std::io::Result<Self> {
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(std::io::Error::other("the process has no pipes"));
        };
        let stdin = child.stdin.take().map(sender).transpose()?;
        Ok(Self { stdout: receiver(stdout)?, stderr: receiver(stderr)?, stdin })
    }
}

impl RunSet {
    /// Adds a run for as long as the returned registration lives.
    fn add(self: &Arc<Self>, run: Run) -> Registration {
        let mut live = self.live.lock();
        let number = live.next;
        live.next += 1;
        if let Some(stop) = live.stop {
            run.shared.stop.send_replace(Some(stop));
        }
        live.runs.insert(number, run);
        self.count.send_replace(live.runs.len());
        Registration { set: Arc::clone(self), number }
    }
}

impl LiveRuns {
    fn request_stop(&mut self, stop: Stop) {
        self.stop = Some(stop);
        for run in self.runs.values() {
            run.shared.stop.send_replace(Some(stop));
        }
    }
}

/// Keeps a run in the set. It is dropped when the run's task ends, or with the runtime.
struct Registration {
    set: Arc<RunSet>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut live = self.set.live.lock();
        let gone = live.runs.remove(&self.number);
        self.set.count.send_replace(live.runs.len());
        drop((live, gone));
    }
}
