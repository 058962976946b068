//! Ends that have to do with who reads: what brings them about, and the laws of them.
//!
//! Owns: when a right is over, or its reader is disconnected. Must not know: the shard. Checked here: who leaves gets what was
//! published until then and nothing that was published once the shards had nothing to do; it is told that its right is over where
//! it is, once, as the last of all.

use sse_fast_core::budget::Micros;

use super::client::Client;
use super::stage::Stage;
use super::world::World;
use crate::admitted::Admitted;
use crate::shard::Order;

impl World {
    /// As what a client is let in the next time it connects, and until when.
    pub(super) fn admitted(&mut self, at: usize) -> Admitted {
        let expires = self.clients[at].next_right.take().map(|micros| self.now() + micros);
        Admitted { reader: (has_name(at)).then(|| name_of(at).into()), expires, since: self.next_moment() }
    }

    /// The application disconnects a client's reader.
    pub(super) fn disconnect(&mut self, at: usize) {
        let until = self.next_moment();
        for shard in &self.shards {
            let told = std::sync::mpsc::channel().0;
            shard.handle.order(Order::Disconnect { reader: name_of(at).into(), until, told });
        }
        let (newest, now) = (self.clients[at].newest_of_its_own(&self.stage), self.now());
        let client = &mut self.clients[at];
        if client.wire.is_some() && client.right.is_named {
            client.right.is_ordered = true;
            if !client.right.leaves(now) {
                client.right.disconnected = Some(newest);
            }
        }
    }

    /// One that is later than all before: nobody is let in at the moment at which a reader is disconnected.
    fn next_moment(&mut self) -> Micros {
        self.moments += 1;
        self.moments
    }

    /// The shards have nothing to do: from now on nothing more is given to who leaves.
    pub(super) fn limit_who_leaves(&mut self) {
        let now = self.now();
        for client in &mut self.clients {
            if client.wire.is_some() && client.early.is_none() {
                let newest = client.newest_of_its_own(&self.stage);
                client.right.settled(now, newest);
            }
        }
    }
}

impl Client {
    /// The newest event of the stream that it reads, or that its connection was made for.
    fn newest_of_its_own(&self, stage: &Stage) -> u64 {
        let unread = self.wire.as_ref().and_then(|wire| wire.borrow().opened.as_ref().map(|opened| opened.stream));
        let stream = self.stream().or(unread);
        stream.map_or(0, |stream| stage.streams.borrow()[stream].all.newest())
    }
}

fn name_of(at: usize) -> String {
    format!("client {at}")
}

/// Whether a client is let in under its name: two of three are.
fn has_name(at: usize) -> bool {
    !at.is_multiple_of(3)
}
