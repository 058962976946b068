//! Recovery against an oracle that knows what was written: cut at every byte, with any bit turned, with places overwritten.
//! It is long because the oracle writes everything that a server writes.

#![allow(clippy::expect_used, reason = "a test that fails says so")]

use proptest::prelude::*;
use sse_fast_core::id::Epoch;

use super::super::format::{COPIED, record_bytes, write};
use super::super::key::KeptIds;
use super::super::life::KeptOptions;
use super::*;

const SALT: u32 = 0x1234_5678;

/// What a test writes.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A new stream.
    Begin,
    /// An event of so many bytes, alone or with a snapshot.
    Publish {
        stream: usize,
        bytes: usize,
        with_snapshot: bool,
        keyed: bool,
    },
    /// So many events in one batch, every third with a snapshot; `ends` where the last is the terminal one.
    Several {
        stream: usize,
        count: usize,
        ends: bool,
        keyed: bool,
    },
    Snapshot {
        stream: usize,
    },
    End {
        stream: usize,
    },
    Remove {
        stream: usize,
    },
}

/// What of a stream a reader can see.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    name: String,
    events: Vec<(String, bool)>,
    snapshot: Option<(Position, String)>,
    ended: bool,
    /// The keys that it was published into under.
    keys: Vec<KeptKey>,
}

/// A segment in the making, with the oracle's view after each batch.
struct Written {
    bytes: Vec<u8>,
    streams: Vec<Option<Model>>,
    /// Where each batch ends, and what there was then.
    history: Vec<(usize, Vec<Option<Model>>)>,
    /// Of each record where it stands and whose it is.
    records: Vec<(usize, usize)>,
}

impl Written {
    fn new() -> Self {
        let mut bytes = Vec::new();
        SegmentHead { number: 1, salt: SALT, epoch: 3, previous: 0, size: 0 }.write(&mut bytes);
        let history = vec![(bytes.len(), Vec::new())];
        Self { bytes, streams: Vec::new(), history, records: Vec::new() }
    }

    fn record(&mut self, stream: usize, kind: Kind, flags: u8, position: Position, body: &[u8]) {
        let head = Head { kind, flags, stream: number(stream), position, time: 9, length: body.len() };
        self.records.push((self.bytes.len(), stream));
        write(&mut self.bytes, SALT, &head, &[body]);
    }

    /// The key of what follows in the same batch: so many events.
    fn key(&mut self, stream: usize, count: usize) {
        let position = (self.model(stream).events.len() + count) as Position;
        let mut digests = [7; 64];
        digests[..8].copy_from_slice(&stream.to_be_bytes());
        digests[8..16].copy_from_slice(&position.to_be_bytes());
        let mut ids = KeptIds::new(Epoch(5));
        (0..count as Position).rev().for_each(|before| ids.push(position - before, None));
        self.record(stream, Kind::Key, WITH_NEXT, position, &[&digests[..], &ids.to_bytes()].concat());
        self.model(stream).keys.push(KeptKey { digests, ids, stream: number(stream), position, time: 9 });
    }

    fn snapshot(&mut self, stream: usize, text: &str) {
        self.snapshot_with(stream, 0, text);
    }

    fn snapshot_with(&mut self, stream: usize, flags: u8, text: &str) {
        let position = self.model(stream).events.len() as Position;
        let body = [&1_u16.to_le_bytes()[..], b"s", text.as_bytes()].concat();
        self.record(stream, Kind::Snapshot, flags, position, &body);
        self.model(stream).snapshot = Some((position, text.to_owned()));
    }

    fn model(&mut self, stream: usize) -> &mut Model {
        self.streams[stream].as_mut().expect("it was not removed")
    }

