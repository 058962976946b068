//! Who is here: subscribers arrive, move from one stream to another, leave; members come and go
//! with them.
//!
//! A subscriber is on the list of exactly one member from `attach` to `detach`, and knows its place
//! there; a member is in the slab exactly while it has subscribers or a walk. Counters of
//! subscribers and sockets are raised and lowered here alone. What is written to whom: `feed`.

use std::net::Shutdown;
use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use super::Arrival;
use super::hold::Hold;
use super::member::{Beat, Member, Walking};
use super::subscriber::{NO_MEMBER, NO_TICK, Phase, Subscriber};
use super::turn::{Turn, key_of};
use crate::stats::{CloseReason, Counters};
use crate::stream::{self, Stream};

impl Turn {
    /// Takes a connection over: it becomes a subscriber.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { socket, stream, last_event_id, framing, head } = arrival;
        let mut socket = mio::net::TcpStream::from_std(socket);
        let entry = self.subscribers.vacant_entry();
        let key = key_of(entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut socket, Token(entry.key()), interest).is_err() {
            return;
        }
        entry.insert(Subscriber {
            socket,
            member: NO_MEMBER,
            place: 0,
            last_write: self.ticks.now(),
            beat: NO_TICK,
            cursor: 0,
            hold: Hold::default(),
            blocked: None,
            framing,
            phase: Phase::Live,
        });
        Counters::add(&self.counters().sockets, 1);
        self.attach(key, &stream);
        self.open(key, &stream, last_event_id.as_deref(), head);
    }

    /// The subscribers of one stream become another's.
    pub(super) fn move_subscribers(&mut self, from: &Stream, to: &Stream, last_event_id: Option<&str>) {
        let member = from.0.seats[self.number].member.load(Ordering::Relaxed);
        let Some(member) = self.members.get(member as usize) else { return };
        for key in member.subscribers.clone() {
            self.detach(key);
            self.attach(key, to);
            self.open(key, to, last_event_id, Vec::new());
        }
    }

    /// The key of a stream here, made where there is none.
    pub(super) fn member_of(&mut self, stream: &Stream) -> u32 {
        let key = stream.0.seats[self.number].member.load(Ordering::Relaxed);
        if key != stream::NO_MEMBER {
            return key;
        }
        let (heartbeat, low) = {
            let inner = stream.inner();
            (Stream::heartbeat(&inner), inner.state.newest() + 1)
        };
        let beat = Beat::of(heartbeat, self.last_beat.as_ref());
        if beat.is_some() {
            self.last_beat.clone_from(&beat);
        }
        let key = key_of(self.members.insert(Member::new(stream.clone(), low, beat)));
        let seat = &stream.0.seats[self.number];
        seat.member.store(key, Ordering::Relaxed);
        seat.floor.store(low, Ordering::Release);
        key
    }

    /// Forgets a member that has no subscribers and is not on a list.
    pub(super) fn forget_if_unused(&mut self, key: u32) {
        let unused = |member: &Member| member.subscribers.is_empty() && member.walking == Walking::No;
        if self.members.get(key as usize).is_some_and(unused) {
            let member = self.members.remove(key as usize);
            member.seat(self.number).member.store(stream::NO_MEMBER, Ordering::Relaxed);
            if self.batch_of == key {
                self.batch.clear();
                self.batch_of = NO_MEMBER;
            }
        }
    }

    /// Puts a subscriber on a stream's list; `open` follows and counts it.
    fn attach(&mut self, key: u32, stream: &Stream) {
        let member_key = self.member_of(stream);
        let (Some(member), Some(subscriber)) =
            (self.members.get_mut(member_key as usize), self.subscribers.get_mut(key as usize))
        else {
            return;
        };
        subscriber.member = member_key;
        subscriber.place = key_of(member.subscribers.len());
        member.subscribers.push(key);
        member.blocked += u32::from(subscriber.blocked.is_some());
        Counters::add(&self.counters().subscribers, 1);
    }

    /// Takes a subscriber away from its stream; its connection stays.
    pub(super) fn detach(&mut self, key: u32) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        let member_key = std::mem::replace(&mut subscriber.member, NO_MEMBER);
        let (place, blocked) = (subscriber.place as usize, subscriber.blocked.is_some());
        let Some(member) = self.members.get_mut(member_key as usize) else { return };
        member.subscribers.swap_remove(place);
        member.blocked -= u32::from(blocked);
        if let Some(&moved) = member.subscribers.get(place)
            && let Some(moved) = self.subscribers.get_mut(moved as usize)
        {
            moved.place = key_of(place);
        }
        if member.subscribers.len() < member.subscribers.capacity() / 4 {
            member.subscribers.shrink_to_fit();
        }
        member.seat(self.number).subscribers.fetch_sub(1, Ordering::AcqRel);
        Counters::add(&self.counters().subscribers, u64::MAX);
        self.forget_if_unused(member_key);
    }

    /// Closes a connection at once.
    pub(super) fn close(&mut self, key: u32, reason: CloseReason) {
        self.detach(key);
        if let Some(subscriber) = self.subscribers.try_remove(key as usize) {
            Counters::add(&self.counters().sockets, u64::MAX);
            // Closing the socket, which nobody else holds, deregisters it, with epoll and kqueue alike.
            if subscriber.phase == Phase::Live {
                self.counters().close(reason);
            }
        }
        if self.subscribers.len() < self.subscribers.capacity() / 4 {
            self.subscribers.shrink_to_fit();
        }
    }

    /// Shuts our end once everything was written.
    pub(super) fn shut(&mut self, key: u32) {
        let Some(subscriber) = self.subscribers.get_mut(key as usize) else { return };
        if subscriber.socket.shutdown(Shutdown::Write).is_err() {
            self.close(key, CloseReason::Gone);
            return;
        }
        subscriber.phase = Phase::Lingering;
        self.place_beat(key);
    }
}
