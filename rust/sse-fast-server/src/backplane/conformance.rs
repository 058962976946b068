//! The same questions to the server in memory, to Redis and to Valkey, and the same answers. It is long because each script
//! has its tests, and they are one list.
//!
//! Each test is a script of requests; what it says of replies and pushes is asserted once, for all three. The real servers
//! are started by the tests; `make test-rust` says where their programs are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::event::NewEvent;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{Start, StreamOptions};

use super::memory::Engine;
use super::protocol::{
    Guard, Mark, News, Open, Opening, Push, Reply, Request, RequestId, Seen, Unit, UnitOutcome, UnitSnapshot, Wired,
    Wires,
};
use super::redis::Redis;
use super::redis::tests::{SERVERS, Server, until};
use super::{Make, Name, SharedEvent, SharedKey, SharedOptions, SharedPatch};

/// One of the three.
enum World {
    Memory(Box<Engine>, Duration, Vec<Push>),
    Real(Box<Redis>, Server, u64, Vec<Push>),
}

impl World {
    async fn ask(&mut self, request: Request) -> Reply {
        match self {
            Self::Memory(engine, now, pushes) => engine.execute(*now, &request, pushes),
            Self::Real(wires, _, count, pushes) => {
                *count += 1;
                wires.request(RequestId(*count), request);
                until(wires, |wired| match wired {
                    Wired::Reply(RequestId(id), reply) if id == *count => Some(reply),
                    Wired::Push(push) => {
                        pushes.push(push);
                        None
                    }
                    _ => None,
                })
                .await
            }
        }
    }

    /// What was pushed until now: on real servers, until an echo comes.
    async fn pushed(&mut self) -> Vec<News> {
        let number = 77;
        self.ask(Request::Probe { process: "p1".into(), number }).await;
        if let Self::Real(wires, _, _, pushes) = self
            && !pushes.contains(&Push::Echo { number })
        {
            until(wires, |wired| {
                let Wired::Push(push) = wired else { return None };
                pushes.push(push);
                (pushes.last() == Some(&Push::Echo { number })).then_some(())
            })
            .await;
        }
        let (Self::Memory(_, _, pushes) | Self::Real(_, _, _, pushes)) = self;
        let news = std::mem::take(pushes).into_iter();
        news.filter_map(|push| if let Push::Stream(_, news) = push { Some(news) } else { None }).collect()
    }

    async fn evict(&mut self, kind: &str) {
        match (self, kind) {
            (Self::Memory(engine, ..), "l") => engine.evict_log(&name()),
            (Self::Memory(engine, ..), _) => engine.evict_meta(&name()),
            (Self::Real(_, server, ..), kind) => {
                server.ask(&["DEL", &format!("test:v1:0:{kind}:s")]).await;
            }
        }
    }

