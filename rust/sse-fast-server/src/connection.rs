//! One accepted connection, as long as HTTP has it.
//!
//! Owns the loop that polls hyper, and how a connection ends. Must not know: routes, handlers.
//! When a request is a subscription, the service notes so in a cell and stays pending; the loop sees
//! the note, takes the socket out of hyper and hands it to a shard, which writes the response head.
//! Invariants: bytes that a client sends beyond a subscription's request are dropped with hyper's
//! buffer: a pipelined request on such a connection is ignored. A response cannot be lost in hyper's
//! buffer: hyper flushes it before it reads the next head. When the server closes, a request under way
//! gets its answer; every other connection is looked at once more, for a request that nobody has been told
//! of yet, and closed.
//! Changes together with `socket`, which hides from hyper what would end a request too early.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use sse_fast_core::event::NewEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::admission::{Admission, ToldPlace};
use crate::calls::{Answer, Pending};
use crate::directory::Counted;
use crate::handler_call::hold_while_read;
use crate::logs::Level;
use crate::respond::{Action, Context, Subscription};
use crate::response::{self, HttpResponse};
use crate::shard::{Arrival, Order, Reading};
use crate::socket::{BodyFraming, Pace, RequestBody, ResponseBody, Rest, Signals, Socket};
use crate::stream::Stream;
use crate::unreadable::Fault;

/// How long a connection that we close may take to read the last answer, and how much it may still send.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// How long the rest of a body that nobody wanted is waited for, so that its connection can go on: clients that send it at
/// all send it right behind the head.
const UNWANTED_REST: Duration = Duration::from_millis(100);
const MAX_UNREAD_BYTES: usize = 256 * 1024;

/// How HTTP was done with a connection.
enum Done {
    /// A subscription: a shard's from here on.
    Subscribed(Subscription),
    /// The reader takes its answer too slowly.
    TooSlow,
    /// The server closes, and nothing is under way.
    Idle,
    /// The client closed, the answer was the last, or hyper could not go on.
    Closed(hyper::Result<()>),
}

/// How far a connection is with the end of its server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The server serves, as far as this connection knows.
    NotYet,
    /// It closes: what came until now is still read.
    LastLook,
    /// The answer under way is the last.
    LastAnswer,
}

/// Begins a connection that was just accepted.
pub(crate) fn begin(context: Arc<Context>, socket: TcpStream, mut admission: Admission) {
    let signals = Arc::new(Signals::default());
    let mut socket = Socket::new(socket, Arc::clone(&signals), context.directory.config.max_head_bytes);
    let parsing = Counted::new(&context.directory, |totals| &totals.parsing);
    let is_there = socket.read_ahead();
    let stay = admission.told.as_mut().and_then(|told| Some((told.place.0, told.stay.take()?)));
    if let Some((over, stay)) = stay {
        tokio::spawn(async move {
            let (told, peer) = (Arc::clone(&context), admission.peer);
            let served = pin!(serve_later(context, socket, Arc::clone(&signals), admission, parsing, is_there));
            tokio::select! {
                // First, so that who has asked by now is answered.
                biased;
                () = served => {}
                _ = stay => if !signals.has_asked() { told.too_many(over, peer.ip()) },
            }
        });
    } else if is_there {
        tokio::spawn(serve(context, socket, signals, admission, parsing));
    } else {
        tokio::spawn(serve_later(context, socket, signals, admission, parsing, false));
    }
}

/// Serves a connection once it has said something, if it has not yet.
async fn serve_later(
    context: Arc<Context>,
    mut socket: Socket,
    signals: Arc<Signals>,
    admission: Admission,
    parsing: Counted,
    is_there: bool,
) {
    let limit = admission.head_timeout(context.directory.config.header_timeout);
    let readable = is_there
        || tokio::select! {
            readable = timeout(limit, socket.readable()) => matches!(readable, Ok(Ok(()))),
            () = context.until_closing() => socket.read_at_last(),
        };
    if readable {
        // Boxed, so that a connection that says nothing costs little.
        Box::pin(serve(context, socket, signals, admission, parsing)).await;
    }
}

