//! The core's work, a given number of times: `instructions WHAT TIMES`. What a processor does for it is counted by
//! `tests/test_counts.py`, which starts this under valgrind.
//!
//! Two numbers of times give the cost of one: what starting costs is in both. Stands on the core
//! and the standard library alone, so that it is built in seconds.
#![allow(missing_docs, reason = "a program; nobody is outside")]

mod work;

use std::process::ExitCode;

use crate::work::{Crowd, Idle, Publisher, Several, payloads};

/// Subscribers of a walk, and of the wheel.
const SUBSCRIBERS: u32 = 1000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (what, times) = (arguments.next(), arguments.next().and_then(|times| times.parse().ok()));
    match (what.as_deref(), times) {
        // How cargo runs every benchmark: there is nothing to be timed here.
        (Some("--bench"), _) => ExitCode::SUCCESS,
        (Some(what), Some(times)) if work(what, times) => ExitCode::SUCCESS,
        _ => {
            eprintln!(
                "usage: instructions (encode-small | encode-lines | encode-json | publish | walk | walk-burst | several | wheel) TIMES"
            );
            ExitCode::FAILURE
        }
    }
}

/// Does it so many times; says whether it is known.
fn work(what: &str, times: usize) -> bool {
    let mut publisher = Publisher::new();
    let [(_, small), (_, lines), _, (_, json)] = payloads();
    match what {
        "encode-small" => (0..times).for_each(|_| publisher.encode(&small)),
        "encode-lines" => (0..times).for_each(|_| publisher.encode(&lines)),
        "encode-json" => (0..times).for_each(|_| publisher.encode(&json)),
        "publish" => (0..times).for_each(|_| publisher.publish(&small)),
        "walk" => repeat(times, Crowd::new(SUBSCRIBERS, 1), Crowd::walk),
        "walk-burst" => repeat(times, Crowd::new(SUBSCRIBERS, 20), Crowd::walk),
        "several" => repeat(times, Several::new(), Several::lay_out),
        "wheel" => repeat(times, Idle::new(SUBSCRIBERS), Idle::interval),
        _ => return false,
    }
    true
}

fn repeat<T>(times: usize, mut on: T, what: impl Fn(&mut T)) {
    (0..times).for_each(|_| what(&mut on));
}