    /// Waits until the stream is forgotten, which is in that time.
    async fn until_gone(&mut self, after: Duration) {
        if let Self::Memory(_, now, _) = self {
            *now += after;
        }
        let names: Arc<[_]> = Arc::from([(name(), false)]);
        while self.ask(Request::Compare { names: Arc::clone(&names) }).await != Reply::Compared(vec![Seen::Gone]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn out_of_memory(&mut self, out: bool) {
        match self {
            Self::Memory(engine, ..) => engine.out_of_memory = out,
            Self::Real(_, server, ..) => {
                let most = if out { "1" } else { "0" };
                server.ask(&["CONFIG", "SET", "maxmemory", most]).await;
            }
        }
    }
}

/// Runs a script on all three.
fn on_all<F: Future<Output = ()>>(script: impl Fn(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        script(World::Memory(Box::new(Engine::new("f1")), Duration::from_secs(1), Vec::new())).await;
        for variable in SERVERS {
            let server = Server::start(variable, &[]);
            let mut wires = server.wires("p1");
            let mut up = 0;
            until(&mut wires, |wired| {
                up += u64::from(matches!(wired, Wired::CommandUp(_) | Wired::SubscriberUp));
                (up == 2).then_some(())
            })
            .await;
            wires.subscribe(vec![name()]);
            until(&mut wires, |wired| matches!(wired, Wired::Subscribed(_)).then_some(())).await;
            script(World::Real(Box::new(wires), server, 0, Vec::new())).await;
        }
    });
}

fn name() -> Name {
    "s".into()
}

fn guard(fence: &str) -> Guard {
    Guard { fence: Some(fence.into()), sure: false, epoch: 1000 }
}

fn make() -> Make {
    Make { options: SharedOptions::of(&StreamOptions::default()), given: SharedPatch::default() }
}

fn event(data: &str) -> SharedEvent {
    SharedEvent::new(&NewEvent { data: data.as_bytes(), event: Some("tick"), ..NewEvent::default() })
}

fn unit(data: &[&str]) -> Unit {
    Unit { events: data.iter().map(|data| event(data)).collect(), snapshot: None, end: false, key: None }
}

fn call(number: u64, units: Vec<Unit>) -> Request {
    call_with(number, units, guard("f1"), make())
}

fn remove(call: u64) -> Request {
    Request::Remove { name: name(), process: "p".into(), call }
}

fn call_with(number: u64, units: Vec<Unit>, guard: Guard, make: Make) -> Request {
    Request::Publish { name: name(), guard, process: "p1".into(), call: number, units: units.into(), make }
}

fn new(first: u64) -> UnitOutcome {
    UnitOutcome::New { epoch: Epoch(1000), first }
}

fn look() -> Open {
    Open { name: name(), guard: guard("f1"), make: None, above: 0, from: Mark::default() }
}

fn opened(reply: Reply) -> Opening {
    let Reply::Opened(opening) = reply else { panic!("it is there: {reply:?}") };
    *opening
}

async fn read(world: &mut World, from: Mark) -> Opening {
    opened(world.ask(Request::Open(Box::new(Open { from, ..look() }))).await)
}

fn data(entries: &[SharedEvent]) -> Vec<String> {
    entries.iter().map(|event| String::from_utf8(event.fields().data.to_vec()).unwrap()).collect()
}

fn mark(epoch: u64, newest: u64, version: u64) -> Mark {
    Mark { epoch, newest, version }
}

#[test]
fn events_are_numbered_kept_and_pushed_in_one_step() {
    on_all(|mut world| async move {
        let reply = world.ask(call(1, vec![unit(&["a", "b"]), unit(&["c"])])).await;
        assert_eq!(reply, Reply::Published(vec![new(1), new(3)]));
        let reply = world.ask(call(2, vec![unit(&["d"])])).await;
        assert_eq!(reply, Reply::Published(vec![new(4)]));
        let all = read(&mut world, Mark::default()).await;
        assert_eq!(
            (all.mark, all.base, data(&all.entries)),
            (mark(1000, 4, 1), 0, "abcd".chars().map(String::from).collect())
        );
        assert_eq!(all.options, make().options);
        assert_eq!(all.entries[0], event("a"));
        let rest = read(&mut world, mark(1000, 3, 1)).await;
        assert_eq!((rest.base, data(&rest.entries)), (3, vec!["d".to_owned()]));
        let news = world.pushed().await;
        let [News::Tail { mark: first_mark, first, events, ended, .. }, News::Tail { first: 4, .. }] = &news[..] else {
            panic!("{news:?}")
        };
        assert_eq!((*first_mark, *first, data(events).len(), *ended), (mark(1000, 3, 1), 1, 3, false));
    });
}

#[test]
fn a_call_that_is_repeated_does_nothing_again_and_a_late_one_nothing_at_all() {
    on_all(|mut world| async move {
        let first = world.ask(call(5, vec![unit(&["a"])])).await;
        assert_eq!(world.ask(call(5, vec![unit(&["a"])])).await, first, "repeated");
        assert_eq!(world.ask(call(4, vec![unit(&["z"])])).await, Reply::Stale);
        let mut other = call(1, vec![unit(&["b"])]);
        if let Request::Publish { process, .. } = &mut other {
            *process = "p2".into();
        }
        assert_eq!(world.ask(other).await, Reply::Published(vec![new(2)]), "another process counts for itself");
        assert_eq!(data(&read(&mut world, Mark::default()).await.entries), ["a", "b"]);
    });
}

#[test]
fn a_key_gives_the_first_answer_and_another_body_a_conflict() {
    on_all(|mut world| async move {
        let keyed = |body| Unit { key: Some(SharedKey { key: "k 1".into(), body }), ..unit(&["a"]) };
        assert_eq!(world.ask(call(1, vec![keyed(7)])).await, Reply::Published(vec![new(1)]));
        let reply = world.ask(call(2, vec![unit(&["b"]), keyed(7), keyed(8)])).await;
        let again = UnitOutcome::Again { epoch: Epoch(1000), first: 1 };
        assert_eq!(reply, Reply::Published(vec![new(2), again.clone(), UnitOutcome::Conflict]));
        let reply = world.ask(call(3, vec![Unit { end: true, ..unit(&["c"]) }])).await;
        assert_eq!(reply, Reply::Published(vec![new(3)]));
        let reply = world.ask(call(4, vec![keyed(7), unit(&["d"])])).await;
        assert_eq!(reply, Reply::Published(vec![again, UnitOutcome::Ended]), "a key is known beyond the end");
    });
}

#[test]
fn the_end_is_the_last_event_and_nothing_follows_it() {
    on_all(|mut world| async move {
        let units = vec![unit(&["a"]), Unit { end: true, ..unit(&["b", "end"]) }, unit(&["late"])];
        let reply = world.ask(call(1, units)).await;
        assert_eq!(reply, Reply::Published(vec![new(1), new(2), UnitOutcome::Ended]));
        let all = read(&mut world, Mark::default()).await;
        assert!(all.ended);
        assert_eq!(data(&all.entries), ["a", "b", "end"]);
        assert!(matches!(&world.pushed().await[..], [News::Tail { ended: true, .. }]));
        let reply = world.ask(call_with(2, vec![unit(&["x"])], guard("f2"), make())).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::Ended]), "whatever the fence is");
    });
}

