//! The machine of the backplane: what is asked of the server, and what the engine is told.
//!
//! Owns: the copies and outboxes by name, what is under way, when something is due. Its steps are in [`asks`], [`wires`],
//! [`replies`] and [`due`], and what they all come to, a stream's next read, in [`wants`]. Must not know: sockets, threads, a clock.
//! Invariants: it is stepped with one thing at a time and reads no clock, so that simulations step this very machine. A
//! stream is subscribed before it is read. A request that was lost with its connection is forgotten here, and its purpose
//! stands where it came from: a copy is stale, an outbox has its call, an errand is not done.
//! Changes together with: `copy`, `outbox`, `presence`, which it drives.

mod asks;
mod due;
mod replies;
mod tells;
#[cfg(all(test, not(loom)))]
mod tests;
mod wants;
mod wires;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::id::{Epoch, Position};

use super::copy::Copy;
use super::outbox::Outbox;
use super::presence::{Alive, Presence};
use super::protocol::{Fence, Guard, Line, Mark, Open, Request, RequestId, Wired, later};
use super::{Answer, Ask, Changed, Counts, Make, Name, Opened, Published, Rules};

pub(crate) use tells::Tell;
use tells::give;

/// In this time every copy is compared with the server once, a part of them at a time.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// The parts.
const PARTS: u32 = 16;
/// The most streams of one comparison: the server does nothing else while it runs.
const MOST_COMPARED: usize = 128;
/// A push may be on its way so long after a comparison that knew of it.
const SUSPECT_AFTER: Duration = Duration::from_millis(250);
/// The server is sure to have forgotten so long after the time that something stays: its clock has milliseconds.
const OVER_BY: Duration = Duration::from_millis(5);
/// How often what was said of readers is said once more where it is in doubt.
const SAY_AGAIN: u32 = 2;
/// A subscriber connection that has brought nothing for so long is tried.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// A connection is made anew where what was asked or tried on it was not answered within this.
const SILENT: Duration = Duration::from_secs(5);
/// A server that has not answered for `backplane_timeout`, and at least so long, is away.
const LATE: Duration = Duration::from_secs(1);
/// How long a lease is, and how often it is renewed.
const LEASE: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// A read that the server refused is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the machine takes.
pub(crate) enum Input {
    Ask(Ask),
    Wired(Wired),
    /// Time has passed.
    Tick,
}

/// What the machine wants done, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    Request(RequestId, Request),
    Subscribe(Vec<Name>),
    Unsubscribe(Vec<Name>),
    Reconnect(Line),
    Tell(Tell),
}

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since the start.
    pub(crate) at: Duration,
    /// Microseconds of the Unix epoch.
    pub(crate) wall: u64,
}

/// A stream that is known here.
#[derive(Default)]
struct Kept {
    copy: Copy,
    presence: Presence,
    /// Somebody holds it (it was opened, and not released).
    held: bool,
    /// It is wanted though there is none.
    waiting: bool,
    /// The subscription is confirmed.
    subscribed: bool,
    /// Who waits for a read, in order; the first `served` of them for the one under way.
    openers: VecDeque<Opener>,
    served: usize,
    /// The read that is under way.
    read: Option<RequestId>,
    /// Publishes that succeeded and wait for the copy.
    holds: Vec<Hold>,
    /// No read before this.
    not_before: Duration,
    /// Which part of the comparisons it belongs to.
    part: u32,
    /// When the server forgets it if nothing happens until then.
    over: Option<Duration>,
    /// When that is looked at.
    looked_at: Option<Duration>,
}

impl Kept {
    /// Those that a read was for; what held them is let go of, because room for four that open would be as much as all else
    /// that is known of a stream.
    fn take_served(&mut self) -> Vec<Opener> {
        let served = self.openers.drain(..std::mem::take(&mut self.served)).collect();
        if self.openers.is_empty() {
            self.openers = VecDeque::new();
        }
        served
    }

