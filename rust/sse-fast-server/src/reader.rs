//! Reading a stream within this process.
//!
//! Owns: what a reader in the process is given, and its waiting. Must not know: who it is. The same cursor, gaps and end as
//! a subscriber on a socket has (`core::follow`). Invariants: it is never waited for, and where it falls out of the log it
//! gets a gap event, whatever `on_lag` says; it sees an event the moment it is published.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sse_fast_core::cursor::{self, Opening, Place};
use sse_fast_core::follow::{Follower, Step};
use sse_fast_core::gap::Gap;
use sse_fast_core::lag::Pace;
use sse_fast_core::options::Start;
use sse_fast_core::wire::{self, Decoded};

use crate::stream::{Inner, Stream};
use crate::sync::park_timeout;

/// A thread that waits tries again by itself this often. Nothing depends on it: news wakes it.
const TRY_AGAIN: Duration = Duration::from_secs(3600);

/// Where a reader begins.
#[derive(Clone, Debug)]
pub enum ReadFrom {
    /// Like a new subscriber; the stream's own `start` where none is given.
    Start(Option<Start>),
    /// Like a subscriber that resumes after this id.
    After(String),
}

/// What looking for the next event brought.
#[derive(Clone, Debug)]
pub enum ReadOutcome {
    /// An event, a snapshot or a gap.
    Event(Decoded),
    /// The terminal event was given, or the stream was removed.
    Ended,
    /// Nothing within the time given.
    Timeout,
    /// The server was closed.
    Closed,
}

/// A reading of one stream.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    follower: Follower,
    /// What comes before the log: gaps and the snapshot.
    ahead: VecDeque<Decoded>,
}

impl Stream {
    /// Begins to read.
    pub fn reader(&self, from: &ReadFrom) -> Reader {
        let stream = self.current();
        let inner = stream.lock();
        let opening = match from {
            ReadFrom::Start(start) => inner.open(None, *start),
            ReadFrom::After(id) => inner.open(Some(id), None),
        };
        let (ahead, follower) = opened(&inner, opening);
        drop(inner);
        Reader { stream: stream.clone(), follower, ahead }
    }
}

/// What comes before the log, and the place in that.
fn opened(inner: &Inner, opening: Opening) -> (VecDeque<Decoded>, Follower) {
    let (mut ahead, mut next) = (VecDeque::new(), inner.state.newest() + 1);
    if let Opening::Live { before, snapshot, after, cursor } = opening {
        next = cursor;
        ahead.extend(before.map(|gap| gap_event(inner, gap)));
        ahead.extend(snapshot.map(|frame| wire::decode(frame.plain())));
        ahead.extend(after.map(|gap| gap_event(inner, gap)));
    }
    (ahead, Follower::at(next))
}

impl Reader {
    /// Waits for the next event, as long as it takes where no `timeout` is given.
    pub fn next(&mut self, timeout: Option<Duration>) -> ReadOutcome {
        let began = Instant::now();
        let mut stream = self.stream.clone();
        let mut waited = false;
        loop {
            let mut inner = stream.lock();
            let outcome = self.look(&inner).or_else(|| {
                let left = timeout.map(|limit| limit.saturating_sub(began.elapsed()));
                left.is_some_and(|left| left.is_zero()).then_some(ReadOutcome::Timeout)
            });
            if let Some(outcome) = outcome {
                if waited {
                    inner.forget_me();
                }
                drop(inner);
                if matches!(outcome, ReadOutcome::Ended) && self.goes_on() {
                    (stream, waited) = (self.stream.clone(), false);
                    continue;
                }
                return outcome;
            }
            inner.park_me();
            waited = true;
            drop(inner);
            let left = timeout.map_or(TRY_AGAIN, |limit| limit.saturating_sub(began.elapsed()));
            park_timeout(left);
        }
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> ReadOutcome {
        loop {
            let stream = self.stream.clone();
            let inner = stream.lock();
            let outcome = self.look(&inner).unwrap_or(ReadOutcome::Timeout);
            drop(inner);
            if !matches!(outcome, ReadOutcome::Ended) || !self.goes_on() {
                return outcome;
            }
        }
    }

    /// Where its log was lost elsewhere and began anew it goes on there; says whether. What that life took over it has had,
    /// as far as it had come; whether anything between was lost nobody knows.
    fn goes_on(&mut self) -> bool {
        let Some(next) = self.stream.next_life().cloned() else { return false };
        let carried = next.carried();
        let inner = next.lock();
        let place = if carried == 0 { Place::Lost } else { Place::After(carried.min(self.follower.cursor() - 1)) };
        (self.ahead, self.follower) = opened(&inner, cursor::open_at(&inner.state, place, Start::All));
        if carried > 0 {
            self.ahead.push_front(gap_event(&inner, Gap::Unknown));
        }
        drop(inner);
        self.stream = next;
        true
    }

    /// The stream that is read.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    fn look(&mut self, inner: &Inner) -> Option<ReadOutcome> {
        if let Some(event) = self.ahead.pop_front() {
            return Some(ReadOutcome::Event(event));
        }
        match self.follower.next(&inner.state, Pace::InProcess) {
            Step::Gap(gap) => Some(ReadOutcome::Event(gap_event(inner, gap))),
            Step::Frames => {
                self.follower.take(&inner.state).map(|frame| ReadOutcome::Event(wire::decode(frame.plain())))
            }
            // Nobody in the process is disconnected; if it were, that would be its end.
            Step::End | Step::Disconnect => Some(ReadOutcome::Ended),
            Step::Pending => self.stream.is_closed().then_some(ReadOutcome::Closed),
        }
    }
}