#[test]
fn a_snapshot_stands_for_its_position_and_keeps_its_name() {
    on_all(|mut world| async move {
        let set = |with, event: Option<&str>, data: &'static str| {
            Some(UnitSnapshot { with, event: event.map(Into::into), data: Bytes::from_static(data.as_bytes()) })
        };
        let alone = Unit { snapshot: set(0, Some("state"), "s0"), ..unit(&[]) };
        assert_eq!(world.ask(call(1, vec![alone])).await, Reply::Published(vec![new(0)]));
        let with = Unit { snapshot: set(1, None, "s\n2"), ..unit(&["a", "b", "c"]) };
        assert_eq!(world.ask(call(2, vec![with])).await, Reply::Published(vec![new(1)]));
        let all = read(&mut world, Mark::default()).await;
        let snapshot = all.snapshot.expect("it is set");
        assert_eq!((&*snapshot.event, &snapshot.data[..], snapshot.position), ("state", &b"s\n2"[..], 2));
        assert_eq!(all.mark, mark(1000, 3, 3));
        assert_eq!(read(&mut world, mark(1000, 1, 3)).await.snapshot, None, "known by its version");
        let news = world.pushed().await;
        let [
            News::Tail { first: 1, snapshot: first, .. },
            News::Tail { mark: last, first: 1, events, snapshot: second, .. },
        ] = &news[..]
        else {
            panic!("{news:?}")
        };
        assert_eq!(first.as_ref().map(|first| first.position), Some(0));
        assert_eq!((second.as_ref(), events.len(), *last), (Some(&snapshot), 3, mark(1000, 3, 3)));
    });
}

