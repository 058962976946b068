//! Models of what publishers, arrivals and a shard do at the same time: the real shard and the real stream, under loom.
//!
//! Owns: a network of sockets in memory, and threads around them. Must not know: how a shard works; a model says what
//! readers must have got. No time passes, so that nothing here depends on a timer: a thread that is not woken sleeps for
//! good, and loom reports it. A shard that has nothing to do sleeps exactly as `thread` lets it. Changes together with
//! `net` (the door) and `thread` (the loop).

use std::io;
use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;
use sse_fast_core::budget::Micros;
use sse_fast_core::event::NewEvent;
use sse_fast_core::frame::Framing;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{Start, StreamOptions};

use super::machine::{Next, Pacing, Settings, Shard};
use super::net::{Net, Ready, Sink, Token};
use super::{Arrival, ShardHandle};
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::stream::{Claim, Stream};
use crate::sync::Mutex;

/// The time, all the time.
const NOW: Micros = 1_000_000;

/// A thread's sleep.
#[derive(Clone, Default)]
struct Sleep(Arc<Notify>);

impl Wake for Sleep {
    fn wake(&self) {
        self.0.notify();
    }
}

/// A socket in memory, and its reader.
#[derive(Clone)]
struct Socket {
    pipe: Arc<Mutex<Pipe>>,
    /// The sleep of the shard, which the poll ends.
    poll: Sleep,
}

#[derive(Default)]
struct Pipe {
    token: Option<Token>,
    /// So many bytes it takes before it is full.
    room: usize,
    taken: Vec<u8>,
    /// It took less than it was offered, and will say when it takes more.
    full: bool,
    /// The poll will say that it takes more, or that its reader has gone.
    writable: bool,
    broken: bool,
    /// Our end was shut.
    shut: bool,
}

impl Socket {
    /// The reader takes what there is: the socket has room for everything.
    fn drain(&self) {
        let mut pipe = self.pipe.lock();
        pipe.room = usize::MAX;
        pipe.writable = std::mem::take(&mut pipe.full);
        if pipe.writable {
            drop(pipe);
            self.poll.wake();
        }
    }

    /// The reader breaks the connection.
    fn leave(&self) {
        self.pipe.lock().broken = true;
        self.poll.wake();
    }

    /// What the poll says of it.
    fn ready(&self) -> Option<Ready> {
        let mut pipe = self.pipe.lock();
        let (writable, broken) = (std::mem::take(&mut pipe.writable), std::mem::take(&mut pipe.broken));
        let token = pipe.token.filter(|_| writable || broken)?;
        Some(Ready { token, readable: false, writable, broken })
    }

    fn is_shut(&self) -> bool {
        self.pipe.lock().shut
    }

    /// The data of every event its reader got; a gap is one.
    fn events(&self) -> Vec<String> {
        let taken = self.pipe.lock().taken.clone();
        let text = String::from_utf8(taken).expect("text");
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

impl Sink for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.pipe.lock();
        let taken = bytes.len().min(pipe.room);
        pipe.room -= taken;
        pipe.full = taken < bytes.len();
        pipe.taken.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shut(&mut self) -> io::Result<()> {
        self.pipe.lock().shut = true;
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
        socket.pipe.lock().token = Some(token);
        Ok(())
    }

    fn deregister(&mut self, socket: &mut Socket) {
        socket.pipe.lock().token = None;
    }
}

/// What the threads of a model share.
#[derive(Clone)]
struct World {
    delivery: Arc<Delivery>,
    handle: ShardHandle<Socket>,
    poll: Sleep,
}

impl World {
    fn new() -> Self {
        let poll = Sleep::default();
        let handle = ShardHandle::new(&Latch::new(poll.clone()));
        let notices = Mailbox::new(&Latch::new(Sleep::default()));
        let delivery = Arc::new(Delivery::new(Box::new([handle.doorbell()]), notices, Patience::Lossless));
        Self { delivery, handle, poll }
    }

    fn shard(&self) -> Shard<Memory> {
        let stall_timeout = std::time::Duration::from_secs(60);
        let settings = Settings { stall_timeout, patience: Patience::Lossless, pacing: Pacing::default() };
        Shard::new(self.handle.clone(), 0, Memory, settings, NOW)
    }

    fn stream(&self, name: &str, history: usize) -> Stream {
        let options = StreamOptions { history, max_lag: history as u64, start: Start::All, ..StreamOptions::default() };
        Stream::new(name, Epoch(1), &self.delivery, Arc::new(options))
    }

    fn socket(&self, room: usize) -> Socket {
        Socket { pipe: Arc::new(Mutex::new(Pipe { room, ..Pipe::default() })), poll: self.poll.clone() }
    }

    /// As `listener` does it.
    fn subscribe(&self, claim: Claim, socket: &Socket) {
        let (socket, framing) = (socket.clone(), Framing::Plain);
        let arrival = Arrival { socket, claim, last_event_id: None, framing, head: Vec::new() };
        if self.handle.subscribe(arrival).unwrap_or(false) {
            self.handle.ring();
        }
    }

    /// Steps until nothing is to be done at once.
    fn settle(shard: &mut Shard<Memory>, sockets: &[&Socket]) {
        while shard.step(NOW, sockets.iter().filter_map(|socket| socket.ready())) == Next::Now {}
    }

    /// Runs the shard as its thread does, until our end of all sockets is shut.
    fn run(&self, shard: &mut Shard<Memory>, sockets: &[&Socket]) {
        loop {
            Self::settle(shard, sockets);
            if sockets.iter().all(|socket| socket.is_shut()) {
                return;
            }
            self.poll.0.wait();
        }
    }
}

fn publish(stream: &Stream, data: &str) {
    stream.publish(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }).expect("published");
}

fn end(stream: &Stream) {
    stream.end(b"over", "end").expect("ended");
}

fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.max_branches = 10_000;
    model.check(check);
}

#[test]
fn loom_a_publisher_waits_for_a_shard_that_has_not_got_to_a_subscriber() {
    model(2, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(usize::MAX), world.shard());
        world.subscribe(stream.claim().expect("open"), &socket);
        World::settle(&mut shard, &[&socket]);
        let publisher = thread::spawn(move || {
            publish(&stream, "1");
            publish(&stream, "2");
            end(&stream);
        });
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        assert_eq!(socket.events(), ["1", "2", "over"]);
    });
}
