//! Calls from the engine to the application's own threads.
//!
//! Owns the queues of calls, one for each [`Lane`], and the ways back for their answers. Must not know: requests, routes,
//! sockets, and what a thread does with a call. Engine threads never run application code: they put a
//! call in a queue, threads of the application take calls and answer them.
//! Invariants: calls of a lane are taken in the order they came. A call is in a queue only as long as somebody
//! wants its answer: dropping its [`Pending`] or [`QueuedCall`] takes it out, with its body, wherever
//! it stands. A call that is dropped unanswered is an answer, too: the request gets a 500; one that a closing server did
//! not begin is told so ([`Answer::NotBegun`]). No more handlers' calls wait
//! than [`Limits`] allow. Who took a call can tell that its answer is no
//! longer wanted, nor the stream read that a generator fills; an event loop is told ([`Received::Lost`]).
//! Changes together with `handler_call` and `route_stream`, which put calls in.
//! This file is long because its tests are in it: they hold the ends of a call that nothing else may make.

mod queue;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use self::queue::Limits;
use self::queue::{Queue, Refused, Taken};
use crate::stream::{HandedOut, Stream};

/// Names with their values, in order.
pub type Pairs = Vec<(String, String)>;

/// Which threads of the application take a call, so that none of these kinds waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A fixed number of threads, each busy with one call at a time.
    Threads,
    /// One thread, which hands calls to an event loop.
    Loop,
    /// A thread for each call, as long as its generator runs.
    Generators,
    /// A fixed number of threads, for nothing but deciding who may read.
    Checks,
}

/// A request as a handler sees it.
#[derive(Clone, Debug)]
pub struct RequestParts {
    /// The method; `GET` for a `HEAD`.
    pub method: String,
    /// The path, percent-decoded.
    pub path: String,
    /// What the template's placeholders matched.
    pub params: Pairs,
    /// The query's pairs, decoded, in order.
    pub query: Pairs,
    /// The headers, names in lower case, in order.
    pub headers: Pairs,
    /// The whole body.
    pub body: Bytes,
    /// Who asks.
    pub client: Option<SocketAddr>,
}

/// What a handler answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The response is this stream; `reading` where a generator fills it, to be dropped when nobody reads it.
    Stream {
        stream: HandedOut,
        headers: Pairs,
        reading: Option<Interest>,
    },
    Response {
        status: u16,
        headers: Pairs,
        body: Vec<u8>,
    },
    /// A check lets the request in.
    Admitted {
        reader: Option<String>,
        ttl: Option<Duration>,
    },
    /// A check does not.
    Denied,
    /// The server closes, and the handler was not called.
    NotBegun,
}

/// What a call shares with those who want something of it. It leads back to the queue that holds the call only until that
/// is taken or the queue closed.
#[derive(Debug)]
struct Wanted {
    calls: Calls,
    lane: Lane,
    number: u64,
    /// Set once. Relaxed: it orders nothing; who reads it stops a little sooner or later.
    lost: AtomicBool,
}

/// That somebody wants a call's answer, or reads the stream that its generator fills. Dropping it tells who took the call
/// that nobody does any more.
#[derive(Debug)]
#[must_use = "dropping it says that nobody is interested"]
pub(crate) struct Interest(Option<Arc<Wanted>>);

impl Interest {
    /// What was wanted is there.
    fn satisfied(mut self) {
        self.0 = None;
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let Some(wanted) = self.0.take() else { return };
        let told = wanted.lost.swap(true, Ordering::Relaxed);
        if wanted.lane == Lane::Loop && !told {
            wanted.calls.lane(Lane::Loop).lose(wanted.number);
        }
    }
}

/// Where a handler's answer goes. Dropping it answers 500.
#[derive(Debug)]
pub struct Reply {
    /// `None` once it was answered.
    answer: Option<oneshot::Sender<Answer>>,
    wanted: Arc<Wanted>,
    /// Whether a thread has taken the call.
    begun: bool,
}

impl Reply {
    /// The call's number in its lane; [`Received::Lost`] names it.
    pub fn number(&self) -> u64 {
        self.wanted.number
    }

    /// What tells, later too, whether the answer is still wanted, or the stream read that a generator fills.
    pub fn watched(&self) -> Watched {
        Watched(Arc::clone(&self.wanted))
    }

    /// The response is this stream, with these headers besides its own.
    pub fn stream(self, stream: &Stream, headers: Pairs) {
        self.send(Answer::Stream { stream: stream.hand_out(), headers, reading: None });
    }

    /// The response is this stream, which a generator fills as long as somebody reads it.
    pub fn generated(self, stream: &Stream, headers: Pairs) {
        let reading = Some(Interest(Some(Arc::clone(&self.wanted))));
        self.send(Answer::Stream { stream: stream.hand_out(), headers, reading });
    }

