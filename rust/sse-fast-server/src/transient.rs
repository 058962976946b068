//! Places for connections that nothing was promised to: where all are taken, the oldest gives way to a newcomer.
//!
//! Owns: who holds a place, and who gives way. Must not know: sockets, requests, limits of what is served.
//! Rule 1: a newcomer always gets a place, so that nobody who says nothing, or is done, can keep one from who asks.
//! Rule 2: the oldest gives way, and who is being answered only where everybody is: an answer takes moments.
//! Rule 3: who takes part in a share of its own, such as an address's, gives way to its like once that is used up.
//! Who gives way is told by the end of its [`Stay`], and closes. The lock is held for one pass over the places, of which there
//! are a thousand at most; nothing else is done under it.
//! Changes together with `admission` and `operate::scraped`, which give places out, and `connection`, which watches its stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The places; `K` says whose share one is of. A handle, cheap to clone.
#[derive(Debug)]
pub(crate) struct Transients<K>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K> {
    /// How many there are.
    most: usize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    /// By number: the first is the oldest.
    places: BTreeMap<u64, Place<K>>,
    /// The number of the next.
    next: u64,
}

#[derive(Debug)]
struct Place<K> {
    share: Option<K>,
    /// Whether its holder has asked for what everybody is answered, and is being answered.
    answering: bool,
    /// Dropped with the place: the holder is to close.
    _stays: oneshot::Sender<()>,
}

/// A place, until it is dropped or given up.
#[derive(Debug)]
pub(crate) struct Transient<K: PartialEq> {
    shared: Arc<Shared<K>>,
    number: u64,
}

/// Ends when its holder has given way.
pub(crate) type Stay = oneshot::Receiver<()>;

impl<K: PartialEq> Transients<K> {
    /// At most `most` at a time.
    pub(crate) fn new(most: usize) -> Self {
        let held = Mutex::new(Held { places: BTreeMap::new(), next: 0 });
        Self(Arc::new(Shared { most: most.max(1), held }))
    }

    /// A place, and how long it lasts; `share` is whose it is, and how many places that has.
    pub(crate) fn enter(&self, share: Option<(K, usize)>) -> (Transient<K>, Stay) {
        let mut held = self.0.held.lock();
        let full = held.places.len() >= self.0.most;
        let given_up = match &share {
            Some((of, most)) => held.gives_way(|place| place.share.as_ref() == Some(of), (*most).max(1)),
            None => None,
        };
        let given_up = given_up.or_else(|| if full { held.gives_way(|_| true, self.0.most) } else { None });
        let given_up = given_up.and_then(|number| held.places.remove(&number));
        let number = held.next;
        held.next += 1;
        let (stays, stay) = oneshot::channel();
        let place = Place { share: share.map(|(of, _)| of), answering: false, _stays: stays };
        held.places.insert(number, place);
        debug_assert!(held.places.len() <= self.0.most, "there are no more than that");
        drop(held);
        // It wakes a task, for which the lock is not needed.
        drop(given_up);
        (Transient { shared: Arc::clone(&self.0), number }, stay)
    }
}

impl<K> Clone for Transients<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Held<K> {
    /// Whose place a newcomer among these takes, where they have `most`.
    fn gives_way(&self, among: impl Fn(&Place<K>) -> bool, most: usize) -> Option<u64> {
        let those = || self.places.iter().filter(|(_, place)| among(place));
        if those().count() < most {
            return None;
        }
        let silent = those().find(|(_, place)| !place.answering);
        silent.or_else(|| those().next()).map(|(number, _)| *number)
    }
}

impl<K: PartialEq> Transient<K> {
    /// Whether it is being answered from now on.
    pub(crate) fn set_answering(&self, answering: bool) {
        if let Some(place) = self.shared.held.lock().places.get_mut(&self.number) {
            place.answering = answering;
        }
    }
}

impl<K: PartialEq> Drop for Transient<K> {
    fn drop(&mut self) {
        let place = self.shared.held.lock().places.remove(&self.number);
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn stays((_, stay): &mut (Transient<u8>, Stay)) -> bool {
        stay.try_recv() == Err(TryRecvError::Empty)
    }

    fn who_stays(held: &mut [(Transient<u8>, Stay)]) -> Vec<usize> {
        (0..held.len()).filter(|number| stays(&mut held[*number])).collect()
    }

    #[test]
    fn the_oldest_gives_way_to_a_newcomer_and_a_place_that_is_dropped_is_free() {
        let places = Transients::new(3);
        let mut held: Vec<_> = (0..5).map(|_| places.enter(None)).collect();
        assert_eq!(who_stays(&mut held), [2, 3, 4]);
        drop(held.remove(3));
        held.push(places.enter(None));
        assert_eq!(who_stays(&mut held), [2, 3, 4], "one was free");
        // Who has given way takes no other's place with it.
        drop(held.drain(..2));
        assert_eq!(who_stays(&mut held), [0, 1, 2]);
    }

    #[test]
    fn who_is_being_answered_gives_way_last() {
        let places = Transients::new(2);
        let mut held = vec![places.enter(None), places.enter(None)];
        held[0].0.set_answering(true);
        held.push(places.enter(None));
        assert_eq!(who_stays(&mut held), [0, 2]);
        held[2].0.set_answering(true);
        held.push(places.enter(None));
        assert_eq!(who_stays(&mut held), [2, 3], "everybody was: the oldest");
        held[2].0.set_answering(false);
        held.push(places.enter(None));
        assert_eq!(who_stays(&mut held), [3, 4]);
    }

    #[test]
    fn a_share_that_is_used_up_costs_its_own_and_nobody_else() {
        let places = Transients::new(4);
        let mut held: Vec<_> = [None, Some(1), Some(2), Some(1), Some(1)]
            .map(|share: Option<u8>| places.enter(share.map(|of| (of, 2))))
            .into_iter()
            .collect();
        assert_eq!(who_stays(&mut held), [0, 2, 3, 4]);
        held.push(places.enter(Some((3, 2))));
        assert_eq!(who_stays(&mut held), [2, 3, 4, 5], "there was no place: the oldest of all");
    }
}
