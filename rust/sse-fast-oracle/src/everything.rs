//! The oracle: keeps every event ever published and works out what a reader must see.
//!
//! Deliberately naive: it counts and compares texts where the core subtracts and parses. It knows
//! the core's options and nothing else of it, and encodes the blocks it expects by itself.
//! Law: `1..=newest` is everything; what is retained is the longest tail that fits the bounds and
//! was never evicted before; what a reader lacks is given, or covered by a snapshot, or announced.

use std::collections::HashMap;

use sse_fast_core::options::{Start, StreamOptions};

/// One thing a reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The positions that are missing, first and last; none where nobody knows.
    Gap(Option<(u64, u64)>),
    /// What stands for everything up to the position.
    Snapshot(u64),
    /// The event at the position.
    Event(u64),
}

/// What a reader must see when it opens the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It has the terminal event: 204.
    Nothing,
    /// These, in this order; `cursor` is the first event among them or to come.
    Items { items: Vec<Item>, cursor: u64 },
}

/// What a reader's Last-Event-ID stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It sent none.
    New,
    /// It has everything up to this position.
    After(u64),
    /// Nobody knows.
    Lost,
}

/// An event as it must stand on the wire.
#[derive(Clone, Debug)]
pub struct Published {
    /// What its data says it is.
    pub serial: u64,
    pub id: Option<String>,
    pub own: bool,
    pub block: String,
}

/// See the module.
#[derive(Debug)]
pub struct Everything {
    /// What the data of this stream's events begins with.
    pub tag: String,
    /// The epoch as ids write it.
    pub epoch: String,
    pub options: StreamOptions,
    /// Position 1 stands first.
    pub events: Vec<Published>,
    /// The position the snapshot stands for.
    pub snapshot: Option<u64>,
    /// Every snapshot there was, by its serial number.
    snapshots: HashMap<u64, u64>,
    pub ended: bool,
    /// The oldest position that was never evicted.
    pub first: u64,
}

impl Everything {
    pub fn new(tag: &str, epoch: &str, options: StreamOptions) -> Self {
        let (tag, epoch) = (tag.to_owned(), epoch.to_owned());
        Self {
            tag,
            epoch,
            options,
            events: Vec::new(),
            snapshot: None,
            snapshots: HashMap::new(),
            ended: false,
            first: 1,
        }
    }

    /// Sets the snapshot: it stands for everything so far. `serial` is what its data says.
    pub fn set_snapshot(&mut self, serial: u64) {
        self.snapshot = Some(self.newest());
        self.snapshots.insert(serial, self.newest());
    }

    /// The position that the snapshot with this serial number stands for.
    pub fn snapshot_at(&self, serial: u64) -> u64 {
        *self.snapshots.get(&serial).expect("a snapshot that was set")
    }

    /// Where the event with this serial number stands.
    pub fn position_of(&self, serial: u64) -> u64 {
        let place = self.events.iter().rposition(|event| event.serial == serial).expect("an event that was published");
        place as u64 + 1
    }

    pub fn newest(&self) -> u64 {
        self.events.len() as u64
    }

    pub fn event(&self, position: u64) -> &Published {
        &self.events[usize::try_from(position).unwrap() - 1]
    }

    pub fn publish(&mut self, event: Published) {
        self.events.push(event);
        self.evict();
    }

    pub fn set_options(&mut self, options: StreamOptions) {
        self.options = options;
        self.evict();
    }

    pub fn id_of(&self, position: u64) -> String {
        format!("{}-{position}", self.epoch)
    }

    /// The longest tail that fits, at least the newest; what was evicted once never comes back.
    fn evict(&mut self) {
        let (mut keep, mut bytes) = (0, 0);
        for event in self.events.iter().rev() {
            bytes += chunk_length(&event.block);
            if keep > 0 && (keep == self.options.history || bytes > self.options.history_bytes) {
                break;
            }
            keep += 1;
        }
        self.first = self.first.max(self.newest() + 1 - keep as u64);
    }

    /// What a Last-Event-ID stands for: a caller's own id that is still held, the newest of equal
    /// ones; else an id of this life, found by writing every one there is.
    pub fn place(&self, last_event_id: Option<&str>) -> Place {
        let Some(id) = last_event_id.filter(|id| !id.is_empty()) else { return Place::New };
        let is_held = |&position: &u64| self.event(position).id.as_deref() == Some(id);
        if self.events.iter().any(|event| event.own)
            && let Some(position) = (self.first..=self.newest()).rev().find(is_held)
        {
            return Place::After(position);
        }
        (0..=self.newest()).find(|&position| self.id_of(position) == id).map_or(Place::Lost, Place::After)
    }

    pub fn must_see(&self, last_event_id: Option<&str>, start: Option<Start>) -> Expected {
        self.must_see_at(self.place(last_event_id), start)
    }

    /// The same for a reader whose place is known.
    pub fn must_see_at(&self, place: Place, start: Option<Start>) -> Expected {
        let start = start.unwrap_or(self.options.start);
        match place {
            Place::New => self.to_a_new_reader(start, false),
            Place::Lost => self.to_a_new_reader(start, true),
            Place::After(position) => self.to_one_that_has(position),
        }
    }

    fn to_a_new_reader(&self, start: Start, lost: bool) -> Expected {
        let mut items = if lost { vec![Item::Gap(None)] } else { Vec::new() };
        if let Some(position) = self.snapshot {
            items.push(Item::Snapshot(position));
            let covered = self.covered(position);
            items.extend(self.missing_after(covered).map(Item::Gap));
            return self.with_tail(items, covered);
        }
        let wanted_after = match start {
            Start::All => 0,
            Start::Last => self.newest().saturating_sub(1),
            // Nothing more will come: the terminal event is what there is to tell.
            Start::New => self.newest() - u64::from(self.ended),
        };
        if !lost {
            items.extend(self.missing_after(wanted_after).map(Item::Gap));
        }
        self.with_tail(items, wanted_after)
    }

    fn to_one_that_has(&self, position: u64) -> Expected {
        if self.ended && position == self.newest() {
            return Expected::Nothing;
        }
        if self.missing_after(position).is_none() {
            return self.with_tail(Vec::new(), position);
        }
        // An older snapshot would take the reader back to before what it has.
        let snapshot = self.snapshot.filter(|&snapshot| snapshot >= position);
        let covered = snapshot.map_or(0, |snapshot| self.covered(snapshot)).max(self.first - 1);
        let mut items = vec![Item::Gap(Some((position + 1, covered)))];
        items.extend(snapshot.map(Item::Snapshot));
        self.with_tail(items, covered)
    }

    /// What a snapshot at `position` stands for: never for the terminal event, which every reader is given.
    fn covered(&self, position: u64) -> u64 {
        if self.ended && position == self.newest() { position - 1 } else { position }
    }

    /// The positions after `position` that were evicted.
    #[allow(clippy::option_option, reason = "a gap whose range is known, where there is a gap")]
    fn missing_after(&self, position: u64) -> Option<Option<(u64, u64)>> {
        (position + 1 < self.first).then_some(Some((position + 1, self.first - 1)))
    }

    fn with_tail(&self, mut items: Vec<Item>, after: u64) -> Expected {
        let cursor = (after + 1).max(self.first);
        items.extend((cursor..=self.newest()).map(Item::Event));
        Expected::Items { items, cursor }
    }
}

/// What a block counts against the bound in bytes: its length in hex digits, itself, two CRLF.
fn chunk_length(block: &str) -> usize {
    format!("{:x}", block.len()).len() + block.len() + 4
}
