//! The files of a store: segments, numbered in the order in which they were begun.
//!
//! Owns: their names, making one, and writing into it. Must not know: records. Invariants: a segment has its place on the disk
//! before anything is written into it, where the file system can do that, so that a full disk is found out between two
//! records; a file under a segment's name has its head.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags};

use super::error::is_full;
use super::format::{SEGMENT_HEAD, SegmentHead};

/// How large a segment is, unless one record is larger.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;

/// How large one is where there is no room for that.
const SMALLER: [u64; 2] = [1 << 20, 1 << 16];

/// What is written to find out whether there is room.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

const EXTENSION: &str = "segment";

/// Numbers of segments are below it: twelve digits.
const MOST: u64 = 1_000_000_000_000;

/// The segment that is written to.
pub(super) struct Active {
    pub(super) number: u64,
    pub(super) salt: u32,
    /// `None` once it is let go.
    pub(super) file: Option<Arc<File>>,
    /// Where the next record goes.
    pub(super) tail: u64,
    /// How much there is room for.
    pub(super) limit: u64,
}

/// A segment to be, with its place on the disk.
pub(super) struct Spare {
    file: File,
    path: PathBuf,
    limit: u64,
    /// Whether the file system has set the place aside.
    is_allocated: bool,
}

/// A segment that is complete.
#[derive(Clone, Debug)]
pub(super) struct Complete {
    pub(super) number: u64,
    pub(super) bytes: u64,
}

pub(crate) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(name_of(number))
}

pub(crate) fn name_of(number: u64) -> String {
    format!("{number:012}.{EXTENSION}")
}

/// What makes place for a file of this name: whatever is there goes aside, under a name that is free. Its new name.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let mut number = 1_u32;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(if number == 1 { ".damaged".to_owned() } else { format!(".damaged-{number}") });
        let aside = path.with_file_name(name);
        // Not what a link leads to, but whether there is one.
        if fs::symlink_metadata(&aside).is_err() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
        number += 1;
    }
}

/// The same where something is there that is no file, or a link that leads to none; says what.
pub(super) fn make_way(folder: &Path, name: &str) -> io::Result<Option<String>> {
    let path = folder.join(name);
    let is_in_the_way = match fs::metadata(&path) {
        Ok(found) => !found.is_file(),
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied && fs::symlink_metadata(&path).is_ok(),
    };
    if !is_in_the_way {
        return Ok(None);
    }
    put_aside(&path)?;
    Ok(Some(format!("{name} {NO_FILE}")))
}

/// Opens what is there to be read, where it is a file, without waiting for anybody.
pub(super) fn open_file(path: &Path) -> io::Result<Option<File>> {
    // A pipe nobody writes into holds up who opens it; some devices do something then.
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let without_wait = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(without_wait).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// What is said of something else under a file's name.
pub(super) const NO_FILE: &str = "is no file";

/// The names of segments to be.
pub(super) const TO_BE: [&str; 2] = ["next", "spare"];

/// The segments of a folder by their numbers, oldest first.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let number = stem.and_then(|stem| stem.parse::<u64>().ok());
            // Nobody else's file.
            numbers
                .extend(number.filter(|&number| number < MOST && path.file_name() == Some(name_of(number).as_ref())));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

impl Spare {
    /// Sets a place aside for a segment in which a batch of so many bytes has room, under a name of its own. On a disk that
    /// is almost full it is a smaller one.
    pub(super) fn make(folder: &Path, name: &str, batch: u64) -> io::Result<Self> {
        let needed = SEGMENT_HEAD as u64 + batch;
        let mut made = Self::of_size(folder, name, SEGMENT_BYTES.max(needed));
        for smaller in SMALLER {
            if made.as_ref().is_err_and(is_full) && needed <= smaller {
                made = Self::of_size(folder, name, smaller);
            }
        }
        made
    }

    fn of_size(folder: &Path, name: &str, limit: u64) -> io::Result<Self> {
        let path = folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let is_allocated = match allocate(&file, limit) {
            Ok(is_allocated) => is_allocated,
            Err(error) => {
                drop(file);
                // It holds nothing: a failure leaves an empty file for the next.
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        };
        Ok(Self { file, path, limit, is_allocated })
    }

    /// It is not needed: its place goes back to the disk.
    pub(super) fn discard(self) {
        // Where it fails the next one of that name replaces it.
        let _ = fs::remove_file(self.path);
    }

    pub(super) fn has_room(&self, batch: u64) -> bool {
        SEGMENT_HEAD as u64 + batch <= self.limit
    }

    /// Writes into it what a batch of so many bytes would, but zeros: a limit or a quota may refuse what was set aside, and
    /// some file systems set nothing aside.
    pub(super) fn try_room(&self, batch: u64) -> io::Result<()> {
        write_zeros(&self.file, 0, SEGMENT_HEAD as u64 + batch)
    }

    /// Makes it the segment of this number, behind one of which `previous` bytes count.
    pub(super) fn begin(self, folder: &Path, number: u64, epoch: u64, previous: u64) -> io::Result<Active> {
        let salt = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
        let size = if self.is_allocated { self.limit } else { 0 };
        let mut head = Vec::with_capacity(SEGMENT_HEAD);
        SegmentHead { number, salt, epoch, previous, size }.write(&mut head);
        self.file.write_all_at(&head, 0)?;
        fs::rename(self.path, path_of(folder, number))?;
        Ok(Active { number, salt, file: Some(Arc::new(self.file)), tail: SEGMENT_HEAD as u64, limit: self.limit })
    }
}

impl Active {
    pub(super) fn has_room(&self, batch: u64) -> bool {
        self.tail + batch <= self.limit
    }

    /// Writes zeros where a batch of so many bytes would go, which is what is there.
    pub(super) fn try_room(&self, batch: u64) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| write_zeros(file, self.tail, batch))
    }

    /// There is no room behind what was written: the next batch goes into another segment.
    pub(super) fn ends_here(&mut self) {
        self.limit = self.tail;
    }

    /// Nothing more is written into it: what it does not use goes back to the disk.
    pub(super) fn complete(self) -> Complete {
        if let Some(file) = &self.file {
            // Where it fails the file only stays longer than it needs to be.
            let _ = file.set_len(self.tail);
        }
        Complete { number: self.number, bytes: self.tail }
    }
}

/// Sets the place aside; says whether the file system can do that.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn allocate(file: &File, bytes: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn allocate(_file: &File, _bytes: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes all of it at this place, or as good as nothing: what was begun is made zeros again, which is what was there.
pub(super) fn write(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if file.write_all_at(&vec![0; done], at).is_err() {
                    // A start will find the file shorter than it was, and take it for damaged.
                    let _ = file.set_len(at);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Zeros at this place.
fn write_zeros(file: &File, mut at: u64, bytes: u64) -> io::Result<()> {
    let end = at + bytes;
    while at < end {
        let part = (end - at).min(ZEROS.len() as u64);
        write(file, at, &ZEROS[..usize::try_from(part).unwrap_or(ZEROS.len())])?;
        at += part;
    }
    Ok(())
}

/// Has the disk keep the names of the folder's files.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
