//! Log records on their way to the application's logging.
//!
//! A bounded queue: engine threads put records in and never wait, one thread of the application
//! takes them out in batches. What does not fit is counted, and the count becomes a record itself.
//! Nothing on the path of a delivery logs.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How grave a record is; the names are those of Python's `logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// Normal life.
    Info,
    /// Something to look at.
    Warning,
    /// Something failed.
    Error,
}

/// One record.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// How grave it is.
    pub level: Level,
    /// The logger's name, `sse_fast` or below it.
    pub logger: &'static str,
    /// The text.
    pub text: String,
}

/// The most records that wait: at a few hundred bytes each, a few megabytes at worst.
const MAX_WAITING: usize = 10_000;

/// The queue; a handle, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Protects the queue; held for a push or a swap, never while logging or waiting elsewhere.
    queue: Mutex<Queue>,
    /// Tells the taker that there is something, or that there will be nothing more.
    news: Condvar,
    /// Tells whoever waits for room that there is some.
    room: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<LogRecord>,
    dropped: u64,
    closed: bool,
}

impl Logs {
    /// Puts a record in; never waits.
    pub fn put(&self, level: Level, logger: &'static str, text: String) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= MAX_WAITING || queue.closed {
            queue.dropped += 1;
            return;
        }
        queue.waiting.push_back(LogRecord { level, logger, text });
        let first = queue.waiting.len() == 1;
        drop(queue);
        if first {
            self.0.news.notify_one();
        }
    }

    /// Puts a record in, waiting while the queue is full, for a taker or the close; never for an
    /// engine thread.
    pub(crate) fn put_waiting(&self, level: Level, logger: &'static str, text: String) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.waiting.len() >= MAX_WAITING && !queue.closed {
            queue = self.0.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        drop(queue);
        self.put(level, logger, text);
    }

    /// Takes everything that waits, waiting up to `timeout` for something; `None` once closed and
    /// empty.
    pub fn take(&self, timeout: Duration) -> Option<Vec<LogRecord>> {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut queue, _) = self
            .0
            .news
            .wait_timeout_while(queue, timeout, |queue| queue.waiting.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<_> = std::mem::take(&mut queue.waiting).into();
        self.0.room.notify_all();
        if queue.dropped > 0 {
            let text = format!("{} log records were dropped: they came faster than they were logged", queue.dropped);
            records.push(LogRecord { level: Level::Warning, logger: "sse_fast", text });
            queue.dropped = 0;
        }
        if records.is_empty() && queue.closed { None } else { Some(records) }
    }

    /// Says that nothing more will come.
    pub fn close(&self) {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.news.notify_all();
        self.0.room.notify_all();
    }
}