fn gap_event(inner: &Inner, gap: Gap) -> Decoded {
    let mut block = Vec::new();
    inner.state.write_gap(&mut block, gap);
    wire::decode(&block)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Notify;
    use loom::thread;
    use sse_fast_core::event::NewEvent;
    use sse_fast_core::id::Epoch;
    use sse_fast_core::options::StreamOptions;

    use super::*;
    use crate::delivery::{Delivery, Patience};
    use crate::mailbox::{Latch, Mailbox, Wake};
    use crate::stream::Wakeups;

    /// The sleep of an event loop.
    #[derive(Clone, Default)]
    struct Sleep(Arc<Notify>);

    impl Wake for Sleep {
        fn wake(&self) {
            self.0.notify();
        }
    }

    /// A stream without shards.
    fn stream() -> Stream {
        let notices = Mailbox::new(&Latch::new(Sleep::default()));
        let delivery = Arc::new(Delivery::new(Box::new([]), notices, Patience::Lossless));
        Stream::new("s", Epoch(1), &delivery, Arc::new(StreamOptions::default()))
    }

    fn publish_and_end(stream: &Stream) {
        stream.publish(&NewEvent { data: b"1", ..NewEvent::default() }).expect("published");
        stream.end(b"over", "end").expect("ended");
    }

    fn model(check: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound.get_or_insert(3);
        model.check(check);
    }

    #[test]
    fn loom_an_event_loop_sees_everything_that_is_published() {
        model(|| {
            let (stream, asleep) = (stream(), Sleep::default());
            let wakeups = Wakeups::waking(asleep.clone()).expect("two ends");
            let watch = stream.watch(&wakeups, 7);
            let mut reader = stream.reader(&ReadFrom::Start(Some(Start::All)));
            let publisher = thread::spawn({
                let stream = stream.clone();
                move || publish_and_end(&stream)
            });
            let mut events = Vec::new();
            loop {
                match reader.try_next() {
                    ReadOutcome::Event(event) => events.push(event.data),
                    ReadOutcome::Ended => break,
                    _ => {
                        asleep.0.wait();
                        wakeups.take().iter().for_each(|token| {
                            assert_eq!(*token, 7);
                            watch.rearm();
                        });
                    }
                }
            }
            publisher.join().expect("it published");
            assert_eq!(events, ["1", "over"]);
        });
    }

    #[test]
    fn loom_a_thread_that_waits_for_news_is_woken() {
        model(|| {
            let stream = stream();
            let publisher = thread::spawn({
                let stream = stream.clone();
                move || publish_and_end(&stream)
            });
            let mut reader = stream.reader(&ReadFrom::Start(Some(Start::All)));
            let mut events = Vec::new();
            while let ReadOutcome::Event(event) = reader.next(None) {
                events.push(event.data);
            }
            publisher.join().expect("it published");
            assert_eq!(events, ["1", "over"]);
        });
    }
}
