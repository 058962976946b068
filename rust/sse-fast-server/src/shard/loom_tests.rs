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
use sse_fast_core::id::{Epoch, Position};
use sse_fast_core::options::StreamOptions;

use super::machine::{Next, Pacing, Settings, Shard};
use super::net::{Net, Ready, Sink, Token};
use super::{Arrival, ShardHandle};
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::stream::{Claim, PublishError, Stream};
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
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that a poll or a test asks")]
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
        let options = StreamOptions { history, max_lag: history as u64, ..StreamOptions::default() };
        Stream::new(name, Epoch(1), &self.delivery, Arc::new(options))
    }

    fn socket(&self, room: usize) -> Socket {
        Socket { pipe: Arc::new(Mutex::new(Pipe { room, ..Pipe::default() })), poll: self.poll.clone() }
    }

    /// As `listener` does it.
    fn subscribe(&self, claim: Claim, socket: &Socket, last_event_id: Option<&str>) {
        let (socket, framing) = (socket.clone(), Framing::Plain);
        let arrival =
            Arrival { socket, claim, last_event_id: last_event_id.map(Into::into), framing, head: Vec::new() };
        if self.handle.subscribe(arrival).unwrap_or(false) {
            self.handle.ring();
        }
    }

    /// It has subscribed when this returns.
    fn subscribe_now(&self, shard: &mut Shard<Memory>, stream: &Stream, socket: &Socket) {
        self.subscribe(stream.claim().expect("not removed"), socket, None);
        Self::settle(shard, &[socket]);
        assert_eq!(stream.subscribers(), 1);
    }

    /// Steps until nothing is to be done at once.
    fn settle(shard: &mut Shard<Memory>, sockets: &[&Socket]) {
        while shard.step(NOW, sockets.iter().filter_map(|socket| socket.ready())) == Next::Now {}
    }

    /// Runs the shard as its thread does, until all is over.
    fn run_until(&self, shard: &mut Shard<Memory>, sockets: &[&Socket], is_over: impl Fn() -> bool) {
        loop {
            Self::settle(shard, sockets);
            if is_over() {
                return;
            }
            self.poll.0.wait();
        }
    }

    /// Runs it until our end of all sockets is shut.
    fn run(&self, shard: &mut Shard<Memory>, sockets: &[&Socket]) {
        self.run_until(shard, sockets, || sockets.iter().all(|socket| socket.is_shut()));
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
        world.subscribe_now(&mut shard, &stream, &socket);
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

#[test]
fn loom_what_a_full_socket_lacks_is_not_overwritten() {
    model(2, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(0), world.shard());
        world.subscribe_now(&mut shard, &stream, &socket);
        publish(&stream, "1");
        let publisher = thread::spawn(move || end(&stream));
        // The walk finds the socket full; its reader takes what there is some time later.
        World::settle(&mut shard, &[&socket]);
        socket.drain();
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        assert_eq!(socket.events(), ["1", "over"]);
    });
}

#[test]
fn loom_a_publisher_stops_waiting_for_a_reader_that_leaves() {
    model(3, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(0), world.shard());
        world.subscribe_now(&mut shard, &stream, &socket);
        publish(&stream, "1");
        World::settle(&mut shard, &[&socket]);
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || publish(&stream, "2")
        });
        // The shard may have been asked by now, or will be, or the publisher comes later.
        World::settle(&mut shard, &[&socket]);
        socket.leave();
        world.run_until(&mut shard, &[&socket], || stream.subscribers() == 0);
        publisher.join().expect("it published");
    });
}

#[test]
fn loom_an_arrival_gets_everything_from_its_place_to_the_end() {
    model(2, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(usize::MAX), world.shard());
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || {
                publish(&stream, "1");
                end(&stream);
            }
        });
        let acceptor = thread::spawn({
            let (world, socket) = (world.clone(), socket.clone());
            move || world.subscribe(stream.claim().expect("not removed"), &socket, None)
        });
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        acceptor.join().expect("it accepted");
        let events = socket.events();
        assert!(events == ["1", "over"] || events == ["over"], "{events:?}");
    });
}

