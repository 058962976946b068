//! The options of a stream, their defaults and limits.
//!
//! Owns: how options as given (`StreamPatch`, every field optional) become resolved ones (`StreamOptions`).
//! Must not know: where an option came from (an argument, a route, the environment), or who acts on it.
//! Invariants: [`StreamOptions::patched`] is the only way from one to the other, so the rest of the engine never sees a
//! value out of range.
//! Changes together with: the settings table in `python/sse_fast/_settings.py`, which repeats the defaults.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::OptionError;
use crate::event::one_line;

/// What a subscriber without Last-Event-ID gets first, where no snapshot is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Only what is published from now on.
    #[default]
    New,
    /// The newest event, then what follows.
    Last,
    /// Everything retained, then what follows.
    All,
}

/// What happens to a subscriber that lags beyond `max_lag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLag {
    /// It is told what it missed and goes on with the newest `max_lag` events.
    #[default]
    Skip,
    /// It is told what it missed and goes on with the newest event alone.
    Latest,
    /// Its connection is closed; it may resume.
    Disconnect,
}

/// A stream's options, resolved: every value is in range.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamOptions {
    /// The most events the log retains; at least 1.
    pub history: usize,
    /// The most bytes the log retains (the newest event stays whatever its size).
    pub history_bytes: usize,
    /// What a new subscriber gets first.
    pub start: Start,
    /// The most events a blocked subscriber may be behind; 1 to `history`.
    pub max_lag: u64,
    /// What happens to one that is further behind.
    pub on_lag: OnLag,
    /// How long a subscriber may be sent nothing before it gets a heartbeat; `None` switches heartbeats off.
    pub heartbeat: Option<Duration>,
    /// With a name, heartbeats are events of that name; without, they are comments.
    pub heartbeat_event: Option<String>,
    /// What a heartbeat says that is a comment: one line.
    pub heartbeat_comment: Cow<'static, str>,
    /// The `retry:` a subscriber is told first.
    pub retry: Option<Duration>,
    /// Whether events carry ids.
    pub ids: bool,
    /// How long an ended stream still answers late readers.
    pub linger: Duration,
    /// How long an open stream may be without subscribers and events before it is forgotten.
    pub expire: Option<Duration>,
    /// How long an open stream that is read may be without an event before it counts as stalled.
    pub stall_after: Option<Duration>,
    /// Whether only the application's own routes and handlers lead to it, and `/streams/` does not.
    pub private: bool,
    /// Whether publishers wait for its readers as long as it takes, whatever the server's `publish_wait` is. No setting:
    /// the engine gives it to streams that have one reader alone, for whom nobody else waits.
    pub lossless: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            history: 256,
            history_bytes: 1 << 20,
            start: Start::New,
            max_lag: 256,
            on_lag: OnLag::Skip,
            heartbeat: Some(Duration::from_secs(15)),
            heartbeat_event: None,
            heartbeat_comment: "heartbeat".into(),
            retry: None,
            ids: true,
            linger: Duration::from_secs(900),
            expire: None,
            stall_after: None,
            private: false,
            lossless: false,
        }
    }
}

/// Options as given: only what the caller said.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "each field is StreamOptions' field of the same name, where given")]
pub struct StreamPatch {
    pub history: Option<usize>,
    pub history_bytes: Option<usize>,
    pub start: Option<Start>,
    pub max_lag: Option<u64>,
    pub on_lag: Option<OnLag>,
    pub heartbeat: Option<Option<Duration>>,
    pub heartbeat_event: Option<Option<String>>,
    pub heartbeat_comment: Option<String>,
    pub retry: Option<Option<Duration>>,
    pub ids: Option<bool>,
    pub linger: Option<Duration>,
    pub expire: Option<Option<Duration>>,
    pub stall_after: Option<Option<Duration>>,
    pub private: Option<bool>,
    pub lossless: Option<bool>,
}

impl StreamPatch {
    /// Both together; where both say something, `later` counts.
    pub fn merge(&mut self, later: &Self) {
        let later = later.clone();
        self.history = later.history.or(self.history);
        self.history_bytes = later.history_bytes.or(self.history_bytes);
        self.start = later.start.or(self.start);
        self.max_lag = later.max_lag.or(self.max_lag);
        self.on_lag = later.on_lag.or(self.on_lag);
        self.heartbeat = later.heartbeat.or(self.heartbeat);
        self.heartbeat_event = later.heartbeat_event.or_else(|| self.heartbeat_event.take());
        self.heartbeat_comment = later.heartbeat_comment.or_else(|| self.heartbeat_comment.take());
        self.retry = later.retry.or(self.retry);
        self.ids = later.ids.or(self.ids);
        self.linger = later.linger.or(self.linger);
        self.expire = later.expire.or(self.expire);
        self.stall_after = later.stall_after.or(self.stall_after);
        self.private = later.private.or(self.private);
        self.lossless = later.lossless.or(self.lossless);
    }
}

/// The longest interval an option may name, a year. A greater number was probably meant in milliseconds.
pub const MAX_INTERVAL: Duration = Duration::from_secs(366 * 24 * 3600);

/// The shortest heartbeat an option may name. One shorter than the wheel's tick of 20 ms comes once in each tick.
pub const MIN_HEARTBEAT: Duration = Duration::from_millis(1);

/// The shortest silence that an option may call a stall: the clock behind it ticks every few milliseconds.
pub const MIN_STALL: Duration = Duration::from_millis(100);