    /// Long because there are so many acts.
    fn act(&mut self, act: Act) {
        let open = |streams: &[Option<Model>], stream: usize| {
            let count = streams.len().max(1);
            let stream = stream % count;
            streams.get(stream).and_then(Option::as_ref).filter(|model| !model.ended).map(|_| stream)
        };
        match act {
            Act::Begin => {
                let stream = self.streams.len();
                let name = format!("stream {stream}");
                let life = Life {
                    name: name.clone(),
                    epoch: 5,
                    run: false,
                    had_retry: false,
                    options: KeptOptions::default(),
                };
                self.streams.push(Some(Model { name, ..Model::default() }));
                self.record(stream, Kind::Life, 0, 0, &life.to_bytes());
            }
            Act::Publish { stream, bytes, with_snapshot, keyed } => {
                let Some(stream) = open(&self.streams, stream) else { return };
                if keyed {
                    self.key(stream, 1);
                }
                let position = self.model(stream).events.len() as Position + 1;
                let block = format!("data: {}\n\n", "é".repeat(bytes));
                let own_id = bytes % 3 == 0;
                let flags = if with_snapshot { WITH_NEXT } else { 0 } | if own_id { OWN_ID } else { 0 };
                self.record(stream, Kind::Event, flags, position, block.as_bytes());
                self.model(stream).events.push((block, own_id));
                if with_snapshot {
                    self.snapshot(stream, &format!("data: up to {position}\n\n"));
                }
            }
            Act::Several { stream, count, ends, keyed } => {
                let Some(stream) = open(&self.streams, stream) else { return };
                if keyed {
                    self.key(stream, count);
                }
                for place in 0..count {
                    let (position, is_last) = (self.model(stream).events.len() as Position + 1, place + 1 == count);
                    let with_snapshot = place % 3 == 1;
                    let is_end = ends && is_last;
                    let flags = if is_last && !with_snapshot { 0 } else { WITH_NEXT } | if is_end { END } else { 0 };
                    let block = format!("data: {place} of {count}\n\n");
                    self.record(stream, Kind::Event, flags, position, block.as_bytes());
                    self.model(stream).events.push((block, false));
                    self.model(stream).ended = is_end;
                    if with_snapshot {
                        let flags = if is_last { 0 } else { WITH_NEXT };
                        self.snapshot_with(stream, flags, &format!("data: up to {position}\n\n"));
                    }
                }
            }
            Act::Snapshot { stream } => {
                let Some(stream) = open(&self.streams, stream) else { return };
                self.snapshot(stream, "data: alone\n\n");
            }
            Act::End { stream } => {
                let Some(stream) = open(&self.streams, stream) else { return };
                let position = self.model(stream).events.len() as Position + 1;
                self.record(stream, Kind::Event, END, position, b"data: end\n\n");
                self.model(stream).events.push(("data: end\n\n".to_owned(), false));
                self.model(stream).ended = true;
            }
            Act::Remove { stream } => {
                let count = self.streams.len().max(1);
                let stream = stream % count;
                if self.streams.get(stream).is_some_and(Option::is_some) {
                    self.record(stream, Kind::Removed, 0, Position::MAX, b"removed");
                    self.streams[stream] = None;
                }
            }
        }
        self.history.push((self.bytes.len(), self.streams.clone()));
    }
}

fn number(stream: usize) -> u32 {
    u32::try_from(stream).expect("few") + 1
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => Just(Act::Begin),
        10 => (0..4_usize, 0..40_usize, any::<bool>(), any::<bool>())
            .prop_map(|(stream, bytes, with_snapshot, keyed)| Act::Publish { stream, bytes, with_snapshot, keyed }),
        3 => (0..4_usize, 1..7_usize, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(stream, count, ends, keyed)| Act::Several { stream, count, ends, keyed }),
        1 => (0..4_usize).prop_map(|stream| Act::Snapshot { stream }),
        1 => (0..4_usize).prop_map(|stream| Act::End { stream }),
        1 => (0..4_usize).prop_map(|stream| Act::Remove { stream }),
    ];
    prop::collection::vec(act, 1..40).prop_map(|acts| [Act::Begin].into_iter().chain(acts).collect())
}

fn written(acts: &[Act]) -> Written {
    let mut written = Written::new();
    for &act in acts {
        written.act(act);
    }
    written
}

fn recovered(bytes: &[u8]) -> Recovered {
    read_last(bytes, None, true)
}

fn read_last(bytes: &[u8], expected: Option<u64>, may_be_blank: bool) -> Recovered {
    let mut recovery = Recovery::default();
    let segment = Segment { name: "segment", bytes, is_last: true, expected, may_be_blank };
    recovery.read(segment).expect("this version's");
    recovery.finish()
}

