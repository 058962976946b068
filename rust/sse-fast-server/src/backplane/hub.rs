//! The machine of the backplane: what is asked of the server, and what the engine is told.
//!
//! Owns: the copies and outboxes by name, what is under way, when something is due. It is long because it is the one place
//! where the parts meet; each part's own decisions are in its own file. Must not know: sockets, threads, a clock.
//! Invariants: it is stepped with one thing at a time and reads no clock, so that simulations step this very machine. A
//! stream is subscribed before it is read. A request that was lost with its connection is forgotten here, and its purpose
//! stands where it came from: a copy is stale, an outbox has its call, an errand is not done.
//! Changes together with: `copy`, `outbox`, `presence`, which it drives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::id::{Epoch, Position};

use super::copy::{Copy, Stale, Told};
use super::outbox::{Entry, Outbox, UnitAnswer};
use super::presence::{Alive, Presence};
use super::protocol::{
    Fence, Guard, Line, Mark, News, Open, Opening, Push, Reply, Request, RequestId, Seen, Unit, UnitOutcome,
    UnitSnapshot, Wired,
};
use super::{
    Answer, Ask, COPY_WAIT, Changed, Copies, Counts, Life, Make, Name, Opened, Published, Rules, SharedOptions, Tail,
    Totals,
};

/// In this time every copy is compared with the server once, a part of them at a time.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// The parts.
const PARTS: u32 = 16;
/// The most streams of one comparison: the server does nothing else while it runs.
const MOST_COMPARED: usize = 128;
/// A push may be on its way so long after a comparison that knew of it.
const SUSPECT_AFTER: Duration = Duration::from_millis(250);
/// A subscriber connection that has brought nothing for so long is tried.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// A connection is made anew where what was asked or tried on it was not answered within this.
const SILENT: Duration = Duration::from_secs(5);
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

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Tell {
    Begin(Name, Life),
    Append(Name, Tail),
    Options(Name, SharedOptions),
    Removed(Name),
    Present(Name, Totals),
    Disconnect(Arc<str>, u64),
    Away(bool),
    Answer(Answered),
}

impl Tell {
    /// Tells it.
    pub(crate) fn give(self, copies: &dyn Copies) {
        match self {
            Self::Begin(name, life) => copies.begin(&name, life),
            Self::Append(name, tail) => copies.append(&name, tail),
            Self::Options(name, options) => copies.options(&name, options),
            Self::Removed(name) => copies.removed(&name),
            Self::Present(name, totals) => copies.present(&name, totals),
            Self::Disconnect(reader, before) => copies.disconnect(&reader, before),
            Self::Away(away) => copies.away(away),
            Self::Answer(answered) => answered.deliver(),
        }
    }
}

/// An answer with where it goes.
pub(crate) struct Answered(Box<dyn FnOnce() + Send>);

impl Answered {
    pub(crate) fn deliver(self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered")
    }
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
}

struct Opener {
    make: Option<Make>,
    wait: bool,
    /// None once it was given up.
    answer: Option<Answer<Opened>>,
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
    deadline: Duration,
    /// Whether it is under way.
    sent: bool,
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
    /// Requests that were refused for their fence, and wait until it was read anew.
    fenced: Vec<(RequestId, What)>,
    subscriber_up: bool,
    /// What the engine was told.
    away: Option<bool>,
    alive: Alive,
    /// Streams that were read here and are released, while the server has not confirmed that it knows.
    left: BTreeSet<Name>,
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
    /// The greatest epoch that was seen: a new life has a greater one, whatever the clock says.
    last_epoch: u64,
    closing: Option<(Answer<Changed>, RequestId, Duration)>,
    closed: bool,
}

