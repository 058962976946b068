//! All runs of a server: starting them, and ending them when it shuts down.
//!
//! Owns: the set of live runs and the log thread they share.
//! Must not know: what a run does between its start and its end.
//! Invariants: a run is in the set from its start until its terminal event; once `stop_all` was called no
//! run starts, and one that was just starting is stopped with the others.

use std::collections::HashMap;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sse_fast_core::event::MAX_EVENT_BYTES;
use sse_fast_core::lines::{MarkedLines, Markers};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::handle::{Run, Stop};
use super::logs::{Level, LogQueue, LogSink, RunLog};
use super::pipe::{Pipe, receiver};
use super::process;
use super::publisher::Publisher;
use super::supervise::{Reading, Supervisor};
use super::{EventSink, RunError, RunSpec};

/// The runs of one server. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

struct Inner {
    handle: Handle,
    logs: Arc<LogQueue>,
    /// Held to add, remove and list; a run is started outside of it.
    live: Mutex<Live>,
    /// How many are live, for `stop_all` to wait on.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Live {
    runs: HashMap<u64, Run>,
    /// Number of the next run: a pid may come again.
    next: u64,
    /// Set by `stop_all`, for ever.
    stop: Option<Stop>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.logs.close();
    }
}

impl Runs {
    /// The runs of a server whose control runtime is `handle` (with I/O and time enabled).
    ///
    /// # Errors
    /// No thread could be started for the log.
    pub fn new(handle: Handle, log: Arc<dyn LogSink>) -> std::io::Result<Self> {
        let logs = LogQueue::start(log)?;
        let (count, _) = watch::channel(0);
        Ok(Self { inner: Arc::new(Inner { handle, logs, live: Mutex::default(), count }) })
    }

    /// Starts a child whose marked lines are published into `sink`. Blocks until the child executes its
    /// program: not for the runtime's own threads.
    ///
    /// # Errors
    /// The spec is wrong, the system refused, or the server is shutting down. Nothing was started then.
    pub fn start(&self, spec: &RunSpec, sink: Arc<dyn EventSink>) -> Result<Run, RunError> {
        if self.inner.lock().stop.is_some() {
            return Err(RunError::ShuttingDown);
        }
        let program = spec.argv.first().cloned().unwrap_or_default();
        let mut prepared = spec.prepare()?;
        let started = Instant::now();
        let child = process::spawn(&mut prepared, &program)?;
        let adopted = self.adopt(spec, (child, started), &prepared.markers, sink);
        adopted.map_err(|source| RunError::System { program, source })
    }

    /// How many runs have not published their terminal event yet.
    #[must_use]
    pub fn live(&self) -> usize {
        self.inner.lock().runs.len()
    }

    /// Ends all runs and refuses new ones: SIGTERM, after each run's grace SIGKILL, terminal events. SIGKILL
    /// comes after three quarters of `drain` at the latest, so that the terminal events still get out.
    /// Returns when all have ended and their logs are written, or after `drain`, with how many have not.
    pub async fn stop_all(&self, drain: Duration) -> usize {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600 * 24);
        let end_at = now.checked_add(drain).unwrap_or(far);
        let stop = Stop { kill_at: now.checked_add(drain / 4 * 3).unwrap_or(far), end_at };
        self.inner.lock().request_stop(stop);
        let mut count = self.inner.count.subscribe();
        // Both an elapsed deadline and an error are answered by the count.
        let _ = tokio::time::timeout_at(end_at.into(), count.wait_for(|count| *count == 0)).await;
        let logs = Arc::clone(&self.inner.logs);
        let _ = tokio::task::spawn_blocking(move || logs.flush(end_at)).await;
        self.live()
    }

    /// Puts a started child under supervision. On an error it is killed.
    fn adopt(
        &self,
        spec: &RunSpec,
        (mut child, started): (Child, Instant),
        markers: &Markers,
        sink: Arc<dyn EventSink>,
    ) -> std::io::Result<Run> {
        let _context = self.inner.handle.enter();
        let pipes = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => receiver(stdout).and_then(|stdout| Ok((stdout, receiver(stderr)?))),
            _ => Err(std::io::Error::other("the process has no pipes")),
        };
        let pid = process::pid_of(&child).ok_or_else(|| std::io::Error::other("the process has no pid"));
        let ((stdout, stderr), pid) = match (pipes, pid) {
            (Ok(pipes), Ok(pid)) => (pipes, pid),
            (Err(error), _) | (_, Err(error)) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let run = Run::new(child, pid);
        let log = RunLog::new(Arc::clone(&self.inner.logs), &spec.stream_name);
        log.line(Level::Debug, &format!("started {:?} as pid {}", spec.argv, run.pid()));
        let publisher = Arc::new(Publisher::new(sink, log.clone(), Arc::clone(&run.shared)));
        let (stop_reading, stop) = watch::channel(false);
        let pipe = |name| Pipe {
            name,
            lines: MarkedLines::new(markers.clone(), MAX_EVENT_BYTES),
            publisher: Arc::clone(&publisher),
            log: log.clone(),
        };
        let (out, err) = (pipe("stdout").drain(stdout, stop.clone()), pipe("stderr").drain(stderr, stop));
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
        let member = self.inner.add(run.clone());
        self.inner.handle.spawn(async move {
            supervisor.run(reading).await;
            drop(member);
        });
        Ok(run)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run for as long as the returned member lives.
    fn add(self: &Arc<Self>, run: Run) -> Member {
        let mut live = self.lock();
        let number = live.next;
        live.next += 1;
        if let Some(stop) = live.stop {
            run.shared.stop.send_replace(Some(stop));
        }
        live.runs.insert(number, run);
        self.count.send_replace(live.runs.len());
        Member { inner: Arc::clone(self), number }
    }
}

impl Live {
    fn request_stop(&mut self, stop: Stop) {
        self.stop = Some(stop);
        for run in self.runs.values() {
            run.shared.stop.send_replace(Some(stop));
        }
    }
}

/// A place in the set, given up when dropped, also with the runtime.
struct Member {
    inner: Arc<Inner>,
    number: u64,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut live = self.inner.lock();
        let gone = live.runs.remove(&self.number);
        self.inner.count.send_replace(live.runs.len());
        drop((live, gone));
    }
}
