//! What all threads of the simulation share: streams with their oracles, publishers that wait, and what is to happen
//! between two writes.
//!
//! Owns: everything that threads other than the shards' do. Must not know: shards, sockets. A stream and its oracle are told
//! the same things in the same order; each append is held against the oracle.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::id::Epoch;
use sse_fast_core::options::{OnLag, StreamOptions, StreamPatch};
use sse_fast_oracle::content;
use sse_fast_oracle::everything::{Everything, Place};

use super::publishers::Publishers;
use super::times::Times;
use super::told::{Opened, SimStream};
use super::wire::Wire;
use crate::delivery::{Delivery, Patience};
use crate::presence::{Presence, PresenceEvent};
use crate::stream::Stream;

/// What other threads may do while a shard is inside a step, and with which stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    pub(super) stream: usize,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Publish { account: usize, publish: content::Publish },
    End { account: usize },
    Remove,
    Snapshot,
    Configure { patch: StreamPatch },
    Override { every: Duration },
    EndOverride { which: usize },
    Expire,
}

impl What {
    pub(super) fn on(self, stream: usize) -> Deed {
        Deed { stream, what: self }
    }
}

/// See the module.
pub(super) struct Stage {
    now: Cell<Micros>,
    pub(super) delivery: Arc<Delivery>,
    /// Where shards tell who comes and goes.
    presence: Presence,
    pub(super) streams: RefCell<Vec<SimStream>>,
    pub(super) publishers: RefCell<Publishers>,
    /// Every connection there was.
    pub(super) wires: RefCell<Vec<Weak<RefCell<Wire>>>>,
    /// What happens once so many more writes were begun.
    between: RefCell<VecDeque<(u32, Deed)>>,
    /// Streams that nobody touches in this step: their opening is under way and cannot be seen from outside.
    pub(super) frozen: RefCell<Vec<usize>>,
    /// Streams that readers were told to move to; they are on their way until their shard has obeyed.
    pub(super) on_the_way: RefCell<Vec<usize>>,
    failing: Cell<bool>,
    fault: RefCell<Option<&'static str>>,
}

impl Stage {
    pub(super) fn new(delivery: &Arc<Delivery>, presence: Presence, now: Micros, accounts: usize) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(now),
            delivery: Arc::clone(delivery),
            presence,
            streams: RefCell::default(),
            publishers: RefCell::new(Publishers::new(accounts)),
            wires: RefCell::default(),
            between: RefCell::default(),
            frozen: RefCell::default(),
            on_the_way: RefCell::default(),
            failing: Cell::new(false),
            fault: RefCell::default(),
        })
    }

    pub(super) fn now(&self) -> Micros {
        self.now.get()
    }

    pub(super) fn set_now(&self, now: Micros) {
        self.now.set(now);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failing.get()
    }

    pub(super) fn set_failing(&self, failing: bool) {
        self.failing.set(failing);
    }

    /// Notes a fault found where a panic would abort.
    pub(super) fn fault(&self, what: &'static str) {
        self.fault.borrow_mut().get_or_insert(what);
    }

    pub(super) fn check_faults(&self) {
        assert_eq!(*self.fault.borrow(), None);
    }

    /// A new stream; its index.
    pub(super) fn add(&self, options: StreamOptions) -> usize {
        let mut streams = self.streams.borrow_mut();
        let index = streams.len();
        let (epoch, tag) = (1_700_000_000 + index as u64, format!("t{index}"));
        let least_max_lag = options.max_lag;
        let disconnects = options.on_lag == OnLag::Disconnect;
        let stream = Stream::new(&tag, Epoch(epoch), &self.delivery, Arc::new(options.clone()));
        streams.push(SimStream {
            stream,
            all: Everything::new(&tag, &base_36(epoch), options),
            removed: false,
            present: 0,
            next_serial: 1,
            last_serial: 0,
            overrides: Vec::new(),
            retuned: self.now(),
            largest: 0,
            shrunk: 0,
            policies: 1,
            least_max_lag,
            disconnects,
            paid: Times::default(),
            late: Times::default(),
        });
        index
    }

    /// What the oracle says of an opening now.
    pub(super) fn opened(&self, stream: usize, last_event_id: Option<&str>) -> Opened {
        let place = self.streams.borrow()[stream].all.place(last_event_id);
        self.opened_at(stream, place)
    }

    /// The same for a reader whose place is known.
    pub(super) fn opened_at(&self, stream: usize, place: Place) -> Opened {
        let all = &self.streams.borrow()[stream];
        Opened {
            stream,
            place,
            expected: all.all.must_see_at(place, None),
            shrunk: all.shrunk,
            retry: all.all.options.retry.is_some(),
        }
    }

    /// Hears who came and went: those who came and have not gone are the subscribers there are.
    pub(super) fn hear_presence(&self) {
        let mut streams = self.streams.borrow_mut();
        let mut tell = |stream: &Stream, change: i64| {
            let known = streams.iter_mut().find(|known| known.stream.same(stream)).unwrap();
            known.present += change;
            assert!(known.present >= 0, "nobody leaves who has not come");
        };
        while let Some(events) = self.presence.take(Duration::ZERO).filter(|events| !events.is_empty()) {
            for event in events {
                match event {
                    PresenceEvent::Joined { stream, .. } => tell(&stream, 1),
                    PresenceEvent::Left { stream, .. } => tell(&stream, -1),
                    PresenceEvent::Empty { .. } | PresenceEvent::Forgotten { .. } => {}
                }
            }
        }
        for stream in streams.iter() {
            let present = i64::try_from(stream.stream.subscribers()).unwrap();
            assert_eq!(stream.present, present, "joins less leaves are those present");
        }
    }

    /// Something is to happen inside a step, after so many writes.
    pub(super) fn later(&self, writes: u32, deed: Deed) {
        self.between.borrow_mut().push_back((writes, deed));
    }

    /// A write begins: whatever is due happens first.
    pub(super) fn between(&self) {
        let mut due = Vec::new();
        self.between.borrow_mut().retain_mut(|(writes, deed)| {
            let is_due = *writes == 0;
            *writes = writes.saturating_sub(1);
            if is_due {
                due.push(deed.clone());
            }
            !is_due
        });
        for deed in due {
            self.act(&deed);
        }
        for stream in self.streams.borrow().iter() {
            assert!(!stream.stream.is_locked(), "a socket is written to under a stream's lock");
        }
    }

    /// Does it, where it can be done.
    pub(super) fn act(&self, deed: &Deed) {
        let (stream, what) = (deed.stream, &deed.what);
        if self.frozen.borrow().contains(&stream) {
            return;
        }
        match what {
            What::Publish { account, publish } => self.publish(stream, *account, publish, false),
            What::End { account } => self.publish(stream, *account, &content::Publish::default(), true),
            What::Expire => self.expire(stream),
            _ => self.streams.borrow_mut()[stream].act(what, self.now()),
        }
    }

    /// Its time has come: it is removed, unless somebody reads it or is on the way.
    fn expire(&self, at: usize) {
        let stream = &mut self.streams.borrow_mut()[at];
        if stream.is_complete() {
            return;
        }
        stream.removed = stream.stream.remove_if_idle();
        let wires: Vec<_> = self.wires.borrow().iter().filter_map(Weak::upgrade).collect();
        let of_it = |wire: &&Rc<RefCell<Wire>>| wire.borrow().reads(at) && wire.borrow().closed.is_none();
        let readers = wires.iter().filter(of_it).filter(|wire| wire.borrow().is_live()).count();
        assert!(!stream.removed || readers == 0 || self.delivery.is_closed(), "it expired under {readers} who read it");
        let is_kept_for_somebody = wires.iter().any(|wire| of_it(&wire)) || self.on_the_way.borrow().contains(&at);
        assert!(stream.removed || is_kept_for_somebody, "a stream is kept for nobody");
    }

    /// Publishes, or waits.
    pub(super) fn publish(&self, stream: usize, account: usize, publish: &content::Publish, is_last: bool) {
        let mut streams = self.streams.borrow_mut();
        self.publishers.borrow_mut().publish(stream, &mut streams[stream], account, publish, is_last, self.now());
    }

    /// Every publisher that waits looks whether it may go on.
    pub(super) fn step_publishers(&self, lazily: bool) {
        self.publishers.borrow_mut().step(&mut self.streams.borrow_mut(), self.now(), lazily);
    }
}

