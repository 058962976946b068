//! One accepted connection, as long as HTTP has it.
//!
//! hyper parses. When a request is a subscription, the service notes so in a cell and stays
//! pending; whoever polls the connection sees the note, takes the socket out of hyper and hands it
//! to a shard, which writes the response head itself. Bytes the reader sent beyond its request are
//! dropped with hyper's buffer: on a connection that is a subscription it has nothing to say, and
//! a pipelined request on it is ignored. A response still unflushed cannot be lost: hyper flushes
//! it before it reads the next head.

use std::future::{pending, poll_fn};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use parking_lot::Mutex;
use hyper_util::rt::{TokioIo, TokioTimer};
use sse_fast_core::event::NewEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::calls::Answer;
use crate::directory::Directory;
use crate::respond::{Context, Outcome, Subscription};
use crate::response::Refusal;
use crate::shard::{Arrival, Order};
use crate::socket::{AnswerBody, Socket, Wait};
use crate::stream::Stream;

/// The most bytes of a request's head; beyond it is a 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long a refused connection may take to read why, and how much it may still send meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);
const MAX_UNREAD_BYTES: usize = 256 * 1024;

/// What the service noted instead of answering.
enum Note {
    Subscribe(Subscription),
    Shed,
}

/// How HTTP was done with a connection.
enum Done {
    Noted(Note),
    /// The reader closed, or hyper could not go on.
    Closed(hyper::Result<()>),
}

/// A connection counts as parsing until this is dropped.
struct Parsing(Arc<Directory>);

impl Parsing {
    fn new(hub: &Arc<Directory>) -> Self {
        hub.totals.parsing.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(hub))
    }
}

impl Drop for Parsing {
    fn drop(&mut self) {
        if self.0.totals.parsing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.totals.answered.notify_waiters();
        }
    }
}

/// Begins a connection that was just accepted.
pub(crate) fn begin(context: Arc<Context>, socket: TcpStream, peer: SocketAddr) {
    let wait = Arc::new(Wait::default());
    let mut socket = Socket::new(socket, Arc::clone(&wait));
    let parsing = Parsing::new(&context.hub);
    if socket.read_ahead() {
        tokio::spawn(serve(context, socket, wait, peer, parsing));
    } else {
        tokio::spawn(async move {
            // Boxed, so that a connection that says nothing costs little.
            if let Ok(Ok(())) = timeout(context.hub.config.header_timeout, socket.readable()).await {
                Box::pin(serve(context, socket, wait, peer, parsing)).await;
            }
        });
    }
}

/// Serves a connection until it closes or a shard has it.
async fn serve(context: Arc<Context>, socket: Socket, wait: Arc<Wait>, peer: SocketAddr, parsing: Parsing) {
    let note = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (context, note, wait) = (Arc::clone(&context), Arc::clone(&note), Arc::clone(&wait));
        wait.answers.open();
        Box::pin(async move {
            let noted = match context.respond(request, peer).await {
                Outcome::Respond(reply) => {
                    return Ok::<_, std::convert::Infallible>(reply.map(|body| AnswerBody { body, wait }));
                }
                Outcome::Subscribe(subscription) => Note::Subscribe(subscription),
                Outcome::Shed => Note::Shed,
            };
            *note.lock() = Some(noted);
            pending().await
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(context.hub.config.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let done = poll_fn(|cx| {
        loop {
            let polled = connection.poll_without_shutdown(cx);
            if let Some(noted) = note.lock().take() {
                return Poll::Ready(Done::Noted(noted));
            }
            if polled.is_ready() || !wait.must_poll_again() {
                return polled.map(Done::Closed);
            }
        }
    })
    .await;
    let socket = connection.into_parts().io.into_inner();
    match done {
        Done::Noted(Note::Subscribe(subscription)) => hand_over(&context, socket, subscription),
        Done::Noted(Note::Shed) => {}
        Done::Closed(Err(error)) if wait.answers.held() => {
            wait.answers.open();
            drop(timeout(FAREWELL, refuse(socket, &error)).await);
        }
        Done::Closed(_) => drop(timeout(FAREWELL, part(socket)).await),
    }
    drop(parsing);
}

/// Says why a request could not be parsed, and parts.
async fn refuse(mut socket: Socket, error: &hyper::Error) -> std::io::Result<()> {
    let refusal = if error.is_parse_too_large() {
        let detail = format!("the head of a request may have at most {MAX_HEAD_BYTES} bytes and 100 headers");
        Refusal::new(431, "head_too_large", detail).with("limit", MAX_HEAD_BYTES)
    } else {
        Refusal::new(400, "bad_request", format!("this cannot be read as a request: {error}"))
    };
    socket.write_all(&refusal.into_last_bytes()).await?;
    part(socket).await
}

/// Closes our end and reads what is still on its way: closing with unread bytes would reset the
/// connection, and the reset may destroy the refusal before it is read.
async fn part(mut socket: Socket) -> std::io::Result<()> {
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
fn hand_over(context: &Arc<Context>, socket: Socket, subscription: Subscription) {
    let Ok(socket) = socket.into_std() else { return };
    let Subscription { claim, last_event_id, framing, head, later } = subscription;
    let (shards, stream) = (context.hub.shards(), claim.stream().clone());
    let first = context.hub.totals.handed_over.fetch_add(1, Ordering::Relaxed);
    let again = later.is_some().then(|| last_event_id.clone());
    let socket = mio::net::TcpStream::from_std(socket);
    let mut arrival = Arrival { socket, claim, last_event_id, framing, head };
    for number in (0..shards.len()).map(|next| (first + next) % shards.len()) {
        match shards[number].subscribe(arrival) {
            Ok(is_first) => {
                if is_first {
                    let shard = shards[number].clone();
                    // Behind the other connections of this batch: one wake-up serves them all.
                    tokio::spawn(async move { shard.ring() });
                }
                if let Some((answer, last_event_id)) = later.zip(again) {
                    tokio::spawn(follow_up(Arc::clone(context), number, stream, last_event_id, answer));
                }
                return;
            }
            Err(returned) => arrival = returned,
        }
    }
}

/// A handler whose head went out early has answered: its stream, or an error in the stream's form. Whoever leaves before
/// that ends it: nobody wants the answer then.
async fn follow_up(
    context: Arc<Context>,
    shard: usize,
    waiting: Stream,
    last_event_id: Option<Box<str>>,
    mut answer: oneshot::Receiver<Answer>,
) {
    let emptied = waiting.emptied();
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = emptied => return,
    };
    match answer {
        Ok(Answer::Stream(stream)) if context.owns(&stream) => {
            let order = Order::Move { from: waiting, to: stream, last_event_id };
            context.hub.shards()[shard].order(order);
        }
        Ok(Answer::Response { status, body, .. }) => {
            let data = String::from_utf8_lossy(&body);
            let event = Some(if status < 400 { "message" } else { "error" });
            let _ = waiting.publish(&NewEvent { data: data.as_bytes(), event, ..NewEvent::default() });
            let _ = waiting.end(b"null", "end");
        }
        Ok(Answer::Stream(_)) | Err(_) => {
            let detail = br#"{"error":"internal","detail":"the handler failed; see the server's log"}"#;
            let _ = waiting.end(detail, "error");
        }
    }
}
