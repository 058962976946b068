//! Who reads a stream, over all processes.
//!
//! Owns: what each process has said of one stream's readers, and their sum; which processes have a lease. Must not know:
//! requests, connections.
//! Invariants: a process counts from the first that is heard of it until a list of leases, asked for after that, does not
//! name it. This process's own readers count always, as they were last said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::Totals;
use super::shared::{put_number, take_number, take_text};

/// The processes that have a lease.
#[derive(Default)]
pub(crate) struct Alive {
    /// Since when each is known.
    known: HashMap<Arc<str>, Duration>,
    /// Those that had none when the leases were last listed.
    dead: BTreeSet<Arc<str>>,
}

impl Alive {
    /// Something came from that process: it is alive.
    pub(crate) fn heard(&mut self, process: &Arc<str>, now: Duration) {
        self.dead.remove(process);
        self.known.entry(Arc::clone(process)).or_insert(now);
    }

    /// Something that it said before was read; it counts unless it is known to be dead. Whether nobody here has heard of
    /// it before: it may have died long ago, which the leases tell.
    pub(crate) fn read(&mut self, process: &Arc<str>, now: Duration) -> bool {
        if self.dead.contains(process) || self.known.contains_key(process) {
            return false;
        }
        self.known.insert(Arc::clone(process), now);
        true
    }

    /// The leases, as they were asked for at `asked`: whether another set of processes counts now. A process known at
    /// `spared` counts, with a lease or without.
    pub(crate) fn listed(&mut self, leases: Vec<Arc<str>>, asked: Duration, spared: Option<Duration>) -> bool {
        let before = self.known.len();
        let listed: BTreeSet<Arc<str>> = leases.into_iter().collect();
        let mut dead = BTreeSet::new();
        self.known.retain(|process, since| {
            let alive = listed.contains(process) || *since > asked || spared.is_some_and(|spared| *since <= spared);
            if !alive {
                dead.insert(Arc::clone(process));
            }
            alive
        });
        let mut changed = self.known.len() != before;
        self.dead.retain(|process| !listed.contains(process));
        self.dead.append(&mut dead);
        for process in listed {
            changed |= self.known.insert(process, asked).is_none();
        }
        changed
    }

    pub(crate) fn counts(&self, process: &Arc<str>) -> bool {
        self.known.contains_key(process)
    }

    /// It is nobody any more.
    pub(crate) fn bury(&mut self, process: &Arc<str>) {
        self.known.remove(process);
        self.dead.insert(Arc::clone(process));
    }

    /// Whether it is known to have no lease.
    pub(crate) fn is_dead(&self, process: &Arc<str>) -> bool {
        self.dead.contains(process)
    }
}

/// The readers of one stream.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Of this process, as the engine last said.
    mine: Bytes,
    /// The server has not confirmed it.
    unsaid: bool,
    /// Something else was pushed since it was last said.
    contradicted: bool,
    /// Of every process, as it was last read or pushed, this one included. A list, because most are of one or two; bytes of
    /// its own, because those that come are parts of what was read together.
    of: Vec<(Arc<str>, Box<[u8]>)>,
    /// Which count of them that is, on the server.
    version: u64,
    /// What the engine was told.
    told: Totals,
}

impl Presence {
    /// Whether somebody reads it here.
    pub(crate) fn is_read(&self) -> bool {
        !self.mine.is_empty()
    }

    /// Whether somebody reads it in any process, for all that is known.
    pub(crate) fn is_read_anywhere(&self) -> bool {
        self.is_read() || !self.of.is_empty()
    }

    pub(crate) fn mine(&self) -> &Bytes {
        &self.mine
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// This process has another name: whether the server may know of readers under the former one.
    pub(crate) fn renamed(&mut self, former: &Arc<str>) -> bool {
        self.unsaid |= self.is_read();
        self.is_read() || self.processes().any(|process| process == former)
    }

    /// The engine counted its readers; whether that is new.
    pub(crate) fn count(&mut self, readers: &Totals) -> bool {
        let mine = encode(readers);
        let new = mine != self.mine;
        self.mine = mine;
        self.unsaid |= new;
        new
    }

    /// Whether the server must be told once more what is read here.
    pub(crate) fn is_unsaid(&self) -> bool {
        self.unsaid
    }

    /// What this process has is on its way to the server.
    pub(crate) fn said(&mut self) {
        (self.contradicted, self.unsaid) = (false, true);
    }

    /// The server has confirmed that: whether it must be said once more, because something else was pushed since.
    pub(crate) fn confirmed(&mut self, readers: &Bytes) -> bool {
        self.unsaid &= *readers != self.mine || self.contradicted;
        self.unsaid && self.contradicted
    }

    /// Pushed of this process, whom others may take for dead, or whose words of long ago were executed late: whether it must
    /// say once more what it has. Where that is on its way, its confirmation tells.
    pub(crate) fn pushed_of_us(&mut self, readers: &Bytes) -> bool {
        self.contradicted = *readers != self.mine;
        self.contradicted && !self.unsaid
    }

    /// Read from the server: whether this process must say once more what it has.
    pub(crate) fn read(&mut self, process: &Arc<str>, of: Vec<(Arc<str>, Bytes)>, version: u64) -> bool {
        self.of = of.into_iter().map(|(process, said)| (process, Box::from(&*said))).collect();
        self.of.shrink_to_fit();
        self.version = version;
        let said = self.of.iter().find(|(other, _)| other == process);
        let differs = said.map_or(&b""[..], |(_, said)| said) != self.mine;
        self.unsaid |= differs;
        differs
    }

    /// Pushed: whether it continues what is here.
    pub(crate) fn pushed(&mut self, process: Arc<str>, readers: &[u8], after: u64, version: u64) -> bool {
        if version <= self.version {
            return true;
        }
        let continues = after == self.version;
        self.version = version;
        self.of.retain(|(other, _)| *other != process);
        if !readers.is_empty() {
            self.of.reserve_exact(1);
            self.of.push((process, Box::from(readers)));
        }
        continues
    }

    /// The processes that have said something.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.of.iter().map(|(process, _)| process)
    }

