//! What test events hold, and how a reader recognises them.
//!
//! Owns: the data of events and snapshots, and the way back from a block to an [`Item`]. An event's data begins with the
//! stream's tag and the event's serial number, a snapshot's with the position it stands for, so that a reader can tell what
//! it got without trusting ids. Every byte of a block must be what the oracle expects. Changes together with `everything`.

use crate::everything::{Everything, Item, Published};
use crate::parser::Block;

/// What to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Bytes of padding after the serial number.
    pub padding: usize,
    /// The caller's own id.
    pub own_id: Option<String>,
    /// Whether a snapshot is set in the same step.
    pub snapshot: bool,
    /// Whether it carries a name and a retry of its own.
    pub named: bool,
}

/// The name and the retry, in milliseconds, of an event that has its own.
pub const NAME: &str = "step";
pub const RETRY_MS: u64 = 1500;

/// The data of the event with this serial number.
pub fn data_of(tag: &str, serial: u64, padding: usize) -> String {
    // Long data has lines, so that a write may stop between two of them.
    let padding: String = (0..padding).map(|at| if at % 40 == 39 { '\n' } else { 'x' }).collect();
    format!("{tag}:{serial} {padding}")
}

/// The data of a snapshot.
pub fn snapshot_of(tag: &str, serial: u64) -> String {
    format!("state {tag}:{serial}")
}

impl Everything {
    /// The event as it must stand on the wire at `position`.
    pub fn published(&self, serial: u64, position: u64, publish: &Publish) -> Published {
        let ours = self.options.ids.then(|| self.id_of(position));
        let block = Block {
            event: publish.named.then(|| NAME.to_owned()),
            id: publish.own_id.clone().or(ours),
            retry: publish.named.then_some(RETRY_MS),
            data: data_of(&self.tag, serial, publish.padding).split('\n').map(str::to_owned).collect(),
        };
        Published { serial, id: block.id.clone(), own: publish.own_id.is_some(), block: written(&block, publish.named) }
    }

    /// Whether a block is of this stream: a gap by its ids, everything else by its tag; an unknown gap is of any.
    pub fn owns(&self, block: &Block) -> bool {
        let first = block.data.first().map_or("", String::as_str);
        match block.event.as_deref() {
            Some("gap") => is_unknown_gap(block) || first.contains(&format!("\"{}-", self.epoch)),
            Some("snapshot") => first.starts_with(&format!("state {}:", self.tag)),
            _ => first.starts_with(&format!("{}:", self.tag)),
        }
    }

    /// What a block is, by its content; every byte of it must be what the oracle expects.
    pub fn item(&self, block: &Block) -> Item {
        match block.event.as_deref() {
            Some("gap") => Item::Gap(self.gap_of(block)),
            Some("snapshot") => {
                let prefix = format!("state {}:", self.tag);
                let serial =
                    block.data[0].strip_prefix(&prefix).and_then(|n| n.parse().ok()).expect("a snapshot of ours");
                let position = self.snapshot_at(serial);
                assert_eq!(block.id, self.options.ids.then(|| self.id_of(position)), "a snapshot carries its place");
                Item::Snapshot(position)
            }
            _ => {
                let prefix = format!("{}:", self.tag);
                let serial = block.data[0].strip_prefix(&prefix).and_then(|rest| rest.split(' ').next()?.parse().ok());
                let position = self.position_of(serial.expect("an event of ours"));
                let expected = self.event(position);
                assert_eq!(written(block, expected.block.contains("retry: ")), expected.block);
                Item::Event(position)
            }
        }
    }

    /// What a block is on a connection that reads several streams: without its id it must be what the oracle expects, a gap
    /// but for the stream's name.
    pub fn item_of_several(&self, block: &Block) -> Item {
        let mut own = block.clone();
        if block.event.as_deref() == Some("gap") {
            let named = format!(",\"stream\":\"{}\"}}", self.tag);
            own.data[0] = block.data[0].strip_suffix(&named).expect("a gap names its stream").to_owned() + "}";
            return Item::Gap(self.gap_of(&own));
        }
        assert!(block.id.is_some(), "everything but a gap has the connection's id: {block:?}");
        if block.event.as_deref() == Some("snapshot") {
            let prefix = format!("state {}:", self.tag);
            let serial = block.data[0].strip_prefix(&prefix).and_then(|n| n.parse().ok()).expect("a snapshot of ours");
            return Item::Snapshot(self.snapshot_at(serial));
        }
        let prefix = format!("{}:", self.tag);
        let serial = block.data[0].strip_prefix(&prefix).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let position = self.position_of(serial.expect("an event of ours"));
        let published = self.event(position);
        own.id.clone_from(&published.id);
        assert_eq!(written(&own, published.block.contains("retry: ")), published.block);
        Item::Event(position)
    }

    /// Whether a block of a connection that reads several streams is of this one.
    pub fn owns_of_several(&self, block: &Block) -> bool {
        let first = block.data.first().map_or("", String::as_str);
        match block.event.as_deref() {
            Some("gap") => first.ends_with(&format!("\"stream\":\"{}\"}}", self.tag)),
            _ => self.owns(block),
        }
    }

    /// A gap's range; `skipped` must agree with its ends, and it must not move the reader's place.
    fn gap_of(&self, block: &Block) -> Option<(u64, u64)> {
        assert_eq!((&block.id, block.data.len()), (&None, 1), "a gap carries no id and one line");
        if is_unknown_gap(block) {
            return None;
        }
        let position = |key: &str| {
            let rest = block.data[0].split_once(&format!("\"{key}\":\"{}-", self.epoch)).expect("an id of ours").1;
            rest.split('"').next().and_then(|digits| digits.parse::<u64>().ok()).expect("a position")
        };
        let (from, to) = (position("from"), position("to"));
        let (first, last) = (self.id_of(from), self.id_of(to));
        let exact = format!(r#"{{"skipped":{},"from":"{first}","to":"{last}"}}"#, to - from + 1);
        assert_eq!(block.data[0], exact, "a gap says exactly how many are missing");
        Some((from, to))
    }
}

fn is_unknown_gap(block: &Block) -> bool {
    block.data.first().is_some_and(|data| data == r#"{"skipped":null,"from":null,"to":null}"#)
}

/// A block as it stands on the wire; a `retry:` told ahead of the event is not part of it.
pub fn written(block: &Block, retry: bool) -> String {
    let mut text = String::new();
    let retry = block.retry.filter(|_| retry).map(|wait| wait.to_string());
    for (field, value) in [("event", &block.event), ("id", &block.id), ("retry", &retry)] {
        text.extend(value.iter().map(|value| format!("{field}: {value}\n")));
    }
    text.extend(block.data.iter().map(|line| format!("data: {line}\n")));
    text + "\n"
}
