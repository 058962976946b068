//! From the bytes of all segments to the streams that were kept.
//!
//! Owns: which records count, and what is lost where some are damaged. Must not know: files, clocks, what becomes of the
//! streams. Time and files stay outside: bytes come in, streams go out.
//!
//! # Damage
//! A record whose body is wrong costs what lies behind it in its stream: older events, where newer ones are there. Those are
//! a gap to readers, as what history forgot is. Where nothing newer is there the newest events are lost, and nobody may
//! be given their positions again: the stream is to begin a new life. A place that cannot be read at all may have held the
//! newest event of any stream that has nothing behind it. Every record says how far its stream was, so that a lost event is
//! missed.
//!
//! # What was cut
//! A process may be killed while it writes, and only at the end of the last segment. Its publisher was told nothing, so that
//! what was cut is left out without a word; of records that belong together all are. A server that was closed had written
//! everything: what is missing then is damage. One that was killed leaves whole pages, so that zeros within a page are.
//! This file is long because all of that decides which records count.

use std::collections::{BTreeMap, HashMap, HashSet};

use sse_fast_core::frame::Frame;
use sse_fast_core::id::Position;

use super::format::{
    self, END, Found, Gone, HEAD, Head, Kind, LAST_OF_HEAD, OWN_ID, SEGMENT_HEAD, SegmentHead, WITH_NEXT,
};
use super::key::{self, KeptKey};
use super::life::Life;

/// An event that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptEvent {
    pub(crate) frame: Frame,
    /// Whether its id is the application's own.
    pub(crate) own_id: bool,
}

/// A snapshot that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptSnapshot {
    pub(crate) frame: Frame,
    pub(crate) position: Position,
    /// The name of its event.
    pub(crate) event: String,
}

/// A stream that was kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptStream {
    pub(crate) number: u32,
    pub(crate) life: Life,
    /// The position of the first event.
    pub(crate) first: Position,
    /// One after another.
    pub(crate) events: Vec<KeptEvent>,
    pub(crate) snapshot: Option<KeptSnapshot>,
    pub(crate) ended: bool,
    /// When its last record was written, in milliseconds since the Unix epoch.
    pub(crate) time: u64,
    /// Whether its newest events may be lost.
    pub(crate) is_cut: bool,
    /// Where the record of its life stands.
    pub(crate) life_at: Place,
    /// Where that of its snapshot stands.
    pub(crate) snapshot_at: Option<Place>,
}

impl KeptStream {
    /// The position of the last event.
    fn newest(&self) -> Position {
        self.first + self.events.len() as Position - 1
    }
}

/// A segment's number, and where in it.
pub(crate) type Place = (u64, u64);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) streams: Vec<KeptStream>,
    /// Keys of which nothing that they stand for is lost, the oldest first, each once.
    pub(crate) keys: Vec<KeptKey>,
    /// The greatest epoch that was ever given.
    pub(crate) epoch: u64,
    /// The greatest number that a stream has had.
    pub(crate) number: u32,
    /// Events that stand in two segments: a copy was made, and the process died before the segment went.
    pub(crate) twice: HashSet<(u32, Position)>,
    /// Streams that another life has.
    pub(crate) renewed: HashSet<u32>,
    /// What was damaged, in words.
    pub(crate) damage: Vec<String>,
}

/// What a system writes whole, or not at all, where a process is killed; its pages have as many bytes, or a multiple.
const PAGE: usize = 4096;

/// A segment that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: &'a [u8],
    /// Whether it is the last.
    pub(crate) is_last: bool,
    /// How many bytes of it counted when the server was closed, where that is known.
    pub(crate) expected: Option<u64>,
    /// Whether the machine may have ended before anything was on the disk.
    pub(crate) may_be_blank: bool,
}

