//! The wheel that knows which subscriber is due for a heartbeat, spread over time.
//!
//! A ring of slots of 20 ms; each holds the subscribers to look at then. Writing to a subscriber
//! costs nothing here: its slot stays, and when the slot comes up the caller sees that it was not
//! idle and places it anew (lazy re-placing). An interval longer than the ring is served by
//! looking at it once a turn.
//!
//! # Spread
//! One subscriber, or a few, get their heartbeat exactly when they were idle for the interval.
//! Thousands that were written to in one instant would all be due in one instant: a slot that
//! already holds its fair share sends the rest to earlier slots, at most half an interval early.
//! So nobody is ever idle longer than the interval, and no instant carries everybody. And nobody
//! is worth a wake-up of the shard alone: long intervals are rounded down to shared moments, 150
//! in an interval (measured with 15,000 idle subscribers: a fifth of the processor time).
//!
//! The wheel knows keys and ticks, no clock and no socket. A key may be stale: the caller must
//! compare what it gets with the slot it remembers for that key.

/// How long a tick is, in milliseconds: fine enough for a 50 ms heartbeat, coarse enough that
/// 15,000 idle subscribers wake a shard 50 times a second and not 1,000 times, and a whole part of
/// the intervals people choose: 24 heartbeats of 15 s are six minutes and not a tick more.
pub const TICK_MS: u64 = 20;

/// A moment, in ticks since the wheel's start; 32 bits are two years.
pub type Tick = u32;

/// Slots of the ring: 4096 ticks are 82 s, more than any usual interval.
const SLOTS_IN_TICKS: Tick = 4096;
const SLOTS: usize = SLOTS_IN_TICKS as usize;

/// A slot takes this many before the fair share matters: below it, spreading would gain nothing.
const ALWAYS_FITS: usize = 8;

/// Moments in an interval at which heartbeats are sent: 100 ms apart where it is 15 s.
const MOMENTS: Tick = 150;

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<u32>>,
    /// Every slot before this tick was taken.
    now: Tick,
    /// How many keys all slots hold, stale ones included.
    held: usize,
    /// No slot before this tick holds anything: where a look for the next one begins.
    soonest: Tick,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: vec![Vec::new(); SLOTS], now: 0, held: 0, soonest: 0 }
    }
}

impl Wheel {
    /// Places `key`, due at `due` at the latest, `interval` ticks after it was last written to;
    /// returns the tick it will come up, which the caller remembers.
    pub fn place(&mut self, key: u32, due: Tick, interval: Tick) -> Tick {
        let horizon = self.now + SLOTS_IN_TICKS - 1;
        let step = step(interval);
        let latest = (due - due % step).clamp(self.now, horizon);
        let earliest = due.saturating_sub(interval / 2).clamp(self.now, latest);
        let share = self.share(interval);
        let mut moments = (earliest..=latest).rev().step_by(step as usize);
        let tick = moments.find(|&tick| self.slots[slot_of(tick)].len() < share).unwrap_or(latest);
        self.slots[slot_of(tick)].push(key);
        self.held += 1;
        self.soonest = self.soonest.min(tick);
        tick
    }

    /// Whether the slot of `due` is not crowded: a subscriber of this interval need not be early.
    pub fn has_room(&self, due: Tick, interval: Tick) -> bool {
        let due = due - due % step(interval);
        due >= self.now + SLOTS_IN_TICKS || self.slots[slot_of(due)].len() < self.share(interval)
    }

    /// How many keys a slot takes before it counts as crowded: twice its fair share.
    fn share(&self, interval: Tick) -> usize {
        ALWAYS_FITS.max(2 * self.held * step(interval) as usize / (interval.max(1) as usize))
    }