/// Serves a connection until it closes or a shard has it.
async fn serve(context: Arc<Context>, socket: Socket, signals: Arc<Signals>, admission: Admission, parsing: Counted) {
    let (noted, mut closing) = (Arc::new(Mutex::new(None)), Closing::NotYet);
    let (config, peer) = (&context.directory.config, admission.peer);
    let told = admission.told.as_ref().map(|told| told.place.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let (context, noted, signals) = (Arc::clone(&context), Arc::clone(&noted), Arc::clone(&signals));
        let told = told.clone();
        signals.open(BodyFraming::of(request.body()));
        Box::pin(async move {
            match answer(context, request, (peer, told), signals).await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(subscription) => {
                    *noted.lock() = Some(Done::Subscribed(subscription));
                    pending().await
                }
            }
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(admission.head_timeout(config.header_timeout))
        .max_buf_size(config.max_head_bytes)
        .serve_connection(TokioIo::new(socket), service);
    let (mut pace, mut until_closing) = (Pace::new(config.stall_timeout), pin!(context.until_closing()));
    let mut flushing = false;
    let done = poll_fn(|cx| {
        loop {
            let polled =
                if flushing { Pin::new(&mut connection).poll(cx) } else { connection.poll_without_shutdown(cx) };
            if let Some(done) = noted.lock().take() {
                return Poll::Ready(done);
            }
            match polled {
                // hyper is done with reading, and takes that for the end with an answer in its buffer.
                Poll::Ready(Ok(())) if !flushing && signals.is_answered() => {
                    flushing = true;
                    continue;
                }
                Poll::Ready(result) => return Poll::Ready(Done::Closed(result)),
                Poll::Pending => {}
            }
            if signals.must_poll_again() {
                continue;
            }
            if pace.poll_too_slow(cx, &signals).is_ready() {
                return Poll::Ready(Done::TooSlow);
            }
            match closing {
                Closing::NotYet if until_closing.as_mut().poll(cx).is_ready() => {
                    signals.look_once_more();
                    closing = Closing::LastLook;
                }
                // Idle, or in the middle of a head: hyper would wait for the rest of that.
                Closing::LastLook if !signals.is_open() => return Poll::Ready(Done::Idle),
                // hyper would take this for an end, with an answer in its buffer.
                Closing::LastLook if signals.is_answered() => return Poll::Pending,
                Closing::LastLook => {
                    Pin::new(&mut connection).graceful_shutdown();
                    closing = Closing::LastAnswer;
                }
                Closing::NotYet | Closing::LastAnswer => return Poll::Pending,
            }
        }
    })
    .await;
    leave_http(&context, connection.into_parts(), &signals, done, admission).await;
    drop(parsing);
}

/// The answer to one request, which the access log is told of; as an error the subscription that it is.
async fn answer(
    context: Arc<Context>,
    request: Request<Incoming>,
    (peer, told): (SocketAddr, Option<ToldPlace>),
    signals: Arc<Signals>,
) -> Result<Response<ResponseBody>, Subscription> {
    let rest = Rest::default();
    let longest = if request.headers().contains_key(header::EXPECT) { Duration::ZERO } else { UNWANTED_REST };
    let request = request.map(|body| RequestBody::new(body, Arc::clone(&signals), rest.clone()));
    let mut logged = context.access_log.begin(|| {
        let (uri, client) = (request.uri(), context.proxies.requester(peer, request.headers()).client);
        (client, request.method().to_string(), uri.path().to_owned(), uri.query().is_some())
    });
    let over = told.as_ref().map(|(over, _)| *over);
    // What is asked for beyond every limit is answered, even where newcomers crowd.
    let kept = told.filter(|_| context.is_open_to_all(&request));
    if let Some((_, place)) = &kept {
        place.set_answering(true);
    }
    let action = context.respond(request, peer, over).await;
    if let Some((_, place)) = &kept {
        place.set_answering(false);
    }
    match action {
        Action::Respond(response) => {
            let response = after_body(response, &rest, &signals, longest).await;
            if let Some(mut logged) = logged {
                logged.answered(response.status().as_u16());
                signals.logs(logged);
            }
            Ok(response.map(|body| ResponseBody { body, signals }))
        }
        Action::Subscribe(subscription) => {
            if let Some(logged) = &mut logged {
                logged.streams(subscription.reading.last_event_id(), subscription.admitted.reader.as_deref());
            }
            Err(Subscription { logged, ..subscription })
        }
    }
}

/// The answer to a request whose body was perhaps not wanted: where that does not end soon the connection ends, and the
/// answer says so.
async fn after_body(response: HttpResponse, rest: &Rest, signals: &Arc<Signals>, longest: Duration) -> HttpResponse {
    let is_last = response.headers().contains_key(header::CONNECTION);
    let longest = if is_last { Duration::ZERO } else { longest };
    if rest.is_read(signals, longest).await { response } else { response::last(response) }
}

/// Does with the socket what is to be done now that HTTP is over.
async fn leave_http<S>(
    context: &Arc<Context>,
    parts: http1::Parts<TokioIo<Socket>, S>,
    signals: &Signals,
    done: Done,
    admission: Admission,
) {
    let (mut socket, read) = (parts.io.into_inner(), &parts.read_buf);
    let answer = match &done {
        // Else the client has an answer, or part of one.
        Done::Closed(closed) if !signals.is_open() => {
            let fault = Fault::of(closed.as_ref().err(), socket.refused());
            let why = closed.as_ref().err().map(ToString::to_string).unwrap_or_default();
            fault.and_then(|fault| context.unreadable(fault, &why, read, admission.peer))
        }
        _ => None,
    };
    socket.take_over();
    signals.cut(match &done {
        Done::TooSlow => "stalled",
        Done::Closed(Err(error)) if is_stall(error) => "stalled",
        Done::Closed(_) | Done::Subscribed(_) | Done::Idle => "gone",
    });
    match done {
        Done::Subscribed(subscription) => hand_over(context, socket, subscription, admission),
        Done::TooSlow => socket.reset(),
        Done::Closed(_) if let Some(answer) = answer => {
            let _ = timeout(LINGERING_CLOSE, say_last(socket, &answer)).await;
        }
        Done::Idle => {}
        Done::Closed(_) => tokio::select! {
            biased;
            // It has everything, and the server does not wait.
            () = context.until_closing(), if !signals.body_cut() => {}
            _ = timeout(LINGERING_CLOSE, close(socket)) => {}
        },
    }
}

/// Whether the kernel has given the client up, which took nothing for `stall_timeout` (`listener`).
fn is_stall(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::TimedOut)
}

/// Writes the last answer of a connection, and closes it.
async fn say_last(mut socket: Socket, answer: &[u8]) -> std::io::Result<()> {
    socket.write_all(answer).await?;
    close(socket).await
}

/// Closes our end and reads what is still on its way: closing with unread bytes would reset the
/// connection, and the reset may destroy the last answer before it is read.
async fn close(mut socket: Socket) -> std::io::Result<()> {
    socket.shutdown().await?;
    let (mut left, mut buffer) = (MAX_UNREAD_BYTES, [0; 4096]);
    while left > 0 {
        match socket.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Gives the socket to a shard, the next in turn that still runs; where none does it is closed.
fn hand_over(context: &Arc<Context>, socket: Socket, subscription: Subscription, admission: Admission) {
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
