//! The thread of a shard: a poll around the steps.
//!
//! Owns: the poll, the thread, and what becomes of a shard that fails. Must not know: what a step does. Invariant:
//! however the thread ends, its mailboxes are closed, so that nothing waits for it and nothing is left in them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Poll, Waker};

use super::ShardHandle;
use super::machine::{Next, Settings, Shard};
use super::net::{Sockets, WAKE, ready_of};
use crate::clock;
use crate::logs::{Level, Logs};
use crate::mailbox::{Latch, Wake};
use crate::presence::Presence;

impl Wake for Waker {
    fn wake(&self) {
        // It fails only where the counter of an eventfd is full: the thread wakes anyway.
        let _ = Waker::wake(self);
    }
}

/// A shard whose thread does not run yet, and its poll. It tells there who comes and goes.
pub(crate) fn prepare(presence: &Presence) -> io::Result<(ShardHandle<TcpStream>, Poll)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    Ok((ShardHandle::new(&Latch::new(waker), presence.clone()), poll))
}

/// Starts the thread of the shard with this number.
pub(crate) fn spawn(
    handle: ShardHandle<TcpStream>,
    number: usize,
    poll: Poll,
    settings: Settings,
    logs: Logs,
) -> io::Result<JoinHandle<()>> {
    let net = Sockets(poll.registry().try_clone()?);
    std::thread::Builder::new().name(format!("sse-fast-{number}")).spawn(move || {
        let mut shard = Shard::new(handle.clone(), number, net, settings, clock::now());
        let failure = match catch_unwind(AssertUnwindSafe(|| run(&mut shard, poll))) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("its poll failed: {error}")),
            Err(panic) => Some(text_of(panic.as_ref()).to_owned()),
        };
        handle.close();
        if let Some(why) = failure {
            // What it was doing may be half done: then some streams go on counting subscribers that are gone.
            let _ = catch_unwind(AssertUnwindSafe(|| shard.abandon()));
            let text = format!("shard {number} failed, its connections are closed: {why}");
            logs.put(Level::Error, "sse_fast", text);
        }
    })
}

fn run(shard: &mut Shard<Sockets>, mut poll: Poll) -> io::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut timeout = None;
    loop {
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let next = shard.step(clock::now(), events.iter().filter_map(ready_of));
        let now = clock::now();
        shard.stepped(now);
        timeout = match next {
            Next::Now => Some(Duration::ZERO),
            Next::At(at) => Some(Duration::from_micros(at.saturating_sub(now))),
            Next::Whenever => None,
            Next::Stopped => return Ok(()),
        };
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text")
}
