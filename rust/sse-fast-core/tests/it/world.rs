//! A stream and its oracle, told the same things in the same order.
//!
//! Every publish is checked on the way: the id, the bounds foreseen and the bounds reached. The
//! data of an event begins with its position and that of a snapshot names its place, so that a
//! client can tell what it got without trusting the ids.

use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::cursor::{self, Gap, Opening};
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::frame::Framing;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{Start, StreamOptions, StreamPatch};
use sse_fast_core::stream::{Prepared, Scratch, StreamState};
use sse_fast_core::wire;

use crate::everything::{Everything, Expected, Item, Published};
use crate::parser::{Block, Parser};

/// The epoch of every stream here, and how ids write it.
pub const EPOCH: (Epoch, &str) = (Epoch(1_700_000_000), "s44we8");

/// What to publish.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// Bytes of padding after the position.
    pub padding: usize,
    /// The caller's own id.
    pub own_id: Option<String>,
    /// Whether a snapshot is set in the same step.
    pub snapshot: bool,
    /// Whether it carries a name and a retry of its own.
    pub named: bool,
}

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
        Self { state, all: Everything::new(EPOCH.1, options), scratch: Scratch::default() }
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
        let (data, snapshot) = (data_of(position, publish.padding), snapshot_of(position));
        let new = NewEvent {
            data: data.as_bytes(),
            event: publish.named.then_some("step"),
            id: publish.own_id.as_deref(),
            retry: publish.named.then_some(Duration::from_millis(1500)),
            snapshot: publish.snapshot.then_some(snapshot.as_bytes()),
        };
        let checked = event::check(&new).expect("an event that may stand on the wire");
        self.state.prepare(&mut self.scratch, &checked)
    }

    pub fn append(&mut self, publish: &Publish, prepared: Prepared) {
        let foreseen = self.state.first_after(&prepared);
        let id = self.state.append(prepared).map(|id| id.as_str().to_owned());
        self.all.publish(self.published(publish));
        if publish.snapshot {
            self.all.snapshot = Some(self.all.newest());
        }
        let ours = self.all.id_of(self.all.newest());
        assert_eq!(id, publish.own_id.is_none().then_some(ours), "publish returns the id");
        assert_eq!(foreseen, self.all.first, "the bounds foreseen");
        self.check_bounds();
    }

    pub fn set_snapshot(&mut self) {
        let data = snapshot_of(self.all.newest());
        self.state.set_snapshot(&mut self.scratch, "snapshot", &data);
        self.all.snapshot = Some(self.all.newest());
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
        Expected::Items { items: blocks.iter().map(|block| self.item(block)).collect(), cursor }
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
            wire::gap(&mut block, self.state.epoch(), range);
            framing.put(&mut bytes, &block);
        }
        bytes
    }

    /// What a block is, by its content; every byte of it must be what the oracle expects.
    pub fn item(&self, block: &Block) -> Item {
        match block.event.as_deref() {
            Some("gap") => Item::Gap(self.gap_of(block)),
            Some("snapshot") => {
                let position = block.data[0].strip_prefix("state ").and_then(|n| n.parse().ok()).expect("ours");
                assert_eq!(block.id, self.all.options.ids.then(|| self.all.id_of(position)));
                Item::Snapshot(position)
            }
            _ => {
                let number = block.data[0].split(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("ours");
                let expected = self.all.event(number);
                assert_eq!(written(block, expected.block.contains("retry: ")), expected.block);
                Item::Event(number)
            }
        }
    }

    /// A gap's range; `skipped` must agree with its ends, and it must not move the reader's place.
    fn gap_of(&self, block: &Block) -> Option<(u64, u64)> {
        assert_eq!((&block.id, block.data.len()), (&None, 1), "a gap carries no id and one line");
        if block.data[0] == r#"{"skipped":null,"from":null,"to":null}"# {
            return None;
        }
        let position = |key: &str| {
            let rest = block.data[0].split_once(&format!("\"{key}\":\"{}-", self.all.epoch)).expect("an id of ours").1;
            rest.split('"').next().and_then(|digits| digits.parse::<u64>().ok()).expect("a position")
        };
        let (from, to) = (position("from"), position("to"));
        let (first, last) = (self.all.id_of(from), self.all.id_of(to));
        let exact = format!(r#"{{"skipped":{},"from":"{first}","to":"{last}"}}"#, to - from + 1);
        assert_eq!(block.data[0], exact, "a gap says exactly how many are missing");
        Some((from, to))
    }

    fn published(&self, publish: &Publish) -> Published {
        let position = self.all.newest() + 1;
        let ours = self.all.options.ids.then(|| self.all.id_of(position));
        let block = Block {
            event: publish.named.then(|| "step".to_owned()),
            id: publish.own_id.clone().or(ours),
            retry: publish.named.then_some(1500),
            data: data_of(position, publish.padding).split('\n').map(str::to_owned).collect(),
        };
        Published { id: block.id.clone(), own: publish.own_id.is_some(), block: written(&block, publish.named) }
    }

    fn check_bounds(&self) {
        assert_eq!((self.state.log().first(), self.state.newest()), (self.all.first, self.all.newest()));
    }
}

/// A block as it stands on the wire; a `retry:` told ahead of the event is not part of it.
fn written(block: &Block, retry: bool) -> String {
    let mut text = String::new();
    let retry = block.retry.filter(|_| retry).map(|wait| wait.to_string());
    for (field, value) in [("event", &block.event), ("id", &block.id), ("retry", &retry)] {
        text.extend(value.iter().map(|value| format!("{field}: {value}\n")));
    }
    text.extend(block.data.iter().map(|line| format!("data: {line}\n")));
    text + "\n"
}

fn data_of(position: u64, padding: usize) -> String {
    // Long data has lines, so that a write may stop between two of them.
    let padding: String = (0..padding).map(|at| if at % 40 == 39 { '\n' } else { 'x' }).collect();
    format!("{position} {padding}")
}

fn snapshot_of(position: u64) -> String {
    format!("state {position}")
}
