//! Who is here: connections arrive, change streams, leave; and the streams that are kept for them.
//!
//! Owns: the beginning and the end of connections and subscribers, and the counters of both. Must not know: what is
//! written between them (`feed`, `walk`). Invariants: a subscriber is on the list of exactly one stream from `attach` to
//! `detach`; a connection that is closed was deregistered first, since a forked child may hold its socket, too
//! (where a shard fails its whole poll goes); where joins and leaves are wanted they are told under the lock of the stream
//! under which they are counted (`presence`), and never otherwise take it.

use super::agenda::Stage;
use super::ahead::Ahead;
use super::connection::{Account, Connection, Flow, NO_TICK, Phase, Reads, Taken, Unwritten};
use super::departure::last_bytes;
use super::local::LocalStream;
use super::machine::Shard;
use super::net::{Net, Sink, Token};
use super::subscriber::{Progress, Roster, Subscriber};
use super::table::{ConnectionKey, GroupKey, SubscriberKey};
use super::{Arrival, Reading};
use crate::access_log::Access;
use crate::admitted::ReaderName;
use crate::delivery::{LocalKey, Since};
use crate::stats::{CloseReason, Counters};
use crate::stream::{Claim, Stream};

impl<N: Net> Shard<N> {
    /// Takes a connection over: it becomes a subscriber.
    pub(super) fn arrive(&mut self, arrival: Arrival<N::Socket>) {
        let Arrival { socket, reading, admitted, framing, head, place, logged } = arrival;
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let key = self.connections.insert(Connection::new(socket, generation, framing, self.tick));
        self.connections[key].account = Account::of(logged);
        let token = Token { index: key.0, generation };
        if self.net.register(&mut self.connections[key].socket, token).is_err() {
            // It was closed on its way, or the system is out of memory: there is nobody to tell.
            self.connections.remove(key);
            return;
        }
        if place.is_counted() {
            self.places.insert(key, place);
        }
        Counters::add(&self.counters().sockets, 1);
        self.grants.add(key, admitted);
        match reading {
            Reading::One { claim, last_event_id } => {
                let stream = claim.stream().clone();
                self.attach(key, &stream, Some(claim), last_event_id.as_deref(), head);
            }
            Reading::Several(names) => self.attach_several(key, names, head),
        }
    }

    /// The subscribers of one stream become another's.
    pub(super) fn move_subscribers(&mut self, from: &Stream, to: &Stream, last_event_id: Option<&str>) {
        let Some(local) = self.locals.get(from.link(self.number).local()) else { return };
        for subscriber in local.roster.all().to_vec() {
            let connection = self.subscribers[subscriber].connection;
            self.detach(connection);
            let account = self.connections[connection].account.as_mut();
            // It may have stopped inside a frame: that is ended first.
            let begun = account.and_then(|account| account.unwritten.take());
            let out = begun.map_or(Vec::new(), |begun| begun.into_bytes(self.connections[connection].framing));
            self.connections[connection].flows();
            self.attach(connection, to, None, last_event_id, out);
        }
    }

    /// Makes a connection a subscriber of a stream, and gives it what there is, after `out`.
    fn attach(
        &mut self,
        connection: ConnectionKey,
        stream: &Stream,
        claim: Option<Claim>,
        last_event_id: Option<&str>,
        out: Vec<u8>,
    ) {
        let local = self.local_of(stream);
        let key = self.subscribers.insert(Subscriber::new(connection, local));
        let before = self.connections[connection].set_reads(Reads::One(key));
        debug_assert_eq!(before, Reads::Nothing, "it reads one stream");
        let mut inner = stream.lock();
        // Counted under the lock: a publisher that appends after this tells us, and what was appended before is read.
        stream.link(self.number).join();
        if let Some(claim) = claim {
            claim.redeem(&mut inner);
        }
        inner.somebody_came();
        let reader = self.grants.reader(connection);
        inner.reader_came(&reader);
        self.handle.presence().joined(stream, &reader);
        let retuned = self.find_heartbeat(local, &inner);
        let opening = self.begin_with(key, &inner, last_event_id, out);
        let cursor = self.subscribers[key].cursor();
        self.logged(connection, |logged| logged.reads_from(cursor));
        self.owe(key, &inner);
        drop(inner);
        stream.presence_changed();
        if self.handle.presence().is_wanted() {
            self.handle.presence().ring();
        }
        self.locals[local].roster.add(key, &mut self.subscribers);
        Counters::add(&self.counters().subscribers, 1);
        if retuned {
            self.reschedule(local);
        }
        self.feed(key, opening);
        if self.connections.get(connection).is_some_and(|connection| connection.due == NO_TICK) {
            self.schedule(connection);
        }
    }