#[test]
fn the_log_is_bounded_by_events_and_by_bytes() {
    on_all(|mut world| async move {
        let options = SharedOptions { history: 3, ..make().options };
        let bounded = Make { options, ..make() };
        let all: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let texts: Vec<&str> = all.iter().map(String::as_str).collect();
        world.ask(call_with(1, vec![unit(&texts)], guard("f1"), bounded)).await;
        let read_back = read(&mut world, Mark::default()).await;
        assert_eq!((read_back.base, data(&read_back.entries)), (6, vec!["6".into(), "7".into(), "8".into()]));
        let patch = SharedPatch { history: Some(100), history_bytes: Some(400), ..SharedPatch::default() };
        assert_eq!(world.ask(Request::Configure { name: name(), guard: guard("f1"), patch }).await, Reply::Done);
        for number in 2..12 {
            world.ask(call(number, vec![unit(&["x".repeat(60).as_str()])])).await;
        }
        let kept = read(&mut world, Mark::default()).await;
        let bytes: usize = kept.entries.iter().map(|event| event.bytes().len() + 32).sum();
        assert!(bytes <= 400 && kept.entries.len() == 4, "{bytes} bytes in {}", kept.entries.len());
        world.ask(call(20, vec![unit(&["y".repeat(900).as_str()])])).await;
        assert_eq!(read(&mut world, Mark::default()).await.entries.len(), 1, "the newest stays whatever its size");
    });
}

#[test]
fn opening_looks_makes_and_puts_options_in_force() {
    on_all(|mut world| async move {
        assert_eq!(world.ask(Request::Open(Box::new(look()))).await, Reply::Unknown { removed: None });
        let given = SharedPatch {
            start: Some(Start::All),
            expire: Some(Some(Duration::from_secs(9))),
            ..SharedPatch::default()
        };
        let open = Open { make: Some(Make { given, ..make() }), ..look() };
        let first = opened(world.ask(Request::Open(Box::new(open.clone()))).await);
        assert_eq!((first.made, first.mark, first.base), (true, mark(1000, 0, 1), 0));
        assert_eq!(first.options, make().options.patched(&given));
        let again = opened(world.ask(Request::Open(Box::new(open))).await);
        assert_eq!((again.made, again.mark), (false, first.mark), "nothing changed");
        let given = SharedPatch { private: Some(true), expire: Some(None), ..SharedPatch::default() };
        let other = Open { make: Some(Make { given, ..make() }), ..look() };
        let third = opened(world.ask(Request::Open(Box::new(other))).await);
        assert_eq!((third.made, third.mark.version), (false, 2));
        assert_eq!((third.options.private, third.options.expire, third.options.start), (true, None, Start::All));
        let news = world.pushed().await;
        assert!(matches!(&news[..], [News::Begun { .. }, News::Options { .. }]), "{news:?}");
        let patch = SharedPatch { ids: Some(false), ..SharedPatch::default() };
        let configure = Request::Configure { name: name(), guard: guard("f1"), patch };
        assert_eq!(world.ask(configure.clone()).await, Reply::Done);
        assert_eq!(world.ask(configure).await, Reply::Done);
        let news = world.pushed().await;
        let [News::Options { mark: last, options }] = &news[..] else { panic!("{news:?}") };
        assert_eq!((*last, options.ids), (mark(1000, 0, 3), false));
    });
}

/// Servers lose lives, and clocks differ: who follows the same life with another time begins another.
#[test]
fn two_that_follow_the_same_life_begin_two() {
    on_all(|mut world| async move {
        let mut begun = Vec::new();
        for (number, epoch) in [(1, 900), (4, 901)] {
            let last = Guard { epoch: 2_000_000, ..guard("f1") };
            world.ask(call_with(number, vec![unit(&["a"])], last, make())).await;
            let behind = Guard { sure: true, epoch, ..guard("f2") };
            world.ask(call_with(number + 1, vec![unit(&["b"])], behind, make())).await;
            begun.push(read(&mut world, Mark::default()).await.mark);
            world.evict("m").await;
        }
        assert_eq!(begun, [mark(2_000_901, 2, 2), mark(2_000_902, 2, 2)]);
    });
}