impl Hub {
    /// A machine whose connections are both down.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
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
            last_epoch: 0,
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
            due = due.into_iter().chain(silent).chain([self.next_lease, self.next_compare]).min();
            if self.subscriber_up {
                let probe = self.probed.map_or(self.last_push + PROBE_AFTER, |at| at + SILENT);
                due = due.into_iter().chain([probe]).min();
            }
        }
        due
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
        let away = self.fence.is_none() || !self.subscriber_up;
        self.counts.up = !away;
        if self.away != Some(away) && !(away && self.away.is_none()) {
            self.away = Some(away);
            out.push(Output::Tell(Tell::Away(away)));
        }
    }

    // ---- What the engine asks ----

    fn ask(&mut self, now: Moment, ask: Ask, out: &mut Vec<Output>) {
        let deadline = now.at + self.rules.timeout;
        match ask {
            Ask::Open { name, make, wait, answer } => self.open(now, name, make, wait, answer, out),
            Ask::Release { name } => {
                if let Some(kept) = self.kept.get_mut(&name) {
                    // The next to open it gets a beginning; a reply that is under way is not for it.
                    let Kept { openers, holds, part, subscribed, presence, .. } = std::mem::take(kept);
                    if presence.is_read() || presence.is_unsaid() {
                        self.left.insert(Arc::clone(&name));
                    }
                    *kept = Kept { subscribed, openers, part, ..Kept::default() };
                    for hold in holds {
                        give(out, hold.answer, hold.published);
                    }
                    self.touched.push(name);
                }
                self.say_left(now, out);
            }
            Ask::Publish { name, publish, answer } => {
                let snapshot = publish.snapshot.map(|(with, data)| UnitSnapshot { with, event: None, data });
                let unit = Unit { events: publish.events, snapshot, end: publish.end, key: publish.key };
                let answer = UnitAnswer::Published(answer);
                self.post(now, &name, Entry { unit, make: publish.make, answer, deadline }, out);
            }
            Ask::Snapshot { name, snapshot, make, answer } => {
                let set = UnitSnapshot { with: 0, event: Some(snapshot.event), data: snapshot.data };
                let unit = Unit { events: Vec::new(), snapshot: Some(set), end: false, key: None };
                self.post(now, &name, Entry { unit, make, answer: UnitAnswer::Snapshot(answer), deadline }, out);
            }
            Ask::Configure { name, patch, answer } => {
                let guard = self.guard(now, false);
                self.errand(now, Request::Configure { name, guard, patch }, answer, out);
            }
            Ask::Remove { name, answer } => self.errand(now, Request::Remove { name }, answer, out),
            Ask::Disconnect { reader, before, keep, answer } => {
                self.errand(now, Request::Disconnect { reader, before, keep }, answer, out);
            }
            Ask::Present { name, readers } => {
                if let Some(kept) = self.kept.get_mut(&name)
                    && kept.presence.count(&readers)
                {
                    self.declare(now, &name, out);
                    self.touched.push(name);
                }
            }
            Ask::Close { answer } => self.close(now, answer, out),
        }
    }

    fn open(
        &mut self,
        now: Moment,
        name: Name,
        make: Option<Make>,
        wait: bool,
        answer: Answer<Opened>,
        out: &mut Vec<Output>,
    ) {
        if !self.kept.contains_key(&name) {
            let part = u32::try_from(self.kept.len()).unwrap_or(0) % PARTS;
            if self.subscriber_up {
                out.push(Output::Subscribe(vec![Arc::clone(&name)]));
            }
            self.kept.insert(Arc::clone(&name), Kept { part, ..Kept::default() });
        }
        let Some(kept) = self.kept.get_mut(&name) else { return };
        let deadline = now.at + self.rules.timeout;
        kept.openers.push_back(Opener { make, wait, answer: Some(answer), deadline });
        self.timers.insert((deadline, Timer::Kept(Arc::clone(&name))));
        self.touched.push(name);
    }

    fn post(&mut self, now: Moment, name: &Name, entry: Entry, out: &mut Vec<Output>) {
        let deadline = entry.deadline;
        let outbox = self.outboxes.entry(Arc::clone(name)).or_default();
        if outbox.deadline().is_none() {
            self.timers.insert((deadline, Timer::Outbox(Arc::clone(name))));
        }
        outbox.push(entry);
        self.send_call(now, name, out);
    }

    fn send_call(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        let guard = self.guard(now, false);
        let id = RequestId(self.last_request + 1);
        let last_call = &mut self.last_call;
        let number = || {
            *last_call += 1;
            *last_call
        };
        let Some(call) = self.outboxes.get_mut(name).and_then(|outbox| outbox.next(number, id)) else { return };
        let process = Arc::clone(&self.rules.process);
        let name = Arc::clone(name);
        let what = What::Call(Arc::clone(&name));
        let (call, units, make) = (call.number, call.units, call.make);
        self.request(now, what, Request::Publish { name, guard, process, call, units, make }, out);
    }

    fn errand(&mut self, now: Moment, request: Request, answer: Answer<Changed>, out: &mut Vec<Output>) {
        self.last_errand += 1;
        let (number, deadline) = (self.last_errand, now.at + self.rules.timeout);
        self.errands.insert(number, Errand { request, answer, deadline, sent: false });
        self.timers.insert((deadline, Timer::Errand(number)));
        self.send_errand(now, number, false, out);
    }

    fn send_errand(&mut self, now: Moment, number: u64, sure: bool, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        let guard = self.guard(now, sure);
        let Some(errand) = self.errands.get_mut(&number) else { return };
        errand.sent = true;
        let mut request = errand.request.clone();
        if let Request::Configure { guard: old, .. } = &mut request {
            *old = guard;
        }
        self.request(now, What::Errand(number), request, out);
    }

    /// Says how many readers there are here.
    fn declare(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        self.left.remove(name);
        if let Some(kept) = self.kept.get(name) {
            let (process, readers) = (Arc::clone(&self.rules.process), kept.presence.mine().clone());
            let what = What::Present(Arc::clone(name), readers.clone());
            self.request(now, what, Request::Present { name: Arc::clone(name), process, readers }, out);
        }
    }

    /// Says that nobody reads here any more what was released.
    fn say_left(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        for name in self.left.clone() {
            let (process, readers) = (Arc::clone(&self.rules.process), Bytes::new());
            self.request(now, What::Left(Arc::clone(&name)), Request::Present { name, process, readers }, out);
        }
    }

    fn close(&mut self, now: Moment, answer: Answer<Changed>, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            self.closed = true;
            give(out, answer, Changed::Unavailable);
            return;
        }
        let read: Vec<Name> =
            self.kept.iter().filter(|(_, kept)| kept.presence.is_read()).map(|(name, _)| Arc::clone(name)).collect();
        for name in read {
            let (process, readers) = (Arc::clone(&self.rules.process), Bytes::new());
            self.request(now, What::Note, Request::Present { name, process, readers }, out);
        }
        let process = Arc::clone(&self.rules.process);
        let id = self.request(now, What::Note, Request::Lease { process, lease: Duration::ZERO }, out);
        self.closing = Some((answer, id, now.at + self.rules.timeout));
    }

    // ---- What the wires say ----

    fn wired(&mut self, now: Moment, wired: Wired, out: &mut Vec<Output>) {
        match wired {
            Wired::CommandUp(fence) => self.command_up(now, fence, out),
            Wired::SubscriberUp => {
                self.subscriber_up = true;
                (self.last_push, self.probed) = (now.at, None);
                let names: Vec<Name> = self.kept.keys().cloned().collect();
                if !names.is_empty() {
                    out.push(Output::Subscribe(names));
                }
            }
            Wired::Down(line) => self.down(now, line),
            Wired::Reply(id, reply) => self.reply(now, id, reply, out),
            Wired::Subscribed(names) => {
                for name in names {
                    if let Some(kept) = self.kept.get_mut(&name) {
                        kept.subscribed = true;
                        if kept.copy.is_live() && kept.copy.stale() == Stale::No {
                            self.fresh.push(Arc::clone(&name));
                        } else if kept.waiting {
                            kept.copy.must_read();
                        }
                        self.touched.push(name);
                    }
                }
            }
            Wired::Push(push) => self.push(now, push, out),
        }
    }

    fn command_up(&mut self, now: Moment, fence: Fence, out: &mut Vec<Output>) {
        self.fence = Some(fence);
        self.next_compare = now.at + COMPARE_EVERY / PARTS;
        self.renew(now, out);
        self.request(now, What::Disconnected, Request::Disconnected, out);
        self.say_left(now, out);
        for number in self.errands.keys().copied().collect::<Vec<_>>() {
            self.send_errand(now, number, false, out);
        }
        for name in self.outboxes.keys().cloned().collect::<Vec<_>>() {
            self.send_call(now, &name, out);
        }
        // What is read here is declared anew: the server may have lost it.
        for name in self.kept.keys().cloned().collect::<Vec<_>>() {
            if self.kept.get(&name).is_some_and(|kept| kept.presence.is_read()) {
                self.declare(now, &name, out);
            }
            self.touched.push(name);
        }
        // And everything is compared: it may be another server.
        let live = self.kept.iter().filter(|(_, kept)| kept.subscribed && kept.copy.is_live());
        self.fresh = live.map(|(name, _)| Arc::clone(name)).collect();
    }

    fn down(&mut self, now: Moment, line: Line) {
        self.counts.reconnects += 1;
        match line {
            Line::Command => {
                self.fence = None;
                self.fenced.clear();
                self.under_way.clear();
                for errand in self.errands.values_mut() {
                    errand.sent = false;
                }
                self.outboxes.retain(|_, outbox| {
                    outbox.lost();
                    !outbox.is_empty()
                });
                for kept in self.kept.values_mut() {
                    (kept.served, kept.read) = (0, None);
                    kept.copy.lost_read();
                }
                self.probed = None;
                if let Some((_, _, by)) = &mut self.closing {
                    *by = now.at;
                }
            }
            Line::Subscriber => {
                self.subscriber_up = false;
                self.fresh.clear();
                for kept in self.kept.values_mut() {
                    kept.subscribed = false;
                }
            }
        }
    }

    fn push(&mut self, now: Moment, push: Push, out: &mut Vec<Output>) {
        (self.last_push, self.probed) = (now.at, None);
        match push {
            Push::Echo { .. } => {}
            Push::Disconnect { reader, before } => out.push(Output::Tell(Tell::Disconnect(reader, before))),
            Push::Stream(name, news) => {
                let Some(kept) = self.kept.get_mut(&name) else { return };
                if let News::Present { process, readers, after, presence } = news {
                    let ours = process == self.rules.process;
                    if !ours && !readers.is_empty() {
                        self.alive.heard(&process, now.at);
                    }
                    // Others have taken this process for dead.
                    let buried = ours && readers.is_empty() && kept.presence.is_read();
                    if !kept.presence.pushed(process, readers, after, presence) {
                        kept.copy.must_read();
                    }
                    if buried {
                        self.declare(now, &name, out);
                    }
                } else {
                    let mut told = Vec::new();
                    kept.copy.pushed(news, &mut told, &mut self.counts);
                    kept.waiting |= told.contains(&Told::Removed);
                    tell(out, &name, told);
                }
                self.touched.push(name);
            }
        }
    }

    /// A long list of what replies are for.
    fn reply(&mut self, now: Moment, id: RequestId, reply: Reply, out: &mut Vec<Output>) {
        let Some(pending) = self.under_way.remove(&id) else { return };
        self.counts.requests += 1;
        self.counts.round_trip = now.at.saturating_sub(pending.sent);
        if self.closing.as_ref().is_some_and(|(_, lease, _)| *lease == id) {
            self.end(Changed::Done, out);
            return;
        }
        if reply == Reply::Fenced {
            self.fenced.push((id, pending.what));
            if self.fenced.len() == 1 {
                self.request(now, What::Fence, Request::Fence, out);
            }
            return;
        }
        match pending.what {
            What::Call(name) => self.published(now, &name, id, reply, out),
            What::Read(name, _) => self.was_read(now, &name, id, reply, out),
            What::Compare(sent, fresh) => {
                if let Reply::Compared(seen) = reply {
                    for ((name, mark), seen) in sent.iter().zip(seen) {
                        self.compared(now, name, *mark, seen, fresh, out);
                    }
                }
            }
            What::Errand(number) => {
                if let Some(errand) = self.errands.remove(&number) {
                    let changed = match reply {
                        Reply::Unknown { .. } => Changed::Unknown,
                        Reply::Refused(why) => Changed::Refused(why),
                        _ => Changed::Done,
                    };
                    give(out, errand.answer, changed);
                }
            }
            What::Lease => {
                if let Reply::Leases(leases) = reply {
                    self.leases(now, leases, pending.sent, out);
                }
            }
            What::Disconnected => {
                if let Reply::Disconnected(readers) = reply {
                    out.extend(readers.into_iter().map(|(who, before)| Output::Tell(Tell::Disconnect(who, before))));
                }
            }
            What::Fence => {
                if let Reply::Fence(fence) = reply {
                    self.fence_read(now, fence, out);
                }
            }
            What::Present(name, readers) => {
                if let (Reply::Done, Some(kept)) = (reply, self.kept.get_mut(&name)) {
                    kept.presence.confirmed(&readers);
                }
            }
            What::Left(name) => {
                if reply == Reply::Done {
                    self.left.remove(&name);
                }
            }
            What::Note => {}
        }
    }

    fn published(&mut self, now: Moment, name: &Name, id: RequestId, reply: Reply, out: &mut Vec<Output>) {
        let Some(outbox) = self.outboxes.get_mut(name) else { return };
        let repeated = outbox.is_repeated();
        let answers = outbox.replied(id);
        let copy = self.kept.get_mut(name);
        match reply {
            Reply::Published(outcomes) => {
                for outcome in &outcomes {
                    if let UnitOutcome::New { epoch, .. } = outcome {
                        self.last_epoch = self.last_epoch.max(epoch.0);
                    }
                }
                let mut holds = Vec::new();
                for ((answer, events), outcome) in answers.into_iter().zip(outcomes) {
                    match (answer, &outcome, &copy) {
                        (UnitAnswer::Published(answer), &UnitOutcome::New { epoch, first }, Some(kept))
                            if kept.copy.is_live() && kept.subscribed =>
                        {
                            let published = Published::New { epoch, first };
                            let (last, until) = (first + events.max(1) - 1, now.at + COPY_WAIT);
                            holds.push(Hold { epoch, last, until, answer, published });
                        }
                        (answer, outcome, _) => give_unit(out, answer, outcome.clone()),
                    }
                }
                if let (Some(kept), Some(hold)) = (copy, holds.first()) {
                    self.timers.insert((hold.until, Timer::Kept(Arc::clone(name))));
                    kept.holds.append(&mut holds);
                    self.touched.push(Arc::clone(name));
                }
            }
            Reply::Refused(why) if !repeated => {
                for (answer, _) in answers {
                    let why = Arc::clone(&why);
                    out.push(Output::Tell(Tell::Answer(Answered(Box::new(move || answer.refused(&why))))));
                }
            }
            // A later call was executed, or the reply is none: what came of this one is not known.
            _ => drop(answers),
        }
        self.send_call(now, name, out);
        self.rearm(name);
    }

    /// The timer of an outbox, for the first of those that are there now.
    fn rearm(&mut self, name: &Name) {
        match self.outboxes.get(name) {
            Some(outbox) if outbox.is_empty() => {
                self.outboxes.remove(name);
            }
            Some(outbox) => {
                if let Some(deadline) = outbox.deadline() {
                    self.timers.insert((deadline, Timer::Outbox(Arc::clone(name))));
                }
            }
            None => {}
        }
    }

    fn was_read(&mut self, now: Moment, name: &Name, id: RequestId, reply: Reply, out: &mut Vec<Output>) {
        let Some(kept) = self.kept.get_mut(name).filter(|kept| kept.read == Some(id)) else { return };
        kept.read = None;
        let served: Vec<Opener> = kept.openers.drain(..kept.served).collect();
        kept.served = 0;
        let mut told = Vec::new();
        let wanted = kept.held || kept.waiting || served.iter().any(|opener| opener.answer.is_some());
        match reply {
            // Everybody who asked for it has given up.
            _ if !wanted => kept.copy = Copy::default(),
            Reply::Opened(opening) => {
                let (epoch, made) = (Epoch(opening.mark.epoch), opening.made);
                let again = take_readers(kept, &opening, &mut self.alive, &self.rules.process, now);
                kept.copy.read(*opening, &mut told, &mut self.counts);
                kept.held = true;
                kept.waiting = false;
                tell(out, name, told);
                for (index, opener) in served.into_iter().enumerate() {
                    opener.give(out, Opened::Open { epoch, made: made && index == 0 });
                }
                if again {
                    self.declare(now, name, out);
                }
            }
            Reply::Unknown { removed } => {
                kept.copy.read_nothing(removed, kept.presence.is_read(), &mut told);
                kept.waiting |= served.iter().any(|opener| opener.wait) || told.contains(&Told::Removed) || kept.held;
                tell(out, name, told);
                for opener in served {
                    opener.give(out, Opened::Unknown);
                }
            }
            reply => {
                let why = if let Reply::Refused(why) = reply { why } else { "no reply of a read".into() };
                kept.copy.lost_read();
                kept.not_before = now.at + RETRY_AFTER;
                self.timers.insert((kept.not_before, Timer::Kept(Arc::clone(name))));
                for opener in served {
                    kept.waiting |= opener.wait;
                    opener.give(out, Opened::Refused(Arc::clone(&why)));
                }
            }
        }
        self.touched.push(Arc::clone(name));
    }

    fn compared(&mut self, now: Moment, name: &Name, sent: Mark, seen: Seen, fresh: bool, out: &mut Vec<Output>) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        let mut told = Vec::new();
        let is_read = kept.presence.is_read();
        let behind = kept.copy.compared(sent, seen, is_read, &mut told, &mut self.counts);
        kept.waiting |= told.contains(&Told::Removed);
        tell(out, name, told);
        if let Seen::There { mark, presence } = seen
            && (behind || presence != kept.presence.version())
        {
            if fresh {
                self.counts.fills += u64::from(behind);
                kept.copy.must_read();
            } else {
                self.suspects.push_back((now.at + SUSPECT_AFTER, Arc::clone(name), mark, presence));
            }
        }
        self.touched.push(Arc::clone(name));
    }

    fn leases(&mut self, now: Moment, leases: Vec<Arc<str>>, asked: Duration, out: &mut Vec<Output>) {
        if !self.alive.listed(leases, asked) {
            return;
        }
        let mut buried = Vec::new();
        for (name, kept) in &self.kept {
            for process in kept.presence.processes().filter(|process| self.alive.is_dead(process)) {
                buried.push((Arc::clone(name), Arc::clone(process)));
            }
            self.touched.push(Arc::clone(name));
        }
        for (name, process) in buried {
            self.request(now, What::Note, Request::Present { name, process, readers: Bytes::new() }, out);
        }
    }

    /// The fence was read anew on the command connection: what was refused for it is repeated, now sure of it.
    fn fence_read(&mut self, now: Moment, fence: Fence, out: &mut Vec<Output>) {
        if self.fence.as_ref() != Some(&fence) {
            let live = self.kept.iter().filter(|(_, kept)| kept.subscribed && kept.copy.is_live());
            self.fresh = live.map(|(name, _)| Arc::clone(name)).collect();
        }
        self.fence = Some(fence);
        let guard = self.guard(now, true);
        for (refused, what) in std::mem::take(&mut self.fenced) {
            let request = match &what {
                What::Call(name) => {
                    let by = RequestId(self.last_request + 1);
                    let again = self.outboxes.get_mut(name).and_then(|outbox| outbox.again(refused, by));
                    let Some(call) = again else { continue };
                    let (name, process) = (Arc::clone(name), Arc::clone(&self.rules.process));
                    let (call, units, make) = (call.number, call.units, call.make);
                    Request::Publish { name, guard: guard.clone(), process, call, units, make }
                }
                What::Read(name, open) => {
                    let Some(kept) = self.kept.get_mut(name).filter(|kept| kept.read == Some(refused)) else {
                        continue;
                    };
                    kept.read = Some(RequestId(self.last_request + 1));
                    Request::Open(Box::new(Open { guard: guard.clone(), ..(**open).clone() }))
                }
                What::Errand(number) => {
                    self.send_errand(now, *number, true, out);
                    continue;
                }
                _ => continue,
            };
            self.request(now, what, request, out);
        }
    }

    // ---- What is due ----

    fn tick(&mut self, now: Moment, out: &mut Vec<Output>) {
        while let Some((_, timer)) = self.timers.first().filter(|(at, _)| *at <= now.at).cloned() {
            self.timers.pop_first();
            match timer {
                Timer::Outbox(name) => {
                    if let Some(outbox) = self.outboxes.get_mut(&name) {
                        outbox.expire(now.at);
                    }
                    self.rearm(&name);
                }
                Timer::Kept(name) => self.touched.push(name),
                Timer::Errand(number) => {
                    if let Some(errand) = self.errands.remove(&number) {
                        give(out, errand.answer, Changed::Unavailable);
                    }
                }
            }
        }
        while let Some((_, name, mark, presence)) = self.suspects.front().filter(|(at, ..)| *at <= now.at).cloned() {
            self.suspects.pop_front();
            if let Some(kept) = self.kept.get_mut(&name) {
                let behind = mark.is_beyond(kept.copy.mark());
                if (behind || presence != kept.presence.version()) && kept.copy.stale() == Stale::No {
                    self.counts.fills += u64::from(behind);
                    kept.copy.must_read();
                }
                self.touched.push(name);
            }
        }
        if self.closing.as_ref().is_some_and(|(_, _, by)| *by <= now.at) {
            self.end(Changed::Unavailable, out);
        }
        if self.fence.is_some() {
            self.tick_connected(now, out);
        }
    }

    fn tick_connected(&mut self, now: Moment, out: &mut Vec<Output>) {
        let silent = self.under_way.first_key_value().is_some_and(|(_, pending)| pending.sent + SILENT <= now.at);
        if silent {
            self.reconnect(now, Line::Command, out);
            return;
        }
        if self.subscriber_up {
            match self.probed {
                Some(at) if at + SILENT <= now.at => self.reconnect(now, Line::Subscriber, out),
                None if self.last_push + PROBE_AFTER <= now.at => {
                    self.probed = Some(now.at);
                    let (process, number) = (Arc::clone(&self.rules.process), self.last_request);
                    self.request(now, What::Note, Request::Probe { process, number }, out);
                }
                _ => {}
            }
        }
        if self.next_lease <= now.at {
            self.renew(now, out);
        }
        if self.next_compare <= now.at {
            self.next_compare = now.at + COMPARE_EVERY / PARTS;
            self.next_part = (self.next_part + 1) % PARTS;
            let part = self.next_part;
            if part == 0 {
                self.say_left(now, out);
                self.request(now, What::Fence, Request::Fence, out);
            }
            let all = self.kept.iter().filter(|(_, kept)| kept.part == part);
            let names: Vec<Name> = all.map(|(name, _)| Arc::clone(name)).collect();
            for name in &names {
                if self.kept.get(name).is_some_and(|kept| kept.presence.is_unsaid()) {
                    self.declare(now, name, out);
                }
            }
            self.compare(now, names, false, out);
        }
        let fresh = std::mem::take(&mut self.fresh);
        self.compare(now, fresh, true, out);
    }

    fn renew(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.next_lease = now.at + RENEW_EVERY;
        if self.closing.is_none() {
            let process = Arc::clone(&self.rules.process);
            self.request(now, What::Lease, Request::Lease { process, lease: LEASE }, out);
        }
    }

    fn compare(&mut self, now: Moment, names: Vec<Name>, fresh: bool, out: &mut Vec<Output>) {
        let mut comparable = Vec::new();
        for name in names {
            if let Some(kept) = self.kept.get(&name)
                && kept.subscribed
                && !kept.copy.is_reading()
                && kept.copy.stale() == Stale::No
                && (kept.copy.is_live() || kept.waiting)
            {
                comparable.push((Arc::clone(&name), kept.copy.mark(), kept.presence.is_read()));
            }
        }
        for part in comparable.chunks(MOST_COMPARED) {
            let names = part.iter().map(|(name, _, touch)| (Arc::clone(name), *touch)).collect();
            let sent = part.iter().map(|(name, mark, _)| (Arc::clone(name), *mark)).collect();
            self.request(now, What::Compare(sent, fresh), Request::Compare { names }, out);
        }
    }

    fn reconnect(&mut self, now: Moment, line: Line, out: &mut Vec<Output>) {
        out.push(Output::Reconnect(line));
        self.down(now, line);
    }

    /// What a stream wants now: its answers given up, its copy read, its name forgotten.
    fn advance(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        // Those that a read is under way for keep their places, answered.
        for opener in kept.openers.iter_mut().take_while(|opener| opener.deadline <= now.at) {
            if let Some(answer) = opener.answer.take() {
                kept.waiting |= opener.wait;
                give(out, answer, Opened::Unavailable);
            }
        }
        if kept.served == 0 {
            kept.openers.retain(|opener| opener.answer.is_some());
        }
        release_holds(kept, now, out);
        if kept.copy.is_live()
            && let Some(totals) = kept.presence.news(&self.rules.process, &self.alive)
        {
            out.push(Output::Tell(Tell::Present(Arc::clone(name), totals)));
        }
        if kept.openers.is_empty() && !kept.held && !kept.waiting {
            self.kept.remove(name);
            if self.subscriber_up {
                out.push(Output::Unsubscribe(vec![Arc::clone(name)]));
            }
            return;
        }
        self.read(now, name, out);
    }

    fn read(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        self.last_epoch = self.last_epoch.max(self.kept.get(name).map_or(0, |kept| kept.copy.mark().epoch));
        let guard = self.guard(now, false);
        let Some(kept) = self.kept.get_mut(name) else { return };
        let wanted = kept.copy.stale() != Stale::No || !kept.openers.is_empty();
        let may = self.fence.is_some() && kept.subscribed && !kept.copy.is_reading() && kept.not_before <= now.at;
        if !wanted || !may {
            return;
        }
        let mut above = 0;
        let mut make = None;
        match kept.copy.stale() {
            Stale::Rewound(epoch) => above = epoch,
            Stale::Gone => {
                make = kept.copy.options().map(|options| Make { options, given: super::SharedPatch::default() });
            }
            Stale::No | Stale::Behind => {
                make = kept.openers.front().and_then(|opener| opener.make);
                kept.served = if make.is_some() {
                    1
                } else {
                    kept.openers.iter().take_while(|opener| opener.make.is_none()).count()
                };
            }
        }
        let from = kept.copy.begin_read();
        kept.read = Some(RequestId(self.last_request + 1));
        let open = Box::new(Open { name: Arc::clone(name), guard, make, above, from });
        self.request(now, What::Read(Arc::clone(name), open.clone()), Request::Open(open), out);
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

    fn guard(&self, now: Moment, sure: bool) -> Guard {
        let epoch = now.wall.max(self.last_epoch + 1);
        Guard { fence: self.fence.clone().filter(|_| !self.rules.trust), sure, epoch }
    }
}

