//! Log records on their way to the application's logging.
//!
//! Owns: one bounded queue for the whole server, a quota in it for each source of records (the server itself, and every
//! run), and the count of the records that did not fit.
//! Must not know: what is logged, what a run is, who takes the records.
//! Invariants: putting a record in never waits, so a slow logger blocks neither the engine nor a child. A source that
//! floods the queue loses records of its own and of no other source. The records of one source keep their order, and
//! where some were lost a record says how many. Nothing on the path of a delivery logs.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::coarse_ms;

/// The severity of a record; the names are those of Python's `logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for finding a fault.
    Debug,
    /// Normal operation.
    Info,
    /// Something unexpected that the server can go on with.
    Warning,
    /// Something failed.
    Error,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its severity.
    pub level: Level,
    /// The logger's name, `sse_fast` or below it.
    pub logger: &'static str,
    /// The text.
    pub text: String,
}

/// What one source may have in the queue.
struct Quota {
    records: usize,
    bytes: usize,
}

/// The server's own records come one at a time; so many only wait when the logger is stuck.
const SERVER_QUOTA: Quota = Quota { records: 10_000, bytes: 16 << 20 };

/// For the output of one child: a burst of a tenth of a second at the rate at which Python's logging writes, and more
/// bytes than any single line has.
const OUTPUT_QUOTA: Quota = Quota { records: 16 * 1024, bytes: 4 << 20 };

/// The bytes beyond which the output of children is refused even within its quota, so that the queue is bounded however
/// many runs there are.
const MAX_BYTES: usize = 64 << 20;

/// The most records that one `take` gives. The binding converts a batch while it holds the interpreter: less than a
/// millisecond for so many.
const BATCH: usize = 1024;

/// The server's own number among the sources.
const SERVER: u64 = 0;

/// The queue; a handle, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Logs(Arc<LogQueue>);

#[derive(Debug, Default)]
struct LogQueue {
    /// Held to add or take records. Nobody waits for anything else, formats or logs under it.
    waiting: Mutex<Waiting>,
    /// Notified when the queue is no longer empty, and when it is closed.
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The records with the number of their source, oldest first.
    records: VecDeque<(u64, LogRecord)>,
    /// The bytes of all their texts.
    bytes: usize,
    /// What the sources have in the queue, or have lost since their last record. Others have no entry.
    usage: HashMap<u64, Usage>,
    /// How many sources were made; the last of them has this number.
    sources: u64,
    /// Set once, by `close`; no record is accepted after it.
    closed: bool,
}

/// One source's part of the queue.
#[derive(Debug)]
struct Usage {
    records: usize,
    bytes: usize,
    lost_records: u64,
    lost_bytes: u64,
    /// Logger and prefix of the record that tells the loss.
    logger: &'static str,
    prefix: Arc<str>,
}

impl Logs {
    /// Puts in a record of the server's own; never waits.
    pub fn put(&self, level: Level, logger: &'static str, text: String) {
        let empty = || Usage::new("sse_fast", Arc::from(""));
        self.put_of(SERVER, &SERVER_QUOTA, empty, LogRecord { level, logger, text });
    }

    /// A new source with a quota of its own, for the output of one child. Each of its texts gets the prefix.
    pub(crate) fn source(&self, logger: &'static str, prefix: &str) -> LogSource {
        let mut waiting = self.0.waiting.lock();
        waiting.sources += 1;
        LogSource { logs: self.clone(), number: waiting.sources, logger, prefix: prefix.into() }
    }

    /// Takes the oldest records, waiting up to `timeout` for the first; `None` once closed and empty.
    pub fn take(&self, timeout: Duration) -> Option<Vec<LogRecord>> {
        let mut waiting = self.0.waiting.lock();
        let nothing = |waiting: &mut Waiting| waiting.records.is_empty() && !waiting.closed;
        self.0.arrived.wait_while_for(&mut waiting, nothing, timeout);
        let records = waiting.take_batch();
        if records.is_empty() && waiting.closed { None } else { Some(records) }
    }

    /// Refuses records from now on; those that wait can still be taken.
    pub fn close(&self) {
        self.0.waiting.lock().closed = true;
        self.0.arrived.notify_all();
    }