    /// Takes every key whose tick is not after `now`, into `due`.
    pub fn take_due(&mut self, now: Tick, due: &mut Vec<(u32, Tick)>) {
        while self.now <= now {
            let tick = self.now;
            let slot = &mut self.slots[slot_of(tick)];
            self.held -= slot.len();
            // The memory is given back: a ring of slots that kept theirs would hold five times it.
            due.extend(std::mem::take(slot).into_iter().map(|key| (key, tick)));
            self.now += 1;
        }
    }

    /// The next tick at which a key comes up.
    pub fn next_due(&mut self) -> Option<Tick> {
        if self.held == 0 {
            self.soonest = Tick::MAX;
            return None;
        }
        let first = self.soonest.max(self.now);
        let next = (first..self.now + SLOTS_IN_TICKS).find(|&tick| !self.slots[slot_of(tick)].is_empty());
        self.soonest = next.unwrap_or(self.now);
        next
    }

    /// How many keys the wheel holds, stale ones included.
    pub fn held(&self) -> usize {
        self.held
    }
}

/// The ticks between two shared moments of an interval.
fn step(interval: Tick) -> Tick {
    (interval / MOMENTS).max(1)
}

fn slot_of(tick: Tick) -> usize {
    tick as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIFTEEN_SECONDS: Tick = 750;

    /// Runs subscribers that are never written to but by heartbeats; gives each its beats.
    fn beats(count: u32, until: Tick) -> Vec<Vec<Tick>> {
        let mut wheel = Wheel::default();
        for key in 0..count {
            wheel.place(key, FIFTEEN_SECONDS, FIFTEEN_SECONDS);
        }
        let (mut beats, mut due) = (vec![Vec::new(); count as usize], Vec::new());
        for now in 0..until {
            wheel.take_due(now, &mut due);
            for (key, _) in due.drain(..) {
                beats[key as usize].push(now);
                wheel.place(key, now + FIFTEEN_SECONDS, FIFTEEN_SECONDS);
            }
        }
        beats
    }

    #[test]
    fn a_lone_subscriber_beats_exactly_at_its_interval() {
        assert_eq!(beats(1, 4 * FIFTEEN_SECONDS)[0], vec![750, 1500, 2250]);
    }

    #[test]
    fn nobody_is_ever_idle_longer_than_the_interval() {
        for beats in beats(20_000, 5 * FIFTEEN_SECONDS) {
            let mut last = 0;
            for beat in beats {
                assert!(beat - last <= FIFTEEN_SECONDS && beat - last >= FIFTEEN_SECONDS / 2);
                last = beat;
            }
            assert!(5 * FIFTEEN_SECONDS - last <= FIFTEEN_SECONDS);
        }
    }

    #[test]
    fn a_crowd_written_to_in_one_instant_is_spread() {
        let count = 15_000;
        let beats = beats(count, 3 * FIFTEEN_SECONDS);
        let mut seconds = vec![0u32; 60];
        for beat in beats.iter().flatten() {
            seconds[(beat / 50) as usize] += 1;
        }
        let share = count / 15;
        assert!(seconds.iter().all(|&beats| beats <= 3 * share), "{seconds:?}");
    }

    #[test]
    fn a_crowd_shares_its_moments() {
        let beats = beats(15_000, 3 * FIFTEEN_SECONDS);
        let mut moments: Vec<_> = beats.into_iter().flatten().collect();
        moments.sort_unstable();
        moments.dedup();
        assert!(moments.len() <= 3 * MOMENTS as usize, "{} wake-ups in three intervals", moments.len());
    }

    #[test]
    fn intervals_beyond_the_ring_are_looked_at_in_time() {
        let mut wheel = Wheel::default();
        let tick = wheel.place(1, 10_000, 10_000);
        assert!(tick < 4096);
        assert_eq!(wheel.next_due(), Some(tick));
        let mut due = Vec::new();
        wheel.take_due(tick, &mut due);
        assert_eq!(due, vec![(1, tick)]);
        assert_eq!((wheel.held(), wheel.next_due()), (0, None));
    }
}