    /// Takes a connection's subscribers away from their streams; the connection stays.
    pub(super) fn detach(&mut self, connection: ConnectionKey) {
        match self.connections[connection].set_reads(Reads::Nothing) {
            Reads::Nothing => {}
            Reads::One(key) => self.detach_subscriber(key),
            Reads::Several(group) => {
                let members: Vec<_> = self.groups[group].subscribers().map(|(member, _)| member).collect();
                for member in members {
                    self.detach_member(group, member);
                }
                self.groups.remove(group);
            }
        }
    }

    /// Takes one of a connection's subscribers away from its stream.
    pub(super) fn detach_member(&mut self, group: GroupKey, member: u8) {
        let key = self.groups[group].leave(member);
        self.detach_subscriber(key);
    }

    fn detach_subscriber(&mut self, key: SubscriberKey) {
        let local = self.subscribers[key].local;
        let was_writable = self.locals[local].roster.remove(key, &mut self.subscribers);
        let subscriber = self.subscribers.remove(key);
        self.logged(subscriber.connection, |logged| logged.read_until(subscriber.cursor()));
        if subscriber.progress == Progress::CatchingUp {
            self.agenda.forget(key);
        }
        Counters::subtract(&self.counters().subscribers, 1);
        if was_writable {
            self.raise_writable(local);
        } else {
            self.raise_held(local);
        }
        let stream = self.locals[local].stream.clone();
        if self.count_out(&stream, &self.grants.reader(subscriber.connection)) {
            stream.left();
        }
        stream.presence_changed();
        self.forget_if_unused(local);
    }

    /// A subscriber of the stream is here no longer; says whether it was the last here.
    fn count_out(&self, stream: &Stream, reader: &ReaderName) -> bool {
        let (link, presence) = (stream.link(self.number), self.handle.presence());
        if !presence.is_wanted() && reader.is_none() {
            return link.leave();
        }
        let mut inner = stream.lock();
        let was_last = link.leave();
        inner.reader_left(reader);
        presence.left(stream, reader);
        drop(inner);
        presence.ring();
        was_last
    }

