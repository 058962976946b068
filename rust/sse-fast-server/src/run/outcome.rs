//! The terminal event of a run, and what of the child's events it repeats.
//!
//! Owns: the JSON of `event: end`. Must not know: how any of its values came about.
//! Invariants: what is not known is null, never zero; `status` and `result` are of the same event; the
//! event itself is never above the event limit, whatever the result is.

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::process::{Exit, signal_name};

/// The name of the terminal event.
pub(super) const END_EVENT: &str = "end";
/// Events with this name say that the child lives, nothing about where it is.
const HEARTBEAT_EVENT: &str = "heartbeat";

/// The last event of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastEvent {
    /// Its name, where it had one.
    pub(super) status: Option<String>,
    /// Its data, where it had any.
    pub(super) data: Option<String>,
}

impl LastEvent {
    /// `None` for a heartbeat.
    pub(super) fn new(status: Option<String>, data: Option<String>) -> Option<Self> {
        (status.as_deref() != Some(HEARTBEAT_EVENT)).then_some(Self { status, data })
    }
}

/// Why a run was ended before it exited by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// It took longer than this.
    Timeout(Duration),
    /// The server shut down.
    Shutdown,
}

/// Everything that the terminal event tells.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) exit: Option<Exit>,
    pub(super) last: Option<LastEvent>,
    pub(super) duration: Duration,
    pub(super) cause: Option<Cause>,
}

impl Outcome {
    /// The data of the terminal event, at most `limit` bytes. A result that would make it larger is left
    /// out, and `"result_too_large": true` says so: it is in the stream already, as an event.
    pub(super) fn json(&self, limit: usize) -> String {
        let result = self.last.as_ref().and_then(|last| last.data.as_deref()).map(json_text);
        let text = self.json_with(result.as_deref());
        if text.len() <= limit {
            return text;
        }
        let mut text = self.json_with(None);
        text.pop();
        text + r#","result_too_large":true}"#
    }

    fn json_with(&self, result: Option<&str>) -> String {
        let (code, signal) = match self.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(number)) => (None, Some(signal_name(number))),
            Some(Exit::Unknown) | None => (None, None),
        };
        let status = self.last.as_ref().and_then(|last| last.status.as_deref());
        let text = format!(
            r#"{{"exit_code":{},"signal":{},"status":{},"result":{},"duration_s":{}{}}}"#,
            Value::from(code),
            Value::from(signal),
            Value::from(status),
            result.unwrap_or("null"),
            seconds(self.duration),
            match self.cause {
                None => String::new(),
                Some(Cause::Timeout(limit)) => format!(r#","timeout":true,"timeout_s":{}"#, seconds(limit)),
                Some(Cause::Shutdown) => r#","shutdown":true"#.to_owned(),
            },
        );
        escape_line_separators(text)
    }
}

/// Data as JSON text: itself where it is JSON, so that no digit of a number is lost; else a string.
pub(super) fn json_text(data: &str) -> String {
    let text = match serde_json::from_str::<&RawValue>(data) {
        Ok(json) => json.get().to_owned(),
        Err(_) => Value::from(data).to_string(),
    };
    escape_line_separators(text)
}

/// Characters that `str.splitlines` takes for line ends, and with it some clients. In JSON they can only
/// stand inside of strings, where the escape means the same.
fn escape_line_separators(text: String) -> String {
    if !text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Seconds to the microsecond: even the shortest run did not take zero.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
