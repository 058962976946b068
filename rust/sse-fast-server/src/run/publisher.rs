//! Publishing what a child wrote.
//!
//! Owns: the way from a parsed event to `EventSink::publish`, what is published for a rejected one, the last event.
//! Must not know: pipes, processes, timers.
//! Invariants: every event of the child that is lost has a log line, and, unless it was not UTF-8, an `error` event in
//! its place. Batches are published one at a time, so `status` and `result` are those of the last event in the stream
//! that the child made: a plain line that is published (`lines`) says nothing about its progress.
//! Everything here may block, so it runs on the pool of blocking threads.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use sse_fast_core::lines::{Ended, Fault, Item, MarkedEvent};

use super::handle::RunShared;
use super::outcome::{END_EVENT, LastEvent, RunOutcome};
use super::{EventSink, SinkError};
use crate::logs::{Level, LogSource};

/// The name of the event that is published in place of one that could not be.
const ERROR_EVENT: &str = "error";

/// Publishes for both pipes of one run.
pub(super) struct Publisher {
    sink: Arc<dyn EventSink>,
    log: LogSource,
    shared: Arc<RunShared>,
    /// The name of the event that a plain line becomes, where lines are published.
    lines: Option<String>,
    /// The most bytes that an event may have.
    limit: usize,
    /// Held while a batch is published, so that the two pipes take turns. True once the stream refused even an
    /// `error` event: later events are then not tried, and the log says so once.
    refused: Mutex<bool>,
}

impl Publisher {
    pub(super) fn new(
        sink: Arc<dyn EventSink>,
        log: LogSource,
        shared: Arc<RunShared>,
        lines: Option<String>,
        limit: usize,
    ) -> Self {
        Self { sink, log, shared, lines, limit, refused: Mutex::new(false) }
    }

    /// Publishes the events among the items, in order.
    pub(super) fn publish(&self, items: Vec<Item>) {
        let mut refused = self.refused.lock();
        for item in items {
            match item {
                Item::Event(event) => self.event(event, &mut refused),
                Item::Rejected { event, fault } => self.rejected(event.as_deref(), fault, &mut refused),
                Item::Log(text) => self.line(&text, &mut refused),
                Item::LongLog { start, length } => self.long_line(&start, length, &mut refused),
                Item::Ignored(_) => {}
            }
        }
    }

    /// Ends the stream.
    pub(super) fn end(&self, outcome: &RunOutcome, limit: usize) {
        self.sink.end(&outcome.json(limit), END_EVENT);
    }

    fn event(&self, event: MarkedEvent, refused: &mut bool) {
        let MarkedEvent { event: name, id, retry, data, ended } = event;
        let shown = shown(name.as_deref());
        match ended {
            Ended::ByLine => {}
            // A value cannot be told from its beginning: `12` may be a cut `1234.5`.
            Ended::MidLine => {
                self.log.put(Level::Warning, &format!("event {shown} was cut: the output ended inside of it"));
                self.error(&json!({"error": "event_cut", "event": name}), refused);
                return;
            }
            Ended::AtClose => {
                self.log.put(Level::Warning, &format!("event {shown} lacks its end: the output ended before it"));
            }
        }
        if !*refused {
            let retry = retry.map(Duration::from_millis);
            let text = data.as_deref().unwrap_or_default();
            if let Err(SinkError(why)) = self.sink.publish(text, name.as_deref(), id.as_deref(), retry) {
                self.log.put(Level::Warning, &format!("event {shown} was refused: {why}"));
                self.error(&json!({"error": "event_refused", "event": name, "detail": why}), refused);
                return;
            }
        }
        self.set_last(name, data);
    }

    /// Publishes a plain line; once the stream takes nothing more it is logged, as without `lines`.
    fn line(&self, text: &str, refused: &mut bool) {
        let Some(name) = &self.lines else { return };
        if *refused {
            self.log.put(Level::Info, text);
        } else if let Err(SinkError(why)) = self.sink.publish(text, Some(name), None, None) {
            self.log.put(Level::Warning, &format!("a line was refused: {why}"));
            self.log.put(Level::Info, text);
            self.error_event(&json!({"error": "event_refused", "event": name, "detail": why}), refused);
        }
    }

    /// A line that no event can hold, and of which only the start is known.
    fn long_line(&self, start: &str, length: u64, refused: &mut bool) {
        let Some(name) = &self.lines else { return };
        self.log
            .put(Level::Warning, &format!("{start}… (the start of a line of {length} bytes: too long for an event)"));
        self.error_event(&json!({"error": "event_too_large", "limit": self.limit, "event": name}), refused);
    }

    fn rejected(&self, event: Option<&str>, fault: Fault, refused: &mut bool) {
        let shown = shown(event);
        match fault {
            Fault::TooLarge { limit } => {
                self.log.put(Level::Warning, &format!("event {shown} was rejected: above the limit of {limit} bytes"));
                self.error(&json!({"error": "event_too_large", "limit": limit, "event": event}), refused);
            }
            Fault::NotUtf8 => {
                self.log.put(Level::Warning, &format!("event {shown} was rejected: not UTF-8"));
            }
        }
    }

    /// Publishes an `error` event in place of one of the child's that is lost. Without it readers and the terminal event
    /// would take the event before the lost one for the newest.
    fn error(&self, data: &Value, refused: &mut bool) {
        let text = self.error_event(data, refused);
        self.set_last(Some(ERROR_EVENT.to_owned()), Some(text));
    }

    /// Publishes an `error` event and returns its data.
    fn error_event(&self, data: &Value, refused: &mut bool) -> String {
        let text = data.to_string();
        if !*refused && let Err(SinkError(why)) = self.sink.publish(&text, Some(ERROR_EVENT), None, None) {
            *refused = true;
            self.log.put(Level::Warning, &format!("further events are not published: {why}"));
        }
        text
    }

    fn set_last(&self, event: Option<String>, data: Option<String>) {
        if let Some(last) = LastEvent::new(event, data) {
            self.shared.set_last(last);
        }
    }
}

/// An event's name as the log shows it: what a child wrote can make no line of its own there.
fn shown(name: Option<&str>) -> String {
    name.map_or_else(|| "(unnamed)".to_owned(), |name| format!("{name:?}"))
}
