//! How long the server takes: publishing where nobody listens, waking a shard, a lone event there and back.
//!
//! Real threads and sockets, so the kernel's share is in the times; for a person who compares two
//! versions on one quiet machine (`make bench`). Nothing depends on the times.
#![allow(missing_docs, clippy::expect_used, reason = "what the macros make; a benchmark that cannot go on must stop")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sse_fast_server::{Calls, Config, NewEvent, Server, Stream, StreamPatch};

const DATA: [u8; 100] = [b'x'; 100];

/// How long a shard is left alone, so that it sleeps.
const ASLEEP: Duration = Duration::from_micros(200);

fn serve() -> (Server, Stream) {
    let config = Config { port: 0, shards: 1, ..Config::default() };
    let server = Server::start(config, Calls::default()).expect("a server on a free port");
    let stream = server.stream("s", &StreamPatch::default()).expect("a stream");
    (server, stream)
}

fn publish(stream: &Stream) {
    stream.publish(&NewEvent { data: &DATA, ..NewEvent::default() }).expect("published");
}

/// A reader past its response head.
fn subscribe(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.local_addr()).expect("connected");
    socket.write_all(b"GET /streams/s HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
    read_until(&mut socket, b"\r\n\r\n");
    socket
}

fn receive(socket: &mut TcpStream) {
    read_until(socket, b"x\n\n\r\n");
}

fn read_until(socket: &mut TcpStream, end: &[u8]) {
    let (mut buffer, mut held) = ([0; 4096], 0);
    while !buffer[..held].ends_with(end) {
        let read = socket.read(&mut buffer[held..]).expect("bytes");
        assert!(read > 0, "the server closed");
        held += read;
    }
}

fn nobody(criterion: &mut Criterion) {
    let (server, stream) = serve();
    criterion.bench_function("publish without subscribers", |bencher| bencher.iter(|| publish(&stream)));
    server.close(Duration::ZERO);
}

/// What a publisher pays for waking a shard: the shard's own work is not in it.
fn wake(criterion: &mut Criterion) {
    let (server, stream) = serve();
    let mut reader = subscribe(&server);
    criterion.bench_function("publish to a sleeping shard", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                std::thread::sleep(ASLEEP);
                let began = Instant::now();
                publish(&stream);
                spent += began.elapsed();
                receive(&mut reader);
            }
            spent
        });
    });
    server.close(Duration::ZERO);
}

fn deliver(criterion: &mut Criterion) {
    let (server, stream) = serve();
    let mut reader = subscribe(&server);
    criterion.bench_function("publish to receipt by one subscriber", |bencher| {
        bencher.iter(|| {
            publish(&stream);
            receive(&mut reader);
        });
    });
    server.close(Duration::ZERO);
}

criterion_group!(benches, nobody, wake, deliver);
criterion_main!(benches);
