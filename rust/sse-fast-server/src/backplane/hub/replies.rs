//! What replies mean to those whom they are for.
//!
//! Owns: where a reply goes, and what it does to outboxes, copies and the processes that are alive. Must not know: when
//! anything is asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::id::Epoch;

use super::super::copy::{Copy, Told};
use super::super::outbox::UnitAnswer;
use super::super::protocol::{Mark, News, Push, Reply, Request, RequestId, Seen, UnitOutcome};
use super::super::{COPY_WAIT, Changed, Name, Opened, Published};
use super::tells::{Answered, give, give_unit, tell};
use super::{Hold, Hub, LEASE, Moment, Output, RENEW_EVERY, RETRY_AFTER, SUSPECT_AFTER, Tell, Timer, What};

impl Hub {
    /// A long list of what replies are for.
    pub(super) fn reply(&mut self, now: Moment, id: RequestId, reply: Reply, out: &mut Vec<Output>) {
        let Some(pending) = self.under_way.remove(&id) else { return };
        self.counts.requests += 1;
        self.counts.round_trip = now.at.saturating_sub(pending.sent);
        if self.closing.as_ref().is_some_and(|(_, lease, _)| *lease == id) {
            self.end(Changed::Done, out);
            return;
        }
        if reply == Reply::NotNow {
            // What else was under way is lost with the connection.
            if let What::Call(name) = pending.what
                && let Some(outbox) = self.outboxes.get_mut(&name)
            {
                outbox.not_done(id);
            }
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
                    if let (Reply::Removed(mark), Request::Remove { name, .. }) = (&reply, &errand.request) {
                        // As if it had been pushed: where the push is lost, the name leads nowhere here either.
                        let (name, news) = (Arc::clone(name), News::Removed { mark: *mark });
                        self.push(now, Push::Stream(name, news), out);
                    }
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
                if let (Reply::Done, Some(kept)) = (reply, self.kept.get_mut(&name))
                    && kept.presence.confirmed(&readers)
                {
                    self.declare(now, &name, out);
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

    pub(super) fn published(&mut self, now: Moment, name: &Name, id: RequestId, reply: Reply, out: &mut Vec<Output>) {
        let Some(outbox) = self.outboxes.get_mut(name) else { return };
        let repeated = outbox.is_repeated();
        let answers = outbox.replied(id);
        let copy = self.kept.get_mut(name);
        match reply {
            Reply::Published(outcomes) => {
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
    pub(super) fn rearm(&mut self, name: &Name) {
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

    pub(super) fn was_read(&mut self, now: Moment, name: &Name, id: RequestId, reply: Reply, out: &mut Vec<Output>) {
        let Some(kept) = self.kept.get_mut(name).filter(|kept| kept.read == Some(id)) else { return };
        kept.read = None;
        let served = kept.take_served();
        let mut told = Vec::new();
        let wanted = kept.held || kept.waiting || served.iter().any(|opener| opener.answer.is_some());
        match reply {
            // Everybody who asked for it has given up.
            _ if !wanted => kept.copy = Copy::default(),
            Reply::Opened(opening) => {
                let (epoch, made) = (Epoch(opening.mark.epoch), opening.made);
                let (read, left) = (opening.mark, opening.left);
                for (process, _) in &opening.readers {
                    if self.alive.read(process, now.at) && *process != self.reader {
                        self.next_lease = now.at;
                    }
                }
                let again = kept.presence.read(&self.reader, opening.readers.clone(), opening.presence);
                kept.copy.read(*opening, &mut told, &mut self.counts);
                kept.held = true;
                // Its removal may have been pushed while it was read.
                kept.waiting = told.contains(&Told::Removed);
                tell(out, name, told);
                for (index, opener) in served.into_iter().enumerate() {
                    opener.give(out, Opened::Open { epoch, made: made && index == 0 });
                }
                // Pushes that waited for the read say more.
                let stays = if kept.copy.mark() == read { left } else { kept.stays_for() };
                self.foresee(now, name, stays);
                if again {
                    self.declare(now, name, out);
                }
                if self.listed {
                    self.bury(now, [Arc::clone(name)], out);
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

    pub(super) fn compared(
        &mut self,
        now: Moment,
        name: &Name,
        sent: Mark,
        seen: Seen,
        fresh: bool,
        out: &mut Vec<Output>,
    ) {
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

    /// These processes have a lease. Who is known to be dead is said to have no readers where a list says so first, and by
    /// the first list of a connection: what was said before may not have been heard, and who had died then may be back.
    pub(super) fn leases(&mut self, now: Moment, mut leases: Vec<Arc<str>>, asked: Duration, out: &mut Vec<Output>) {
        // A server that stood still has let the leases of all run out: whose was known before has the time to renew it.
        let before = std::mem::replace(&mut self.listed_at, asked);
        if asked.saturating_sub(before) > LEASE.saturating_sub(RENEW_EVERY) {
            self.spared_at = Some(asked);
        }
        let spared = self.spared_at.filter(|at| asked < *at + LEASE);
        leases.retain(|process| !self.is_former(process));
        let first = !std::mem::replace(&mut self.listed, true);
        if !self.alive.listed(leases, asked, spared) && !first {
            return;
        }
        let all: Vec<Name> = self.kept.keys().cloned().collect();
        self.touched.extend(all.iter().cloned());
        self.bury(now, all, out);
    }

    /// Whether this process counted its readers under that name before.
    pub(super) fn is_former(&self, process: &Arc<str>) -> bool {
        let rest = process.strip_prefix(&*self.rules.process);
        *process != self.reader && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    /// Says for processes that are known to be dead that nobody reads these streams there.
    fn bury(&mut self, now: Moment, names: impl IntoIterator<Item = Name>, out: &mut Vec<Output>) {
        for name in names {
            let Some(kept) = self.kept.get(&name) else { continue };
            let dead = kept.presence.processes().filter(|process| self.alive.is_dead(process));
            for process in dead.cloned().collect::<Vec<_>>() {
                let (name, readers) = (Arc::clone(&name), Bytes::new());
                self.request(now, What::Note, Request::Present { name, process, readers }, out);
            }
        }
    }
}
