//! The bytes of a segment: its head, and records one after another.
//!
//! Owns: how a record is written and read back. Must not know: files, streams, what becomes of a damaged record.
//! Invariants: a record is found only by two checksums: of its head, so that its length can be trusted, and of its body. Both
//! begin with the segment's salt, a random number, so that no event's text can look like a record. Records begin at
//! multiples of eight bytes; what was never written is zeros. A single wrong bit of a head is put right.
//! Changes together with: [`VERSION`], where older folders must still be read.

use crc32fast::Hasher;

/// What stands at the beginning of a segment.
const SEGMENT_MAGIC: [u8; 8] = *b"sse_fast";

/// The version of the format: 2 has keys.
pub(crate) const VERSION: u32 = 2;

/// The oldest version that is read.
const OLDEST: u32 = 1;

/// The bytes of a segment's head.
pub(crate) const SEGMENT_HEAD: usize = 56;

/// Where its checksum stands.
const SEGMENT_SUM: usize = 48;

/// The bytes of a record's head.
pub(crate) const HEAD: usize = 40;

/// Where the last byte of a head ends that is never zero: that of its kind.
pub(crate) const LAST_OF_HEAD: usize = 37;

/// What a record begins with: found again behind a damaged place.
const MAGIC: u32 = 0x5e55_fa57;

/// The longest body that a record may have: a length beyond it is a damaged one.
const MAX_BODY: usize = 1 << 30;

/// The next record belongs to this one: without it this one does not count.
pub(crate) const WITH_NEXT: u8 = 1;
/// The event ends its stream.
pub(crate) const END: u8 = 2;
/// The event has an id of the application's own.
pub(crate) const OWN_ID: u8 = 4;
/// The record was written before, and copied because its segment went.
pub(crate) const COPIED: u8 = 8;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The name, epoch and options of a stream: `Life` as JSON. The newest counts.
    Life,
    /// An event's block.
    Event,
    /// A snapshot: the length of its event's name, the name, the block.
    Snapshot,
    /// The stream was removed.
    Removed,
    /// What the records behind it were published under: a `KeptKey`.
    Key,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Life => 1,
            Self::Event => 2,
            Self::Snapshot => 3,
            Self::Removed => 4,
            Self::Key => 5,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Life, Self::Event, Self::Snapshot, Self::Removed, Self::Key].into_iter().find(|kind| kind.code() == code)
    }
}

/// Why a stream is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It was removed, or its time was over.
    Removed,
    /// Another life has what was left of it, its keys too.
    Renewed,
}

impl Gone {
    /// The body of its record.
    pub(super) fn word(self) -> &'static [u8] {
        match self {
            Self::Removed => b"removed",
            Self::Renewed => b"renewed",
        }
    }
}

/// A record's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// The stream's number in its folder.
    pub(crate) stream: u32,
    /// The event's position; of a key that of its last event; of any other record the newest of its stream when it was made.
    pub(crate) position: u64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub(crate) time: u64,
    /// The body's length.
    pub(crate) length: usize,
}

/// A segment's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    /// Its place among the segments.
    pub(crate) number: u64,
    /// What its checksums begin with.
    pub(crate) salt: u32,
    /// The greatest epoch that was given before.
    pub(crate) epoch: u64,
    /// How many bytes of the segment before it count; 0 where it is the first.
    pub(crate) previous: u64,
    /// How long its file is until another follows, so that a shorter one is found out; 0 where the file grows.
    pub(crate) size: u64,
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A record, whole.
    Record(Head, &'a [u8]),
    /// A record whose head can be read, and whose body is wrong.
    Damaged(Head, &'a [u8]),
    /// Nothing that can be read.
    Nothing,
}

/// The bytes of a record with a body of this length.
pub(crate) fn record_bytes(length: usize) -> usize {
    (HEAD + length).next_multiple_of(8)
}

impl SegmentHead {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        let sum = checksum(0, &[&out[start..]]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(start + SEGMENT_HEAD, 0);
    }

    /// The head of a segment; the version where it is another one.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Option<u32>> {
        let head = bytes.get(..SEGMENT_HEAD).ok_or(None)?;
        let is_right = |head: &[u8]| checksum(0, &[&head[..SEGMENT_SUM]]) == u32_at(head, SEGMENT_SUM);
        let repaired = repaired(head, is_right).ok_or(None)?;
        if repaired[..8] != SEGMENT_MAGIC {
            return Err(None);
        }
        match u32_at(&repaired, 8) {
            OLDEST..=VERSION => Ok(Self {
                salt: u32_at(&repaired, 12),
                number: u64_at(&repaired, 16),
                epoch: u64_at(&repaired, 24),
                previous: u64_at(&repaired, 32),
                size: u64_at(&repaired, 40),
            }),
            other => Err(Some(other)),
        }
    }
}

