//! Moves: a handler whose head went out early has answered, and its client's connection goes on with another stream.
//!
//! Owns: moves that are on their way, and what the oracle says of each at the step in which a shard obeys. Must not know:
//! scripts. Invariant: nobody touches the streams of a move in that step, since its opening cannot be seen from outside.

use super::told::Opened;
use super::world::{Moving, World};
use crate::shard::Order;

impl World {
    /// A handler has answered: its early client moves to its name, with the last id it saw or with `id` instead. One that
    /// has everything is given the end there.
    pub(super) fn answer(&mut self, at: usize, id: Option<&str>) {
        let name = self.clients[at].name;
        let Some((from, _)) = self.clients[at].early else { return };
        let to = self.live(name);
        let is_moving = self.moving.iter().any(|moving| moving.client == at) || !self.clients[at].moves.is_empty();
        if is_moving || self.clients[at].wire.is_none() {
            return;
        }
        let id = id.map(str::to_owned).or_else(|| self.clients[at].reader.last_id.clone());
        let stream = |index: usize| self.stage.streams.borrow()[index].stream.clone();
        let last_event_id = id.clone().map(String::into_boxed_str);
        self.shards[self.clients[at].shard].handle.order(Order::Move {
            from: stream(from),
            to: stream(to).hand_out(),
            last_event_id,
        });
        self.moving.push(Moving { client: at, from, to, id });
        self.stage.on_the_way.borrow_mut().push(to);
    }

    /// What the oracle says of the moves that a shard obeys in this step: it takes its mail first. Nobody touches their
    /// streams during that time.
    pub(super) fn freeze(&self, shard: usize) -> Vec<(usize, Opened)> {
        let is_there = |moving: &&Moving| {
            let wire = self.clients[moving.client].wire.as_ref();
            let comes = wire.is_some_and(|wire| wire.borrow().registered.is_none() && wire.borrow().closed.is_none());
            comes || self.stage.streams.borrow()[moving.from].stream.subscribers() > 0
        };
        let here = self.moving.iter().filter(|moving| self.clients[moving.client].shard == shard).filter(is_there);
        let openings: Vec<_> =
            here.map(|moving| (moving.client, self.stage.opened(moving.to, moving.id.as_deref()))).collect();
        *self.stage.frozen.borrow_mut() = openings.iter().map(|(_, opened)| opened.stream).collect();
        openings
    }

    /// The shard has obeyed.
    pub(super) fn moved(&mut self, shard: usize, openings: Vec<(usize, Opened)>) {
        self.stage.frozen.borrow_mut().clear();
        let froms: Vec<_> = self.moving.iter().map(|moving| (moving.client, moving.from)).collect();
        self.moving.retain(|moving| self.clients[moving.client].shard != shard);
        *self.stage.on_the_way.borrow_mut() = self.moving.iter().map(|moving| moving.to).collect();
        for (client, opened) in openings {
            let is_same = |early: usize| froms.contains(&(client, early));
            let now = self.now();
            let client = &mut self.clients[client];
            if client.wire.is_some() && client.early.as_ref().is_some_and(|(early, _)| is_same(*early)) {
                client.opened_at = now;
                if let Some(wire) = &client.wire {
                    let mut wire = wire.borrow_mut();
                    (wire.taken, wire.stream) = (0, opened.stream);
                }
                client.moves.push_back(opened);
            }
        }
    }
}
