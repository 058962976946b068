//! Bytes of the heap for each idle subscriber and each small stream, and all of them given back.
//!
//! The kernel's part of a connection is not counted. The counts lie just below powers of two,
//! where lists that grow by doubling are nearly full: what is counted is the things, not the room.

use std::time::Duration;

use sse_fast_server::Server;

use crate::allocator::{alone, live};
use crate::readers::{Readers, allow_connections, publish, serve, stream, wait_until_at_most};

/// Often enough that the wheel, which forgets those who left when they would be due, does so soon.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The most bytes an idle subscriber may have: its entry, its place in its stream's list and in the wheel.
const MAX_SUBSCRIBER_BYTES: usize = 120;

/// The most bytes a stream with one retained event of 100 bytes and its one subscriber may have.
const MAX_STREAM_BYTES: usize = 700;

/// The most bytes a connection of 32 streams may have: less than 32 connections, each of `MAX_SUBSCRIBER_BYTES`.
const MAX_SEVERAL_BYTES: usize = 2600;

/// What lists of the shards' inboxes keep for the next storm, however many came.
const KEPT_BYTES: usize = 48 * 1024;

#[test]
fn an_idle_subscriber_has_few_bytes_and_gives_them_back() {
    let _alone = alone();
    let count = 2000;
    allow_connections(count);
    let server = serve(Some(HEARTBEAT));
    let (stream, mut readers) = (stream(&server, "s"), Readers::with_capacity(count));
    let before = at_rest(&server);

    readers.connect(&server, std::iter::repeat_n(&stream, count));
    // What parsing and handing over needed for a moment is given back a moment later.
    let during = wait_until_at_most(before + MAX_SUBSCRIBER_BYTES * count, live);
    let each = (during - before) / count;
    eprintln!("{each} bytes for each of {count} idle subscribers");
    assert!(
        each <= MAX_SUBSCRIBER_BYTES,
        "{each} bytes for each of {count} idle subscribers, not {MAX_SUBSCRIBER_BYTES}"
    );

    readers.leave();
    let limit = before + (during - before) / 10 + KEPT_BYTES;
    let after = wait_until_at_most(limit, live);
    let (left, of) = (after.saturating_sub(before), during - before);
    eprintln!("{left} bytes left of {of} after all have left");
    assert!(after <= limit, "{left} bytes left of {of} after all have left");
    server.close(Duration::ZERO);
}

#[test]
fn a_stream_with_an_event_and_a_subscriber_has_few_bytes() {
    let _alone = alone();
    let count = 1000;
    allow_connections(count);
    let server = serve(Some(HEARTBEAT));
    let (mut streams, mut readers) = (Vec::with_capacity(count), Readers::with_capacity(count));
    let before = at_rest(&server);

    for number in 0..count {
        let stream = stream(&server, &format!("runs/{number}"));
        publish(&stream, &[b'x'; 100]);
        streams.push(stream);
    }
    readers.connect(&server, streams.iter());
    let during = wait_until_at_most(before + MAX_STREAM_BYTES * count, live);
    let each = (during - before) / count;
    eprintln!("{each} bytes for each of {count} streams with an event and a subscriber");
    assert!(each <= MAX_STREAM_BYTES, "{each} bytes for each of {count} streams, not {MAX_STREAM_BYTES}");
    server.close(Duration::ZERO);
}

#[test]
fn thirty_two_streams_over_one_connection_have_fewer_bytes_than_over_one_each() {
    let _alone = alone();
    let (connections, names) = (120, 32);
    allow_connections(connections);
    let server = serve(Some(HEARTBEAT));
    let streams: Vec<_> = (0..names).map(|name| stream(&server, &format!("s{name}"))).collect();
    let mut readers = Readers::with_capacity(connections);
    let before = at_rest(&server);

    readers.connect_to_several(&server, &streams, connections);
    let during = wait_until_at_most(before + MAX_SEVERAL_BYTES * connections, live);
    let each = (during - before) / connections;
    eprintln!("{each} bytes for each of {connections} connections of {names} streams");
    assert!(each <= MAX_SEVERAL_BYTES, "{each} bytes for a connection of {names} streams, not {MAX_SEVERAL_BYTES}");

    readers.leave();
    let limit = before + (during - before) / 10 + KEPT_BYTES;
    let after = wait_until_at_most(limit, live);
    assert!(after <= limit, "{} bytes left after all have left", after.saturating_sub(before));
    server.close(Duration::ZERO);
}

/// The bytes of a server that has everything it needs once, however many come: each shard had somebody.
fn at_rest(server: &Server) -> usize {
    let stream = stream(server, "rest");
    let mut readers = Readers::with_capacity(10);
    readers.connect(server, std::iter::repeat_n(&stream, 10));
    publish(&stream, b"ready");
    readers.receive(b"ready");
    readers.leave();
    let left = wait_until_at_most(0, || stream.subscribers());
    assert_eq!(left, 0, "readers that left are still counted");
    live()
}
