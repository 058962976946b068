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
use tokio::sync::oneshot;

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

/// Where the answer to "does it exist" goes. Dropping it answers no.
#[derive(Debug)]
pub struct ExistsReply(pub(crate) oneshot::Sender<bool>);

impl ExistsReply {
    /// Answers.
    pub fn answer(self, exists: bool) {
        let _ = self.0.send(exists);
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

#[derive(Debug, Default)]
struct Shared {
    /// Protects the queue; held for a push or a pop only.
    queue: Mutex<Queue>,
    /// Tells one waiting thread that there is a call.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Call>,
    closed: bool,
}

impl Calls {
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
            .wait_timeout_while(queue, timeout, |queue| queue.waiting.is_empty() && !queue.closed)
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
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
        self.0.news.notify_all();
    }
}