#[test]
fn a_removal_that_is_repeated_removes_no_later_life() {
    on_all(|mut world| async move {
        world.ask(call(1, vec![unit(&["a"])])).await;
        let removed = Reply::Removed(mark(1000, 1, 2));
        assert_eq!(world.ask(remove(1)).await, removed);
        assert_eq!(world.ask(remove(1)).await, removed, "nobody heard it");
        world.ask(call(2, vec![unit(&["b"])])).await;
        assert_eq!(world.ask(remove(1)).await, removed, "nor that");
        let there = read(&mut world, Mark::default()).await;
        assert_eq!(data(&there.entries), ["b"]);
        let (name, process) = (name(), "other".into());
        assert_eq!(world.ask(Request::Remove { name, process, call: 1 }).await, Reply::Removed(mark(2001, 1, 4)));
        world.ask(call(3, vec![unit(&["c"])])).await;
        assert!(matches!(world.ask(remove(2)).await, Reply::Removed(_)));
        assert_eq!(world.ask(remove(1)).await, Reply::Stale, "it comes late");
    });
}

#[test]
fn a_removed_name_says_so_and_begins_a_greater_life() {
    on_all(|mut world| async move {
        assert_eq!(world.ask(remove(1)).await, Reply::Unknown { removed: None });
        world.ask(call(1, vec![unit(&["a"])])).await;
        assert_eq!(world.ask(remove(2)).await, Reply::Removed(mark(1000, 1, 2)));
        assert_eq!(world.ask(remove(3)).await, Reply::Unknown { removed: None });
        let removed = mark(1000, 1, 2);
        assert_eq!(world.ask(Request::Open(Box::new(look()))).await, Reply::Unknown { removed: Some(removed) });
        let names = Arc::from([(name(), true), ("other".into(), false)]);
        let compare = Request::Compare { names };
        assert_eq!(world.ask(compare).await, Reply::Compared(vec![Seen::Removed(removed), Seen::Gone]));
        let patch = SharedPatch { ids: Some(false), ..SharedPatch::default() };
        let configure = Request::Configure { name: name(), guard: guard("f1"), patch };
        assert_eq!(world.ask(configure).await, Reply::Unknown { removed: None });
        let reply = world.ask(call(2, vec![unit(&["b"])])).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::New { epoch: Epoch(2001), first: 1 }]));
        let news = world.pushed().await;
        assert!(matches!(news[1], News::Removed { mark } if mark == removed), "{news:?}");
    });
}

#[test]
fn another_fence_writes_nothing_until_it_is_sure() {
    on_all(|mut world| async move {
        world.ask(call(1, vec![unit(&["a"])])).await;
        world.pushed().await;
        let patch = SharedPatch { ids: Some(false), ..SharedPatch::default() };
        let other =
            |number, sure| call_with(number, vec![unit(&["b"])], Guard { sure, epoch: 900, ..guard("f2") }, make());
        assert_eq!(world.ask(other(2, false)).await, Reply::Fenced);
        let configure = Request::Configure { name: name(), guard: guard("f2"), patch };
        assert_eq!(world.ask(configure).await, Reply::Fenced);
        let open = Open { guard: guard("f2"), make: Some(Make { given: patch, ..make() }), ..look() };
        assert_eq!(world.ask(Request::Open(Box::new(open))).await, Reply::Fenced);
        let looked = opened(world.ask(Request::Open(Box::new(Open { guard: guard("f2"), ..look() }))).await);
        assert_eq!(data(&looked.entries), ["a"], "reading writes nothing");
        assert!(world.pushed().await.is_empty());
        let reply = world.ask(other(2, true)).await;
        let lives_on = UnitOutcome::New { epoch: Epoch(1901), first: 2 };
        assert_eq!(reply, Reply::Published(vec![lives_on]), "greater than the last, whatever the clock says");
        assert_eq!(world.ask(call(3, vec![unit(&["c"])])).await, Reply::Fenced, "now the old one is");
        let trusting = Guard { fence: None, ..guard("") };
        let reply = world.ask(call_with(4, vec![unit(&["d"])], trusting, make())).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::New { epoch: Epoch(1901), first: 3 }]));
        assert_eq!(data(&read(&mut world, Mark::default()).await.entries), ["a", "b", "d"]);
    });
}

