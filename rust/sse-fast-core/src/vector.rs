//! The ids of a connection that reads several streams: `<i>_<e>-<n>~<e>-<n>…`.
//!
//! Owns: writing such ids, alone and before a frame, reading them back, and what they say of each name at a resume. Must
//! not know: streams, hashes, which events were given. `i` (base 36) is the place of the name whose event carries the id.
//! There is one entry for each name, in the request's order: `e` stands for a life of a stream ([`Life`]), `n` for the
//! last position that was given, covered by a snapshot or told in a gap. A name that has not begun yet has the entry `-`: after a cut it begins as new.
//! Invariants: an id has one spelling, of letters that a browser sends in a header without asking first; no text is an
//! error. Changes together with `cursor`, which opens a stream at a [`Place`].
//!
//! # Resuming
//! An entry matches a name by `e`, wherever it stands. A name whose entry matches nothing has lost its place; one that was
//! added begins as new. Where names and entries are as many, the entry of a name is the one at its place. Otherwise, where
//! any entry is left over, all names without one have lost their place: a gap that is told in vain does less harm
//! than one that is not told.

use std::ops::Range;

use arrayvec::ArrayString;

use crate::cursor::Place;
use crate::frame::{Frame, Framing};
use crate::id::Position;
use crate::wire;

/// The most names a connection has.
pub const MAX_NAMES: usize = 32;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The digits of a life.
const LIFE_DIGITS: usize = 7;

/// One more than the greatest life: 36^7.
const LIVES: u64 = 36u64.pow(7);

/// The longest entry: seven digits, a hyphen, 20 decimal digits.
const MAX_ENTRY: usize = LIFE_DIGITS + 1 + 20;

/// The longest id that is read: another server may allow more names.
const MAX_LENGTH: usize = 255 * (MAX_ENTRY + 1) + 3;

/// One life of a named stream, as seven base-36 digits of a hash of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life([u8; LIFE_DIGITS]);

impl Life {
    /// No life: its entry matches nothing.
    pub const NONE: Self = Self([b'0'; LIFE_DIGITS]);

    /// The life whose hash begins with these eight bytes, as one number, big-endian.
    pub fn of_hash(hash: [u8; 8]) -> Self {
        let mut rest = u64::from_be_bytes(hash) % LIVES;
        let mut digits = [b'0'; LIFE_DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS[(rest % 36) as usize];
            rest /= 36;
        }
        Self(digits)
    }
}

/// What an id says of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has not begun.
    New,
    /// It has everything of this life up to this position.
    At(Life, Position),
}

/// Where one name begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Where its stream is opened.
    pub place: Place,
    /// What ids say of it until it is told what that brings.
    pub entry: Entry,
}

/// How far a connection is with each of its names: what its ids say. The text is kept as it is written, for it stands in
/// every event, and only a few of its digits change.
#[derive(Debug, Default)]
pub struct IdVector {
    /// The entries, with `~` between them.
    text: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<u16>,
}

impl IdVector {
    /// The vector with these entries.
    pub fn new(entries: &[Entry]) -> Self {
        let mut vector = Self::default();
        for entry in entries {
            if !vector.ends.is_empty() {
                vector.text.push(b'~');
            }
            vector.text.extend_from_slice(written(*entry).as_bytes());
            vector.ends.push(short(vector.text.len()));
        }
        vector.text.shrink_to_fit();
        vector
    }

    /// Becomes the same as `other`; the memory is kept.
    pub fn copy_from(&mut self, other: &Self) {
        self.text.clone_from(&other.text);
        self.ends.clone_from(&other.ends);
    }

    /// A name has everything of this life up to `position`.
    pub fn set(&mut self, index: usize, life: Life, position: Position) {
        let (start, end) = (self.start_of(index), usize::from(self.ends[index]));
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(position).as_bytes();
        let length = LIFE_DIGITS + 1 + digits.len();
        if length != end - start {
            self.text.splice(start..end, std::iter::repeat_n(b'-', length));
            for later in &mut self.ends[index..] {
                *later = short(usize::from(*later) - end + start + length);
            }
        }
        let entry = &mut self.text[start..start + length];
        entry[..LIFE_DIGITS].copy_from_slice(&life.0);
        entry[LIFE_DIGITS] = b'-';
        entry[LIFE_DIGITS + 1..].copy_from_slice(digits);
    }

