//! A store in a real folder: what it kept, what it gives back, whose it is. It is long because it has every kind of damage.

#![allow(clippy::expect_used, reason = "a test that fails says so")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sse_fast_core::id::Epoch;

use super::*;

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sse-fast-store-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    fn open(&self, durable: Durable) -> Opened {
        Store::open(&self.0, durable, &Logs::default()).expect("it opens")
    }

    fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.0).expect("a folder");
        files.map(|file| file.expect("a file").metadata().expect("a file").len()).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it was there");
    }
}

fn life(name: &str) -> Life {
    Life { name: name.to_owned(), epoch: 1, run: false, had_retry: false, options: KeptOptions::default() }
}

fn begin(store: &Store, name: &str) -> u32 {
    let number = store.number(1);
    let body = life(name).to_bytes();
    let record = Record { kind: Kind::Life, flags: 0, position: 0, body: [&body, b"", b""] };
    store.keep(&Batch { stream: number, records: &[record], time: 1, needs: Needs::default() }, None).expect("room");
    number
}

/// Publishes an event into a log of `history` events.
fn publish(store: &Store, stream: u32, position: u64, body: &[u8], history: u64) {
    let events = position.min(history);
    let needs = Needs { first: position + 1 - events, events, bytes: events * (body.len() as u64 + 8) };
    let record = Record { kind: Kind::Event, flags: 0, position, body: [body, b"", b""] };
    store.keep(&Batch { stream, records: &[record], time: 1, needs }, None).expect("room");
}

#[test]
fn what_is_no_longer_needed_is_given_back_and_what_is_stays() {
    for durable in [Durable::Process, Durable::Disk] {
        let folder = Folder::new();
        let body = vec![b'x'; 60_000];
        let (mut quiet, mut position) = (0, 0);
        for start in 0..3 {
            let Opened { store, streams, .. } = folder.open(durable);
            let busy = if start == 0 {
                quiet = begin(&store, "quiet");
                publish(&store, quiet, 1, b"data: old\n\n", 10);
                begin(&store, "busy")
            } else {
                assert_eq!(streams.len(), 2, "both are there");
                let events = |name: &str| {
                    let stream = streams.iter().find(|stream| stream.life.name == name).expect("kept");
                    (stream.number, stream.first + stream.events.len() as u64 - 1, stream.events.len(), stream.is_cut)
                };
                assert_eq!(events("quiet"), (quiet, 1, 1, false));
                let (number, newest, retained, is_cut) = events("busy");
                assert_eq!((newest, is_cut), (position, false));
                assert!(retained >= 10);
                number
            };
            for _ in 0..600 {
                position += 1;
                publish(&store, busy, position, &body, 10);
            }
            store.close();
            assert!(folder.bytes() < 6 * segment::SEGMENT_BYTES, "{} bytes", folder.bytes());
        }
    }
}

#[test]
fn a_removed_stream_stays_away() {
    let folder = Folder::new();
    let Opened { store, .. } = folder.open(Durable::Process);
    let (gone, here) = (begin(&store, "gone"), begin(&store, "here"));
    publish(&store, gone, 1, b"data: x\n\n", 1);
    publish(&store, here, 1, b"data: x\n\n", 1);
    store.remove(gone);
    drop(store);
    let Opened { streams, .. } = folder.open(Durable::Process);
    assert_eq!(streams.iter().map(|stream| stream.life.name.as_str()).collect::<Vec<_>>(), ["here"]);
}

#[test]
fn a_folder_is_one_servers_at_a_time() {
    let folder = Folder::new();
    let first = folder.open(Durable::Process);
    let second = Store::open(&folder.0, Durable::Process, &Logs::default());
    assert!(matches!(second, Err(OpenError::Locked { holder, .. }) if holder == "another server of this process"));
    drop(first);
    folder.open(Durable::Process);
}

