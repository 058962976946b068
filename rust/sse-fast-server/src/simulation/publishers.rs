//! Publishers of the simulation: each a thread of its own, with its own account.
//!
//! Owns: attempts that wait, and what their waiting cost: time that passes while a stream waits for sockets is charged to
//! everybody in its queue, and the engine's accounts must say the same. Checked here: publishers append in the order they
//! came; a call pays at most W/2, an account at most W in a minute; without patience none is paid; an id that is returned is
//! the oracle's. Threads that wait do something else now and then, and may publish there.

use std::time::Duration;

use sse_fast_core::budget::{Micros, Spent};
use sse_fast_core::event::{self, CheckedEvent, NewEvent};
use sse_fast_oracle::content::{self, Publish};

use super::times::Times;
use super::told::{CHUNK, SimStream};
use crate::delivery::Patience;
use crate::stream::{Attempt, Caller, Inner, Progress, PublishError, Published, Role};

/// How long the place is kept of one whose thread does something else.
const KEPT: Micros = 10_000;

/// A publisher that waits.
pub(super) struct Waiting {
    pub(super) stream: usize,
    account: usize,
    serial: u64,
    publish: Publish,
    attempt: Attempt<'static>,
    role: Role,
    /// When it looks again by itself.
    pub(super) until: Micros,
    /// What it has paid, by our time and by the engine's account.
    paid: Micros,
    booked: Micros,
    /// How late those were who should have ended that: it pays so much more than it may.
    late: Micros,
    /// Since when its thread does something else.
    away: Option<Micros>,
    /// It was away for longer than its place is kept: others may have gone before it.
    was_passed: bool,
}

impl Waiting {
    fn told(&self) -> String {
        format!("for {} µs, and paid {}", self.paid, self.booked)
    }
}

/// What a publisher's thread has.
#[derive(Default)]
struct Account {
    /// The engine's.
    spent: Spent,
    paid: Times,
    late: Times,
}

/// See the module.
pub(super) struct Publishers {
    pub(super) waiting: Vec<Waiting>,
    accounts: Vec<Account>,
    pub(super) patience: Patience,
    /// Whether the first account is an event loop's.
    pub(super) has_loop: bool,
    /// Whether publishers are not told that they may go on.
    pub(super) loses_wakeups: bool,
}

impl Publishers {
    pub(super) fn new(accounts: usize) -> Self {
        let accounts = (0..accounts).map(|_| Account::default()).collect();
        Self { waiting: Vec::new(), accounts, patience: Patience::Lossless, has_loop: false, loses_wakeups: false }
    }

    /// Publishes, or joins those who wait.
    pub(super) fn publish(
        &mut self,
        at: usize,
        stream: &mut SimStream,
        account: usize,
        publish: &Publish,
        is_last: bool,
        now: Micros,
    ) {
        // A thread that waits may publish only where it does something else.
        let waits = self.waiting.iter().any(|other| other.account == account && other.away.is_none());
        if stream.is_complete() || stream.stream.is_closed() || waits {
            return;
        }
        let serial = stream.next_serial;
        stream.next_serial += 1;
        let role = if is_last { Role::Terminal } else { Role::Ordinary };
        let mut publish = publish.clone();
        if let Some(id) = &mut publish.own_id {
            *id = format!("own {}:{serial}", stream.all.tag);
        }
        let mut attempt = Attempt::new(checked(&stream.all.tag, serial, &publish), role, self.caller(account));
        let handle = stream.stream.clone();
        let mut inner = handle.lock();
        let at_once = attempt.at_once(&handle, &mut inner).expect("an open stream");
        let mut waiting = Waiting {
            stream: at,
            account,
            serial,
            publish,
            attempt,
            role,
            until: now,
            paid: 0,
            booked: 0,
            late: 0,
            away: None,
            was_passed: false,
        };
        let step = match at_once {
            Some(published) => Ok(Progress::Published(published)),
            None => waiting.attempt.step(&handle, &mut inner, now, &mut self.accounts[account].spent),
        };
        match step {
            Ok(Progress::Published(published)) => {
                Self::appended(&waiting, stream, &inner, &published);
                handle.finish_publish(inner);
            }
            Ok(Progress::Wait(until)) => {
                waiting.until = until;
                self.waiting.push(waiting);
            }
            Err(PublishError::LoopWouldWait { .. }) => self.check_refused(account),
            Err(error) => panic!("{error}"),
        }
    }