    /// A reader has shut its side: it gets what there is, then the end.
    pub(super) fn half_close(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key];
        connection.half_closed = true;
        match (connection.phase, connection.flow) {
            (Phase::Lingering, _) => self.close(key, CloseReason::Ended),
            (Phase::Open, Flow::Writable) => {
                self.feed_who_rests(key);
            }
            // Once what was begun is written.
            (Phase::Open | Phase::Finishing, _) => {}
        }
    }

    /// Gives a connection what there is by now, but for those who catch up: they are given it when it is their turn.
    fn feed_who_rests(&mut self, key: ConnectionKey) {
        match self.connections[key].reads() {
            Reads::One(subscriber) if self.subscribers[subscriber].progress == Progress::Walked => {
                self.feed(subscriber, Ahead::default());
            }
            Reads::Several(_) => {
                self.feed_together(key, None, self.names_at_rest(key), &[]);
            }
            Reads::One(_) | Reads::Nothing => {}
        }
    }

    /// Writes the last chunk and shuts our end; the subscriber leaves its stream at once.
    pub(super) fn finish(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.detach(key);
        self.grants.forget(key);
        self.counters().close(reason);
        let connection = &mut self.connections[key];
        debug_assert_eq!(connection.phase, Phase::Open, "it is finished once");
        connection.phase = Phase::Finishing;
        if connection.flow == Flow::Full {
            // Its reader sees a cut, which it is.
            return self.close(key, reason);
        }
        let last = last_bytes(connection.framing, reason);
        let taken = if last.is_empty() { Taken::All } else { connection.offer(&last, self.tick) };
        match taken {
            Taken::All if last.is_empty() => {}
            Taken::All => self.count(last.len(), 0),
            Taken::Some(taken) => self.count(taken, 0),
            Taken::Gone => {}
        }
        self.log_end(key, reason);
        self.connections[key].account = None;
        match taken {
            Taken::All => self.shut(key),
            Taken::Some(taken) => self.block(key, Some(Unwritten::own(&last[taken..]))),
            Taken::Gone => self.close(key, CloseReason::Gone),
        }
    }

    /// Shuts our end once everything was written.
    pub(super) fn shut(&mut self, key: ConnectionKey) {
        let connection = &mut self.connections[key];
        debug_assert_eq!(connection.phase, Phase::Finishing, "everything was written");
        connection.phase = Phase::Lingering;
        connection.flow = Flow::Writable;
        if connection.socket.shut().is_err() || connection.half_closed || self.draining.is_some() {
            self.close(key, CloseReason::Ended);
        } else {
            self.schedule(key);
        }
    }

    /// Closes a connection at once.
    pub(super) fn close(&mut self, key: ConnectionKey, reason: CloseReason) {
        self.detach(key);
        self.grants.forget(key);
        if self.connections[key].phase == Phase::Lingering {
            // Closing with unread bytes would reset the connection, and destroy what its reader has not read yet.
            self.connections[key].listen();
        }
        self.log_end(key, reason);
        self.net.deregister(&mut self.connections[key].socket);
        let connection = self.connections.remove(key);
        // Without a limit for each address there are none.
        if !self.places.is_empty() {
            self.places.remove(&key);
        }
        Counters::subtract(&self.counters().sockets, 1);
        if connection.phase == Phase::Open {
            self.counters().close(reason);
        }
    }

    /// Tells the access log, where the connection's request is in it.
    pub(super) fn logged(&mut self, key: ConnectionKey, tell: impl FnOnce(&mut Access)) {
        if let Some(logged) = self.connections[key].account.as_mut().and_then(|account| account.logged.as_mut()) {
            tell(logged);
        }
    }

    /// Its subscriber has left: that is the end for the access log.
    fn log_end(&mut self, key: ConnectionKey, reason: CloseReason) {
        if let Some(logged) = self.connections[key].account.as_mut().and_then(|account| account.logged.take()) {
            (*logged).ends(reason.name());
        }
    }

    /// The shard has failed: every stream is told that its subscribers here are gone.
    pub(super) fn abandon(&mut self) {
        for key in self.locals.keys() {
            let local = &self.locals[key];
            let own = self.subscribers.iter().filter(|(_, subscriber)| subscriber.local == key);
            let mut named: Vec<_> = own.map(|(_, subscriber)| self.grants.reader(subscriber.connection)).collect();
            named.retain(ReaderName::is_some);
            let mut inner = local.stream.lock();
            let gone = local.stream.link(self.number).abandon() as usize;
            // It may have failed while one came or left.
            named.resize(gone, None);
            for reader in &named {
                inner.reader_left(reader);
                self.handle.presence().left(&local.stream, reader);
            }
            drop(inner);
            self.handle.presence().ring();
            local.stream.left();
            local.stream.wake_publisher(self.now);
        }
        let counters = self.counters();
        Counters::subtract(&counters.subscribers, self.subscribers.len() as u64);
        Counters::subtract(&counters.sockets, self.connections.len() as u64);
    }

    /// The key of a stream here, made where there is none.
    pub(super) fn local_of(&mut self, stream: &Stream) -> LocalKey {
        let link = stream.link(self.number);
        if link.local() != LocalKey::NONE {
            return link.local();
        }
        let local = LocalStream {
            stream: stream.clone(),
            roster: Roster::default(),
            walked: 0,
            heartbeat: None,
            news_since: Since::default(),
            stage: Stage::Idle,
        };
        let key = self.locals.insert(local);
        // Its heartbeat is found where its first subscriber is counted.
        link.retune();
        let (news, waiting) = link.bind(key);
        if news {
            self.agenda.news(key, &mut self.locals[key].stage);
        }
        if waiting {
            self.asked(key);
        }
        key
    }

    /// Forgets a stream that has no subscribers here and no walk.
    pub(super) fn forget_if_unused(&mut self, key: LocalKey) {
        let local = &self.locals[key];
        if !local.roster.is_empty() || local.stage != Stage::Idle {
            return;
        }
        let local = self.locals.remove(key);
        self.asked.forget(key);
        if self.frames_of == key {
            self.frames.clear();
            self.frames_of = LocalKey::NONE;
        }
        if local.stream.link(self.number).unbind() {
            local.stream.wake_publisher(self.now);
        }
    }
}
