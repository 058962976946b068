//! The world of the models: sockets in memory, their readers, and the loop that steps a shard.
//!
//! Must not know: what is modelled. No time passes here. Changes together with `net` (the door) and `thread` (the loop).

use std::io;
use std::sync::Arc;

use loom::sync::Notify;
use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::StreamOptions;

use crate::addresses::AddressPlace;
use crate::admitted::Admitted;
use crate::delivery::{Delivery, Patience};
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::presence::Presence;
use crate::shard::machine::{Next, Pacing, Settings, Shard};
use crate::shard::net::{Net, Ready, Sink, Token};
use crate::shard::{Arrival, Reading, ShardHandle};
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
pub(super) struct Socket {
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
    pub(super) fn drain(&self) {
        let mut pipe = self.pipe.lock();
        pipe.room = usize::MAX;
        pipe.writable = std::mem::take(&mut pipe.full);
        if pipe.writable {
            drop(pipe);
            self.poll.wake();
        }
    }

    /// The reader breaks the connection.
    pub(super) fn leave(&self) {
        self.pipe.lock().broken = true;
        self.poll.wake();
    }

    /// What the poll says of it.
    pub(super) fn ready(&self) -> Option<Ready> {
        let mut pipe = self.pipe.lock();
        let (writable, broken) = (std::mem::take(&mut pipe.writable), std::mem::take(&mut pipe.broken));
        let token = pipe.token.filter(|_| writable || broken)?;
        Some(Ready { token, readable: false, writable, broken })
    }

    pub(super) fn is_shut(&self) -> bool {
        self.pipe.lock().shut
    }

    /// The data of every event its reader got; a gap is one.
    pub(super) fn events(&self) -> Vec<String> {
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

pub(super) struct Memory;

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
pub(super) struct World {
    pub(super) delivery: Arc<Delivery>,
    handle: ShardHandle<Socket>,
    poll: Sleep,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_patience(Patience::Lossless)
    }

    pub(super) fn with_patience(patience: Patience) -> Self {
        let poll = Sleep::default();
        let handle = ShardHandle::new(&Latch::new(poll.clone()), Presence::default());
        let notices = Mailbox::new(&Latch::new(Sleep::default()));
        let delivery = Arc::new(Delivery::new(Box::new([handle.doorbell()]), notices, patience));
        Self { delivery, handle, poll }
    }

    /// A stream of so many events, and one who reads it over a socket with so much room.
    pub(super) fn with_reader(history: usize, room: usize) -> (Self, Stream, Socket, Shard<Memory>) {
        let world = Self::new();
        let (stream, socket, mut shard) = (world.stream("s", history), world.socket(room), world.shard());
        world.subscribe_now(&mut shard, &stream, &socket);
        (world, stream, socket, shard)
    }

    pub(super) fn shard(&self) -> Shard<Memory> {
        let stall_timeout = std::time::Duration::from_secs(60);
        let settings = Settings { stall_timeout, patience: self.delivery.patience, pacing: Pacing::default() };
        Shard::new(self.handle.clone(), 0, Memory, settings, NOW)
    }

    pub(super) fn stream(&self, name: &str, history: usize) -> Stream {
        let options = StreamOptions { history, max_lag: history as u64, ..StreamOptions::default() };
        Stream::new(name, Epoch(1), &self.delivery, Arc::new(options))
    }

    pub(super) fn socket(&self, room: usize) -> Socket {
        Socket { pipe: Arc::new(Mutex::new(Pipe { room, ..Pipe::default() })), poll: self.poll.clone() }
    }

    /// As `listener` does it.
    pub(super) fn subscribe(&self, claim: Claim, socket: &Socket, last_event_id: Option<&str>) {
        let (socket, framing) = (socket.clone(), Framing::Plain);
        let arrival = Arrival {
            socket,
            reading: Reading::One { claim, last_event_id: last_event_id.map(Into::into) },
            admitted: Admitted::default(),
            framing,
            head: Vec::new(),
            place: AddressPlace::free(),
            logged: None,
        };
        if self.handle.subscribe(arrival).unwrap_or(false) {
            self.handle.ring();
        }
    }

    /// It has subscribed when this returns.
    pub(super) fn subscribe_now(&self, shard: &mut Shard<Memory>, stream: &Stream, socket: &Socket) {
        self.subscribe(stream.claim().expect("not removed"), socket, None);
        Self::settle(shard, &[socket]);
        assert_eq!(stream.subscribers(), 1);
    }

    /// Steps until nothing is to be done at once.
    pub(super) fn settle(shard: &mut Shard<Memory>, sockets: &[&Socket]) {
        while shard.step(NOW, sockets.iter().filter_map(|socket| socket.ready())) == Next::Now {}
    }

    /// Runs the shard as its thread does, until all is over.
    pub(super) fn run_until(&self, shard: &mut Shard<Memory>, sockets: &[&Socket], is_over: impl Fn() -> bool) {
        loop {
            Self::settle(shard, sockets);
            if is_over() {
                return;
            }
            self.poll.0.wait();
        }
    }

    /// Runs it until our end of all sockets is shut.
    pub(super) fn run(&self, shard: &mut Shard<Memory>, sockets: &[&Socket]) {
        self.run_until(shard, sockets, || sockets.iter().all(|socket| socket.is_shut()));
    }
}
