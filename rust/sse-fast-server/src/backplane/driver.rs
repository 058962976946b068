//! Runs the machine over wires, in real time.
//!
//! Owns: the loop on the backplane's thread. Must not know: what the machine decides, or what the wires are.
//! Invariants: one thing at a time, in the order in which it came; what the machine wants done is done before it hears of
//! anything else. The loop ends when [`Ask::Close`](super::Ask::Close) is done, or when nobody can ask any more.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep_until;

use super::hub::{Hub, Input, Moment, Output};
use super::protocol::Wires;
use super::{Ask, Copies, Counts, Rules};

/// How long the loop sleeps where nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// Runs until the end; `counted` is told what is counted after each round, and must be quick.
pub(crate) async fn drive(
    rules: Rules,
    mut wires: impl Wires,
    mut asks: UnboundedReceiver<Ask>,
    copies: &dyn Copies,
    mut counted: impl FnMut(&Counts),
) {
    let start = Instant::now();
    let now = || Moment {
        at: start.elapsed(),
        wall: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
    };
    let mut hub = Hub::new(rules);
    let mut outputs = Vec::new();
    let mut open = true;
    while open && !hub.is_closed() {
        let due = start + hub.due().unwrap_or_else(|| start.elapsed() + IDLE);
        let input = tokio::select! {
            came = wires.next() => Input::Wired(came),
            ask = asks.recv() => {
                open = ask.is_some();
                ask.map_or(Input::Tick, Input::Ask)
            }
            () = sleep_until(due.into()) => Input::Tick,
        };
        hub.step(now(), input, &mut outputs);
        // Asks that have piled up go out together.
        while let Ok(ask) = asks.try_recv() {
            hub.step(now(), Input::Ask(ask), &mut outputs);
        }
        for output in outputs.drain(..) {
            carry_out(output, &mut wires, copies);
        }
        counted(hub.counts());
    }
}

fn carry_out(output: Output, wires: &mut impl Wires, copies: &dyn Copies) {
    match output {
        Output::Request(id, request) => wires.request(id, request),
        Output::Subscribe(names) => wires.subscribe(names),
        Output::Unsubscribe(names) => wires.unsubscribe(names),
        Output::Reconnect(line) => wires.reconnect(line),
        Output::Tell(tell) => tell.give(copies),
    }
}