    /// The publisher of a stream that is next of those that are not away, and whether one that is away is still waited for.
    pub(super) fn next_of(&self, stream: usize, now: Micros) -> Option<(&Waiting, bool)> {
        let mut queue = self.waiting.iter().filter(|waiting| waiting.stream == stream);
        let mut is_kept = false;
        let next = queue.find(|waiting| {
            is_kept |= waiting.away.is_some_and(|since| now < since + KEPT);
            waiting.away.is_none()
        });
        next.map(|next| (next, is_kept))
    }

    /// When publishers look again by themselves.
    pub(super) fn looks(&self) -> impl Iterator<Item = Micros> + '_ {
        self.waiting.iter().filter(|waiting| waiting.away.is_none()).map(|waiting| waiting.until)
    }

    /// What an account's thread does last of all that waits.
    fn innermost(&mut self, account: usize) -> Option<usize> {
        self.waiting.iter().rposition(|waiting| waiting.account == account)
    }

    /// A thread that waits does something else.
    pub(super) fn step_aside(&mut self, streams: &[SimStream], account: usize, now: Micros) {
        let Some(at) = self.innermost(account).filter(|&at| self.waiting[at].away.is_none()) else { return };
        let waiting = &mut self.waiting[at];
        waiting.away = Some(now);
        let handle = &streams[waiting.stream].stream;
        let spent = &mut self.accounts[account].spent;
        let before = spent.within_a_minute(now);
        waiting.attempt.step_aside(handle, &mut handle.lock(), now, spent);
        waiting.booked += spent.within_a_minute(now) - before;
    }

    /// It is back, and looks.
    pub(super) fn come_back(&mut self, account: usize, now: Micros) {
        let Some(at) = self.innermost(account) else { return };
        let waiting = &mut self.waiting[at];
        if let Some(since) = waiting.away.take() {
            waiting.was_passed |= now >= since + KEPT;
            waiting.until = now;
        }
    }

    /// A thread gives up what it does last: nothing is published, and it has paid for its wait.
    pub(super) fn give_up(&mut self, streams: &[SimStream], account: usize, now: Micros) {
        let Some(at) = self.innermost(account) else { return };
        let mut waiting = self.waiting.remove(at);
        let handle = &streams[waiting.stream].stream;
        let spent = &mut self.accounts[account].spent;
        let before = spent.within_a_minute(now);
        waiting.attempt.leave(handle, &mut handle.lock(), now, spent);
        waiting.booked += spent.within_a_minute(now) - before;
        self.check_paid(&waiting, now);
    }

    /// Everybody comes back who can; says whether anybody was away.
    pub(super) fn all_come_back(&mut self, now: Micros) -> bool {
        let was_away = self.waiting.iter().any(|waiting| waiting.away.is_some());
        for account in 0..self.accounts.len() {
            self.come_back(account, now);
        }
        was_away
    }

    /// What an account has paid in the last minute.
    pub(super) fn paid_by(&self, account: usize, now: Micros) -> Micros {
        self.accounts[account].paid.within_a_minute(now)
    }

    /// How a publisher may wait.
    fn caller(&self, account: usize) -> Caller {
        if self.has_loop && account == 0 { Caller::EventLoop } else { Caller::Thread }
    }

    fn check_refused(&self, account: usize) {
        let is_loop = self.caller(account) == Caller::EventLoop;
        assert!(is_loop && self.patience == Patience::Lossless, "only a loop that may skip nothing is refused");
    }

    /// Every publisher that waits is woken; or, where wake-ups are lost, those whose time has come.
    pub(super) fn step(&mut self, streams: &mut [SimStream], now: Micros, lazily: bool) {
        self.count_late(streams, now);
        let mut again = true;
        while std::mem::take(&mut again) {
            let mut still = Vec::new();
            for mut waiting in std::mem::take(&mut self.waiting) {
                if waiting.away.is_some() || lazily && now < waiting.until {
                    still.push(waiting);
                    continue;
                }
                let stream = &mut streams[waiting.stream];
                let handle = stream.stream.clone();
                let mut inner = handle.lock();
                let account = &mut self.accounts[waiting.account].spent;
                let before = account.within_a_minute(now);
                let step = waiting.attempt.step(&handle, &mut inner, now, account);
                waiting.booked += account.within_a_minute(now) - before;
                match step {
                    Ok(Progress::Wait(until)) => {
                        assert!(until > now, "a publisher that waits waits for something");
                        waiting.until = until;
                        still.push(waiting);
                        continue;
                    }
                    Ok(Progress::Published(published)) => {
                        Self::appended(&waiting, stream, &inner, &published);
                        handle.finish_publish(inner);
                    }
                    Err(PublishError::Ended { .. }) => assert!(stream.all.ended, "it has ended"),
                    Err(PublishError::Removed { .. }) => assert!(stream.removed, "it was removed"),
                    Err(PublishError::LoopWouldWait { .. }) => self.check_refused(waiting.account),
                    Err(PublishError::Closed { .. }) => assert!(stream.stream.is_closed(), "the server was closed"),
                    Err(error) => panic!("{error}"),
                }
                self.check_paid(&waiting, now);
                again = true;
            }
            self.waiting.append(&mut still);
        }
    }

    /// Time has passed while a stream's publishers waited for sockets: all of them pay.
    pub(super) fn charge(&mut self, stream: usize, now: Micros, micros: Micros) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.stream == stream && waiting.away.is_none()) {
            waiting.paid += micros;
            self.accounts[waiting.account].paid.add(now, micros);
        }
    }

    /// The first of a stream's publishers looks later than it wanted to: that is no fault of theirs.
    fn count_late(&mut self, streams: &mut [SimStream], now: Micros) {
        for (at, stream) in streams.iter_mut().enumerate() {
            let next = self.next_of(at, now).filter(|_| stream.stream.lock().is_paying());
            let Some(late) = next.and_then(|(next, _)| now.checked_sub(next.until)).filter(|late| *late > 0) else {
                continue;
            };
            stream.late.add(now, late);
            for waiting in self.waiting.iter_mut().filter(|waiting| waiting.stream == at) {
                waiting.late += late;
                self.accounts[waiting.account].late.add(now, late);
            }
        }
    }

    fn check_paid(&self, waiting: &Waiting, now: Micros) {
        assert!(waiting.booked == waiting.paid, "it waited {}", waiting.told());
        // Who joins wakes the first, which must not wait longer than it may pay: where that is lost it may pay more.
        let Patience::Within(limit) = self.patience else { return };
        if self.loses_wakeups {
            return;
        }
        let Waiting { paid, late, .. } = *waiting;
        assert!(paid <= limit / 2 + late, "one call paid {paid} of {limit}");
        assert!(paid == 0 || self.caller(waiting.account) == Caller::Thread, "a loop's thread waits for no socket");
        let account = &self.accounts[waiting.account];
        let (paid, late) = (account.paid.within_a_minute(now), account.late.within_a_minute(now));
        assert!(paid <= limit + late, "an account paid {paid} of {limit} in a minute");
    }

    fn appended(waiting: &Waiting, stream: &mut SimStream, inner: &Inner, published: &Published) {
        let (serial, publish) = (waiting.serial, &waiting.publish);
        let in_order = serial > stream.last_serial || waiting.was_passed;
        assert!(in_order, "publishers append in the order they came");
        stream.last_serial = stream.last_serial.max(serial);
        let position = stream.all.newest() + 1;
        let event = stream.all.published(serial, position, publish);
        let id = event.id.clone().unwrap_or_else(|| stream.all.id_of(position));
        assert_eq!(published.id(), id, "publish returns the id");
        stream.largest = stream.largest.max(event.block.len() + CHUNK);
        stream.all.publish(event);
        if publish.snapshot {
            stream.all.set_snapshot(serial);
        }
        stream.all.ended = waiting.role == Role::Terminal;
        let log = inner.state.log();
        assert_eq!((log.first(), log.newest()), (stream.all.first, stream.all.newest()), "the bounds reached");
    }
}

/// An event that lives as long as the process: an attempt borrows it for as long as it waits.
fn checked(tag: &str, serial: u64, publish: &Publish) -> &'static CheckedEvent<'static> {
    let data: &'static str = content::data_of(tag, serial, publish.padding).leak();
    let snapshot: &'static str = content::snapshot_of(tag, serial).leak();
    let id: Option<&'static str> = publish.own_id.clone().map(|id| &*id.leak());
    let new = NewEvent {
        data: data.as_bytes(),
        event: publish.named.then_some(content::NAME),
        id,
        retry: publish.named.then_some(Duration::from_millis(content::RETRY_MS)),
        snapshot: publish.snapshot.then_some(snapshot.as_bytes()),
    };
    Box::leak(Box::new(event::check(&new).expect("an event that may stand on the wire")))
}