#[test]
fn another_version_is_said_to_be_one() {
    let folder = Folder::new();
    drop(folder.open(Durable::Process));
    let path = segment::path_of(&folder.0, 1);
    let mut bytes = fs::read(&path).expect("a segment");
    bytes[8] = 9;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..48]);
    bytes[48..52].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(&path, bytes).expect("written");
    let opened = Store::open(&folder.0, Durable::Process, &Logs::default());
    assert!(matches!(opened, Err(OpenError::Version { version: 9, known: 2, .. })));
}

#[test]
fn a_folder_of_the_version_before_is_gone_on_with() {
    let folder = Folder::new();
    let Opened { store, .. } = folder.open(Durable::Process);
    let stream = begin(&store, "s");
    publish(&store, stream, 1, b"data: x\n\n", 1);
    drop(store);
    let path = segment::path_of(&folder.0, 1);
    let mut bytes = fs::read(&path).expect("a segment");
    assert_eq!(bytes[8], 2, "that of now");
    bytes[8] = 1;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..48]);
    bytes[48..52].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(&path, bytes).expect("written");
    let Opened { store, streams, .. } = folder.open(Durable::Process);
    assert_eq!((streams.len(), streams[0].events.len(), streams[0].is_cut), (1, 1, false));
    publish(&store, stream, 2, b"data: y\n\n", 2);
    drop(store);
    assert_eq!(folder.open(Durable::Process).streams[0].events.len(), 2);
}

/// Keys do not go with the segments that they were written into, nor with their streams, and take no room once their time
/// is over.
#[test]
fn keys_outlive_their_segments_and_their_streams_for_five_minutes() {
    let folder = Folder::new();
    let (now, body) = (unix_ms(), vec![b'x'; 60_000]);
    let keyed = |store: &Store, stream, position, name: &str, time| {
        let mut ids = KeptIds::new(Epoch(1));
        ids.push(position, None);
        let (digests, ids) = (digests_of(name), ids.to_bytes());
        let needs = Needs { first: position, events: 1, bytes: 20 };
        let key = Record { kind: Kind::Key, flags: WITH_NEXT, position, body: [&digests, &ids, b""] };
        let event = Record { kind: Kind::Event, flags: 0, position, body: [b"data: x\n\n", b"", b""] };
        store.keep(&Batch { stream, records: &[key, event], time, needs }, None).expect("room");
    };
    let left = {
        let Opened { store, .. } = folder.open(Durable::Process);
        let (quiet, gone, busy) = (begin(&store, "quiet"), begin(&store, "gone"), begin(&store, "busy"));
        keyed(&store, quiet, 1, "over", now - 2 * KEPT_MS);
        keyed(&store, quiet, 2, "quiet", now);
        keyed(&store, gone, 1, "gone", now);
        store.remove(gone);
        for position in 1..=900 {
            publish(&store, busy, position, &body, 10);
        }
        store.close();
        fs::read_dir(&folder.0).expect("a folder").count()
    };
    assert!(left < 9, "{left} files");
    assert!(!segment::path_of(&folder.0, 1).exists(), "the segment that they were written into");
    for _ in 0..2 {
        let keys = folder.open(Durable::Process).keys;
        let places: Vec<_> = keys.iter().map(|key| key.digests).collect();
        assert_eq!(places, [digests_of("quiet"), digests_of("gone")]);
        assert_eq!(keys[0].ids.texts().collect::<Vec<_>>(), [id(2)]);
    }
}

/// What is said of a folder's damage.
fn warned(folder: &Folder) -> (Vec<String>, Vec<KeptStream>) {
    let logs = Logs::default();
    let Opened { streams, .. } = Store::open(&folder.0, Durable::Process, &logs).expect("whatever the files look like");
    let said = logs.take(Duration::ZERO).unwrap_or_default();
    (said.into_iter().map(|record| record.text).collect(), streams)
}

