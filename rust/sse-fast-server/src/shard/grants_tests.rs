//! Rights that end and readers that are disconnected, stepped by hand.

#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::sync::Arc;
use std::sync::mpsc;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::StreamOptions;

use super::Order;
use super::by_hand::{FRAME, LARGE, MS, Socket, Stage, data_of, publish};
use super::machine::{Next, Pacing};
use super::net::Ready;
use crate::admitted::Admitted;
use crate::delivery::Patience;
use crate::stats::CloseReason;
use crate::stream::Stream;

const AUTH: &str = "{\"reason\":\"expired\"}";
/// What an end of a right is on the wire, its last chunk included.
const END: &[u8] = b"28\r\nevent: auth\ndata: {\"reason\":\"expired\"}\n\n\r\n0\r\n\r\n";

fn stage() -> (Stage, Stream) {
    let stage = Stage::new(Pacing::default(), Patience::Within(0));
    let stream = stage.stream("s", StreamOptions { heartbeat: None, ..StreamOptions::default() });
    (stage, stream)
}

fn of(reader: &str, expires: Option<Micros>) -> Admitted {
    Admitted { reader: Some(reader.into()), expires, since: 0 }
}

fn closed(stage: &Stage, reason: CloseReason) -> u64 {
    stage.handle.counters().closed[reason as usize].load(std::sync::atomic::Ordering::Relaxed)
}

fn disconnect(stage: &mut Stage, reader: &str) -> usize {
    let (told, count) = mpsc::channel();
    stage.handle.order(Order::Disconnect { reader: reader.into(), until: 5, told });
    stage.step(0, &[]);
    count.recv().expect("the shard has answered")
}

fn is_shut(socket: &Socket) -> bool {
    socket.0.borrow().is_shut
}

#[test]
fn a_right_that_ends_is_told_after_what_was_published_and_nothing_follows() {
    for framing in [Framing::Chunked, Framing::Plain] {
        let (mut stage, stream) = stage();
        let expires = stage.now + 500 * MS;
        let ends = stage.subscribe_as(of("ann", Some(expires)), &stream, framing, LARGE);
        let stays = stage.subscribe_as(of("bob", None), &stream, framing, LARGE);
        assert_eq!(stage.step(0, &[]), Next::At(expires));
        publish(&stream, b"1");
        stage.step(499 * MS, &[]);
        assert_eq!(data_of(&ends), ["1"], "its time has not come");
        publish(&stream, b"2");
        stage.step(MS, &[]);
        assert_eq!(data_of(&ends), ["1", "2", AUTH]);
        let taken = ends.0.borrow().taken.clone();
        assert!(framing == Framing::Plain || taken.ends_with(END), "{:?}", String::from_utf8_lossy(&taken));
        assert!(is_shut(&ends) && !is_shut(&stays));
        publish(&stream, b"3");
        stage.step(MS, &[]);
        assert_eq!((data_of(&ends).len(), data_of(&stays)), (3, vec!["1".into(), "2".into(), "3".into()]));
        assert_eq!((closed(&stage, CloseReason::Expired), stream.subscribers()), (1, 1));
    }
}

#[test]
fn a_full_socket_gets_what_was_published_until_its_right_ended_and_nothing_later() {
    let (mut stage, stream) = stage();
    let socket = stage.subscribe_as(of("ann", Some(stage.now + 10 * MS)), &stream, Framing::Chunked, FRAME / 2);
    stage.step(0, &[]);
    publish(&stream, b"1");
    publish(&stream, b"2");
    stage.step(0, &[]);
    stage.step(10 * MS, &[]);
    publish(&stream, b"late");
    stage.step(0, &[]);
    assert_eq!((data_of(&socket).len(), is_shut(&socket)), (0, false), "it has a half");
    for _ in 0..200 {
        socket.0.borrow_mut().room = 1;
        stage.step(MS, &[&socket]);
    }
    assert_eq!(data_of(&socket), ["1", "2", AUTH]);
    assert!(socket.0.borrow().taken.ends_with(END) && is_shut(&socket));
}

#[test]
fn a_connection_of_several_streams_gets_what_each_had_until_its_right_ended_and_nothing_later() {
    for room in [LARGE, FRAME / 2] {
        let (mut stage, stream) = stage();
        let other = stage.stream("other", StreamOptions { heartbeat: None, ..StreamOptions::default() });
        let right = of("ann", Some(stage.now + 10 * MS));
        let socket = stage.subscribe_to_several_as(right, &[&stream, &other], room);
        stage.step(0, &[]);
        for (stream, data) in [(&stream, "1"), (&other, "2"), (&stream, "3")] {
            publish(stream, data.as_bytes());
        }
        stage.step(0, &[]);
        stage.step(10 * MS, &[]);
        publish(&stream, b"late");
        publish(&other, b"late");
        stage.step(0, &[]);
        assert_eq!(is_shut(&socket), room == LARGE);
        for _ in 0..400 {
            socket.0.borrow_mut().room = 1;
            stage.step(MS, &[&socket]);
        }
        let mut data = data_of(&socket);
        assert_eq!(data.pop().as_deref(), Some(AUTH), "{data:?}");
        data.sort_unstable();
        assert_eq!(data, ["1", "2", "3"]);
        assert!(socket.0.borrow().taken.ends_with(END) && is_shut(&socket));
        assert_eq!((stream.subscribers(), other.subscribers(), closed(&stage, CloseReason::Expired)), (0, 0, 1));
        assert!(stream.readers().is_empty() && other.readers().is_empty());
    }
}

