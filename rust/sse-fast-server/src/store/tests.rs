//! A store in a real folder: what it kept, what it gives back, whose it is.

#![allow(clippy::expect_used, reason = "a test that fails says so")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

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
    assert!(matches!(opened, Err(OpenError::Version { version: 9, known: 1, .. })));
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
