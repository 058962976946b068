//! How a connection whose request is a subscription leaves HTTP for a shard, and what of its request comes later.
//!
//! Owns: the choice of the shard, and telling it of a handler whose answer comes after its head. Must not know: hyper,
//! requests. Invariant: from here on a reader is among those that its disconnecting ends, or came after that.
//! Changes together with `connection`, which takes the socket out of HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sse_fast_core::event::NewEvent;
use tokio::sync::oneshot;

use crate::admission::Admission;
use crate::calls::{Answer, Pending};
use crate::directory::Counted;
use crate::handler_call::hold_while_read;
use crate::logs::Level;
use crate::respond::{Context, Subscription};
use crate::shard::{Arrival, Order, Reading};
use crate::socket::Socket;
use crate::stream::Stream;

/// Gives the socket to a shard, the next in turn that still runs; where none does it is closed.
pub(crate) fn hand_over(context: &Arc<Context>, socket: Socket, subscription: Subscription, admission: Admission) {
    let Ok(socket) = socket.into_std() else { return };
    let Subscription { reading, admitted, framing, head, place, later, logged } = subscription;
    let place = if place.is_counted() { place } else { admission.place };
    let shards = context.directory.shards();
    let first = context.directory.totals.handed_over.fetch_add(1, Ordering::Relaxed);
    // Before a shard has it: its client may be gone a moment later.
    let (later, reading) = match (later, reading) {
        // The id is one of the stream to come: where the reader waits for it nobody knows it.
        (Some(answer), Reading::One { claim, last_event_id }) => {
            let (stream, emptied) = (claim.stream().clone(), claim.stream().emptied());
            (Some((answer, emptied, stream, last_event_id)), Reading::One { claim, last_event_id: None })
        }
        (_, reading) => (None, reading),
    };
    let socket = mio::net::TcpStream::from_std(socket);
    // Until a shard has it, so that it is among those that a reader's disconnecting ends, or came after that.
    let readers = admitted.reader.is_some().then(|| context.rights.disconnected.hold());
    if let (Some(readers), Some(reader)) = (&readers, &admitted.reader)
        && readers.has_cut(reader, admitted.since)
    {
        return;
    }
    let mut arrival = Arrival { socket, reading, admitted, framing, head, place, logged };
    for number in (0..shards.len()).map(|next| (first + next) % shards.len()) {
        match shards[number].subscribe(arrival) {
            Ok(is_first) => {
                if is_first {
                    let shard = shards[number].clone();
                    // Behind the other connections of this batch: one wake-up serves them all.
                    tokio::spawn(async move { shard.ring() });
                }
                if let Some((answer, emptied, stream, last_event_id)) = later {
                    let counted = Counted::new(&context.directory, |totals| &totals.followed);
                    let context = Arc::clone(context);
                    tokio::spawn(async move {
                        follow_up(context, number, stream, last_event_id, (answer, emptied)).await;
                        drop(counted);
                    });
                }
                return;
            }
            Err(returned) => arrival = returned,
        }
    }
}

/// A handler whose head went out early has answered: its stream, or an error in the stream's form. A reader that
/// leaves before ends it: the answer is not needed then.
async fn follow_up(
    context: Arc<Context>,
    shard: usize,
    waiting: Stream,
    last_event_id: Option<Box<str>>,
    (mut answer, emptied): (Pending, oneshot::Receiver<()>),
) {
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = emptied => return,
    };
    let answer = match answer {
        Ok(Answer::Stream { stream, headers, reading }) if context.owns(&stream) => {
            if !headers.is_empty() {
                let text = format!("headers of the stream {:?} were left out: its head was sent early", stream.name());
                context.directory.logs.put(Level::Warning, "sse_fast.handler", text);
            }
            hold_while_read(&context.directory, &stream, reading);
            let order = Order::Move { from: waiting, to: stream, last_event_id };
            return context.directory.shards()[shard].order(order);
        }
        Ok(Answer::Response { status, body, .. }) => Some((status, body)),
        // Its client is disconnected with everybody else, and may come back.
        Ok(Answer::NotBegun) => return,
        Ok(Answer::Stream { .. } | Answer::Admitted { .. } | Answer::Denied) | Err(_) => None,
    };
    let failed = || (500, br#"{"error":"internal","detail":"the handler failed; see the server's log"}"#.to_vec());
    let (status, body) = answer.unwrap_or_else(failed);
    // By this id the next request of its client is known as one that is over: the handler is not called again.
    let id = context.directory.resumable.finished_id();
    // Publishing may wait for shards, and this thread accepts.
    let told = tokio::task::spawn_blocking(move || {
        let body = String::from_utf8_lossy(&body);
        // The reader may have gone.
        let _ = if status < 400 {
            let _ = waiting.publish(&last_event(body.as_bytes(), "message", id.as_str()));
            waiting.end_with(&last_event(b"null", "end", id.as_str()))
        } else {
            waiting.end_with(&last_event(body.as_bytes(), "error", id.as_str()))
        };
    });
    let _ = told.await;
}

fn last_event<'a>(data: &'a [u8], event: &'a str, id: &'a str) -> NewEvent<'a> {
    NewEvent { data, event: Some(event), id: Some(id), ..NewEvent::default() }
}