/// The batch that has a stream's life for this segment is refused: the life is the one before, until the next has it.
#[test]
fn a_life_that_was_not_written_after_all_is_written_with_the_next_event() {
    let folder = Folder::new();
    three_segments(&folder);
    let Opened { store, streams, .. } = folder.open(Durable::Disk);
    let long = streams.iter().find(|stream| stream.life.name == "long").expect("kept");
    {
        let mut state = store.shared.state.lock();
        let record = Record { kind: Kind::Event, flags: 0, position: 4, body: [b"data: x\n\n", b"", b""] };
        let batch = Batch { stream: long.number, records: &[record], time: 1, needs: Needs::default() };
        let (whole, known) = (state.journal.most_bytes(&batch), long.life_at);
        state.journal.keep(&batch).expect("room");
        let chunk = state.journal.queue.take().expect("it is queued");
        assert!(chunk.bytes.len() as u64 == whole && whole > batch.bytes(), "with its life");
        let error = StoreError::Failed { folder: String::new(), reason: String::new(), number: 5 };
        state.journal.take_back(&chunk, &error);
        let length = long.life.to_bytes().len();
        let head = format::Head { kind: Kind::Life, flags: 0, stream: long.number, position: 0, time: 1, length };
        assert!(state.journal.is_needed(&head, known), "the former is needed");
    }
    publish(&store, long.number, 4, b"data: y\n\n", 10);
    drop(store);
    for number in 1..4 {
        fs::remove_file(segment::path_of(&folder.0, number)).expect("it was there");
    }
    let (_, streams) = warned(&folder);
    let found: Vec<_> = streams.iter().map(|stream| (stream.life.name.as_str(), stream.first)).collect();
    assert_eq!(found, [("long", 4)]);
}

/// Three segments: an event of "old" in the first, of "middle" in the second, of "new" in the last; "long" has one in each.
fn three_segments(folder: &Folder) {
    for name in ["old", "middle", "new"] {
        let Opened { store, streams, .. } = folder.open(Durable::Process);
        let long = streams.iter().find(|stream| stream.life.name == "long");
        let long = long.map_or_else(|| begin(&store, "long"), |stream| stream.number);
        let position = if name == "old" { 1 } else { 2 + u64::from(name == "new") };
        publish(&store, long, position, b"data: x\n\n", 10);
        let own = begin(&store, name);
        publish(&store, own, 1, b"data: x\n\n", 10);
    }
}

#[test]
fn a_segment_that_is_empty_missing_or_no_file_is_named_and_costs_what_was_in_it() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 4] = [
        ("its head cannot be read", |path| fs::write(path, b"").expect("written")),
        ("its head cannot be read", |path| fs::write(path, [0; 4096]).expect("written")),
        ("is missing", |path| fs::remove_file(path).expect("it was there")),
        ("is no file", |path| {
            fs::remove_file(path).expect("it was there");
            fs::create_dir_all(path.join("something")).expect("made");
        }),
    ];
    for (number, gone) in [(1, "old"), (2, "middle"), (3, "new")] {
        for closed in [true, false] {
            for (why, spoil) in &spoils {
                let folder = Folder::new();
                three_segments(&folder);
                if !closed {
                    let text = fs::read_to_string(folder.0.join("session.json")).expect("a session");
                    let mut said: Session = serde_json::from_str(&text).expect("JSON");
                    said.closed = None;
                    said.write(&folder.0).expect("written");
                    // As a kill leaves it: the segment has its place on the disk.
                    let last = fs::OpenOptions::new().write(true).open(segment::path_of(&folder.0, 3)).expect("one");
                    last.set_len(segment::SEGMENT_BYTES).expect("room");
                }
                spoil(&segment::path_of(&folder.0, number));
                let (said, streams) = warned(&folder);
                let case = format!("{number}, {why}, closed: {closed}: {said:?}");
                let name = segment::name_of(number);
                assert!(said.iter().any(|text| text.contains(&name) && text.contains(why)), "{case}");
                assert!(said.iter().all(|text| text.contains("a gap to readers that lack it")), "{case}");
                let of = |name: &str| streams.iter().find(|stream| stream.life.name == name);
                assert!(of(gone).is_none(), "{case}");
                let long = of("long").expect("every segment has its name");
                let expected = match number {
                    1 => (2, 2, false),
                    2 => (3, 1, false),
                    _ => (1, 2, true),
                };
                assert_eq!((long.first, long.events.len(), long.is_cut), expected, "{case}");
                for name in ["old", "middle", "new"].into_iter().filter(|&name| name != gone) {
                    // Of one that has nothing behind the place the newest may have been there.
                    let may_be_cut = (name == "old" && number > 1) || (name == "middle" && number > 2);
                    assert_eq!(of(name).map(|stream| stream.is_cut), Some(may_be_cut), "{name} {case}");
                }
                folder.open(Durable::Process);
            }
        }
    }
}

