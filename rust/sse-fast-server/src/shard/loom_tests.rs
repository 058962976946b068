//! Models of what publishers, arrivals and a shard do at the same time: the real shard and the real stream, under loom.
//!
//! Owns: the models; `world` has the sockets and the loop. Must not know: how a shard works; a model says what readers
//! must have got. No time passes, so that nothing here depends on a timer: a thread that is not woken sleeps for good, and
//! loom reports it. Each model is as small as finds its fault: one more thread or event makes minutes of seconds.

mod world;

use std::sync::Arc;

use loom::thread::{self, JoinHandle};
use sse_fast_core::event::NewEvent;

use self::world::World;
use crate::delivery::Patience;
use crate::stream::{PublishError, Stream, Want};

fn publish(stream: &Stream, data: &str) {
    stream.publish(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }).expect("published");
}

/// A thread that publishes.
fn publishes(stream: &Stream, data: &'static str) -> JoinHandle<()> {
    let stream = stream.clone();
    thread::spawn(move || publish(&stream, data))
}

fn end(stream: &Stream) {
    stream.end(b"over", "end").expect("ended");
}

fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.max_branches = 10_000;
    model.check(check);
}

#[test]
fn loom_a_publisher_waits_for_a_shard_that_has_not_got_to_a_subscriber() {
    model(2, || {
        let (world, stream, socket, mut shard) = World::with_reader(1, usize::MAX);
        let publisher = thread::spawn(move || {
            publish(&stream, "1");
            publish(&stream, "2");
            end(&stream);
        });
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        assert_eq!(socket.events(), ["1", "2", "over"]);
    });
}

#[test]
fn loom_what_a_full_socket_lacks_is_not_overwritten() {
    model(2, || {
        let (world, stream, socket, mut shard) = World::with_reader(1, 0);
        publish(&stream, "1");
        let publisher = thread::spawn(move || end(&stream));
        // The walk finds the socket full; its reader takes what there is some time later.
        World::settle(&mut shard, &[&socket]);
        socket.drain();
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        assert_eq!(socket.events(), ["1", "over"]);
    });
}

#[test]
fn loom_who_recovers_is_waited_for_from_the_moment_its_frames_are_laid_out() {
    model(2, || {
        // Publishers wait for no full socket, only for those that take bytes.
        let world = World::with_patience(Patience::Within(0));
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(0), world.shard());
        world.subscribe_now(&mut shard, &stream, &socket);
        publish(&stream, "1");
        World::settle(&mut shard, &[&socket]);
        socket.drain();
        let publisher = thread::spawn(move || {
            publish(&stream, "2");
            end(&stream);
        });
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        let events = socket.events();
        // It may have been overtaken while it was full, and is told so first.
        assert!(events[1..].iter().all(|data| !data.contains("skipped")), "{events:?}");
        assert_eq!(events.last().map(String::as_str), Some("over"));
    });
}

#[test]
fn loom_a_publisher_stops_waiting_for_a_reader_that_leaves() {
    model(3, || {
        let (world, stream, socket, mut shard) = World::with_reader(1, 0);
        publish(&stream, "1");
        World::settle(&mut shard, &[&socket]);
        let publisher = publishes(&stream, "2");
        // The shard may have been asked by now, or will be, or the publisher comes later.
        World::settle(&mut shard, &[&socket]);
        socket.leave();
        world.run_until(&mut shard, &[&socket], || stream.subscribers() == 0);
        publisher.join().expect("it published");
    });
}

#[test]
fn loom_an_arrival_gets_everything_from_its_place_to_the_end() {
    model(2, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 1), world.socket(usize::MAX), world.shard());
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || {
                publish(&stream, "1");
                end(&stream);
            }
        });
        let acceptor = thread::spawn({
            let (world, socket) = (world.clone(), socket.clone());
            move || world.subscribe(stream.claim().expect("not removed"), &socket, None)
        });
        world.run(&mut shard, &[&socket]);
        publisher.join().expect("it published");
        acceptor.join().expect("it accepted");
        let events = socket.events();
        assert!(events == ["1", "over"] || events == ["over"], "{events:?}");
    });
}