fn seen(recovered: &Recovered, stream: &KeptStream) -> Model {
    let text = |frame: &Frame| String::from_utf8(frame.plain().to_vec()).expect("UTF-8");
    Model {
        name: stream.life.name.clone(),
        events: stream.events.iter().map(|event| (text(&event.frame), event.own_id)).collect(),
        snapshot: stream.snapshot.as_ref().map(|snapshot| (snapshot.position, text(&snapshot.frame))),
        ended: stream.ended,
        keys: recovered.keys.iter().filter(|key| key.stream == stream.number).cloned().collect(),
    }
}

fn all_seen(recovered: &Recovered) -> Vec<Model> {
    recovered.streams.iter().map(|stream| seen(recovered, stream)).collect()
}

fn assert_is(recovered: &Recovered, streams: &[Option<Model>]) {
    let expected: Vec<_> = streams.iter().flatten().cloned().collect();
    assert_eq!(all_seen(recovered), expected);
    assert!(recovered.streams.iter().all(|stream| !stream.is_cut && stream.first == 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_and_zeros_behind_it_are_nothing(acts in acts(), zeros in 0..200_usize) {
        let mut written = written(&acts);
        written.bytes.resize(written.bytes.len() + zeros, 0);
        let recovered = recovered(&written.bytes);
        assert_is(&recovered, &written.streams);
        prop_assert_eq!(recovered.damage, Vec::<String>::new());
        prop_assert_eq!(recovered.epoch, 5);
    }

    /// A kill in the middle of a write leaves its beginning: then zeros, or the file's end.
    #[test]
    fn what_was_cut_is_left_out_without_a_word(acts in acts(), zeros: bool) {
        let written = written(&acts);
        let whole = written.bytes.len();
        let (from, _) = written.history[written.history.len().saturating_sub(4)];
        for cut in from..whole {
            let mut bytes = written.bytes[..cut].to_vec();
            if zeros {
                bytes.resize(whole + 64, 0);
            }
            let recovered = recovered(&bytes);
            // The padding behind a record may be cut; a record may end in zeros of its own.
            let before = written.history.iter().rev().find(|(end, _)| *end < cut + 8);
            let (_, exact) = written.history.iter().rev().find(|(end, _)| *end <= cut).expect("the head");
            let streams = all_seen(&recovered);
            let is = |streams_then: &Vec<Option<Model>>| streams == streams_then.iter().flatten().cloned().collect::<Vec<_>>();
            assert!(is(exact) || before.is_some_and(|(_, then)| is(then)), "cut at {cut} of {whole}");
            assert!(recovered.streams.iter().all(|stream| !stream.is_cut), "cut at {cut}: {:?}", recovered.damage);
            assert!(recovered.damage.is_empty(), "cut at {cut}: {:?}", recovered.damage);
        }
    }

    /// A server that was closed had written everything: zeros at the end are damage, wherever they begin.
    #[test]
    fn zeros_at_the_end_of_what_a_closed_server_wrote_give_no_id_again(acts in acts(), place: prop::sample::Index) {
        let mut written = written(&acts);
        let whole = written.bytes.len();
        let from = place.index(whole - SEGMENT_HEAD) + SEGMENT_HEAD;
        prop_assume!(written.bytes[from..].iter().any(|&byte| byte != 0));
        written.bytes[from..].fill(0);
        let read = read_last(&written.bytes, Some(whole as u64), false);
        prop_assert!(!read.damage.is_empty());
        for (stream, model) in written.streams.iter().enumerate() {
            let found = read.streams.iter().find(|found| found.number == number(stream));
            let (Some(model), Some(found)) = (model, found) else { continue };
            let newest = usize::try_from(found.newest()).expect("small");
            prop_assert!(newest == model.events.len() || found.is_cut, "from {} of {}", from, whole);
        }
    }

    /// Nobody else's stream loses anything; in its own no id can mean two events, and what is there is as it was.
    #[test]
    fn a_turned_bit_costs_what_lies_behind_it_in_its_stream(acts in acts(), place: prop::sample::Index, bit in 0..8_u8) {
        let mut written = written(&acts);
        let at = place.index(written.bytes.len() - SEGMENT_HEAD) + SEGMENT_HEAD;
        written.bytes[at] ^= 1 << bit;
        written.bytes.resize(written.bytes.len() + 100, 0);
        let recovered = recovered(&written.bytes);
        let hit = written.records.iter().rev().find(|(start, _)| *start <= at).map(|(_, stream)| *stream);
        for (stream, model) in written.streams.iter().enumerate() {
            let found = recovered.streams.iter().find(|found| found.number == number(stream));
            let Some(model) = model else {
                prop_assert!(found.is_none(), "it was removed");
                continue;
            };
            let found = found.expect("a stream is never lost by one bit");
            let there = seen(&recovered, found);
            let events = there.events.clone();
            if Some(stream) != hit {
                prop_assert_eq!(&there, model);
                prop_assert!(!found.is_cut);
                continue;
            }
            let first = usize::try_from(found.first).expect("small") - 1;
            prop_assert_eq!(&events[..], &model.events[first..first + events.len()]);
            let lost_the_newest = first + events.len() < model.events.len();
            prop_assert!(found.is_cut || !lost_the_newest, "the ids of lost events are not given again");
            let newest = (first + events.len()) as Position;
            prop_assert!(there.keys.iter().all(|key| key.position <= newest && model.keys.contains(key)));
            if let Some((position, text)) = &there.snapshot {
                prop_assert!(*position <= model.events.len() as Position && text.starts_with("data: "));
            }
            let is_whole = !found.is_cut && first == 0;
            prop_assert!(is_whole || !recovered.damage.is_empty());
        }
    }

    /// Whatever happened to the file it can be read, and no stream gets events of another. (Zeros at the end of the last
    /// segment cannot be told from what was never written.)
    #[test]
    fn any_damage_is_survived(
        acts in acts(), place: prop::sample::Index, noise in prop::collection::vec(1..=u8::MAX, 1..300),
    ) {
        let mut written = written(&acts);
        let at = place.index(written.bytes.len());
        let end = (at + noise.len()).min(written.bytes.len());
        written.bytes[at..end].copy_from_slice(&noise[..end - at]);
        let recovered = recovered(&written.bytes);
        for stream in &recovered.streams {
            let model = written.history.iter().rev().find_map(|(_, streams)| {
                streams.get(stream.number as usize - 1).and_then(Clone::clone)
            });
            let model = model.expect("it was there");
            prop_assert_eq!(&stream.life.name, &model.name);
            let first = usize::try_from(stream.first).expect("small") - 1;
            let events = seen(&recovered, stream).events;
            prop_assert_eq!(&events[..], &model.events[first..first + events.len()]);
            if first + events.len() < model.events.len() {
                prop_assert!(stream.is_cut, "the ids of lost events are not given again");
            }
        }
    }
}

/// A kill leaves whole pages of a write; the machine's end any part of it.
#[test]
fn zeros_within_a_page_are_no_kills() {
    let mut written = written(&[Act::Begin, Act::Publish { stream: 0, bytes: 3, with_snapshot: false, keyed: false }]);
    let before = written.bytes.len();
    written.record(0, Kind::Event, WITH_NEXT, 2, &vec![b'x'; 5000]);
    written.record(0, Kind::Event, 0, 3, &vec![b'y'; 9000]);
    let whole = written.bytes.len();
    written.bytes.resize(whole + 2 * PAGE, 0);
    for cut in (before..whole).step_by(3).chain((before..whole).filter(|at| at % PAGE == 0)) {
        let mut bytes = written.bytes.clone();
        bytes[cut..].fill(0);
        let ended = read_last(&bytes, None, true);
        assert!(ended.damage.is_empty() && !ended.streams[0].is_cut, "cut at {cut} of {whole}");
        let killed = read_last(&bytes, None, false);
        let is_damaged = cut != before && !cut.is_multiple_of(PAGE) && ended.streams[0].events.len() == 1;
        let near = cut % PAGE > PAGE - 8;
        assert!(near || killed.streams[0].is_cut == is_damaged, "cut at {cut} of {whole}: {:?}", killed.damage);
        assert_eq!(killed.streams[0].is_cut, !killed.damage.is_empty());
    }
}

#[test]
fn zeros_from_within_a_key_cost_what_it_stands_for() {
    let mut written = written(&[Act::Begin, keyed(), keyed()]);
    let (whole, (key, _)) = (written.bytes.len(), written.records[3]);
    written.bytes[key + HEAD + 20..].fill(0);
    for expected in [None, Some(whole as u64)] {
        let read = read_last(&written.bytes, expected, false);
        assert!(read.streams[0].is_cut && !read.damage.is_empty(), "{:?}", read.damage);
        assert_eq!(read.keys.len(), 1);
    }
}

#[test]
fn records_that_belong_together_count_together() {
    let mut written = written(&[Act::Begin, Act::Publish { stream: 0, bytes: 3, with_snapshot: true, keyed: false }]);
    let (end_of_life, before) = written.history[1].clone();
    let event = record_bytes("data: ééé\n\n".len());
    written.bytes.truncate(end_of_life + event);
    assert_is(&recovered(&written.bytes), &before);
}

fn keyed() -> Act {
    Act::Publish { stream: 0, bytes: 3, with_snapshot: false, keyed: true }
}

#[test]
fn a_key_whose_event_is_lost_is_as_one_never_used_and_one_whose_stream_is_removed_is_not() {
    let mut cut = written(&[Act::Begin, keyed(), keyed()]);
    let (last, _) = cut.records[4];
    cut.bytes[last + HEAD + 7] ^= 3;
    let read = recovered(&cut.bytes);
    assert!(read.streams[0].is_cut && read.damage.len() == 1, "{:?}", read.damage);
    assert_eq!(read.keys.iter().map(|key| key.position).collect::<Vec<_>>(), [1]);
    let removed = written(&[Act::Begin, keyed(), Act::Remove { stream: 0 }]);
    let read = recovered(&removed.bytes);
    assert_eq!((read.streams.len(), read.keys.len(), read.number, read.damage.len()), (0, 1, 1, 0));
}

#[test]
fn a_key_that_was_used_again_or_copied_is_there_once() {
    let mut written = written(&[Act::Begin, keyed()]);
    let first = written.model(0).keys[0].clone();
    written.record(0, Kind::Key, COPIED, 1, &[&first.digests[..], &first.ids.to_bytes()].concat());
    assert_eq!(recovered(&written.bytes).keys, [first]);
}

#[test]
fn a_file_that_is_shorter_than_it_was_is_found_out() {
    let mut written =
        written(&[Act::Begin, Act::Begin, Act::Publish { stream: 0, bytes: 3, with_snapshot: false, keyed: false }]);
    let whole = written.bytes.len() as u64;
    written.bytes.truncate(written.history[2].0);
    let mut recovery = Recovery::default();
    let segment =
        Segment { name: "segment", bytes: &written.bytes, is_last: true, expected: Some(whole), may_be_blank: false };
    recovery.read(segment).expect("this version's");
    let recovered = recovery.finish();
    assert!(recovered.streams.iter().all(|stream| stream.is_cut), "any of them may have had an event there");
    assert_eq!(recovered.damage, ["segment: its end cannot be read"]);
}

#[test]
fn a_copy_is_the_same_event_and_says_nothing_of_how_far_its_stream_is() {
    let mut written = written(&[Act::Begin, Act::Publish { stream: 0, bytes: 4, with_snapshot: false, keyed: false }]);
    let streams = written.streams.clone();
    let block = streams[0].as_ref().expect("open").events[0].0.clone();
    written.record(0, Kind::Event, COPIED, 1, block.as_bytes());
    let read = recovered(&written.bytes);
    assert_is(&read, &streams);
    assert_eq!(read.twice.into_iter().collect::<Vec<_>>(), [(1, 1)]);
    // What was there between the event and its copy cannot be read: it may have been the next event.
    let (start, _) = written.records[1];
    let gap = start + record_bytes(block.len());
    written.bytes.splice(gap..gap, [0xaa; 64]);
    assert!(recovered(&written.bytes).streams[0].is_cut);
}