#[test]
fn what_is_in_the_place_of_a_servers_own_files_goes_aside() {
    let folder = Folder::new();
    three_segments(&folder);
    for name in ["session.json", "lock"] {
        fs::remove_file(folder.0.join(name)).expect("it was there");
    }
    let names = ["session.json", "session.new", "lock", "next", "spare"];
    for name in names {
        fs::create_dir_all(folder.0.join(name).join("something")).expect("made");
    }
    fs::create_dir_all(folder.0.join("lock.damaged")).expect("made");
    let (said, streams) = warned(&folder);
    for name in names {
        assert!(said.iter().any(|text| text.contains(&format!("{name} is no file"))), "{name}: {said:?}");
        let aside = if name == "lock" { "lock.damaged-2".to_owned() } else { format!("{name}.damaged") };
        assert!(folder.0.join(aside).join("something").exists(), "{name}");
    }
    assert!(said.iter().any(|text| text.contains("may have been stopped")), "{said:?}");
    assert!(streams.len() == 4 && streams.iter().all(|stream| stream.is_cut), "nobody can tell what is lost");
    assert_eq!(warned(&folder).0, Vec::<String>::new(), "once");
}

/// Each of them would hold up who reads it without limit, or as long as there is memory.
#[test]
fn what_never_ends_is_not_waited_for() {
    let devices = ["session.json", "000000000002.segment"];
    for link in ["pipe", "/dev/zero", "session.json", "/nowhere"] {
        for name in ["session.json", "000000000002.segment", "lock", "spare"] {
            let folder = Folder::new();
            three_segments(&folder);
            let path = folder.0.join(name);
            let _ = fs::remove_file(&path);
            let pipe = folder.0.join("pipe");
            rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("made");
            std::os::unix::fs::symlink(link, &path).expect("made");
            let case = format!("{name} leads to {link}");
            if devices.contains(&name) {
                let (kept, _) = read_folder(&folder.0).expect("read");
                assert!(!kept.is_empty(), "{case}");
            }
            if link == "session.json" && !devices.contains(&name) {
                // That one is a file.
                continue;
            }
            let (said, streams) = warned(&folder);
            assert!(said.iter().any(|text| text.contains(name)), "{case}: {said:?}");
            assert!(streams.len() >= 3, "{case}");
        }
    }
    let folder = Folder::new();
    three_segments(&folder);
    let large = fs::File::create(folder.0.join("session.json")).expect("made");
    large.set_len(1 << 40).expect("made");
    assert!(warned(&folder).1.iter().all(|stream| stream.is_cut), "nobody reads so much");
}

#[test]
fn files_of_others_are_left_alone() {
    let folder = Folder::new();
    three_segments(&folder);
    for name in ["1.segment", "99999999999999999999.segment", "18446744073709551615.segment", "x.segment", "notes"] {
        fs::write(folder.0.join(name), b"mine").expect("written");
    }
    let (said, streams) = warned(&folder);
    assert_eq!((said, streams.len()), (Vec::new(), 4));
}

