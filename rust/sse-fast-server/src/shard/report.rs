//! What a shard says of itself when it is asked: that it is there, and how far its subscribers lag.
//!
//! Owns: the answers. Must not know: who asks, or how long they wait. A question is an order like others, taken with the
//! mail, so that an answer says that the shard works. Streams that were walked to their end and whose sockets all take
//! bytes are counted without a look at each subscriber: nobody lags there.

use sse_fast_core::id::Position;
use tokio::sync::oneshot;

use super::agenda::Stage;
use super::machine::Shard;
use super::net::Net;

/// The upper bounds of a lag in events, included; one more bucket has what is beyond. 256 is `max_lag` where nothing else
/// was chosen.
pub(crate) const LAG_BOUNDS: [u64; 10] = [0, 1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536];

/// What a shard is asked.
pub(crate) enum Question {
    /// Whether it is there.
    Alive(oneshot::Sender<()>),
    /// How its subscribers are.
    Report(oneshot::Sender<Report>),
}

/// How a shard's subscribers are at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Subscribers by the events that they lag behind, in the buckets of [`LAG_BOUNDS`].
    pub(crate) lags: [u64; LAG_BOUNDS.len() + 1],
    /// All their lags together.
    pub(crate) lag: u64,
    /// Subscribers whose sockets are full.
    pub(crate) blocked: u64,
}

impl Report {
    /// So many subscribers lag by so much.
    fn count(&mut self, lag: u64, subscribers: u64) {
        self.lags[LAG_BOUNDS.partition_point(|&bound| bound < lag)] += subscribers;
        self.lag += lag * subscribers;
    }

    /// Adds another shard's.
    pub(crate) fn add(&mut self, other: &Self) {
        for (total, more) in self.lags.iter_mut().zip(&other.lags) {
            *total += more;
        }
        self.lag += other.lag;
        self.blocked += other.blocked;
    }
}

impl<N: Net> Shard<N> {
    /// Answers; who has asked may have gone.
    pub(super) fn say(&self, question: Question) {
        let _ = match question {
            Question::Alive(asked) => asked.send(()).is_ok(),
            Question::Report(asked) => asked.send(self.report()).is_ok(),
        };
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        for (_, local) in self.locals.iter() {
            let full = local.roster.full().len() as u64;
            report.blocked += full;
            if full == 0 && local.stage == Stage::Idle {
                report.count(0, local.roster.all().len() as u64);
                continue;
            }
            let newest = local.stream.lock().state.newest();
            for &subscriber in local.roster.all() {
                report.count(behind(newest, self.subscribers[subscriber].cursor()), 1);
            }
        }
        for subscriber in self.agenda.catching_up() {
            let local = &self.locals[self.subscribers[subscriber].local];
            if local.roster.full().is_empty() && local.stage == Stage::Idle {
                let newest = local.stream.lock().state.newest();
                report.lags[0] -= 1;
                report.count(behind(newest, self.subscribers[subscriber].cursor()), 1);
            }
        }
        report
    }
}

/// How many events a subscriber lacks whose next position is `cursor`.
fn behind(newest: Position, cursor: Position) -> u64 {
    (newest + 1).saturating_sub(cursor)
}