    /// The totals, where they are others than were told.
    pub(crate) fn news(&mut self, process: &Arc<str>, alive: &Alive) -> Option<Totals> {
        let mut sum: BTreeMap<Option<Arc<str>>, u64> = BTreeMap::new();
        let others = self.of.iter().filter(|(other, _)| other != process && alive.counts(other));
        for said in others.map(|(_, said)| &**said).chain([&*self.mine]) {
            for (reader, count) in decode(said) {
                let total = sum.entry(reader).or_default();
                *total = total.saturating_add(count);
            }
        }
        let totals: Totals = sum.into_iter().collect();
        (totals != self.told).then(|| {
            self.told.clone_from(&totals);
            totals
        })
    }
}

/// Readers in bytes: for each its number of connections, and its name behind a one where it has one.
fn encode(readers: &Totals) -> Bytes {
    let mut out = BytesMut::new();
    for (reader, count) in readers.iter().filter(|(_, count)| *count > 0) {
        put_number(&mut out, *count);
        put_number(&mut out, u64::from(reader.is_some()));
        if let Some(reader) = reader {
            put_number(&mut out, reader.len() as u64);
            out.extend_from_slice(reader.as_bytes());
        }
    }
    out.freeze()
}

/// What another process has said; what cannot be read counts as nobody.
fn decode(said: &[u8]) -> Totals {
    let (mut readers, mut at) = (Vec::new(), 0);
    while at < said.len() {
        let Some(count) = take_number(said, &mut at) else { break };
        match take_number(said, &mut at) {
            Some(0) => readers.push((None, count)),
            Some(1) => match take_text(said, &mut at) {
                Some(reader) => readers.push((Some(Arc::from(reader)), count)),
                None => break,
            },
            _ => break,
        }
    }
    readers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn a_process_counts_until_a_later_list_does_not_name_it() {
        let mut alive = Alive::default();
        let (us, them) = (name("us"), name("them"));
        alive.heard(&them, Duration::from_secs(5));
        assert!(alive.listed(vec![Arc::clone(&us)], Duration::from_secs(4), None), "we are new");
        assert!(alive.counts(&them), "the list is older than what was heard");
        assert!(!alive.listed(vec![Arc::clone(&us)], Duration::from_secs(6), Some(Duration::from_secs(5))), "spared");
        assert!(alive.listed(vec![us], Duration::from_secs(6), None));
        assert!(!alive.counts(&them) && alive.is_dead(&them));
        alive.read(&them, Duration::from_secs(7));
        assert!(!alive.counts(&them), "what it said before it died");
        alive.heard(&them, Duration::from_secs(8));
        assert!(alive.counts(&them));
    }

    #[test]
    fn readers_of_all_processes_are_summed_by_name() {
        let (us, them) = (name("us"), name("them"));
        let mut alive = Alive::default();
        let mut presence = Presence::default();
        assert!(presence.count(&vec![(None, 2), (Some(name("ann")), 1)]));
        let theirs = encode(&vec![(Some(name("ann")), 2), (Some(name("bob")), 0)]);
        assert!(presence.read(&us, vec![(Arc::clone(&them), theirs)], 7), "ours is missing there");
        assert_eq!(presence.news(&us, &alive), Some(vec![(None, 2), (Some(name("ann")), 1)]));
        alive.heard(&them, Duration::ZERO);
        assert_eq!(presence.news(&us, &alive), Some(vec![(None, 2), (Some(name("ann")), 3)]));
        assert_eq!(presence.news(&us, &alive), None, "told once");
        assert!(presence.pushed(them, b"", 7, 9));
        assert_eq!(presence.news(&us, &alive), Some(vec![(None, 2), (Some(name("ann")), 1)]));
    }
}
