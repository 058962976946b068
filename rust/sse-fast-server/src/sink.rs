//! Where runs publish and log: streams and the application's log, as `run` asks for them.

use std::time::Duration;

use sse_fast_core::event::NewEvent;

use crate::logs::{Level, Logs};
use crate::run::{EventSink, LogSink, SinkError};
use crate::stream::Stream;

impl EventSink for Stream {
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
        // Ended or removed by the application meanwhile: then that was the terminal event.
        let _ = Self::end(self, data.as_bytes(), event);
    }
}

impl LogSink for Logs {
    fn log(&self, level: Level, logger: &'static str, text: String) {
        self.put_waiting(level, logger, text);
    }
}