    /// Appends the id of an event of this name, as a line.
    pub fn write_line(&self, out: &mut Vec<u8>, index: usize) {
        out.extend_from_slice(b"id: ");
        self.write(out, index);
        out.push(b'\n');
    }

    /// Appends the id of an event of this name.
    pub fn write(&self, out: &mut Vec<u8>, index: usize) {
        debug_assert!(index < self.ends.len(), "an event is of a name");
        if index >= 36 {
            out.push(DIGITS[index / 36]);
        }
        out.push(DIGITS[index % 36]);
        out.push(b'_');
        out.extend_from_slice(&self.text);
    }

    /// Appends a frame under the id of an event of this name, as one piece of this framing. Returns where its block begins
    /// in `out`, and which line of the block is left out.
    pub fn put_frame(&self, out: &mut Vec<u8>, index: usize, framing: Framing, frame: &Frame) -> (usize, Range<usize>) {
        let block = frame.plain();
        let without = wire::id_line(block);
        if framing == Framing::Chunked {
            wire::chunk_size(out, self.line_bytes(index) + block.len() - without.len());
        }
        self.write_line(out, index);
        let at = out.len();
        out.extend_from_slice(&block[..without.start]);
        out.extend_from_slice(&block[without.end..]);
        if framing == Framing::Chunked {
            out.extend_from_slice(b"\r\n");
        }
        (at, without)
    }

    /// How long [`Self::write_line`] is.
    pub fn line_bytes(&self, index: usize) -> usize {
        "id: _\n".len() + 1 + usize::from(index >= 36) + self.text.len()
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| usize::from(self.ends[before]) + 1)
    }
}

/// What a client sent as its last id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// None.
    Nothing,
    /// One that cannot be read.
    Unreadable,
    /// One of ours.
    Entries(Vec<Entry>),
}

impl Sent {
    /// What `text` says.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            None | Some("") => Self::Nothing,
            Some(text) => parse(text).map_or(Self::Unreadable, Self::Entries),
        }
    }

    /// Where each name begins, whose present life is given; a name that nothing is known of has none. See "Resuming".
    pub fn beginnings(&self, lives: &[Option<Life>]) -> Vec<Beginning> {
        let entries = match self {
            Self::Nothing => return vec![Beginning { place: Place::New, entry: Entry::New }; lives.len()],
            Self::Unreadable => return vec![Beginning { place: Place::Lost, entry: LOST }; lives.len()],
            Self::Entries(entries) => entries,
        };
        let matching =
            |life: &Life| entries.iter().position(|entry| matches!(entry, Entry::At(other, _) if other == life));
        let mut left: Vec<bool> = entries.iter().map(|entry| *entry != Entry::New).collect();
        let matched: Vec<Option<usize>> = lives.iter().map(|life| life.as_ref().and_then(matching)).collect();
        matched.iter().flatten().for_each(|&at| left[at] = false);
        let of_name = |(index, found): (usize, &Option<usize>)| {
            if let Some(entry) = found.map(|at| entries[at])
                && let Entry::At(_, position) = entry
            {
                return Beginning { place: Place::After(position), entry };
            }
            let own = (entries.len() == lives.len()).then(|| entries[index]);
            let any_left = || left.iter().position(|&left| left).map(|at| entries[at]);
            match own {
                Some(Entry::New) => Beginning { place: Place::New, entry: Entry::New },
                Some(entry) if left[index] => Beginning { place: Place::Lost, entry },
                Some(_) | None => match any_left() {
                    Some(_) => Beginning { place: Place::Lost, entry: LOST },
                    None => Beginning { place: Place::New, entry: Entry::New },
                },
            }
        };
        matched.iter().enumerate().map(of_name).collect()
    }
}