#[test]
fn a_reader_of_several_streams_is_disconnected_once_and_counts_in_each() {
    let (mut stage, stream) = stage();
    let other = stage.stream("other", StreamOptions { heartbeat: None, ..StreamOptions::default() });
    let socket = stage.subscribe_to_several_as(of("ann", None), &[&stream, &other], LARGE);
    stage.step(0, &[]);
    let ann = vec![(Some("ann".into()), 1)];
    assert_eq!((stream.readers(), other.readers()), (ann.clone(), ann));
    assert_eq!(
        (disconnect(&mut stage, "bob"), disconnect(&mut stage, "ann"), disconnect(&mut stage, "ann")),
        (0, 1, 0)
    );
    assert!(is_shut(&socket) && stream.readers().is_empty() && other.readers().is_empty());
}

#[test]
fn one_that_lags_is_told_its_gap_and_ends_where_the_log_goes_on_later_than_it_may_read() {
    let (mut stage, _) = stage();
    let options = StreamOptions { history: 2, max_lag: 2, heartbeat: None, ..StreamOptions::default() };
    let stream = stage.stream("small", options);
    let socket = stage.subscribe_as(of("ann", Some(stage.now + 10 * MS)), &stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    publish(&stream, b"1");
    stage.step(0, &[]);
    stage.step(10 * MS, &[]);
    for data in ["2", "3", "4", "5"] {
        publish(&stream, data.as_bytes());
        stage.step(MS, &[]);
    }
    socket.0.borrow_mut().room = LARGE;
    stage.step(MS, &[&socket]);
    let data = data_of(&socket);
    assert!(data.len() <= 3 && data.last().is_some_and(|last| last == AUTH), "{data:?}");
    assert!(!["2", "3", "4", "5"].iter().any(|late| data.iter().any(|got| got == late)), "{data:?}");
}

#[test]
fn a_reader_is_disconnected_wherever_it_reads_and_nobody_else_is() {
    let (mut stage, stream) = stage();
    let other = stage.stream("other", StreamOptions { heartbeat: None, ..StreamOptions::default() });
    let anns: Vec<_> = [&stream, &other, &stream]
        .map(|stream| stage.subscribe_as(of("ann", Some(stage.now + 60_000 * MS)), stream, Framing::Chunked, LARGE))
        .into();
    let full = stage.subscribe_as(of("ann", None), &stream, Framing::Chunked, 0);
    let bob = stage.subscribe_as(of("bob", None), &stream, Framing::Chunked, LARGE);
    let anonymous = stage.subscribe(&stream, Framing::Chunked, LARGE);
    stage.step(0, &[]);
    let mut readers = stream.readers();
    readers.sort();
    assert_eq!(readers, [(None, 1), (Some(Arc::from("ann")), 3), (Some(Arc::from("bob")), 1)]);
    publish(&stream, b"1");
    assert_eq!(disconnect(&mut stage, "ann"), 4);
    publish(&stream, b"2");
    stage.step(0, &[]);
    assert_eq!(disconnect(&mut stage, "ann"), 0, "they are on their way out");
    for socket in &anns {
        assert!(is_shut(socket) && socket.0.borrow().taken.ends_with(b"0\r\n\r\n"));
    }
    assert_eq!(anns.iter().map(data_of).collect::<Vec<_>>(), [vec!["1".to_owned()], vec![], vec!["1".to_owned()]]);
    assert_eq!([&bob, &anonymous].map(data_of), [["1", "2"], ["1", "2"]]);
    full.0.borrow_mut().room = LARGE;
    stage.step(0, &[&full]);
    assert_eq!((data_of(&full), is_shut(&full)), (vec!["1".to_owned()], true));
    assert_eq!((stream.readers().len(), stream.subscribers(), closed(&stage, CloseReason::Disconnected)), (2, 2, 4));
    assert_eq!(disconnect(&mut stage, "nobody"), 0);
    let later = Admitted { since: 6, ..of("ann", None) };
    let again = stage.subscribe_as(later, &stream, Framing::Chunked, LARGE);
    assert_eq!((disconnect(&mut stage, "ann"), is_shut(&again)), (0, false), "it was let in after that");
}

#[test]
fn who_leaves_before_its_right_ends_leaves_nothing_behind() {
    let (mut stage, stream) = stage();
    let expires = stage.now + 60_000 * MS;
    let sockets: Vec<_> =
        (0..5).map(|_| stage.subscribe_as(of("ann", Some(expires)), &stream, Framing::Chunked, LARGE)).collect();
    assert_eq!(stage.step(0, &[]), Next::At(expires));
    for socket in &sockets {
        let token = socket.0.borrow().token.expect("registered");
        let gone = Ready { token, readable: false, writable: false, broken: true };
        stage.shard.step(stage.now, [gone].into_iter());
    }
    assert_eq!((stage.shard.grants.next_due(), stream.readers().len(), stage.connections()), (None, 0, 0));
    assert_eq!(stage.step(60_000 * MS, &[]), Next::Whenever);
}

#[test]
fn a_crowd_whose_rights_end_in_one_moment_ends_a_few_at_a_time() {
    let (mut stage, stream) = stage();
    let expires = stage.now + 10 * MS;
    let sockets: Vec<_> =
        (0..100).map(|_| stage.subscribe_as(of("ann", Some(expires)), &stream, Framing::Chunked, LARGE)).collect();
    stage.step(0, &[]);
    let shut = || sockets.iter().filter(|socket| is_shut(socket)).count();
    assert_eq!((stage.step(10 * MS, &[]), shut()), (Next::Now, 32));
    for _ in 0..3 {
        stage.step(0, &[]);
    }
    assert_eq!(shut(), 100);
}