/// A server that came back with its data, or a replica that took over, has something that is worth having.
#[test]
fn a_stream_that_lives_on_has_its_events_and_its_snapshot() {
    on_all(|mut world| async move {
        let set = |data: &'static str| UnitSnapshot { with: 1, event: Some("state".into()), data: data.into() };
        let bounded = Make { options: SharedOptions { history: 3, ..make().options }, ..make() };
        let units = vec![Unit { snapshot: Some(set("s2")), ..unit(&["a", "b", "c", "d"]) }];
        world.ask(call_with(1, units, guard("f1"), bounded)).await;
        world.pushed().await;
        let other = |epoch| Guard { sure: true, epoch, ..guard("f2") };
        let reply = world.ask(call_with(2, vec![unit(&["e"])], other(2000), make())).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::New { epoch: Epoch(2000), first: 5 }]));
        let all = read(&mut world, Mark::default()).await;
        assert_eq!((all.mark, all.base, data(&all.entries).concat()), (mark(2000, 5, 3), 2, "cde".to_owned()));
        assert_eq!(all.carried, 4);
        let snapshot = all.snapshot.expect("it stands for the same events");
        assert_eq!((&*snapshot.event, &snapshot.data[..], snapshot.position), ("state", &b"s2"[..], 2));
        let behind = read(&mut world, mark(1000, 4, 2)).await;
        assert_eq!((behind.base, behind.entries.len()), (2, 3), "who knows the former life gets everything");
        let [News::Tail { mark: pushed, first: 5, .. }] = &world.pushed().await[..] else { panic!("one push") };
        assert_eq!(*pushed, mark(2000, 5, 3));

        let patch = SharedPatch { history: Some(2), ..SharedPatch::default() };
        let configure =
            Request::Configure { name: name(), guard: Guard { sure: true, epoch: 3000, ..guard("f3") }, patch };
        assert_eq!(world.ask(configure).await, Reply::Done);
        let all = read(&mut world, Mark::default()).await;
        assert_eq!((all.mark, all.base, data(&all.entries).concat()), (mark(3000, 5, 5), 3, "de".to_owned()));
        let renewed = opened(world.ask(Request::Open(Box::new(Open { above: 3000, ..look() }))).await);
        assert_eq!((renewed.mark, data(&renewed.entries).concat()), (mark(4001, 5, 6), "de".to_owned()));
        assert_eq!(renewed.snapshot.map(|snapshot| snapshot.position), Some(2));

        world.evict("l").await;
        let reply = world.ask(call_with(3, vec![unit(&["f"])], other(5000), make())).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::New { epoch: Epoch(5000), first: 6 }]), "numbers go on");
        assert_eq!(data(&read(&mut world, Mark::default()).await.entries), ["f"]);
        world.ask(remove(1)).await;
        world.ask(call_with(4, vec![unit(&["g"])], other(6000), make())).await;
        let anew = read(&mut world, Mark::default()).await;
        assert_eq!(anew.carried, 0);
        assert_eq!((anew.mark.newest, anew.snapshot, data(&anew.entries).concat()), (1, None, "g".to_owned()));
    });
}

#[test]
fn what_was_lost_is_renewed_once() {
    on_all(|mut world| async move {
        world.ask(call(1, vec![unit(&["a"])])).await;
        let renew = |above| Request::Open(Box::new(Open { above, ..look() }));
        let renewed = opened(world.ask(renew(1000)).await);
        assert_eq!((renewed.mark, data(&renewed.entries).concat()), (mark(2001, 1, 2), "a".to_owned()));
        assert_eq!(opened(world.ask(renew(1000)).await).mark, renewed.mark, "another process asks for the same");
        world.ask(call(2, vec![Unit { end: true, ..unit(&["end"]) }])).await;
        let ended = opened(world.ask(renew(5000)).await);
        assert_eq!((ended.mark.epoch, ended.ended), (2001, true), "what has ended stays so");
    });
}

