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
use std::task::{self, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::admission::{Admission, ToldPlace};
use crate::directory::Counted;
use crate::hand_over::hand_over;
use crate::respond::{Action, Context, Subscription};
use crate::response::{self, HttpResponse};
use crate::socket::{BodyFraming, Pace, RequestBody, ResponseBody, Rest, Signals, Socket};
use crate::unreadable::Fault;

/// How long a connection that we close may take to read the last answer, and how much it may still send.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// How long the rest of a body that nobody wanted is waited for, so that its connection can go on: clients that send it at
/// all send it right behind the head.
const UNWANTED_REST: Duration = Duration::from_millis(100);
const MAX_UNREAD_BYTES: usize = 256 * 1024;
/// The same where a body was given up before its end, as one that is too large: most clients send all of it before they read
/// the answer. It is read and kept nowhere; one that is larger still, or slower, is cut.
const LINGERING_BODY: Duration = Duration::from_secs(2);
const MAX_UNREAD_BODY_BYTES: usize = 32 << 20;

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
    let (noted, mut closing, mut flushing) = (Arc::new(Mutex::new(None)), Closing::NotYet, false);
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
    let done = poll_fn(|cx| {
        loop {
            let polled = poll_http(&mut connection, &mut flushing, &signals, cx);
            if let Some(done) = noted.lock().take() {
                return Poll::Ready(done);
            }
            if let Poll::Ready(result) = polled {
                return Poll::Ready(Done::Closed(result));
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

/// Polls hyper. Once it is done with reading it takes that for the end, with an answer in its buffer: that is written first.
fn poll_http<S>(
    connection: &mut http1::Connection<TokioIo<Socket>, S>,
    flushing: &mut bool,
    signals: &Signals,
    cx: &mut task::Context<'_>,
) -> Poll<hyper::Result<()>>
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible, Future: Unpin> + Unpin,
{
    if !*flushing {
        match connection.poll_without_shutdown(cx) {
            Poll::Ready(Ok(())) if signals.is_answered() => *flushing = true,
            polled => return polled,
        }
    }
    Pin::new(connection).poll(cx)
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
        Done::Closed(_) if signals.body_cut() => {
            let _ = timeout(LINGERING_BODY, close(socket, MAX_UNREAD_BODY_BYTES)).await;
        }
        Done::Closed(_) => tokio::select! {
            biased;
            // It has everything, and the server does not wait.
            () = context.until_closing() => {}
            _ = timeout(LINGERING_CLOSE, close(socket, MAX_UNREAD_BYTES)) => {}
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
    close(socket, MAX_UNREAD_BYTES).await
}

/// Closes our end and reads what is still on its way, `left` bytes at most: closing with unread bytes would reset the
/// connection, and the reset may destroy the last answer before it is read.
async fn close(mut socket: Socket, mut left: usize) -> std::io::Result<()> {
    socket.shutdown().await?;
    let mut buffer = [0; 4096];
    while left > 0 {
        match socket.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