impl Segment<'_> {
    /// Whether nothing was written into it, as far as is known.
    fn is_blank(&self) -> bool {
        self.may_be_blank && self.expected.is_none() && self.bytes.iter().all(|&byte| byte == 0)
    }

    /// Whether the record at `at`, whose last byte that is not zero would stand before `end`, may never have been written
    /// to its end. Behind `at` there is no other.
    fn may_be_cut(&self, at: usize, end: usize) -> bool {
        let Some(there) = self.bytes.get(..end) else { return self.is_last && self.expected.is_none() };
        let written = there.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let page = written.next_multiple_of(PAGE);
        // Of a head some bytes are zero anyway; a text has few that are.
        let is_whole_pages = || page < end && (page - written < 8 || (at..at + HEAD).contains(&page));
        self.is_last && self.expected.map_or(self.may_be_blank || is_whole_pages(), |expected| expected <= at as u64)
    }
}

/// A record that may belong to the next, and where it stands.
type Linked<'a> = (Place, Head, &'a [u8]);

/// What is known of a stream so far.
#[derive(Default)]
struct Building {
    life: Option<(Life, Place)>,
    events: BTreeMap<Position, (Frame, u8)>,
    snapshot: Option<(KeptSnapshot, Place)>,
    /// How far it was, by any of its records.
    newest: Position,
    /// Which record it had last that is no copy.
    last: u64,
    time: u64,
    removed: bool,
    renewed: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Recovery {
    streams: HashMap<u32, Building>,
    epoch: u64,
    twice: HashSet<(u32, Position)>,
    keys: Vec<KeptKey>,
    damage: Vec<String>,
    /// How many records were read.
    count: u64,
    /// After how many of them there was a place that cannot be read.
    unreadable: Option<u64>,
    /// The last segment's number, and how many of its bytes there are.
    previous: Option<(u64, u64)>,
}

impl Recovery {
    /// Reads the next segment; how many of its bytes count.
    pub(crate) fn read(&mut self, segment: Segment<'_>) -> Result<usize, u32> {
        let head = match SegmentHead::read(segment.bytes) {
            Ok(head) => head,
            Err(Some(version)) => return Err(version),
            Err(None) if segment.is_last && segment.is_blank() => return Ok(0),
            Err(None) => {
                self.cannot_read(segment.name, "its head");
                return Ok(0);
            }
        };
        self.epoch = self.epoch.max(head.epoch);
        if let Some((number, bytes)) = self.previous
            && (head.number != number + 1 || head.previous > bytes)
        {
            self.cannot_read(segment.name, "what was before it");
        }
        let length = segment.bytes.len() as u64;
        let (used, is_torn) = self.read_records(segment, &head);
        let is_short = segment.expected.map_or(head.size > length, |expected| expected > used as u64);
        if segment.is_last && is_short {
            self.cannot_read(segment.name, "its end");
        } else if is_torn && !segment.is_last {
            self.cannot_read(segment.name, "its last record");
        }
        self.previous = Some((head.number, used as u64));
        Ok(used)
    }

    /// This segment is not there, or cannot be read: what follows does not go on from what was before.
    pub(crate) fn miss(&mut self, name: &str, why: &str) {
        self.damage.push(format!("{name} {why}"));
        self.unreadable = Some(self.count);
        self.previous = None;
    }

