//! What the simulation sees of a shard's inside.
//!
//! Owns: nothing; it reads. Compiled for tests alone. Changes together with `machine::check`, which asserts what must hold.

use sse_fast_core::lag;

use super::Token;
use super::agenda::Stage;
use super::connection::{Flow, Reads};
use super::machine::Shard;
use super::net::Net;
use super::subscriber::Progress;

/// A connection as it stands between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) token: Token,
    /// Phase, flow, half-closed, progress, stage: each a small number, for counting what was covered.
    pub(crate) state: [u8; 5],
    /// The next position it is given; none once it has left its stream.
    pub(crate) cursor: Option<u64>,
    /// Whether its socket is full.
    pub(crate) is_full: bool,
    /// How many bytes are kept for it that its socket did not take.
    pub(crate) unwritten: usize,
    /// Whether publishers wait for it.
    pub(crate) is_held: bool,
    /// Whether it lags by more than it may.
    pub(crate) is_beyond: bool,
}

/// A connection that reads several streams, as it stands between two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenSeveral {
    pub(crate) token: Token,
    pub(crate) is_full: bool,
    /// How many bytes are kept for it that its socket did not take.
    pub(crate) unwritten: usize,
    /// Of those that read: which name, the next position, whether its stream rests, whether it lags by more than it may.
    pub(crate) members: Vec<(u8, u64, bool, bool)>,
}

impl<N: Net> Shard<N> {
    /// Every connection that reads several streams.
    pub(crate) fn seen_several(&self) -> Vec<SeenSeveral> {
        let several = self.connections.iter().filter_map(|(key, connection)| match connection.reads() {
            Reads::Several(group) => Some((key, connection, &self.groups[group])),
            Reads::Nothing | Reads::One(_) => None,
        });
        let seen = several.map(|(key, connection, group)| SeenSeveral {
            token: Token { index: key.0, generation: connection.generation },
            is_full: connection.flow == Flow::Full,
            unwritten: connection.unwritten_bytes(),
            members: group
                .subscribers()
                .map(|(member, key)| {
                    let subscriber = &self.subscribers[key];
                    let local = &self.locals[subscriber.local];
                    let inner = local.stream.lock();
                    let pace = self.pace_of(subscriber, inner.state.options());
                    let is_beyond = lag::is_beyond_max_lag(&inner.state, subscriber.cursor(), pace);
                    (member, subscriber.cursor(), local.stage == Stage::Resting, is_beyond)
                })
                .collect(),
        });
        seen.collect()
    }

    /// Every connection.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.connections.iter().map(|(key, connection)| {
            let token = Token { index: key.0, generation: connection.generation };
            let is_full = connection.flow == Flow::Full;
            let outer = [connection.phase as u8, u8::from(is_full), u8::from(connection.half_closed)];
            let mut seen = Seen {
                token,
                state: [outer[0], outer[1], outer[2], 0, 0],
                cursor: None,
                is_full,
                unwritten: connection.unwritten_bytes(),
                is_held: false,
                is_beyond: false,
            };
            if let Reads::One(key) = connection.reads() {
                let subscriber = &self.subscribers[key];
                let local = &self.locals[subscriber.local];
                let inner = local.stream.lock();
                seen.state[3] = u8::from(subscriber.progress == Progress::CatchingUp);
                seen.state[4] = match local.stage {
                    Stage::Idle => 0,
                    Stage::Queued => 1,
                    Stage::Resting => 2,
                    Stage::Walking { .. } => 3,
                };
                seen.cursor = Some(subscriber.cursor());
                seen.is_held = is_full && self.is_held(key, &inner);
                let pace = self.pace_of(subscriber, inner.state.options());
                seen.is_beyond = is_full && lag::is_beyond_max_lag(&inner.state, subscriber.cursor(), pace);
            }
            seen
        });
        seen.collect()
    }

    /// What its thread does when it has failed.
    pub(crate) fn fail(mut self) {
        self.handle.close();
        self.abandon();
    }

    /// Streams and connections that are kept.
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.locals.len(), self.connections.len())
    }
}
