//! Copies, told by hand what a backplane would tell, and what they ask of it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail at that line")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sse_fast_core::event::NewEvent;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{Start, StreamPatch};

use super::{ByPattern, Directory, LocalCopies};
use crate::backplane::{Ask, Copies, Life, Name, Opened, Published, SharedEvent, SharedOptions, SharedSnapshot, Tail};
use crate::config::{BackplaneConfig, Config};
use crate::logs::Logs;
use crate::presence::Presence;
use crate::reader::{ReadFrom, ReadOutcome, Reader};
use crate::stream::{Caller, PublishError, Stream};

/// A directory without shards, what its backplane tells it, and what it asks.
struct Shared {
    directory: Arc<Directory>,
    copies: LocalCopies,
    asked: tokio::sync::mpsc::UnboundedReceiver<Ask>,
    name: Name,
}

impl Shared {
    fn new() -> Self {
        let config = Config { backplane: Some(BackplaneConfig::default()), ..Config::default() };
        let logs = Logs::default();
        let presence = Presence::new(logs.clone());
        let directory = Arc::new(Directory::new(config, ByPattern::default(), Box::new([]), presence, (logs, None)));
        let asked = directory.sharing.as_ref().and_then(super::Sharing::take_received).expect("the other end");
        let (there, _) = mpsc::sync_channel(1);
        let copies = LocalCopies { directory: Arc::clone(&directory), disconnect: Box::new(|_, _| {}), there };
        copies.away(false);
        Self { directory, copies, asked, name: "s".into() }
    }

    fn begin(&self, epoch: u64, base: u64, data: &[&str]) -> Stream {
        self.begin_with(0, epoch, base, data)
    }

    /// A life that took over everything up to `carried`.
    fn begin_with(&self, carried: u64, epoch: u64, base: u64, data: &[&str]) -> Stream {
        let entries = data.iter().map(|data| event(data)).collect();
        let options = SharedOptions { start: Start::All, ..options() };
        let life = Life { epoch: Epoch(epoch), options, carried, base, entries, snapshot: None, ended: false };
        self.copies.begin(&self.name, life);
        self.directory.find("s").expect("a copy")
    }

    fn append(&self, first: u64, data: &[&str]) {
        let events = data.iter().map(|data| event(data)).collect();
        self.copies.append(&self.name, Tail { first, events, snapshot: None, ended: false });
    }
}

fn options() -> SharedOptions {
    SharedOptions::of(&sse_fast_core::options::StreamOptions::default())
}

fn event(data: &str) -> SharedEvent {
    SharedEvent::new(&NewEvent { data: data.as_bytes(), ..NewEvent::default() })
}

/// What a reader in the process gets now, as names and data.
fn read(reader: &mut Reader) -> Vec<String> {
    let mut got = Vec::new();
    while let ReadOutcome::Event(event) = reader.try_next() {
        got.push(event.event.map_or(event.data.clone(), |name| format!("{name} {}", event.data)));
    }
    got
}

#[test]
fn a_copy_goes_on_at_the_positions_of_its_log_and_takes_each_once() {
    let shared = Shared::new();
    let stream = shared.begin(7, 40, &["a", "b"]);
    let mut reader = stream.reader(&ReadFrom::Start(Some(Start::All)));
    shared.append(42, &["b", "c"]);
    shared.append(43, &["c"]);
    let gap = r#"gap {"skipped":40,"from":"7-1","to":"7-40"}"#;
    assert_eq!(read(&mut reader), [gap, "a", "b", "c"]);
    assert_eq!(stream.reached(), (Epoch(7), 43));
}

