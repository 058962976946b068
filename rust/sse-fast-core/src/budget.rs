//! How much waiting was spent within the last minute.
//!
//! Owns: the sum over a sliding minute. Must not know: who waits, for what, how much is allowed. Time comes in.
//! Invariant: what was spent at any moment of the last 60 s is in the sum, so that no minute, wherever it begins, holds
//! more than the limit that a caller keeps to. (A bucket that refills evenly would allow twice the limit in one minute.)

/// Microseconds of a monotonic clock.
pub type Micros = u64;

/// What budgets are for.
pub const MINUTE: Micros = 60_000_000;

/// What one slot covers: short enough that little more than a minute is kept, long enough that it takes few slots.
const SLOT: Micros = 4_000_000;

/// The slot of now and the fifteen before it cover at least 60 s.
const SLOTS: usize = 16;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// Microseconds spent in each slot; a slot's index is its number modulo their count.
    slots: [u32; SLOTS],
    /// The number of the newest slot.
    newest: u64,
}

impl Spent {
    /// Adds `amount` microseconds that were spent by `now`.
    pub fn add(&mut self, now: Micros, amount: Micros) {
        self.forget(now);
        let slot = &mut self.slots[index(now / SLOT)];
        *slot = slot.saturating_add(u32::try_from(amount).unwrap_or(u32::MAX));
    }

    /// Microseconds spent within the last minute.
    pub fn within_a_minute(&self, now: Micros) -> Micros {
        let number = now / SLOT;
        let oldest = number.saturating_sub(SLOTS as u64 - 1);
        (oldest..=self.newest.min(number)).map(|number| Micros::from(self.slots[index(number)])).sum::<Micros>()
    }

    /// Whether nothing was spent within the last minute.
    pub fn is_clear(&self, now: Micros) -> bool {
        self.within_a_minute(now) == 0
    }

    /// Empties the slots that time has passed over.
    fn forget(&mut self, now: Micros) {
        let number = now / SLOT;
        for passed in (self.newest + 1..=number).rev().take(SLOTS) {
            self.slots[index(passed)] = 0;
        }
        self.newest = self.newest.max(number);
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % SLOTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    proptest! {
        /// Whatever is spent when, the sum holds at least what the last 60 s hold and at most what the last 64 s hold.
        #[test]
        fn the_sum_covers_a_minute_and_little_more(
            spends in prop::collection::vec((0u64..20 * SECOND, 0u64..2 * SECOND), 1..60),
        ) {
            let (mut spent, mut now, mut all) = (Spent::default(), 5 * SECOND, Vec::new());
            for (pause, amount) in spends {
                now += pause;
                spent.add(now, amount);
                all.push((now, amount));
                let since = |age: Micros| all.iter().filter(|(at, _)| *at + age > now).map(|(_, amount)| amount).sum::<Micros>();
                let sum = spent.within_a_minute(now);
                prop_assert!(sum >= since(60 * SECOND) && sum <= since(64 * SECOND), "{sum}");
            }
            prop_assert!(spent.is_clear(now + 64 * SECOND));
        }
    }
}
