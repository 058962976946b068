//! A shard and publishers that tests step by hand, on sockets that take what there is room for.
//!
//! Owns: the sockets, the publishers and the stage. Must not know: what a test is about. The simulation has larger ones; these are for what
//! it draws too seldom, and for single numbers.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::cursor::Place;
use sse_fast_core::event::{self, NewEvent};
use sse_fast_core::frame::Framing;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::StreamOptions;
use sse_fast_core::vector::{Beginning, Entry, Life};

use super::machine::{Next, Pacing, Settings, Shard};
use super::net::{Net, Ready, Sink, Token};
use super::{Arrival, NamedReading, Reading, ShardHandle};
use crate::addresses::AddressPlace;
use crate::admitted::Admitted;
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::presence::Presence;
use crate::stream::{Attempt, Caller, Kind, Progress, PublishError, Role, Stream, TaskSleep};

pub(super) struct Quiet;

impl Wake for Quiet {
    fn wake(&self) {}
}

/// A socket that takes as many bytes as there is room for.
#[derive(Clone, Default)]
pub(super) struct Socket(pub(super) Rc<RefCell<Wire>>);

#[derive(Default)]
pub(super) struct Wire {
    pub(super) room: usize,
    pub(super) taken: Vec<u8>,
    pub(super) is_shut: bool,
    /// How often it was written to.
    pub(super) writes: usize,
    pub(super) token: Option<Token>,
}

impl Sink for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.writes += 1;
        let taken = bytes.len().min(wire.room);
        wire.room -= taken;
        wire.taken.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shut(&mut self) -> io::Result<()> {
        self.0.borrow_mut().is_shut = true;
        Ok(())
    }

    fn take_error(&self) -> Option<io::Error> {
        None
    }
}

pub(super) struct Memory;

impl Net for Memory {
    type Socket = Socket;

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        socket.0.borrow_mut().token = Some(token);
        Ok(())
    }

    fn deregister(&mut self, _: &mut Socket) {}
}

/// A shard, what reaches it, and the time.
pub(super) struct Stage {
    pub(super) handle: ShardHandle<Socket>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) shard: Shard<Memory>,
    pub(super) now: Micros,
}

impl Stage {
    pub(super) fn new(pacing: Pacing, patience: Patience) -> Self {
        let handle = ShardHandle::new(&Latch::new(Quiet), Presence::default());
        let notices = Mailbox::new(&Latch::new(Quiet));
        let delivery = Arc::new(Delivery::new(Box::new([handle.doorbell()]), notices, patience));
        let settings = Settings { stall_timeout: Duration::from_secs(30), patience, pacing };
        let shard = Shard::new(handle.clone(), 0, Memory, settings, 1_000_000);
        Self { handle, delivery, shard, now: 1_000_000 }
    }

    pub(super) fn stream(&self, name: &str, options: StreamOptions) -> Stream {
        Stream::new(name, Epoch(1), &self.delivery, Arc::new(options))
    }

    /// What stands in for a name that is not known.
    pub(super) fn stand_in(&self, name: &str, options: StreamOptions) -> Stream {
        Stream::of_kind(Kind::StandIn, name, Epoch(1), &self.delivery, Arc::new(options))
    }

    /// A reader of the stream; its socket takes `room` bytes beside the head.
    pub(super) fn subscribe(&self, stream: &Stream, framing: Framing, room: usize) -> Socket {
        self.subscribe_as(Admitted::default(), stream, framing, room)
    }

    /// The same, let in so.
    pub(super) fn subscribe_as(&self, admitted: Admitted, stream: &Stream, framing: Framing, room: usize) -> Socket {
        let socket = Socket::default();
        socket.0.borrow_mut().room = HEAD.len() + room;
        let claim = stream.claim().expect("an open stream");
        let arrival = Arrival {
            socket: socket.clone(),
            reading: Reading::One { claim, last_event_id: None },
            admitted,
            framing,
            head: HEAD.to_vec(),
            place: AddressPlace::free(),
            logged: None,
        };
        assert!(self.handle.subscribe(arrival).is_ok());
        self.handle.ring();
        socket
    }

    /// A reader of all of these streams over one connection.
    pub(super) fn subscribe_to_several(&self, streams: &[&Stream], room: usize) -> Socket {
        self.subscribe_to_several_as(Admitted::default(), streams, room)
    }

    /// The same, let in so.
    pub(super) fn subscribe_to_several_as(&self, admitted: Admitted, streams: &[&Stream], room: usize) -> Socket {
        let socket = Socket::default();
        socket.0.borrow_mut().room = HEAD.len() + room;
        let beginning = Beginning { place: Place::New, entry: Entry::New };
        let names = streams.iter().map(|stream| NamedReading { claim: stream.claim(), life: Life::NONE, beginning });
        let (reading, framing) = (Reading::Several(names.collect()), Framing::Chunked);
        let arrival = Arrival {
            socket: socket.clone(),
            reading,
            admitted,
            framing,
            head: HEAD.to_vec(),
            place: AddressPlace::free(),
            logged: None,
        };
        assert!(self.handle.subscribe(arrival).is_ok());
        self.handle.ring();
        socket
    }