    /// How long the server keeps it after something has happened; none where it stays. What is read stays by comparisons.
    fn stays_for(&self) -> Option<Duration> {
        let options = self.copy.options()?;
        if self.copy.ended() {
            return Some(options.linger);
        }
        options.expire.filter(|_| !self.presence.is_read_anywhere())
    }
}

struct Opener {
    make: Option<Make>,
    wait: bool,
    /// None once it was given up.
    answer: Option<Answer<Opened>>,
    /// Whether it was ever sent with what it makes: what came of it may not be known.
    tried: bool,
    deadline: Duration,
}

impl Opener {
    fn give(self, out: &mut Vec<Output>, opened: Opened) {
        if let Some(answer) = self.answer {
            give(out, answer, opened);
        }
    }
}

struct Hold {
    epoch: Epoch,
    last: Position,
    until: Duration,
    answer: Answer<Published>,
    published: Published,
}

/// A request that stands for one ask.
struct Errand {
    request: Request,
    answer: Answer<Changed>,
    /// Whether it was ever sent: what came of it may not be known.
    tried: bool,
}

/// What is under way.
struct Pending {
    what: What,
    sent: Duration,
}

#[derive(Clone)]
enum What {
    Call(Name),
    Read(Name, Box<Open>),
    Compare(Arc<[(Name, Mark)]>, bool),
    Errand(u64),
    Present(Name, Bytes),
    Left(Name),
    Lease,
    Disconnected,
    Fence,
    /// Nothing follows from the reply.
    Note,
}

/// When something of one name or errand is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Outbox(Name),
    Kept(Name),
    Over(Name),
    Errand(u64),
}

/// See the module.
pub(crate) struct Hub {
    rules: Rules,
    counts: Counts,
    /// Sorted, so that a schedule of the simulation is the same each time.
    kept: BTreeMap<Name, Kept>,
    outboxes: BTreeMap<Name, Outbox>,
    errands: BTreeMap<u64, Errand>,
    under_way: BTreeMap<RequestId, Pending>,
    timers: BTreeSet<(Duration, Timer)>,
    /// Of the command connection; none while it is down.
    fence: Option<Fence>,
    /// The last that there was.
    last_fence: Option<Fence>,
    /// When the leases were asked for that were last listed, and whether that was on this connection.
    listed_at: Duration,
    listed: bool,
    /// Processes that were known then keep their readers for as long as a lease lasts, whatever the leases say.
    spared_at: Option<Duration>,
    /// Who this process is where its readers are counted, and how often it took another name for that.
    reader: Arc<str>,
    renamed: u32,
    /// Names that it had, whose leases are given back from then on.
    formers: Vec<(Duration, Arc<str>)>,
    /// Requests that were refused for their fence, and wait until it was read anew.
    fenced: Vec<(RequestId, What)>,
    subscriber_up: bool,
    /// What the engine was told.
    away: Option<bool>,
    alive: Alive,
    /// Streams that were read here and are released, while the server has not confirmed that it knows.
    left: BTreeSet<Name>,
    /// What was said of readers and lost with its connection may still be executed, after what was said since: it is said
    /// once more so many times, a comparison's time apart.
    doubted: BTreeMap<Name, u32>,
    /// Names whose state may have changed in this step.
    touched: Vec<Name>,
    /// Copies that a comparison found behind; when they are looked at, and how far they should be.
    suspects: VecDeque<(Duration, Name, Mark, u64)>,
    /// Freshly subscribed copies, to be compared at once.
    fresh: Vec<Name>,
    last_push: Duration,
    probed: Option<Duration>,
    next_lease: Duration,
    next_compare: Duration,
    next_part: u32,
    last_request: u64,
    last_call: u64,
    last_errand: u64,
    /// The time of the last guard, in microseconds, or one more than that of the one before.
    last_guard: u64,
    closing: Option<(Answer<Changed>, RequestId, Duration)>,
    closed: bool,
}