#[test]
fn log_or_meta_may_be_evicted() {
    on_all(|mut world| async move {
        world.ask(call(1, vec![unit(&["a", "b"])])).await;
        world.evict("l").await;
        let empty = read(&mut world, Mark::default()).await;
        assert_eq!((empty.mark, empty.base, empty.entries.len()), (mark(1000, 2, 1), 2, 0));
        assert_eq!(world.ask(call(2, vec![unit(&["c"])])).await, Reply::Published(vec![new(3)]), "numbers go on");
        let behind = read(&mut world, mark(1000, 1, 1)).await;
        assert_eq!((behind.base, data(&behind.entries)), (2, vec!["c".to_owned()]), "b is gone, and it shows");
        world.evict("m").await;
        assert_eq!(world.ask(Request::Open(Box::new(look()))).await, Reply::Unknown { removed: None });
        let later = Guard { epoch: 2000, ..guard("f1") };
        let reply = world.ask(call_with(3, vec![unit(&["d"])], later, make())).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::New { epoch: Epoch(2000), first: 1 }]));
        assert_eq!(data(&read(&mut world, Mark::default()).await.entries), ["d"]);
    });
}

#[test]
fn a_server_without_memory_refuses_and_loses_nothing() {
    on_all(|mut world| async move {
        world.ask(call(1, vec![unit(&["a"])])).await;
        world.out_of_memory(true).await;
        let refused = |reply: Reply| matches!(&reply, Reply::Refused(why) if why.contains("OOM"));
        assert!(refused(world.ask(call(2, vec![unit(&["b"])])).await));
        let patch = SharedPatch { history: Some(3), ..SharedPatch::default() };
        let configure = Request::Configure { name: name(), guard: guard("f1"), patch };
        assert!(refused(world.ask(configure).await));
        let sure = Guard { sure: true, ..guard("f2") };
        assert!(refused(world.ask(call_with(2, vec![unit(&["b"])], sure, make())).await), "no life begins");
        let made = Open { name: "other".into(), make: Some(make()), ..look() };
        assert!(refused(world.ask(Request::Open(Box::new(made))).await), "nor is a stream made");
        let nothing = Open { name: "other".into(), ..look() };
        assert_eq!(world.ask(Request::Open(Box::new(nothing))).await, Reply::Unknown { removed: None });
        assert_eq!(data(&read(&mut world, Mark::default()).await.entries), ["a"], "it still reads");
        // Who reads, who lives, and who was disconnected is taken: it is small, and readers' counts would be wrong.
        let (process, lease): (Arc<str>, _) = ("p".into(), Duration::from_secs(10));
        for readers in ["x", "y", ""] {
            let (process, readers) = (Arc::clone(&process), Bytes::from_static(readers.as_bytes()));
            assert_eq!(world.ask(Request::Present { name: name(), process, readers }).await, Reply::Done);
        }
        let leases = world.ask(Request::Lease { process: Arc::clone(&process), lease }).await;
        assert_eq!(leases, Reply::Leases(vec![process]));
        let disconnect = Request::Disconnect { reader: "ann".into(), before: 5, keep: lease };
        assert_eq!(world.ask(disconnect).await, Reply::Done);
        assert_eq!(world.ask(remove(1)).await, Reply::Removed(mark(1000, 1, 2)), "that takes none");
        world.out_of_memory(false).await;
        let reply = world.ask(call(2, vec![unit(&["b"])])).await;
        assert_eq!(reply, Reply::Published(vec![UnitOutcome::New { epoch: Epoch(2001), first: 1 }]));
    });
}