/// An entry that matches nothing.
const LOST: Entry = Entry::At(Life::NONE, 0);

/// Reads an id that [`IdVector`] wrote; anything else is `None`.
fn parse(text: &str) -> Option<Vec<Entry>> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let (index, entries) = text.split_once('_')?;
    let entries: Vec<Entry> = entries.split('~').map(entry_of).collect::<Option<_>>()?;
    let is_canonical = (index == "0" || !index.starts_with('0')) && is_base_36(index);
    let index = usize::from_str_radix(index, 36).ok().filter(|_| is_canonical)?;
    (index < entries.len()).then_some(entries)
}

fn entry_of(text: &str) -> Option<Entry> {
    if text == "-" {
        return Some(Entry::New);
    }
    let (life, position) = text.split_once('-')?;
    let is_canonical = (position == "0" || !position.starts_with('0')) && position.bytes().all(|b| b.is_ascii_digit());
    let life = <[u8; LIFE_DIGITS]>::try_from(life.as_bytes()).ok().filter(|_| is_base_36(life) && is_canonical)?;
    Some(Entry::At(Life(life), position.parse().ok()?))
}

fn is_base_36(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
}

fn written(entry: Entry) -> ArrayString<MAX_ENTRY> {
    let mut text = ArrayString::new();
    if let Entry::At(Life(life), position) = entry {
        for digit in life {
            text.push(char::from(digit));
        }
        text.push('-');
        text.push_str(itoa::Buffer::new().format(position));
    } else {
        text.push('-');
    }
    text
}

