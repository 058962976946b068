//! Giving back what is no longer needed: the oldest segment goes, and what of it still counts is copied to the end.
//!
//! Owns: that order. Must not know: which records count (`journal`), threads. Invariants: the copies are on the disk before
//! the segment goes; the oldest goes first.

use std::fs;
use std::io;
use std::path::Path;

use super::error::StoreError;
use super::format::{self, Found, HEAD, Head, SEGMENT_HEAD, SegmentHead};
use super::segment::{Complete, path_of};

/// How many records are looked at while the log is held: publishers wait that long.
const AT_ONCE: usize = 64;

/// A segment that is to go.
pub(super) struct Going {
    bytes: Vec<u8>,
    number: u64,
    salt: u32,
    at: usize,
}

impl Going {
    /// Reads the segment.
    pub(super) fn read(folder: &Path, segment: &Complete) -> io::Result<Self> {
        let bytes = fs::read(path_of(folder, segment.number))?;
        // One that cannot be read has nothing that counts.
        let salt = SegmentHead::read(&bytes).map_or(0, |head| head.salt);
        Ok(Self { bytes, number: segment.number, salt, at: SEGMENT_HEAD })
    }

    /// Has the next records copied that are needed; whether there are more.
    pub(super) fn step(
        &mut self,
        mut copy: impl FnMut(&Head, (u64, u64), &[u8]) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        for _ in 0..AT_ONCE {
            if self.at + HEAD > self.bytes.len() {
                return Ok(false);
            }
            match format::read(&self.bytes, self.salt, self.at, false) {
                Found::Record(head, body) => {
                    copy(&head, (self.number, self.at as u64), body)?;
                    self.at += format::record_bytes(head.length);
                }
                Found::Damaged(head, _) => self.at += format::record_bytes(head.length),
                Found::Nothing => self.at += 8,
            }
        }
        Ok(true)
    }
}
