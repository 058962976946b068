//! Subscribers that catch up beside everything else, on a shard that is stepped by hand.
//!
//! Owns: what the simulation draws too seldom, because its events are small: replays above a batch.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::event::NewEvent;
use sse_fast_core::frame::Framing;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{Start, StreamOptions};

use super::machine::{Pacing, Settings, Shard};
use super::net::{Net, Ready, Sink, Token};
use super::{Arrival, ShardHandle};
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::stream::Stream;

struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// A socket that takes as many bytes as there is room for.
#[derive(Clone, Default)]
struct Socket(Rc<RefCell<Wire>>);

#[derive(Default)]
struct Wire {
    room: usize,
    taken: Vec<u8>,
    token: Option<Token>,
}

impl Sink for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let taken = bytes.len().min(wire.room);
        wire.room -= taken;
        wire.taken.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shut(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&self) -> Option<io::Error> {
        None
    }
}

struct Memory;

impl Net for Memory {
    type Socket = Socket;

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        socket.0.borrow_mut().token = Some(token);
        Ok(())
    }

    fn deregister(&mut self, _: &mut Socket) {}
}

/// A shard, what reaches it, and the time.
struct Stage {
    handle: ShardHandle<Socket>,
    delivery: Arc<Delivery>,
    shard: Shard<Memory>,
    now: u64,
}

impl Stage {
    fn new(pacing: Pacing) -> Self {
        let handle = ShardHandle::new(&Latch::new(Quiet));
        let notices = Mailbox::new(&Latch::new(Quiet));
        let patience = Patience::Within(2_000_000);
        let delivery = Arc::new(Delivery::new(Box::new([handle.doorbell()]), notices, patience));
        let settings = Settings { stall_timeout: Duration::from_secs(30), patience, pacing };
        let shard = Shard::new(handle.clone(), 0, Memory, settings, 1_000_000);
        Self { handle, delivery, shard, now: 1_000_000 }
    }

    /// A stream that keeps megabytes, with so many events of 100 KB.
    fn long_stream(&self, events: usize, heartbeat: Option<Duration>) -> Stream {
        let options = StreamOptions {
            history: 1000,
            history_bytes: 64 << 20,
            start: Start::All,
            heartbeat,
            ..StreamOptions::default()
        };
        let stream = Stream::new("long", Epoch(1), &self.delivery, Arc::new(options));
        for _ in 0..events {
            publish(&stream, &vec![b'x'; 100_000]);
        }
        stream
    }

    fn subscribe(&self, stream: &Stream) -> Socket {
        let socket = Socket::default();
        socket.0.borrow_mut().room = usize::MAX / 2;
        let claim = stream.claim().expect("an open stream");
        let (framing, head) = (Framing::Chunked, b"HEAD\r\n\r\n".to_vec());
        let arrival = Arrival { socket: socket.clone(), claim, last_event_id: None, framing, head };
        assert!(self.handle.subscribe(arrival).is_ok());
        self.handle.ring();
        socket
    }

    fn step(&mut self, micros: u64, writable: &[&Socket]) {
        self.now += micros;
        let ready = writable.iter().filter_map(|socket| socket.0.borrow().token).map(|token| Ready {
            token,
            readable: false,
            writable: true,
            broken: false,
        });
        let ready: Vec<_> = ready.collect();
        self.shard.step(self.now, ready.into_iter());
    }
}

fn publish(stream: &Stream, data: &[u8]) {
    stream.publish(&NewEvent { data, ..NewEvent::default() }).expect("published");
}

/// How many whole chunks there are behind the head; every byte must be one's.
fn chunks(taken: &[u8]) -> usize {
    let (mut rest, mut count) = (&taken[8..], 0);
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a size line");
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|line| usize::from_str_radix(line, 16).ok());
        let size = size.unwrap_or_else(|| panic!("no size line after {count} chunks"));
        assert_eq!(&rest[end + 2 + size..end + 4 + size], b"\r\n", "chunk {count} ends where it says");
        rest = &rest[end + 4 + size..];
        count += 1;
    }
    count
}

#[test]
fn a_heartbeat_that_fills_the_socket_of_one_that_catches_up_is_ended_before_a_frame_begins() {
    let mut stage = Stage::new(Pacing { sends_per_mail: 1, sends_per_step: 1, rounds: 1, ..Pacing::default() });
    let stream = stage.long_stream(40, Some(Duration::from_millis(20)));
    let sockets: Vec<_> = (0..3).map(|_| stage.subscribe(&stream)).collect();
    for step in 0..400 {
        if step == 2 {
            // Each takes the first half of a heartbeat.
            for socket in &sockets {
                socket.0.borrow_mut().room = b"c\r\n: heartbeat\n\r\n".len() / 2;
            }
        }
        let writable: Vec<_> = if step > 6 { sockets.iter().collect() } else { Vec::new() };
        for socket in &writable {
            socket.0.borrow_mut().room = usize::MAX / 2;
        }
        stage.step(25_000, &writable);
    }
    for socket in &sockets {
        let wire = socket.0.borrow();
        assert!(chunks(&wire.taken) > 40, "the replay and heartbeats");
    }
}

#[test]
fn a_live_event_does_not_wait_for_those_who_catch_up() {
    let mut stage = Stage::new(Pacing::default());
    let long = stage.long_stream(600, None);
    let live = Stream::new("live", Epoch(2), &stage.delivery, Arc::new(StreamOptions::default()));
    let reader = stage.subscribe(&live);
    let replays: Vec<_> = (0..20).map(|_| stage.subscribe(&long)).collect();
    stage.step(1000, &[]);
    publish(&live, b"news");
    stage.step(1000, &[]);
    assert!(reader.0.borrow().taken.ends_with(b"data: news\n\n\r\n"), "it is written in the next step");
    let unfinished = replays.iter().filter(|socket| socket.0.borrow().taken.len() < 60_000_000).count();
    assert!(unfinished > 0, "while others catch up");
}