    /// The request may read what it asked for, as this reader, for so long.
    pub fn admit(self, reader: Option<String>, ttl: Option<Duration>) {
        self.send(Answer::Admitted { reader, ttl });
    }

    /// It may not.
    pub fn deny(self) {
        self.send(Answer::Denied);
    }

    /// The response is this.
    pub fn response(self, status: u16, headers: Pairs, body: Vec<u8>) {
        self.send(Answer::Response { status, headers, body });
    }

    fn send(mut self, answer: Answer) {
        if let Some(sender) = self.answer.take() {
            // The connection may be gone; then the answer is dropped.
            let _ = sender.send(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.begun {
            self.wanted.calls.lane(self.wanted.lane).end();
        }
    }
}

/// See [`Reply::watched`].
#[derive(Clone, Debug)]
pub struct Watched(Arc<Wanted>);

impl Watched {
    /// Whether the answer is no longer wanted, or the generator's stream no longer read.
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Relaxed)
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
    /// Whether a request may read the streams of these names, for the check registered under `key`.
    Check {
        /// The key given with the check.
        key: u64,
        /// The streams' names.
        names: Vec<String>,
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
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is received")]
pub enum Received {
    /// A call.
    Call(Call),
    /// The answer of the call with this number, which was taken, is no longer wanted, or its generator's stream no longer
    /// read. Only of the lane [`Lane::Loop`]; a number may be of a call that has ended.
    Lost(u64),
    /// Nothing within the time given.
    Timeout,
    /// There will be no more.
    Closed,
}

/// A lane has as many calls as may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The number of no call.
const NO_NUMBER: u64 = u64::MAX;

/// The queues of calls; a handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Queues>);

#[derive(Debug)]
struct Queues {
    threads: Queue<Call>,
    event_loop: Queue<Call>,
    generators: Queue<Call>,
    rights: Queue<Call>,
    limits: Limits,
    /// Permits to ask whether a stream exists; fair, and closed with the queues.
    checks: Arc<Semaphore>,
    /// Has no permits; closed once no more calls begin.
    refusing: Semaphore,
    /// Has no permits; closed once the answers of calls under way are too late.
    cutting_off: Semaphore,
}

/// A call's entry in its queue; dropping it takes the call out, unless a thread has it already.
#[derive(Debug)]
#[must_use = "dropping it takes the call out of the queue"]
pub(crate) struct QueuedCall {
    calls: Calls,
    lane: Lane,
    number: u64,
}

impl QueuedCall {
    /// Takes the call out of the queue; false where a thread has it already.
    fn withdraw(&self) -> bool {
        self.calls.lane(self.lane).take_out(self.number).is_some()
    }
}

impl Drop for QueuedCall {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The answer of a handler's call, to be awaited; `Err` where the call was dropped unanswered.
/// Dropping it takes a call that has not begun out of the queue, and tells who took one that has.
#[derive(Debug)]
pub(crate) struct Pending {
    answer: oneshot::Receiver<Answer>,
    entry: QueuedCall,
    /// `None` once the answer is there.
    interest: Option<Interest>,
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
        let polled = Pin::new(&mut self.answer).poll(cx);
        if polled.is_ready()
            && let Some(interest) = self.interest.take()
        {
            interest.satisfied();
        }
        polled
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.entry.withdraw()
            && let Some(interest) = self.interest.take()
        {
            interest.satisfied();
        }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Calls {
    /// Empty queues.
    pub fn new(limits: Limits) -> Self {
        // A thread is busy with what it took; an event loop would take all there is.
        let [threads, event_loop, generators, rights] = [None, Some(limits.calls), None, None].map(Queue::new);
        let checks = Arc::new(Semaphore::new(MAX_CHECKS));
        let [refusing, cutting_off] = [0, 0].map(Semaphore::new);
        Self(Arc::new(Queues { threads, event_loop, generators, rights, limits, checks, refusing, cutting_off }))
    }

    fn lane(&self, lane: Lane) -> &Queue<Call> {
        match lane {
            Lane::Threads => &self.0.threads,
            Lane::Loop => &self.0.event_loop,
            Lane::Generators => &self.0.generators,
            Lane::Checks => &self.0.rights,
        }
    }

    /// Waits for the permit to ask whether a stream exists; once closed there is none, and none is needed.
    pub(crate) async fn may_check(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.checks).acquire_owned().await.ok()
    }

    /// Waits until no more calls begin.
    pub(crate) async fn until_refused(&self) {
        // There are no permits: it ends with an error.
        let _ = self.0.refusing.acquire().await;
    }

    /// Waits until answers are too late.
    pub(crate) async fn until_cut_off(&self) {
        // As above.
        let _ = self.0.cutting_off.acquire().await;
    }

    /// Whether no handler's call may wait in this lane now.
    pub(crate) fn is_full(&self, lane: Lane) -> bool {
        self.lane(lane).is_full(self.0.limits)
    }

    /// Asks the handler registered under `key`.
    pub(crate) fn ask_handler(&self, lane: Lane, key: u64, request: RequestParts) -> Result<Pending, Full> {
        self.ask(lane, |reply| Call::Handler { key, request, reply })
    }

    /// Asks the check registered under `key` whether the request may read the streams of these names.
    pub(crate) fn ask_check(
        &self,
        lane: Lane,
        key: u64,
        names: Vec<String>,
        request: RequestParts,
    ) -> Result<Pending, Full> {
        self.ask(lane, |reply| Call::Check { key, names, request, reply })
    }

    fn ask(&self, lane: Lane, call: impl FnOnce(Reply) -> Call) -> Result<Pending, Full> {
        let (sender, mut answer) = oneshot::channel();
        let mut interest = None;
        let put = self.lane(lane).put(Some(self.0.limits), |number| {
            let lost = AtomicBool::new(false);
            let wanted = Arc::new(Wanted { calls: self.clone(), lane, number, lost });
            interest = Some(Interest(Some(Arc::clone(&wanted))));
            call(Reply { answer: Some(sender), wanted, begun: false })
        });
        let number = match put {
            Ok(number) => number,
            Err(Refused::Full) => return Err(Full),
            Err(Refused::Closed) => NO_NUMBER,
        };
        if number == NO_NUMBER {
            // The way back went with the call that was not made.
            let (sender, refused) = oneshot::channel();
            let _ = sender.send(Answer::NotBegun);
            answer = refused;
        }
        Ok(Pending { answer, entry: QueuedCall { calls: self.clone(), lane, number }, interest })
    }

    /// Asks whether a stream exists; once closed the question is dropped, which answers it.
    pub(crate) fn ask_exists(&self, key: u64, stream: String, reply: ExistsReply) -> QueuedCall {
        let put = self.lane(Lane::Threads).put(None, |_| Call::Exists { key, stream, reply });
        QueuedCall { calls: self.clone(), lane: Lane::Threads, number: put.unwrap_or(NO_NUMBER) }
    }

    /// Waits up to `timeout` for a call of this lane; several threads may wait.
    pub fn receive(&self, lane: Lane, timeout: Duration) -> Received {
        match self.lane(lane).receive(timeout) {
            Taken::Item(mut call) => {
                if let Call::Handler { reply, .. } | Call::Check { reply, .. } = &mut call {
                    reply.begun = true;
                }
                Received::Call(call)
            }
            Taken::Lost(number) => Received::Lost(number),
            Taken::Timeout => Received::Timeout,
            Taken::Closed => Received::Closed,
        }
    }

    /// Begins no more calls, and answers those that wait; those under way go on. How many were answered so.
    pub(crate) fn refuse(&self) -> usize {
        self.0.checks.close();
        self.0.refusing.close();
        LANES.into_iter().map(|lane| refused(self.lane(lane).refuse())).sum()
    }

    /// Says that the answers of calls under way are too late: their requests are answered without them.
    pub(crate) fn cut_off(&self) {
        self.0.cutting_off.close();
    }

    /// Says that no more calls will come; what waits is answered.
    pub fn close(&self) {
        self.0.checks.close();
        self.0.refusing.close();
        for lane in LANES {
            refused(self.lane(lane).close());
        }
    }
}

const LANES: [Lane; 4] = [Lane::Threads, Lane::Loop, Lane::Generators, Lane::Checks];

/// Answers calls that were not begun; the number of those that were for handlers. Checks are answered by being dropped.
fn refused(waiting: BTreeMap<u64, Call>) -> usize {
    let mut handlers = 0;
    for call in waiting.into_values() {
        if let Call::Handler { reply, .. } | Call::Check { reply, .. } = call {
            reply.send(Answer::NotBegun);
            handlers += 1;
        }
    }
    handlers
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

    fn ask(calls: &Calls, lane: Lane, path: &str) -> Pending {
        calls.ask_handler(lane, 1, request(path)).expect("room")
    }

    /// The path of the lane's next call and where its answer goes.
    fn next(calls: &Calls, lane: Lane) -> Option<(String, Reply)> {
        match calls.receive(lane, Duration::ZERO) {
            Received::Call(Call::Handler { request, reply, .. }) => Some((request.path, reply)),
            _ => None,
        }
    }

    #[test]
    fn a_call_whose_answer_is_unwanted_leaves_the_queue_wherever_it_stands() {
        let calls = Calls::default();
        let mut pending: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| ask(&calls, Lane::Threads, path)).into();
        drop(pending.remove(2));
        drop(pending.remove(0));
        let first = next(&calls, Lane::Threads);
        assert_eq!(first.as_ref().map(|(path, _)| path.as_str()), Some("/b"));
        assert_eq!(pending.iter().map(Pending::withdraw).collect::<Vec<_>>(), [false, true]);
        assert!(next(&calls, Lane::Threads).is_none());
    }

    #[test]
    fn a_call_that_a_thread_has_is_answered_and_one_that_is_dropped_is_an_error() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let calls = Calls::default();
        let (answered, dropped) = (ask(&calls, Lane::Threads, "/a"), ask(&calls, Lane::Threads, "/b"));
        let (_, reply) = next(&calls, Lane::Threads).expect("a call");
        reply.response(201, Vec::new(), Vec::new());
        calls.close();
        assert!(matches!(runtime.block_on(answered), Ok(Answer::Response { status: 201, .. })));
        assert!(matches!(runtime.block_on(dropped), Ok(Answer::NotBegun)));
        assert!(matches!(runtime.block_on(ask(&calls, Lane::Threads, "/c")), Ok(Answer::NotBegun)), "closed");
        assert!(matches!(calls.receive(Lane::Threads, Duration::ZERO), Received::Closed));
    }

    #[test]
    fn a_call_that_was_not_begun_is_told_so_when_calls_are_refused_and_one_that_was_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let calls = Calls::default();
        let (begun, waiting) = (ask(&calls, Lane::Threads, "/a"), ask(&calls, Lane::Threads, "/b"));
        let (_, reply) = next(&calls, Lane::Threads).expect("a call");
        assert_eq!(calls.refuse(), 1);
        let late = ask(&calls, Lane::Threads, "/c");
        reply.response(200, Vec::new(), Vec::new());
        assert!(matches!(runtime.block_on(begun), Ok(Answer::Response { status: 200, .. })));
        assert!(matches!(runtime.block_on(waiting), Ok(Answer::NotBegun)));
        assert!(matches!(runtime.block_on(late), Ok(Answer::NotBegun)));
        assert!(matches!(calls.receive(Lane::Threads, Duration::ZERO), Received::Timeout), "it is not closed");
    }

    #[test]
    fn a_full_lane_takes_no_more_and_holds_up_no_other() {
        let calls = Calls::new(Limits { calls: 2 });
        let held = [ask(&calls, Lane::Threads, "/a"), ask(&calls, Lane::Threads, "/b")];
        assert!(calls.is_full(Lane::Threads) && !calls.is_full(Lane::Loop));
        assert_eq!(calls.ask_handler(Lane::Threads, 1, request("/c")).err(), Some(Full));
        drop(held);
        assert!(!calls.is_full(Lane::Threads), "what is dropped makes room");
        let exists = |calls: &Calls| calls.ask_exists(1, "s".to_owned(), ExistsReply::new(oneshot::channel().0, None));
        let questions = [exists(&calls), exists(&calls), exists(&calls)];
        assert!(matches!(calls.receive(Lane::Threads, Duration::ZERO), Received::Call(Call::Exists { .. })));
        drop(questions);
    }

    #[test]
    fn an_event_loop_gets_no_more_than_it_may_have_until_it_has_answered() {
        let calls = Calls::new(Limits { calls: 1 });
        let first = ask(&calls, Lane::Loop, "/a");
        let (_, reply) = next(&calls, Lane::Loop).expect("a call");
        let second = ask(&calls, Lane::Loop, "/b");
        assert!(next(&calls, Lane::Loop).is_none(), "one is under way");
        drop(reply);
        assert!(next(&calls, Lane::Loop).is_some());
        drop((first, second));
    }

    #[test]
    fn who_took_a_call_can_tell_that_nobody_wants_its_answer_and_an_event_loop_is_told() {
        let calls = Calls::default();
        let pending = [Lane::Threads, Lane::Loop].map(|lane| (lane, ask(&calls, lane, "/a")));
        for (lane, pending) in pending {
            let (_, reply) = next(&calls, lane).expect("a call");
            let watched = reply.watched();
            assert!(!watched.is_lost());
            drop(pending);
            assert!(watched.is_lost());
            match (lane, calls.receive(lane, Duration::ZERO)) {
                (Lane::Loop, Received::Lost(number)) => assert_eq!(number, reply.number()),
                (Lane::Threads, Received::Timeout) => {}
                (lane, other) => panic!("{lane:?} {other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_is_not_lost_and_a_call_that_was_never_taken_tells_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let calls = Calls::default();
        let answered = ask(&calls, Lane::Loop, "/a");
        drop(ask(&calls, Lane::Loop, "/b"));
        let (_, reply) = next(&calls, Lane::Loop).expect("a call");
        let watched = reply.watched();
        reply.response(200, Vec::new(), Vec::new());
        assert!(runtime.block_on(answered).is_ok() && !watched.is_lost());
        assert!(matches!(calls.receive(Lane::Loop, Duration::ZERO), Received::Timeout));
    }
}
