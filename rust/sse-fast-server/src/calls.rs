//! Calls from the engine to the application's own threads.
//!
//! Engine threads never run application code: a request for a handler, or the question whether a
//! stream exists, is put in a queue; threads of the application wait for calls, and answer through
//! the call itself. Dropping a call unanswered is an answer, too: the request gets a 500.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::stream::Stream;

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
    Stream(Stream),
    Response { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
}

/// Where a handler's answer goes. Dropping it answers 500.
#[derive(Debug)]
pub struct Reply(pub(crate) oneshot::Sender<Answer>);

impl Reply {
    /// The response is this stream.
    pub fn stream(self, stream: &Stream) {
        // The connection may be gone; then nobody wants the answer.
        let _ = self.0.send(Answer::Stream(stream.clone()));
    }

    /// The response is this.
    pub fn response(self, status: u16, headers: Vec<(String, String)>, body: Vec<u8>) {
        let _ = self.0.send(Answer::Response { status, headers, body });
    }

    /// Whether the connection that asked is gone.
    pub fn abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

/// The most questions whether a stream exists that are asked at a time: a quarter of the threads that answer calls by
/// default, so that handlers do not wait behind a storm of names that nobody knows.
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
        // Whoever asked may be gone; then nobody wants the answer.
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
pub struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Protects the queue; held for a push or a pop only.
    queue: Mutex<Queue>,
    /// Tells one waiting thread that there is a call.
    news: Condvar,
    /// Permits to ask whether a stream exists; fair, and closed with the queue.
    checks: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { queue: Mutex::default(), news: Condvar::new(), checks: Arc::new(Semaphore::new(MAX_CHECKS)) }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Call>,
    closed: bool,
}

impl Queue {
    /// Drops the questions at the front that nobody wants an answer to any more. Under the lock: it wakes at most a
    /// task that waits for a permit, and runs nothing.
    fn drop_unwanted(&mut self) {
        let unwanted = |call: &Call| matches!(call, Call::Exists { reply, .. } if reply.answer.is_closed());
        while self.waiting.front().is_some_and(unwanted) {
            self.waiting.pop_front();
        }
    }
}

impl Calls {
    /// Waits for the permit to ask whether a stream exists; there is none once closed, and no need of one.
    pub(crate) async fn may_check(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.checks).acquire_owned().await.ok()
    }

    /// Puts a call in; once closed it is dropped, which answers it.
    pub(crate) fn put(&self, call: Call) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.closed {
            queue.waiting.push_back(call);
            drop(queue);
            self.0.news.notify_one();
        }
    }

    /// Waits up to `timeout` for a call; several threads may wait.
    pub fn receive(&self, timeout: Duration) -> Received {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut queue, _) = self
            .0
            .news
            .wait_timeout_while(queue, timeout, |queue| {
                queue.drop_unwanted();
                queue.waiting.is_empty() && !queue.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        match queue.waiting.pop_front() {
            Some(call) => Received::Call(call),
            None if queue.closed => Received::Closed,
            None => Received::Timeout,
        }
    }

    /// Says that no more calls will come; what waits is dropped, which answers it.
    pub fn close(&self) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        self.0.checks.close();
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
        self.0.news.notify_all();
    }
}
