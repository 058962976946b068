//! The server's work for events that come one at a time, a given number of times: `lone SUBSCRIBERS EVENTS`. What a
//! processor does for it is counted by `tests/test_counts.py`, which starts this under valgrind.
//!
//! Two numbers of events give the cost of one: what starting and connecting cost is in both. One thread publishes and
//! reads by turns, so each event finds a shard that sleeps, and is walked, sent, timed and slept after by itself. The
//! readers' own work is in the count, and is the same in every version. Stands on the server and the standard library
//! alone, so that it is built in seconds.
#![allow(missing_docs, reason = "a program; nobody is outside")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sse_fast_server::{Calls, Config, NewEvent, Server, StreamPatch};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        // How cargo runs every benchmark: there is nothing to be timed here.
        [.., last] if last == "--bench" => Ok(()),
        [subscribers, events] => run(subscribers.parse()?, events.parse()?),
        _ => Err("usage: lone SUBSCRIBERS EVENTS".into()),
    }
}

fn run(subscribers: usize, events: usize) -> Result<(), Box<dyn Error>> {
    let config = Config { port: 0, shards: 1, ..Config::default() };
    let server = Server::start(config, Calls::default())?;
    let stream = server.stream("s", &StreamPatch::default())?;
    let mut sockets = (0..subscribers).map(|_| subscribe(&server)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..events {
        stream.publish(&NewEvent { data: b"lone", ..NewEvent::default() })?;
        for socket in &mut sockets {
            read_until(socket, b"lone\n\n\r\n")?;
        }
    }
    server.close(Duration::ZERO);
    Ok(())
}

/// A reader past its response head.
fn subscribe(server: &Server) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(server.local_addr())?;
    socket.write_all(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    read_until(&mut socket, b"\r\n\r\n")?;
    Ok(socket)
}

/// Into a small buffer, since filling a large one with zeros would be most of what is counted.
fn read_until(socket: &mut TcpStream, end: &[u8]) -> std::io::Result<()> {
    let (mut buffer, mut held) = ([0; 512], 0);
    while !buffer[..held].ends_with(end) {
        let read = socket.read(&mut buffer[held..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        held += read;
    }
    Ok(())
}
