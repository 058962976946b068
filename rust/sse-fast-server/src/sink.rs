//! A stream as the place where a run publishes.
//!
//! Owns: the conversion from a run's event to a publish, and from a refusal to the words that the run logs.
//! Must not know: pipes, processes, shards.
//! Changes together with: [`EventSink`], which it implements.

use std::time::Duration;

use sse_fast_core::event::NewEvent;

use crate::run::{EventSink, SinkError};
use crate::stream::Stream;

impl EventSink for Stream {
    fn number(&self) -> u64 {
        Self::number(self)
    }

    fn publish(
        &self,
        data: &str,
        event: Option<&str>,
        id: Option<&str>,
        retry: Option<Duration>,
    ) -> Result<String, SinkError> {
        let event = NewEvent { data: data.as_bytes(), event, id, retry, snapshot: None };
        let published = Self::publish(self, &event).map_err(|error| SinkError(error.to_string()))?;
        Ok(published.id().to_owned())
    }

    fn end(&self, data: &str, event: &str) {
        // An error means that the application ended or removed the stream before the run was over.
        let _ = Self::end(self, data.as_bytes(), event);
    }
}
