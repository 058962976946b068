//! What the machine asks first, and what it says of what it could not do: single steps, each output looked at.
//!
//! Owns: what a random schedule does not show: the order of requests, and answers that nobody contradicts. Must not know: what the server makes of requests.

#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sse_fast_core::event::NewEvent;
use sse_fast_core::options::StreamOptions;

use super::super::protocol::{Line, Mark, News, Opening, Push, Reply, Request, RequestId, Wired};
use super::super::{
    Answer, Ask, Make, Name, Opened, Publish, Published, Rules, SharedEvent, SharedOptions, SharedPatch,
};
use super::{Hub, Input, Moment, Output, Tell};

const TIMEOUT: Duration = Duration::from_secs(1);

/// A machine, its time, and what it asked for since that was last taken.
struct Bench {
    hub: Hub,
    at: Duration,
    asked: Vec<(RequestId, Request)>,
}

impl Bench {
    /// Both connections are up.
    fn new() -> Self {
        let hub = Hub::new(Rules { process: "p".into(), timeout: TIMEOUT, trust: false });
        let mut bench = Self { hub, at: Duration::ZERO, asked: Vec::new() };
        bench.wired(Wired::CommandUp("first".into()));
        bench.wired(Wired::SubscriberUp);
        bench
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        let wall = u64::try_from(self.at.as_micros()).expect("a short test");
        self.hub.step(Moment { at: self.at, wall }, input, &mut out);
        for output in out {
            match output {
                Output::Request(id, request) => self.asked.push((id, request)),
                Output::Subscribe(names) => self.wired(Wired::Subscribed(names)),
                Output::Tell(Tell::Answer(answered)) => answered.deliver(),
                _ => {}
            }
        }
    }

    fn wired(&mut self, wired: Wired) {
        self.step(Input::Wired(wired));
    }

    fn pass(&mut self, long: Duration) {
        self.at += long;
        self.step(Input::Tick);
    }

    fn open(&mut self, name: &Name, make: Option<Make>) -> Arc<Mutex<Option<Opened>>> {
        let (answer, said) = kept();
        self.step(Input::Ask(Ask::Open { name: Arc::clone(name), make, wait: false, answer }));
        said
    }

    /// The last request of a kind.
    fn asked(&self, is: impl Fn(&Request) -> bool) -> RequestId {
        self.asked.iter().rev().find(|(_, request)| is(request)).expect("it is asked").0
    }

    /// Answers the last look at the leases.
    fn leases(&mut self, all: &[&str]) {
        let id = self.asked(|request| matches!(request, Request::Lease { lease, .. } if !lease.is_zero()));
        let all = all.iter().map(|process| Arc::from(*process)).collect();
        self.wired(Wired::Reply(id, Reply::Leases(all)));
    }

    /// Opens it, answers that, and has so many readers of it.
    fn read_by(&mut self, name: &Name, count: u64) {
        self.open(name, Some(make()));
        let id = self.asked(|request| matches!(request, Request::Open(open) if open.name == *name));
        self.wired(Wired::Reply(id, Reply::Opened(Box::new(opening()))));
        self.step(Input::Ask(Ask::Present { name: Arc::clone(name), readers: vec![(None, count)] }));
    }

    fn publish(&mut self, name: &Name) -> Arc<Mutex<Option<Published>>> {
        let (answer, said) = kept();
        let event = SharedEvent::new(&NewEvent { data: b"x", ..NewEvent::default() });
        let publish = Publish { events: vec![event], snapshot: None, end: false, key: None, make: make() };
        self.step(Input::Ask(Ask::Publish { name: Arc::clone(name), publish, answer }));
        said
    }

    /// Where each kind of request stands among those that were asked since the last look.
    fn order(&mut self) -> Vec<(&'static str, String)> {
        let kind = |request: &Request| match request {
            Request::Publish { .. } => Some(("publish", String::new())),
            Request::Present { process, readers, .. } if readers.is_empty() => Some(("nobody", process.to_string())),
            Request::Present { process, .. } => Some(("readers", process.to_string())),
            Request::Lease { process, lease } if lease.is_zero() => Some(("given back", process.to_string())),
            Request::Lease { process, .. } => Some(("lease", process.to_string())),
            _ => None,
        };
        self.asked.drain(..).filter_map(|(_, request)| kind(&request)).collect()
    }
}

/// An answer, and where it can be seen.
fn kept<T: super::super::Unanswered + Send + 'static>() -> (Answer<T>, Arc<Mutex<Option<T>>>) {
    let said = Arc::new(Mutex::new(None));
    let to = Arc::clone(&said);
    (Answer::new(move |answer| *to.lock() = Some(answer)), said)
}

fn make() -> Make {
    Make { options: SharedOptions::of(&StreamOptions::default()), given: SharedPatch::default() }
}

/// A stream without an event.
fn opening() -> Opening {
    Opening {
        mark: Mark { epoch: 7, newest: 0, version: 1 },
        carried: 0,
        made: true,
        ended: false,
        left: None,
        options: make().options,
        base: 0,
        entries: Vec::new(),
        snapshot: None,
        readers: Vec::new(),
        presence: 0,
    }
}

