//! The log of runs: bounded for each run, written by one thread for all of them.
//!
//! Owns: the queue between the runtime and the logger, and counting what did not fit.
//! Must not know: pipes, events.
//! Invariants: adding a line never waits for the logger; a run has at most `RUN_LINES` lines and about
//! `RUN_BYTES` bytes in the queue; lines of a run keep their order, and where some were dropped a line
//! in their place says how many.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use crate::logs::Level;

/// The logger that all records of runs have.
const LOGGER: &str = "sse_fast.run";
/// A burst of a tenth of a second at the rate at which Python's logging writes.
const RUN_LINES: usize = 16 * 1024;
/// More than any single line, so that only a crowd of lines is dropped.
const RUN_BYTES: usize = 4 * 1024 * 1024;

/// Where records go. May block: it is called on a thread of its own, and what comes in meanwhile is
/// bounded and counted. It must return once the server has closed.
pub trait LogSink: Send + Sync {
    /// Writes one record. `text` begins with the stream's name.
    fn log(&self, level: Level, logger: &'static str, text: String);
}

/// The queue of all runs. Closing it lets its thread write what is queued and stop.
pub(super) struct LogQueue {
    /// Held to add and to take a line, never while the logger writes.
    state: Mutex<State>,
    /// A line came in, or the queue was closed, or became empty.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<(Arc<Mutex<Usage>>, Record)>,
    /// The thread writes a line that is in `lines` no more.
    writing: bool,
    closed: bool,
}

struct Record {
    level: Level,
    text: String,
}

/// What one run has in the queue. Its lock is taken under the queue's, and nothing is under it.
#[derive(Default)]
struct Usage {
    lines: usize,
    bytes: usize,
    /// Lines and bytes dropped since the last line that was taken.
    dropped: (u64, u64),
}

impl LogQueue {
    /// Starts the thread that writes into `sink`.
    pub(super) fn start(sink: Arc<dyn LogSink>) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name("sse-fast-run-log".into()).spawn(move || writer.write_all(&*sink))?;
        Ok(queue)
    }

    /// Lets the thread end once it has written what is queued.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until everything is written, at most until `deadline`. Blocks.
    pub(super) fn flush(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while state.writing || !state.lines.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| *left > Duration::ZERO)
            else {
                return false;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, sink: &dyn LogSink) {
        while let Some(record) = self.next() {
            sink.log(record.level, LOGGER, record.text);
        }
    }

    /// The next record; `None` when the queue is closed and empty.
    fn next(&self) -> Option<Record> {
        let mut state = self.lock();
        loop {
            if let Some((usage, record)) = state.lines.pop_front() {
                let mut usage = usage.lock().unwrap_or_else(PoisonError::into_inner);
                usage.lines -= 1;
                usage.bytes -= record.text.len();
                state.writing = true;
                return Some(record);
            }
            state.writing = false;
            self.changed.notify_all();
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The log of one run.
#[derive(Clone)]
pub(super) struct RunLog {
    queue: Arc<LogQueue>,
    usage: Arc<Mutex<Usage>>,
    /// What every line begins with.
    stream_name: Arc<str>,
}

impl RunLog {
    pub(super) fn new(queue: Arc<LogQueue>, stream_name: &str) -> Self {
        Self { queue, usage: Arc::default(), stream_name: stream_name.into() }
    }

    /// Adds a line, or counts it as dropped. Never waits for the logger.
    pub(super) fn line(&self, level: Level, text: &str) {
        let text = format!("{}: {text}", self.stream_name);
        let mut state = self.queue.lock();
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if usage.lines >= RUN_LINES || usage.bytes + text.len() > RUN_BYTES && usage.lines > 0 {
            usage.dropped.0 += 1;
            usage.dropped.1 += text.len() as u64;
            return;
        }
        self.tell_dropped(&mut state, &mut usage);
        self.add(&mut state, &mut usage, Record { level, text });
    }

    /// Says what was dropped since the last line, also when no further line comes.
    pub(super) fn finish(&self) {
        let mut state = self.queue.lock();
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell_dropped(&mut state, &mut usage);
    }

    fn tell_dropped(&self, state: &mut State, usage: &mut Usage) {
        let (lines, bytes) = std::mem::take(&mut usage.dropped);
        if lines > 0 {
            let name = &self.stream_name;
            let text = format!("{name}: {lines} log lines ({bytes} bytes) dropped: the logger is slower than the run");
            self.add(state, usage, Record { level: Level::Warning, text });
        }
    }

    fn add(&self, state: &mut State, usage: &mut Usage, record: Record) {
        usage.lines += 1;
        usage.bytes += record.text.len();
        state.lines.push_back((Arc::clone(&self.usage), record));
        self.queue.changed.notify_all();
    }
}
