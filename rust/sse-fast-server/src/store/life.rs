//! What is kept of a stream besides its events: its name, its epoch, what it was told.
//!
//! Owns: this as JSON, the body of a `Life` record. Must not know: records, files. Invariant: only what the stream was told
//! is kept, not the server's defaults: those are the next server's.
//! Changes together with: `StreamPatch`, whose fields these are.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use sse_fast_core::options::StreamPatch;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) name: String,
    /// The number of this life of the name.
    pub(crate) epoch: u64,
    /// Whether a run writes into it, and ends it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) run: bool,
    /// Whether its readers may have been told a `retry:` line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) had_retry: bool,
    #[serde(default)]
    pub(crate) options: KeptOptions,
}

/// The options that a stream was told; times in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(
    clippy::option_option,
    reason = "an option that was not given, one that was switched off, one that has a value"
)]
pub(crate) struct KeptOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_lag: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_lag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    heartbeat: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    heartbeat_event: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    retry: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linger: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    expire: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    stall_after: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<bool>,
}

/// What is there was given, `null` too.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Life {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // It cannot fail: every field is a number, a text or a truth value.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl KeptOptions {
    pub(crate) fn of(patch: &StreamPatch) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Self {
            history: patch.history,
            history_bytes: patch.history_bytes,
            start: patch.start.map(|start| start.to_string()),
            max_lag: patch.max_lag,
            on_lag: patch.on_lag.map(|on_lag| on_lag.to_string()),
            heartbeat: patch.heartbeat.map(seconds),
            heartbeat_event: patch.heartbeat_event.clone(),
            heartbeat_comment: patch.heartbeat_comment.clone(),
            retry: patch.retry.map(seconds),
            ids: patch.ids,
            linger: seconds(patch.linger),
            expire: patch.expire.map(seconds),
            stall_after: patch.stall_after.map(seconds),
            private: patch.private,
        }
    }

    pub(crate) fn patch(&self) -> StreamPatch {
        let duration = |seconds: Option<f64>| seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        StreamPatch {
            history: self.history,
            history_bytes: self.history_bytes,
            start: self.start.as_deref().and_then(|start| start.parse().ok()),
            max_lag: self.max_lag,
            on_lag: self.on_lag.as_deref().and_then(|on_lag| on_lag.parse().ok()),
            heartbeat: self.heartbeat.map(duration),
            heartbeat_event: self.heartbeat_event.clone(),
            heartbeat_comment: self.heartbeat_comment.clone(),
            retry: self.retry.map(duration),
            ids: self.ids,
            linger: duration(self.linger),
            expire: self.expire.map(duration),
            stall_after: self.stall_after.map(duration),
            private: self.private,
            lossless: None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use sse_fast_core::options::{OnLag, Start};

    use super::*;

    #[test]
    fn what_a_stream_was_told_is_read_back() {
        let patch = StreamPatch {
            history: Some(7),
            history_bytes: Some(1 << 20),
            start: Some(Start::All),
            max_lag: Some(3),
            on_lag: Some(OnLag::Latest),
            heartbeat: Some(None),
            heartbeat_event: Some(Some("beat".to_owned())),
            heartbeat_comment: Some("é".to_owned()),
            retry: Some(Some(Duration::from_millis(1500))),
            ids: Some(false),
            linger: Some(Duration::from_micros(1)),
            expire: Some(None),
            stall_after: Some(Some(Duration::from_secs(3))),
            private: Some(true),
            lossless: None,
        };
        for patch in [patch, StreamPatch::default()] {
            let options = KeptOptions::of(&patch);
            let life = Life { name: "a\"b".to_owned(), epoch: u64::MAX, run: true, had_retry: false, options };
            let read = Life::of_bytes(&life.to_bytes()).expect("it was written");
            assert_eq!(read, life);
            assert_eq!(read.options.patch(), patch);
        }
        assert_eq!(Life::of_bytes(b"{}"), None);
    }
}
