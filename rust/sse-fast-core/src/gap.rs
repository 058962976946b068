//! Events that a subscriber could not be given, as it is told of them.
//!
//! Owns: what a gap is. Must not know: why there is one (`cursor`, `lag`), or its bytes (`wire`). Invariant: a gap whose
//! size is known is never empty.

use crate::id::Position;

/// Events a subscriber could not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The positions `from..=to`.
    Known {
        /// The first that is missing.
        from: Position,
        /// The last that is missing.
        to: Position,
    },
    /// The reader's place belongs to another life, so the number is unknown.
    Unknown,
}

impl Gap {
    /// The gap over `from..until`, where it is not empty.
    pub fn between(from: Position, until: Position) -> Option<Self> {
        (from < until).then(|| Self::Known { from, to: until - 1 })
    }

    /// The first and the last that is missing, where that is known.
    pub fn range(self) -> Option<(Position, Position)> {
        match self {
            Self::Known { from, to } => Some((from, to)),
            Self::Unknown => None,
        }
    }

    /// How many events are missing, where that is known.
    pub fn skipped(self) -> Option<u64> {
        match self {
            Self::Known { from, to } => Some(to + 1 - from),
            Self::Unknown => None,
        }
    }
}
