//! Publishers that are tasks of an event loop, on a shard that is stepped by hand.
//!
//! Owns: what differs from threads: how they are woken, and that a loop which is busy holds up nobody else. Changes together
//! with `stream::room`, where that is decided, and `stream::task`, the publisher itself.
#![allow(clippy::expect_used, reason = "a test that cannot go on must fail at that line")]

use sse_fast_core::event::NewEvent;

use super::by_hand::{LARGE, MS, Publisher, Quiet, blocked, data_of};
use crate::delivery::Patience;
use crate::stream::{Account, OwnedEvent, TaskProgress, Wakeups};

const PATIENT: Patience = Patience::Within(2_000_000);

fn wakeups() -> Wakeups {
    Wakeups::waking(Quiet).expect("a descriptor")
}

fn event(data: &str, stream: &crate::stream::Stream) -> OwnedEvent {
    OwnedEvent::of(&NewEvent { data: data.as_bytes(), ..NewEvent::default() }, stream).expect("an event")
}

#[test]
fn a_task_that_is_woken_and_does_not_come_is_away_and_pays_nothing() {
    let (mut stage, stream, socket) = blocked(PATIENT);
    let wakeups = wakeups();
    let mut task = Publisher::of_task("1", wakeups.task(7));
    let mut thread = Publisher::ordinary("2");
    assert!(task.step(&stream, stage.now).expect("open").is_some(), "the socket is in its way");
    assert!(thread.step(&stream, stage.now).expect("open").is_some());
    stage.step(100 * MS, &[]);
    assert_eq!(wakeups.take(), [7], "another has come, who may pay less");
    assert!(task.step(&stream, stage.now).expect("open").is_some());
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    let woken = stage.now;
    assert_eq!(wakeups.take(), [7]);
    assert!(!stream.lock().is_paying(), "from now on it pays nothing");
    assert_eq!(thread.step(&stream, woken + 9 * MS).expect("open"), Some(woken + 10 * MS), "its place is kept so long");
    assert_eq!(thread.step(&stream, woken + 10 * MS).expect("open"), None, "and no longer");
    stage.step(500 * MS, &[]);
    assert_eq!(task.step(&stream, stage.now).expect("open"), None);
    stage.step(0, &[]);
    assert_eq!(data_of(&socket), ["0", "2", "1"]);
    assert!(task.paid(stage.now) <= 100 * MS, "it paid {}", task.paid(stage.now));
}

#[test]
fn tasks_that_come_at_once_append_in_the_order_they_came() {
    let (mut stage, stream, socket) = blocked(PATIENT);
    let wakeups = wakeups();
    let mut tasks: Vec<_> = ["1", "2", "3"].into_iter().zip(1..).collect();
    let mut tasks: Vec<_> =
        tasks.drain(..).map(|(data, token)| (token, Publisher::of_task(data, wakeups.task(token)))).collect();
    for (_, task) in &mut tasks {
        assert!(task.step(&stream, stage.now).expect("open").is_some());
    }
    socket.0.borrow_mut().room = LARGE;
    let mut published = Vec::new();
    while published.len() < 3 {
        stage.step(MS, &[&socket]);
        for token in wakeups.take() {
            let (_, task) = tasks.iter_mut().find(|(other, _)| *other == token).expect("a task");
            if !published.contains(&token) && task.step(&stream, stage.now).expect("open").is_none() {
                published.push(token);
            }
        }
    }
    stage.step(0, &[]);
    assert_eq!(published, [1, 2, 3]);
    assert_eq!(data_of(&socket), ["0", "1", "2", "3"]);
}

#[test]
fn what_is_given_up_is_not_published_and_the_next_goes_on() {
    let (mut stage, stream, socket) = blocked(PATIENT);
    let (wakeups, mut account) = (wakeups(), Account::default());
    let mut first = stream.task_publish(event("1", &stream), wakeups.task(1));
    let mut second = stream.task_publish(event("2", &stream), wakeups.task(2));
    for task in [&mut first, &mut second] {
        assert!(matches!(task.step(&mut account), Ok(TaskProgress::Wait(_))), "the socket is in its way");
    }
    wakeups.take();
    first.give_up(&mut account);
    drop(first);
    assert_eq!(wakeups.take(), [2], "it is the next now");
    socket.0.borrow_mut().room = LARGE;
    stage.step(0, &[&socket]);
    assert!(matches!(second.step(&mut account), Ok(TaskProgress::Appended(_))));
    second.give_up(&mut account);
    stage.step(0, &[]);
    assert_eq!(data_of(&socket), ["0", "2"]);
    let mut third = stream.task_end(event("over", &stream), wakeups.task(3));
    assert!(matches!(third.step(&mut account), Ok(TaskProgress::Appended(_))), "nobody is in its way");
    assert!(stream.ended());
}