#[test]
fn loom_publishers_that_wait_append_in_the_order_they_came() {
    model(1, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(usize::MAX), world.shard());
        world.subscribe_now(&mut shard, &stream, &socket);
        publish(&stream, "0");
        let first = thread::spawn({
            let stream = stream.clone();
            move || publish(&stream, "1")
        });
        let second = thread::spawn(move || {
            let comes_second = stream.lock().wanted != Position::MAX;
            publish(&stream, "2");
            comes_second
        });
        world.run_until(&mut shard, &[&socket], || socket.events().len() == 3);
        first.join().expect("it published");
        let in_order = socket.events() == ["0", "1", "2"];
        assert!(in_order || socket.events() == ["0", "2", "1"], "{:?}", socket.events());
        assert!(in_order || !second.join().expect("it published"), "the first in the queue appends first");
    });
}

#[test]
fn loom_no_news_is_lost_where_a_stream_comes_back_under_another_key() {
    model(2, || {
        let world = World::new();
        let (stream, other) = (world.stream("s", 4), world.stream("t", 4));
        let sockets = [0; 3].map(|_| world.socket(usize::MAX));
        let [leaves, comes, takes_the_key] = [0, 1, 2].map(|number: usize| sockets[number].clone());
        let mut shard = world.shard();
        world.subscribe_now(&mut shard, &stream, &leaves);
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || {
                publish(&stream, "1");
                end(&stream);
            }
        });
        let acceptor = thread::spawn({
            let (world, leaves, comes, takes_the_key) =
                (world.clone(), leaves.clone(), comes.clone(), takes_the_key.clone());
            move || {
                leaves.leave();
                world.subscribe(other.claim().expect("open"), &takes_the_key, None);
                world.subscribe(stream.claim().expect("open"), &comes, None);
                end(&other);
            }
        });
        let is_over = || comes.is_shut() && takes_the_key.is_shut();
        world.run_until(&mut shard, &[&leaves, &comes, &takes_the_key], is_over);
        publisher.join().expect("it published");
        acceptor.join().expect("it accepted");
        assert!(comes.events() == ["1", "over"] || comes.events() == ["over"], "{:?}", comes.events());
        assert_eq!(takes_the_key.events(), ["over"]);
    });
}

#[test]
fn loom_a_request_on_its_way_keeps_a_stream_from_expiring() {
    model(3, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 4), world.socket(usize::MAX), world.shard());
        let expiry = thread::spawn({
            let stream = stream.clone();
            move || stream.remove_if_idle(u64::MAX)
        });
        let acceptor = thread::spawn({
            let (world, socket, stream) = (world.clone(), socket.clone(), stream.clone());
            move || stream.claim().map(|claim| world.subscribe(claim, &socket, None)).is_some()
        });
        let subscribed = acceptor.join().expect("it accepted");
        World::settle(&mut shard, &[&socket]);
        let expired = expiry.join().expect("it looked");
        assert_ne!(subscribed, expired, "the one or the other");
        assert_eq!(stream.subscribers(), usize::from(subscribed));
        // A claim that comes to nothing leaves no trace.
        drop(stream.claim());
        assert_eq!(stream.remove_if_idle(u64::MAX), expired || stream.subscribers() == 0);
    });
}

#[test]
fn loom_who_subscribes_while_a_stream_is_removed_gets_its_end_or_no_stream() {
    model(3, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 4), world.socket(usize::MAX), world.shard());
        publish(&stream, "1");
        let remover = thread::spawn({
            let stream = stream.clone();
            move || stream.remove()
        });
        let acceptor = thread::spawn({
            let (world, socket) = (world.clone(), socket.clone());
            // It has nothing of this life yet.
            move || stream.claim().map(|claim| world.subscribe(claim, &socket, Some("1-0"))).is_some()
        });
        if acceptor.join().expect("it accepted") {
            world.run(&mut shard, &[&socket]);
            assert_eq!(socket.events(), ["1"], "what was published before");
        }
        remover.join().expect("it removed");
    });
}

#[test]
fn loom_a_publisher_that_waits_is_told_that_the_server_closes() {
    model(3, || {
        let world = World::new();
        // Nobody takes anything from its socket.
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(0), world.shard());
        world.subscribe_now(&mut shard, &stream, &socket);
        publish(&stream, "1");
        World::settle(&mut shard, &[&socket]);
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || stream.publish(&NewEvent { data: b"2", ..NewEvent::default() })
        });
        let closer = thread::spawn({
            let delivery = Arc::clone(&world.delivery);
            move || {
                delivery.close();
                stream.wake_all();
            }
        });
        let outcome = publisher.join().expect("it is told");
        assert!(matches!(outcome, Err(PublishError::Closed { .. })), "{outcome:?}");
        closer.join().expect("it closed");
        World::settle(&mut shard, &[&socket]);
    });
}