/// Appends a record.
pub(crate) fn write(out: &mut Vec<u8>, salt: u32, head: &Head, body: &[&[u8]]) {
    debug_assert_eq!(head.length, body.iter().map(|part| part.len()).sum::<usize>(), "the head says how long it is");
    let start = out.len();
    debug_assert_eq!(start % 8, 0, "records begin at multiples of eight");
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(head.length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&head.stream.to_le_bytes());
    out.extend_from_slice(&head.position.to_le_bytes());
    out.extend_from_slice(&head.time.to_le_bytes());
    out.extend_from_slice(&checksum(salt, body).to_le_bytes());
    out.extend_from_slice(&[head.kind.code(), head.flags, 0, 0]);
    let sum = checksum(salt, &[&out[start + 8..]]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    for part in body {
        out.extend_from_slice(part);
    }
    out.resize(start + record_bytes(head.length), 0);
}

/// What stands at `at`. A head that is wrong in one bit is read as it was, unless this is a `search` for the next one.
pub(crate) fn read(segment: &[u8], salt: u32, at: usize, search: bool) -> Found<'_> {
    let Some(bytes) = segment.get(at..at + HEAD) else { return Found::Nothing };
    let Some((head, sum)) = read_head(bytes, salt, search) else { return Found::Nothing };
    let rest = &segment[at + HEAD..];
    match rest.get(..head.length) {
        Some(body) if checksum(salt, &[body]) == sum => Found::Record(head, body),
        Some(body) => Found::Damaged(head, body),
        None => Found::Damaged(head, rest),
    }
}

/// A small body as it was before one of its bits turned; `None` where that does not explain it.
pub(crate) fn repaired_body(segment: &[u8], salt: u32, at: usize) -> Option<Vec<u8>> {
    let bytes = segment.get(at..at + HEAD)?;
    let (head, sum) = read_head(bytes, salt, false)?;
    let body = segment.get(at + HEAD..at + HEAD + head.length)?;
    repaired(body, |body| checksum(salt, &[body]) == sum)
}

/// Whether a body that is wrong was never written to its end: its last byte is none that a body ends with. What is written in
/// one call may be cut, by a kill or by the end of a file, at its end alone.
pub(crate) fn is_torn(head: &Head, body: &[u8]) -> bool {
    body.len() < head.length || body.last() == Some(&0)
}

fn read_head(bytes: &[u8], salt: u32, search: bool) -> Option<(Head, u32)> {
    if bytes.iter().all(|&byte| byte == 0) || (search && u32_at(bytes, 0) != MAGIC) {
        return None;
    }
    let is_right = |head: &[u8]| u32_at(head, 0) == MAGIC && checksum(salt, &[&head[8..]]) == u32_at(head, 4);
    let head = if search { is_right(bytes).then(|| bytes.to_vec()) } else { repaired(bytes, is_right) }?;
    let length = usize::try_from(u32_at(&head, 8)).ok().filter(|&length| length <= MAX_BODY)?;
    let (kind, flags) = (Kind::of(head[36])?, head[37]);
    let (stream, position, time) = (u32_at(&head, 12), u64_at(&head, 16), u64_at(&head, 24));
    Some((Head { kind, flags, stream, position, time, length }, u32_at(&head, 32)))
}

/// The bytes, or as they were before one of their bits turned.
fn repaired(bytes: &[u8], is_right: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    if is_right(&bytes) {
        return Some(bytes);
    }
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if is_right(&bytes) {
            return Some(bytes);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

fn checksum(salt: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SALT: u32 = 77;

    fn head(length: usize) -> Head {
        Head { kind: Kind::Event, flags: WITH_NEXT, stream: 3, position: 1 << 40, time: 5, length }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        write(&mut out, SALT, &head(7), &[b"data", b": x"]);
        assert_eq!(out.len(), record_bytes(7));
        assert_eq!(read(&out, SALT, 0, true), Found::Record(head(7), b"data: x"));
        assert_eq!(read(&out, SALT + 1, 0, true), Found::Nothing, "another segment's");
        let segment = SegmentHead { number: 9, salt: SALT, epoch: u64::MAX, previous: 3, size: 1 << 23 };
        let mut out = Vec::new();
        segment.write(&mut out);
        assert_eq!(SegmentHead::read(&out), Ok(segment));
    }

    #[test]
    fn any_turned_bit_is_found_and_one_of_a_head_is_put_right() {
        let mut out = Vec::new();
        write(&mut out, SALT, &head(7), &[b"data: x"]);
        for bit in 0..(HEAD + 7) * 8 {
            let mut turned = out.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            let found = read(&turned, SALT, 0, false);
            if bit < HEAD * 8 {
                assert_eq!(found, Found::Record(head(7), b"data: x"), "bit {bit}");
            } else {
                assert!(matches!(found, Found::Damaged(read, _) if read == head(7)), "bit {bit}");
                assert_eq!(repaired_body(&turned, SALT, 0).as_deref(), Some(&b"data: x"[..]));
            }
        }
    }

    #[test]
    fn a_head_of_a_segment_is_put_right_and_another_version_told() {
        let segment = SegmentHead { number: 9, salt: SALT, epoch: 4, previous: 0, size: 0 };
        let mut out = Vec::new();
        segment.write(&mut out);
        for bit in 0..(SEGMENT_SUM + 4) * 8 {
            let mut turned = out.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHead::read(&turned), Ok(segment), "bit {bit}");
        }
        assert_eq!(SegmentHead::read(&[0; SEGMENT_HEAD]), Err(None));
        let of_version = |version| {
            let mut other = out[..SEGMENT_SUM].to_vec();
            other[8] = version;
            let sum = checksum(0, &[&other]);
            other.extend_from_slice(&sum.to_le_bytes());
            other.resize(SEGMENT_HEAD, 0);
            SegmentHead::read(&other)
        };
        assert_eq!((of_version(1), of_version(3)), (Ok(segment), Err(Some(3))));
    }
}
