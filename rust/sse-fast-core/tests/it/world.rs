//! A stream and its oracle, told the same things in the same order.
//!
//! Every publish is checked on the way: the id, the bounds foreseen and the bounds reached. The
//! data of an event begins with its position and that of a snapshot names its place, so that a
//! client can tell what it got without trusting the ids.

use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::cursor::{self, Opening};
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::frame::Framing;
use sse_fast_core::gap::Gap;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{Start, StreamOptions, StreamPatch};
use sse_fast_core::stream::{Prepared, Scratch, StreamState};
use sse_fast_core::wire;

use sse_fast_oracle::content::{self, Publish, data_of, snapshot_of};
use sse_fast_oracle::everything::{Everything, Expected, Item};
use sse_fast_oracle::parser::Parser;

/// The epoch of every stream here, and how ids write it.
pub const EPOCH: (Epoch, &str) = (Epoch(1_700_000_000), "s44we8");

/// What the data of the events begins with.
const TAG: &str = "s";

/// See the module.
#[derive(Debug)]
pub struct World {
    pub state: StreamState,
    pub all: Everything,
    scratch: Scratch,
}

impl World {
    pub fn new(patch: &StreamPatch) -> Self {
        let options = StreamOptions::default().patched(patch).expect("options in range");
        let state = StreamState::new(EPOCH.0, Arc::new(options.clone()));
        Self { state, all: Everything::new(TAG, EPOCH.1, options), scratch: Scratch::default() }
    }

    /// A stream with that much history whose new readers get everything, with `count` events.
    pub fn with_history(history: usize, count: u64) -> Self {
        let patch = StreamPatch { history: Some(history), start: Some(Start::All), ..StreamPatch::default() };
        let mut world = Self::new(&patch);
        world.publish_many(count);
        world
    }

    pub fn publish_many(&mut self, count: u64) {
        for _ in 0..count {
            self.publish(&Publish::default());
        }
    }

    pub fn publish(&mut self, publish: &Publish) {
        let prepared = self.prepare(publish);
        self.append(publish, prepared);
    }

    /// Publishes the terminal event.
    pub fn end(&mut self) {
        self.publish(&Publish::default());
        self.state.end();
        self.all.ended = true;
    }

    pub fn prepare(&mut self, publish: &Publish) -> Prepared {
        let position = self.all.newest() + 1;
        let (data, snapshot) = (data_of(TAG, position, publish.padding), snapshot_of(TAG, position));
        let new = NewEvent {
            data: data.as_bytes(),
            event: publish.named.then_some(content::NAME),
            id: publish.own_id.as_deref(),
            retry: publish.named.then_some(Duration::from_millis(content::RETRY_MS)),
            snapshot: publish.snapshot.then_some(snapshot.as_bytes()),
        };
        let checked = event::check(&new).expect("an event that may stand on the wire");
        self.state.prepare(&mut self.scratch, &checked)
    }

    pub fn append(&mut self, publish: &Publish, prepared: Prepared) {
        let foreseen = self.state.first_after(&prepared);
        let id = self.state.append(prepared).map(|id| id.as_str().to_owned());
        let position = self.all.newest() + 1;
        self.all.publish(self.all.published(position, position, publish));
        if publish.snapshot {
            self.all.set_snapshot(position);
        }
        let ours = self.all.id_of(self.all.newest());
        assert_eq!(id, publish.own_id.is_none().then_some(ours), "publish returns the id");
        assert_eq!(foreseen, self.all.first, "the bounds foreseen");
        self.check_bounds();
    }

    pub fn set_snapshot(&mut self) {
        let data = snapshot_of(TAG, self.all.newest());
        let event = NewEvent { data: data.as_bytes(), event: Some("snapshot"), ..NewEvent::default() };
        self.state
            .set_snapshot(&mut self.scratch, &event::check(&event).expect("a snapshot that may stand on the wire"));
        self.all.set_snapshot(self.all.newest());
    }

    pub fn set_options(&mut self, patch: &StreamPatch) {
        let options = self.all.options.patched(patch).expect("options in range");
        self.state.set_options(Arc::new(options.clone()));
        self.all.set_options(options);
        self.check_bounds();
    }

    /// What the core gives a reader that opens the stream, as bytes through a parser; nothing
    /// where the answer is 204.
    pub fn opens(&self, last_event_id: Option<&str>, start: Option<Start>) -> Expected {
        let Opening::Live { before, snapshot, after, cursor } = cursor::open(&self.state, last_event_id, start) else {
            return Expected::Nothing;
        };
        let mut bytes = self.gap_bytes(before, Framing::Plain);
        bytes.extend(snapshot.iter().flat_map(|frame| frame.plain().to_vec()));
        bytes.extend(self.gap_bytes(after, Framing::Plain));
        for frame in self.state.log().from(cursor) {
            bytes.extend_from_slice(frame.plain());
        }
        let blocks = Parser::new(false, self.all.options.ids).take(&bytes);
        Expected::Items { items: blocks.iter().map(|block| self.all.item(block)).collect(), cursor }
    }

    /// The same, for tests that only look at what is seen.
    pub fn sees(&self, last_event_id: Option<&str>) -> Vec<Item> {
        match self.opens(last_event_id, None) {
            Expected::Nothing => Vec::new(),
            Expected::Items { items, .. } => items,
        }
    }

    pub fn gap_bytes(&self, gap: Option<Gap>, framing: Framing) -> Vec<u8> {
        let (mut block, mut bytes) = (Vec::new(), Vec::new());
        if let Some(gap) = gap {
            let range = match gap {
                Gap::Known { from, to } => Some((from, to)),
                Gap::Unknown => None,
            };
            assert_eq!(gap.skipped(), range.map(|(from, to)| to - from + 1));
            wire::gap(&mut block, self.state.epoch(), range, None);
            framing.put(&mut bytes, &block);
        }
        bytes
    }

    fn check_bounds(&self) {
        assert_eq!((self.state.log().first(), self.state.newest()), (self.all.first, self.all.newest()));
    }
}