#[test]
fn that_there_will_be_no_room_is_said_once_and_again_after_it_was_mended() {
    for durable in [Durable::Process, Durable::Disk] {
        let (folder, logs) = (Folder::new(), Logs::default());
        let spare = folder.0.join("spare");
        let Opened { store, .. } = Store::open(&folder.0, durable, &logs).expect("it opens");
        let block = || fs::create_dir_all(spare.join("in the way")).expect("made");
        let said = || logs.take(Duration::ZERO).unwrap_or_default().len();
        block();
        let stream = begin(&store, "s");
        publish(&store, stream, 1, &vec![b'x'; 5 << 20], 100);
        for position in 2..10 {
            publish(&store, stream, position, b"data: x\n\n", 100);
            store.flush();
            store.shared.make_spare();
        }
        assert_eq!(said(), 1);
        fs::remove_dir_all(&spare).expect("it was there");
        // Only the store's thread makes one now, and none while this holds the lock.
        let mut state = store.shared.state.lock();
        while state.journal.spare.is_none() {
            store.shared.landed.wait(&mut state);
        }
        state.journal.spare.take().expect("one was made").discard();
        block();
        drop(state);
        store.shared.make_spare();
        assert_eq!(said(), 0, "not twice in a minute");
        store.shared.state.lock().said_no_spare = None;
        for _ in 0..3 {
            store.shared.make_spare();
        }
        assert_eq!(said(), 1);
    }
}

/// The active segment is on a disk that is full, and then there is room beside it.
#[test]
fn readiness_is_what_publishing_finds() {
    let folder = Folder::new();
    let Opened { store, .. } = folder.open(Durable::Process);
    let stream = begin(&store, "s");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let spare = folder.0.join("spare");
    fs::create_dir_all(spare.join("in the way")).expect("made");
    store.shared.state.lock().journal.fill_with(full);
    let record = Record { kind: Kind::Event, flags: 0, position: 1, body: [b"data: x\n\n", b"", b""] };
    let batch = Batch { stream, records: &[record], time: 1, needs: Needs::default() };
    assert!(matches!(store.keep(&batch, None), Err(StoreError::Full { .. })));
    for _ in 0..3 {
        store.shared.make_spare();
        assert!(!store.is_writable(), "it would be refused again");
    }
    fs::remove_dir_all(&spare).expect("made");
    store.shared.make_spare();
    assert!(store.is_writable(), "without a publish");
    store.keep(&batch, None).expect("and it is taken");
    drop(store);
    assert_eq!(folder.open(Durable::Process).streams[0].events.len(), 1);
}