// With threads that change only where they wait it takes half a second, and finds a queue that is not one; with one change
// elsewhere it takes minutes: `make test-slow` does that.
#[test]
fn loom_publishers_that_wait_append_in_the_order_they_came() {
    model(0, || {
        let (world, stream, socket, mut shard) = World::with_reader(1, usize::MAX);
        publish(&stream, "0");
        let first = publishes(&stream, "1");
        let second = thread::spawn(move || {
            let comes_second = stream.lock().want != Want::Nothing;
            publish(&stream, "2");
            comes_second
        });
        world.run_until(&mut shard, &[&socket], || socket.events().len() == 3);
        first.join().expect("it published");
        let in_order = socket.events() == ["0", "1", "2"];
        assert!(in_order || socket.events() == ["0", "2", "1"], "{:?}", socket.events());
        assert!(in_order || !second.join().expect("it published"), "the first in the queue appends first");
    });
}

#[test]
fn loom_no_news_is_lost_where_a_stream_comes_back_under_another_key() {
    model(2, || {
        let world = World::new();
        let (stream, other) = (world.stream("s", 4), world.stream("t", 4));
        let sockets = [0; 3].map(|_| world.socket(usize::MAX));
        let [leaves, comes, takes_the_key] = [0, 1, 2].map(|number: usize| sockets[number].clone());
        let mut shard = world.shard();
        world.subscribe_now(&mut shard, &stream, &leaves);
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || {
                publish(&stream, "1");
                end(&stream);
            }
        });
        let acceptor = thread::spawn({
            let (world, leaves, comes, takes_the_key) =
                (world.clone(), leaves.clone(), comes.clone(), takes_the_key.clone());
            move || {
                leaves.leave();
                world.subscribe(other.claim().expect("open"), &takes_the_key, None);
                world.subscribe(stream.claim().expect("open"), &comes, None);
                end(&other);
            }
        });
        let is_over = || comes.is_shut() && takes_the_key.is_shut();
        world.run_until(&mut shard, &[&leaves, &comes, &takes_the_key], is_over);
        publisher.join().expect("it published");
        acceptor.join().expect("it accepted");
        assert!(comes.events() == ["1", "over"] || comes.events() == ["over"], "{:?}", comes.events());
        assert_eq!(takes_the_key.events(), ["over"]);
    });
}

#[test]
fn loom_a_request_on_its_way_keeps_a_stream_from_expiring() {
    model(3, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 4), world.socket(usize::MAX), world.shard());
        let expiry = thread::spawn({
            let stream = stream.clone();
            move || stream.remove_if_idle()
        });
        let acceptor = thread::spawn({
            let (world, socket, stream) = (world.clone(), socket.clone(), stream.clone());
            move || stream.claim().map(|claim| world.subscribe(claim, &socket, None)).is_some()
        });
        let subscribed = acceptor.join().expect("it accepted");
        World::settle(&mut shard, &[&socket]);
        let expired = expiry.join().expect("it looked");
        assert_ne!(subscribed, expired, "the one or the other");
        assert_eq!(stream.subscribers(), usize::from(subscribed));
        // A claim that comes to nothing leaves no trace.
        drop(stream.claim());
        assert_eq!(stream.remove_if_idle(), expired || stream.subscribers() == 0);
    });
}

#[test]
fn loom_who_subscribes_while_a_stream_is_removed_gets_its_end_or_no_stream() {
    model(3, || {
        let world = World::new();
        let (stream, socket, mut shard) = (world.stream("s", 4), world.socket(usize::MAX), world.shard());
        publish(&stream, "1");
        let remover = thread::spawn({
            let stream = stream.clone();
            move || stream.remove()
        });
        let acceptor = thread::spawn({
            let (world, socket) = (world.clone(), socket.clone());
            // It has nothing of this life yet.
            move || stream.claim().map(|claim| world.subscribe(claim, &socket, Some("1-0"))).is_some()
        });
        if acceptor.join().expect("it accepted") {
            world.run(&mut shard, &[&socket]);
            assert_eq!(socket.events(), ["1"], "what was published before");
        }
        remover.join().expect("it removed");
    });
}

#[test]
fn loom_a_publisher_that_waits_is_told_that_the_server_closes() {
    model(3, || {
        // Nobody takes anything from its socket.
        let (world, stream, socket, mut shard) = World::with_reader(1, 0);
        publish(&stream, "1");
        World::settle(&mut shard, &[&socket]);
        let publisher = thread::spawn({
            let stream = stream.clone();
            move || stream.publish(&NewEvent { data: b"2", ..NewEvent::default() })
        });
        let closer = thread::spawn({
            let delivery = Arc::clone(&world.delivery);
            move || {
                delivery.close();
                stream.wake_all();
            }
        });
        let outcome = publisher.join().expect("it is told");
        assert!(matches!(outcome, Err(PublishError::Closed { .. })), "{outcome:?}");
        closer.join().expect("it closed");
        World::settle(&mut shard, &[&socket]);
    });
}
