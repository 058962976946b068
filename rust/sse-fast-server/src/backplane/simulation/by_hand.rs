//! Schedules that seeds come upon too rarely, each over a few seeds for the times in it.
//!
//! Owns: one schedule for each mend of what thousands of seeds had found. Must not know: the machine's inside.

use std::time::Duration;

use bytes::Bytes;

use super::super::Name;
use super::super::protocol::{Line, Request};
use super::play::{PROMPT, Play, SETTLED, STREAMS, make, name};

/// Two processes have opened the first stream, and what is asked is answered within 5 ms.
fn opened_by_two(schedule: impl Fn(&mut Play)) {
    for seed in 0..40 {
        let mut play = Play::new(seed, 2);
        play.pass(PROMPT);
        for at in 0..2 {
            play.open_with(at, &name(STREAMS[0]), Some(make(&name(STREAMS[0]))), false);
        }
        play.pass(PROMPT);
        schedule(&mut play);
        play.pass(SETTLED);
        play.agree();
    }
}

impl Play {
    fn pass(&mut self, long: Duration) {
        self.world.until(self.world.now + long);
    }
}

/// What was said of readers on a connection that was cut may be executed after what was said since, on the next; and who
/// has released the stream is not told of it.
#[test]
fn readers_are_said_once_more_where_that_is_in_doubt() {
    opened_by_two(|play| {
        play.world.slowest = Duration::from_secs(2);
        play.count(0, &name(STREAMS[0]), 2);
        play.world.slowest = Duration::from_millis(5);
        play.world.cut(0, Line::Command);
        play.release(0, &name(STREAMS[0]));
    });
}

/// Others, who take this process for dead, say that nobody reads there, after its own word and before the answer to it.
#[test]
fn readers_are_said_once_more_where_another_contradicts() {
    opened_by_two(|play| {
        let stream = name(STREAMS[0]);
        play.world.slowest = Duration::from_millis(300);
        play.count(0, &stream, 2);
        let said = (0..1000).find_map(|_| {
            play.pass(Duration::from_millis(1));
            let read = play.world.engine.peek(play.world.now, &stream).expect("it was opened").readers;
            read.into_iter().next().map(|(process, _)| process)
        });
        let said = said.expect("it is said within a second");
        play.world.execute(&Request::Present { name: stream, process: said, readers: Bytes::new() });
        play.world.slowest = Duration::from_millis(5);
    });
}

/// A stream is removed while it is read, and made again while nobody hears of it.
#[test]
fn a_stream_that_is_removed_while_it_is_read_is_waited_for() {
    opened_by_two(|play| {
        let stream = name(STREAMS[0]);
        play.world.slowest = Duration::from_millis(300);
        play.open_with(0, &stream, None, true);
        play.remove(1, &stream);
        play.pass(PROMPT);
        play.world.slowest = Duration::from_millis(5);
        play.world.cut(0, Line::Subscriber);
        play.publish_one(1, &stream, false);
    });
}

/// A replica takes over that still counts readers of a process that has released the stream.
#[test]
fn readers_that_only_an_older_server_counts_are_gone() {
    opened_by_two(|play| {
        let stream = name(STREAMS[0]);
        for _ in 0..2 {
            an_older_server_takes_over(play, &stream);
        }
    });
}

fn an_older_server_takes_over(play: &mut Play, stream: &Name) {
    play.open_with(0, stream, None, true);
    play.pass(PROMPT);
    play.count(0, stream, 2);
    play.pass(PROMPT);
    play.world.replicate();
    play.count(0, stream, 0);
    play.release(0, stream);
    play.pass(PROMPT);
    let replica = play.world.replica();
    play.world.replace(replica);
    play.pass(SETTLED);
    play.agree();
}

/// A process whose readers the server still counts has died before one came that has never heard of it.
#[test]
fn readers_of_a_process_that_died_unheard_of_are_gone_at_once() {
    for seed in 0..40 {
        let mut play = Play::new(seed, 2);
        let stream = name(STREAMS[0]);
        play.pass(PROMPT);
        play.open_with(0, &stream, Some(make(&stream)), false);
        play.pass(PROMPT);
        play.count(0, &stream, 2);
        play.pass(PROMPT);
        play.world.kill(0);
        play.pass(SETTLED);
        play.world.kill(1);
        play.world.start(1);
        // At any time between two of its looks at the leases.
        play.pass(PROMPT + Duration::from_millis(75 * seed));
        play.open_with(1, &stream, None, true);
        play.pass(PROMPT);
        play.agree();
    }
}

/// A replica takes over, and is told that the former name of a process has no readers; then it loses that again, before
/// anybody has heard of it.
#[test]
fn readers_under_a_former_name_are_gone_though_a_server_lost_that() {
    opened_by_two(|play| {
        let stream = name(STREAMS[0]);
        play.release(1, &stream);
        play.count(0, &stream, 2);
        play.pass(PROMPT);
        play.world.replicate();
        let replica = play.world.replica();
        play.world.slowest = Duration::from_secs(2);
        play.world.replace(replica.clone());
        play.pass(Duration::from_millis(450));
        play.world.slowest = Duration::from_millis(5);
        play.world.replace(replica);
    });
}
