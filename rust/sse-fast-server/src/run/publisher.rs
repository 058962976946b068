//! Publishing what a child wrote.
//!
//! Owns: from a parsed event to `EventSink::publish`, what becomes of rejected ones, the last event.
//! Must not know: pipes, processes, timers.
//! Invariants: no event of the child is lost without a log line, and all but those that are not UTF-8
//! have an `error` event in their place, those cut in the middle of a line included; one batch at a time, so `status` and `result` are those of the
//! last event in the stream. Everything here may block and runs on the blocking pool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sse_fast_core::lines::{Ended, Fault, Item, MarkedEvent};

use super::handle::Shared;
use super::logs::{Level, RunLog};
use super::outcome::{END_EVENT, LastEvent, Outcome};
use super::{EventSink, SinkError};

/// The name of the event that stands for one that could not be published.
const ERROR_EVENT: &str = "error";

/// Publishes for both pipes of one run.
pub(super) struct Publisher {
    sink: Arc<dyn EventSink>,
    log: RunLog,
    shared: Arc<Shared>,
    /// Held while a batch is published, so that the pipes take turns. True once the stream takes nothing
    /// more, not even an `error` event: later events are then not tried, and said so once.
    refused: Mutex<bool>,
}

impl Publisher {
    pub(super) fn new(sink: Arc<dyn EventSink>, log: RunLog, shared: Arc<Shared>) -> Self {
        Self { sink, log, shared, refused: Mutex::new(false) }
    }

    /// Publishes, in order, what of the items is for the stream.
    pub(super) fn publish(&self, items: Vec<Item>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            match item {
                Item::Event(event) => self.event(event, &mut refused),
                Item::Rejected { event, fault } => self.rejected(event.as_deref(), fault, &mut refused),
                Item::Log(_) | Item::LongLog { .. } | Item::Ignored(_) => {}
            }
        }
    }

    /// Ends the stream.
    pub(super) fn end(&self, outcome: &Outcome, limit: usize) {
        self.sink.end(&outcome.json(limit), END_EVENT);
    }

    fn event(&self, event: MarkedEvent, refused: &mut bool) {
        let MarkedEvent { event: name, id, retry, data, ended } = event;
        let shown = name.as_deref().unwrap_or("(unnamed)");
        match ended {
            Ended::ByLine => {}
            // Nothing can tell the whole of a value from its beginning: `12` may be a cut `1234.5`.
            Ended::MidLine => {
                self.log.line(Level::Warning, &format!("event {shown} was cut: the output ended inside of it"));
                self.error(&json!({"error": "event_cut", "event": name}), refused);
                return;
            }
            Ended::AtClose => {
                self.log.line(Level::Warning, &format!("event {shown} lacks its end: the output ended before it"));
            }
        }
        if !*refused {
            let retry = retry.map(Duration::from_millis);
            let text = data.as_deref().unwrap_or_default();
            if let Err(SinkError(why)) = self.sink.publish(text, name.as_deref(), id.as_deref(), retry) {
                self.log.line(Level::Warning, &format!("event {shown} was refused: {why}"));
                self.error(&json!({"error": "event_refused", "event": name, "detail": why}), refused);
                return;
            }
        }
        self.set_last(name, data);
    }

    fn rejected(&self, event: Option<&str>, fault: Fault, refused: &mut bool) {
        let shown = event.unwrap_or("(unnamed)");
        match fault {
            Fault::TooLarge { limit } => {
                self.log.line(Level::Warning, &format!("event {shown} was rejected: above the limit of {limit} bytes"));
                self.error(&json!({"error": "event_too_large", "limit": limit, "event": event}), refused);
            }
            Fault::NotUtf8 => {
                self.log.line(Level::Warning, &format!("event {shown} was rejected: not UTF-8"));
            }
        }
    }

    /// An `error` event in the place of one that is lost: readers and the terminal event must not take
    /// the event before it for the newest.
    fn error(&self, data: &Value, refused: &mut bool) {
        let text = data.to_string();
        if !*refused && let Err(SinkError(why)) = self.sink.publish(&text, Some(ERROR_EVENT), None, None) {
            *refused = true;
            self.log.line(Level::Warning, &format!("further events are not published: {why}"));
        }
        self.set_last(Some(ERROR_EVENT.to_owned()), Some(text));
    }

    fn set_last(&self, event: Option<String>, data: Option<String>) {
        if let Some(last) = LastEvent::new(event, data) {
            self.shared.set_last(last);
        }
    }
}