impl StreamOptions {
    /// These options with those of `patch` in their place, checked. A smaller history given without a lag lowers the
    /// lag with it; a lag that is given and exceeds the history is an error.
    pub fn patched(&self, patch: &StreamPatch) -> Result<Self, OptionError> {
        let history = patch.history.unwrap_or(self.history);
        let options = Self {
            history,
            history_bytes: patch.history_bytes.unwrap_or(self.history_bytes),
            start: patch.start.unwrap_or(self.start),
            max_lag: patch.max_lag.unwrap_or_else(|| self.max_lag.min(history as u64)),
            on_lag: patch.on_lag.unwrap_or(self.on_lag),
            heartbeat: patch.heartbeat.unwrap_or(self.heartbeat),
            heartbeat_event: patch.heartbeat_event.clone().unwrap_or_else(|| self.heartbeat_event.clone()),
            heartbeat_comment: patch
                .heartbeat_comment
                .clone()
                .map_or_else(|| self.heartbeat_comment.clone(), Cow::Owned),
            retry: patch.retry.unwrap_or(self.retry),
            ids: patch.ids.unwrap_or(self.ids),
            linger: patch.linger.unwrap_or(self.linger),
            expire: patch.expire.unwrap_or(self.expire),
            stall_after: patch.stall_after.unwrap_or(self.stall_after),
            private: patch.private.unwrap_or(self.private),
            lossless: patch.lossless.unwrap_or(self.lossless),
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), OptionError> {
        let out_of_range = |option, allowed, value: String| Err(OptionError::OutOfRange { option, allowed, value });
        if self.history == 0 {
            return out_of_range("history", "at least 1 event", self.history.to_string());
        }
        if self.history_bytes == 0 {
            return out_of_range("history_bytes", "at least 1 byte", self.history_bytes.to_string());
        }
        if self.max_lag == 0 {
            return out_of_range("max_lag", "at least 1 event", self.max_lag.to_string());
        }
        if self.max_lag > self.history as u64 {
            return Err(OptionError::LagBeyondHistory { max_lag: self.max_lag, history: self.history });
        }
        if self.heartbeat.is_some_and(|every| every < MIN_HEARTBEAT || every > MAX_INTERVAL) {
            return out_of_range("heartbeat", "0 (off) or 0.001 s to a year", seconds(self.heartbeat));
        }
        if self.stall_after.is_some_and(|after| after < MIN_STALL || after > MAX_INTERVAL) {
            return out_of_range("stall_after", "None or 0.1 s to a year", seconds(self.stall_after));
        }
        for (option, value) in [("retry", self.retry), ("linger", Some(self.linger)), ("expire", self.expire)] {
            if value.is_some_and(|value| value > MAX_INTERVAL) {
                return out_of_range(option, "at most a year", seconds(value));
            }
        }
        if let Some(name) = &self.heartbeat_event {
            if name.is_empty() {
                return out_of_range("heartbeat_event", "a name or None", "\"\"".to_owned());
            }
            one_line("heartbeat_event", name)
                .map_err(|source| OptionError::Text { option: "heartbeat_event", source })?;
        }
        one_line("heartbeat_comment", &self.heartbeat_comment)
            .map_err(|source| OptionError::Text { option: "heartbeat_comment", source })
    }
}

fn seconds(value: Option<Duration>) -> String {
    value.map_or_else(|| "None".to_owned(), |value| format!("{} s", value.as_secs_f64()))
}

impl FromStr for Start {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match text {
            "new" => Ok(Self::New),
            "last" => Ok(Self::Last),
            "all" => Ok(Self::All),
            _ => Err(OptionError::NotAChoice {
                option: "start",
                choices: "\"new\", \"last\", \"all\"",
                value: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Last => "last",
            Self::All => "all",
        })
    }
}

impl FromStr for OnLag {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match text {
            "skip" => Ok(Self::Skip),
            "latest" => Ok(Self::Latest),
            "disconnect" => Ok(Self::Disconnect),
            _ => Err(OptionError::NotAChoice {
                option: "on_lag",
                choices: "\"skip\", \"latest\", \"disconnect\"",
                value: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for OnLag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "skip",
            Self::Latest => "latest",
            Self::Disconnect => "disconnect",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_beyond_history_is_refused_only_where_it_was_asked_for() {
        let base = StreamOptions::default();
        let patch = StreamPatch { history: Some(10), ..StreamPatch::default() };
        assert_eq!(base.patched(&patch).map(|options| options.max_lag), Ok(10));
        let patch = StreamPatch { history: Some(10), max_lag: Some(11), ..StreamPatch::default() };
        assert_eq!(base.patched(&patch), Err(OptionError::LagBeyondHistory { max_lag: 11, history: 10 }));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let base = StreamOptions::default();
        for (patch, name) in [
            (StreamPatch { history: Some(0), ..StreamPatch::default() }, "history"),
            (StreamPatch { history_bytes: Some(0), ..StreamPatch::default() }, "history_bytes"),
            (StreamPatch { max_lag: Some(0), ..StreamPatch::default() }, "max_lag"),
            (StreamPatch { heartbeat: Some(Some(Duration::from_micros(1))), ..StreamPatch::default() }, "heartbeat"),
            (StreamPatch { heartbeat_event: Some(Some("a\nb".into())), ..StreamPatch::default() }, "heartbeat_event"),
            (StreamPatch { heartbeat_comment: Some("a\rb".into()), ..StreamPatch::default() }, "heartbeat_comment"),
            (StreamPatch { linger: Some(MAX_INTERVAL * 2), ..StreamPatch::default() }, "linger"),
        ] {
            let error = base.patched(&patch).expect_err("must be refused");
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