impl Hub {
    /// A machine whose connections are both down.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            reader: Arc::clone(&rules.process),
            renamed: 0,
            last_fence: None,
            listed_at: Duration::ZERO,
            listed: false,
            spared_at: None,
            formers: Vec::new(),
            rules,
            counts: Counts::default(),
            kept: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            errands: BTreeMap::new(),
            under_way: BTreeMap::new(),
            timers: BTreeSet::new(),
            fence: None,
            fenced: Vec::new(),
            subscriber_up: false,
            away: None,
            alive: Alive::default(),
            left: BTreeSet::new(),
            doubted: BTreeMap::new(),
            touched: Vec::new(),
            suspects: VecDeque::new(),
            fresh: Vec::new(),
            last_push: Duration::ZERO,
            probed: None,
            next_lease: Duration::ZERO,
            next_compare: Duration::ZERO,
            next_part: 0,
            last_request: 0,
            last_call: 0,
            last_errand: 0,
            last_guard: 0,
            closing: None,
            closed: false,
        }
    }

    /// Whether [`Ask::Close`] is done.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What there is of a stream, for the message of a test that fails.
    #[cfg(test)]
    pub(crate) fn describe(&self, name: &Name) -> String {
        self.kept.get(name).map_or_else(String::new, |kept| {
            let Kept { copy, presence, held, waiting, subscribed, served, read, not_before, .. } = kept;
            format!(
                "{copy:?}, {presence:?}, {held} {waiting} {subscribed} {served} {read:?} {not_before:?}, {:?}",
                self.due()
            )
        })
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        let timers = self.timers.first().map(|(at, _)| *at);
        let suspects = self.suspects.front().map(|(at, ..)| *at);
        let closing = self.closing.as_ref().map(|(_, _, by)| *by);
        let mut due = timers.into_iter().chain(suspects).chain(closing).min();
        if self.fence.is_some() {
            let silent = self.under_way.first_key_value().map(|(_, pending)| pending.sent + SILENT);
            let late = self.late().filter(|_| self.away == Some(false));
            due = due.into_iter().chain(silent).chain(late).chain([self.next_lease, self.next_compare]).min();
            if self.subscriber_up {
                let probe = self.probed.map_or(self.last_push + PROBE_AFTER, |at| at + SILENT);
                due = due.into_iter().chain([probe]).min();
            }
        }
        due
    }

    /// When the backplane counts as away because the server has not answered: it may be frozen.
    fn late(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|(_, pending)| pending.sent + self.rules.timeout.max(LATE))
    }

    /// Takes one thing, and says what follows.
    pub(crate) fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Ask(ask) => self.ask(now, ask, out),
            Input::Wired(wired) => self.wired(now, wired, out),
            Input::Tick => {}
        }
        self.tick(now, out);
        let mut at = 0;
        while at < self.touched.len() {
            let name = Arc::clone(&self.touched[at]);
            self.advance(now, &name, out);
            at += 1;
        }
        self.touched.clear();
        let away = self.fence.is_none() || !self.subscriber_up || self.late().is_some_and(|late| late <= now.at);
        self.counts.up = !away;
        if self.away != Some(away) && !(away && self.away.is_none()) {
            self.away = Some(away);
            out.push(Output::Tell(Tell::Away(away)));
        }
    }

    fn end(&mut self, changed: Changed, out: &mut Vec<Output>) {
        if let Some((answer, ..)) = self.closing.take() {
            give(out, answer, changed);
        }
        self.closed = true;
    }

    fn request(&mut self, now: Moment, what: What, request: Request, out: &mut Vec<Output>) -> RequestId {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.under_way.insert(id, Pending { what, sent: now.at });
        out.push(Output::Request(id, request));
        id
    }

    /// No two requests of a second bring the same epoch: the life that one began may be gone from the server when another begins one.
    fn guard(&mut self, now: Moment, name: &Name, sure: bool) -> Guard {
        self.last_guard = now.wall.max(self.last_guard + 1);
        let last = self.kept.get(name).map_or(0, |kept| kept.copy.mark().epoch);
        let fence = self.fence.clone().filter(|_| !self.rules.trust);
        Guard { fence, sure, epoch: later(self.last_guard, last) }
    }
}
