//! One allocation for a publish: its frame. None for a delivery.
//!
//! A few allocations are granted to a whole run: a list that grows to its size once, a thread of
//! the engine that does other work at the same time. One for each event or delivery is hundreds.

use std::time::Duration;

use sse_fast_server::NewEvent;

use crate::allocator::{alone, count};
use crate::readers::{Readers, publish, serve, stream};

/// Events published until every list has the size it keeps: more than a history.
const WARM_UP: usize = 300;

/// Allocations granted to a whole run.
const GRANTED: u64 = 10;

#[test]
fn a_publish_allocates_its_frame_and_nothing_else() {
    let _alone = alone();
    let server = serve(None);
    let stream = stream(&server, "s");
    for payload in [&b"short"[..], &[b'x'; 100], b"three\r\nlines\nof data", &[b'y'; 10_000]] {
        (0..WARM_UP).for_each(|_| publish(&stream, payload));
        let events = 1000;
        let counted = count(|| (0..events).for_each(|_| publish(&stream, payload)));
        eprintln!("{} bytes: {} allocations for {events} events", payload.len(), counted.mine);
        assert!(
            counted.mine >= events && counted.mine <= events + GRANTED,
            "{} allocations for {events} events of {} bytes: a publish allocates its frame alone",
            counted.mine,
            payload.len(),
        );
    }
    server.close(Duration::ZERO);
}

#[test]
fn a_lone_event_s_deliveries_allocate_nothing() {
    let _alone = alone();
    let (subscribers, events) = (200, 50);
    let server = serve(None);
    let stream = stream(&server, "s");
    let mut readers = Readers::with_capacity(subscribers);
    readers.connect(&server, std::iter::repeat_n(&stream, subscribers));
    let mut deliver = |data: &[u8]| {
        publish(&stream, data);
        readers.receive(data);
    };
    (0..WARM_UP).for_each(|_| deliver(b"warm-up"));
    let counted = count(|| (0..events).for_each(|_| deliver(b"lone")));
    let deliveries = events * subscribers;
    eprintln!("lone events: {counted:?} for {deliveries} deliveries");
    assert!(
        counted.engine <= GRANTED,
        "{} allocations of the engine's threads for {deliveries} deliveries of lone events",
        counted.engine
    );
    assert!(
        counted.mine <= events as u64 + GRANTED,
        "{} allocations for {events} events published with subscribers: a publish allocates its frame alone",
        counted.mine
    );
    server.close(Duration::ZERO);
}

#[test]
fn a_burst_s_deliveries_allocate_next_to_nothing() {
    let _alone = alone();
    let (subscribers, events, bursts) = (100, 200, 10);
    let server = serve(None);
    let stream = stream(&server, "s");
    let mut readers = Readers::with_capacity(subscribers);
    readers.connect(&server, std::iter::repeat_n(&stream, subscribers));
    let mut burst = || {
        for _ in 1..events {
            publish(&stream, &[b'x'; 100]);
        }
        stream.publish(&NewEvent { data: b"last", ..NewEvent::default() }).unwrap();
        readers.receive(b"last");
    };
    (0..5).for_each(|_| burst());
    let counted = count(|| (0..bursts).for_each(|_| burst()));
    let deliveries = u64::try_from(bursts * events * subscribers).unwrap();
    eprintln!("bursts: {counted:?} for {deliveries} deliveries");
    // A reader that is blocked for a moment has a small note on the heap for that time.
    assert!(
        counted.engine * 100 <= deliveries,
        "{} allocations of the engine's threads for {deliveries} deliveries in bursts",
        counted.engine
    );
    server.close(Duration::ZERO);
}

#[test]
fn deliveries_of_several_streams_over_one_connection_allocate_nothing() {
    let _alone = alone();
    let (connections, names, rounds) = (50, 8, 50);
    let server = serve(None);
    let streams: Vec<_> = (0..names).map(|name| stream(&server, &format!("s{name}"))).collect();
    let mut readers = Readers::with_capacity(connections);
    readers.connect_to_several(&server, &streams, connections);
    let mut deliver = || {
        for stream in &streams {
            publish(stream, b"each");
            readers.receive(b"each");
        }
    };
    (0..WARM_UP).for_each(|_| deliver());
    let counted = count(|| (0..rounds).for_each(|_| deliver()));
    let deliveries = rounds * connections * names;
    eprintln!("several streams: {counted:?} for {deliveries} deliveries");
    assert!(
        counted.engine <= GRANTED,
        "{} allocations of the engine's threads for {deliveries} deliveries of several streams",
        counted.engine
    );
    server.close(Duration::ZERO);
}
