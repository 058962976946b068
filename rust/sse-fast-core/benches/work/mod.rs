//! The core's work as it is timed in `core` and counted in `instructions`: the same for both.
//!
//! Inputs are made once, before the work; each step does to the core what the shell does for one
//! publish, one walk, one turn of the wheel.

use std::hint::black_box;
use std::sync::Arc;

use sse_fast_core::batch::Batch;
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::frame::{Frame, Framing};
use sse_fast_core::heartbeat::{Tick, Wheel};
use sse_fast_core::id::{Epoch, Position};
use sse_fast_core::options::StreamOptions;
use sse_fast_core::stream::{Scratch, StreamState};
use sse_fast_core::vector::{Entry, IdVector, Life, MAX_NAMES};

/// Data by the way it goes through the encoder.
pub(crate) fn payloads() -> [(&'static str, Vec<u8>); 4] {
    let lines = "a line of a log, as long as most\n".repeat(10);
    let json = r#"{"file":"main.c","text":"int main(void) {\r\n\treturn 0;\r\n}\r\n","line":17}"#;
    [
        ("small", vec![b'x'; 100]),
        ("lines", lines.into_bytes()),
        ("10 KB", vec![b'x'; 10_000]),
        // Written by hand over several lines: every CR and LF splits it.
        ("JSON with CR and LF", json.replace(',', ",\r\n").repeat(4).into_bytes()),
    ]
}

/// A stream that is published into; its history is full.
pub(crate) struct Publisher {
    state: StreamState,
    scratch: Scratch,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        let options = Arc::new(StreamOptions::default());
        let mut publisher = Self { state: StreamState::new(Epoch(1), options), scratch: Scratch::default() };
        for _ in 0..publisher.state.options().history {
            publisher.publish(b"history");
        }
        publisher
    }

    /// Checks and encodes; nothing is appended.
    pub(crate) fn encode(&mut self, data: &[u8]) {
        let event = NewEvent { data, event: Some("update"), ..NewEvent::default() };
        if let Ok(event) = event::check(&event) {
            black_box(self.state.prepare(&mut self.scratch, &event));
        }
    }

    /// Checks, encodes, appends.
    pub(crate) fn publish(&mut self, data: &[u8]) {
        let event = NewEvent { data, event: Some("update"), ..NewEvent::default() };
        if let Ok(event) = event::check(&event) {
            let prepared = self.state.prepare(&mut self.scratch, &event);
            black_box(self.state.append(prepared));
        }
    }
}

/// Subscribers that are all a number of events behind.
pub(crate) struct Crowd {
    publisher: Publisher,
    batch: Batch,
    cursors: Vec<Position>,
}

impl Crowd {
    pub(crate) fn new(subscribers: u32, events: u64) -> Self {
        let publisher = Publisher::new();
        let cursor = publisher.state.newest() + 1 - events;
        Self { publisher, batch: Batch::default(), cursors: vec![cursor; subscribers as usize] }
    }

    /// Lays the events out and gives them to everybody, whose sockets take everything.
    pub(crate) fn walk(&mut self) {
        let Some(&from) = self.cursors.first() else { return };
        self.batch.fill(self.publisher.state.log(), from, Framing::Chunked);
        for &cursor in &self.cursors {
            let bytes = self.batch.bytes_from(black_box(cursor), Framing::Chunked).unwrap_or_default();
            black_box(self.batch.advance(cursor, black_box(bytes).len(), Framing::Chunked));
        }
    }
}

/// Idle subscribers in the wheel: each comes up once an interval and is placed again.
pub(crate) struct Idle {
    wheel: Wheel,
    now: Tick,
    due: Vec<(u32, Tick)>,
}

/// 15 seconds of 20 ms.
const INTERVAL: Tick = 750;

impl Idle {
    pub(crate) fn new(subscribers: u32) -> Self {
        let mut wheel = Wheel::default();
        for key in 0..subscribers {
            wheel.place(key, INTERVAL, INTERVAL);
        }
        let mut idle = Self { wheel, now: 0, due: Vec::new() };
        // The crowd that came in one instant is spread.
        idle.interval();
        idle.interval();
        idle
    }

    /// One interval: everybody comes up and is placed again.
    pub(crate) fn interval(&mut self) {
        for _ in 0..INTERVAL {
            self.wheel.take_due(self.now, &mut self.due);
            for (key, _) in self.due.drain(..) {
                self.wheel.place(key, self.now + INTERVAL, INTERVAL);
            }
            self.now += 1;
        }
    }
}

/// A connection that reads as many streams as it may.
pub(crate) struct Several {
    ids: IdVector,
    frame: Frame,
    out: Vec<u8>,
    position: Position,
}

impl Several {
    pub(crate) fn new() -> Self {
        let entries: Vec<_> = (0..MAX_NAMES).map(|name| Entry::At(Self::life(name), 1000)).collect();
        let frame = Frame::of(format!("event: update\nid: hodg0s4tjq-1000\ndata: {}\n\n", "x".repeat(100)).as_bytes());
        Self { ids: IdVector::new(&entries), frame, out: Vec::new(), position: 1000 }
    }

    fn life(name: usize) -> Life {
        Life::of_hash((name as u64 * 1_000_000_007).to_be_bytes())
    }

    /// An event of each of its streams, for one write.
    pub(crate) fn lay_out(&mut self) {
        self.out.clear();
        self.position += 1;
        for name in 0..MAX_NAMES {
            self.ids.set(name, Self::life(name), self.position);
            black_box(self.ids.put_frame(&mut self.out, name, Framing::Chunked, &self.frame));
        }
        black_box(&self.out);
    }
}
