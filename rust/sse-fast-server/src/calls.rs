//! Calls from the engine to the application's own threads.
//!
//! Owns the queue of calls, and the ways back for their answers. Must not know: requests, routes,
//! sockets, and what a thread does with a call. Engine threads never run application code: they put a
//! call in the queue, threads of the application take calls and answer them.
//! Invariants: calls are taken in the order they came. A call is in the queue only as long as somebody
//! wants its answer: dropping its [`Pending`] or [`QueuedCall`] takes it out, with its body, wherever
//! it stands. A call that is dropped unanswered is an answer, too: the request gets a 500.
//! Changes together with `handler_call` and `route_stream`, which put calls in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::stream::{HandedOut, Stream};

/// A request as a handler sees it.
#[derive(Clone, Debug)]
pub struct RequestParts {
    /// `GET` or `POST`.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// What the template's placeholders matched.
    pub params: Vec<(String, String)>,
    /// The query's pairs, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
    /// Who asks.
    pub client: Option<SocketAddr>,
}

/// What a handler answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Stream(HandedOut),
    Response { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
}

/// Where a handler's answer goes. Dropping it answers 500.
#[derive(Debug)]
pub struct Reply(pub(crate) oneshot::Sender<Answer>);

impl Reply {
    /// The response is this stream.
    pub fn stream(self, stream: &Stream) {
        // The connection may be gone; then the answer is dropped.
        let _ = self.0.send(Answer::Stream(stream.hand_out()));
    }

    /// The response is this.
    pub fn response(self, status: u16, headers: Vec<(String, String)>, body: Vec<u8>) {
        let _ = self.0.send(Answer::Response { status, headers, body });
    }
}

/// The most questions whether a stream exists that are asked at a time: a quarter of the threads that answer calls by
/// default, so that handlers do not wait behind a storm of unknown names.
const MAX_CHECKS: usize = 4;

/// Where the answer to "does it exist" goes. Dropping it answers no.
#[derive(Debug)]
pub struct ExistsReply {
    answer: oneshot::Sender<bool>,
    /// Held until the application is done with the question, whether the answer is still wanted or not.
    _permit: Option<OwnedSemaphorePermit>,
}

impl ExistsReply {
    pub(crate) fn new(answer: oneshot::Sender<bool>, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { answer, _permit: permit }
    }

    /// Answers.
    pub fn answer(self, exists: bool) {
        // The readers that asked may be gone; then the answer is dropped.
        let _ = self.answer.send(exists);
    }
}

/// One call.
#[derive(Debug)]
pub enum Call {
    /// A request for the handler registered under `key`.
    Handler {
        /// The key given with the handler.
        key: u64,
        /// The request.
        request: RequestParts,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Whether the stream of this name exists, for the route registered under `key`.
    Exists {
        /// The key given with the route.
        key: u64,
        /// The stream's name.
        stream: String,
        /// Where the answer goes.
        reply: ExistsReply,
    },
}

/// What waiting for a call brought.
#[derive(Debug)]
pub enum Received {
    /// A call.
    Call(Call),
    /// Nothing within the time given.
    Timeout,
    /// There will be no more.
    Closed,
}

/// The queue of calls; a handle, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<CallQueue>);

#[derive(Debug)]
struct CallQueue {
    /// Protects the queue; held for a push or a pop only. No call is dropped under it.
    queue: Mutex<Queue>,
    /// Tells one waiting thread that there is a call.
    news: Condvar,
    /// Permits to ask whether a stream exists; fair, and closed with the queue.
    checks: Arc<Semaphore>,
}

impl Default for CallQueue {
    fn default() -> Self {
        Self { queue: Mutex::default(), news: Condvar::new(), checks: Arc::new(Semaphore::new(MAX_CHECKS)) }
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// By the number each call was given: the first is the next to be taken, and any can be taken out.
    waiting: BTreeMap<u64, Call>,
    /// The number of the next call.
    next: u64,
    closed: bool,
}

/// A call's entry in the queue; dropping it takes the call out, unless a thread has it already.
#[derive(Debug)]
#[must_use = "dropping it takes the call out of the queue"]
pub(crate) struct QueuedCall {
    calls: Calls,
    number: u64,
}

impl QueuedCall {
    /// Takes the call out of the queue; false where a thread has it already.
    fn withdraw(&self) -> bool {
        // The lock is let go before the call is dropped.
        let call = self.calls.0.queue.lock().waiting.remove(&self.number);
        call.is_some()
    }
}

impl Drop for QueuedCall {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The answer of a handler's call, to be awaited; `Err` where the call was dropped unanswered.
/// Dropping it takes a call that has not begun out of the queue.
#[derive(Debug)]
pub(crate) struct Pending {
    answer: oneshot::Receiver<Answer>,
    entry: QueuedCall,
}

impl Pending {
    /// Takes the call out of the queue; false where a thread has it already.
    pub(crate) fn withdraw(&self) -> bool {
        self.entry.withdraw()
    }
}

impl Future for Pending {
    type Output = Result<Answer, oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx)
    }
}

impl Calls {
    /// Waits for the permit to ask whether a stream exists; once closed there is none, and none is needed.
    pub(crate) async fn may_check(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.checks).acquire_owned().await.ok()
    }