#[test]
fn what_was_lost_between_two_beginnings_of_a_life_is_a_gap_and_what_is_there_comes_once() {
    let shared = Shared::new();
    let stream = shared.begin(7, 0, &["a"]);
    let mut reader = stream.reader(&ReadFrom::Start(None));
    shared.begin(7, 0, &["a", "b"]);
    assert_eq!(read(&mut reader), ["a", "b"]);
    shared.begin(7, 5, &["f"]);
    assert_eq!(read(&mut reader), [r#"gap {"skipped":3,"from":"7-3","to":"7-5"}"#, "f"]);
    assert!(shared.directory.find("s").is_some_and(|same| same.same(&stream)));
}

#[test]
fn another_life_takes_the_place_and_who_reads_here_goes_on_in_it() {
    let shared = Shared::new();
    let stream = shared.begin(7, 0, &["a"]);
    stream.on_empty(3, Duration::ZERO);
    let mut reader = stream.reader(&ReadFrom::Start(None));
    let next = shared.begin(9, 0, &["z"]);
    assert!(!next.same(&stream) && stream.removed() && stream.current().same(&next));
    assert_eq!(read(&mut reader), ["a", r#"gap {"skipped":null,"from":null,"to":null}"#, "z"]);
    shared.append(2, &["y"]);
    assert_eq!(read(&mut reader), ["y"]);
    assert_eq!(stream.current().last_id().as_deref(), Some("9-2"));
    assert_ne!(next.life(), stream.life(), "the directory tells them apart");
}

#[test]
fn who_reads_here_has_what_another_life_took_over_and_gets_what_is_new() {
    let shared = Shared::new();
    let stream = shared.begin(7, 0, &["a", "b", "c"]);
    let mut readers: Vec<Reader> = (0..2).map(|_| stream.reader(&ReadFrom::Start(Some(Start::All)))).collect();
    assert_eq!(read(&mut readers[0]), ["a", "b", "c"]);
    // The server has lost c; then d and e were published.
    shared.begin_with(2, 8, 0, &["a", "b", "d"]);
    shared.append(4, &["e"]);
    let gap = r#"gap {"skipped":null,"from":null,"to":null}"#;
    assert_eq!(read(&mut readers[0]), [gap, "d", "e"]);
    // Two lives at once: the first has lost e, the second is behind its own history.
    shared.begin_with(3, 9, 0, &["a", "b", "d", "f"]);
    shared.append(5, &["g"]);
    shared.begin_with(5, 10, 3, &["f", "g", "h"]);
    assert_eq!(read(&mut readers[0]), [gap, "f", "g", gap, "h"]);
    assert_eq!(read(&mut readers[1]), ["a", "b", "c", gap, "d", "e", gap, "f", "g", gap, "h"]);
}

#[test]
fn options_of_the_log_are_everybodys_and_the_others_stay_this_process_own() {
    let shared = Shared::new();
    let stream = shared.begin(7, 0, &["a", "b", "c"]);
    let defaults = Arc::clone(&shared.directory.defaults);
    let own = StreamPatch { max_lag: Some(200), retry: Some(Some(Duration::from_secs(9))), ..StreamPatch::default() };
    stream.give_own_options(&defaults, &own);
    shared.copies.options(&shared.name, SharedOptions { history: 2, ..options() });
    let seen = |stream: &Stream| {
        let inner = stream.lock();
        let options = inner.state.options();
        (options.history, options.max_lag, options.retry.map(|retry| retry.as_secs()))
    };
    assert_eq!((seen(&stream), stream.stats().retained), ((2, 2, Some(9)), 2));
    shared.copies.options(&shared.name, SharedOptions { history: 500, ..options() });
    assert_eq!(seen(&stream), (500, 200, Some(9)), "a lag that was lowered is what was asked for again");
    let next = shared.begin(9, 0, &[]);
    assert_eq!(seen(&next), (256, 200, Some(9)));
    shared.copies.options(&shared.name, SharedOptions { history: 0, ..options() });
    assert!(seen(&next).0 > 0, "what cannot be is not taken over");
}

#[test]
fn an_event_and_its_snapshot_are_there_in_one_step() {
    let shared = Shared::new();
    let stream = shared.begin(7, 0, &[]);
    let mut live = stream.reader(&ReadFrom::Start(None));
    let next = |reader: &mut Reader| match reader.try_next() {
        ReadOutcome::Event(event) => event.data.parse::<u64>().ok(),
        _ => None,
    };
    let (looks, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let looking = threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Who comes when one reader has an event gets its snapshot, or a later one.
                let Some(has) = next(&mut live) else { continue };
                let first = next(&mut stream.reader(&ReadFrom::Start(Some(Start::All))));
                assert!(first >= Some(has), "{first:?} is older than {has}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for position in 1.. {
            if looks.load(Ordering::Relaxed) > 1_000 || looking.is_finished() {
                break;
            }
            let data = position.to_string();
            let snapshot = Some(SharedSnapshot { event: "snapshot".into(), data: data.clone().into(), position });
            let tail = Tail { first: position, events: vec![event(&data)], snapshot, ended: false };
            shared.copies.append(&shared.name, tail);
        }
        done.store(true, Ordering::Relaxed);
        looking.join().expect("it has found nothing");
    });
}

#[test]
fn a_snapshot_and_the_end_come_with_what_they_belong_to() {
    let shared = Shared::new();
    let stream = shared.begin(7, 0, &["a"]);
    let snapshot = SharedSnapshot { event: "snapshot".into(), data: "all".into(), position: 2 };
    let tail = Tail { first: 2, events: vec![event("b"), event("over")], snapshot: Some(snapshot), ended: true };
    shared.copies.append(&shared.name, tail);
    assert!(stream.ended());
    assert_eq!(read(&mut stream.reader(&ReadFrom::Start(None))), ["snapshot all", "over"]);
    shared.append(4, &["late"]);
    assert_eq!(stream.reached().1, 3, "nothing follows the end");
    let anew = shared.begin(9, 0, &[]);
    assert!(!anew.ended());
}

#[test]
fn what_is_published_is_handed_over_and_its_id_is_the_answers() {
    let mut shared = Shared::new();
    let stream = shared.begin(36, 0, &[]);
    let given = NewEvent { data: b"x", ..NewEvent::default() };
    assert!(matches!(stream.try_publish(&given), Err(PublishError::WouldWait)));
    for (answer, wanted) in [
        (Published::New { epoch: Epoch(36), first: 5 }, Ok("10-5")),
        (Published::Ended, Err("has ended")),
        (Published::Unavailable { published: Some(false) }, Err("nothing was published")),
        (Published::Unavailable { published: None }, Err("is not known")),
        (Published::Refused("OOM".into()), Err("OOM")),
    ] {
        let mut publishing = stream.publishing(&given, Caller::Thread).expect("begun");
        assert!(publishing.wait(Duration::ZERO).is_none());
        let Some(Ask::Publish { name, publish, answer: to }) = shared.asked.blocking_recv() else {
            panic!("it asks to publish")
        };
        assert_eq!((&*name, publish.events, publish.end), ("s", vec![event("x")], false));
        to.give(answer);
        let outcome = publishing.wait(Duration::from_secs(20)).expect("answered");
        match (outcome, wanted) {
            (Ok(published), Ok(id)) => assert_eq!(published.id(), id),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (outcome, wanted) => panic!("{outcome:?} instead of {wanted:?}"),
        }
    }
    let mut lost = stream.publishing(&given, Caller::Thread).expect("begun");
    drop(shared.asked);
    let outcome = lost.wait(Duration::from_secs(20));
    assert!(matches!(outcome, Some(Err(PublishError::Unavailable { published: None, .. }))), "{outcome:?}");
}

#[test]
fn a_copy_that_nobody_uses_is_let_go_of_and_one_that_is_used_stays() {
    let mut shared = Shared::new();
    let stream = shared.begin(7, 0, &["a"]);
    let sharing = shared.directory.sharing.as_ref().expect("shared");
    let held = stream.clone();
    shared.directory.let_go(sharing, &stream);
    assert!(shared.directory.find("s").is_some(), "this test holds it besides");
    drop(held);
    let reader = shared.directory.find("s").and_then(|stream| stream.claim());
    drop(stream);
    let used = shared.directory.streams().remove(0);
    shared.directory.let_go(sharing, &used);
    assert!(shared.directory.find("s").is_some(), "a request is on its way");
    drop((reader, used));
    let unused = shared.directory.streams().remove(0);
    shared.directory.let_go(sharing, &unused);
    assert!(shared.directory.find("s").is_none() && unused.removed());
    assert!(matches!(shared.asked.try_recv(), Ok(Ask::Release { name }) if &*name == "s"));
}

#[test]
fn a_name_is_looked_for_elsewhere_before_anything_is_said_of_it() {
    let shared = Shared::new();
    let Shared { directory, copies, mut asked, name } = shared;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let looking = directory.look_elsewhere("s", false);
        let answering = async {
            let Some(Ask::Open { make: None, wait: false, answer, .. }) = asked.recv().await else {
                panic!("it looks")
            };
            answer.give(Opened::Unavailable { done: Some(false) });
        };
        assert_eq!(tokio::join!(looking, answering).0, super::Looked::Away);
        copies.away(true);
        assert_eq!(directory.look_elsewhere("s", false).await, super::Looked::Away);
        let life = Life {
            epoch: Epoch(1),
            options: options(),
            carried: 0,
            base: 0,
            entries: vec![],
            snapshot: None,
            ended: false,
        };
        copies.begin(&name, life);
        assert_eq!(directory.look_elsewhere("s", false).await, super::Looked::Done, "the copy is served");
    });
}
