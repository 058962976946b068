//! What must hold, whatever happens: told of everything that any process sees or is answered.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::protocol::Mark;
use super::super::{Name, SharedEvent};

/// See the module.
#[derive(Default)]
pub(super) struct Laws {
    /// What each id means, as anybody saw it.
    meaning: HashMap<(Name, u64, u64), String>,
    /// Under which ids each event was seen.
    ids: HashMap<String, HashSet<(u64, u64)>>,
    /// The epochs that each process's requests have brought for each stream.
    brought: HashSet<(Name, Name, u64)>,
    /// How far each stream had come by each removal.
    removed: HashMap<(Name, u64), Mark>,
    /// Events that were answered as not published.
    never: HashSet<String>,
    /// The server has lost something that it had confirmed: an event may have been repeated in another life.
    pub(super) lost: bool,
    /// What happened how often.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl Laws {
    /// Somebody saw an event under an id.
    pub(super) fn saw(&mut self, name: &Name, epoch: u64, position: u64, event: &SharedEvent) {
        let data = String::from_utf8_lossy(event.fields().data).into_owned();
        self.means(name, epoch, position, &data);
    }

    pub(super) fn means(&mut self, name: &Name, epoch: u64, position: u64, data: &str) {
        let before = self.meaning.entry((name.clone(), epoch, position)).or_insert_with(|| data.to_owned());
        assert_eq!(*before, data, "{epoch}-{position} of {name} means two events");
        assert!(!self.never.contains(data), "{data} was answered as not published");
        let ids = self.ids.entry(data.to_owned()).or_default();
        ids.insert((epoch, position));
        // A life that goes on has its events at their places.
        let places = ids.iter().map(|(_, position)| position).collect::<HashSet<_>>().len();
        assert!(places == 1 || self.lost, "{data} of {name} was published as {ids:?}");
        let lives = ids.iter().map(|(epoch, _)| epoch).collect::<HashSet<_>>().len();
        assert_eq!(lives, ids.len(), "{data} of {name} stands twice in one life");
    }

    /// A request that may begin a life is on its way. Those of one process differ but for one chance in a million.
    pub(super) fn brings(&mut self, process: &Name, name: &Name, epoch: u64) {
        assert!(
            self.brought.insert((process.clone(), name.clone(), epoch)),
            "two of {process} begin {epoch} of {name}"
        );
    }

    /// A removal was executed, once more perhaps.
    pub(super) fn removes(&mut self, process: &Name, call: u64, mark: Mark) {
        let before = *self.removed.entry((process.clone(), call)).or_insert(mark);
        assert!(before == mark || self.lost, "one removal of {process} removes {before:?} and {mark:?}");
    }

    /// An event was answered as not published.
    pub(super) fn never(&mut self, data: String) {
        assert!(!self.ids.contains_key(&data), "{data} was answered as not published, and is");
        self.never.insert(data);
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}
