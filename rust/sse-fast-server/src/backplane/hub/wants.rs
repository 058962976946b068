//! What a stream wants now: its answers given up, its copy read, its name forgotten.
//!
//! Owns: when a copy is read, and what for; when a stream that is over is looked at. Must not know: what a read brings.

use std::sync::Arc;
use std::time::Duration;

use super::super::copy::Stale;
use super::super::protocol::{Open, Request, RequestId};
use super::super::{Make, Name, Opened, SharedPatch};
use super::tells::give;
use super::{Hub, Kept, Moment, OVER_BY, Output, Tell, Timer, What};

impl Hub {
    /// What a stream wants now: its answers given up, its copy read, its name forgotten.
    pub(super) fn advance(&mut self, now: Moment, name: &Name, out: &mut Vec<Output>) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        // Those that a read is under way for keep their places, answered.
        for opener in kept.openers.iter_mut().take_while(|opener| opener.deadline <= now.at) {
            if let Some(answer) = opener.answer.take() {
                kept.waiting |= opener.wait;
                let done = (!opener.tried).then_some(false);
                give(out, answer, Opened::Unavailable { done });
            }
        }
        if kept.served == 0 {
            kept.openers.retain(|opener| opener.answer.is_some());
        }
        release_holds(kept, now, out);
        if kept.copy.is_live()
            && let Some(totals) = kept.presence.news(&self.reader, &self.alive)
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
        let guard = self.guard(now, name, false);
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
                make = kept.copy.options().map(|options| Make { options, given: SharedPatch::default() });
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
        for opener in kept.openers.iter_mut().take(kept.served) {
            opener.tried |= opener.make.is_some();
        }
        let from = kept.copy.begin_read();
        kept.read = Some(RequestId(self.last_request + 1));
        let open = Box::new(Open { name: Arc::clone(name), guard, make, above, from });
        self.request(now, What::Read(Arc::clone(name), open.clone()), Request::Open(open), out);
    }

    /// When the server forgets a stream if nothing happens: it is compared then, so that its name is free here, too.
    pub(super) fn foresee(&mut self, now: Moment, name: &Name, stays: Option<Duration>) {
        let Some(kept) = self.kept.get_mut(name) else { return };
        kept.over = stays.map(|stays| now.at.saturating_add(stays).saturating_add(OVER_BY));
        if let Some(over) = kept.over
            && kept.looked_at.is_none_or(|at| at > over)
        {
            kept.looked_at = Some(over);
            self.timers.insert((over, Timer::Over(Arc::clone(name))));
        }
    }
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