impl SimStream {
    pub(super) fn is_complete(&self) -> bool {
        self.removed || self.all.ended
    }

    /// The heartbeat in force.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.overrides.last().map(|&(_, every)| every).or(self.all.options.heartbeat)
    }

    fn act(&mut self, what: &What, now: Micros) {
        let before = self.heartbeat();
        match what {
            What::Remove if !self.is_complete() => {
                self.stream.remove();
                self.removed = true;
            }
            What::Snapshot if !self.is_complete() => {
                let serial = self.next_serial;
                self.next_serial += 1;
                let data = content::snapshot_of(&self.all.tag, serial);
                if self.stream.snapshot(data.as_bytes(), None).is_ok() {
                    self.all.set_snapshot(serial);
                }
            }
            What::Configure { patch } => {
                let Ok(options) = self.all.options.patched(patch) else { return };
                let (first, policy) = (self.all.first, self.all.options.on_lag);
                self.stream.configure(patch).unwrap();
                self.all.set_options(options);
                self.shrunk += u32::from(self.all.first > first);
                self.least_max_lag = self.least_max_lag.min(self.all.options.max_lag);
                self.policies += u32::from(self.all.options.on_lag != policy);
                self.disconnects |= self.all.options.on_lag == OnLag::Disconnect;
                self.check_bounds();
            }
            What::Override { every } => {
                let token = self.stream.push_heartbeat(*every, "overridden").unwrap();
                self.overrides.push((token, *every));
            }
            What::EndOverride { which } if !self.overrides.is_empty() => {
                let (token, _) = self.overrides.remove(which % self.overrides.len());
                self.stream.pop_heartbeat(token);
            }
            _ => {}
        }
        if self.heartbeat() != before {
            self.retuned = now;
        }
    }

    /// A gap within a connection ends before the newest, and no further than the policy skips. What is held only becomes
    /// newer until the gap is read.
    pub(super) fn check_end_of_gap(&self, range: Option<(u64, u64)>, patience: Patience) {
        let (_, to) = range.expect("within one life it is known what is missing");
        let newest = self.all.newest();
        assert!(to < newest, "the newest is never skipped");
        let lossless = patience == Patience::Lossless;
        let beyond = if lossless { 0 } else { (newest + 1).saturating_sub(self.least_max_lag) };
        let is_always_skip = self.policies == 1 && self.all.options.on_lag == OnLag::Skip;
        assert!(!is_always_skip || to < self.all.first.max(beyond), "it skips no further than it must");
    }

    pub(super) fn check_bounds(&self) {
        let inner = self.stream.lock();
        let log = inner.state.log();
        assert_eq!((log.first(), log.newest()), (self.all.first, self.all.newest()), "the bounds reached");
    }
}

fn base_36(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(char::from_digit(u32::try_from(number % 36).unwrap(), 36).unwrap());
        number /= 36;
    }
    digits.iter().rev().collect()
}