    /// Reads records to their end: how many bytes have them, and whether the last was cut.
    fn read_records(&mut self, segment: Segment<'_>, of: &SegmentHead) -> (usize, bool) {
        let (bytes, salt) = (segment.bytes, of.salt);
        let (mut at, mut chain) = (SEGMENT_HEAD, Vec::new());
        let mut used = at;
        while at + HEAD <= bytes.len() {
            match format::read(bytes, salt, at, false) {
                Found::Record(head, body) => {
                    self.link(&mut chain, ((of.number, at as u64), head, body));
                    at += format::record_bytes(head.length);
                    if chain.is_empty() {
                        used = at;
                    }
                }
                Found::Damaged(head, body) => {
                    let is_last = || next_record(bytes, salt, at + 8).is_none();
                    let end = (at + HEAD).saturating_add(head.length);
                    if format::is_torn(&head, body) && is_last() && segment.may_be_cut(at, end) {
                        return (used, true);
                    }
                    chain.drain(..).for_each(|linked| self.take(linked));
                    self.take_damaged(segment, of, at, head);
                    at = at.saturating_add(format::record_bytes(head.length)).min(bytes.len());
                    used = at;
                }
                Found::Nothing => {
                    let Some(next) = next_record(bytes, salt, at) else {
                        let rest = &bytes[at..];
                        let written = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                        let is_torn = written > 0 || !chain.is_empty();
                        let end = at + if written > 0 { LAST_OF_HEAD } else { 1 };
                        // Where the server was closed, or this is not the last, it is found out anyway.
                        let is_open = segment.is_last && segment.expected.is_none();
                        if written > HEAD || is_torn && is_open && !segment.may_be_cut(at, end) {
                            self.cannot_read(segment.name, "its last record");
                        }
                        return (used, is_torn);
                    };
                    // What was before comes first: later events of the same streams may have stood here.
                    chain.drain(..).for_each(|linked| self.take(linked));
                    self.cannot_read(segment.name, &format!("the bytes {at} to {next}"));
                    at = next;
                }
            }
        }
        (used, at < bytes.len() && bytes[at..].iter().any(|&byte| byte != 0) || !chain.is_empty())
    }

    /// A record that may belong to the next.
    fn link<'a>(&mut self, chain: &mut Vec<Linked<'a>>, linked: Linked<'a>) {
        let is_last = linked.1.flags & WITH_NEXT == 0;
        chain.push(linked);
        if is_last {
            chain.drain(..).for_each(|linked| self.take(linked));
        }
    }

    /// A record whose body is wrong.
    fn take_damaged(&mut self, segment: Segment<'_>, of: &SegmentHead, at: usize, head: Head) {
        // An event is not put right: of a long one too many turned bits would explain the checksum.
        let is_small = matches!(head.kind, Kind::Life | Kind::Removed | Kind::Key);
        if let Some(body) = is_small.then(|| format::repaired_body(segment.bytes, of.salt, at)).flatten() {
            self.take(((of.number, at as u64), head, &body));
            return;
        }
        let what = match head.kind {
            Kind::Event => "an event",
            Kind::Snapshot => "a snapshot",
            Kind::Life | Kind::Removed => "what a stream was told",
            Kind::Key => "a key",
        };
        self.damage.push(format!("{}: {what} is damaged", segment.name));
        if head.kind == Kind::Key {
            // It may be there longer than its stream. Where that is there, so was what the key stands for.
            if let Some(stream) = self.streams.get_mut(&head.stream) {
                stream.newest = stream.newest.max(head.position);
            }
            return;
        }
        let stream = self.streams.entry(head.stream).or_default();
        stream.newest = stream.newest.max(head.position);
        self.count += 1;
    }

    fn take(&mut self, (place, head, body): Linked<'_>) {
        self.count += 1;
        if head.kind == Kind::Key {
            // It may be there longer than its stream, and says nothing of it.
            let Head { stream, position, time, .. } = head;
            let read = key::of_body(body);
            self.keys.extend(read.map(|(digests, ids)| KeptKey { digests, ids, stream, position, time }));
            return;
        }
        let stream = self.streams.entry(head.stream).or_default();
        stream.newest = stream.newest.max(head.position);
        if head.flags & format::COPIED == 0 {
            stream.last = self.count;
        }
        stream.time = stream.time.max(head.time);
        match head.kind {
            Kind::Life => {
                if let Some(life) = Life::of_bytes(body) {
                    self.epoch = self.epoch.max(life.epoch);
                    stream.life = Some((life, place));
                }
            }
            Kind::Event => {
                if stream.events.insert(head.position, (Frame::of(body), head.flags)).is_some() {
                    self.twice.insert((head.stream, head.position));
                }
            }
            Kind::Snapshot => stream.snapshot = snapshot(head.position, body).map(|snapshot| (snapshot, place)),
            Kind::Removed => {
                stream.removed = true;
                stream.renewed |= body == Gone::Renewed.word();
            }
            Kind::Key => {}
        }
    }

