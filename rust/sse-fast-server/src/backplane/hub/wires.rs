//! What the machine's two connections say of themselves, and what is pushed.
//!
//! Owns: what is done when one of them is up or lost, where a push goes, and what follows from another fence. Must not know:
//! replies.

use std::sync::Arc;

use bytes::Bytes;

use super::super::Name;
use super::super::copy::{Stale, Told};
use super::super::protocol::{Fence, Line, News, Open, Push, Request, RequestId, Wired};
use super::tells::tell;
use super::{COMPARE_EVERY, Hub, Kept, Moment, Output, PARTS, RENEW_EVERY, SAY_AGAIN, Tell, What};

impl Hub {
    pub(super) fn wired(&mut self, now: Moment, wired: Wired, out: &mut Vec<Output>) {
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

    pub(super) fn command_up(&mut self, now: Moment, fence: Fence, out: &mut Vec<Output>) {
        let former = self.served_by(now, fence);
        self.listed = false;
        self.next_compare = now.at + COMPARE_EVERY / PARTS;
        self.renew(now, out);
        self.request(now, What::Disconnected, Request::Disconnected, out);
        for number in self.errands.keys().copied().collect::<Vec<_>>() {
            self.send_errand(now, number, false, out);
        }
        for name in self.outboxes.keys().cloned().collect::<Vec<_>>() {
            self.send_call(now, &name, out);
        }
        // What is read here is declared anew, behind what waits to be published: the server may have lost it.
        self.declare_all(now, former, out);
        self.say_left(now, out);
        self.touched.extend(self.kept.keys().cloned());
        // And everything is compared: it may be another server.
        let live = self.kept.iter().filter(|(_, kept)| kept.subscribed && kept.copy.is_live());
        self.fresh = live.map(|(name, _)| Arc::clone(name)).collect();
    }

    pub(super) fn down(&mut self, now: Moment, line: Line) {
        self.counts.reconnects += 1;
        match line {
            Line::Command => {
                self.fence = None;
                self.fenced.clear();
                for pending in std::mem::take(&mut self.under_way).into_values() {
                    if let What::Present(name, _) | What::Left(name) = pending.what {
                        self.doubted.insert(name, SAY_AGAIN);
                    }
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

    pub(super) fn push(&mut self, now: Moment, push: Push, out: &mut Vec<Output>) {
        (self.last_push, self.probed) = (now.at, None);
        match push {
            Push::Echo { .. } => {}
            Push::Disconnect { reader, before } => out.push(Output::Tell(Tell::Disconnect(reader, before))),
            Push::Stream(name, news) => {
                let is_former = matches!(&news, News::Present { process, .. } if self.is_former(process));
                let Some(kept) = self.kept.get_mut(&name) else { return };
                // Who reads does not prolong what has ended.
                let mut happens = !kept.copy.ended();
                if let News::Present { process, readers, after, presence } = news {
                    let ours = process == self.reader;
                    if !ours && !is_former && !readers.is_empty() {
                        self.alive.heard(&process, now.at);
                    }
                    let wrong = ours && kept.presence.pushed_of_us(&readers);
                    if !kept.presence.pushed(process, &readers, after, presence) {
                        kept.copy.must_read();
                    }
                    if wrong {
                        self.declare(now, &name, out);
                    }
                } else {
                    let mut told = Vec::new();
                    kept.copy.pushed(news, &mut told, &mut self.counts);
                    happens = !told.is_empty();
                    kept.waiting |= told.contains(&Told::Removed);
                    tell(out, &name, told);
                }
                if happens {
                    let stays = self.kept.get(&name).and_then(Kept::stays_for);
                    self.foresee(now, &name, stays);
                }
                self.touched.push(name);
            }
        }
    }

    /// The server has this fence. One that has lost its tail may count readers here that have left since: this process has
    /// another name for its readers from now on. Gives the former one.
    fn served_by(&mut self, now: Moment, fence: Fence) -> Option<Arc<str>> {
        self.fence = Some(Arc::clone(&fence));
        let before = self.last_fence.replace(fence);
        if before.is_none() || before == self.last_fence {
            return None;
        }
        self.renamed += 1;
        let reader = format!("{}:{}", self.rules.process, self.renamed).into();
        let former = std::mem::replace(&mut self.reader, reader);
        self.alive.bury(&former);
        // All others take other names, too; and their leases may be older than they are.
        (self.spared_at, self.listed) = (Some(now.at), false);
        Some(former)
    }

    /// Says of every stream who reads it here; under the new name before the former one is withdrawn, stream by stream. Its
    /// lease is given back when that was heard: nobody is to take who reads for gone.
    fn declare_all(&mut self, now: Moment, former: Option<Arc<str>>, out: &mut Vec<Output>) {
        for name in self.kept.keys().cloned().collect::<Vec<_>>() {
            let Some(kept) = self.kept.get_mut(&name) else { continue };
            let withdrawn = former.clone().filter(|former| kept.presence.renamed(former));
            if kept.presence.is_read() || kept.presence.is_unsaid() {
                self.declare(now, &name, out);
            }
            if let Some(process) = withdrawn {
                let readers = Bytes::new();
                self.request(now, What::Note, Request::Present { name, process, readers }, out);
            }
        }
        self.formers.extend(former.map(|former| (now.at + RENEW_EVERY, former)));
    }

    /// The fence was read anew on the command connection: what was refused for it is repeated, now sure of it.
    pub(super) fn fence_read(&mut self, now: Moment, fence: Fence, out: &mut Vec<Output>) {
        if self.fence.as_ref() != Some(&fence) {
            let live = self.kept.iter().filter(|(_, kept)| kept.subscribed && kept.copy.is_live());
            self.fresh = live.map(|(name, _)| Arc::clone(name)).collect();
        }
        let former = self.served_by(now, fence);
        for (refused, what) in std::mem::take(&mut self.fenced) {
            let request = match &what {
                What::Call(name) => {
                    let guard = self.guard(now, name, true);
                    let by = RequestId(self.last_request + 1);
                    let again = self.outboxes.get_mut(name).and_then(|outbox| outbox.again(refused, by));
                    let Some(call) = again else { continue };
                    let (name, process) = (Arc::clone(name), Arc::clone(&self.rules.process));
                    let (call, units, make) = (call.number, call.units, call.make);
                    Request::Publish { name, guard, process, call, units, make }
                }
                What::Read(name, open) => {
                    let guard = self.guard(now, name, true);
                    let Some(kept) = self.kept.get_mut(name).filter(|kept| kept.read == Some(refused)) else {
                        continue;
                    };
                    kept.read = Some(RequestId(self.last_request + 1));
                    Request::Open(Box::new(Open { guard, ..(**open).clone() }))
                }
                What::Errand(number) => {
                    self.send_errand(now, *number, true, out);
                    continue;
                }
                _ => continue,
            };
            self.request(now, what, request, out);
        }
        if former.is_some() {
            // Behind what was to be published.
            self.renew(now, out);
            self.declare_all(now, former, out);
        }
    }
}