    fn put_of(&self, source: u64, quota: &Quota, empty: impl FnOnce() -> Usage, record: LogRecord) {
        let mut waiting = self.0.waiting.lock();
        waiting.put(source, quota, empty, record);
        drop(waiting);
        self.0.arrived.notify_one();
    }
}

/// Lets one record a second through, of what strangers could make any number of times, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct OncePerSecond(Mutex<Quieted>);

#[derive(Debug, Default)]
struct Quieted {
    /// In coarse milliseconds.
    until: u64,
    /// Records that were left out since the last one.
    left_out: u64,
}

impl OncePerSecond {
    /// How many were left out before this one; `None` where it is left out, too.
    pub(crate) fn may_log(&self) -> Option<u64> {
        self.may_log_at(coarse_ms())
    }

    fn may_log_at(&self, now: u64) -> Option<u64> {
        let mut quieted = self.0.lock();
        if now < quieted.until {
            quieted.left_out += 1;
            return None;
        }
        quieted.until = now + 1000;
        Some(std::mem::take(&mut quieted.left_out))
    }
}

/// Where the output of one child is put in.
#[derive(Clone, Debug)]
pub(crate) struct LogSource {
    logs: Logs,
    number: u64,
    logger: &'static str,
    prefix: Arc<str>,
}

impl LogSource {
    /// Puts a record in, or counts it as lost; never waits.
    pub(crate) fn put(&self, level: Level, text: &str) {
        let record = LogRecord { level, logger: self.logger, text: format!("{}{text}", self.prefix) };
        let empty = || Usage::new(self.logger, Arc::clone(&self.prefix));
        self.logs.put_of(self.number, &OUTPUT_QUOTA, empty, record);
    }
}

impl Waiting {
    fn put(&mut self, source: u64, quota: &Quota, empty: impl FnOnce() -> Usage, record: LogRecord) {
        let length = record.text.len();
        let crowded = source != SERVER && self.bytes.saturating_add(length) > MAX_BYTES;
        let usage = self.usage.entry(source).or_insert_with(empty);
        // The first record of a source always fits, however long it is and whatever other sources have in the queue.
        let full = usage.records >= quota.records || usage.bytes.saturating_add(length) > quota.bytes || crowded;
        if self.closed || usage.records > 0 && full {
            usage.lost_records += 1;
            usage.lost_bytes += length as u64;
            return;
        }
        for record in usage.told_loss().into_iter().chain([record]) {
            usage.records += 1;
            usage.bytes += record.text.len();
            self.bytes += record.text.len();
            self.records.push_back((source, record));
        }
    }

    fn take_batch(&mut self) -> Vec<LogRecord> {
        let count = self.records.len().min(BATCH);
        let mut batch = Vec::with_capacity(count);
        for (source, record) in self.records.drain(..count) {
            self.bytes -= record.text.len();
            if let Some(usage) = self.usage.get_mut(&source) {
                usage.records -= 1;
                usage.bytes -= record.text.len();
                if usage.records == 0 && usage.lost_records == 0 {
                    self.usage.remove(&source);
                }
            }
            batch.push(record);
        }
        if self.records.is_empty() {
            // Every record of theirs is out, so this is the place of the losses that no later record has told.
            batch.extend(self.usage.drain().filter_map(|(_, mut usage)| usage.told_loss()));
            debug_assert_eq!(self.bytes, 0, "an empty queue holds bytes");
        }
        batch
    }
}

impl Usage {
    fn new(logger: &'static str, prefix: Arc<str>) -> Self {
        Self { records: 0, bytes: 0, lost_records: 0, lost_bytes: 0, logger, prefix }
    }