    /// Asks the handler registered under `key`.
    pub(crate) fn ask_handler(&self, key: u64, request: RequestParts) -> Pending {
        let (sender, answer) = oneshot::channel();
        let entry = self.put(Call::Handler { key, request, reply: Reply(sender) });
        Pending { answer, entry }
    }

    /// Puts a call in; once closed it is dropped, which answers it.
    pub(crate) fn put(&self, call: Call) -> QueuedCall {
        let mut queue = self.0.queue.lock();
        let number = queue.next;
        queue.next += 1;
        let refused = if queue.closed { Some(call) } else { queue.waiting.insert(number, call) };
        debug_assert!(refused.is_none() || queue.closed, "numbers are given once");
        drop(queue);
        drop(refused);
        self.0.news.notify_one();
        QueuedCall { calls: self.clone(), number }
    }

    /// Waits up to `timeout` for a call; several threads may wait.
    pub fn receive(&self, timeout: Duration) -> Received {
        let mut queue = self.0.queue.lock();
        let empty = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        // Whether the time is over does not matter: what counts is what is there now.
        let _ = self.0.news.wait_while_for(&mut queue, empty, timeout);
        match queue.waiting.pop_first() {
            Some((_, call)) => Received::Call(call),
            None if queue.closed => Received::Closed,
            None => Received::Timeout,
        }
    }

    /// Says that no more calls will come; what waits is dropped, which answers it.
    pub fn close(&self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        self.0.checks.close();
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
        self.0.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> RequestParts {
        RequestParts {
            method: "POST".to_owned(),
            path: path.to_owned(),
            params: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            client: None,
        }
    }

    /// The path of the next call and where its answer goes.
    fn next(calls: &Calls) -> Option<(String, Reply)> {
        match calls.receive(Duration::ZERO) {
            Received::Call(Call::Handler { request, reply, .. }) => Some((request.path, reply)),
            _ => None,
        }
    }

    #[test]
    fn a_call_whose_answer_is_unwanted_leaves_the_queue_wherever_it_stands() {
        let calls = Calls::default();
        let mut pending: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| calls.ask_handler(1, request(path))).into();
        drop(pending.remove(2));
        drop(pending.remove(0));
        assert_eq!(next(&calls).map(|(path, _)| path).as_deref(), Some("/b"));
        assert_eq!(pending.iter().map(Pending::withdraw).collect::<Vec<_>>(), [false, true]);
        assert!(next(&calls).is_none());
    }

    #[test]
    fn a_call_that_a_thread_has_is_answered_and_one_that_is_dropped_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let calls = Calls::default();
        let (answered, dropped) = (calls.ask_handler(1, request("/a")), calls.ask_handler(1, request("/b")));
        let (_, reply) = next(&calls).expect("a call");
        reply.response(201, Vec::new(), Vec::new());
        calls.close();
        assert!(matches!(runtime.block_on(answered), Ok(Answer::Response { status: 201, .. })));
        assert!(runtime.block_on(dropped).is_err());
        assert!(runtime.block_on(calls.ask_handler(1, request("/c"))).is_err(), "closed");
        assert!(matches!(calls.receive(Duration::ZERO), Received::Closed));
    }
}
