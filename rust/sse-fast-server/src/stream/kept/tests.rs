//! What of a stream is in the folder, wherever the last write was cut.

#![allow(clippy::expect_used, reason = "a test that fails says so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sse_fast_core::event::NewEvent;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{StreamOptions, StreamPatch};
use sse_fast_core::stream::Part;

use super::*;
use crate::delivery::{Delivery, Patience};
use crate::idempotency::{Begun, SharedKey};
use crate::logs::Logs;
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::store::{Export, Opened, read_folder};
use crate::stream::Caller;

struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sse-fast-kept-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The store's thread may be setting a file aside in this moment: it ends with it.
        while let Err(error) = fs::remove_dir_all(&self.0) {
            assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
        }
    }
}

/// A stream that is kept in a folder, and what it is kept by.
fn kept_in(folder: &Path, durable: Durable) -> (Stream, Arc<Delivery>) {
    let Opened { store, .. } = Store::open(folder, durable, &Logs::default()).expect("it opens");
    let mut delivery = Delivery::new(Box::new([]), Mailbox::new(&Latch::new(Quiet)), Patience::Lossless);
    delivery.store = Some(Arc::new(store));
    let delivery = Arc::new(delivery);
    let stream = Stream::new("s", Epoch(7), &delivery, Arc::new(StreamOptions::default()));
    stream.keep_new(&StreamPatch::default());
    (stream, delivery)
}

fn event(data: &str) -> NewEvent<'_> {
    NewEvent { data: data.as_bytes(), ..NewEvent::default() }
}

/// Publishes a list in one step: events, one with an id of its own, snapshots with them and alone.
fn publish_list(stream: &Stream) -> Vec<String> {
    let with_snapshot = |data, snapshot: &'static str| NewEvent { snapshot: Some(snapshot.as_bytes()), ..event(data) };
    let checked = |event: &NewEvent<'static>| stream.check(event).expect("in order");
    let parts = [
        Part::Event(checked(&event("one"))),
        Part::Event(checked(&with_snapshot("two", "under the old name"))),
        Part::Snapshot(checked(&NewEvent { event: Some("picture"), ..event("alone") })),
        Part::Event(checked(&NewEvent { id: Some("own"), ..event("three") })),
        Part::Event(checked(&with_snapshot("four", "under the new name"))),
    ];
    let mut publishing = stream.publishing_together(&parts, None, Caller::Thread).expect("open");
    let published = publishing.wait(Duration::MAX).expect("as long as it takes").expect("room");
    published.ids().map(str::to_owned).collect()
}

/// What the folder has of the stream.
fn exported(folder: &Path) -> Export {
    let (streams, _) = read_folder(folder).expect("it can be read");
    streams.into_iter().next().expect("the stream")
}

fn segment_of(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    files.find(|path| path.extension().is_some_and(|end| end == "segment")).expect("a segment")
}

#[test]
fn a_list_is_kept_whole_or_not_at_all_wherever_its_writing_was_cut() {
    for durable in [Durable::Process, Durable::Disk] {
        let folder = Folder::new();
        let (stream, delivery) = kept_in(&folder.0, durable);
        stream.publish(&event("before")).expect("room");
        stream.snapshot(b"old", None).expect("room");
        let before = delivery.store.as_ref().expect("a store").numbers().0;
        let ids = publish_list(&stream);
        let after = delivery.store.as_ref().expect("a store").numbers().0;
        stream.publish(&event("after")).expect("room");
        let bytes = fs::read(segment_of(&folder.0)).expect("a segment");
        let cut_folder = Folder::new();
        let cut_segment = cut_folder.0.join(segment_of(&folder.0).file_name().expect("a name"));
        let (mut without, mut with) = (0, 0);
        for cut in before..=after {
            let at = usize::try_from(cut).expect("small");
            // The rest as a kill leaves it, or not there at all.
            for end in [at, at + 256] {
                let mut left = bytes[..at].to_vec();
                left.resize(end, 0);
                fs::write(&cut_segment, &left).expect("written");
                let there = exported(&cut_folder.0);
                let (name, snapshot) =
                    there.snapshot.as_ref().map(|(_, of)| (of.event.clone(), of.data.clone())).expect("one");
                if there.events.len() == 1 {
                    assert_eq!((name.as_deref(), snapshot.as_str()), (Some("snapshot"), "old"), "cut at {cut}");
                    without += 1;
                } else {
                    let told: Vec<_> = there.events.iter().skip(1).map(|(id, _)| id.clone()).collect();
                    assert_eq!(told, ids, "cut at {cut}: all or none");
                    assert_eq!((name.as_deref(), snapshot.as_str()), (Some("picture"), "under the new name"));
                    with += 1;
                }
            }
        }
        assert!(without > 500 && (2..=18).contains(&with), "{without} cuts in it, {with} in its padding: {durable:?}");
        assert_eq!(exported(&folder.0).events.len(), 6, "whole it is all there");
    }
}

/// What the next start finds: the ids that each key was answered with, and the ids that there are.
fn found(folder: &Path) -> (Vec<Vec<String>>, Vec<String>) {
    let ids = exported(folder).events.into_iter().map(|(id, _)| id).collect();
    let Opened { keys, .. } = Store::open(folder, Durable::Process, &Logs::default()).expect("it opens");
    let of = |key: &KeptKey| key.ids.texts().map(String::from).collect();
    (keys.iter().map(of).collect(), ids)
}

