//! The way of an event from `publish` to sockets, a given number of times, for a count of instructions.
//!
//! Owns: that work. Must not know: who counts. `COUNTED=subscribers,streams,times` and the ignored test below, under
//! `valgrind --tool=callgrind`: two numbers of times give the cost of one, for what starting costs is in both.

use sse_fast_core::frame::Framing;
use sse_fast_core::options::StreamOptions;

use super::by_hand::{LARGE, Socket, Stage, publish};
use super::machine::{Next, Pacing};
use crate::delivery::Patience;

/// Publishes an event into each stream and has the shard give it to everybody.
fn round(stage: &mut Stage, streams: &[crate::stream::Stream], sockets: &[Socket]) {
    for stream in streams {
        publish(stream, b"{\"status\":\"COMPILING\",\"step\":1}");
    }
    while stage.step(10, &[]) == Next::Now {}
    for socket in sockets {
        socket.0.borrow_mut().taken.clear();
    }
}

#[test]
#[ignore = "a program for a count of instructions"]
fn counted() {
    let asked = std::env::var("COUNTED").unwrap_or_else(|_| "10,2,3".to_owned());
    let numbers: Vec<usize> = asked.split(',').map(|number| number.parse().expect("a number")).collect();
    let [subscribers, streams, times] = numbers[..] else { panic!("COUNTED=subscribers,streams,times") };
    let mut stage = Stage::new(Pacing::default(), Patience::Lossless);
    let options = || StreamOptions { heartbeat: None, ..StreamOptions::default() };
    let streams: Vec<_> = (0..streams).map(|number| stage.stream(&format!("s{number}"), options())).collect();
    let of_all = streams.iter().flat_map(|stream| (0..subscribers).map(move |_| stream));
    let sockets: Vec<_> = of_all.map(|stream| stage.subscribe(stream, Framing::Chunked, LARGE)).collect();
    while stage.step(0, &[]) == Next::Now {}
    let before = stage.delivered();
    (0..times).for_each(|_| round(&mut stage, &streams, &sockets));
    assert_eq!(stage.delivered() - before, (sockets.len() * times) as u64, "everybody got everything");
}
