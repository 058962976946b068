//! Whether a server that hangs says so.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use super::*;
use crate::shard::Order;

fn asked(address: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
    let request = format!("GET {path} HTTP/1.1\r\nHost: anything.test\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, answer.split_once("\r\n\r\n").expect("a head").1.to_owned())
}

fn server() -> Server {
    let metrics = MetricsAt::Address { host: "127.0.0.1".to_owned(), port: 0 };
    let config = Config { port: 0, shards: 2, metrics, ..Config::default() };
    Server::start(config, Calls::default()).expect("a server")
}

fn metric(server: &Server, name: &str) -> String {
    let mut socket = TcpStream::connect(server.metrics_addr().expect("a listener")).expect("a connection");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {answer}"))
}

#[test]
fn a_shard_that_hangs_is_said_to_be_unwell_until_it_goes_on_and_is_left_one_question() {
    let server = server();
    assert_eq!(asked(server.local_addr(), "/healthz"), ("200".to_owned(), "ok\n".to_owned()));
    let (goes_on, until) = mpsc::channel();
    server.directory().shards()[1].order(Order::Hang(until));
    while server.directory().shards()[1].has_mail() {
        std::thread::yield_now();
    }
    let several: Vec<_> = (0..8)
        .map(|_| {
            let address = server.local_addr();
            std::thread::spawn(move || asked(address, "/healthz"))
        })
        .collect();
    for asking in several {
        assert_eq!(asking.join().expect("asked"), ("503".to_owned(), "unavailable\n".to_owned()));
    }
    assert_eq!(server.directory().shards()[1].orders(), 1, "however many ask");
    assert_eq!(metric(&server, "sse_fast_silent_shards"), "1");
    assert_eq!(metric(&server, "sse_fast_silent_shards"), "1");
    assert_eq!(server.directory().shards()[1].orders(), 2, "however often it is scraped");
    assert_eq!(asked(server.local_addr(), "/readyz").0, "200", "requests can be answered");
    drop(goes_on);
    while server.directory().shards()[1].has_mail() {
        std::thread::yield_now();
    }
    assert_eq!(asked(server.local_addr(), "/healthz").0, "200");
    assert_eq!(metric(&server, "sse_fast_silent_shards"), "0");
    server.close(Duration::from_secs(5));
}

#[test]
fn a_shard_that_has_ended_is_said_to_be_unwell_at_once() {
    let server = server();
    server.directory().shards()[0].order(Order::Fail);
    while server.directory().shards()[0].is_open() {
        std::thread::yield_now();
    }
    assert_eq!(asked(server.local_addr(), "/healthz").0, "503");
    assert_eq!(metric(&server, "sse_fast_silent_shards"), "1");
    server.close(Duration::from_secs(5));
}

#[test]
fn who_leaves_says_so_and_serves_and_both_ports_are_free_after_the_close() {
    let server = server();
    let (main, metrics) = (server.local_addr(), server.metrics_addr().expect("a listener"));
    for address in [main, metrics] {
        assert_eq!(asked(address, "/readyz").0, "200");
    }
    server.leave();
    for address in [main, metrics] {
        assert_eq!((asked(address, "/readyz").0, asked(address, "/healthz").0), ("503".to_owned(), "200".to_owned()));
    }
    server.close(Duration::from_secs(5));
    for address in [main, metrics] {
        assert!(TcpStream::connect(address).is_err(), "{address}");
    }
}
