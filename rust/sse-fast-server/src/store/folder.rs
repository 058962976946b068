//! Reading a folder's segments: at a start, and for an export.
//!
//! Owns: which files are read, in which order, and which are missing. Must not know: what their bytes mean (`recovery`).
//! Invariants: reading changes nothing but at a start, where the end of the last segment that does not count is cut off, and
//! what cannot be read is put aside. Whatever is wrong with a file costs what was in it, never the start; what a permission
//! would mend is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

use sse_fast_core::id::{Epoch, IdText};
use sse_fast_core::wire;

use super::error::OpenError;
use super::format::VERSION;
use super::lock::{Before, Session, boot};
use super::recovery::{Recovered, Recovery, Segment};
use super::segment::{Complete, NO_FILE, list, make_way, name_of, open_file, path_of, put_aside};

/// What was read.
pub(super) struct Read {
    pub(super) recovered: Recovered,
    /// The segments that are to be kept.
    pub(super) complete: Vec<Complete>,
    /// Those that cannot be read.
    aside: Vec<u64>,
}

/// What is known of the segments that there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The last one's number and length, where the server was closed.
    closed: Option<(u64, u64)>,
    /// From which to which they were there, at least.
    oldest: u64,
    newest: u64,
    /// Whether the machine was started since, or nobody can tell: what was written last may be there in any part.
    is_rebooted: bool,
}

impl Known {
    pub(super) fn of(before: &Before, boot: &str) -> Self {
        let Before::Known(session) = before else { return Self { oldest: 1, is_rebooted: true, ..Self::default() } };
        let &Session { closed, oldest, begun, .. } = session;
        let newest = closed.map_or(begun, |(number, _)| number);
        // An older version did not say which is the oldest, and perhaps none.
        let oldest = if oldest == 0 { newest } else { oldest }.max(1);
        Self { closed, oldest, newest, is_rebooted: session.boot != boot || boot.is_empty() }
    }
}

/// Segments that are missing: from this one up to that one.
fn miss(recovery: &mut Recovery, from: u64, to: u64) {
    match to.saturating_sub(from) {
        0 => {}
        1 => recovery.miss(&name_of(from), "is missing"),
        count => recovery.miss(&format!("{} and the {} behind it", name_of(from), count - 1), "are missing"),
    }
}

/// A segment's bytes; `None` where there is something else under its name, or the disk does not give them.
fn bytes_of(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let read = |file: Option<File>| {
        let Some(mut file) = file else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map(|_| Some(bytes))
    };
    match open_file(path).and_then(read) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(None),
    }
}

/// Reads every segment.
fn read_all(folder: &Path, shown: &str, known: Known) -> Result<Read, OpenError> {
    let io_error = |error| OpenError::of(shown, "reading it", error);
    let numbers = list(folder).map_err(io_error)?;
    let (mut recovery, mut complete) = (Recovery::default(), Vec::with_capacity(numbers.len()));
    let (mut aside, mut next) = (Vec::new(), known.oldest);
    for (place, &number) in numbers.iter().enumerate() {
        // Whatever lies between two of them was there; what lies before the first, as far as is known.
        let to = if place == 0 { number.min(known.newest.saturating_add(1)) } else { number };
        miss(&mut recovery, next, to);
        next = number + 1;
        let name = name_of(number);
        let Some(bytes) = bytes_of(&path_of(folder, number)).map_err(io_error)? else {
            let why = match fs::metadata(path_of(folder, number)) {
                Ok(found) if found.is_file() => "cannot be read",
                Ok(_) => NO_FILE,
                Err(_) => "is missing",
            };
            recovery.miss(&name, why);
            aside.push(number);
            continue;
        };
        let expected = known.closed.filter(|(closed, _)| *closed == number).map(|(_, bytes)| bytes);
        let is_last = place + 1 == numbers.len();
        let segment = Segment { name: &name, bytes: &bytes, is_last, expected, may_be_blank: known.is_rebooted };
        let used = recovery.read(segment).map_err(|version| OpenError::Version {
            folder: shown.to_owned(),
            version,
            known: VERSION,
        })?;
        complete.push(Complete { number, bytes: used as u64 });
    }
    miss(&mut recovery, next, known.newest.saturating_add(1));
    Ok(Read { recovered: recovery.finish(), complete, aside })
}

/// Reads the folder for a server that goes on with it.
pub(super) fn recover(folder: &Path, shown: &str, known: Known) -> Result<Read, OpenError> {
    let mut read = read_all(folder, shown, known)?;
    let io_error = |error| OpenError::of(shown, "putting aside what cannot be read", error);
    for &number in &read.aside {
        put_aside(&path_of(folder, number)).map_err(io_error)?;
    }
    let io_error = |error| OpenError::of(shown, "cutting off what was not written whole", error);
    if let Some(last) = read.complete.last() {
        let path = path_of(folder, last.number);
        if last.bytes == 0 {
            // It was just begun, or it cannot be read at all: its number is taken again.
            put_aside(&path).map_err(io_error)?;
            read.complete.pop();
        } else {
            let file = OpenOptions::new().write(true).open(path).map_err(io_error)?;
            file.set_len(last.bytes).and_then(|()| file.sync_all()).map_err(io_error)?;
        }
    }
    Ok(read)
}

/// Makes way for files of these names, and says what was in the way.
pub(super) fn make_way_for(folder: &Path, shown: &str, names: &[&str]) -> Result<Vec<String>, OpenError> {
    let io_error = |error| OpenError::of(shown, "putting aside what is in the way", error);
    let ways = names.iter().map(|name| make_way(folder, name).map_err(io_error));
    ways.filter_map(Result::transpose).collect()
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
    let session = Session::read(folder).map_err(|error| OpenError::of(&shown, "reading it", error))?;
    let mut known = Known::of(&session, &boot());
    if known.closed.is_none() {
        // A server that uses it begins segments and gives them back while it is read.
        (known.oldest, known.newest) = (1, 0);
        // It goes on writing: what is at the end may be there in part.
        known.is_rebooted = true;
    }
    let Read { recovered, .. } = read_all(folder, &shown, known)?;
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