    fn cannot_read(&mut self, segment: &str, what: &str) {
        self.damage.push(format!("{segment}: {what} cannot be read"));
        self.unreadable = Some(self.count);
    }

    /// What was kept.
    pub(crate) fn finish(mut self) -> Recovered {
        let numbers = self.streams.keys().copied().chain(self.keys.iter().map(|key| key.stream));
        let number = numbers.max().unwrap_or(0);
        let (mut streams, mut newest) = (Vec::with_capacity(self.streams.len()), HashMap::new());
        let mut renewed = HashSet::new();
        for (number, building) in self.streams.drain() {
            if building.renewed {
                renewed.insert(number);
                newest.insert(number, None);
            }
            if building.removed {
                continue;
            }
            if let Some(stream) = building.finish(number, self.unreadable) {
                newest.insert(number, Some(stream.newest()));
                streams.push(stream);
            } else {
                newest.insert(number, None);
                self.damage.push("the name of a stream is lost".to_owned());
            }
        }
        streams.sort_unstable_by_key(|stream| stream.number);
        let keys = keys(self.keys, &newest);
        Recovered { streams, keys, epoch: self.epoch, number, twice: self.twice, renewed, damage: self.damage }
    }
}

impl Building {
    fn finish(self, number: u32, unreadable: Option<u64>) -> Option<KeptStream> {
        let (life, life_at) = self.life?;
        let newest = self.events.last_key_value().map_or(0, |(&position, _)| position);
        let ended = self.events.last_key_value().is_some_and(|(_, (_, flags))| flags & END != 0);
        let is_cut = newest < self.newest || (!ended && unreadable.is_some_and(|count| count >= self.last));
        // From the newest back to the first that is missing.
        let mut first = newest + 1;
        let mut events = Vec::new();
        for (position, (frame, flags)) in self.events.into_iter().rev() {
            if position + 1 != first {
                break;
            }
            first = position;
            events.push(KeptEvent { frame, own_id: flags & OWN_ID != 0 });
        }
        events.reverse();
        let (snapshot, snapshot_at) = self.snapshot.filter(|(snapshot, _)| snapshot.position <= newest).unzip();
        Some(KeptStream { number, life, first, events, snapshot, ended, time: self.time, is_cut, life_at, snapshot_at })
    }
}

/// The oldest first, each once: a copy was made, or its five minutes were over and it was used again. Where the newest events
/// of a stream are lost, and what a key stands for is among them, the key is as one never used; `newest` has how far each
/// stream is, or that nothing is left of it. One that was removed is not among them: its keys count as they did before.
fn keys(mut keys: Vec<KeptKey>, newest: &HashMap<u32, Option<Position>>) -> Vec<KeptKey> {
    let mut known = HashSet::new();
    keys.sort_by_key(|key| key.time);
    let is_lost =
        |key: &KeptKey| newest.get(&key.stream).is_some_and(|newest| newest.is_none_or(|newest| newest < key.position));
    keys.retain(|key| !is_lost(key));
    keys.reverse();
    keys.retain(|key| known.insert(key.place()));
    keys.reverse();
    keys
}

/// Where the next record stands that can be read.
fn next_record(bytes: &[u8], salt: u32, from: usize) -> Option<usize> {
    (from.next_multiple_of(8)..bytes.len().saturating_sub(HEAD - 1))
        .step_by(8)
        .find(|&at| format::read(bytes, salt, at, true) != Found::Nothing)
}

/// The body of a snapshot: the length of its name, the name, the block.
fn snapshot(position: Position, body: &[u8]) -> Option<KeptSnapshot> {
    let length = usize::from(u16::from_le_bytes(body.get(..2)?.try_into().ok()?));
    let event = String::from_utf8(body.get(2..2 + length)?.to_vec()).ok()?;
    Some(KeptSnapshot { frame: Frame::of(&body[2 + length..]), position, event })
}

#[cfg(all(test, not(loom)))]
mod tests;