fn said(kind: &'static str, process: &str) -> (&'static str, String) {
    (kind, process.to_owned())
}

#[test]
fn behind_another_server_publishes_go_first_and_readers_are_declared_before_they_are_withdrawn() {
    let mut bench = Bench::new();
    let (one, two): (Name, Name) = ("one".into(), "two".into());
    bench.read_by(&one, 3);
    bench.read_by(&two, 1);
    bench.wired(Wired::Down(Line::Command));
    bench.publish(&one);
    bench.order();
    bench.wired(Wired::CommandUp("second".into()));
    let both = [said("readers", "p:1"), said("nobody", "p")];
    let expected = [vec![said("lease", "p:1"), said("publish", "")], both.to_vec(), both.to_vec()].concat();
    assert_eq!(bench.order(), expected);
    bench.pass(Duration::from_secs(4));
    let later = bench.order();
    assert!(later.contains(&said("given back", "p")), "once everybody has heard the new name: {later:?}");
}

#[test]
fn a_fence_that_changes_under_a_publish_lets_it_go_first() {
    let mut bench = Bench::new();
    let one: Name = "one".into();
    bench.read_by(&one, 3);
    bench.publish(&one);
    let id = bench.asked(|request| matches!(request, Request::Publish { .. }));
    bench.wired(Wired::Reply(id, Reply::Fenced));
    let fence = bench.asked(|request| *request == Request::Fence);
    bench.order();
    bench.wired(Wired::Reply(fence, Reply::Fence("second".into())));
    let expected = [said("publish", ""), said("lease", "p:1"), said("readers", "p:1"), said("nobody", "p")];
    assert_eq!(bench.order(), expected);
}

#[test]
fn what_was_released_meantime_is_said_behind_what_waits_to_be_published() {
    let mut bench = Bench::new();
    let (one, two): (Name, Name) = ("one".into(), "two".into());
    bench.read_by(&one, 3);
    bench.wired(Wired::Down(Line::Command));
    bench.step(Input::Ask(Ask::Present { name: Arc::clone(&one), readers: Vec::new() }));
    bench.step(Input::Ask(Ask::Release { name: one }));
    bench.publish(&two);
    bench.order();
    bench.wired(Wired::CommandUp("first".into()));
    assert_eq!(bench.order(), [said("lease", "p"), said("publish", ""), said("nobody", "p")]);
}

#[test]
fn an_opening_that_is_given_up_says_whether_it_was_ever_sent() {
    let mut bench = Bench::new();
    let under_way = bench.open(&"under way".into(), Some(make()));
    let looked = bench.open(&"looked for".into(), None);
    bench.wired(Wired::Down(Line::Command));
    let never_sent = bench.open(&"never sent".into(), Some(make()));
    bench.pass(TIMEOUT);
    bench.pass(TIMEOUT);
    assert_eq!(*under_way.lock(), Some(Opened::Unavailable { done: None }), "the server may still do it");
    assert_eq!(*looked.lock(), Some(Opened::Unavailable { done: Some(false) }), "it changes nothing");
    assert_eq!(*never_sent.lock(), Some(Opened::Unavailable { done: Some(false) }));
}

#[test]
fn a_reader_here_is_this_process_s_own_under_every_name_that_it_had() {
    let mut bench = Bench::new();
    bench.read_by(&"one".into(), 3);
    bench.wired(Wired::Down(Line::Command));
    bench.wired(Wired::CommandUp("second".into()));
    for (process, ours) in [("p", true), ("p:0", true), ("p:1", false), ("p2", false), ("q", false)] {
        assert_eq!(bench.hub.is_former(&process.into()), ours, "{process}");
    }
    bench.leases(&["p", "p:1", "q"]);
    let counts = ["p", "p:1", "q"].map(|process| bench.hub.alive.counts(&process.into()));
    assert_eq!(counts, [false, true, true], "its former lease is nobody's");
}

#[test]
fn who_is_dead_is_said_to_read_nothing_by_a_list_of_this_connection() {
    let mut bench = Bench::new();
    let one: Name = "one".into();
    bench.read_by(&one, 3);
    bench.leases(&["p"]);
    let readers = Bytes::from_static(b"\x01\0");
    let present = News::Present { process: "q".into(), readers: readers.clone(), after: 0, presence: 5 };
    bench.wired(Wired::Push(Push::Stream(Arc::clone(&one), present)));
    bench.pass(Duration::from_secs(3));
    bench.leases(&["p"]);
    assert!(bench.order().contains(&said("nobody", "q")), "it has no lease");
    bench.wired(Wired::Down(Line::Command));
    bench.wired(Wired::CommandUp("first".into()));
    bench.open(&one, None);
    let id = bench.asked(|request| matches!(request, Request::Open(_)));
    let readers = vec![("q".into(), readers)];
    bench.wired(Wired::Reply(id, Reply::Opened(Box::new(Opening { readers, presence: 5, ..opening() }))));
    let lease = bench.asked(|request| matches!(request, Request::Lease { .. }));
    assert!(!bench.order().contains(&said("nobody", "q")), "it may have come back");
    bench.wired(Wired::Reply(lease, Reply::Leases(vec!["p".into()])));
    assert!(bench.order().contains(&said("nobody", "q")), "it has not");
}