/// Takes in who reads a stream elsewhere; whether this process must declare its own readers.
fn take_readers(kept: &mut Kept, opening: &Opening, alive: &mut Alive, process: &Arc<str>, now: Moment) -> bool {
    for (process, _) in &opening.readers {
        alive.read(process, now.at);
    }
    kept.presence.read(process, opening.readers.clone(), opening.presence)
}

/// Answers the publishes whose events have come here, or will not soon.
fn release_holds(kept: &mut Kept, now: Moment, out: &mut Vec<Output>) {
    if kept.holds.is_empty() {
        return;
    }
    let mark = kept.copy.mark();
    for hold in std::mem::take(&mut kept.holds) {
        let there = mark.epoch > hold.epoch.0 || (mark.epoch == hold.epoch.0 && mark.newest >= hold.last);
        if there || hold.until <= now.at || !kept.copy.is_live() {
            give(out, hold.answer, hold.published);
        } else {
            kept.holds.push(hold);
        }
    }
}

fn give<T: super::Unanswered + Send + 'static>(out: &mut Vec<Output>, answer: Answer<T>, value: T) {
    out.push(Output::Tell(Tell::Answer(Answered(Box::new(move || answer.give(value))))));
}

fn give_unit(out: &mut Vec<Output>, answer: UnitAnswer, outcome: UnitOutcome) {
    out.push(Output::Tell(Tell::Answer(Answered(Box::new(move || answer.give(&outcome))))));
}

fn tell(out: &mut Vec<Output>, name: &Name, told: Vec<Told>) {
    out.extend(told.into_iter().map(|told| {
        let name = Arc::clone(name);
        Output::Tell(match told {
            Told::Begin(life) => Tell::Begin(name, life),
            Told::Append(tail) => Tell::Append(name, tail),
            Told::Options(options) => Tell::Options(name, options),
            Told::Removed => Tell::Removed(name),
        })
    }));
}