    /// A step some time later, in which the poll says that these sockets take bytes.
    pub(super) fn step(&mut self, micros: Micros, writable: &[&Socket]) -> Next {
        self.now += micros;
        let ready = writable.iter().filter_map(|socket| socket.0.borrow().token).map(|token| Ready {
            token,
            readable: false,
            writable: true,
            broken: false,
        });
        let ready: Vec<_> = ready.collect();
        self.shard.step(self.now, ready.into_iter())
    }

    /// What publishers have waited for each connection.
    pub(super) fn charged(&self) -> impl Iterator<Item = Micros> {
        let accounts = self.shard.connections.iter().filter_map(|(_, connection)| connection.account.as_ref());
        accounts.map(|account| account.spent.within_a_minute(self.now))
    }

    pub(super) fn delivered(&self) -> u64 {
        self.handle.counters().delivered.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.shard.connections.len()
    }
}

pub(super) const HEAD: &[u8] = b"HEAD\r\n\r\n";

pub(super) fn publish(stream: &Stream, data: &[u8]) {
    stream.publish(&NewEvent { data, ..NewEvent::default() }).expect("published");
}

pub(super) const MS: Micros = 1000;
pub(super) const LARGE: usize = usize::MAX / 2;

/// The bytes of an event with one digit as its data.
pub(super) const FRAME: usize = "11\r\nid: 1-1\ndata: 0\n\n\r\n".len();

/// A thread that publishes one event.
pub(super) struct Publisher {
    attempt: Attempt<'static>,
    pub(super) account: Spent,
}

impl Publisher {
    pub(super) fn new(data: &'static str, role: Role, caller: Caller) -> Self {
        let event = event::check(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }).expect("an event");
        Self { attempt: Attempt::new(&event, role, caller), account: Spent::default() }
    }

    /// A task that does, and sleeps so.
    pub(super) fn of_task(data: &'static str, sleep: TaskSleep) -> Self {
        let event = event::check(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }).expect("an event");
        Self { attempt: Attempt::of_task(&event, sleep), account: Spent::default() }
    }

    pub(super) fn ordinary(data: &'static str) -> Self {
        Self::new(data, Role::Ordinary, Caller::Thread)
    }

    /// Until when it waits; `None` where it has published.
    pub(super) fn step(&mut self, stream: &Stream, now: Micros) -> Result<Option<Micros>, PublishError> {
        let mut inner = stream.lock();
        match self.attempt.step(stream, &mut inner, now, &mut self.account)? {
            Progress::Wait(until) => Ok(Some(until)),
            Progress::Published(_) => {
                stream.finish_publish(inner);
                Ok(None)
            }
        }
    }

    pub(super) fn step_aside(&mut self, stream: &Stream, now: Micros) {
        self.attempt.step_aside(stream, &mut stream.lock(), now, &mut self.account);
    }

    pub(super) fn leave(&mut self, stream: &Stream, now: Micros) {
        self.attempt.leave(stream, &mut stream.lock(), now, &mut self.account);
    }

    pub(super) fn paid(&self, now: Micros) -> Micros {
        self.account.within_a_minute(now)
    }
}

/// A stream that keeps one event, with a subscriber whose socket took nothing of it.
pub(super) fn blocked(patience: Patience) -> (Stage, Stream, Socket) {
    blocked_with(Pacing::default(), patience)
}

pub(super) fn blocked_with(pacing: Pacing, patience: Patience) -> (Stage, Stream, Socket) {
    let mut stage = Stage::new(pacing, patience);
    let stream = stage.stream("s", StreamOptions { history: 1, heartbeat: None, ..StreamOptions::default() });
    let socket = stage.subscribe(&stream, Framing::Chunked, 0);
    stage.step(0, &[]);
    publish(&stream, b"0");
    stage.step(0, &[]);
    (stage, stream, socket)
}

/// Publishes; every tenth of a second the shard looks whom it still waits for.
pub(super) fn publish_in_time(stage: &mut Stage, stream: &Stream, data: &'static str) {
    let mut publisher = Publisher::ordinary(data);
    while publisher.step(stream, stage.now).expect("open").is_some() {
        stage.step(100 * MS, &[]);
    }
    stage.step(0, &[]);
}

pub(super) fn data_of(socket: &Socket) -> Vec<String> {
    let text = String::from_utf8(socket.0.borrow().taken.clone()).expect("text");
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

pub(super) fn ids_of(socket: &Socket) -> Vec<String> {
    let text = String::from_utf8(socket.0.borrow().taken.clone()).expect("text");
    text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
}
