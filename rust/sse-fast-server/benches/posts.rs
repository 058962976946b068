//! Publishing over HTTP beside a `POST` to plain hyper: how many a second, and how long one takes.
//!
//! Both servers have one thread with the same runtime, and the same client: threads that each have a kept connection, send a
//! request, and read its answer. Prints one line of JSON for each case. For a person on a quiet machine; nothing depends on the
//! numbers, which hold the client's share of the machine.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark that cannot go on must stop")]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sse_fast_server::{Calls, Config, Limits, RightsConfig, Server};

const KEY: &str = "k1-of-the-benchmark-0123456789abcdef";

/// Answers each `POST` whose body it has read, and does nothing else.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(format!("{{\"id\":\"{}\"}}", body.len()))));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// A server of plain hyper's; it ends with the process.
fn plain_hyper() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("nonblocking");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(served);
            }
        });
    });
    address
}

/// What is asked of a server.
struct Case {
    server: &'static str,
    what: &'static str,
    address: SocketAddr,
    connections: usize,
    requests: usize,
    events: usize,
}

fn body_of(events: usize) -> String {
    let event = r#"{"data":{"status":"COMPILING","step":17,"of":42,"log":"0123456789012345678901234567890123456789"}}"#;
    if events == 1 { event.to_owned() } else { format!("[{}]", vec![event; events].join(",")) }
}

fn request(body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /streams/runs/42 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Sends a request and reads its answer.
fn ask(connection: &mut TcpStream, request: &[u8], buffer: &mut [u8]) {
    connection.write_all(request).expect("sent");
    let mut read = 0;
    loop {
        read += connection.read(&mut buffer[read..]).expect("an answer");
        let got = &buffer[..read];
        let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&got[..end]).expect("text").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 201"), "{head}");
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
        if read == end + 4 + length {
            return;
        }
    }
}

fn measure(case: &Case) {
    let request = &request(&body_of(case.events));
    let (start, each) = (&Barrier::new(case.connections + 1), case.requests / case.connections);
    let (took, mut delays) = thread::scope(|scope| {
        let client = || {
            let mut connection = TcpStream::connect(case.address).expect("a connection");
            connection.set_nodelay(true).expect("no delay");
            let mut buffer = vec![0; 1 << 16];
            ask(&mut connection, request, &mut buffer);
            start.wait();
            let mut delays = Vec::with_capacity(each);
            for _ in 0..each {
                let began = Instant::now();
                ask(&mut connection, request, &mut buffer);
                delays.push(began.elapsed());
            }
            delays
        };
        let clients: Vec<_> = (0..case.connections).map(|_| scope.spawn(client)).collect();
        start.wait();
        let began = Instant::now();
        let delays: Vec<Duration> = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        (began.elapsed(), delays)
    });
    delays.sort_unstable();
    let at = |part: usize| delays[(delays.len() * part / 100).min(delays.len() - 1)].as_secs_f64() * 1e6;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let rate = (each * case.connections * case.events) as f64 / took.as_secs_f64();
    let Case { server, what, connections, events, .. } = case;
    println!(
        "{{\"server\": \"{server}\", \"what\": \"{what}\", \"connections\": {connections}, \"events\": {events}, \
         \"events_a_second\": {rate:.0}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
        at(50),
        at(99)
    );
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let config = Config { port: 0, ..Config::default() };
    let rights = RightsConfig { publish_keys: vec![KEY.to_owned()], ..RightsConfig::default() };
    let calls = Calls::new(Limits::of(&config));
    let server = Server::start_with(config, &rights, calls).expect("a server");
    let ours = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let plain = plain_hyper();
    for (what, connections, requests, events) in
        [("one connection", 1, 20_000, 1), ("one by one", 16, 200_000, 1), ("lists", 4, 10_000, 100)]
    {
        for (server, address) in [("plain hyper", plain), ("sse_fast", ours)] {
            measure(&Case { server, what, address, connections, requests, events });
        }
    }
    server.close(Duration::from_secs(1));
}
