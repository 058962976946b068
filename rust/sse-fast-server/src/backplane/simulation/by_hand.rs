//! Schedules that seeds come upon too rarely, each over a few seeds for the times in it.
//!
//! Owns: one schedule for each mend of what thousands of seeds had found. Must not know: the machine's inside.

use std::time::Duration;

use bytes::Bytes;

use super::super::Name;
use super::super::protocol::{Line, Request};
use super::play::{PROMPT, Play, SETTLED, STREAMS, make, name};

/// Two processes have opened the first stream.
fn opened(seed: u64) -> Play {
    let mut play = Play::new(seed, 2);
    play.pass(PROMPT);
    for at in 0..2 {
        play.open_with(at, &name(STREAMS[0]), Some(make(&name(STREAMS[0]))), false);
    }
    play.pass(PROMPT);
    play
}

/// Two processes have opened the first stream, and what is asked is answered within 5 ms.
fn opened_by_two(schedule: impl Fn(&mut Play)) {
    for seed in 0..40 {
        let mut play = opened(seed);
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

/// How many readers a process was told of.
fn told(play: &Play, at: usize, stream: &Name) -> u64 {
    let process = play.world.processes[at].as_ref().expect("it lives");
    process.totals.get(stream).into_iter().flatten().map(|(_, count)| count).sum()
}

/// Process 0 has two readers, of which process 1 is told; then something happens, and for so long it must never be told
/// that they are gone.
fn nobody_is_taken_for_gone(long: Duration, happens: impl Fn(&mut Play)) {
    for seed in 0..60 {
        let mut play = opened(seed);
        let stream = name(STREAMS[0]);
        play.count(0, &stream, 2);
        // At any time between two looks at the leases.
        play.pass(Duration::from_secs(15) + Duration::from_millis(50 * seed));
        happens(&mut play);
        let end = play.world.now + long;
        while play.world.now < end {
            play.pass(Duration::from_millis(1));
            // For a moment they may count twice, under both names.
            assert!(told(&play, 1, &stream) >= 2, "seed {seed} at {:?}", play.world.now);
        }
        play.world.slowest = Duration::from_millis(5);
        play.pass(SETTLED);
        play.agree();
    }
}

/// The master gets its first replica: another replication id, the same data, every connection stays.
#[test]
fn nobody_is_taken_for_gone_where_the_fence_changes_on_a_living_connection() {
    nobody_is_taken_for_gone(Duration::from_secs(15), |play| {
        play.world.slowest = Duration::from_millis(300);
        play.world.engine.fence = "another".into();
    });
}

/// All leases run out before anybody can renew them.
#[test]
fn nobody_is_taken_for_gone_where_the_server_stood_still() {
    nobody_is_taken_for_gone(Duration::from_secs(30), |play| {
        play.world.slowest = Duration::from_millis(300);
        play.world.stop(Duration::from_secs(12));
    });
}

/// A dead process, and a command connection that is made anew every eight seconds.
#[test]
fn the_dead_are_gone_though_a_connection_is_made_anew_often() {
    opened_by_two(|play| {
        let stream = name(STREAMS[0]);
        play.count(0, &stream, 2);
        play.pass(PROMPT);
        play.world.kill(0);
        for _ in 0..3 {
            play.pass(Duration::from_secs(8));
            play.world.cut(1, Line::Command);
        }
        assert_eq!(told(play, 1, &stream), 0, "dead for 24 s");
    });
}

/// Another took a process for dead that was away for longer than a lease; what it says of that is lost, and both come back.
#[test]
fn who_has_come_back_is_not_buried_by_one_that_reconnects() {
    let mut lost = 0;
    for seed in 0..60 {
        let mut play = opened(seed);
        let stream = name(STREAMS[0]);
        play.count(0, &stream, 2);
        play.pass(Duration::from_secs(15));
        play.world.part(0, Line::Command);
        for _ in 0..20_000 {
            play.pass(Duration::from_millis(1));
            if told(&play, 1, &stream) == 0 {
                break;
            }
        }
        // It has just asked that nobody be counted there: that is lost with its connection, or executed.
        play.world.part(1, Line::Command);
        play.pass(Duration::from_millis(20));
        let read =
            |play: &Play| !play.world.engine.peek(play.world.now, &stream).expect("it is there").readers.is_empty();
        if !read(&play) {
            continue;
        }
        lost += 1;
        play.world.connect(0, Line::Command);
        play.pass(PROMPT);
        play.world.connect(1, Line::Command);
        for _ in 0..3_000 {
            play.pass(Duration::from_millis(1));
            assert!(read(&play), "seed {seed} at {:?}", play.world.now);
        }
        play.pass(SETTLED);
        play.agree();
    }
    assert!(lost > 5, "{lost} of 60 schedules lost it");
}

/// A removal is executed, its answer is lost, and the name is in use again before it is repeated.
#[test]
fn a_removal_that_is_repeated_leaves_the_next_life() {
    let mut repeated = 0;
    for seed in 0..60 {
        let mut play = Play::new(seed, 2);
        let stream = name(STREAMS[0]);
        play.pass(PROMPT);
        play.open_with(1, &stream, Some(make(&stream)), false);
        play.pass(PROMPT);
        play.world.slowest = Duration::from_millis(100);
        play.remove(0, &stream);
        let there = |play: &Play| play.world.engine.peek(play.world.now, &stream).is_some();
        for _ in 0..1_000 {
            play.pass(Duration::from_millis(1));
            if !there(&play) {
                break;
            }
        }
        assert!(!there(&play), "it is removed within a second");
        let asked = |play: &Play| !play.world.processes[0].as_ref().expect("it lives").asked.is_empty();
        if !asked(&play) {
            continue;
        }
        repeated += 1;
        play.world.cut(0, Line::Command);
        play.world.slowest = Duration::from_micros(100);
        play.publish_one(1, &stream, false);
        play.pass(PROMPT);
        assert!(!asked(&play) && there(&play), "seed {seed}: what was removed was not that life");
        play.pass(SETTLED);
        play.agree();
    }
    assert!(repeated > 5, "{repeated} of 60 schedules repeat it");
}