/// It is long because it goes the whole way: away, refused, another's folder in its place, and back.
#[test]
fn a_folder_that_was_moved_or_removed_takes_nothing_and_what_is_at_its_path_is_left_alone() {
    for durable in [Durable::Process, Durable::Disk] {
        let folder = Folder::new();
        let (here, there) = (folder.0.join("here"), folder.0.join("there"));
        let logs = Logs::default();
        let Opened { store, .. } = Store::open(&here, durable, &logs).expect("it opens");
        let stream = begin(&store, "first");
        publish(&store, stream, 1, b"data: x\n\n", 10);
        fs::rename(&here, &there).expect("moved");
        let Opened { store: other, .. } = Store::open(&here, durable, &Logs::default()).expect("a folder of its own");
        let others = begin(&other, "others");
        let (large, body) = (vec![b'x'; 3 << 20], b"data: x\n\n");
        let keep = |position, body: &[u8]| {
            let record = Record { kind: Kind::Event, flags: 0, position, body: [body, b"", b""] };
            let needs = Needs { first: 1, events: position, bytes: 10 << 20 };
            store.keep(&Batch { stream, records: &[record], time: 1, needs }, None)
        };
        let mut position = 2;
        while keep(position, &large).is_ok() {
            position += 1;
            assert!(position < 10, "a segment would be made in a folder of another's");
        }
        for _ in 0..3 {
            store.shared.look();
            // There is room, but not where it should be.
            store.shared.make_spare();
            assert!(matches!(keep(position, body), Err(StoreError::Failed { number: 2, .. })) && !store.is_writable());
        }
        for position in 1..=8 {
            publish(&other, others, position, &large, 10);
        }
        drop(other);
        let said = logs.take(Duration::ZERO).unwrap_or_default();
        let warnings: Vec<_> = said.iter().filter(|record| record.level == Level::Warning).collect();
        assert!(warnings.len() == 1 && said.len() == 1, "{said:?}");
        assert!(warnings[0].text.contains("its folder was removed or moved"), "{said:?}");
        let read = |folder: &Path| read_folder(folder).expect("read");
        let (streams, damage) = read(&here);
        assert_eq!((streams.len(), streams[0].events.len(), damage), (1, 8, Vec::new()));
        // Back again it goes on.
        fs::rename(&here, folder.0.join("other")).expect("moved");
        fs::rename(&there, &here).expect("moved");
        store.shared.look();
        keep(position, &large).expect("it is back");
        store.shared.make_spare();
        assert!(store.is_writable());
        drop(store);
        let (streams, damage) = read(&here);
        // With `Durable::Disk` what nobody waited for may have been refused before that.
        let newest = streams[0].events.last().map(|(id, _)| id.clone());
        assert_eq!((newest.as_deref(), damage), (Some(&*id(position)), Vec::new()));
        let Opened { store, .. } = Store::open(&here, durable, &Logs::default()).expect("it opens");
        fs::remove_dir_all(&here).expect("removed");
        store.shared.look();
        assert!(!store.is_writable(), "it has no name");
        fs::create_dir_all(&here).expect("made");
        store.shared.look();
        assert!(!store.is_writable(), "that is another");
        drop(store);
        assert_eq!(fs::read_dir(&here).expect("a folder").count(), 0);
    }
}

fn digests_of(name: &str) -> [u8; 64] {
    let mut digests = [7; 64];
    digests[..name.len()].copy_from_slice(name.as_bytes());
    digests
}

fn id(position: u64) -> Box<str> {
    sse_fast_core::id::IdText::new(Epoch(1), position).as_str().into()
}

#[test]
fn after_the_machines_end_open_streams_are_cut_unless_the_disk_had_everything() {
    for durable in [Durable::Process, Durable::Disk] {
        let folder = Folder::new();
        let Opened { store, .. } = folder.open(durable);
        let stream = begin(&store, "s");
        publish(&store, stream, 1, b"data: x\n\n", 1);
        drop(store);
        let session = folder.0.join("session.json");
        let text = fs::read_to_string(&session).expect("a session");
        let mut said: Session = serde_json::from_str(&text).expect("JSON");
        assert!(said.closed.is_some(), "it was closed");
        said.closed = None;
        // As a kill leaves it: the segment has its place on the disk.
        let last = fs::OpenOptions::new().write(true).open(segment::path_of(&folder.0, 1)).expect("a segment");
        last.set_len(segment::SEGMENT_BYTES).expect("room");
        fs::write(&session, serde_json::to_string(&said).expect("JSON")).expect("written");
        assert!(!folder.open(durable).streams[0].is_cut, "a kill takes nothing that was written");
        said.boot = "another".to_owned();
        let last = fs::OpenOptions::new().write(true).open(segment::path_of(&folder.0, 2)).expect("a segment");
        last.set_len(segment::SEGMENT_BYTES).expect("room");
        fs::write(&session, serde_json::to_string(&said).expect("JSON")).expect("written");
        assert_eq!(folder.open(durable).streams[0].is_cut, durable == Durable::Process);
    }
}
