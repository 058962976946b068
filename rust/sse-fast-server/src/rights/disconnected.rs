//! Readers that were disconnected: what was issued to them until then is refused.
//!
//! Owns: since when each reader's tokens count. Must not know: tokens, connections.
//! Invariants: what is refused once stays refused. No more than [`MOST`] readers are kept by name; beyond it the oldest is
//! folded into one time for everybody: a token that old is refused, which costs its reader a new one and lets
//! nobody in. A connection that is on its way to a shard is counted before or after a reader was disconnected, never neither.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use sse_fast_core::budget::Micros;

use super::token::Seconds;

/// At some 100 bytes each, 10 MB.
const MOST: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Disconnected(RwLock<Readers>);

/// Held to look, or for the one insertion.
#[derive(Default)]
pub(crate) struct Readers {
    by_name: HashMap<Arc<str>, Cut>,
    /// By when they were disconnected, in microseconds of the Unix epoch; the oldest is folded.
    oldest: BTreeSet<(u64, Arc<str>)>,
    /// Everybody's.
    everybody: Option<Cut>,
}

/// When a reader was disconnected.
#[derive(Clone, Copy)]
struct Cut {
    /// By the wall clock, in microseconds.
    wall: u64,
    /// By the monotonic clock.
    at: Micros,
}

impl Cut {
    /// The later of both, by each clock.
    fn or_later(self, other: Self) -> Self {
        Self { wall: self.wall.max(other.wall), at: self.at.max(other.at) }
    }
}

impl Disconnected {
    /// A reader is disconnected at this time of both clocks.
    pub(crate) fn add(&self, reader: &Arc<str>, wall: u64, at: Micros) {
        self.add_up_to(reader, wall, at, MOST);
    }

    fn add_up_to(&self, reader: &Arc<str>, wall: u64, at: Micros, most: usize) {
        let mut readers = self.0.write();
        let cut = Cut { wall, at };
        // A wall clock that was set back brings no token back.
        let cut = readers.by_name.get(reader).map_or(cut, |before| before.or_later(cut));
        if let Some(before) = readers.by_name.insert(Arc::clone(reader), cut) {
            readers.oldest.remove(&(before.wall, Arc::clone(reader)));
        }
        readers.oldest.insert((cut.wall, Arc::clone(reader)));
        if readers.by_name.len() > most
            && let Some((_, oldest)) = readers.oldest.pop_first()
            && let Some(cut) = readers.by_name.remove(&oldest)
        {
            readers.everybody = Some(readers.everybody.map_or(cut, |before| before.or_later(cut)));
        }
        debug_assert_eq!(readers.by_name.len(), readers.oldest.len(), "each reader is kept once");
    }

    /// Whether what was issued then to this reader is refused. What does not say when is taken for older than all, and so is
    /// what says a time that has not come; the clock that it was issued by may be ahead by `leeway`.
    pub(crate) fn refuses(&self, reader: Option<&str>, issued: Option<Seconds>, now: Seconds, leeway: Seconds) -> bool {
        let readers = self.0.read();
        let own = reader.and_then(|reader| readers.by_name.get(reader)).copied();
        let since = [own, readers.everybody].into_iter().flatten().map(|cut| seconds(cut.wall)).reduce(f64::max);
        let is_older = |issued, since| issued <= since + leeway || issued > now + leeway;
        since.is_some_and(|since| issued.is_none_or(|issued| is_older(issued, since)))
    }

    /// Keeps readers from being disconnected while a connection is handed over.
    pub(crate) fn hold(&self) -> RwLockReadGuard<'_, Readers> {
        self.0.read()
    }
}

impl Readers {
    /// Whether a reader that was let in at this time of the monotonic clock has been disconnected since.
    pub(crate) fn has_cut(&self, reader: &str, admitted: Micros) -> bool {
        [self.by_name.get(reader), self.everybody.as_ref()].into_iter().flatten().any(|cut| cut.at >= admitted)
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for 285 years")]
fn seconds(micros: u64) -> Seconds {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn what_was_issued_until_then_is_refused_and_what_does_not_say_when() {
        let (disconnected, ann): (_, Arc<str>) = (Disconnected::default(), "ann".into());
        assert!(!disconnected.refuses(Some("ann"), None, 100.0, 0.0));
        disconnected.add(&ann, 100 * SECOND, 7);
        let refused = |issued| disconnected.refuses(Some("ann"), issued, 110.0, 0.0);
        assert_eq!([Some(99.0), Some(100.0), Some(100.1), None].map(refused), [true, true, false, true]);
        assert_eq!([Some(110.0), Some(110.1), Some(110_000.0)].map(refused), [false, true, true]);
        let lenient = |issued| disconnected.refuses(Some("ann"), issued, 170.0, 60.0);
        assert_eq!([Some(160.0), Some(160.1), Some(230.0), Some(230.1)].map(lenient), [true, false, false, true]);
        for other in [None, Some("bob")] {
            assert!(!disconnected.refuses(other, None, 110.0, 0.0), "it was not disconnected");
            assert!(
                !disconnected.refuses(other, Some(110_000.0), 110.0, 0.0),
                "a clock that is ahead harms nobody else"
            );
        }
        let readers = disconnected.hold();
        assert_eq!([6, 7, 8].map(|at| readers.has_cut("ann", at)), [true, true, false]);
        drop(readers);
        disconnected.add(&ann, 50 * SECOND, 9);
        assert!(
            disconnected.refuses(Some("ann"), Some(100.0), 110.0, 0.0),
            "a clock that was set back brings nothing back"
        );
    }

    #[test]
    fn the_oldest_is_folded_into_a_time_for_everybody() {
        let disconnected = Disconnected::default();
        for number in 0..5_u64 {
            disconnected.add_up_to(&number.to_string().into(), (10 + number) * SECOND, number, 3);
        }
        let refused = |reader, issued| disconnected.refuses(Some(reader), Some(issued), 20.0, 0.0);
        assert!(refused("0", 10.0) && refused("1", 11.0), "they are refused still");
        assert!(refused("4", 14.0) && !refused("4", 14.1));
        assert!(refused("else", 11.0) && !refused("else", 11.1), "and with them what is as old");
        let readers = disconnected.hold();
        assert!(readers.has_cut("0", 0) && readers.has_cut("1", 1), "who waits since before is cut, too");
        assert!(readers.has_cut("4", 4) && !readers.has_cut("0", 2), "who came later is not");
    }
}
