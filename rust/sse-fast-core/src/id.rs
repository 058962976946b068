//! Event ids: `<epoch>-<n>`.
//!
//! Owns: writing and reading them. `n` counts a stream's events from 1; the epoch tells the lives of a name apart, as
//! after a restart, or when a removed name is used again.
//! Must not know: streams, or which epoch is the current one.
//! Invariants: every id has one spelling. The epoch is written in base 36, so that an id is short, printable ASCII and
//! safe in a header: a browser sends such a Last-Event-ID without a CORS preflight.

use std::fmt;

use arrayvec::ArrayString;

/// A place in a stream: the `n` of an event; 0 is the place before the first.
pub type Position = u64;

/// One life of a stream. Later lives of a name have greater epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The most digits of an epoch: 36^13 is beyond 64 bits.
const EPOCH_DIGITS: usize = 13;

/// The exponent of 36 that the first of them stands for.
const HIGHEST_EXPONENT: u32 = 12;

/// The longest id there can be: 13 base-36 digits, a hyphen, 20 decimal digits.
const MAX_LENGTH: usize = EPOCH_DIGITS + 1 + 20;

/// An id's text, held inline, so that making one allocates nothing.
#[derive(Clone, Copy)]
pub struct IdText(ArrayString<MAX_LENGTH>);

/// What all ids of one epoch begin with. A stream keeps it, because writing a number in base 36 takes divisions.
#[derive(Clone, Copy, Debug)]
pub struct Prefix(ArrayString<{ EPOCH_DIGITS + 1 }>);

impl Prefix {
    /// What the ids of `epoch` begin with.
    pub fn new(epoch: Epoch) -> Self {
        let mut text = ArrayString::new();
        let mut unit = 36u64.pow(HIGHEST_EXPONENT);
        while unit > epoch.0.max(1) {
            unit /= 36;
        }
        while unit > 0 {
            text.push(char::from(DIGITS[(epoch.0 / unit % 36) as usize]));
            unit /= 36;
        }
        text.push('-');
        Self(text)
    }

    /// The epoch as ids write it.
    pub fn epoch(&self) -> &str {
        &self.0[..self.0.len() - 1]
    }

    /// The id of a position.
    pub fn id(&self, position: Position) -> IdText {
        let mut text = ArrayString::new();
        text.push_str(&self.0);
        text.push_str(itoa::Buffer::new().format(position));
        IdText(text)
    }
}

impl IdText {
    /// The id of `position` in the life `epoch`.
    pub fn new(epoch: Epoch, position: Position) -> Self {
        Prefix::new(epoch).id(position)
    }

    /// The id as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads an id that the engine wrote. Anything else is `None` and not an error, because a client can send any text.
pub fn parse(text: &str) -> Option<(Epoch, Position)> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let (epoch, position) = text.split_once('-')?;
    let canonical = |part: &str| {
        !part.is_empty()
            && (part == "0" || !part.starts_with('0'))
            && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    if !canonical(epoch) || !canonical(position) {
        return None;
    }
    let epoch = u64::from_str_radix(epoch, 36).ok()?;
    Some((Epoch(epoch), position.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(epoch: u64, position: u64) {
            let text = IdText::new(Epoch(epoch), position);
            prop_assert_eq!(parse(text.as_str()), Some((Epoch(epoch), position)));
        }

        #[test]
        fn no_text_is_an_error_and_every_id_has_one_spelling(text in "\\PC{0,40}") {
            if let Some((epoch, position)) = parse(&text) {
                let written = IdText::new(epoch, position);
                prop_assert_eq!(written.as_str(), text.as_str());
            }
        }
    }

    #[test]
    fn strange_ids_are_not_ours() {
        for text in ["", "-", "a-", "-1", "A-1", "a-01", "a--1", "a-1-1", "a-+1", "a-99999999999999999999"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