#[test]
fn a_key_is_kept_with_its_events_or_not_at_all_wherever_the_writing_was_cut() {
    for durable in [Durable::Process, Durable::Disk] {
        let folder = Folder::new();
        let (stream, delivery) = kept_in(&folder.0, durable);
        let first = stream.publish(&event("before")).expect("room").id().to_owned();
        let used = || delivery.store.as_ref().expect("a store").numbers().0;
        let key = SharedKey::new(&[b"scope"], "key", &[b"content"]);
        let own = NewEvent { id: Some("own"), ..event("two") };
        let parts = [event("one"), own].map(|event| Part::Event(stream.check(&event).expect("in order")));
        let before = used();
        let mut publishing = stream.publishing_together(&parts, Some(&key), Caller::Thread).expect("open");
        let published = publishing.wait(Duration::MAX).expect("as long as it takes").expect("room");
        let ids: Vec<_> = published.ids().map(str::to_owned).collect();
        let (after, bytes) = (used(), fs::read(segment_of(&folder.0)).expect("a segment"));
        assert_eq!(ids[1], "own");
        for cut in before..=after {
            let cut_folder = Folder::new();
            let at = usize::try_from(cut).expect("small");
            let mut left = bytes[..at].to_vec();
            left.resize(at + 256, 0);
            let name = segment_of(&folder.0).file_name().expect("a name").to_owned();
            fs::write(cut_folder.0.join(name), &left).expect("written");
            let (keys, there) = found(&cut_folder.0);
            if there.len() == 1 {
                assert_eq!((keys, there), (Vec::new(), vec![first.clone()]), "cut at {cut}: {durable:?}");
            } else {
                assert_eq!(keys, std::slice::from_ref(&ids), "cut at {cut}: {durable:?}");
                assert_eq!(there[1..], ids, "cut at {cut}: {durable:?}");
            }
        }
    }
}

#[test]
fn the_end_of_a_list_is_kept_with_it() {
    let folder = Folder::new();
    let (stream, _delivery) = kept_in(&folder.0, Durable::Process);
    let parts = ["one", "two"].map(|data| Part::Event(stream.check(&event(data)).expect("in order")));
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(async {
        let appended = stream.publish_together(&parts, true, None).await.expect("room");
        assert_eq!(appended.kept().await.expect("kept").ids().count(), 2);
    });
    let there = exported(&folder.0);
    assert!(there.ended && there.events.len() == 2 && stream.ended());
}

#[test]
fn what_the_disk_has_not_is_seen_by_nobody_and_then_all_of_it_is() {
    let folder = Folder::new();
    let (stream, delivery) = kept_in(&folder.0, Durable::Disk);
    let key = SharedKey::new(&[b"scope"], "key", &[b"content"]);
    let Begun::New(under_way) = delivery.repeats.begin(&key) else { panic!("it is new") };
    let parts = ["one", "two", "three"].map(|data| Part::Event(stream.check(&event(data)).expect("in order")));
    let mut publishing = stream.publishing_together(&parts, None, Caller::Thread).expect("open");
    // The store's thread tells a stream under its lock: while it is held nothing becomes visible.
    let appended = publishing.append(Duration::MAX).expect("at once").expect("room");
    let kept = appended.kept.clone().expect("the disk is waited for");
    let inner = stream.lock();
    let (is_decided, seen, ahead) = (kept.outcome().is_some(), inner.state.newest(), inner.ahead().events);
    assert_eq!((seen, ahead), if is_decided { (3, 0) } else { (0, 3) }, "all or none");
    drop(inner);
    kept.keep_answer(under_way, appended.published.ids().map(Box::from).collect());
    // Nobody waits for it any more; the key stands for it all the same.
    drop((publishing, appended));
    kept.wait(Duration::MAX).expect("as long as it takes").expect("kept");
    assert_eq!(stream.lock().state.newest(), 3);
    let Begun::Again(ids) = delivery.repeats.begin(&key) else { panic!("it was published") };
    assert_eq!(ids.len(), 3);
}

#[test]
fn names_of_snapshots_that_wait_for_the_disk_are_those_of_the_next() {
    let folder = Folder::new();
    let (stream, _delivery) = kept_in(&folder.0, Durable::Disk);
    for number in 0..20 {
        let name = format!("picture {number}");
        let picture = stream.check(&NewEvent { event: Some(&name), ..event("x") }).expect("in order");
        let next = stream.check(&NewEvent { snapshot: Some(b"y"), ..event("z") }).expect("in order");
        let (first, second) = ([Part::Snapshot(picture)], [Part::Event(next)]);
        let mut one = stream.publishing_together(&first, None, Caller::Thread).expect("open");
        let mut two = stream.publishing_together(&second, None, Caller::Thread).expect("open");
        // Both are with the store before the thread waits for either.
        let one = one.append(Duration::MAX).expect("at once").expect("room");
        let two = two.append(Duration::MAX).expect("at once").expect("room");
        for kept in [one.kept, two.kept].into_iter().flatten() {
            kept.wait(Duration::MAX).expect("as long as it takes").expect("kept");
        }
        let state = stream.lock();
        let snapshot = state.state.snapshot().expect("set");
        assert_eq!(snapshot.event(), name);
        assert_eq!(wire::decode(snapshot.frame.plain()).event.as_deref(), Some(&*name));
    }
    let (id, snapshot) = exported(&folder.0).snapshot.expect("kept");
    assert_eq!((snapshot.event.as_deref(), snapshot.data.as_str()), (Some("picture 19"), "y"), "{id}");
}