/// 255 entries are below 8 KiB.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn life(number: u64) -> Life {
        Life::of_hash(number.to_be_bytes())
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let position = prop_oneof![0..20u64, any::<u64>()];
        prop_oneof![
            1 => Just(Entry::New),
            9 => (any::<u64>(), position).prop_map(|(hash, position)| Entry::At(life(hash), position)),
        ]
    }

    fn id_of(vector: &IdVector, index: usize) -> String {
        let mut out = Vec::new();
        vector.write(&mut out, index);
        String::from_utf8(out).expect("ASCII")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entries in prop::collection::vec(entry(), 1..40), index: prop::sample::Index) {
            let (vector, index) = (IdVector::new(&entries), index.index(entries.len()));
            let text = id_of(&vector, index);
            prop_assert_eq!(vector.line_bytes(index), text.len() + 5);
            prop_assert_eq!(Sent::of(Some(&text)), Sent::Entries(entries));
        }

        /// The oracle writes every id anew.
        #[test]
        fn a_vector_that_is_changed_is_the_one_that_is_written_anew(
            mut entries in prop::collection::vec(entry(), 1..MAX_NAMES),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), prop_oneof![0..1200u64, any::<u64>()]), 0..40),
        ) {
            let mut vector = IdVector::new(&entries);
            for (index, hash, position) in changes {
                let index = index.index(entries.len());
                vector.set(index, life(hash), position);
                entries[index] = Entry::At(life(hash), position);
                let anew = IdVector::new(&entries);
                prop_assert_eq!(id_of(&vector, index), id_of(&anew, index));
                prop_assert_eq!(&vector.ends, &anew.ends);
            }
        }

        #[test]
        fn nothing_a_client_sends_is_an_error_and_every_id_has_one_spelling(
            text in prop_oneof!["\\PC{0,60}", "[0-9a-z_~-]{0,60}", "[0-3]_([0-9a-z]{7}-[0-9]{1,3}~?){0,4}"], names in 1usize..5,
        ) {
            let sent = Sent::of(Some(&text));
            let lives: Vec<_> = (0..names as u64).map(|name| Some(life(name))).collect();
            prop_assert_eq!(sent.beginnings(&lives).len(), names);
            if let Sent::Entries(entries) = sent {
                let index = usize::from_str_radix(text.split('_').next().unwrap(), 36).unwrap();
                prop_assert_eq!(id_of(&IdVector::new(&entries), index), text);
            }
        }

        /// Whatever order the names come in, each finds its own place.
        #[test]
        fn an_entry_is_found_wherever_it_stands(positions in prop::collection::vec(any::<u64>(), 1..10), seed: u64) {
            let lives: Vec<_> = (0..positions.len() as u64).map(|name| life(name * 77 + 1)).collect();
            let entries: Vec<_> = lives.iter().zip(&positions).map(|(life, at)| Entry::At(*life, *at)).collect();
            let mut order: Vec<usize> = (0..lives.len()).collect();
            order.sort_by_key(|at| (*at as u64 + 1).wrapping_mul(seed | 1));
            let asked: Vec<_> = order.iter().map(|&at| Some(lives[at])).collect();
            let found = Sent::Entries(entries.clone()).beginnings(&asked);
            for (at, beginning) in order.iter().zip(found) {
                let entry = entries[*at];
                prop_assert_eq!(beginning, Beginning { place: Place::After(positions[*at]), entry });
            }
        }
    }

    /// Names `a`, `b`, … with the entries of an id: what is known, and where each begins.
    #[test]
    fn names_come_and_go_between_two_requests() {
        let at = |name: u64, position| Entry::At(life(name), position);
        let (a, b, c) = (Some(life(1)), Some(life(2)), Some(life(3)));
        let (new, lost) = (Place::New, Place::Lost);
        for (what, entries, lives, places) in [
            ("a name was added", vec![at(1, 5)], vec![a, b], vec![Place::After(5), new]),
            ("before the others", vec![at(1, 5)], vec![b, a], vec![new, Place::After(5)]),
            ("a name was left out", vec![at(1, 5), at(2, 6)], vec![b], vec![Place::After(6)]),
            ("a new life", vec![at(9, 5), at(2, 6)], vec![a, b], vec![lost, Place::After(6)]),
            ("a new life, and a name was added", vec![at(9, 5)], vec![a, b], vec![lost, lost]),
            ("one had not begun", vec![at(1, 5), Entry::New], vec![a, b], vec![Place::After(5), new]),
            (
                "one had not begun, another is lost",
                vec![at(9, 5), Entry::New, at(3, 1)],
                vec![a, b, c],
                vec![lost, new, Place::After(1)],
            ),
            (
                "all have begun, in another order",
                vec![at(2, 6), at(1, 5)],
                vec![a, b],
                vec![Place::After(5), Place::After(6)],
            ),
        ] {
            let found = Sent::Entries(entries).beginnings(&lives);
            assert_eq!(found.iter().map(|found| found.place).collect::<Vec<_>>(), places, "{what}");
        }
    }

    #[test]
    fn the_entry_of_a_name_that_nothing_is_known_of_is_kept() {
        let kept = Entry::At(life(1), 7);
        let found = Sent::Entries(vec![kept, Entry::At(life(2), 3)]).beginnings(&[None, Some(life(2))]);
        assert_eq!((found[0].entry, found[0].place), (kept, Place::Lost));
        assert_eq!(found[1].place, Place::After(3));
    }

    #[test]
    fn strange_ids_are_not_ours() {
        for text in [
            "",
            "_",
            "0",
            "0_",
            "1_aaaaaaa-1",
            "0_aaaaaa-1",
            "0_aaaaaaaa-1",
            "0_AAAAAAA-1",
            "0_aaaaaaa-01",
            "00_aaaaaaa-1",
            "0_aaaaaaa-1~",
            "0_aaaaaaa",
            "0_aaaaaaa-",
            "0_aaaaaaa--1",
            "0_aaaaaaa-99999999999999999999",
            "a-1",
        ] {
            assert!(!matches!(Sent::of(Some(text)), Sent::Entries(_)), "{text:?}");
        }
    }

    #[test]
    fn a_life_is_seven_digits_of_its_hash() {
        assert_eq!(life(0), Life::NONE);
        assert_eq!(life(35).0, *b"000000z");
        assert_eq!(life(LIVES + 36).0, *b"0000010");
        assert_eq!(life(LIVES - 1).0, *b"zzzzzzz");
    }
}
