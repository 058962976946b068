//! The terminal event of a run, and what of the child's events it repeats.
//!
//! Owns: the JSON of `event: end`.
//! Must not know: how a run ends, or who publishes the event.
//! Invariants: an unknown value is null, never zero; `status` and `result` are of the same event; the data never
//! exceeds the limit on one event, whatever the result is.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sse_fast_core::wire::Decoded;

use super::process::{Exit, signal_name};

/// The name of the terminal event.
pub(crate) const END_EVENT: &str = "end";
/// Events with this name say that the child lives, but nothing about its progress.
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
pub(super) struct RunOutcome {
    pub(super) exit: Option<Exit>,
    pub(super) last: Option<LastEvent>,
    pub(super) duration: Duration,
    pub(super) cause: Option<Cause>,
}

/// The terminal event's data, field by field as clients read it.
#[derive(Serialize)]
struct EndData<'a> {
    exit_code: Option<i32>,
    signal: Option<String>,
    status: Option<&'a str>,
    result: Option<Box<RawValue>>,
    duration_s: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    timeout: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_s: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    shutdown: bool,
    #[serde(skip_serializing_if = "is_false")]
    result_too_large: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl RunOutcome {
    /// The data of the terminal event, at most `limit` bytes. A result that would make it larger is left
    /// out, and `"result_too_large": true` says so: the stream has it already, as an event.
    pub(super) fn json(&self, limit: usize) -> String {
        let mut data = self.data();
        let mut text = json_of(&data);
        if text.len() > limit {
            (data.result, data.result_too_large) = (None, true);
            text = json_of(&data);
        }
        text
    }

    fn data(&self) -> EndData<'_> {
        let (exit_code, signal) = match self.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(number)) => (None, Some(signal_name(number))),
            Some(Exit::Unknown) | None => (None, None),
        };
        let last = self.last.as_ref();
        let limit = match self.cause {
            Some(Cause::Timeout(limit)) => Some(seconds(limit)),
            Some(Cause::Shutdown) | None => None,
        };
        EndData {
            exit_code,
            signal,
            status: last.and_then(|last| last.status.as_deref()),
            result: last.and_then(|last| last.data.as_deref()).map(raw_json),
            duration_s: Some(seconds(self.duration)),
            timeout: limit.is_some(),
            timeout_s: limit,
            shutdown: self.cause == Some(Cause::Shutdown),
            result_too_large: false,
            error: None,
        }
    }
}

/// The data of the terminal event of a run that died with its server: what is known is its last event, where that fits.
pub(crate) fn cut_off(last: Option<&Decoded>, limit: usize) -> String {
    let last = last.filter(|last| last.event.as_deref() != Some(HEARTBEAT_EVENT));
    let mut data = EndData {
        exit_code: None,
        signal: None,
        status: last.and_then(|last| last.event.as_deref()),
        result: last.map(|last| raw_json(&last.data)),
        duration_s: None,
        timeout: false,
        timeout_s: None,
        shutdown: false,
        result_too_large: false,
        error: Some("the server died"),
    };
    let text = json_of(&data);
    if text.len() <= limit {
        return text;
    }
    (data.result, data.result_too_large) = (None, true);
    json_of(&data)
}

fn json_of(data: &EndData<'_>) -> String {
    // Writing plain fields into a string cannot fail.
    escape_line_separators(serde_json::to_string(data).unwrap_or_default())
}

/// Data as JSON text: itself where it is JSON, so that no digit of a number is lost; else a string.
pub(super) fn json_text(data: &str) -> String {
    escape_line_separators(raw_json(data).get().to_owned())
}

fn raw_json(data: &str) -> Box<RawValue> {
    // Writing a string as JSON cannot fail.
    let string = |_| to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
    serde_json::from_str(data).unwrap_or_else(string)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Escapes the characters that Python's `str.splitlines`, and with it some clients, takes for line ends. In JSON they
/// occur only inside strings, where the escape means the same.
fn escape_line_separators(text: String) -> String {
    if !text.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Seconds to the microsecond, so that even the shortest run does not take zero.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
