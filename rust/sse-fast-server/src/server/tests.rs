//! A server that loses a shard, and one that closes in the moment when requests come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use sse_fast_core::event::NewEvent;

use super::*;
use crate::shard::Order;

fn subscribe(server: &Server) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(server.local_addr()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
    socket.write_all(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    BufReader::new(socket)
}

/// Reads until a line ends with `wanted`; false where the connection ended before.
fn reads(reader: &mut BufReader<TcpStream>, wanted: &str) -> bool {
    reader.lines().map_while(Result::ok).any(|line| line.trim_end() == wanted)
}

#[test]
fn a_shard_that_failed_takes_its_connections_with_it_and_holds_nobody_up() {
    let config = Config { port: 0, shards: 2, ..Config::default() };
    let server = Server::start(config, Calls::default()).expect("a server");
    let stream = server.stream("s", &StreamPatch::default()).expect("a stream");
    let mut readers: Vec<_> = (0..2).map(|_| subscribe(&server)).collect();
    assert!(readers.iter_mut().all(|reader| reads(reader, "")), "both have their heads");
    server.directory().shards()[0].order(Order::Fail);
    while server.directory().shards()[0].is_open() {
        std::thread::yield_now();
    }
    // More than the history holds and more than publishers may run ahead.
    for _ in 0..1000 {
        stream.publish(&NewEvent { data: &[b'x'; 100], ..NewEvent::default() }).expect("published");
    }
    assert_eq!(server.stats().publish_wait_timeouts, 0);
    let mut later: Vec<_> = (0..4).map(|_| subscribe(&server)).collect();
    assert!(later.iter_mut().all(|reader| reads(reader, "")), "the other shard takes them all");
    stream.end(b"over", "end").expect("ended");
    assert!(later.iter_mut().all(|reader| reads(reader, "data: over")));
    assert_eq!(readers.iter_mut().filter_map(|reader| reads(reader, "data: over").then_some(())).count(), 1);
    server.close(Duration::from_secs(5));
}

/// What a client has got by the end of its connection: the status, or why there is none.
fn answer(mut socket: TcpStream) -> String {
    let mut got = Vec::new();
    match socket.read_to_end(&mut got) {
        Err(error) if got.is_empty() => error.to_string(),
        _ if got.is_empty() => "closed without an answer".to_owned(),
        _ => String::from_utf8_lossy(&got).lines().next().unwrap_or_default().to_owned(),
    }
}

fn connect(server: &Server) -> TcpStream {
    let socket = TcpStream::connect(server.local_addr()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
    socket
}

#[test]
fn a_request_that_was_sent_before_the_close_is_answered_or_refused() {
    const GET: &[u8] = b"GET /asset HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const POST: &[u8] = b"POST /asset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    for request in [GET, POST].repeat(5) {
        let server = Server::start(Config { port: 0, ..Config::default() }, Calls::default()).expect("a server");
        server.asset("/asset", "text/plain", b"here".to_vec()).expect("an asset");
        // Half of those that have said nothing so far, half that have had an answer.
        let mut clients: Vec<_> = (0..200).map(|_| connect(&server)).collect();
        for client in clients.iter_mut().step_by(2) {
            client.write_all(GET).expect("sent");
            let mut kept = [0; 512];
            let read = client.read(&mut kept).expect("an answer");
            assert!(kept[..read].ends_with(b"here"));
        }
        while server.stats().connections < 200 {
            std::thread::yield_now();
        }
        // And those whose connections nobody has accepted.
        clients.extend((0..100).map(|_| connect(&server)));
        for client in &mut clients {
            client.write_all(request).expect("sent");
        }
        server.close(Duration::from_secs(5));
        for (number, client) in clients.into_iter().enumerate() {
            let answer = answer(client);
            let known = ["HTTP/1.1 200 OK", "HTTP/1.1 503 Service Unavailable", "HTTP/1.1 405 Method Not Allowed"];
            assert!(known.contains(&answer.as_str()), "client {number}: {answer}");
        }
    }
}
