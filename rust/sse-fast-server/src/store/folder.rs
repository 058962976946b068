//! Reading a folder's segments: at a start, and for an export.
//!
//! Owns: which files are read, and in which order. Must not know: what their bytes mean (`recovery`). Invariant: reading
//! changes nothing but at a start, where the end of the last segment that does not count is cut off.

use std::fs::{self, OpenOptions};
use std::path::Path;

use sse_fast_core::id::{Epoch, IdText};
use sse_fast_core::wire;

use super::error::OpenError;
use super::format::VERSION;
use super::lock::Session;
use super::recovery::{Recovered, Recovery, Segment};
use super::segment::{Complete, list, path_of};

/// What was read.
pub(super) struct Read {
    pub(super) recovered: Recovered,
    /// The segments that are to be kept.
    pub(super) complete: Vec<Complete>,
}

/// Reads every segment; `closed` is the last one's number and length where the server was closed.
fn read_all(folder: &Path, shown: &str, closed: Option<(u64, u64)>) -> Result<Read, OpenError> {
    let io_error = |error| OpenError::of(shown, "reading it", error);
    let numbers = list(folder).map_err(io_error)?;
    let (mut recovery, mut complete) = (Recovery::default(), Vec::with_capacity(numbers.len()));
    for (place, &number) in numbers.iter().enumerate() {
        let path = path_of(folder, number);
        let bytes = fs::read(&path).map_err(io_error)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let expected = closed.filter(|(closed, _)| *closed == number).map(|(_, bytes)| bytes);
        let segment = Segment { name: &name, bytes: &bytes, is_last: place + 1 == numbers.len(), expected };
        let used = recovery.read(segment).map_err(|version| OpenError::Version {
            folder: shown.to_owned(),
            version,
            known: VERSION,
        })?;
        complete.push(Complete { number, bytes: used as u64 });
    }
    Ok(Read { recovered: recovery.finish(), complete })
}

/// Reads the folder for a server that goes on with it.
pub(super) fn recover(folder: &Path, shown: &str, closed: Option<(u64, u64)>) -> Result<Read, OpenError> {
    let mut read = read_all(folder, shown, closed)?;
    let io_error = |error| OpenError::of(shown, "cutting off what was not written whole", error);
    if let Some(last) = read.complete.last() {
        let path = path_of(folder, last.number);
        if last.bytes == 0 {
            // It was just begun, or it cannot be read at all: its number is taken again.
            fs::rename(&path, path.with_extension("damaged")).map_err(io_error)?;
            read.complete.pop();
        } else {
            let file = OpenOptions::new().write(true).open(path).map_err(io_error)?;
            file.set_len(last.bytes).and_then(|()| file.sync_all()).map_err(io_error)?;
        }
    }
    Ok(read)
}

/// A stream of a folder, for people and programs.
#[derive(Debug)]
pub struct Export {
    /// The stream's name.
    pub name: String,
    /// As its ids write it.
    pub epoch: String,
    /// Whether it has its terminal event.
    pub ended: bool,
    /// Only the application's own routes lead to it.
    pub private: bool,
    /// How many events before the first are no longer there.
    pub forgotten: u64,
    /// Its snapshot, where it has one.
    pub snapshot: Option<(String, wire::Decoded)>,
    /// Its events, each with its id.
    pub events: Vec<(String, wire::Decoded)>,
}

/// Reads a folder, which a server may be using, and what is damaged in it.
pub fn read(folder: &Path) -> Result<(Vec<Export>, Vec<String>), OpenError> {
    let shown = folder.display().to_string();
    let closed = Session::read(folder).and_then(|session| session.closed);
    let Read { recovered, .. } = read_all(folder, &shown, closed)?;
    let mut streams: Vec<_> = recovered
        .streams
        .into_iter()
        .map(|stream| {
            let (epoch, options) = (Epoch(stream.life.epoch), stream.life.options.patch());
            let id = |position| IdText::new(epoch, position).as_str().to_owned();
            let events = (stream.first..).zip(&stream.events).map(|(position, event)| {
                let decoded = wire::decode(event.frame.plain());
                (decoded.id.clone().unwrap_or_else(|| id(position)), decoded)
            });
            Export {
                ended: stream.ended,
                private: options.private.unwrap_or(false),
                forgotten: stream.first - 1,
                snapshot: stream
                    .snapshot
                    .as_ref()
                    .map(|snapshot| (id(snapshot.position), wire::decode(snapshot.frame.plain()))),
                events: events.collect(),
                epoch: IdText::new(epoch, 0).as_str().trim_end_matches("-0").to_owned(),
                name: stream.life.name,
            }
        })
        .collect();
    streams.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((streams, recovered.damage))
}
