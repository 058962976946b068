//! What scripts written by hand are made of.

use std::time::Duration;

use sse_fast_core::budget::Micros;
use sse_fast_core::frame::Framing;
use sse_fast_core::options::{OnLag, Start, StreamOptions, StreamPatch};
use sse_fast_oracle::content::Publish;

use super::stage::{Deed, What};
use super::times::MS;
use super::world::{Setup, World};
use crate::delivery::Patience;

pub(super) const POLICIES: [OnLag; 3] = [OnLag::Skip, OnLag::Latest, OnLag::Disconnect];
pub(super) const FRAMINGS: [Framing; 2] = [Framing::Chunked, Framing::Plain];

/// W in these scripts.
pub(super) const W: Micros = 400 * MS;
pub(super) const PATIENT: Patience = Patience::Within(W);
pub(super) const IMPATIENT: Patience = Patience::Within(0);

pub(super) const EVERYTHING: usize = usize::MAX;

pub(super) fn patch(history: usize, max_lag: u64, on_lag: OnLag) -> StreamPatch {
    StreamPatch {
        history: Some(history),
        max_lag: Some(max_lag),
        on_lag: Some(on_lag),
        start: Some(Start::All),
        heartbeat: Some(None),
        ..StreamPatch::default()
    }
}

/// One shard, one stream, eight publishers.
pub(super) fn world(patch: &StreamPatch, patience: Patience) -> World {
    worlds(std::slice::from_ref(patch), patience)
}

pub(super) fn worlds(patches: &[StreamPatch], patience: Patience) -> World {
    let options = patches.iter().map(|patch| StreamOptions::default().patched(patch).unwrap()).collect();
    World::new(Setup { shards: 1, patience, options, cost: 0, lazily: false, accounts: 8, has_loop: false })
}

impl World {
    /// A client of the first stream that has connected and was served.
    pub(super) fn client(&mut self, framing: Framing, capacity: usize) -> usize {
        let at = self.add_client(framing, capacity, 0);
        self.connect(at, None, 0, false);
        self.settle();
        at
    }

    /// One event, by the publisher of this number, which may have to wait; nobody is stepped.
    pub(super) fn publish_by(&mut self, account: usize, padding: usize) {
        self.act(&publish(account, padding));
    }

    /// So many events one after the other, each as soon as the one before it was appended, with everything that follows.
    pub(super) fn publish(&mut self, count: usize, padding: usize) {
        for _ in 0..count {
            self.publish_by(0, padding);
            self.wait_for_publishers();
            self.settle();
        }
    }

    /// Lets time pass until no publisher waits.
    pub(super) fn wait_for_publishers(&mut self) {
        self.stage.step_publishers(false);
        for _ in 0..10_000 {
            if !self.is_waited() {
                return;
            }
            self.advance(MS);
        }
        panic!("a publisher waits for ever");
    }

    pub(super) fn is_waited(&self) -> bool {
        !self.stage.publishers.borrow().waiting.is_empty()
    }

    pub(super) fn received(&self, at: usize) -> &[u64] {
        &self.clients[at].reader.received
    }

    pub(super) fn skipped(&self, at: usize) -> Vec<u64> {
        self.clients[at].reader.skipped.iter().copied().collect()
    }

    pub(super) fn is_connected(&self, at: usize) -> bool {
        self.clients[at].wire.is_some()
    }

    /// The client reads, then everything that follows happens.
    pub(super) fn drains(&mut self, at: usize, bytes: usize) {
        self.read(at, bytes);
        self.settle();
        self.read(at, bytes);
    }

    /// The client takes everything from now on.
    pub(super) fn takes_all(&mut self, at: usize) {
        self.unblock(at);
        self.settle();
    }

    pub(super) fn configure(&mut self, patch: StreamPatch) {
        self.act(&What::Configure { patch }.on(0));
    }

    /// Microseconds that the first stream's publishers have paid.
    pub(super) fn paid(&self) -> Micros {
        self.stage.streams.borrow()[0].paid.in_all()
    }
}

pub(super) fn publish(account: usize, padding: usize) -> Deed {
    What::Publish { account, publish: Publish { padding, ..Publish::default() } }.on(0)
}

pub(super) fn ms(millis: u64) -> Option<Option<Duration>> {
    Some(Some(Duration::from_millis(millis)))
}
