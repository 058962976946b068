//! The sentences of the delivery promise about whom publishers wait for, and what that costs, one test each, over real shards.
//!
//! Scripts are written out by hand here, where `script` draws them at random. `publishers` and `check` hold every call,
//! thread and stream to its share on the way.

use sse_fast_core::frame::Framing;
use sse_fast_core::options::OnLag;

use super::hand::{EVERYTHING, IMPATIENT, PATIENT, W, patch, publish, world, worlds};
use super::stage::Deed;
use super::times::{MS, STALL};
use crate::delivery::Patience;

#[test]
fn a_dead_subscriber_delays_nobody_without_patience_and_is_closed() {
    let mut world = world(&patch(16, 16, OnLag::Skip), IMPATIENT);
    let (healthy, dead) = (world.client(Framing::Chunked, EVERYTHING), world.client(Framing::Chunked, 40));
    for count in 1..=200 {
        world.publish(1, 100);
        assert_eq!(world.received(healthy).len(), count, "the other has it at once");
    }
    assert_eq!(world.paid(), 0);
    world.advance(STALL + 60 * MS);
    world.read(dead, EVERYTHING);
    assert!(!world.is_connected(dead), "a reader that takes nothing is closed after stall_timeout");
}

#[test]
fn a_dead_subscriber_costs_publishers_an_eighth_of_w() {
    let mut world = world(&patch(4, 4, OnLag::Skip), PATIENT);
    let (healthy, _dead) = (world.client(Framing::Chunked, EVERYTHING), world.client(Framing::Chunked, 40));
    world.publish(40, 100);
    assert_eq!(world.received(healthy).len(), 40);
    let paid = world.paid();
    // What is charged is charged in pieces of ten milliseconds.
    assert!((W / 8 - 10 * MS..=W / 8 + 10 * MS).contains(&paid), "{paid} of {W}");
}

#[test]
fn a_slow_subscriber_costs_publishers_half_of_w_in_a_minute_and_is_waited_for_again_once_it_has_everything() {
    let mut world = world(&patch(4, 4, OnLag::Skip), PATIENT);
    let at = world.client(Framing::Chunked, 60);
    for _ in 0..400 {
        world.publish_by(0, 100);
        world.advance(11 * MS);
        world.drains(at, 20);
    }
    let paid = world.paid();
    assert!((W / 2 - 10 * MS..=W / 2 + 30 * MS).contains(&paid), "{paid} of {W}");
    world.takes_all(at);
    world.wait_for_publishers();
    world.settle();
    assert_eq!(world.received(at).last(), Some(&world.stage.streams.borrow()[0].all.newest()));
}

#[test]
fn one_call_waits_for_sockets_half_of_w_at_most() {
    let mut world = world(&patch(1, 1, OnLag::Skip), PATIENT);
    let at: Vec<_> = (0..6).map(|_| world.client(Framing::Chunked, 40)).collect();
    world.publish(1, 100);
    let began = world.now();
    // Each takes a byte now and then: none takes nothing at all.
    world.publish_by(0, 100);
    let mut turn = 0;
    while world.is_waited() {
        world.drains(at[turn % at.len()], 1);
        world.advance(MS);
        turn += 1;
    }
    assert!(world.now() - began <= W / 2 + 2 * MS, "{} of {W}", world.now() - began);
}

#[test]
fn a_publishing_thread_pays_w_at_most_over_all_its_streams() {
    let patches: Vec<_> = (0..6).map(|_| patch(1, 1, OnLag::Skip)).collect();
    let mut world = worlds(&patches, PATIENT);
    for name in 0..6 {
        for _ in 0..2 {
            let at = world.add_client(Framing::Chunked, 40, name);
            world.connect(at, None, 0, false);
        }
    }
    world.settle();
    let began = world.now();
    for _ in 0..4 {
        for stream in 0..6 {
            world.act(&Deed { stream, ..publish(0, 100) });
            // Held against its account by `publishers`.
            world.wait_for_publishers();
        }
    }
    assert!(world.now() - began <= W + 30 * MS, "{} of {W}", world.now() - began);
}

#[test]
fn a_streams_publishers_pay_w_at_most_in_a_minute() {
    let mut world = world(&patch(1, 1, OnLag::Skip), PATIENT);
    let at: Vec<_> = (0..30).map(|_| world.client(Framing::Chunked, 40)).collect();
    for turn in 0..900 {
        // One that has given one up has room again for another: each of these readers takes a little, and is slow in turn.
        world.publish_by(turn % 8, 30);
        world.advance(2 * MS);
        world.drains(at[turn % at.len()], 60);
    }
    // `check` holds every minute to W; here all of it is used up.
    assert!(world.paid() > W / 2 && world.paid() <= W + 20 * MS, "{} of {W}", world.paid());
}

#[test]
fn without_a_limit_publishers_wait_until_a_reader_takes_or_is_cut_and_nothing_is_skipped() {
    let mut world = world(&patch(4, 4, OnLag::Skip), Patience::Lossless);
    let (slow, dead) = (world.client(Framing::Chunked, 200), world.client(Framing::Plain, 40));
    let began = world.now();
    for _ in 0..30 {
        world.publish_by(0, 100);
        while world.is_waited() {
            world.advance(20 * MS);
            world.drains(slow, 90);
        }
    }
    assert!(world.now() - began >= STALL, "the dead one was waited for until it was cut");
    world.takes_all(slow);
    world.takes_all(dead);
    assert!(!world.is_connected(dead));
    assert_eq!(world.received(slow), (1..=30).collect::<Vec<_>>());
    assert!(world.skipped(slow).is_empty());
}