    /// The record that tells what was lost since the last one, if anything was.
    fn told_loss(&mut self) -> Option<LogRecord> {
        let (records, bytes) = (std::mem::take(&mut self.lost_records), std::mem::take(&mut self.lost_bytes));
        let prefix = &self.prefix;
        (records > 0).then(|| LogRecord {
            level: Level::Warning,
            logger: self.logger,
            text: format!(
                "{prefix}{records} log lines ({bytes} bytes) dropped: they came faster than they were logged"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "runs/1: ";

    /// Everything that waits, in the batches in which it is taken.
    fn texts(logs: &Logs) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(batch) = logs.take(Duration::ZERO).filter(|batch| !batch.is_empty()) {
            texts.extend(batch.into_iter().map(|record| record.text));
        }
        texts
    }

    fn lost(text: &str) -> Option<usize> {
        text.strip_prefix(PREFIX)?.split_once(" log lines (")?.0.parse().ok()
    }

    #[test]
    fn one_record_a_second_is_let_through_and_says_how_many_were_not() {
        let quiet = OncePerSecond::default();
        let seen = [5, 6, 1004, 1005, 1006, 3000].map(|now| quiet.may_log_at(now));
        assert_eq!(seen, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn a_flood_of_one_run_loses_its_own_lines_and_nothing_else() {
        let logs = Logs::default();
        let (flood, quiet) = (logs.source("sse_fast.run", PREFIX), logs.source("sse_fast.run", "runs/2: "));
        for number in 0..40_000 {
            flood.put(Level::Info, &format!("line {number}"));
        }
        quiet.put(Level::Info, "still here");
        logs.put(Level::Warning, "sse_fast", "the server's own".into());
        let texts = texts(&logs);
        let written = texts.iter().filter(|text| text.starts_with("runs/1: line ")).count();
        assert_eq!(written, OUTPUT_QUOTA.records);
        assert_eq!(texts.iter().filter_map(|text| lost(text)).sum::<usize>(), 40_000 - written);
        assert!(texts.iter().any(|text| text == "runs/2: still here"));
        assert!(texts.iter().any(|text| text == "the server's own"));
    }

    #[test]
    fn a_loss_is_told_where_it_happened() {
        let logs = Logs::default();
        let source = logs.source("sse_fast.run", PREFIX);
        source.put(Level::Info, "first");
        source.put(Level::Info, &"x".repeat(OUTPUT_QUOTA.bytes));
        source.put(Level::Info, "second");
        let texts = texts(&logs);
        assert_eq!((&texts[0][..], lost(&texts[1]), &texts[2][..]), ("runs/1: first", Some(1), "runs/1: second"));
        assert_eq!(texts.len(), 3);
    }

    #[test]
    fn the_queue_is_bounded_for_any_number_of_runs_and_each_gets_a_line_in() {
        let logs = Logs::default();
        let line = "x".repeat(1 << 20);
        for number in 0..100 {
            let source = logs.source("sse_fast.run", &format!("runs/{number}: "));
            (0..3).for_each(|_| source.put(Level::Info, &line));
        }
        let waiting = logs.0.waiting.lock().bytes;
        assert!(waiting < MAX_BYTES + 100 * (line.len() + 10), "{waiting} bytes wait");
        let texts = texts(&logs);
        for number in 0..100 {
            let prefix = format!("runs/{number}: x");
            assert!(texts.iter().any(|text| text.starts_with(&prefix)), "run {number} has no line in the log");
        }
        assert!(texts.iter().any(|text| text.starts_with("runs/99: 2 log lines (")), "a loss is not told");
    }

    #[test]
    fn a_closed_queue_gives_what_waits_and_counts_what_comes_late() {
        let logs = Logs::default();
        logs.put(Level::Info, "sse_fast", "in time".into());
        logs.close();
        logs.put(Level::Info, "sse_fast", "late".into());
        let texts = texts(&logs);
        assert_eq!(texts[0], "in time");
        assert!(texts[1].starts_with("1 log lines (4 bytes) dropped"), "{texts:?}");
        assert_eq!(logs.take(Duration::MAX), None);
    }

    #[test]
    fn a_taker_is_woken_by_a_record_and_by_the_close() {
        const DEADLINE: Duration = Duration::from_secs(20);
        for _ in 0..200 {
            let logs = Logs::default();
            let (taken, received) = std::sync::mpsc::channel();
            std::thread::spawn({
                let logs = logs.clone();
                move || {
                    while let Some(batch) = logs.take(Duration::MAX) {
                        taken.send(Some(batch.len())).ok();
                    }
                    taken.send(None).ok();
                }
            });
            for _ in 0..20 {
                logs.put(Level::Info, "sse_fast", "x".into());
                assert_eq!(received.recv_timeout(DEADLINE), Ok(Some(1)));
            }
            logs.close();
            assert_eq!(received.recv_timeout(DEADLINE), Ok(None));
        }
    }
}
