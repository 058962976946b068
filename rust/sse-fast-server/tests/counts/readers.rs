//! A server with readers on real sockets, all in this process.
//!
//! The readers allocate nothing once they are connected, so that what is counted is the engine's.
//! Every wait has a deadline.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sse_fast_server::{Calls, Config, NewEvent, Server, Stream, StreamOptions, StreamPatch};

/// Longer than anything here takes on a machine that is busy with something else.
const DEADLINE: Duration = Duration::from_secs(30);

/// Descriptors this process needs besides its connections.
const OTHER_FILES: u64 = 256;

/// Starts a server with two shards, whatever the machine has: what is shared between subscribers is shared by the same
/// number everywhere.
pub fn serve(heartbeat: Option<Duration>) -> Server {
    let stream = StreamOptions { heartbeat, ..StreamOptions::default() };
    let config = Config { port: 0, shards: 2, stream, ..Config::default() };
    Server::start(config, Calls::default()).expect("a server on a free port")
}

/// The stream of this name.
pub fn stream(server: &Server, name: &str) -> Stream {
    server.stream(name, &StreamPatch::default()).expect("a stream")
}

/// Publishes data alone.
pub fn publish(stream: &Stream, data: &[u8]) {
    stream.publish(&NewEvent { data, ..NewEvent::default() }).expect("published");
}

/// Raises the limit of open files to what `connections` need, both ends of each.
pub fn allow_connections(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = 2 * connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|error| {
            panic!("{connections} readers need {needed} open files, and the limit {limit:?} cannot be raised: {error}")
        });
    }
}

/// Readers' sockets, each past the response head.
pub struct Readers {
    sockets: Vec<TcpStream>,
}

impl Readers {
    /// Room for so many, so that connecting them allocates nothing that stays.
    pub fn with_capacity(count: usize) -> Self {
        Self { sockets: Vec::with_capacity(count) }
    }

    /// Connects one reader to each of the streams and reads the heads.
    pub fn connect<'a>(&mut self, server: &Server, streams: impl Iterator<Item = &'a Stream>) {
        let first = self.sockets.len();
        for stream in streams {
            let mut socket = TcpStream::connect(server.local_addr()).expect("connected");
            socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
            write!(socket, "GET /streams/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", stream.name()).expect("asked");
            self.sockets.push(socket);
        }
        for socket in &mut self.sockets[first..] {
            read_head(socket);
        }
    }

    /// Connects so many readers that each read all of these streams over one connection, and reads the heads.
    pub fn connect_to_several(&mut self, server: &Server, streams: &[Stream], count: usize) {
        let names: Vec<String> = streams.iter().map(|stream| format!("name={}", stream.name())).collect();
        let first = self.sockets.len();
        for _ in 0..count {
            let mut socket = TcpStream::connect(server.local_addr()).expect("connected");
            socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
            write!(socket, "GET /streams?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", names.join("&")).expect("asked");
            self.sockets.push(socket);
        }
        for socket in &mut self.sockets[first..] {
            read_head(socket);
        }
    }

    /// Reads until every reader has the event that ends in `data`, its blank line included.
    pub fn receive(&mut self, data: &[u8]) {
        let mut end = [0u8; 64];
        let length = data.len() + 4;
        end[..data.len()].copy_from_slice(data);
        end[data.len()..length].copy_from_slice(b"\n\n\r\n");
        for socket in &mut self.sockets {
            read_until(socket, &end[..length]);
        }
    }

    /// Closes every connection.
    pub fn leave(&mut self) {
        self.sockets.clear();
    }
}

/// Reads a response's head; heartbeats may have come with it where the machine is busy.
fn read_head(socket: &mut TcpStream) {
    let (mut buffer, mut held) = ([0u8; 16 * 1024], 0);
    while !buffer[..held].windows(4).any(|four| four == b"\r\n\r\n") {
        match socket.read(&mut buffer[held..]).expect("bytes before the deadline") {
            0 => panic!("the server closed after {:?}", String::from_utf8_lossy(&buffer[..held])),
            read => held += read,
        }
    }
}

/// Reads until what was read ends with `end`.
fn read_until(socket: &mut TcpStream, end: &[u8]) {
    let (mut buffer, mut held) = ([0u8; 16 * 1024], 0);
    while !buffer[..held].ends_with(end) {
        if held > buffer.len() / 2 {
            // Only the end is looked at.
            buffer.copy_within(held - end.len()..held, 0);
            held = end.len();
        }
        match socket.read(&mut buffer[held..]).expect("bytes before the deadline") {
            0 => panic!("the server closed after {:?}", String::from_utf8_lossy(&buffer[..held])),
            read => held += read,
        }
    }
}

/// Waits until `value` is at most `limit`; gives what it was last.
pub fn wait_until_at_most(limit: usize, value: impl Fn() -> usize) -> usize {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let now = value();
        if now <= limit || Instant::now() >= deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
