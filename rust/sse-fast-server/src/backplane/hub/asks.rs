//! What the engine asks of the machine.
//!
//! Owns: what each ask becomes: an opener, an entry of an outbox, an errand, a declaration of readers. Must not know: what
//! comes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::outbox::{Entry, UnitAnswer};
use super::super::protocol::{Request, RequestId, Unit, UnitSnapshot};
use super::super::{Answer, Ask, Changed, Make, Name, Opened};
use super::tells::give;
use super::{Errand, Hub, Kept, Moment, Opener, Output, PARTS, Timer, What};

impl Hub {
    pub(super) fn ask(&mut self, now: Moment, ask: Ask, out: &mut Vec<Output>) {
        let deadline = now.at + self.rules.timeout;
        match ask {
            Ask::Open { name, make, wait, answer } => self.open(now, name, make, wait, answer, out),
            Ask::Release { name } => {
                if let Some(kept) = self.kept.get_mut(&name) {
                    // The next to open it gets a beginning; a reply that is under way is not for it.
                    let Kept { openers, holds, part, subscribed, presence, .. } = std::mem::take(kept);
                    let is_said = !presence.is_read() && !presence.is_unsaid();
                    *kept = Kept { subscribed, openers, part, ..Kept::default() };
                    for hold in holds {
                        give(out, hold.answer, hold.published);
                    }
                    self.touched.push(Arc::clone(&name));
                    if !is_said {
                        self.left.insert(Arc::clone(&name));
                        self.say_left_one(now, name, out);
                    }
                }
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
                let guard = self.guard(now, &name, false);
                self.errand(now, Request::Configure { name, guard, patch }, answer, out);
            }
            Ask::Remove { name, answer } => {
                let (process, call) = (Arc::clone(&self.rules.process), self.last_errand + 1);
                self.errand(now, Request::Remove { name, process, call }, answer, out);
            }
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

    pub(super) fn open(
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
        kept.openers.push_back(Opener { make, wait, answer: Some(answer), tried: false, deadline });
        self.timers.insert((deadline, Timer::Kept(Arc::clone(&name))));
        self.touched.push(name);
    }

    pub(super) fn post(&mut self, now: Moment, name: &Name, entry: Entry, out: &mut Vec<Output>) {
        let deadline = entry.deadline;
        let outbox = self.outboxes.entry(Arc::clone(name)).or_default();
        if outbox.deadline().is_none() {
            self.timers.insert((deadline, Timer::Outbox(Arc::clone(name))));
        }
        outbox.push(entry);
        self.send_call(now, name, out);
    }

    pub(super) fn send_call(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        let guard = self.guard(now, name, false);
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

    pub(super) fn errand(&mut self, now: Moment, request: Request, answer: Answer<Changed>, out: &mut Vec<Output>) {
        self.last_errand += 1;
        let (number, deadline) = (self.last_errand, now.at + self.rules.timeout);
        self.errands.insert(number, Errand { request, answer, tried: false });
        self.timers.insert((deadline, Timer::Errand(number)));
        self.send_errand(now, number, false, out);
    }

    pub(super) fn send_errand(&mut self, now: Moment, number: u64, sure: bool, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        let Some(errand) = self.errands.get_mut(&number) else { return };
        errand.tried = true;
        let mut request = errand.request.clone();
        if let Request::Configure { name, guard, .. } = &mut request {
            *guard = self.guard(now, name, sure);
        }
        self.request(now, What::Errand(number), request, out);
    }

    /// Says how many readers there are here.
    pub(super) fn declare(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            return;
        }
        self.left.remove(name);
        if let Some(kept) = self.kept.get_mut(name) {
            kept.presence.said();
            let (process, readers) = (Arc::clone(&self.reader), kept.presence.mine().clone());
            let what = What::Present(Arc::clone(name), readers.clone());
            self.request(now, what, Request::Present { name: Arc::clone(name), process, readers }, out);
        }
    }

    /// Says that nobody reads here any more what was released.
    pub(super) fn say_left(&mut self, now: Moment, out: &mut Vec<Output>) {
        for name in self.left.clone() {
            self.say_left_one(now, name, out);
        }
    }

    fn say_left_one(&mut self, now: Moment, name: Name, out: &mut Vec<Output>) {
        if self.fence.is_some() {
            let (process, readers) = (Arc::clone(&self.reader), Bytes::new());
            self.request(now, What::Left(Arc::clone(&name)), Request::Present { name, process, readers }, out);
        }
    }

    /// Says once more who reads what something was said of that may be executed late.
    pub(super) fn say_doubted(&mut self, now: Moment, out: &mut Vec<Output>) {
        for (name, left) in std::mem::take(&mut self.doubted) {
            if self.kept.contains_key(&name) {
                self.declare(now, &name, out);
            } else {
                self.say_left_one(now, Arc::clone(&name), out);
            }
            if left > 1 {
                self.doubted.insert(name, left - 1);
            }
        }
    }

    pub(super) fn close(&mut self, now: Moment, answer: Answer<Changed>, out: &mut Vec<Output>) {
        if self.fence.is_none() {
            self.closed = true;
            give(out, answer, Changed::Unavailable { done: None });
            return;
        }
        let read: Vec<Name> =
            self.kept.iter().filter(|(_, kept)| kept.presence.is_read()).map(|(name, _)| Arc::clone(name)).collect();
        for name in read {
            let (process, readers) = (Arc::clone(&self.reader), Bytes::new());
            self.request(now, What::Note, Request::Present { name, process, readers }, out);
        }
        let process = Arc::clone(&self.reader);
        let id = self.request(now, What::Note, Request::Lease { process, lease: Duration::ZERO }, out);
        self.closing = Some((answer, id, now.at + self.rules.timeout));
    }
}
