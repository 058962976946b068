//! The heartbeat in force: the options', or the innermost override of a computation under way.
//!
//! Owns: which heartbeat is in force. Must not know: who is silent, and for how long. Overrides nest and end in any
//! order. Shards are told that it changed and keep what they then find; a first subscriber finds it under the lock.

use std::time::Duration;

use sse_fast_core::error::EventError;
use sse_fast_core::event;
use sse_fast_core::options::MIN_HEARTBEAT;
use sse_fast_core::wire::BlankLine;
use thiserror::Error;

use super::{Inner, Link, Stream};

/// The interval and text of a computation under way.
pub(super) struct HeartbeatOverride {
    token: u64,
    every: Duration,
    comment: Box<str>,
}

/// The heartbeat in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heartbeat {
    pub(crate) every: Duration,
    pub(crate) form: HeartbeatForm,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HeartbeatForm {
    Comment { text: Box<str>, blank_line: BlankLine },
    Event(Box<str>),
}

/// Why a heartbeat cannot be overridden so.
#[derive(Debug, Error)]
pub enum HeartbeatError {
    /// The comment cannot stand on one line.
    #[error(transparent)]
    Comment(#[from] EventError),
    /// More often than a heartbeat may be.
    #[error("every must be at least 0.001 s: got {} s", every.as_secs_f64())]
    TooShort {
        /// What was given.
        every: Duration,
    },
}

impl Stream {
    /// Overrides the heartbeat until [`Stream::pop_heartbeat`] with the token returned; the
    /// innermost override is in force.
    pub fn push_heartbeat(&self, every: Duration, comment: &str) -> Result<u64, HeartbeatError> {
        event::one_line("comment", comment)?;
        if every < MIN_HEARTBEAT {
            return Err(HeartbeatError::TooShort { every });
        }
        let mut inner = self.lock();
        let extra = inner.extra.get_or_insert_default();
        let token = extra.next_override;
        extra.next_override += 1;
        extra.heartbeats.push(HeartbeatOverride { token, every, comment: comment.into() });
        self.retune();
        drop(inner);
        self.tell_shards();
        Ok(token)
    }

    /// Takes an override back, whichever it is.
    pub fn pop_heartbeat(&self, token: u64) {
        let mut inner = self.lock();
        if let Some(extra) = &mut inner.extra {
            extra.heartbeats.retain(|heartbeat| heartbeat.token != token);
        }
        self.retune();
        drop(inner);
        self.tell_shards();
    }

    /// The heartbeat in force, at the pace of the server; `None` where it is switched off. Under the stream's lock.
    pub(crate) fn heartbeat(&self, inner: &Inner) -> Option<Heartbeat> {
        let Heartbeat { every, form } = Self::heartbeat_in_force(inner)?;
        Some(Heartbeat { every: every.checked_div(self.0.delivery.heartbeat_pace).unwrap_or(every), form })
    }

    fn heartbeat_in_force(inner: &Inner) -> Option<Heartbeat> {
        let options = inner.state.options();
        // A blank line would make an event of a `retry:` that waits for its first event.
        let is_safe = !options.ids && !inner.state.may_have_told_retry();
        let blank_line = if is_safe { BlankLine::Written } else { BlankLine::LeftOut };
        if let Some(innermost) = inner.extra.as_ref().and_then(|extra| extra.heartbeats.last()) {
            let form = HeartbeatForm::Comment { text: innermost.comment.clone(), blank_line };
            return Some(Heartbeat { every: innermost.every, form });
        }
        let form = match &options.heartbeat_event {
            Some(name) => HeartbeatForm::Event(name.as_str().into()),
            None => HeartbeatForm::Comment { text: options.heartbeat_comment.as_ref().into(), blank_line },
        };
        options.heartbeat.map(|every| Heartbeat { every, form })
    }

    /// The heartbeat in force may have changed; under the stream's lock.
    pub(super) fn retune(&self) {
        self.0.links.iter().for_each(Link::retune);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use sse_fast_core::id::Epoch;
    use sse_fast_core::options::{StreamOptions, StreamPatch};

    use super::*;
    use crate::delivery::{Delivery, Patience};
    use crate::mailbox::{Latch, Mailbox, Wake};

    struct Quiet;

    impl Wake for Quiet {
        fn wake(&self) {}
    }

    #[test]
    fn a_retry_that_was_told_and_taken_back_still_waits_for_its_first_event() {
        let delivery = Delivery::new(Box::new([]), Mailbox::new(&Latch::new(Quiet)), Patience::Lossless);
        let blank_line_of = |stream: &Stream| match stream.heartbeat(&stream.lock()).map(|heartbeat| heartbeat.form) {
            Some(HeartbeatForm::Comment { blank_line, .. }) => blank_line,
            other => panic!("{other:?}"),
        };
        let options = Arc::new(StreamOptions { ids: false, ..StreamOptions::default() });
        let stream = Stream::new("s", Epoch(1), &Arc::new(delivery), options);
        assert_eq!(blank_line_of(&stream), BlankLine::Written);
        for retry in [Some(Duration::from_secs(3)), None, None] {
            stream.configure(&StreamPatch { retry: Some(retry), ..StreamPatch::default() }).unwrap_or_default();
            assert_eq!(blank_line_of(&stream), BlankLine::LeftOut, "{retry:?}");
        }
    }
}
