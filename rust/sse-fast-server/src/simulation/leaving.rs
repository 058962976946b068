//! What a client knows of its right to read: how long it lasts, whether it was disconnected, what it was told.
//!
//! Owns: the laws of an end that has to do with who reads. Must not know: the shard. Checked here: who leaves gets what was
//! published until then and nothing that was published once the shards had nothing to do; it is told that its right is over where
//! it is, once, as the last of all.

use sse_fast_core::budget::Micros;
use sse_fast_oracle::parser::Block;

use super::stage::Stage;
use super::world::World;
use crate::admitted::Admitted;
use crate::shard::Order;

/// See the module; of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Right {
    /// Whether it was let in under a name: not where its head went out early.
    is_named: bool,
    /// When it is over.
    expires: Option<Micros>,
    /// The application has disconnected its reader, when so many events had been published.
    disconnected: Option<u64>,
    /// It was to be disconnected, perhaps when its time had come already: which of the two a late shard sees first is open.
    is_ordered: bool,
    /// It is given nothing beyond this.
    limit: Option<u64>,
    /// It was told that its right is over.
    told: bool,
}

impl Right {
    /// That of a connection that was let in so.
    pub(super) fn of(admitted: &Admitted) -> Self {
        Self { is_named: admitted.reader.is_some(), expires: admitted.expires, ..Self::default() }
    }

    /// Whether it is on its way out.
    pub(super) fn leaves(&self, now: Micros) -> bool {
        self.disconnected.is_some() || self.expires.is_some_and(|at| at <= now)
    }

    /// The shards have nothing to do, and so many events were published.
    pub(super) fn settled(&mut self, now: Micros, newest: u64) {
        if self.leaves(now) {
            self.limit.get_or_insert(newest);
        }
    }

    /// Takes what is told of it; false where that is about something else.
    pub(super) fn see(&mut self, block: &Block, now: Micros) -> bool {
        assert!(!self.told, "something follows the end of a right: {block:?}");
        if block.event.as_deref() != Some("auth") {
            return false;
        }
        assert!(self.expires.is_some_and(|at| at <= now), "its time has not come");
        assert_eq!((&block.id, block.data.as_slice()), (&None, &["{\"reason\":\"expired\"}".to_owned()][..]));
        self.told = true;
        true
    }

    /// It was given the event at this position.
    pub(super) fn given(&self, position: u64) {
        assert!(self.limit.is_none_or(|limit| position <= limit), "{position} was published after its right was over");
    }

    /// Its connection has ended as it should, and it has everything before `next`. It may have had an end of its own before: it
    /// `has_shut` its side, or the stream or the server `is_over`.
    pub(super) fn ended(&self, next: u64, has_shut: bool, is_over: bool) {
        assert!(self.told || self.is_ordered || has_shut || is_over, "the end of a right is told");
        let owed = self.disconnected.filter(|_| !has_shut);
        assert!(owed.is_none_or(|newest| next > newest), "what was published before is still given");
    }
}

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

impl super::client::Client {
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
