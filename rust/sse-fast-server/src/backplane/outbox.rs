//! What one stream's publishers wait for.
//!
//! Owns: the order of what is published here, which of it goes in one call, and what is answered when. Must not know:
//! connections, copies, the clock.
//! Invariants: one call is under way at a time, so nothing overtakes anything, whatever is lost or repeated; a call that is
//! repeated is the same call under the same number. Every entry is answered once: by its call's reply, by its deadline
//! (`published: Some(false)` where it was in no call that may be executed), or with the outbox.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::{RequestId, Unit, UnitOutcome};
use super::{Answer, Changed, Make, Published};

/// The most units, events and bytes of one call: the server does nothing else while it runs.
const MOST_UNITS: usize = 128;
const MOST_EVENTS: usize = 1024;
const MOST_BYTES: usize = 1 << 20;

/// Where a unit's answer goes.
pub(crate) enum UnitAnswer {
    Published(Answer<Published>),
    Snapshot(Answer<Changed>),
}

/// Something to be published.
pub(crate) struct Entry {
    pub(crate) unit: Unit,
    pub(crate) make: Make,
    pub(crate) answer: UnitAnswer,
    /// When it is given up.
    pub(crate) deadline: Duration,
}

/// A call to be sent, or sent again.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) units: Arc<[Unit]>,
    pub(crate) make: Make,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    /// In no call yet.
    queue: VecDeque<Entry>,
    /// Under way.
    call: Option<UnderWay>,
}

struct UnderWay {
    call: Call,
    /// One for each unit; none where it was given up.
    answers: Vec<(Option<UnitAnswer>, Duration)>,
    /// The request that carries it now; none while the connection is down.
    request: Option<RequestId>,
    /// It was sent before, by a request whose reply was lost.
    repeated: bool,
}

impl Outbox {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.queue.push_back(entry);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.call.is_none()
    }

    /// When the next entry is given up.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let called = self.call.iter().flat_map(|under_way| &under_way.answers);
        let called = called.filter(|(answer, _)| answer.is_some()).map(|(_, deadline)| *deadline);
        called.chain(self.queue.front().map(|entry| entry.deadline)).min()
    }

    /// The next call, where none is under way; what was lost with its connection comes first, as it was.
    pub(crate) fn next(&mut self, number: impl FnOnce() -> u64, request: RequestId) -> Option<Call> {
        if let Some(under_way) = &mut self.call {
            if under_way.request.is_some() {
                return None;
            }
            under_way.request = Some(request);
            under_way.repeated = true;
            return Some(under_way.call.clone());
        }
        let make = self.queue.front()?.make;
        let (mut units, mut answers) = (Vec::new(), Vec::new());
        let (mut events, mut bytes) = (0, 0);
        while let Some(entry) = self.queue.front() {
            let length: usize = entry.unit.events.iter().map(|event| event.bytes().len()).sum();
            let full = units.len() == MOST_UNITS
                || events + entry.unit.events.len() > MOST_EVENTS
                || bytes + length > MOST_BYTES;
            if full && !units.is_empty() {
                break;
            }
            let Some(entry) = self.queue.pop_front() else { break };
            events += entry.unit.events.len();
            bytes += length;
            units.push(entry.unit);
            answers.push((Some(entry.answer), entry.deadline));
        }
        let call = Call { number: number(), units: units.into(), make };
        self.call = Some(UnderWay { call: call.clone(), answers, request: Some(request), repeated: false });
        Some(call)
    }

    /// The call that this request carries, to be sent once more by another.
    pub(crate) fn again(&mut self, request: RequestId, by: RequestId) -> Option<Call> {
        let under_way = self.call.as_mut().filter(|under_way| under_way.request == Some(request))?;
        under_way.request = Some(by);
        Some(under_way.call.clone())
    }

    /// Whether the call that is under way was sent before: a refusal does not say what came of it then.
    pub(crate) fn is_repeated(&self) -> bool {
        self.call.as_ref().is_some_and(|under_way| under_way.repeated)
    }

    /// The server has not executed what that request carries, and will not: unless it was sent before, its entries are in no
    /// call again.
    pub(crate) fn not_done(&mut self, request: RequestId) {
        let is_it = |under_way: &mut UnderWay| under_way.request == Some(request) && !under_way.repeated;
        let Some(UnderWay { call: Call { units, make, .. }, answers, .. }) = self.call.take_if(is_it) else { return };
        for (unit, (answer, deadline)) in units.iter().zip(answers).rev() {
            if let Some(answer) = answer {
                self.queue.push_front(Entry { unit: unit.clone(), make, answer, deadline });
            }
        }
    }

    /// The connection was lost: whether its call was executed is not known.
    pub(crate) fn lost(&mut self) {
        if let Some(under_way) = &mut self.call {
            under_way.request = None;
            if under_way.answers.iter().all(|(answer, _)| answer.is_none()) {
                self.call = None;
            }
        }
    }

    /// The reply to that request: the answers with what came of each, and how many events it has.
    pub(crate) fn replied(&mut self, request: RequestId) -> Vec<(UnitAnswer, u64)> {
        let Some(under_way) = self.call.take_if(|under_way| under_way.request == Some(request)) else {
            return Vec::new();
        };
        let counts = under_way.call.units.iter().map(|unit| unit.events.len() as u64);
        let answers = under_way.answers.into_iter().zip(counts);
        // Those that were given up stand as ones that nobody waits for, so that outcomes keep their places.
        answers
            .map(|((answer, _), count)| (answer.unwrap_or_else(|| UnitAnswer::Published(Answer::new(|_| ()))), count))
            .collect()
    }

    /// Answers what has waited too long.
    pub(crate) fn expire(&mut self, now: Duration) {
        if let Some(under_way) = &mut self.call {
            for (answer, deadline) in &mut under_way.answers {
                if *deadline <= now
                    && let Some(answer) = answer.take()
                {
                    answer.unavailable(None);
                }
            }
            if under_way.request.is_none() && under_way.answers.iter().all(|(answer, _)| answer.is_none()) {
                self.call = None;
            }
        }
        while self.queue.front().is_some_and(|entry| entry.deadline <= now) {
            if let Some(entry) = self.queue.pop_front() {
                entry.answer.unavailable(Some(false));
            }
        }
    }
}

impl UnitAnswer {
    /// The backplane is away.
    pub(crate) fn unavailable(self, published: Option<bool>) {
        match self {
            Self::Published(answer) => answer.give(Published::Unavailable { published }),
            Self::Snapshot(answer) => answer.give(Changed::Unavailable { done: published }),
        }
    }

    /// The server refused.
    pub(crate) fn refused(self, why: &Arc<str>) {
        match self {
            Self::Published(answer) => answer.give(Published::Refused(Arc::clone(why))),
            Self::Snapshot(answer) => answer.give(Changed::Refused(Arc::clone(why))),
        }
    }

    /// What came of it.
    pub(crate) fn give(self, outcome: &UnitOutcome) {
        match self {
            Self::Published(answer) => answer.give(match *outcome {
                UnitOutcome::New { epoch, first } => Published::New { epoch, first },
                UnitOutcome::Again { epoch, first } => Published::Again { epoch, first },
                UnitOutcome::Conflict => Published::Conflict,
                UnitOutcome::Ended => Published::Ended,
            }),
            Self::Snapshot(answer) => answer.give(match outcome {
                UnitOutcome::Ended => Changed::Ended,
                _ => Changed::Done,
            }),
        }
    }
}
