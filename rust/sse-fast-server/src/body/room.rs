//! Room for the bodies of requests: how many bytes of them a server holds, on their way and whole.
//!
//! Owns: the counting, and who gives way. Must not know: requests, what a body is read from.
//! Rule 1: every byte of a body is counted from the moment it is kept until nobody holds the body any more, a handler's queue
//! included; no more are kept than there is room for.
//! Rule 2: where there is none, bodies that are on their way for longer than [`PATIENCE`] give way, the oldest first, so that
//! bodies which never end do not keep the room from those that do. Where there is no such body the newcomer is refused.
//! Rule 3: what is whole gives way to nothing.
//! Time is an argument. The lock is held for one look-up, but where room has to be made; nothing else is done under it.
//! Changes together with `body`, which asks for room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::Config;

/// The room of a server: 1,024 of the largest bodies that are allowed by default would be 1 GiB.
const MOST_BYTES: usize = 64 << 20;

/// How long a body may be on its way without giving way to others. Those of good clients take less; one that takes longer is
/// refused only while there is no room.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// See the module; a handle, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BodyRoom(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Of all bodies, on their way or whole.
    bytes: usize,
    /// Those on their way that have any, by number: the first is the oldest.
    under_way: BTreeMap<u64, UnderWay>,
    /// The number of the next.
    next: u64,
}

#[derive(Debug)]
struct UnderWay {
    began: Instant,
    bytes: usize,
    /// Dropped with this: its reader is to give it up.
    _stays: oneshot::Sender<()>,
}

/// The room of a body on its way; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Receiving {
    shared: Arc<Shared>,
    number: u64,
    /// Ends when it has given way.
    pub(super) stay: oneshot::Receiver<()>,
}

/// The room of a whole body; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Reserved {
    shared: Arc<Shared>,
    bytes: usize,
}

impl BodyRoom {
    /// What a server's settings say; one body always has room.
    pub(crate) fn of(config: &Config) -> Self {
        Self::new(config.max_body_bytes.max(MOST_BYTES))
    }

    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, held: Mutex::default() }))
    }

    /// A body of which the first bytes have come.
    pub(super) fn begin(&self, now: Instant) -> Receiving {
        let (stays, stay) = oneshot::channel();
        let mut held = self.0.held.lock();
        let number = held.next;
        held.next += 1;
        held.under_way.insert(number, UnderWay { began: now, bytes: 0, _stays: stays });
        Receiving { shared: Arc::clone(&self.0), number, stay }
    }

    /// How many bytes there is room for.
    pub(crate) fn most(&self) -> usize {
        self.0.most
    }
}

impl Receiving {
    /// Whether there is room for so many bytes more; it is taken then.
    pub(super) fn grow(&self, more: usize, now: Instant) -> bool {
        let mut given_up = Vec::new();
        let grown = self.shared.held.lock().grow(self.number, more, self.shared.most, now, &mut given_up);
        // Their readers are woken, for which the lock is not needed.
        drop(given_up);
        grown
    }

    /// It is whole: from here on it gives way to nothing. `None` where it had to before.
    pub(super) fn whole(self) -> Option<Reserved> {
        let under_way = self.shared.held.lock().under_way.remove(&self.number)?;
        Some(Reserved { shared: Arc::clone(&self.shared), bytes: under_way.bytes })
    }
}

impl Held {
    fn grow(&mut self, number: u64, more: usize, most: usize, now: Instant, given_up: &mut Vec<UnderWay>) -> bool {
        if !self.under_way.contains_key(&number) {
            return false;
        }
        while self.bytes + more > most {
            let oldest = self.under_way.iter().find(|(other, one)| **other == number || one.bytes > 0);
            let Some((oldest, one)) = oldest.map(|(oldest, one)| (*oldest, one)) else { return false };
            if oldest == number || now < one.began + PATIENCE {
                return false;
            }
            if let Some(one) = self.under_way.remove(&oldest) {
                self.give_back(one.bytes);
                given_up.push(one);
            }
        }
        self.bytes += more;
        if let Some(one) = self.under_way.get_mut(&number) {
            one.bytes += more;
        }
        debug_assert!(self.bytes <= most, "no more than there is room for");
        true
    }

    fn give_back(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes, "it was counted");
        self.bytes -= bytes;
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut held = self.shared.held.lock();
        let under_way = held.under_way.remove(&self.number);
        if let Some(one) = &under_way {
            held.give_back(one.bytes);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.held.lock().give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn held(room: &BodyRoom) -> usize {
        room.0.held.lock().bytes
    }

    fn stays(one: &mut Receiving) -> bool {
        one.stay.try_recv() == Err(TryRecvError::Empty)
    }

    #[test]
    fn bytes_count_from_when_they_are_kept_until_the_body_is_let_go() {
        let (room, now) = (BodyRoom::new(100), Instant::now());
        let (one, other) = (room.begin(now), room.begin(now));
        assert!(one.grow(60, now) && other.grow(30, now) && !other.grow(11, now) && other.grow(10, now));
        assert_eq!(held(&room), 100);
        let whole = one.whole().expect("it has not given way");
        assert_eq!(held(&room), 100);
        drop(other);
        assert_eq!(held(&room), 60);
        drop(whole);
        assert_eq!((held(&room), room.0.held.lock().under_way.len()), (0, 0));
    }

    #[test]
    fn a_body_that_takes_long_gives_way_to_a_newer_one_and_not_before() {
        let (room, began) = (BodyRoom::new(100), Instant::now());
        let mut old: Vec<_> = (0..3).map(|_| room.begin(began)).collect();
        assert!(old.iter().all(|one| one.grow(30, began)));
        let new = room.begin(began + PATIENCE / 2);
        assert!(!new.grow(20, began + PATIENCE / 2), "they may still come");
        assert!(new.grow(20, began + PATIENCE));
        assert_eq!(old.iter_mut().map(stays).collect::<Vec<_>>(), [false, true, true], "no more than is needed");
        assert_eq!(held(&room), 80);
        assert!(!old[0].grow(1, began + PATIENCE), "it has given way");
        assert!(old.remove(0).whole().is_none());
        assert_eq!(held(&room), 80, "its room was given back once");
        assert!(new.grow(80, began + PATIENCE), "two more");
        assert_eq!(held(&room), 100);
    }

    #[test]
    fn the_oldest_of_all_makes_no_other_give_way_and_a_whole_one_never_does() {
        let (room, began) = (BodyRoom::new(100), Instant::now());
        let first = room.begin(began);
        assert!(first.grow(50, began));
        let second = room.begin(began);
        assert!(second.grow(50, began));
        let later = began + 3 * PATIENCE;
        assert!(!first.grow(1, later), "the second is newer");
        let (_first, _second) = (first.whole().expect("whole"), second.whole().expect("whole"));
        let third = room.begin(later);
        assert!(!third.grow(1, later + PATIENCE));
        assert_eq!(held(&room), 100);
    }
}
