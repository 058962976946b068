//! Whose a folder is: one server's at a time; and how the one before it has ended.
//!
//! Owns: the lock, and the file that says whether the server was closed and since which start of the machine it ran. Must
//! not know: segments. Invariants: the lock is the kernel's, so that it is gone with the process, however that ends; the
//! process number in the file is for people. The folder's path may come to lead elsewhere: then nothing is made or removed there. A segment goes only once the file says that it may be gone. A forked child
//! closes its copies of the folder's descriptors (`_fork.py`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::OpenError;
use super::segment::open_file;

const LOCK: &str = "lock";
/// A process number, for people.
const MOST_HOLDER: u64 = 32;
const SESSION: &str = "session.json";
/// It has a few hundred bytes.
const MOST_SESSION: u64 = 1 << 16;
const NEW_SESSION: &str = "session.new";

/// The folder is this server's until this is dropped.
pub(super) struct Lock {
    file: File,
}

/// Which file a lock is: no other is that as long as it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    device: u64,
    inode: u64,
}

impl Inode {
    fn of(found: &fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }

    /// Whether the folder's path still leads to it: else whatever is there is not this server's.
    pub(super) fn is_at(self, folder: &Path) -> bool {
        match fs::metadata(folder.join(LOCK)) {
            Ok(found) => Self::of(&found) == self,
            // Where the system does not tell, nothing has changed as far as is known.
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}

/// How a server used the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    /// Since which start of the machine; empty where the system does not say.
    pub(super) boot: String,
    /// Whether what was published was on the disk.
    pub(super) disk: bool,
    /// The last segment and how many bytes of it count, where the server was closed.
    pub(super) closed: Option<(u64, u64)>,
    /// The oldest segment that may be there, and the one that the server began with: those between them are there. Zero
    /// where an older version did not say.
    pub(super) oldest: u64,
    pub(super) begun: u64,
}

/// What is known of how a folder was last used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It was not.
    Unused,
    Known(Session),
    /// What says so cannot be read.
    Unreadable,
}

/// What is made first.
pub(super) const BEFORE: [&str; 1] = [LOCK];

/// What is made once the folder is this server's.
pub(super) const OWN: [&str; 2] = [SESSION, NEW_SESSION];

/// What is said where nobody can tell how the folder was last used.
pub(super) const UNKNOWN: &str = "session.json is missing or cannot be read, so that the machine may have been stopped; \
     streams that had not ended begin a new life";

impl Lock {
    pub(super) fn take(folder: &Path, shown: &str) -> Result<Self, OpenError> {
        let path = folder.join(LOCK);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|error| OpenError::of(shown, "opening its lock", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // It is only shown.
                let _ = (&mut file).take(MOST_HOLDER).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid if pid == std::process::id().to_string() => "another server of this process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(OpenError::Locked { folder: shown.to_owned(), holder });
            }
            Err(error) => return Err(OpenError::of(shown, "locking it", error.into())),
        }
        // Likewise; a full disk is found out where it matters.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { file })
    }

    pub(super) fn inode(&self) -> io::Result<Inode> {
        self.file.metadata().map(|found| Inode::of(&found))
    }
}

impl Session {
    /// How the folder was last used; an error where a permission would tell.
    pub(super) fn read(folder: &Path) -> io::Result<Before> {
        let path = folder.join(SESSION);
        let file = match open_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                return Ok(Before::Unused);
            }
            opened => opened.ok().flatten(),
        };
        let mut text = String::new();
        let read = file.and_then(|file| file.take(MOST_SESSION).read_to_string(&mut text).ok());
        let session = read.and_then(|_| serde_json::from_str(&text).ok());
        Ok(session.map_or(Before::Unreadable, Before::Known))
    }

    /// Replaces it as a whole.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(NEW_SESSION);
        let mut file = File::create(&new)?;
        file.write_all(serde_json::to_string(self).unwrap_or_default().as_bytes())?;
        file.sync_all()?;
        fs::rename(new, folder.join(SESSION))?;
        super::segment::sync_folder(folder)
    }
}

/// What tells this start of the machine from others; empty where the system does not say.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
