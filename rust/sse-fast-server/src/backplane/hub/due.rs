//! What is due: deadlines, probes, comparisons, leases.
//!
//! Owns: which of them is done at a moment. Must not know: how often it is looked; [`Hub::due`] says when.

use std::sync::Arc;
use std::time::Duration;

use super::super::copy::Stale;
use super::super::protocol::{Line, Request};
use super::super::{Changed, Name};
use super::tells::give;
use super::{
    COMPARE_EVERY, Hub, LEASE, MOST_COMPARED, Moment, Output, PARTS, PROBE_AFTER, RENEW_EVERY, SILENT, Timer, What,
};

impl Hub {
    pub(super) fn tick(&mut self, now: Moment, out: &mut Vec<Output>) {
        let mut over = Vec::new();
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
                Timer::Over(name) => over.extend(self.is_over(now, name)),
                Timer::Errand(number) => {
                    if let Some(errand) = self.errands.remove(&number) {
                        let done = (!errand.tried).then_some(false);
                        give(out, errand.answer, Changed::Unavailable { done });
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
        if self.fence.is_some() {
            self.compare(now, over, false, out);
        }
        if self.closing.as_ref().is_some_and(|(_, _, by)| *by <= now.at) {
            self.end(Changed::Unavailable { done: None }, out);
        }
        if self.fence.is_some() {
            self.tick_connected(now, out);
        }
    }

    /// The name, if the server has forgotten the stream by now, for all that is known here.
    fn is_over(&mut self, now: Moment, name: Name) -> Option<Name> {
        let kept = self.kept.get_mut(&name)?;
        kept.looked_at = None;
        let over = kept.over?;
        if over <= now.at {
            kept.over = None;
            return Some(name);
        }
        kept.looked_at = Some(over);
        self.timers.insert((over, Timer::Over(name)));
        None
    }

    pub(super) fn tick_connected(&mut self, now: Moment, out: &mut Vec<Output>) {
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
                self.say_doubted(now, out);
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

    pub(super) fn renew(&mut self, now: Moment, out: &mut Vec<Output>) {
        self.next_lease = now.at + RENEW_EVERY;
        // They are in the order of their times.
        let due = self.formers.partition_point(|(at, _)| *at <= now.at);
        for (_, process) in self.formers.drain(..due).collect::<Vec<_>>() {
            self.request(now, What::Note, Request::Lease { process, lease: Duration::ZERO }, out);
        }
        if self.closing.is_none() {
            let process = Arc::clone(&self.reader);
            self.request(now, What::Lease, Request::Lease { process, lease: LEASE }, out);
        }
    }

    pub(super) fn compare(&mut self, now: Moment, names: Vec<Name>, fresh: bool, out: &mut Vec<Output>) {
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

    pub(super) fn reconnect(&mut self, now: Moment, line: Line, out: &mut Vec<Output>) {
        out.push(Output::Reconnect(line));
        self.down(now, line);
    }
}