#[test]
fn processes_say_who_reads_and_have_leases() {
    on_all(|mut world| async move {
        let present = |process: &str, readers: &'static [u8]| Request::Present {
            name: name(),
            process: process.into(),
            readers: Bytes::from_static(readers),
        };
        world.ask(call(1, vec![unit(&["a"])])).await;
        world.pushed().await;
        for request in
            [present("p1", b"\x01\0"), present("p2", b"\x02\n\0"), present("p2", b"\x02\n\0"), present("p1", b"")]
        {
            assert_eq!(world.ask(request).await, Reply::Done);
        }
        let all = read(&mut world, Mark::default()).await;
        assert_eq!(all.readers, vec![(Arc::from("p2"), Bytes::from_static(b"\x02\n\0"))]);
        let news = world.pushed().await;
        let [
            News::Present { after: 0, presence: first, .. },
            News::Present { process, readers, after, presence: second },
            News::Present { readers: none, after: then, presence: third, .. },
        ] = &news[..]
        else {
            panic!("{news:?}")
        };
        assert_eq!((after, then, *third), (first, second, all.presence), "each says which it follows");
        assert!(first < second && second < third, "they rise");
        assert_eq!((&**process, &readers[..], none.len()), ("p2", &b"\x02\n\0"[..], 0));
        let names: Arc<[_]> = Arc::from([(name(), true)]);
        let seen = world.ask(Request::Compare { names }).await;
        assert_eq!(seen, Reply::Compared(vec![Seen::There { mark: mark(1000, 1, 1), presence: all.presence }]));
        let lease =
            |process: &str, seconds| Request::Lease { process: process.into(), lease: Duration::from_secs(seconds) };
        assert_eq!(world.ask(lease("p1", 10)).await, Reply::Leases(vec!["p1".into()]));
        let both = world.ask(lease("p2", 20)).await;
        assert_eq!(both, Reply::Leases(vec!["p1".into(), "p2".into()]));
        assert_eq!(world.ask(lease("p1", 0)).await, Reply::Leases(vec!["p2".into()]));
    });
}

#[test]
fn a_disconnected_reader_is_told_and_kept() {
    on_all(|mut world| async move {
        assert_eq!(world.ask(Request::Disconnected).await, Reply::Disconnected(Vec::new()));
        let (reader, keep) = (Arc::<str>::from("an n"), Duration::from_secs(60));
        assert_eq!(world.ask(Request::Disconnect { reader: Arc::clone(&reader), before: 17, keep }).await, Reply::Done);
        assert_eq!(world.ask(Request::Disconnected).await, Reply::Disconnected(vec![(reader, 17)]));
    });
}

/// What has ended stays for `linger`, what is open for `expire` where nobody reads it; both no longer.
#[test]
fn what_is_over_is_forgotten_in_time() {
    on_all(|mut world| async move {
        let short = Duration::from_millis(300);
        let long = Duration::from_secs(600);
        let options = SharedOptions { linger: short, expire: Some(long), ..make().options };
        let made = Make { options, ..make() };
        world.ask(call_with(1, vec![unit(&["a"])], guard("f1"), made)).await;
        let open = read(&mut world, Mark::default()).await;
        assert!(open.left.is_some_and(|left| left <= long && left > long / 2), "{:?}", open.left);
        let present = |readers: &'static [u8]| Request::Present {
            name: name(),
            process: "p2".into(),
            readers: Bytes::from_static(readers),
        };
        world.ask(present(b"\x01\0")).await;
        assert!(read(&mut world, Mark::default()).await.left > Some(long), "who reads it is asked in between");
        world.ask(call(2, vec![unit(&["b"])])).await;
        assert!(read(&mut world, Mark::default()).await.left > Some(long));
        world.ask(present(b"")).await;
        assert!(read(&mut world, Mark::default()).await.left <= Some(long), "nobody reads it any more");
        let patch = SharedPatch { expire: Some(None), ..SharedPatch::default() };
        world.ask(Request::Configure { name: name(), guard: guard("f1"), patch }).await;
        assert_eq!(read(&mut world, Mark::default()).await.left, None, "it stays");
        world.ask(call(3, vec![Unit { end: true, ..unit(&["end"]) }])).await;
        assert!(read(&mut world, Mark::default()).await.left.is_some_and(|left| left <= short));
        world.ask(present(b"\x01\0")).await;
        world.until_gone(short).await;
        assert_eq!(world.ask(Request::Open(Box::new(look()))).await, Reply::Unknown { removed: None });
        let later = Guard { epoch: 2000, ..guard("f1") };
        let reply = world.ask(call_with(4, vec![unit(&["x"])], later, make())).await;
        assert_eq!(
            reply,
            Reply::Published(vec![UnitOutcome::New { epoch: Epoch(2000), first: 1 }]),
            "the name is free"
        );
    });
}
